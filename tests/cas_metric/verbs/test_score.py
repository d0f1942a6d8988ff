"""``cas_metric.score`` as a notebook calls it, and what it never does in silence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.support.clinical_crops import (
    Folders,
    cas,
    read_metadata,
    write_folders,
    write_metadata,
)
from tests.support.real_data import real_data

import cas_metric
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import Encoder
from cas_metric.errors import InputError
from cas_metric.files import to_json
from cas_metric.scoring.probe import Probe, fit


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def _score(folders: Folders, encoder: Encoder | Path, **options: object) -> cas_metric.Run:
    return cas_metric.score(folders.generated, folders.test, encoder=encoder, **options)


# -- the call -----------------------------------------------------------------------------------


def test_the_call_gives_the_rows_of_the_verb_byte_for_byte(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    run = _score(folders, siglip_directory)
    done = cas("score", folders.generated, folders.test, "--encoder", siglip_directory)
    assert done.code == 0, done.err
    saved = run.save(tmp_path / "mine")
    for name in ("per_image", "real_per_image", "floor_per_image"):
        for kind in ("csv", "parquet"):
            theirs = tmp_path / "runs" / "generated" / f"{name}.{kind}"
            assert (saved / f"{name}.{kind}").read_bytes() == theirs.read_bytes()
    verb = json.loads((tmp_path / "runs" / "generated" / "summary.json").read_text())
    assert verb["methods"] == json.loads((saved / "summary.json").read_text())["methods"]
    assert verb["provenance"]["inputs"] == run.summary["provenance"]["inputs"]


def test_a_run_shows_what_a_notebook_asks_for(
    folders: Folders, siglip: Encoder, tmp_path: Path
) -> None:
    run = _score(folders, siglip, out=tmp_path / "run")
    assert run.path == tmp_path / "run"
    assert len(run.rows) == len(run.real) == len(run.floor) == 12
    worst = run.worst(3)
    assert worst["cas"].tolist() == sorted(run.rows["cas"])[:3]
    assert run.tail()["method"].tolist() == ["generated"]
    assert run.tail()["rate"].tolist() == [run.summary["methods"][0]["tail"]["rate"]]
    assert run.plot().axes
    assert "<table>" in run._repr_html_()
    assert "Real" in run._repr_html_()
    assert run.report(tmp_path / "page.html").read_text() == run.to_html()
    again = cas_metric.Run.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.rows, run.rows)
    assert again.summary["methods"] == json.loads(to_json(run.summary["methods"]))


def test_frames_manifests_and_open_stores_do_as_well(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    expected = _score(folders, siglip, cache=cache)
    frame = pd.DataFrame(read_metadata(folders.generated)).rename(columns={"file_name": "image"})
    frame["image"] = [str(folders.generated / name) for name in frame["image"]]
    domain = cas_metric.load_domain(folders.domain)
    run = cas_metric.score(
        frame,
        cas_metric.read_manifest(folders.test),
        encoder=siglip,
        domain=domain,
        train=cas_metric.read_manifest(folders.train),
        method="generated",
        cache=cache,
    )
    scores = ["id", "vdc", "ccs", "dd", "sfs", "cas"]
    pd.testing.assert_frame_equal(run.rows[scores], expected.rows[scores])
    assert len(cache)  # still open


def test_a_warm_run_imports_no_torch(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    _score(folders, siglip_directory, out=tmp_path / "cold")
    script = (
        "import sys, cas_metric\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
        "run = cas_metric.score(*sys.argv[1:3], encoder=sys.argv[3], out=sys.argv[4])\n"
        "assert run.summary['timing']['images_embedded'] == 0\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    arguments = (folders.generated, folders.test, siglip_directory, tmp_path / "warm")
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name in ("per_image.csv", "real_per_image.parquet", "probe.safetensors"):
        assert (tmp_path / "warm" / name).read_bytes() == (tmp_path / "cold" / name).read_bytes()


# -- nothing of a user's is lost ----------------------------------------------------------------


def test_runs_of_other_images_are_not_replaced(
    folders: Folders, siglip_directory: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(folders.generated, tmp_path / "other" / "generated"))
    options = ("--encoder", siglip_directory)
    for _ in range(2):  # the second run of the same images takes the place of the first
        assert cas("score", folders.generated, folders.test, *options).code == 0
    assert cas("score", other, folders.test, *options).code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "generated",
        "generated-2",
    ]
    refused = cas("score", other, folders.test, *options, "--out", "runs/generated")
    assert refused.code == 2
    assert "holds another run" in refused.err
    for choice in (("--seed", "3"), ("--method", "sketch")):  # nor of another choice among them
        assert cas("score", folders.generated, folders.test, *options, *choice).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_a_probe_in_the_folder_of_the_run_survives_it(
    folders: Folders, siglip: Encoder, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    _score(folders, siglip, out=out)
    content = (out / "probe.safetensors").read_bytes()
    run = _score(folders, siglip, probe=out / "probe.safetensors", out=out)
    assert (out / "probe.safetensors").read_bytes() == content
    assert run.summary["probe"]["kind"] == "train"


def test_a_place_that_cannot_hold_the_run_is_known_before_anything_is_embedded(
    folders: Folders, siglip: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    table = tmp_path / "per_image.csv"
    rows = [
        {**row, "image": str(folders.generated / row["file_name"])}
        for row in read_metadata(folders.generated)
    ]
    pd.DataFrame(rows).drop(columns="file_name").to_csv(table, index=False)
    for generated, out, message in (
        (folders.generated, tmp_path / "file" / "run", "cannot be written to"),
        (table, tmp_path, "is an input, and the run would replace it"),
    ):
        with pytest.raises(InputError, match=message):
            cas_metric.score(
                generated,
                folders.test,
                encoder=siglip,
                out=out,
                allowed_roots=[folders.root],
                cache=tmp_path / "store",
            )
    assert not (tmp_path / "store").exists()


# -- every departure is named -------------------------------------------------------------------


def test_a_training_split_without_a_class_is_refused_or_named(
    siglip: Encoder, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    three = folders.root / "domain.yaml"
    three.write_text(three.read_text() + "  - name: other\n    checklist: {Location: anywhere}\n")
    rows = read_metadata(folders.test)
    rows[0]["label"] = "other"
    write_metadata(folders.test, rows)
    generated = read_metadata(folders.generated)
    generated[0]["label"] = "other"
    write_metadata(folders.generated, generated)
    with pytest.raises(InputError, match="no image of other"):
        _score(folders, siglip)
    run = _score(folders, siglip, partial_train=True)
    assert run.summary["protocol"] == "custom"
    assert any("probe: train; without other" in line for line in run.summary["departures"])


def test_a_probe_is_protocol_only_if_it_was_fitted_as_the_protocol_says(
    folders: Folders, siglip: Encoder
) -> None:
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(20, siglip.dim)), np.arange(20) % 2
    classes = ("fundus", "histology")
    other = fit(vectors, labels, classes, fingerprint=siglip.fingerprint, seed=7)
    foreign = Probe(classes, siglip.fingerprint, other.weight, other.bias)
    for probe, departure in ((other, "seed 7"), (foreign, "of unknown making")):
        run = _score(folders, siglip, probe=probe)
        assert any(departure in line for line in run.summary["departures"])


def test_without_labels_it_says_so_first_and_gives_the_rest(
    siglip: Encoder, tmp_path: Path
) -> None:
    folders = write_folders(tmp_path / "data")
    for folder in (folders.test, folders.generated):
        rows = [{k: v for k, v in r.items() if k != "label"} for r in read_metadata(folder)]
        write_metadata(folder, rows)
    (folders.test / "cas.yaml").unlink()
    told: list[str] = []
    run = _score(folders, siglip, notify=told.append)
    assert "12 of 12 generated images have no label: no DD and no CCS, and so no CAS" in told
    assert run.rows[["vdc", "sfs"]].notna().all(axis=None)
    assert run.rows[["ccs", "dd", "cas"]].isna().all(axis=None)
    with pytest.raises(InputError, match="no probe can be fitted"):
        _score(folders, siglip, train=folders.test)


def test_what_the_probe_knows_is_told(folders: Folders, siglip: Encoder) -> None:
    def told() -> list[str]:
        warnings = _score(folders, siglip).summary["warnings"]
        return [one.split(":")[0] for one in warnings if "the probe knows" in one]

    assert told() == []
    mine, theirs = (read_metadata(one) for one in (folders.test, folders.train))
    shutil.copyfile(folders.test / mine[0]["file_name"], folders.train / theirs[0]["file_name"])
    for folder, rows in ((folders.test, mine), (folders.train, theirs)):
        write_metadata(folder, [{**r, "patient": "" if k > 1 else "p"} for k, r in enumerate(rows)])
    assert told() == [
        "1 of 12 real images are training images, byte for byte",
        "2 of 12 real images are of patients of the training images",
    ]


def test_unreadable_images_alone_are_failed_rows(siglip: Encoder, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data", a_class=2)
    for folder in (folders.test, folders.generated, folders.train):
        for path in folder.glob("*.png"):
            path.write_bytes(path.read_bytes()[:100])
    (folders.test / "cas.yaml").unlink()
    run = _score(folders, siglip)
    assert (run.rows["status"] == "failed").all()
    assert run.rows["error"].ne("").all()


def test_a_phantom_encoder_on_other_images_is_warned_of_first(folders: Folders) -> None:
    run = _score(folders, "phantom-siglip")
    assert "only ever seen drawings" in run.summary["warnings"][0]
    assert "only ever seen drawings" in run.to_html()
    done = cas("score", folders.generated, folders.test, "--encoder", "phantom-siglip")
    assert "only ever seen drawings" in done.err
    assert "Warning: phantom-siglip has only ever" in done.out


def test_a_part_of_the_cases_is_held_against_these_alone(siglip: Encoder, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.generated)[:5]
    write_metadata(folders.generated, rows)
    for path in folders.generated.glob("*.png"):
        if path.name not in {row["file_name"] for row in rows}:
            path.unlink()
    run = _score(folders, siglip, out=tmp_path / "run")
    method = run.summary["methods"][0]
    assert method["coverage"] == {"cases": 5, "of": 12}
    common = run.real[run.real["image"].isin(run.rows["reference"])]["cas"]
    assert method["tail"]["tau"] == pytest.approx(np.quantile(common, 0.25))
    done = cas("score", folders.generated, folders.test, "--encoder", "phantom-siglip")
    assert "scored for 5 of 12 real cases" in done.out


def test_blank_images_are_noted_counted_and_warned_of(siglip: Encoder, tmp_path: Path) -> None:
    folders = write_folders(tmp_path / "data")
    name = read_metadata(folders.generated)[0]["file_name"]
    Image.new("RGB", (32, 32)).save(folders.generated / name)
    run = _score(folders, siglip)
    noted = run.rows.set_index("image")["note"]
    assert noted[name] == "blank"
    assert (noted.drop(name) != "blank").all()
    assert run.summary["blank"]["blank"] == 1
    assert any("1 of 12 generated images are blank" in line for line in run.summary["warnings"])
    assert "are blank" in run.to_html()


# -- numbers that are none ----------------------------------------------------------------------


class _Overflowing:
    """An encoder whose embedding of one image overflows, as a half-precision one's may."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.fingerprint, self.forwards = "overflowing", 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def embed_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self._encoder.embed_pixels(inputs).clone()
        if not self.forwards:
            found[0] = float("inf")
        self.forwards += 1
        return found


