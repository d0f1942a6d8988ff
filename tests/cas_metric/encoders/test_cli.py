"""``cas encoders`` as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support import tiny_encoders
from typer.testing import CliRunner

from cas_metric.cli.encoders import app
from cas_metric.errors import CasError, InputError

runner = CliRunner()


def run(*words: str) -> str:
    result = runner.invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_listing_says_what_a_user_must_know_before_loading() -> None:
    text = run()
    for part in ("siglip", "medsiglip", "dinov2", "CC-BY-NC-4.0", "GB", "evaluator"):
        assert part in text
    rows = {row["alias"]: row for row in json.loads(run("--json"))}
    assert rows["siglip"]["token_limit"] == 64
    assert rows["metaclip2"]["token_limit"] == 77
    assert rows["dinov2"]["token_limit"] == 0
    assert rows["medsiglip"]["gated"]


def test_the_listing_has_a_name_and_keeps_every_hub_id_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert run("list") == run()
    assert json.loads(run("list", "--json")) == json.loads(run("--json"))
    assert run("--json", "list") == run("--json")
    lines = [line.strip() for line in run("list").splitlines()]
    for row in json.loads(run("list", "--json")):
        assert row["embedded"] or row["hub_id"] in lines


def test_convert_writes_a_directory_that_loads(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    source = tiny_encoders.build_timm(tmp_path / "source", "uni", "pytorch_model.bin")
    words = ["convert", str(source), "--to", str(tmp_path / "to")]
    done = json.loads(run(*words, "--json"))
    assert (tmp_path / "to" / done["weights"]).is_file()
    assert json.loads(run("check", str(tmp_path / "to"), "--device", "cpu", "--json"))["dim"] == 36
    with pytest.raises(InputError, match="exists"):
        run(*words)


def test_convert_says_what_the_weights_lack(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    source = tiny_encoders.build_timm(tmp_path / "source", "uni", "pytorch_model.bin")
    words = [str(source / "pytorch_model.bin"), "--to", str(tmp_path / "to")]
    lines = dict(line.split(maxsplit=1) for line in run("convert", *words).splitlines())
    assert lines["missing"] == "config.json, preprocessor_config.json"
    assert lines["dropped"] == "none"


def test_check_reports_dimensions_difference_and_speed(
    models: dict[str, Path], tmp_path: Path
) -> None:
    words = ["check", str(models["siglip"]), "--device", "cpu", "--batch-size", "2"]
    result = json.loads(run(*words, "--out", str(tmp_path), "--json"))
    assert json.loads((tmp_path / "encoder_check.json").read_text())["dim"] == result["dim"] == 32
    assert (result["token_limit"], result["image_size"], result["revision"]) == (64, 32, "local")
    assert len(result["fingerprint"]) == 64
    assert 0 < result["preprocessing_difference"]["max"] < 0.03
    assert result["preprocessing_difference"]["cosine"] > 0.999
    assert result["images_per_second"] > 0
    assert result["preprocessing"]["interpolation"] == "bicubic"
    assert "cosine_change_from_float32" not in result
    text = run(*words)
    assert "fingerprint" in text
    assert "images per second" in text


@pytest.mark.parametrize(("family", "keys"), [("clip", {"image", "text"}), ("dinov2", {"image"})])
def test_check_reports_what_a_lower_precision_changes(
    family: str, keys: set[str], models: dict[str, Path]
) -> None:
    words = ["check", str(models[family]), "--device", "cpu", "--dtype", "bfloat16", "--json"]
    change = json.loads(run(*words))["cosine_change_from_float32"]
    assert change.keys() == keys
    assert all(0 < value < 0.02 for value in change.values())


def test_tokens_shows_what_the_model_sees(models: dict[str, Path]) -> None:
    text = run("tokens", str(models["siglip"]), "Chest, RADIOGRAPH!")
    assert text.splitlines() == ["Ġchest Ġradiograph </s>", "3 tokens of at most 64"]
    long = run("tokens", str(models["siglip"]), "plaque " * 70)
    assert "71 tokens of at most 64; the last 7 are not seen" in long
    row = json.loads(run("tokens", str(models["siglip"]), "plaque " * 70, "--json"))
    assert (row["count"], row["limit"], row["truncated"]) == (71, 64, True)
    assert len(row["tokens"]) == 64


def test_checklists_lists_the_cut_ones(models: dict[str, Path], tmp_path: Path) -> None:
    pack = tmp_path / "tiny.yaml"
    long = "plaque " * 70
    pack.write_text(
        "name: tiny\ntitle: Tiny\nmodality: photograph\nsource: none\nlicense: CC0-1.0\n"
        "classes:\n"
        "  - name: Melanoma\n    checklist: {Color: brown}\n"
        f"  - name: Eczema\n    checklist: {{Color: red, Texture: {long}}}\n"
    )
    words = ["checklists", str(models["siglip"]), "--domain", str(pack)]
    (report,) = json.loads(run(*words, "--json", "--out", str(tmp_path)))
    assert report["cut"] == ["Eczema"]
    assert report["checklists"] == 2
    assert report["tokens"]["Melanoma"] < 64 < report["tokens"]["Eczema"]
    assert (tmp_path / "encoder_checklists.json").is_file()
    assert "tiny: 1 of 2 checklists are cut at 64 tokens" in run(*words)


def test_an_image_only_encoder_has_no_tokens(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="images only"):
        runner.invoke(app, ["tokens", str(models["dinov2"]), "x"], catch_exceptions=False)


def test_results_that_cannot_be_written_end_in_a_message(
    models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = [
        "check",
        str(models["siglip"]),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "file/below"),
    ]
    with pytest.raises(CasError, match="cannot be written"):
        run(*words)
