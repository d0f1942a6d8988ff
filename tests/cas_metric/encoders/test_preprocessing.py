"""Preprocessing against PIL and TensorFlow's arithmetic written out, and against its own twin."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import SiglipImageProcessorPil, SiglipVisionConfig

from cas_metric.encoders import load_encoder
from cas_metric.encoders.checkpoint import load_processor
from cas_metric.encoders.families.siglip import is_medsiglip
from cas_metric.encoders.preprocessing import (
    Preprocessing,
    from_processor,
    resize_like_tensorflow,
)
from cas_metric.errors import InputError
from cas_metric.images import to_uint8

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Bound on |official - differentiable| in normalised units. PIL rounds to 8 bits twice, after
#: either pass of the resize, and std 0.226 scales a grey level of 1/255 up to 0.018.
BOUND = {"siglip": 0.03, "clip": 0.05, "metaclip2": 0.05, "dinov2": 0.06}


def by_pil(image: np.ndarray, box: tuple[int, int], crop: int, mean, std) -> np.ndarray:
    """Resize to ``box`` (width, height) by PIL's bicubic filter, crop the centre, normalise."""
    resized = np.asarray(Image.fromarray(image).resize(box, Image.Resampling.BICUBIC))
    top, left = ((n - crop) // 2 for n in resized.shape[:2])
    cropped = resized[top : top + crop, left : left + crop] / 255.0
    return ((cropped - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


def shortest_side(image: np.ndarray, side: int) -> tuple[int, int]:
    height, width = image.shape[:2]
    return (
        (side, int(side * height / width))
        if width < height
        else (
            int(side * width / height),
            side,
        )
    )


def expected(family: str, image: np.ndarray) -> np.ndarray:
    if family == "siglip":
        return by_pil(image, (32, 32), 32, (0.5,) * 3, (0.5,) * 3)
    if family == "dinov2":  # the whole frame, not the centre crop that its processor makes
        return by_pil(image, (32, 32), 32, IMAGENET_MEAN, IMAGENET_STD)
    return by_pil(image, shortest_side(image, 32), 32, CLIP_MEAN, CLIP_STD)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2", "dinov2"])
def test_official_is_pils_bicubic_and_the_checkpoints_statistics(
    family: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    pixels = load_encoder(models[family], device="cpu").official_preprocess(photographs)
    assert pixels.shape == (len(photographs), 3, 32, 32)
    assert pixels.dtype == torch.float32
    for ours, image in zip(pixels.numpy(), photographs, strict=True):
        np.testing.assert_allclose(ours, expected(family, image), atol=1e-5)


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2"])
def test_official_is_the_families_own_processor(
    family: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    pixels = load_encoder(models[family], device="cpu").official_preprocess(photographs)
    processor = load_processor(models[family])
    pictures = [Image.fromarray(image) for image in photographs]
    golden = processor(images=pictures, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, golden)


@pytest.mark.parametrize("family", ["siglip", "clip", "metaclip2", "dinov2"])
def test_differentiable_stays_within_its_bound(
    family: str, models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    encoder = load_encoder(models[family], device="cpu")
    for image in photographs:
        difference = encoder.official_preprocess([image]) - encoder.preprocess(as_tensor(image))
        assert difference.abs().max() < BOUND[family]
        assert difference.abs().mean() < BOUND[family] / 4


def test_without_antialiasing_the_bound_is_broken(
    models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    """What the bound protects from: a plain bilinear resize is off by a hundred grey levels."""
    encoder = load_encoder(models["siglip"], device="cpu")
    image = photographs[-1]
    plain = torch.nn.functional.interpolate(as_tensor(image), size=(32, 32), mode="bilinear")
    difference = encoder.official_preprocess([image]) - (plain - 0.5) / 0.5
    assert difference.abs().max() > 10 * BOUND["siglip"]


def test_dinov2_sees_the_border_that_its_processor_crops_away(models: dict[str, Path]) -> None:
    encoder = load_encoder(models["dinov2"], device="cpu")
    plain = np.full((64, 64, 3), 128, np.uint8)
    framed = plain.copy()
    framed[:3] = framed[-3:] = framed[:, :3] = framed[:, -3:] = 255
    cropped = load_processor(models["dinov2"])
    by_processor = [
        cropped(images=[Image.fromarray(image)], return_tensors="pt")["pixel_values"][0]
        for image in (plain, framed)
    ]
    assert (by_processor[0] - by_processor[1]).abs()[:, 2:-2, 2:-2].max() < 0.1
    ours = encoder.official_preprocess([plain, framed])
    assert (ours[0] - ours[1]).abs()[:, 0].min() > 1.0


def test_a_crop_cuts_the_centre_of_an_odd_frame(models: dict[str, Path]) -> None:
    """The crop's offset is a matter of half a pixel between official and differentiable."""
    encoder = load_encoder(models["clip"], device="cpu")
    generator = np.random.default_rng(0)
    for width in range(33, 44):
        image = generator.integers(0, 256, (32, width, 3), dtype=np.uint8)
        difference = encoder.official_preprocess([image]) - encoder.preprocess(as_tensor(image))
        assert difference.abs().max() < 0.02


@given(
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    size=st.integers(2, 24),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_medsiglip_resize_is_tensorflows_kernel(height, width, size, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_like_tensorflow(image, size), by_tensorflow(image, size))


def by_tensorflow(image: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow's ResizeBilinear with half-pixel centres, pixel by pixel, cut to uint8."""
    height, width, _ = image.shape
    out = np.zeros((size, size, 3), np.uint8)
    for y in range(size):
        for x in range(size):
            row = (np.float32(y) + np.float32(0.5)) * (np.float32(height) / np.float32(size))
            column = (np.float32(x) + np.float32(0.5)) * (np.float32(width) / np.float32(size))
            row, column = row - np.float32(0.5), column - np.float32(0.5)
            top, bottom = max(int(np.floor(row)), 0), min(int(np.ceil(row)), height - 1)
            left, right = max(int(np.floor(column)), 0), min(int(np.ceil(column)), width - 1)
            down, along = row - np.floor(row), column - np.floor(column)
            pixel = image.astype(np.float32)
            upper = pixel[top, left] + (pixel[top, right] - pixel[top, left]) * along
            lower = pixel[bottom, left] + (pixel[bottom, right] - pixel[bottom, left]) * along
            out[y, x] = (upper + (lower - upper) * down).astype(np.uint8)
    return out


@pytest.mark.parametrize("level", [0, 1, 99, 100, 255])
def test_medsiglip_resize_keeps_a_flat_image_flat(level: int) -> None:
    """A weighted sum would round below the integer and lose a grey level to the cut."""
    flat = np.full((1024, 768, 3), level, np.uint8)
    assert np.unique(resize_like_tensorflow(flat, 448)).tolist() == [level]


def test_medsiglip_quick_start_differs_from_the_processors_bicubic() -> None:
    from skimage import data

    tissue = data.immunohistochemistry()
    processor = SiglipImageProcessorPil(
        size={"height": 448, "width": 448}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    plain = from_processor(processor)
    quick = from_processor(processor, quick_start=True)
    # Fine texture is where the lack of antialiasing shows: a halved checkerboard, say.
    texture = np.indices((1024, 1024)).sum(axis=0) % 3 * 100
    fine = np.repeat(texture[..., None], 3, axis=-1).astype(np.uint8)
    levels = (plain.official([fine]) - quick.official([fine])).abs().max() / 2 * 255
    assert levels > 40
    assert plain.describe() != quick.describe()
    # The differentiable twin misses only the cut to uint8: at most one grey level, 2/255.
    difference = quick.official([tissue]) - quick.differentiable(as_tensor(tissue))
    assert difference.abs().max() < 2 / 255 + 1e-5


def test_medsiglip_is_recognised_by_its_shape() -> None:
    assert is_medsiglip(SiglipVisionConfig(image_size=448, patch_size=14))
    for size, patch in ((384, 14), (224, 14), (512, 16), (384, 16)):
        assert not is_medsiglip(SiglipVisionConfig(image_size=size, patch_size=patch))


def test_float_images_are_rounded_to_8_bits(models: dict[str, Path]) -> None:
    encoder = load_encoder(models["siglip"], device="cpu")
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    as_float = image.astype(np.float32) / 255
    assert torch.equal(
        encoder.official_preprocess([image]), encoder.official_preprocess([as_float])
    )
    np.testing.assert_array_equal(to_uint8(np.array([[[-0.1, 0.5, 1.2]]])), [[[0, 128, 255]]])


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 3, 3), (3, 200, 3), (500, 3, 3)])
def test_small_and_extreme_shapes_keep_their_channels_last(
    shape: tuple[int, int, int], models: dict[str, Path]
) -> None:
    """A (3, H, 3) array could be taken for channels first."""
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    ours = load_encoder(models["siglip"], device="cpu").official_preprocess([image])
    np.testing.assert_allclose(ours[0].numpy(), expected("siglip", image), atol=1e-5)


def test_preprocessing_travels_to_worker_processes(
    models: dict[str, Path], photographs: list[np.ndarray]
) -> None:
    for directory in models.values():
        preprocessing = load_encoder(directory, device="cpu").preprocessing
        copy = pickle.loads(pickle.dumps(preprocessing))
        assert torch.equal(copy.official(photographs), preprocessing.official(photographs))


def test_shape_errors_are_said() -> None:
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    preprocessing: Preprocessing = from_processor(processor)
    with pytest.raises(InputError, match=r"\(B, 3, H, W\)"):
        preprocessing.differentiable(torch.rand(3, 32, 32))
    with pytest.raises(InputError, match="not a square"):
        from_processor(SiglipImageProcessorPil(size={"height": 32, "width": 48}))
    with pytest.raises(InputError, match="PIL filter"):
        from_processor(SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=0))


def test_processor_of_another_checkpoint_is_refused(
    models: dict[str, Path], tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(models["siglip"], tmp_path / "mixed"))
    path = directory / "preprocessor_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "size": {"height": 48, "width": 48}}))
    with pytest.raises(InputError, match="48-pixel inputs, the model takes 32"):
        load_encoder(directory, device="cpu")


@pytest.mark.parametrize("family", ["siglip", "clip", "dinov2"])
def test_gradient_agrees_with_finite_differences(family: str, models: dict[str, Path]) -> None:
    """Through resize, clamp, normalisation, model and normalisation of the embedding."""
    encoder = load_encoder(models[family], device="cpu")
    generator = torch.Generator().manual_seed(3)
    # Away from 0 and 1, where the clamp has its kinks.
    image = 0.3 + 0.4 * torch.rand(1, 3, 40, 48, generator=generator)
    target = torch.nn.functional.normalize(torch.randn(encoder.dim, generator=generator), dim=0)

    def score(images: torch.Tensor) -> torch.Tensor:
        return (encoder.embed_images(images) * target).sum()

    image.requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(image), image)
    assert gradient.abs().max() > 0
    for _ in range(3):
        direction = torch.randn(image.shape, generator=generator)
        step = 1e-2
        with torch.no_grad():
            numeric = (score(image + step * direction) - score(image - step * direction)) / 2 / step
        analytic = (gradient * direction).sum()
        torch.testing.assert_close(analytic, numeric, rtol=0.05, atol=2e-3)