def test_an_embedding_that_is_not_finite_is_a_failed_row_and_not_remembered(
    folders: Folders, siglip: Encoder, cache: EmbeddingCache
) -> None:
    encoder = _Overflowing(siglip)
    run = _score(folders, encoder, cache=cache)
    failed = pd.concat([run.rows, run.real])
    failed = failed[failed["status"] == "failed"]
    reasons = [one["error"] for one in run.summary["failures"]]
    assert reasons == ["tiny-siglip in float32 gives no finite embedding of it"]
    assert len(failed) <= 1  # it may be one of the training split
    again = _score(folders, encoder, cache=cache)  # asked anew, and now it is finite
    assert again.summary["failures"] == []
    assert again.summary["timing"]["images_embedded"] == 1


def test_rows_are_the_same_under_autocast(folders: Folders, siglip: Encoder) -> None:
    plain = _score(folders, siglip, cache="none")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = _score(folders, siglip, cache="none")
    pd.testing.assert_frame_equal(inside.rows, plain.rows)
    assert inside.summary["probe"] == plain.summary["probe"]


# -- the self-test ------------------------------------------------------------------------------


def test_the_self_test_tells_an_encoder_that_knows_from_one_that_does_not(tmp_path: Path) -> None:
    done = cas(
        "datasets", "phantom", "chexpert", tmp_path / "world", "--train", "80", "--test", "80"
    )
    assert done.code == 0, done.err
    real = next(path for path in (tmp_path / "world").rglob("cas.yaml")).parent
    run = cas_metric.score(real, real)
    found = run.summary["self_test"]
    assert set(found) == {"vdc", "ccs", "dd", "sfs"}
    assert not any(one["blind"] for one in found.values())
    assert run.summary["warnings"] == []


