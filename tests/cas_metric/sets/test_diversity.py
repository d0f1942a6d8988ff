from itertools import combinations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import alexnet

from cas_metric.errors import InputError, ModelUnavailable
from cas_metric.sets.diversity import (
    by_class,
    embedding_diversity,
    load_lpips,
    lpips_of_samples,
    size_matched,
    vendi_score,
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """AlexNet convolutions with random weights, as torchvision names them."""
    torch.manual_seed(0)
    state = {k: v for k, v in alexnet(weights=None).state_dict().items() if "features" in k}
    path = tmp_path_factory.mktemp("lpips") / "alexnet.safetensors"
    save_file(state, path)
    return path


def test_lpips_is_the_mean_over_all_six_pairs_of_four_samples(backbone):
    network = load_lpips(backbone)
    torch.manual_seed(1)
    samples = [torch.rand(3, 64, 64) for _ in range(4)]
    pairs = [float(network(a[None] * 2 - 1, b[None] * 2 - 1)) for a, b in combinations(samples, 2)]
    assert len(pairs) == 6
    assert lpips_of_samples(samples, network) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_lpips_uses_the_backbone_that_it_is_given(backbone):
    network = load_lpips(backbone)
    torch.manual_seed(0)
    expected = alexnet(weights=None).features[0].weight
    assert torch.equal(dict(network.net.named_parameters())["slice1.0.weight"], expected)
    # The calibrated linear layers come with torchmetrics: non-negative and not all alike.
    linear = network.lin0.model[-1].weight
    assert (linear >= 0).all()
    assert linear.std() > 0


def test_copies_have_no_lpips_diversity(backbone):
    image = torch.rand(3, 64, 64)
    assert lpips_of_samples([image, image, image], load_lpips(backbone)) == pytest.approx(0)


def test_samples_that_cannot_be_compared_are_refused(backbone):
    network = load_lpips(backbone)
    with pytest.raises(InputError, match="at least two samples"):
        lpips_of_samples([torch.rand(3, 64, 64)], network)
    with pytest.raises(InputError, match="differ in size"):
        lpips_of_samples([torch.rand(3, 64, 64), torch.rand(3, 32, 64)], network)


def test_a_missing_or_unsafe_backbone_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="no such file"):
        load_lpips(tmp_path / "alexnet.safetensors")
    pickled = tmp_path / "alexnet.pth"
    torch.save({}, pickled)
    with pytest.raises(InputError, match="only safetensors"):
        load_lpips(pickled)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(InputError, match="AlexNet"):
        load_lpips(other)


def test_without_weights_the_message_says_how_to_get_them(monkeypatch):
    def no_network(**_):
        raise OSError("name resolution failed")

    monkeypatch.setattr("torchvision.models.alexnet", no_network)
    with pytest.raises(ModelUnavailable, match="--backbone"):
        load_lpips(None)


def test_offline_never_downloads(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(ModelUnavailable, match="--offline forbids"):
        load_lpips(None, offline=True)


def test_pairwise_distance_is_that_of_all_pairs():
    rows = np.random.default_rng(0).normal(size=(12, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i, j in combinations(range(12), 2)]
    found = embedding_diversity(np.vstack([rows, np.full((1, 5), np.nan)]))
    assert found.n == 12
    assert found.pairwise_distance == pytest.approx(np.mean(pairs))


def test_vendi_score_counts_distinct_directions():
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(6), 3, axis=0)) == pytest.approx(6)
    assert vendi_score(np.tile(np.eye(6)[:1], (9, 1))) == pytest.approx(1)


def test_vendi_score_is_the_same_by_either_gram_matrix():
    rng = np.random.default_rng(1)
    unit = rng.normal(size=(30, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / 30)
    positive = eigenvalues[eigenvalues > 1e-12]
    assert vendi_score(unit) == pytest.approx(np.exp(-(positive * np.log(positive)).sum()))


def test_classes_are_measured_apart():
    vectors = np.vstack([np.eye(4), np.tile(np.eye(4)[:1], (3, 1))])
    found = by_class(vectors, ["wide"] * 4 + ["narrow"] * 3)
    assert found["wide"].vendi_score == pytest.approx(4)
    assert found["narrow"].pairwise_distance == pytest.approx(0)
    assert embedding_diversity(np.eye(4)[:1]).vendi_score == 1.0


def test_sets_of_different_size_are_matched_before_comparison():
    rng = np.random.default_rng(2)
    small, large = rng.normal(size=(20, 64)), rng.normal(size=(200, 64))
    ours, theirs = size_matched(small, large)
    assert vendi_score(large / np.linalg.norm(large, axis=1, keepdims=True)) > 1.5 * ours
    assert theirs == pytest.approx(ours, rel=0.05)


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="no embedding"):
        embedding_diversity(np.full((2, 3), np.nan))
