"""Images to be judged: names, scores and refusals of every kind of source."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.support.containers import http_server
from tests.support.runs import score_rows

from cas_metric.errors import InputError, PreflightError
from cas_metric.mllm.sources import draw_cases, read_images, split_source
from cas_metric.runs.folder import write_run

LABELS = ("Pneumonia", "no finding")


def folder(path, n=4, labels=LABELS, **columns):
    """A folder of ``n`` images with metadata; ``columns`` are added to it."""
    (path / "images").mkdir(parents=True)
    rows = []
    for k in range(n):
        Image.fromarray(np.full((8, 8, 3), k, np.uint8)).save(path / f"images/{k}.png")
        rows.append(
            {"file_name": f"images/{k}.png", "id": f"{path.name}-{k}", "reference": f"case-{k}",
             "label": labels[k % 2], **columns}
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(path / "metadata.csv", index=False)
    return path


def test_methods_are_named_by_the_source_the_manifest_or_the_folder(tmp_path):
    plain, own = folder(tmp_path / "plain"), folder(tmp_path / "own", method="LoRA")
    images = read_images([str(plain), str(own), f"CRAFT={own}"], domain="chexpert")
    assert images.methods == ("plain", "LoRA", "CRAFT")
    assert set(images.table["label"]) == {"Pneumonia", "No Finding"}
    assert set(images.table["case"]) == {f"case-{k}" for k in range(4)}
    assert images.table["ccs"].isna().all()


def test_a_name_picks_the_method_of_a_manifest_that_holds_several(tmp_path):
    both = folder(tmp_path / "both")
    table = pd.read_csv(both / "metadata.csv").assign(method=["a", "a", "b", "b"])
    table.to_csv(both / "metadata.csv", index=False)
    assert read_images([str(both)], domain="chexpert").methods == ("a", "b")
    assert len(read_images([f"b={both}"], domain="chexpert").table) == 2
    with pytest.raises(InputError, match="no generated image is of method 'c'"):
        read_images([f"c={both}"], domain="chexpert")


def test_a_run_brings_its_scores_and_finds_its_images(tmp_path):
    images = folder(tmp_path / "gen")
    rows = score_rows("m", n=4)
    rows["image"] = [f"images/{k}.png" for k in range(4)]
    rows["label"] = [LABELS[k % 2] for k in range(4)]
    summary = {
        "protocol": "cas-v1", "encoder": {}, "methods": [], "domain": "chexpert",
        "provenance": {"inputs": {"generated": {"root": str(images)}}},
    }  # fmt: skip
    run = write_run(tmp_path / "run", rows, summary)
    found = read_images([f"CRAFT={run}"])
    assert found.domain.name == "chexpert"
    assert found.methods == ("CRAFT",)
    np.testing.assert_allclose(found.table["ccs"].astype(float), rows["ccs"])
    assert all(path.is_file() for path in found.table["path"])
    rows.loc[0, "image"] = "../../etc/passwd"
    with pytest.raises(InputError, match="leads out of"):
        read_images([str(write_run(tmp_path / "run", rows, summary))])


def test_everything_that_is_wrong_is_listed_before_anything_is_asked(tmp_path):
    bad = folder(tmp_path / "bad", labels=("Pneumonia", "Measles"))
    with pytest.raises(PreflightError, match="label 'Measles' is no class"):
        read_images([str(bad)], domain="chexpert")
    good = folder(tmp_path / "good")
    with pytest.raises(PreflightError, match=r"method 'x' has the image 'good-0' twice"):
        read_images([f"x={good}", f"x={good}"], domain="chexpert")
    with pytest.raises(InputError, match="no source names its domain"):
        read_images([str(good)])
    for image in (good / "images").iterdir():
        image.unlink()
    with pytest.raises(InputError, match="none of the 4 images exists"):
        read_images([str(good)], domain="chexpert")


def test_sources_of_different_domains_are_not_mixed(tmp_path):
    for name in ("chexpert", "origa"):
        (folder(tmp_path / name) / "cas.yaml").write_text(f"domain: {name}\n")
    with pytest.raises(InputError, match="different domains"):
        read_images([str(tmp_path / "chexpert"), str(tmp_path / "origa")])


def test_an_equals_sign_in_a_path_that_exists_names_nothing(tmp_path):
    path = tmp_path / "k=3"
    path.mkdir()
    assert split_source(str(path)) == (None, path)
    assert split_source("TI+LoRA=gen/a=b")[0] == "TI+LoRA"
    for text in ("=gen", "a="):
        with pytest.raises(InputError, match="names no method or no path"):
            split_source(text)


def test_drawn_cases_are_the_same_for_every_method(tmp_path):
    one, two = folder(tmp_path / "one", n=9), folder(tmp_path / "two", n=9)
    images = read_images([str(one), str(two)], domain="chexpert")
    drawn = draw_cases(images, 4, 0)
    by_method = drawn.table.groupby("method")["case"].apply(set)
    assert by_method["one"] == by_method["two"]
    assert len(by_method["one"]) == 4
    assert "4 of 9 cases were drawn" in drawn.notes[-1]
    assert draw_cases(images, None, 0) is images


def test_sources_on_the_network_are_told_without_secrets_and_not_read_offline(tmp_path):
    pytest.importorskip("aiohttp")
    for source in ("A=https://me:word@localhost:9/gen.tar", "https://localhost:9/gen"):
        with pytest.raises(InputError, match="--offline uses none") as caught:
            read_images([source], domain="chexpert", offline=True)
        assert "word" not in str(caught.value)
    (tmp_path / "gen").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "gen" / "1.png")
    (tmp_path / "gen" / "metadata.csv").write_text("file_name,label\n1.png,Pneumonia\n")
    with http_server(tmp_path) as url:
        signed = f"A={url}/gen?sig=1"
        found = read_images([signed], domain="chexpert")
    assert found.inputs == {f"A={url}/gen": {"root": f"{url}/gen"}}
