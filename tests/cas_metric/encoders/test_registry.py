"""Names of encoders: aliases, hub ids, directories, open_clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from cas_metric.encoders import list_encoders, load_encoder
from cas_metric.encoders.registry import resolve
from cas_metric.errors import InputError, ModelUnavailable


def test_aliases_are_pinned_to_commits() -> None:
    named = [info for info in list_encoders() if not info.embedded]
    aliases = {info.alias for info in named}
    assert {"siglip", "siglip2", "medsiglip", "metaclip2", "clip", "dinov2"} <= aliases
    # No commit of these is known from two independent sources: their branch is loaded, and what was
    # loaded stands in the results.
    unpinned = {info.alias for info in named if info.revision == "main"}
    assert unpinned == {"monet", "dermlip", "xraysiglip", "rad-dino-maira-2"}
    for info in named:
        if info.alias not in unpinned:
            assert len(info.revision) == 40
            assert int(info.revision, 16)
        source = resolve(info.alias)
        assert (source.hub_id, source.revision) == (info.hub_id, info.revision)
        # The hub id is pinned like its alias: one repository must not give two encoders.
        assert resolve(info.hub_id) == source
        assert resolve(info.alias, "main").revision == "main"


def test_a_hub_id_is_taken_as_model_cards_print_it() -> None:
    for prefix in ("hf-hub:", "hf_hub:"):
        assert resolve(f"{prefix}owner/name") == resolve("owner/name")
        assert resolve(f"{prefix}facebook/dinov2-base") == resolve("dinov2")


@pytest.mark.parametrize("spelling", ["open_clip:", "open-clip:", "openclip/"])
def test_another_spelling_of_openclip_is_named(spelling: str) -> None:
    with pytest.raises(InputError, match="did you mean 'openclip:ViT-B-32/laion2b_s34b_b79k'"):
        resolve(f"{spelling}ViT-B-32/laion2b_s34b_b79k")


def test_a_misspelt_alias_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'medsiglip'"):
        resolve("medsigli")


def test_a_path_that_does_not_exist_is_no_hub_id() -> None:
    for spec in ("./models/siglip", "/nowhere/siglip", "~/nowhere/siglip"):
        with pytest.raises(ModelUnavailable, match="no such directory"):
            resolve(spec)
    assert resolve("owner/name").hub_id == "owner/name"


def test_a_file_of_weights_is_no_directory(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["clip"].parent)  # a relative path looks like a hub id
    for spec in ("clip/model.safetensors", models["clip"] / "model.safetensors"):
        with pytest.raises(InputError, match=r"is a file.*\n.*directory that holds it"):
            resolve(spec)


def test_openclip_specs() -> None:
    pytest.importorskip("open_clip")
    source = resolve("openclip:ViT-B-32/laion2b_s34b_b79k")
    assert source.hub_id == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    with pytest.raises(InputError, match=r"tags of ViT-B-32: .*laion2b_s34b_b79k"):
        resolve("openclip:ViT-B-32/laion9b")
    with pytest.raises(InputError, match="no architecture 'ViT-Z'"):
        load_encoder("openclip:ViT-Z@weights.safetensors")
    with pytest.raises(InputError, match="only safetensors"):
        load_encoder("openclip:ViT-B-32@weights.pt")
    with pytest.raises(ModelUnavailable, match="no such file"):
        load_encoder("openclip:ViT-B-32@weights.safetensors")
    # Published ViT-L-14 weights are preprocessed in two ways; a bare file does not say in which.
    from cas_metric.encoders.families.openclip import _published_preprocessing

    with pytest.raises(InputError, match="in different ways"):
        _published_preprocessing(__import__("open_clip"), "ViT-L-14")


def test_openclip_pickles_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match="pickled weights are not loaded"):
        load_encoder(tmp_path, device="cpu")
