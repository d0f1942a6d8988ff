"""What a newcomer meets: both wheels in an environment of their own, and the pages word for word.

``python -m benchmarks.robustness.clean_environment [--keep FOLDER]``

Builds both wheels, installs nothing but them (and what they ask for) into a new environment, and
runs there, in an empty folder, far from the repository and without a network: the demo; every
block of the pages ``docs/guide/first-score.md`` and ``docs/tutorial-own-domain.md`` that is not
marked as one that needs more; a short training; and the snippet that the trained model's card
shows. Prints a line a step and, of what fails, what it said. The environment has its own home and
cache, so nothing of this machine helps.
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

ROOT = Path(__file__).parents[2]
PAGES = ("docs/guide/first-score.md", "docs/tutorial-own-domain.md")
PACKAGES = ("cas-metric", "craft-trainer")
_FENCE = re.compile(
    r"^(?P<reason><!-- not run: [^\n]* -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a script in a folder; what it printed. Ends the benchmark where it fails."""
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    first = next(line for line in script.strip().splitlines() if line)
    seconds = time.monotonic() - started
    print(f"{'ok' if done.returncode == 0 else 'FAILED'}  {seconds:5.0f} s  {first}", flush=True)
    if done.returncode:
        sys.exit(f"{script}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def page(name: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the blocks of a page in order; a YAML block is the file that its first line names.

    One in a folder that is not there shows what the reader's own folder would hold.
    """
    for block in _FENCE.finditer((ROOT / name).read_text(encoding="utf-8")):
        named = re.match(r"# (\S+\.yaml)\n", block["text"])
        if block["reason"]:
            continue
        if block["language"] == "bash":
            run(block["text"], folder, environment)
        elif block["language"] == "yaml" and named and (folder / named[1]).parent.is_dir():
            (folder / named[1]).write_text(block["text"], encoding="utf-8")


def install(folder: Path) -> Path:
    """A new environment with the two wheels; its programs."""
    wheels = folder / "wheels"
    for package in PACKAGES:
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", wheels,
             ROOT / "packages" / package],
            check=True, capture_output=True,
        )  # fmt: skip
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", home / "bin/python",
         *wheels.glob("*.whl")],
        check=True,
    )  # fmt: skip
    return home / "bin"


def main() -> None:
    """Install, and follow the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder to work in, which is left as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cas-newcomer-") as scratch:
        folder = options.keep.resolve() if options.keep else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        programs = install(folder)
        work = folder / "work"
        work.mkdir()
        environment = {
            "PATH": f"{programs}{os.pathsep}{os.defpath}",
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        print(run("cas demo", work, environment))
        for name in PAGES:
            print(f"\n{name}")
            (apart := work / Path(name).stem).mkdir()
            page(name, apart, environment)
        print("\ntraining, and the snippet of the model card")
        run("craft-trainer demo --inversion 4 --lora 6 --craft 2", work, environment)
        card = next((work / "craft-demo").rglob("README.md"))
        snippet = re.search(r"^```python\n(.*?)^```$", card.read_text(), re.MULTILINE | re.DOTALL)
        (work / "snippet.py").write_text(snippet[1], encoding="utf-8")
        run("python snippet.py", work, environment)


if __name__ == "__main__":
    main()
