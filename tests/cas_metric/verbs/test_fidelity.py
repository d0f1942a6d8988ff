"""``cas_metric.fidelity`` from image files on."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from tests.support.real_data import real_data
from tests.support.tiny_models import build_dinov2

import cas_metric
from cas_metric.errors import InputError
from cas_metric.manifest.sources import as_manifest
from cas_metric.verbs.features import Running


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(build_dinov2(tmp_path_factory.mktemp("dino") / "tiny-dino"))


def draw(folder, n, shade=120, seed=0, **columns):
    """``n`` noisy squares around a shade, which may be one for each image."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    shades = np.broadcast_to(np.asarray(shade, dtype=float), n) + rng.normal(0, 12, n)
    table = pd.DataFrame({"file_name": [f"{k}.png" for k in range(n)], **columns})
    for name, level in zip(table["file_name"], shades, strict=True):
        noise = rng.normal(level, 25, (32, 32, 3)).clip(0, 255)
        Image.fromarray(noise.astype(np.uint8)).save(folder / name)
    table.to_csv(folder / "metadata.csv", index=False)
    return folder


def compare(tmp_path, generated, real, encoder, **options):
    running = Running(cache=str(tmp_path / "cache"))
    return cas_metric.fidelity(generated, real, encoder=encoder, running=running, **options)


def test_every_method_has_a_row_and_a_verdict(tmp_path, encoder):
    methods = np.repeat(["near", "far"], 30)
    generated = draw(tmp_path / "gen", 60, np.where(methods == "near", 120, 60), method=methods)
    real = draw(tmp_path / "real", 80, seed=1)
    found = compare(tmp_path, generated, real, encoder)
    verdicts = {
        name: one["all"]["test"]["flagged"] for name, one in found.summary["methods"].items()
    }
    assert verdicts == {"far": True, "near": False}
    assert "**farther**" in found.text
    assert found.tables["fidelity"]["method"].tolist() == ["far", "near"]
    assert found.summary["encoder"]["raw"]
    alone = compare(tmp_path, generated, real, encoder, method="near").summary
    assert alone["all"]["n_generated"] == 30
    assert alone["floor"]["n_real"] == 30


def test_a_reference_of_two_sites_is_flagged(tmp_path, encoder):
    site = np.tile(["north", "south"], 45)
    shade = np.where(site == "north", 100, 150)
    real = draw(tmp_path / "real", 90, shade, seed=2, site=site)
    generated = draw(tmp_path / "gen", 40, 125, seed=3)
    found = compare(tmp_path, generated, real, encoder)
    assert any("site = north" in warning for warning in found.summary["warnings"])
    assert "**Warning.** the real images are not one population" in found.text


def test_groups_are_compared_each_for_itself_with_those_of_the_references(tmp_path, encoder):
    sex = np.tile(["f", "m"], 40)
    real = draw(tmp_path / "real", 80, 120, seed=4, id=[f"r{k}" for k in range(80)], sex=sex)
    generated = draw(
        tmp_path / "gen",
        80,
        np.where(sex == "m", 70, 120),
        seed=5,
        reference=[f"r{k}" for k in range(80)],
    )
    scopes = compare(tmp_path, generated, real, encoder, by=["sex"]).summary["by_class"]
    flagged = {name: scopes[name]["test"]["flagged"] for name in ("sex = f", "sex = m")}
    assert flagged == {"sex = f": False, "sex = m": True}
    with pytest.raises(InputError, match="no column 'age'"):
        compare(tmp_path, generated, real, encoder, by=["age"])


def test_labels_of_other_case_and_groups_of_equal_ids_are_found(tmp_path, encoder):
    label, sex = np.tile(["Mass", "Normal"], 12), np.repeat(["f", "m"], 12)
    real = draw(tmp_path / "real", 24, seed=8, label=label, sex=sex)
    lower = [one.lower() for one in label]
    generated = draw(tmp_path / "gen", 24, seed=9, label=lower)
    found = compare(tmp_path, generated, real, encoder, by=["sex"])
    assert set(found.summary["by_class"]) == {"Mass", "Normal", "sex = f", "sex = m"}
    assert any("differ in case only" in one for one in found.warnings)


def test_copies_of_training_images_show(tmp_path, encoder):
    train = draw(tmp_path / "train", 40, seed=6)
    real = draw(tmp_path / "real", 40, seed=7)
    copying = compare(tmp_path, train, real, encoder, train=train).summary["copying"]
    assert copying["train"]["authenticity"] == 0.0
    assert copying["train"]["c_t"] < -3
    assert copying["real"]["authenticity"] > 20


def test_real_photographs_are_left_alone_and_changed_ones_found(tmp_path):
    """Nevi held out of the training split of ISIC 2017, as they are and changed in three ways."""
    source = real_data("isic2017")
    table = pd.read_csv(source / "metadata.csv", dtype=str)
    train = table[table["split"] == "train"]
    nevi = train[train["label"] == "Nevus"].sample(360, random_state=0)
    held_out, reference = nevi.iloc[:90], nevi.iloc[90:]
    changes = {
        "unchanged": lambda image: image,
        "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(8)),
        "recoloured": lambda image: Image.merge("RGB", image.split()[::-1]),
    }
    folder = tmp_path / "gen"
    folder.mkdir()
    rows = []
    for method, change in changes.items():
        for name in held_out["file_name"]:
            target = f"{method}-{name.rpartition('/')[2]}"
            change(Image.open(source / name).convert("RGB")).save(folder / target)
            rows.append({"file_name": target, "method": method, "label": "Nevus"})
    melanoma = train[train["label"] == "Melanoma"].sample(90, random_state=0)
    for name in melanoma["file_name"]:
        target = f"swapped-{name.rpartition('/')[2]}"
        Image.open(source / name).convert("RGB").save(folder / target)
        rows.append({"file_name": target, "method": "swapped", "label": "Nevus"})
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    real = reference.drop(columns="split").rename(columns={"file_name": "image"})
    manifest = as_manifest(real, root=source)
    methods = compare(tmp_path, folder, manifest, "phantom-siglip").summary["methods"]
    flagged = {name: one["all"]["test"]["flagged"] for name, one in methods.items()}
    assert flagged == {"unchanged": False, "blurred": True, "recoloured": True, "swapped": True}


def test_classes_without_a_row_are_named(tmp_path, encoder):
    real = draw(tmp_path / "real", 30, seed=8, label=["Mass"] * 26 + ["Normal"] * 4)
    generated = draw(tmp_path / "gen", 20, seed=9, label=["Mass", "Normal"] * 10)
    warnings = compare(tmp_path, generated, real, encoder).summary["warnings"]
    assert any("Normal of gen (10 generated, 4 real)" in one for one in warnings)
    other = draw(tmp_path / "other", 20, seed=9, label=["x", "y"] * 10)
    warnings = compare(tmp_path, other, real, encoder).summary["warnings"]
    assert any("share no class (x, y; and Mass, Normal)" in one for one in warnings)
    assert not any("rows of the classes" in one for one in warnings)
