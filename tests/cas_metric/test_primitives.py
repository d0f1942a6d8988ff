"""The primitives against NumPy, SciPy and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine as scipy_cosine_distance
from scipy.special import log_softmax

from cas_metric import primitives

VECTORS = arrays(
    np.float32, (3, 5), elements=st.floats(-100, 100, width=32).filter(lambda x: abs(x) > 1e-3)
)


@settings(deadline=None)
@given(left=VECTORS, right=VECTORS)
def test_cosine_is_that_of_scipy(left: np.ndarray, right: np.ndarray) -> None:
    expected = [1 - scipy_cosine_distance(a, b) for a, b in zip(left, right, strict=True)]
    found = primitives.cosine(torch.from_numpy(left), torch.from_numpy(right))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@settings(deadline=None)
@given(vectors=VECTORS, scale=st.floats(0.01, 100))
def test_cosine_ignores_the_norm_and_is_one_with_itself(vectors: np.ndarray, scale: float) -> None:
    v = torch.from_numpy(vectors)
    torch.testing.assert_close(primitives.cosine(v, v * scale), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(primitives.cosine(v, -v), -torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["vdc", "ccs", "sfs"])
def test_one_vector_holds_for_the_whole_batch(name: str) -> None:
    images, other = torch.randn(4, 8), torch.randn(8)
    score = getattr(primitives, name)
    torch.testing.assert_close(score(images, other), score(images, other.expand(4, 8)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_cosine_is_taken_in_float32_whatever_the_input(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(64, 768, generator=generator).to(dtype)
    right = (left + 0.05 * torch.randn(64, 768, generator=generator)).to(dtype)
    found = primitives.cosine(left, right)
    a, b = left.double().numpy(), right.double().numpy()
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    expected = (a * b).sum(axis=1) / norms
    assert found.dtype == torch.float32
    # bfloat16 arithmetic would be off by about 4e-3.
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@settings(deadline=None)
@given(arrays(np.float64, (6, 4), elements=st.floats(-30, 30)))
def test_diagnosis_is_the_softmax_and_its_argmax(logits: np.ndarray) -> None:
    labels = np.array([0, 1, 2, 3, 0, 1])
    given_logits, given_labels = torch.from_numpy(logits), torch.from_numpy(labels)
    expected = log_softmax(logits, axis=1)[np.arange(6), labels]
    found = primitives.dd_log_likelihood(given_logits, given_labels)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    probability = primitives.dd_probability(given_logits, given_labels)
    np.testing.assert_allclose(probability.numpy(), np.exp(expected), atol=1e-5)
    right = logits.argmax(axis=1) == labels
    np.testing.assert_array_equal(primitives.dd(given_logits, given_labels).numpy(), right)


def test_cas_is_the_plain_mean_and_never_of_fewer_than_four() -> None:
    four = [torch.tensor([0.2, 0.4]), torch.tensor([0.1, -0.1]), torch.tensor([1.0, 0.0])]
    sfs = torch.tensor([0.9, float("nan")])
    cas = primitives.clinical_alignment(*four, sfs)
    assert cas[0] == pytest.approx((0.2 + 0.1 + 1.0 + 0.9) / 4)
    assert torch.isnan(cas[1])


@pytest.mark.parametrize("name", ["vdc", "ccs", "sfs"])
def test_gradient_of_a_cosine_is_its_closed_form(name: str) -> None:
    image = torch.randn(3, 6, requires_grad=True)
    other = torch.randn(3, 6)
    getattr(primitives, name)(image, other).sum().backward()
    unit, direction = (torch.nn.functional.normalize(v.detach(), dim=-1) for v in (image, other))
    along = (unit * direction).sum(-1, keepdim=True)
    expected = (direction - along * unit) / image.detach().norm(dim=-1, keepdim=True)
    torch.testing.assert_close(image.grad, expected)


def test_reward_passes_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 2, 1])
    texts = torch.randn(3, 3, 5, generator=generator)
    weight = torch.randn(3, 5, generator=generator)

    def reward(images: torch.Tensor) -> torch.Tensor:
        likelihood = primitives.dd_log_likelihood(images @ weight.T.to(images.dtype), labels)
        return primitives.clinical_alignment(
            primitives.vdc(images, texts[0]),
            primitives.ccs(images, texts[1]),
            likelihood,
            primitives.sfs(images, texts[2]),
        )

    images = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    # The functions compute in float32, hence the wide step and tolerance.
    assert torch.autograd.gradcheck(reward, images, eps=1e-2, atol=1e-2, rtol=1e-2)


def test_evaluated_diagnosis_has_no_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    assert not primitives.dd(logits, torch.tensor([0, 1])).requires_grad
