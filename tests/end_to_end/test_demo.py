"""The embedded world: the shipped encoders know it, and the score sees what was planted."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cas_metric.cli.main import app
from cas_metric.domains import load_domain
from cas_metric.encoders import load_encoder
from cas_metric.phantoms import DOMAINS, make_phantom

WEIGHTS = Path(str(files("cas_metric"))) / "phantoms" / "weights"
SHIPPED = ("phantom-siglip", "phantom-medsiglip", "phantom-metaclip", "phantom-dino")

#: Zero-shot accuracy on 120 phantoms; the cards state what was measured on 1,000.
FLOOR = {
    "phantom-chexpert": 0.80,
    "phantom-fitzpatrick17k": 0.85,
    "phantom-breakhis": 0.85,
    "phantom-origa": 0.88,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_encoders_are_small_safetensors_with_a_card(name: str) -> None:
    folder = WEIGHTS / name
    kinds = {path.suffix for path in folder.iterdir()}
    assert kinds <= {".json", ".safetensors", ".md"}
    assert "never seen a medical image" in (folder / "README.md").read_text()
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*")) < 25e6


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_evaluator_recognises_unseen_phantoms(domain: str) -> None:
    encoder = load_encoder("phantom-siglip", device="cpu")
    pack = load_domain(domain)
    labels = np.arange(120) % len(pack.class_names)
    phantoms = [
        make_phantom(domain, pack.class_names[label], seed=10**7 + number)
        for number, label in enumerate(labels)
    ]
    with torch.inference_mode():
        images = encoder.embed_pixels(encoder.official_preprocess([p.image for p in phantoms]))
    texts = encoder.embed_texts([pack.checklist_text(name) for name in pack.class_names])
    found = (images @ texts.embeddings.T).argmax(dim=1).numpy()
    assert (found == labels).mean() >= FLOOR[domain]


def test_demo_orders_the_sets_and_finds_the_wrong_images(tmp_path: Path) -> None:
    command = ["demo", "--out", str(tmp_path / "demo"), "--images", "160", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    verdict = json.loads(done.stdout)
    assert verdict["ordered"]
    assert verdict["auroc"] >= 0.95
    report = Path(verdict["report"]).read_text(encoding="utf-8")
    assert "not medical data" in report.split("<main")[0]
