"""The page on clusters without a network, as it stands.

``python -m benchmarks.robustness.offline``

Runs the blocks of ``docs/guide/offline.md`` in an empty folder, the embedded encoder standing in
for downloaded weights, and from step 3 on in a network namespace that has no network. Prints the
time of each step, and whether both sides of the crossing print one fingerprint. Downloads some
gigabytes of packages; needs Linux, uv and pip.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.docs.blocks import ROOT, blocks_of

from cas_metric.encoders.registry import resolve
from cas_metric.verbs.demo import draw_world

PAGE = ROOT / "docs" / "guide" / "offline.md"


def run(script: str, folder: Path, *before: str) -> str:
    """Run a block; what it printed. Ends the benchmark where it fails."""
    started = time.monotonic()
    places = [str(Path(sys.executable).parent), os.environ["PATH"]]
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*before, "bash", "-euo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**ours, "PATH": os.pathsep.join(places), "CAS_CACHE": str(folder / "own")},
    )  # fmt: skip
    print(f"{time.monotonic() - started:6.0f} s  {script.strip().splitlines()[0]}", flush=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return done.stdout + done.stderr


def main() -> None:
    """Both sides of the crossing."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        shutil.copytree(ROOT / "packages" / "cas-metric", folder / "packages" / "cas-metric")
        shutil.copy(ROOT / "constraints.txt", folder)
        draw_world(folder, "chexpert", 8, 0)
        (folder / "generated").rename(folder / "gen")
        printed, alone = [], ("unshare", "--map-root-user", "--net")
        crossed = False
        for block in blocks_of(PAGE):
            if "hf download" in block.text:
                weights = resolve("phantom-siglip").directory
                assert weights is not None
                shutil.copytree(weights, folder / "carry" / "siglip")
                continue
            crossed = crossed or "sha256sum --quiet -c" in block.text
            text = block.text.replace("score gen real ", "score gen real/test ")
            printed.append(run(text, folder, *(alone if crossed else ())))
        found = re.findall(r"fingerprint +(\w{64})", "".join(printed))
        files = sum(1 for _ in (folder / "carry" / "wheels").iterdir())
        same = len(found) == 2 and len(set(found)) == 1
        print(f"{files} packages; fingerprints before and after: {'equal' if same else found}")
        print(printed[-1])


if __name__ == "__main__":
    main()
