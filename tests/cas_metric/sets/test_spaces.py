"""Spaces of published distances, each against the pipeline that publishes it."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.support.tiny_models import build_dinov2
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import inception_v3
from transformers import AutoImageProcessor, AutoModel

from cas_metric.encoders import open_encoder
from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.sets.spaces import open_space


@pytest.fixture(scope="module")
def state():
    """Random weights under the names of the original network, which torchvision shares."""
    torch.manual_seed(0)
    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    return network.state_dict()


@pytest.fixture(scope="module")
def oracle(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_inception_is_torch_fidelitys(tmp_path, state, oracle, suffix):
    path = tmp_path / f"inception{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    space = open_space(f"inception:{path}", device="cpu", offline=True)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 80, 100, 3), dtype=np.uint8)
    with torch.no_grad():
        (expected,) = oracle(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        found = space.embed_pixels(space.official_preprocess(list(pixels)))
    assert space.dim == found.shape[1] == 2048
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_files_that_are_no_weights_are_refused(tmp_path, state):
    with pytest.raises(ModelUnavailable, match="no such file"):
        open_space(f"inception:{tmp_path / 'none.pth'}", device="cpu", offline=True)
    harmful = tmp_path / "harmful.pth"
    harmful.write_bytes(pickle.dumps({"weight": Harmful()}))
    with pytest.raises(InputError, match=r"no file of weights|more than tensors or is damaged"):
        open_space(f"inception:{harmful}", device="cpu", offline=True)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match="not the weights of FID's Inception"):
        open_space(f"inception:{other}", device="cpu", offline=True)


def test_chexgenbench_goes_through_299_pixels_and_keeps_the_length(tmp_path):
    directory = build_dinov2(tmp_path / "dino")
    space = open_space(f"chexgenbench:{directory}", device="cpu", offline=True)
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((299, 299), Image.Resampling.BILINEAR)
    model, processor = AutoModel.from_pretrained(directory).eval(), AutoImageProcessor
    inputs = processor.from_pretrained(directory, backend="pil")(
        # A square of 299 fills the crop: the processor must not cut it off.
        image,
        size={"height": space.image_size, "width": space.image_size},
        do_center_crop=False,
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = model(**inputs).pooler_output
        found = space.embed_pixels(space.official_preprocess([pixels]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_raw_features_are_those_of_unit_norm_before_it(tmp_path):
    directory = build_dinov2(tmp_path / "dino")
    raw, unit = (open_encoder(directory, device="cpu", raw=flag) for flag in (True, False))
    images = torch.rand(2, 3, 48, 48)
    lengths = raw.embed_images(images).norm(dim=1, keepdim=True)
    assert raw.fingerprint != unit.fingerprint
    assert not torch.allclose(lengths, torch.ones_like(lengths))
    torch.testing.assert_close(raw.embed_images(images) / lengths, unit.embed_images(images))


def test_other_specs_are_left_to_the_encoders():
    assert open_space("dinov2", device="cpu", offline=True) is None
