"""Files and texts to embeddings: once each, in order, and independent of what else is embedded."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.decoding import ordered_map
from cas_metric.embedding.passes import embed_image_files, embed_texts
from cas_metric.embedding.ranks import Ranks
from cas_metric.encoders import Encoder
from cas_metric.errors import CasError
from cas_metric.images import load_image


class Counting:
    """An encoder that counts what it is asked for, and can run out of memory."""

    def __init__(self, encoder: Encoder, most: int = 10**9) -> None:
        self.encoder = encoder
        self.most = most
        self.batches: list[int] = []
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.encoder, name)

    def embed_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.batches.append(len(inputs))
        return self.encoder.embed_pixels(inputs)

    def embed_texts(self, texts: list[str]) -> object:
        self.texts += texts
        return self.encoder.embed_texts(texts)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    written = []
    for number in range(11):
        shape = (20 + 3 * number, 40 - number, 3)
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
        written.append(path)
    return written


def test_embeddings_are_the_encoders_own_in_the_order_of_the_paths(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache
) -> None:
    found = embed_image_files(paths, siglip, cache, batch_size=4)
    with torch.no_grad():
        for row, path in enumerate(paths):
            inputs = siglip.official_preprocess([load_image(path).pixels])
            own = siglip.embed_pixels(inputs)[0].numpy()
            np.testing.assert_allclose(found.embeddings[row], own, atol=1e-5)
    assert (found.embedded, found.cached, found.errors) == (11, 0, {})


@pytest.mark.parametrize("seed", range(3))
def test_bits_do_not_depend_on_what_was_cached_before(
    paths: list[Path], siglip: Encoder, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with EmbeddingCache(tmp_path / "whole") as cache:
        whole = embed_image_files(paths, siglip, cache, batch_size=4).embeddings
    some = [paths[i] for i in rng.permutation(11)[: rng.integers(1, 11)]]
    with EmbeddingCache(tmp_path / "parts") as cache:
        embed_image_files(some, siglip, cache, batch_size=4)
        parts = embed_image_files(paths, siglip, cache, batch_size=4, num_workers=3)
    assert parts.cached == len(some)
    assert parts.embeddings.tobytes() == whole.tobytes()


def test_a_content_is_embedded_once_whatever_its_names(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    copy = tmp_path / "renamed.png"
    shutil.copy(paths[0], copy)
    encoder = Counting(siglip)
    found = embed_image_files([paths[0], copy, paths[0], paths[1]], encoder, cache, batch_size=2)
    assert found.embedded == 2
    assert encoder.batches == [2]
    np.testing.assert_array_equal(found.embeddings[0], found.embeddings[1])
    again = embed_image_files([copy, paths[1]], encoder, cache)
    assert (again.embedded, again.cached, encoder.batches) == (0, 2, [2])


def test_every_batch_has_one_size(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache
) -> None:
    encoder = Counting(siglip)
    embed_image_files(paths, encoder, cache, batch_size=4)
    assert encoder.batches == [4, 4, 4]


def test_failures_stay_with_their_paths(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    bad, gone = tmp_path / "bad.png", tmp_path / "gone.png"
    bad.write_bytes(paths[0].read_bytes()[:60])
    found = embed_image_files([bad, paths[0], gone, paths[1]], siglip, cache)
    assert set(found.errors) == {bad, gone}
    assert np.isnan(found.embeddings[[0, 2]]).all()
    assert np.isfinite(found.embeddings[[1, 3]]).all()
    again = embed_image_files([paths[1], paths[0]], siglip, cache)
    np.testing.assert_array_equal(again.embeddings, found.embeddings[[3, 1]])


def test_of_broken_copies_each_is_told_by_its_own_name(
    siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    broken = [tmp_path / f"{name}.png" for name in "abc"]
    for path in broken:
        path.write_bytes(b"")
    errors = embed_image_files(broken, siglip, cache).errors
    assert [str(path) in errors[path] for path in broken] == [True] * 3


def test_memory_that_runs_out_halves_the_batch(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache
) -> None:
    encoder = Counting(siglip, most=3)
    found = embed_image_files(paths, encoder, cache, batch_size=8)
    assert set(encoder.batches) == {2}
    assert np.isfinite(found.embeddings).all()


def test_no_memory_for_one_image_is_an_error(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache
) -> None:
    with pytest.raises(CasError, match="no memory for a single image"):
        embed_image_files(paths, Counting(siglip, most=0), cache, batch_size=4)


def test_what_was_embedded_before_an_error_is_kept(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache
) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_image_files(paths, siglip, cache, batch_size=2, progress=stop)
    assert len(cache) >= 4
    assert embed_image_files(paths, siglip, cache, batch_size=2).cached >= 4


def test_a_file_that_changes_meanwhile_is_a_failure(
    paths: list[Path], siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    from cas_metric.embedding.decoding import decode, hash_files

    path = tmp_path / "growing.png"
    shutil.copy(paths[0], path)
    (state,) = hash_files([path], 1)
    shutil.copy(paths[1], path)
    os.utime(path, ns=(0, state.changed + 1))
    assert "changed while" in str(decode(path, state, None, siglip))


def test_texts_are_embedded_once_with_their_tokens(siglip: Encoder, cache: EmbeddingCache) -> None:
    long = "pleural effusion " * 60
    encoder = Counting(siglip)
    found = embed_texts(["a fundus", long, "a fundus"], encoder, cache)
    own = siglip.embed_texts(["a fundus", long])
    np.testing.assert_allclose(found.embeddings[:2], own.embeddings.numpy(), atol=1e-6)
    assert found.tokens.tolist() == [own.tokens[0], own.tokens[1], own.tokens[0]]
    assert found.truncated.tolist() == [False, True, False]
    assert sorted(encoder.texts) == sorted({"a fundus", long})
    again = embed_texts([long], encoder, cache)
    assert len(encoder.texts) == 2
    np.testing.assert_array_equal(again.embeddings[0], found.embeddings[1])
    assert bool(again.truncated[0])


def test_shards_are_disjoint_and_cover_everything() -> None:
    items = list(range(11))
    shards = [Ranks(index, 3).shard(items) for index in range(3)]
    assert sorted(item for shard in shards for item in shard) == items


def test_ordered_map_keeps_order_and_runs_only_so_far_ahead() -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    results = ordered_map(lambda n: n * n, source(), workers=3, ahead=5)
    assert next(results) == 0
    assert taken <= 6
    assert list(results) == [n * n for n in range(1, 50)]


def test_ordered_map_that_is_left_does_not_finish_what_it_has_queued() -> None:
    worked = []

    def slow(number: int) -> int:
        time.sleep(0.05)
        worked.append(number)
        return number

    results = ordered_map(slow, range(50), workers=1, ahead=30)
    assert next(results) == 0
    results.close()
    assert len(worked) < 10
