import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from cas_metric.cli.datasets_phantom import phantom
from cas_metric.errors import CasError, InputError
from cas_metric.manifest import pair, read_manifest
from cas_metric.phantoms import DOMAINS, renderer
from cas_metric.phantoms.dataset import (
    KINDS,
    PAPER_COUNTS,
    class_counts,
    paper_size,
    plant_copies,
    read_specs,
    write_generated_set,
    write_phantom_dataset,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset("chexpert", out, train=24, test=16, seed=3)
    return out


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_papers_totals_give_the_papers_counts(domain):
    assert set(PAPER_COUNTS[domain]) == set(renderer(domain).classes)
    for column, split in enumerate(("train", "test")):
        counts = class_counts(domain, paper_size(domain, split), split)
        assert counts == {label: pair[column] for label, pair in PAPER_COUNTS[domain].items()}


def test_totals_of_tables_19_to_22():
    sizes = {d: (paper_size(d, "train"), paper_size(d, "test")) for d in DOMAINS}
    assert sizes == {
        "phantom-fitzpatrick17k": (3091, 3100),
        "phantom-chexpert": (495, 495),
        "phantom-breakhis": (1040, 1041),
        "phantom-origa": (454, 196),
    }


@settings(max_examples=80, deadline=None)
@given(
    domain=st.sampled_from(DOMAINS),
    split=st.sampled_from(["train", "test"]),
    total=st.integers(20, 5000),
    balanced=st.booleans(),
)
def test_counts_add_up_and_keep_the_proportions(domain, split, total, balanced):
    counts = class_counts(domain, total, split, balanced=balanced)
    assert sum(counts.values()) == total
    assert min(counts.values()) >= 1
    column = ("train", "test").index(split)
    share = {c: 1 if balanced else n[column] for c, n in PAPER_COUNTS[domain].items()}
    for label, count in counts.items():
        exact = total * share[label] / sum(share.values())
        assert count == 1 or abs(count - exact) <= 1 + 1e-9


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="4 classes"):
        write_phantom_dataset("chexpert", tmp_path / "out", train=8, test=3)
    assert not (tmp_path / "out").exists()


# -- splits ---------------------------------------------------------------------------------------


