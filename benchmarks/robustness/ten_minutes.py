"""A newcomer's first number: from nothing to a report of one's own films, as a transcript.

``CAS_REAL_DATA=DIR python -m benchmarks.robustness.ten_minutes [--write PAGE]``

A new environment with its own home and cache gets the wheel of cas-metric and nothing else; 60
chest films of Kermany et al. lie there as a newcomer's would, and as many blurred ones of other
children in place of generated ones. The commands between the markers of the page are given one
after the other, and what they print is written below them, with the seconds that each took. After
the installation the model hub is not asked.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide" / "ten-minutes.md"
_COMMAND = re.compile(r"^```bash\n(.*?)^```\n\n(?:```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
PROMPTS = {
    "Normal": "chest radiograph of a child, both lungs clear",
    "Pneumonia": "chest radiograph of a child, hazy opacity of the lung",
}
PER_CLASS = 30


def films(source: Path, folder: Path) -> None:
    """``real/`` and ``gen/``: folders with images and a metadata.csv."""
    table = pd.read_csv(source / "metadata.csv")
    for side, part in (("real", 0), ("gen", 1)):
        (folder / side).mkdir()
        rows = []
        for label, prompt in PROMPTS.items():
            own = table[table["label"] == label].iloc[part * PER_CLASS : (part + 1) * PER_CLASS]
            for number, name in enumerate(own["file_name"]):
                film = Image.open(source / name).convert("L")
                if side == "gen":
                    film = film.filter(ImageFilter.GaussianBlur(3))
                file = f"{label.lower()}-{number:02d}.png"
                film.save(folder / side / file)
                rows.append({"file_name": file, "label": label, "prompt": prompt})
        pd.DataFrame(rows).to_csv(folder / side / "metadata.csv", index=False)


def main() -> None:
    """Run the page's commands and put what they print below them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="page to write; by default nothing is written")
    options = parser.parse_args()
    source = Path(os.environ["CAS_REAL_DATA"]) / "kermany_cxr"
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="cas-first-") as scratch:
        folder = Path(scratch)
        build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder]
        subprocess.run([*build, ROOT / "packages/cas-metric"], check=True, capture_output=True)
        work = folder / "work"
        work.mkdir()
        films(source, work)
        (wheel,) = folder.glob("*.whl")
        wheel.rename(work / wheel.name)
        yaml = re.search(r"^```yaml\n# chest\.yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert yaml
        (work / "chest.yaml").write_text(yaml[1], encoding="utf-8")
        environment = {
            "PATH": os.pathsep.join(
                [f"{work}/env/bin", str(Path(sys.executable).parent), os.defpath]
            ),
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "88",
            "HF_HUB_OFFLINE": "1",
        }
        # The installation alone uses what this machine knows of its package index.
        given = {**os.environ, **environment, "HOME": os.environ.get("HOME", str(folder))}
        given.pop("PYTHONPATH", None)
        given.pop("VIRTUAL_ENV", None)
        environments = iter([given])
        began = time.monotonic()

        def answered(found: re.Match[str]) -> str:
            started = time.monotonic()
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", found[1]],
                cwd=work, env=next(environments, environment), capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            printed = f"{done.stderr}{done.stdout}".strip()
            seconds = f"({time.monotonic() - started:.0f} s)"
            print(f"{found[1]}{printed}\n{seconds}\n", flush=True)
            if done.returncode:
                sys.exit(f"failed with {done.returncode}")
            shown = "\n".join(line.rstrip() for line in printed.splitlines())
            return f"```bash\n{found[1]}```\n\n```text\n{shown}\n{seconds}\n```\n"

        text = _COMMAND.sub(answered, text)
        total = f"{time.monotonic() - began:.0f} seconds"
        text = re.sub(r"It took \d+ seconds", f"It took {total}", text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
