"""Training images and a model's answers about them, for tests of ``craft-trainer enrich``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from typer.testing import CliRunner, Result

from cas_metric.manifest import FolderConfig, write_folder_config, write_manifest
from craft_trainer.cli.enrich import app
from tests.support.mllm_server import Call, MllmServer, Say, Scripted

KEY = "sk-secret-0123456789"
LABELS = ("No Finding", "Cardiomegaly", "Pneumonia", "Pleural Effusion")
#: An answer to each label that the pack accepts.
GOOD: dict[str, dict[str, Any]] = {
    "No Finding": {
        "devices": ["none"],
        "key_findings": ["clear lungs", "sharp costophrenic angles"],
        "visual_summary": "dark lung fields beside a narrow heart",
    },
    "Cardiomegaly": {
        "devices": "pacemaker",
        "key_findings": "enlarged heart, globular heart",
        "visual_summary": "wide white heart shadow",
    },
    "Pneumonia": {
        "devices": ["none"],
        "key_findings": ["focal opacity"],
        "visual_summary": "white patch in the right lung",
    },
    "Pleural Effusion": {
        "devices": ["none"],
        "key_findings": ["meniscus sign"],
        "visual_summary": "white base that hides the diaphragm",
    },
}


def label_of(call: Call) -> str:
    """The label that the system prompt states."""
    return next(label for label in LABELS if f'"{label}"' in call.system)


def describe(call: Call) -> Say:
    return Say(GOOD[label_of(call)])


def make_train(folder: Path, count: int, domain: str = "chexpert") -> Path:
    """``count`` images of the four classes in turn, each with a grey level of its own."""
    folder.mkdir()
    rows = []
    for number in range(count):
        Image.fromarray(np.full((16, 20), number, np.uint8)).save(folder / f"{number:02}.png")
        rows.append(
            {
                "id": f"p{number:02}",
                "image": f"{number:02}.png",
                "label": LABELS[number % 4].lower(),
                "patient": f"patient{number}",
            }
        )
    write_manifest(pd.DataFrame(rows), folder)
    write_folder_config(folder, FolderConfig(domain=domain, split="train"))
    return folder


def enrich(train: Path | str, out: Path, *words: str, code: int = 0) -> Result:
    command = [str(train), "--mllm", "openai:m", "--out", str(out), "--cache", str(out / ".cache")]
    result = CliRunner().invoke(app, [*command, "--json", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def by_image(server: MllmServer, actions: dict[int, list[Scripted]]) -> None:
    """Let the server answer by the grey level of the image, one action a call."""

    def answer(call: Call) -> Any:
        left = actions.get(grey_level(call))
        if left is None:
            return describe(call)
        action = left.pop(0) if len(left) > 1 else left[0]
        return action(call) if callable(action) else action

    server.script("Describe this image.", answer)


def grey_level(call: Call) -> int:
    with Image.open(io.BytesIO(call.images[0])) as image:
        pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def rejected(out: Path) -> dict[str, dict[str, str]]:
    with (out / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}
