"""Float32 is float32 whatever the caller has switched on, and the caller's switches stand after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cas_metric.encoders import load_encoder
from cas_metric.encoders.precision import own_precision

SETTINGS = {
    "nothing": "pass",
    "oldest": "torch.backends.cuda.matmul.allow_tf32 = True",
    "older, high": "torch.set_float32_matmul_precision('high')",
    "older, medium": "torch.set_float32_matmul_precision('medium')",
    "newer, at the root": "torch.backends.fp32_precision = 'tf32'",
    "newer, of one library": "torch.backends.cudnn.fp32_precision = 'tf32'",
    "newer, of one operation": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "newer, on the CPU": "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "newer, one by one": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "mixed": (
        "torch.set_float32_matmul_precision('high'); "
        "torch.backends.cuda.matmul.fp32_precision = 'ieee'; "
        "torch.backends.cudnn.rnn.fp32_precision = 'ieee'"
    ),
}

#: Switches are global, so that each setting, an argument, has a process of its own, forked once
#: torch is there; prints what went wrong in each.
CODE = """
import json, os, sys, traceback, torch
from cas_metric.encoders.precision import own_precision
LEAVES = [(b, op) for b in ("cuda", "mkldnn") for op in ("matmul", "conv", "rnn")]
def read(function):
    try:
        return function()
    except RuntimeError:
        return "refused"
def switches():
    names = [("generic", "all"), ("cuda", "all"), ("mkldnn", "all"), *LEAVES]
    return [torch._C._get_fp32_precision_getter(*name) for name in names] + [
        read(torch.get_float32_matmul_precision),
        read(lambda: torch.backends.cuda.matmul.allow_tf32),
        read(lambda: torch.backends.cudnn.allow_tf32),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.is_autocast_enabled("cpu"),
    ]
def check(setting):
    exec(setting)
    before = switches()
    with own_precision("cpu", torch.float32):
        inside = [torch._C._get_fp32_precision_getter(*name) for name in LEAVES]
    assert switches() == before, (before, switches())
    assert inside == ["ieee"] * 6, inside
    torch.backends.fp32_precision = "none"  # what inherits still inherits
    if "fp32_precision" in setting and "backends.fp32" in setting:
        assert torch._C._get_fp32_precision_getter("mkldnn", "conv") == "none"
def told(setting):
    reading, writing = os.pipe()
    if not os.fork():
        try:
            check(setting)
            what = "as before"
        except BaseException:
            what = traceback.format_exc()
        os.write(writing, what.encode())
        os._exit(0)
    os.close(writing)
    os.wait()
    with open(reading) as pipe:
        return pipe.read()
print(json.dumps([told(setting) for setting in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        pytest.skip("this torch has none of the newer switches")
    command = [sys.executable, "-W", "ignore", "-c", CODE, *SETTINGS.values()]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(zip(SETTINGS, json.loads(told), strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_switch_is_exact_inside_and_as_before_after(
    setting: str, outcomes: dict[str, str]
) -> None:
    assert outcomes[setting] == "as before"


@pytest.fixture
def restored() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def _embed(encoder: Any) -> list[torch.Tensor]:
    images = torch.rand(8, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    found = [encoder.embed_images(images), encoder.embed_pixels(encoder.preprocess(images))]
    if encoder.token_limit:
        found.append(encoder.embed_texts(["a red plaque", "chest"]).embeddings)
    return found


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2", "dinov2"])
def test_autocast_around_an_encoder_changes_no_bit(family: str, models: dict[str, Path]) -> None:
    encoder = load_encoder(models[family], device="cpu")
    plain = _embed(encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        around = _embed(encoder)
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(*pair) for pair in zip(plain, around, strict=True))


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("setting", ["high", "medium"])
def test_a_lower_matmul_precision_around_an_encoder_changes_no_bit(
    setting: str, models: dict[str, Path]
) -> None:
    encoder = load_encoder(models["siglip"], device="cpu")
    exact = _embed(encoder)
    torch.set_float32_matmul_precision(setting)
    lower = _embed(encoder)
    assert torch.get_float32_matmul_precision() == setting
    assert all(torch.equal(*pair) for pair in zip(lower, exact, strict=True))


def test_gradients_flow_under_autocast(models: dict[str, Path]) -> None:
    encoder = load_encoder(models["siglip"], device="cpu")
    images = torch.rand(2, 3, 40, 40, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder.embed_images(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.dtype == torch.float32


def test_switches_stand_also_after_an_error() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.deterministic
    with pytest.raises(ValueError, match="inside"), own_precision("cpu", torch.float32):
        raise ValueError("inside")
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.deterministic)