def test_on_real_films_the_embedded_encoder_is_not_believed(tmp_path: Path) -> None:
    films = real_data("kermany_cxr")
    table = pd.read_csv(films / "metadata.csv")
    some = table.groupby("label").head(30)
    some = some.assign(image=[f"images/{Path(n).name}" for n in some["file_name"]])
    some[["id", "image", "label"]].to_csv(tmp_path / "films.csv", index=False)
    (tmp_path / "images").symlink_to(films / "images")
    run = cas_metric.score(
        tmp_path / "films.csv",
        tmp_path / "films.csv",
        encoder="phantom-siglip",
        allowed_roots=[films],
    )
    assert "only ever seen drawings" in run.summary["warnings"][0]


# -- groups of patients -------------------------------------------------------------------------


def test_groups_are_those_of_the_partner_and_change_no_score(
    folders: Folders, siglip: Encoder, tmp_path: Path
) -> None:
    plain = _score(folders, siglip)
    rows = read_metadata(folders.test)
    for at, row in enumerate(rows):
        row["sex"] = "fm"[at % 2]
    write_metadata(folders.test, rows)
    run = _score(folders, siglip, by=["sex", "label"], out=tmp_path / "run")
    pd.testing.assert_frame_equal(run.rows.drop(columns="sex"), plain.rows)
    sexes = {row["id"]: row["sex"] for row in rows}
    assert run.rows["sex"].tolist() == [sexes[key] for key in run.rows["id"]]
    groups = pd.DataFrame(run.summary["subgroups"]["methods"]["generated"]["groups"])
    means = run.rows.groupby("sex")["cas"].mean()
    found = groups[groups["attribute"] == "sex"].set_index("group")["cas"]
    assert found.to_dict() == pytest.approx(means.to_dict())
    assert run.summary["subgroups"]["real"]["Real"]["groups"]
    assert "Groups of patients" in run.to_html()
    compared = cas_metric.compare([tmp_path / "run"], by=["sex"])
    again = pd.DataFrame(compared.summary["subgroups"]["generated"]["groups"]).set_index("group")
    assert again["cas"].to_dict() == pytest.approx(means.to_dict())
    assert "| sex | f |" in compared.text


@pytest.mark.parametrize(
    ("name", "words"), [("age", "no column 'age'"), ("cas", "a run has a column of that name")]
)
def test_groups_that_cannot_be_had_are_an_error_before_any_model(
    folders: Folders, name: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        cas_metric.score(folders.generated, folders.test, encoder="no/model", by=[name])


def test_runs_without_the_attribute_say_how_to_get_it(folders: Folders, siglip: Encoder) -> None:
    with pytest.raises(InputError) as raised:
        cas_metric.compare([_score(folders, siglip)], by=["sex"])
    assert "--by sex" in raised.value.fix
