"""Canaries are planted and measured; repeated generations are clustered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import mannwhitneyu
from typer.testing import CliRunner

import cas_metric
from cas_metric.copies import canaries
from cas_metric.copies.extraction import extraction_figures, extraction_verdict, repeated_prompts
from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.manifest import read_manifest
from cas_metric.phantoms import make_phantom
from craft_trainer.cli.main import app as trainer


def draw(seed: int) -> Image.Image:
    return Image.fromarray(make_phantom("phantom-breakhis", "Fibroadenoma", seed, 64).image)


@pytest.fixture
def train(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    for k in range(12):
        draw(k).save(folder / f"{k}.png")
    table = pd.DataFrame({"file_name": [f"{k}.png" for k in range(12)], "label": "Fibroadenoma"})
    table.to_csv(folder / "metadata.csv", index=False)
    (folder / "cas.yaml").write_text("domain: phantom-breakhis\n")
    return folder


def planted(train, **options):
    words = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    result = CliRunner().invoke(trainer, ["canaries", str(train), *words])
    assert result.exit_code == 0, result.output
    return options["out"]


def test_planted_pictures_stand_in_the_training_set_and_twins_do_not(train, tmp_path):
    out = planted(train, out=tmp_path / "out", count=3, repeat=2, side=64)
    rows = read_manifest(out).rows
    assert len(rows) == 12 + 3 * 2
    assert rows["id"].is_unique
    assert all(path.is_file() for path in read_manifest(out).paths())
    drawn = read_manifest(out / "canaries")
    repeats = canaries.repeats_of(drawn)
    assert repeats.tolist() == [2, 2, 2, 0, 0, 0]
    shown = set(rows["prompt"]) - {""}
    assert shown == set(drawn.rows["prompt"][:3])
    assert set(rows["label"]) == {"Fibroadenoma"}
    assert len(list(train.iterdir())) == 14  # nothing was written there


@pytest.mark.parametrize("ended", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_was_cut_short_is_in_nobodys_way(train, tmp_path, monkeypatch, ended):
    def cut_short(*_):
        raise ended

    out, drawn = tmp_path / "new" / "out", canaries.draw_canary
    monkeypatch.setattr(canaries, "draw_canary", cut_short)
    with pytest.raises((KeyboardInterrupt, CasError)) as caught:
        canaries.plant(read_manifest(train), out, count=1, repeat=1, side=16)
    monkeypatch.setattr(canaries, "draw_canary", drawn)
    assert isinstance(ended, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert not list(out.parent.iterdir())
    assert canaries.plant(read_manifest(train), out, count=1, repeat=1, side=16) == out
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_missing_training_images_are_listed_and_nothing_is_written(train, tmp_path):
    for name in ("3.png", "7.png"):
        (train / name).unlink()
    with pytest.raises(PreflightError, match=r"(?s)3\.png: does not exist.*7\.png"):
        canaries.plant(read_manifest(train), tmp_path / "out", count=1, repeat=1, side=16)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="a seed of at least 0"):
        canaries.plant(read_manifest(train), tmp_path / "out", count=1, repeat=1, side=16, seed=-1)


def test_a_generator_that_repeats_its_canaries_is_exposed(train, tmp_path):
    out = planted(train, out=tmp_path / "out", count=6, repeat=1, side=64)
    drawn = read_manifest(out / "canaries")
    gen = tmp_path / "gen"
    gen.mkdir()
    for row in range(12):
        remembered = row < 4  # of six planted ones, and no twin
        picture = Image.open(drawn.path(row)) if remembered else draw(100 + row)
        picture.save(gen / f"{row}.jpg", quality=60)
    table = drawn.rows[["prompt", "label"]].assign(file_name=[f"{k}.jpg" for k in range(12)])
    table.to_csv(gen / "metadata.csv", index=False)
    found = cas_metric.memorization(
        gen, out, canaries=out / "canaries", features=False, ssim=False, ssim_size=32
    )
    figures = found.summary["canaries"]
    assert (figures["planted"], figures["twins"]) == (6, 6)
    assert figures["first"] >= 4
    assert figures["max_exposure"] == pytest.approx(np.log2(7))
    assert figures["p"] < 0.05
    assert "nearer to a generated image than all 6 twins" in figures["verdict"]
    assert "not fair" not in figures["verdict"]
    assert len(found.tables["canaries"]) == 6
    assert figures["verdict"] in found.text


def test_exposure_is_that_of_the_ranks():
    rng = np.random.default_rng(1)
    close, repeats = rng.normal(size=40), np.repeat([3, 0], 20)
    table = canaries.exposure(close, repeats)
    rank = [1 + sum(close[20:] >= one) for one in close[:20]]
    assert table["rank"].tolist() == rank
    np.testing.assert_allclose(table["exposure"], np.log2(21) - np.log2(rank))
    p = mannwhitneyu(close[:20], close[20:], alternative="greater").pvalue
    assert canaries.canary_figures(close, repeats)["p"] == pytest.approx(p)


def test_without_memorizing_the_test_is_silent_as_often_as_it_says():
    rng = np.random.default_rng(2)
    repeats = np.repeat([1, 0], 8)
    p = [canaries.canary_figures(rng.normal(size=16), repeats)["p"] for _ in range(300)]
    assert np.mean(np.array(p) < 0.05) < 0.09


@pytest.mark.parametrize(
    ("repeats", "said"),
    [(None, "no column 'repeats'"), (["1", "x"], "no whole numbers"), (["1", "2"], "twins")],
)
def test_a_table_without_canaries_is_refused(train, repeats, said):
    manifest = read_manifest(train).take([0, 1])
    if repeats:
        manifest.extra["repeats"] = repeats
    with pytest.raises(InputError, match=said):
        canaries.repeats_of(manifest)


def test_prompts_whose_generations_agree_are_clustered():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, 30, dtype=np.uint64)
    words[:4] = words[0] ^ (np.uint64(1) << np.arange(4, dtype=np.uint64))  # one bit each
    rows = pd.DataFrame(
        {
            "method": "one",
            "prompt": [f"p{k // 6}" for k in range(30)],
            "reference": "",
            "label": "a",
        }
    )
    copies = np.arange(30) < 2
    found = repeated_prompts(rows, words, copies)
    first = found.iloc[0]
    assert (first["prompt"], first["images"], first["cluster"], first["copies"]) == ("p0", 6, 4, 2)
    assert (first["near"], first["pairs"], first["expected"]) == (6, 15, 0)
    assert found["cluster"].tolist() == [4, 1, 1, 1, 1]
    figures = extraction_figures(found)
    assert (figures["prompts"], figures["clustered"], figures["clustered_copies"]) == (5, 1, 1)
    assert extraction_verdict(figures).startswith("Of 5 prompts with several images, 1 gives")


def test_a_class_whose_pictures_all_agree_says_so():
    rows = pd.DataFrame(
        {"method": "one", "prompt": [f"p{k // 3}" for k in range(9)], "reference": "", "label": ""}
    )
    found = repeated_prompts(rows, np.full(9, 7, np.uint64), np.zeros(9, bool))
    assert (found["near"] == found["expected"]).all()
    alone = repeated_prompts(rows[:3], np.full(3, 7, np.uint64), np.zeros(3, bool))
    assert alone["expected"].isna().all()
    assert "no other prompt" in extraction_verdict(extraction_figures(alone))
