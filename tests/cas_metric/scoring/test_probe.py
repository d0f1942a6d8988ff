"""The probe against an independently written training loop, and what cross-fitting promises."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cas_metric.errors import InputError
from cas_metric.scoring.probe import Probe, TorchGenerator, assign_folds, cross_fit, fit

CLASSES = ("a", "b", "c")


def _data(n: int = 300, dim: int = 12, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=n)
    centres = rng.normal(size=(3, dim)) * 3
    return (centres[labels] + noise * rng.normal(size=(n, dim))).astype(np.float32), labels


def _reference_loop(x: np.ndarray, y: np.ndarray, start: Probe, seed: int) -> tuple:
    """Softmax regression and Adam written out in NumPy, from the same start and batches."""
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float64)
    generator = torch.Generator().manual_seed(seed)
    bound = x.shape[1] ** -0.5
    w = torch.empty(3, x.shape[1]).uniform_(-bound, bound, generator=generator).double().numpy()
    b = torch.empty(3).uniform_(-bound, bound, generator=generator).double().numpy()
    parameters, step = [w, b], 0
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in parameters]
    for _ in range(50):
        order = torch.randperm(len(x), generator=generator).numpy()
        for batch in np.split(order, range(256, len(x), 256)):
            logits = x[batch] @ parameters[0].T + parameters[1]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(batch)), y[batch]] -= 1
            gradients = [p.T @ x[batch] / len(batch), p.mean(axis=0)]
            step += 1
            for parameter, gradient, (m, v) in zip(parameters, gradients, moments, strict=True):
                m[:] = 0.9 * m + 0.1 * gradient
                v[:] = 0.999 * v + 0.001 * gradient**2
                update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
                parameter -= 1e-3 * update
    return parameters


def test_fit_is_the_loop_written_out() -> None:
    x, y = _data()
    probe = fit(x, y, CLASSES, fingerprint="f")
    weight, bias = _reference_loop(x, y, probe, seed=42)
    np.testing.assert_allclose(probe.weight, weight, atol=2e-4)
    np.testing.assert_allclose(probe.bias, bias, atol=2e-4)


def test_fit_is_what_torch_fits() -> None:
    """The same start, the same batches, torch's own Adam: the same probe to the last digits."""
    x, y = _data(700)
    generator = torch.Generator().manual_seed(42)
    bound = x.shape[1] ** -0.5
    layer = [torch.empty(s).uniform_(-bound, bound, generator=generator) for s in ((3, 12), (3,))]
    adam = torch.optim.Adam([part.requires_grad_() for part in layer], lr=1e-3)
    inputs, targets = torch.nn.functional.normalize(torch.from_numpy(x)), torch.from_numpy(y)
    for _ in range(50):
        for batch in torch.randperm(len(x), generator=generator).split(256):
            adam.zero_grad()
            logits = torch.nn.functional.linear(inputs[batch], *layer)
            torch.nn.functional.cross_entropy(logits, targets[batch]).backward()
            adam.step()
    probe = fit(x, y, CLASSES, fingerprint="f")
    np.testing.assert_allclose(probe.weight, layer[0].detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(probe.bias, layer[1].detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("seed", [0, 42, 2**31])
def test_draws_are_those_of_torch(seed: int) -> None:
    ours, theirs = TorchGenerator(seed), torch.Generator().manual_seed(seed)
    for count in (1, 2, 7, 300, 4001):
        expected = torch.empty(3, count).uniform_(-0.3, 0.3, generator=theirs)
        # A processor without a fused multiply-add rounds once more.
        np.testing.assert_allclose(ours.uniform((3, count), 0.3), expected.numpy(), atol=3e-8)
        order = torch.randperm(count, generator=theirs)
        assert ours.permutation(count).tolist() == order.tolist()


def test_logits_are_float32_whatever_surrounds_them() -> None:
    """Autocast and TF32 would take a matrix product in fewer digits."""
    x, y = _data()
    probe = fit(x, y, CLASSES, fingerprint="f")
    tensor = torch.from_numpy(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = probe.logits(tensor)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, probe.logits(tensor))
    np.testing.assert_allclose(inside.numpy(), probe.logits(x), atol=1e-6)


def test_it_tells_in_what_it_departs_from_the_protocol() -> None:
    x, y = _data(40)
    assert fit(x, y, CLASSES, fingerprint="f").departure == ""
    assert fit(x, y, CLASSES, fingerprint="f", seed=7).departure == "seed 7"
    foreign = Probe(CLASSES, "f", np.zeros((3, 12), np.float32), np.zeros(3, np.float32))
    assert foreign.departure == "of unknown making"


def test_fit_learns_ignores_norms_and_leaves_the_global_generator_alone() -> None:
    x, y = _data(n=3000, noise=0.5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    probe = fit(x, y, CLASSES, fingerprint="f")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    scaled = fit(x * 7, y, CLASSES, fingerprint="f")
    np.testing.assert_allclose(probe.weight, scaled.weight, atol=1e-6)
    accuracy = (probe.logits(torch.from_numpy(x)).argmax(1).numpy() == y).mean()
    assert accuracy > 0.95
    assert probe.info["training_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_logits_let_gradients_through_to_the_embeddings() -> None:
    x, y = _data()
    probe = fit(x, y, CLASSES, fingerprint="f")
    embeddings = torch.from_numpy(x[:2]).requires_grad_()
    probe.logits(embeddings)[:, 0].sum().backward()
    assert embeddings.grad.abs().sum() > 0


@pytest.mark.parametrize("spoil", ["one class", "nan"])
def test_fit_refuses_what_cannot_be_learned(spoil: str) -> None:
    x, y = _data(20)
    if spoil == "nan":
        x[3, 0] = np.nan
    else:
        y[:] = 1
    with pytest.raises(InputError):
        fit(x, y, CLASSES, fingerprint="f")


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    x, y = _data(40)
    probe = fit(x, y, CLASSES, fingerprint="f")
    for name in ("one", "two"):
        probe.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    loaded = Probe.load(tmp_path / "one", SimpleNamespace(fingerprint="f", dim=12, name="e"))
    assert loaded.classes == CLASSES
    assert loaded.info == probe.info
    np.testing.assert_array_equal(loaded.weight, probe.weight)
    np.testing.assert_array_equal(loaded.bias, probe.bias)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    x, y = _data(40)
    fit(x, y, CLASSES, fingerprint="f").save(tmp_path / "probe")
    with pytest.raises(InputError, match="another encoder"):
        Probe.load(tmp_path / "probe", SimpleNamespace(fingerprint="g", dim=12, name="e"))
    with pytest.raises(InputError, match="does not fit"):
        Probe.load(tmp_path / "probe", SimpleNamespace(fingerprint="f", dim=13, name="e"))


def test_files_that_are_no_probe_are_refused(tmp_path: Path) -> None:
    encoder = SimpleNamespace(fingerprint="f", dim=12, name="e")
    (tmp_path / "text").write_text("hello")
    save_file({"weight": torch.zeros(2, 12)}, tmp_path / "other")
    save_file({"weight": torch.zeros(2, 12)}, tmp_path / "wrong", {"cas_probe": "[]"})
    (tmp_path / "empty").touch()
    for name in ("text", "other", "wrong", "empty", "absent"):
        with pytest.raises(InputError):
            Probe.load(tmp_path / name, encoder)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=60),
    folds=st.integers(2, 6),
)
def test_folds_keep_groups_whole_and_none_is_empty(rows: list, folds: int) -> None:
    labels = np.array([label for label, _ in rows])
    groups = [str(group) for _, group in rows]
    assigned = assign_folds(labels, groups, folds, seed=1)
    for group in set(groups):
        assert len({assigned[i] for i in range(len(rows)) if groups[i] == group}) == 1
    assert set(assigned) == set(range(min(folds, len(set(groups)))))


def test_folds_spread_every_class() -> None:
    labels = np.repeat([0, 1, 2], [40, 20, 5])
    assigned = assign_folds(labels, [str(i) for i in range(65)], 5, seed=0)
    for label, expected in ((0, 8), (1, 4), (2, 1)):
        assert (np.bincount(assigned[labels == label], minlength=5) == expected).all()


def test_no_image_judges_itself() -> None:
    """With labels drawn at random only an image's own label can be known: cross-fitting cannot."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 400)).astype(np.float32), rng.integers(3, size=200)
    crossed = cross_fit(x, y, CLASSES, fingerprint="f", groups=[str(i) for i in range(200)])
    own = (crossed.logits(x, crossed.folds).argmax(1) == y).mean()
    seen = (fit(x, y, CLASSES, fingerprint="f").logits(x).argmax(1) == y).mean()
    assert seen > 0.7
    assert own < 0.45


def test_the_fold_of_the_reference_decides_and_without_one_the_mean() -> None:
    x, y = _data(60)
    crossed = cross_fit(x, y, CLASSES, fingerprint="f", groups=[str(i) for i in range(60)])
    chosen = crossed.logits(x[:3], np.array([2, -1, 0]))
    every = np.stack([probe.logits(x[:3]) for probe in crossed.probes])
    np.testing.assert_array_equal(chosen[0], every[2, 0])
    np.testing.assert_array_equal(chosen[1], every[:, 1].mean(axis=0))
    np.testing.assert_array_equal(chosen[2], every[0, 2])
