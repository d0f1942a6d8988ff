"""``cas fidelity`` and ``cas diversity`` from image files on."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.support.tiny_models import build_dinov2
from torchvision.models import alexnet
from typer.testing import CliRunner

from cas_metric.cli import diversity, fidelity
from cas_metric.errors import InputError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return build_dinov2(tmp_path_factory.mktemp("dino") / "tiny-dino")


def image_folder(folder, *, shade, n=8, samples=1, seed=0):
    """``n`` prompts of two classes with ``samples`` noisy images each."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    lines = ["file_name,label,prompt,method,seed"]
    for k in range(n):
        for sample in range(samples):
            name = f"{k}_{sample}.png"
            noise = rng.normal(shade, 40, (64, 64, 3)).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / name)
            lines.append(f"{name},{'ab'[k % 2]},prompt {k},gan,{sample}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(app, *arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_fidelity_with_classes_and_floor(tmp_path, encoder):
    near = image_folder(tmp_path / "near", shade=120, n=24, seed=1)
    far = image_folder(tmp_path / "far", shade=30, n=24, seed=2)
    real = image_folder(tmp_path / "real", shade=120, n=24, seed=3)
    options = ("--encoder", encoder, "--cache", tmp_path / "cache", "--json", "--neighbours", 3)
    found = [
        json.loads(run(fidelity.app, generated, real, *options).stdout) for generated in (near, far)
    ]
    assert found[1]["all"]["frechet_distance"] > 2 * found[0]["all"]["frechet_distance"]
    assert found[1]["all"]["precision"] < found[0]["all"]["precision"]
    assert set(found[0]["by_class"]) == {"a", "b"}
    assert found[0]["floor"]["recall"] >= 0
    assert "singular" in found[0]["warnings"][0]


def test_fidelity_leaves_an_unreadable_image_out_and_says_so(tmp_path, encoder):
    generated = image_folder(tmp_path / "gen", shade=100, n=20)
    real = image_folder(tmp_path / "real", shade=100, n=20, seed=1)
    (generated / "3_0.png").write_bytes(b"not an image")
    result = run(
        *(fidelity.app, generated, real, "--encoder", encoder),
        *("--cache", tmp_path / "cache", "--out", tmp_path / "out"),
    )
    assert result.exit_code == 3
    assert "1 image could not be read and was left out: " in result.stdout
    assert "3_0.png: the content is no readable image" in result.stdout
    assert result.stdout.count("3_0.png") == 1
    written = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    assert written["n_generated"] == 19
    assert next(iter(written["failures"])).endswith("3_0.png")


def test_diversity_by_prompt_and_by_class(tmp_path, encoder):
    torch.manual_seed(0)
    state = {k: v for k, v in alexnet(weights=None).state_dict().items() if "features" in k}
    save_file(state, tmp_path / "alexnet.safetensors")
    generated = image_folder(tmp_path / "gen", shade=100, n=4, samples=3)
    real = image_folder(tmp_path / "real", shade=100, n=10, seed=1)
    result = run(
        *(diversity.app, generated, "--real", real, "--encoder", encoder),
        *("--backbone", tmp_path / "alexnet.safetensors"),
        *("--cache", tmp_path / "cache", "--out", tmp_path / "out", "--json"),
    )
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["lpips"]["gan"]["n_prompts"] == 4
    assert found["lpips"]["gan"]["mean"]["estimate"] > 0
    entry = found["embeddings"]["gan"]["a"]
    assert entry["n"] == 6
    assert 1 <= entry["vendi_matched"] <= 5
    assert "LPIPS ↑" in (tmp_path / "out" / "diversity.md").read_text()


def test_samples_of_several_sizes_are_named(tmp_path):
    torch.manual_seed(0)
    state = {k: v for k, v in alexnet(weights=None).state_dict().items() if "features" in k}
    save_file(state, tmp_path / "alexnet.safetensors")
    generated = image_folder(tmp_path / "gen", shade=100, n=2, samples=2)
    Image.new("RGB", (48, 64)).save(generated / "1_1.png")
    words = ("--no-embeddings", "--backbone", tmp_path / "alexnet.safetensors")
    with pytest.raises(InputError, match=r"'prompt 1' of gan.*1_0\.png has 64 × 64.*1_1\.png 48"):
        run(diversity.app, generated, *words)


def test_one_image_has_no_ratio_of_vendi_scores(tmp_path, encoder):
    generated = image_folder(tmp_path / "gen", shade=100, n=3)  # two of a, one of b
    real = image_folder(tmp_path / "real", shade=100, n=10, seed=1)
    words = ("--no-lpips", "--encoder", encoder, "--cache", tmp_path / "cache")
    printed = run(diversity.app, generated, "--real", real, *words).stdout
    (one,) = [line for line in printed.split("\n") if line.startswith("| gan | b |")]
    (two,) = [line for line in printed.split("\n") if line.startswith("| gan | a |")]
    assert one.rstrip(" |").endswith("–")
    assert not two.rstrip(" |").endswith("–")


def test_images_of_no_named_method_are_called_after_their_folder(tmp_path, encoder):
    generated = image_folder(tmp_path / "gen", shade=100, n=4)
    table = pd.read_csv(generated / "metadata.csv").drop(columns="method")
    table.to_csv(generated / "metadata.csv", index=False)
    words = ("--no-lpips", "--encoder", encoder, "--cache", tmp_path / "cache", "--json")
    assert list(json.loads(run(diversity.app, generated, *words).stdout)["embeddings"]) == ["gen"]


def test_diversity_needs_two_samples_of_a_prompt(tmp_path):
    generated = image_folder(tmp_path / "gen", shade=100, n=4)
    with pytest.raises(InputError, match="no prompt has two samples"):
        run(diversity.app, generated, "--no-embeddings")