def test_a_split_is_complete(dataset):
    with (dataset / "test" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file_name", "id", "label", "prompt", "patient"]
    assert len(rows) == 16
    assert len({row["prompt"] for row in rows}) > 12
    for row in rows:
        image = Image.open(dataset / "test" / row["file_name"])
        assert (image.size, image.mode) == ((64, 64), "RGB")
    specs = read_specs(dataset / "test")
    assert [row["id"] for row in rows] == list(specs)
    artist = renderer("chexpert")
    for row in rows[:4]:
        np.testing.assert_array_equal(
            np.asarray(Image.open(dataset / "test" / row["file_name"])),
            artist.render(specs[row["id"]]),
        )
        assert artist.describe(specs[row["id"]]) == row["prompt"]


def test_the_config_completes_the_manifest(dataset):
    manifest = read_manifest(dataset / "test")
    assert manifest.config.domain == "phantom-chexpert"
    assert manifest.config.split == "test"
    assert manifest.config.train.samefile(dataset / "train")
    assert manifest.config.provenance["embedded"] is True
    assert manifest.config.provenance["seed"] == 3
    assert "train: ../train" in (dataset / "test" / "cas.yaml").read_text()


def test_splits_share_nothing(dataset):
    train, test = read_manifest(dataset / "train").rows, read_manifest(dataset / "test").rows
    assert not set(train["patient"]) & set(test["patient"])
    digests = [set(content(dataset / split / "images").values()) for split in ("train", "test")]
    assert not digests[0] & digests[1]


def test_the_same_arguments_give_the_same_files_and_another_seed_others(dataset, tmp_path):
    write_phantom_dataset("phantom-chexpert", tmp_path / "again", train=24, test=16, seed=3)
    write_phantom_dataset("chexpert", tmp_path / "other", train=24, test=16, seed=4)
    assert content(tmp_path / "again") == content(dataset)
    images = content(tmp_path / "other" / "test" / "images")
    assert not set(images.values()) & set(content(dataset / "test" / "images").values())


def test_a_complete_folder_is_kept_and_a_foreign_one_refused(dataset, tmp_path):
    calls = []
    write_phantom_dataset(
        "chexpert", dataset, train=24, test=16, seed=3, advance=lambda: calls.append(1)
    )
    assert calls == []
    with pytest.raises(InputError, match="exists"):
        write_phantom_dataset("chexpert", dataset, train=24, test=16, seed=5)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        write_phantom_dataset("chexpert", tmp_path, train=8, test=8)
    assert (tmp_path / "train" / "thesis.txt").read_text() == "mine"


def test_an_interrupted_folder_is_not_there_and_the_next_run_completes_it(dataset, tmp_path):
    def fail_late(left=[30]):  # noqa: B006 -- counts down over calls
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantom_dataset("chexpert", tmp_path, train=24, test=16, seed=3, advance=fail_late)
    assert (tmp_path / "train").is_dir()
    assert not (tmp_path / "test").exists()
    write_phantom_dataset("chexpert", tmp_path, train=24, test=16, seed=3)
    assert content(tmp_path) == content(dataset)


# -- generated sets -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("generated")
    for kind in KINDS:
        write_generated_set("chexpert", dataset / "test", out / kind, kind=kind, seed=1)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_has_one_image_with_its_prompt(dataset, generated, kind):
    real, made = read_manifest(dataset / "test"), read_manifest(generated / kind)
    joined = pair(made, real)
    assert len(joined) == len(real)
    assert list(joined["reference_id"]) == list(real.rows["id"])
    assert list(joined["prompt"]) == list(real.rows["prompt"])
    assert list(joined["label"]) == list(real.rows["label"])
    assert set(joined["method"]) == {kind}
    assert set(joined["seed"]) == {1}


def test_faithful_images_show_the_findings_of_their_cases(dataset, generated):
    real = list(read_specs(dataset / "test").values())
    made = list(read_specs(generated / "faithful").values())
    assert [spec.finding for spec in made] == [spec.finding for spec in real]
    assert all(a.nuisance != b.nuisance and a.seed != b.seed for a, b in zip(made, real))  # noqa: B905


def test_wrong_images_show_other_findings(generated, dataset):
    real = list(read_specs(dataset / "test").values())
    made = list(read_specs(generated / "wrong").values())
    assert all(a.finding != b.finding for a, b in zip(made, real, strict=True))
    other = np.mean([a.label != b.label for a, b in zip(made, real, strict=True)])
    assert 0.4 < other < 1


def test_a_generated_set_needs_phantoms(dataset, tmp_path):
    with pytest.raises(InputError, match="faithful, degraded, wrong"):
        write_generated_set("chexpert", dataset / "test", tmp_path / "x", kind="perfect")
    with pytest.raises(InputError, match=r"specs\.jsonl"):
        write_generated_set("chexpert", tmp_path, tmp_path / "x", kind="wrong")
    with pytest.raises(InputError, match="not of phantom-origa"):
        write_generated_set("origa", dataset / "test", tmp_path / "x", kind="wrong")


def test_planted_copies_are_training_images_of_the_same_class(dataset, tmp_path):
    folder = write_generated_set("chexpert", dataset / "test", tmp_path / "g", kind="faithful")
    before = content(folder / "images")
    copied = plant_copies(folder, dataset / "train", share=0.25, seed=2)
    after = content(folder / "images")
    changed = {name.removesuffix(".png") for name in after if after[name] != before[name]}
    assert set(copied) == changed
    assert len(copied) == 4
    truth = [json.loads(line) for line in (folder / "specs.jsonl").read_text().splitlines()]
    sources = read_specs(dataset / "train")
    for row in truth:
        if row["id"] in copied:
            source = row["copy_of"]
            assert sources[source].label == row["requested"]
            original = dataset / "train" / "images" / f"{source}.png"
            assert after[f"{row['id']}.png"] == original.read_bytes()


# -- command line ---------------------------------------------------------------------------------


def run(*arguments):
    app = Typer()
    app.command("phantom")(phantom)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_both_splits(tmp_path):
    result = run("origa", tmp_path / "o", "--train", 6, "--test", 4, "--balanced", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["domain"] == "phantom-origa"
    assert answer["counts"]["train"] == {"Normal": 3, "Glaucoma": 3}
    assert len(read_manifest(answer["splits"]["test"])) == 4


def test_the_command_takes_a_size(tmp_path):
    result = run("origa", tmp_path, "--train", 2, "--test", 2, "--size", 40)
    assert result.exit_code == 0, result.output
    assert "2 images" in result.stdout
    assert Image.open(tmp_path / "test" / "images" / "test-00000.png").size == (40, 40)


def test_a_generated_set_of_other_phantoms_is_not_kept(dataset, tmp_path):
    other = write_phantom_dataset("chexpert", tmp_path / "other", train=24, test=16, seed=4)
    made = write_generated_set("chexpert", dataset / "test", tmp_path / "gen", kind="faithful")
    assert made == write_generated_set("chexpert", dataset / "test", made, kind="faithful")
    with pytest.raises(InputError, match="prompts of other phantoms"):
        write_generated_set("chexpert", other["test"], made, kind="faithful")


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CasError, match="cannot be written"):
        write_phantom_dataset("chexpert", tmp_path / "file", train=4, test=4, size=16)


def test_phantoms_of_another_seed_are_refused_by_what_differs(tmp_path):
    write_phantom_dataset("origa", tmp_path, train=2, test=2, seed=0)
    with pytest.raises(InputError, match=r"something else: seed 0 there, 1 here"):
        write_phantom_dataset("origa", tmp_path, train=2, test=2, seed=1)
