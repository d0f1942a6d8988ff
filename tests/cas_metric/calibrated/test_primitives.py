"""Log-odds, and what real images are expected to look like."""

from __future__ import annotations

import numpy as np

from cas_metric.calibrated.primitives import Expectation, log_odds
from cas_metric.primitives import unit


def world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images that follow from prompt and class, with more noise in one direction."""
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(99).normal(size=(6, 12))
    classes = rng.integers(3, size=count)
    prompts = unit(rng.normal(size=(count, 6))).astype(np.float32)
    noise = rng.normal(size=(count, 12)) * np.r_[0.5, np.full(11, 0.05)]
    pictures = prompts @ maps + 3 * np.eye(12)[classes + 5] + noise
    return unit(pictures), prompts, classes


def test_log_odds_are_those_of_the_softmax() -> None:
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(20, 5)), rng.integers(5, size=20)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = share[np.arange(20), classes]
    np.testing.assert_allclose(log_odds(logits, classes), np.log(own / (1 - own)))
    assert np.isnan(log_odds(logits[:1], np.array([-1])))[0]


def test_expectation_is_the_ridge_regression_with_the_least_left_out_error() -> None:
    images, prompts, classes = world(40, 1)
    found = Expectation.fit(images, prompts, classes, 3)
    text = unit(prompts).astype(float)
    inputs = np.hstack([text - text.mean(axis=0), (classes[:, None] == np.arange(3)) - 1 / 3])
    targets = images.astype(float) - images.mean(axis=0, dtype=float)

    def fitted(rows: np.ndarray, penalty: float) -> np.ndarray:
        x = inputs[rows]
        return np.linalg.solve(x.T @ x + penalty * np.eye(9), x.T @ targets[rows])

    errors = {}
    for penalty in 10.0 ** np.arange(-3, 3.5, 0.5):
        left = [
            targets[row] - inputs[row] @ fitted(np.arange(40) != row, penalty) for row in range(40)
        ]
        errors[penalty] = float(np.square(left).sum())
    best = min(errors, key=lambda penalty: errors[penalty])
    np.testing.assert_allclose(found.weights, fitted(np.arange(40) >= 0, best), atol=1e-6)


def test_closeness_falls_with_wrong_prompt_wrong_class_and_rare_direction() -> None:
    found = Expectation.fit(*world(400, 2), 3)
    images, prompts, classes = world(100, 3)
    own = found.closeness(images, prompts, classes)
    assert (own <= 0).all()
    for other in (
        found.closeness(images, prompts[::-1], classes),
        found.closeness(images, prompts, (classes + 1) % 3),
        found.closeness(unit(images + 0.3 * np.eye(12)[11]), prompts, classes),
    ):
        assert np.median(other) < np.quantile(own, 0.05)
    rare, common = (
        found.closeness(unit(images + 0.1 * np.eye(12)[k]), prompts, classes) for k in (11, 0)
    )
    assert np.median(rare) < np.median(common)


def test_without_prompts_it_is_the_distance_to_the_class() -> None:
    images, prompts, classes = world(90, 4)
    none = np.full_like(prompts, np.nan)
    found = Expectation.fit(images, none, classes, 3)
    nearest = np.stack([found.closeness(images, none, np.full(90, k)) for k in range(3)], axis=1)
    assert (nearest.argmax(axis=1) == classes).mean() > 0.95
    assert np.isnan(found.closeness(images[:1], none[:1], np.array([-1])))[0]
    assert np.isnan(found.closeness(np.full((1, 12), np.nan, np.float32), none[:1], classes[:1]))[0]


def test_one_image_and_equal_images_are_no_error() -> None:
    images = np.tile(unit(np.ones((1, 12), np.float32)), (5, 1))
    for rows in (1, 5):
        found = Expectation.fit(
            images[:rows], np.full((rows, 6), np.nan, np.float32), np.zeros(rows, int), 2
        )
        assert np.isfinite(
            found.closeness(images[:rows], np.full((rows, 6), np.nan), np.zeros(rows, int))
        ).all()
