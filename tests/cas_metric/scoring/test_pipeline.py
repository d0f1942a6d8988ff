"""Rows, reference tables and the rules on what may be missing."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clinical_crops import Folders, read_metadata, write_folders, write_metadata

from cas_metric import primitives, protocol
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder, list_encoders
from cas_metric.errors import InputError, PreflightError, TooManyFailures
from cas_metric.images import load_image
from cas_metric.manifest import read_manifest
from cas_metric.runs.folder import read_run, write_run
from cas_metric.runs.summary import build_summary
from cas_metric.scoring.inputs import select
from cas_metric.scoring.per_image import COLUMNS
from cas_metric.scoring.pipeline import (
    Options,
    Scores,
    conditions_of,
    other_of_class,
    score_manifests,
)
from cas_metric.scoring.probe import fit


@pytest.fixture(scope="module")
def scores(folders: Folders, siglip: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    with EmbeddingCache(tmp_path_factory.mktemp("cache")) as cache:
        return _score(folders, siglip, cache)


def _score(folders: Folders, encoder: Encoder, cache: EmbeddingCache, **options: object) -> Scores:
    given = {"domain": load_domain(folders.domain), "train": read_manifest(folders.train)}
    return score_manifests(
        select(read_manifest(folders.generated), None, None),
        read_manifest(folders.test),
        encoder=encoder,
        cache=cache,
        **{**given, **options},
    )


def _embed(encoder: Encoder, path: Path) -> torch.Tensor:
    with torch.no_grad():
        return encoder.embed_pixels(encoder.official_preprocess([load_image(path).pixels]))


def test_rows_are_the_primitives_of_embeddings_made_by_hand(
    scores: Scores, folders: Folders, siglip: Encoder
) -> None:
    domain, truth = load_domain(folders.domain), {r["id"]: r for r in read_metadata(folders.test)}
    train = sorted(read_metadata(folders.train), key=lambda row: row["id"])
    real = torch.cat([_embed(siglip, folders.train / row["file_name"]) for row in train])
    labels = [domain.index(row["label"]) for row in train]
    probe = fit(real, labels, domain.class_names, fingerprint=siglip.fingerprint)
    for row in scores.rows.to_dict("records"):
        image = _embed(siglip, folders.generated / row["image"])
        partner = truth[row["id"]]
        assert row["reference"] == partner["file_name"]
        label = torch.tensor([domain.index(row["label"])])
        checklist = siglip.embed_texts([domain.checklist_text(row["label"])]).embeddings
        expected = [
            primitives.vdc(image, siglip.embed_texts([partner["prompt"]]).embeddings),
            primitives.ccs(image, checklist),
            primitives.dd(probe.logits(image), label),
            primitives.sfs(image, _embed(siglip, folders.test / partner["file_name"])),
        ]
        found = [row[name] for name in protocol.PRIMITIVES]
        np.testing.assert_allclose(found, torch.cat(expected).numpy(), atol=2e-6)
        assert row["cas"] == pytest.approx(np.mean(found), abs=1e-6)
        graded = primitives.dd_probability(probe.logits(image), label)
        assert row["dd_prob"] == pytest.approx(float(graded), abs=1e-5)


def test_the_class_that_the_probe_sees_is_right_where_dd_is(scores: Scores) -> None:
    seen = (scores.rows["seen"] == scores.rows["label"]).astype(float)
    assert (seen == scores.rows["dd"]).all()
    assert set(scores.rows["seen"]) <= set(scores.inputs.classes)


def test_columns_order_and_status(scores: Scores) -> None:
    assert list(scores.rows.columns) == [*COLUMNS, "prompt", "note", "seen"]
    assert scores.rows["id"].is_monotonic_increasing
    assert (scores.rows["status"] == "ok").all()
    assert (scores.rows["error"] == "").all()
    assert (scores.rows["method"] == "generated").all()
    assert len(scores.rows) == len(scores.real) == len(scores.floor) == 12


def test_real_images_are_like_themselves_and_the_floor_is_another_of_the_class(
    scores: Scores,
) -> None:
    assert (scores.real["sfs"] == 1).all()
    assert (scores.real["reference"] == scores.real["image"]).all()
    floor = scores.floor
    assert (floor["reference"] != floor["image"]).all()
    assert (floor["sfs"] < 1).all()
    label_of = dict(zip(scores.real["image"], scores.real["label"], strict=True))
    assert (floor["reference"].map(label_of) == floor["label"]).all()
    assert floor["reference"].is_unique
    others = [name for name in COLUMNS if name not in ("method", "reference", "sfs", "cas")]
    pd.testing.assert_frame_equal(floor[others], scores.real[others])


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 5)), min_size=1, max_size=30),
    seed=st.integers(0, 3),
)
def test_floor_partners_are_of_the_class_and_of_another_group(rows: list, seed: int) -> None:
    classes = np.array([label for label, _ in rows])
    groups = [str(group) for _, group in rows]
    chosen = other_of_class(classes, groups, np.ones(len(rows), dtype=bool), seed)
    for row, other in enumerate(chosen):
        candidates = [
            i for i in range(len(rows)) if classes[i] == classes[row] and groups[i] != groups[row]
        ]
        if classes[row] < 0 or not candidates:
            assert other == -1
        else:
            assert other in candidates
    for label in set(classes) - {-1}:
        members = np.flatnonzero(classes == label)
        largest = max(sum(groups[i] == group for i in members) for group in set(groups))
        if 2 * largest <= len(members):
            assert len(set(chosen[members])) == len(members)


def test_the_order_of_manifests_has_no_influence(
    scores: Scores, siglip: Encoder, folders: Folders, tmp_path: Path, cache: EmbeddingCache
) -> None:
    shuffled = write_folders(tmp_path / "shuffled")
    rng = np.random.default_rng(5)
    for folder in (shuffled.generated, shuffled.test, shuffled.train):
        rows = read_metadata(folder)
        write_metadata(folder, [rows[i] for i in rng.permutation(len(rows))])
    found = _score(shuffled, siglip, cache)
    for name in ("rows", "real", "floor"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(scores, name))


def test_without_a_domain_ccs_and_cas_stay_empty_and_the_probe_is_cross_fitted(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    found = _score(folders, siglip, cache, domain=None, train=None)
    assert found.rows["ccs"].isna().all()
    assert found.rows["cas"].isna().all()
    assert found.rows[["vdc", "dd", "sfs"]].notna().all(axis=None)
    assert (found.rows["status"] == "partial").all()
    summary = build_summary(found, siglip, ["cas"], seconds=1.0)
    assert list(summary["missing"]) == ["ccs"]
    assert "--domain" in summary["missing"]["ccs"]["add"]
    assert summary["protocol"] == protocol.CUSTOM
    assert any(line.startswith("probe: cross-fitted") for line in summary["departures"])
    assert summary["tau"] is None
    assert summary["methods"][0]["tail"] is None
    assert found.judge.folds is not None
    assert set(found.judge.folds) == set(range(5))


def test_a_cross_fitted_probe_never_saw_the_image_or_its_reference(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    found = _score(folders, siglip, cache, train=None)
    inputs, judge = found.inputs, found.judge
    labels = inputs.real["class_index"].to_numpy()
    for fold in range(5):
        kept = np.flatnonzero(judge.folds != fold)
        embeddings = found.material.images["real"].embeddings[kept]
        probe = fit(embeddings, labels[kept], inputs.classes, fingerprint=siglip.fingerprint)
        own = judge.folds[inputs.generated["reference_row"]] == fold
        images = torch.from_numpy(found.material.images["generated"].embeddings[own])
        wanted = torch.tensor(inputs.generated["class_index"].to_numpy()[own])
        expected = primitives.dd_probability(probe.logits(images), wanted)
        np.testing.assert_allclose(found.rows["dd_prob"][own], expected, atol=1e-5)


def test_missing_prompts_leave_vdc_empty_and_are_taken_from_the_partner_where_it_has_one(
    siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    for folder in (folders.generated, folders.test):
        rows = read_metadata(folder)
        for row in rows:
            if row["id"] == "test-fundus-1" or folder == folders.generated:
                row["prompt"] = ""
        write_metadata(folder, rows)
    found = _score(folders, siglip, cache)
    lacking = found.rows["id"] == "test-fundus-1"
    assert found.rows["vdc"].isna().tolist() == lacking.tolist()
    assert found.rows["cas"].isna().tolist() == lacking.tolist()
    assert found.rows["error"][lacking].tolist() == ["vdc: no prompt"]
    assert any("take the prompt of their real partner" in note for note in found.notes)


def test_unpaired_images_are_refused_unless_they_are_meant(
    siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)
    rows[0]["id"] = "nobody"
    write_metadata(folders.generated, rows)
    with pytest.raises(PreflightError, match="nobody"):
        _score(folders, siglip, cache)
    found = _score(folders, siglip, cache, unpaired=True)
    alone = found.rows[found.rows["id"] == "nobody"].iloc[0]
    assert np.isnan(alone["sfs"])
    assert np.isnan(alone["cas"])
    assert alone["error"] == "sfs: no real partner"
    assert found.conditions.reference == "none"


def test_failed_images_become_rows_and_take_nothing_else_along(
    scores: Scores, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    (folders.generated / "test-fundus-0.png").write_bytes(b"")
    (folders.test / "test-fundus-1.png").write_bytes(b"\x89PNG")
    found = _score(folders, siglip, cache)
    by_id = found.rows.set_index("id")
    failed = by_id.loc["test-fundus-0"]
    assert failed["status"] == "failed"
    assert "empty" in failed["error"]
    assert failed[["vdc", "ccs", "dd", "dd_prob", "sfs", "cas"]].isna().all()
    partial = by_id.loc["test-fundus-1"]
    assert partial["status"] == "partial"
    assert partial["error"].startswith("sfs: ")
    assert np.isnan(partial["cas"])
    rest = found.rows[found.rows["status"] == "ok"]
    before = scores.rows[scores.rows["id"].isin(rest["id"])]
    pd.testing.assert_frame_equal(
        rest.reset_index(drop=True), before.reset_index(drop=True), check_dtype=False
    )
    assert [(one["set"], one["id"]) for one in found.material.failures] == [
        ("generated", "test-fundus-0"),
        ("real", "test-fundus-1"),
    ]
    with pytest.raises(TooManyFailures, match="2 images failed, 1 are allowed"):
        _score(folders, siglip, cache, options=Options(max_failures=1))


def test_long_texts_are_counted_or_refused(
    siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)
    rows[0]["prompt"] = "a large optic cup " * 30
    write_metadata(folders.generated, rows)
    found = _score(folders, siglip, cache)
    long = found.rows.set_index("id").loc[rows[0]["id"]]
    assert bool(long["prompt_truncated"])
    assert long["prompt_tokens"] > 64
    assert found.rows["prompt_truncated"].sum() == 1
    summary = build_summary(found, siglip, [], seconds=0)
    assert summary["text"]["prompts"]["generated"]["truncated"] == 1
    with pytest.raises(PreflightError, match="reads 64"):
        _score(folders, siglip, cache, options=Options(strict_text=True))


def test_a_probe_of_other_classes_is_refused(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    probe = fit(np.eye(2, siglip.dim), [0, 1], ["x", "y"], fingerprint=siglip.fingerprint)
    with pytest.raises(InputError, match="tells apart x, y"):
        _score(folders, siglip, cache, train=None, probe=probe)


def test_a_probe_may_list_its_classes_in_any_order(
    scores: Scores, folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    probe = scores.judge.probe
    assert probe is not None
    turned = dataclasses.replace(
        probe, classes=probe.classes[::-1], weight=probe.weight[::-1], bias=probe.bias[::-1]
    )
    found = _score(folders, siglip, cache, train=None, probe=turned)
    pd.testing.assert_frame_equal(found.rows, scores.rows)


def test_only_the_pinned_evaluator_in_float32_with_a_training_split_is_cas_v1(
    scores: Scores,
) -> None:
    class Pinned:
        name = "google/siglip-so400m-patch14-384"
        revision = "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"
        dtype, text_policy = "float32", "truncate"
        files = dict(next(one for one in list_encoders() if one.alias == "siglip").sha256)  # noqa: RUF012

    def version(**changes: object) -> str:
        encoder = type("Encoder", (Pinned,), changes)()
        return protocol.version_of(conditions_of(scores.inputs, encoder, scores.judge))

    assert version() == protocol.VERSION
    assert version(revision="main") == protocol.VERSION  # the content decides, not a commit
    assert version(files={}) == protocol.CUSTOM
    assert version(dtype="bfloat16") == protocol.CUSTOM
    assert version(text_policy="chunk-mean") == protocol.CUSTOM
    assert version(name="someone/else") == protocol.VERSION
    assert version(name="someone/else", files={}) == protocol.CUSTOM


def test_real_images_that_the_probe_was_fitted_on_are_reported(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    found = _score(folders, siglip, cache, train=read_manifest(folders.test))
    assert any("12 of 12 real images are also in the training split" in n for n in found.notes)


def test_files_of_the_training_split_are_checked_before_anything_is_embedded(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache, tmp_path: Path
) -> None:
    train = Path(shutil.copytree(folders.train, tmp_path / "rows with gaps"))
    next(train.glob("*.png")).unlink()
    with pytest.raises(PreflightError, match=r"train .*: no such file") as caught:
        _score(folders, siglip, cache, train=read_manifest(train))
    assert len(caught.value.problems) == 1


def test_select_names_or_picks(folders: Folders) -> None:
    manifest = read_manifest(folders.generated)
    named = select(manifest, "craft", 7)
    assert set(named.rows["method"]) == {"craft"}
    assert set(named.rows["seed"]) == {7}
    mixed = dataclasses.replace(
        manifest, rows=manifest.rows.assign(method=["a", "b"] * 6, seed=pd.array([1, 2] * 6))
    )
    assert len(select(mixed, "a", None)) == 6
    assert len(select(mixed, None, 2)) == 6
    with pytest.raises(InputError, match="no generated image is of method 'a' and seed 2"):
        select(mixed, "a", 2)
    with pytest.raises(InputError, match=r"no generated image is of seed 3\n.*a \(seed 1\), b"):
        select(mixed, None, 3)


def test_summary_derives_from_the_rows(scores: Scores, siglip: Encoder, tmp_path: Path) -> None:
    summary = build_summary(scores, siglip, ["cas", "score"], seconds=1.0)
    write_run(tmp_path, scores.rows, summary, real=scores.real, floor=scores.floor)
    run = read_run(tmp_path)
    (method,) = run.summary["methods"]
    for name in (*protocol.PRIMITIVES, "cas"):
        assert method["mean"][name] == pytest.approx(run.rows[name].mean())
        low, high = method["interval"][name]
        assert low <= method["mean"][name] <= high
    tau = np.quantile(run.real["cas"], 0.25)
    assert run.summary["tau"] == pytest.approx(tau)
    assert method["tail"]["rate"] == pytest.approx((run.rows["cas"] < tau).mean())
