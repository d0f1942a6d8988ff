"""Pickles: tensors come out as they were, and nothing else of a pickle happens."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.support import malicious_pickles, tiny_encoders, tiny_models
from tests.support.malicious_pickles import Hostile
from torch.nn.functional import normalize

from cas_metric.encoders import load_encoder
from cas_metric.encoders.convert import convert
from cas_metric.errors import InputError, ModelUnavailable

#: Reads every file of a folder as :func:`convert` does, behind the same walls, in one process.
READ_ALL = """
import json, sys
from pathlib import Path
from cas_metric.encoders.unpickling import Refused, close_in, leave_network, read_tensors
leave_network()
folder = Path(sys.argv[1])
close_in(folder / "output", 1 << 20)
outcome = {}
for file in map(Path, sys.argv[2:]):
    try:
        outcome[file.name] = f"read {len(read_tensors(file)[0])}"
    except Refused as error:
        outcome[file.name] = f"refused: {error}"
print(json.dumps(outcome))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Hostile]:
    return list(malicious_pickles.write_all(tmp_path_factory.mktemp("hostile")))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_a_hundred_malicious_pickles_are_refused_a_hundred_times(hostile: list[Hostile]) -> None:
    assert len(hostile) >= 100
    files = [str(one.file) for one in hostile]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ_ALL, str(hostile[0].file.parent), *files],
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert len(outcome) == len(hostile)
    assert [name for name, what in outcome.items() if not what.startswith("refused")] == []
    assert [one.mark for one in hostile if one.mark.exists()] == []


def test_the_calls_among_them_would_have_left_a_mark(tmp_path: Path) -> None:
    """Read the ordinary way; otherwise their absence above would say nothing."""
    left = 0
    for one in malicious_pickles.write_all(tmp_path):
        if one.file.name in ("0-plain.pt", "2-plain.pt", "6-plain.pt", "8-plain.pt", "inst.bin"):
            pickle.loads(one.file.read_bytes())
            left += one.mark.exists()
    assert left == 5


@pytest.mark.parametrize("name", ["0-zip.pt", "6-legacy.pt", "whole module.bin"])
def test_a_refusal_says_why_and_leaves_nothing(
    name: str, hostile: list[Hostile], tmp_path: Path
) -> None:
    (one,) = (one for one in hostile if one.file.name == name)
    with pytest.raises(InputError, match=r"refused, because it holds more than tensors") as caught:
        convert(one.file, tmp_path / "to")
    assert "weights_only" not in str(caught.value)
    assert not one.mark.exists()
    assert list((tmp_path / "to").iterdir()) == []


def test_the_reader_reaches_no_network_no_process_and_no_other_file(tmp_path: Path) -> None:
    """Were torch's reader to run code, it would meet these walls."""
    code = """
import os, socket, subprocess, sys
from pathlib import Path
from cas_metric.encoders.unpickling import Refused, close_in, leave_network
folder = Path(sys.argv[1])
leave_network()
close_in(folder / "output", 1 << 20)
attempts = {
    "socket": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "process": lambda: subprocess.run(["touch", str(folder / "mark")]),
    "system": lambda: os.system(f"touch {folder / 'mark'}"),
    "fork": os.fork,
    "file": lambda: open(folder / "mark", "w"),
    "descriptor": lambda: os.open(folder / "mark", os.O_CREAT | os.O_WRONLY),
    "remove": lambda: os.remove(sys.argv[2]),
    "memory": lambda: bytearray(1 << 40),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (Refused, MemoryError):
        continue
    sys.exit(f"{name} was possible")
"""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path), str(victim)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "mark").exists()


# -- what is genuine loads -----------------------------------------------------------------------


def test_a_hub_directory_with_a_bin(tmp_path: Path, photographs: list[np.ndarray]) -> None:
    original = tiny_models.build_clip(tmp_path / "original")
    pickled = tiny_models.build_clip(tmp_path / "pickled")
    weights = load_file(pickled / "model.safetensors")
    torch.save(weights, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="cas encoders convert"):
        load_encoder(pickled, device="cpu")
    done = convert(pickled, tmp_path / "to")
    assert done.tensors == len(weights)
    record = json.loads((tmp_path / "to" / "conversion.json").read_text())
    source = (pickled / "pytorch_model.bin").read_bytes()
    assert record["sources"] == {"pytorch_model.bin": hashlib.sha256(source).hexdigest()}
    written = (tmp_path / "to" / "model.safetensors").read_bytes()
    assert record["sha256"] == done.sha256 == hashlib.sha256(written).hexdigest()
    ours, theirs = (load_encoder(p, device="cpu") for p in (tmp_path / "to", original))
    batches = [e.embed_pixels(e.official_preprocess(photographs)) for e in (ours, theirs)]
    assert torch.equal(*batches)
    assert torch.equal(*(e.embed_texts(["a plaque"]).embeddings for e in (ours, theirs)))


def test_shards_of_a_pickle_become_one_file(tmp_path: Path) -> None:
    model = transformers.CLIPModel.from_pretrained(tiny_models.build_clip(tmp_path / "model"))
    state = list(model.state_dict().items())
    source = tmp_path / "sharded"
    source.mkdir()
    for number, part in enumerate((state[:20], state[20:]), start=1):
        torch.save(dict(part), source / f"pytorch_model-0000{number}-of-00002.bin")
    (source / "pytorch_model.bin.index.json").write_text("{}")
    done = convert(source, tmp_path / "to")
    found = load_file(tmp_path / "to" / "model.safetensors")
    assert done.tensors == len(found) == len(state)
    assert all(torch.equal(found[name], value) for name, value in state)
    assert not list((tmp_path / "to").glob("*.index.json"))


def test_a_pth_of_a_training_script_with_an_architecture_of_timm(
    tmp_path: Path, photographs: list[np.ndarray]
) -> None:
    """RETFound's form: weights under ``model``, wrapped, no configuration beside them."""
    timm = pytest.importorskip("timm")
    model = tiny_encoders.timm_model("uni")
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": state, "epoch": 7, "loss": 0.5}, tmp_path / "retfound.pth")
    done = convert(tmp_path / "retfound.pth", tmp_path / "to", architecture="vit_tiny_patch16_224")
    assert done.tensors == len(state)
    with pytest.raises(InputError, match="no shape tells how many heads"):
        load_encoder(tmp_path / "to", device="cpu")  # 36 wide, the architecture 192
    stated = tmp_path / "to" / "config.json"
    config = {**json.loads(stated.read_text()), "model_args": {"num_heads": 3}}
    stated.write_text(json.dumps(config))
    encoder = load_encoder(tmp_path / "to", device="cpu")
    pixels = encoder.official_preprocess(photographs)
    assert pixels.shape[-1] == tiny_encoders.SIZE  # read off the weights
    with torch.no_grad():
        theirs = normalize(model(pixels), dim=-1)
    torch.testing.assert_close(encoder.embed_pixels(pixels), theirs, atol=1e-5, rtol=0)
    assert timm.is_model("vit_tiny_patch16_224")


def test_biomedclip_from_its_bin_reads_256_tokens_and_asks_nobody(
    tmp_path: Path, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_clip = pytest.importorskip("open_clip")
    from cas_metric.encoders.families import openclip

    source = tiny_encoders.build_biomedclip(tmp_path / "biomed")
    name = tiny_encoders.biomedclip_config()["model_cfg"]["text_cfg"]["hf_model_name"]
    assert openclip.TEXT_CONFIGS[name] == {"model_type": "bert"}  # the real one is BERT base
    monkeypatch.setitem(openclip.TEXT_CONFIGS, name, tiny_encoders.BIOMED_TEXT)
    convert(source, tmp_path / "to")
    encoder = load_encoder(tmp_path / "to", device="cpu", offline=True)
    assert encoder.token_limit == 256
    model = tiny_encoders.biomedclip_model(tmp_path / "biomed-text")
    texts = ["red scaly plaque", "chest " * 300]
    tokenizer = open_clip.tokenizer.HFTokenizer(str(source), context_length=256)
    with torch.no_grad():
        theirs = normalize(model.encode_text(tokenizer(texts)), dim=-1)
        pixels = encoder.official_preprocess(photographs)
        images = normalize(model.encode_image(pixels), dim=-1)
    ours = encoder.embed_texts(texts)
    torch.testing.assert_close(ours.embeddings, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_pixels(pixels), images, atol=1e-5, rtol=0)
    assert ours.truncated.tolist() == [False, True]


def test_a_pt_of_openai_clip_s_form_loads_by_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CheXzero's form: a state of ViT-B-32 that open_clip builds."""
    open_clip = pytest.importorskip("open_clip")
    configuration = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }
    (tmp_path / "tiny-clip.json").write_text(json.dumps(configuration))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip").eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    done = convert(tmp_path / "best.pt", tmp_path / "to")
    encoder = load_encoder(f"openclip:tiny-clip@{tmp_path / 'to' / done.weights}", device="cpu")
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        theirs = normalize(model.encode_image(pixels), dim=-1)
        texts = normalize(model.encode_text(open_clip.tokenize(["a plaque"])), dim=-1)
    torch.testing.assert_close(encoder.embed_pixels(pixels), theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        encoder.embed_texts(["a plaque"]).embeddings, texts, atol=1e-5, rtol=0
    )


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        convert(tmp_path / "a.pt", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda d: d / "nowhere.pt", "no such file"),
        (lambda d: d, "holds no pickled weights"),
        (lambda d: _touch(d / "a.safetensors"), "is no pickled checkpoint"),
        (lambda d: _touch(d / "a.pt").parent if _touch(d / "b.pt") else d, "2 pickled files"),
    ],
)
def test_sources_that_are_none_are_named(make, match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        convert(make(tmp_path), tmp_path / "to")


def _touch(path: Path) -> Path:
    path.write_bytes(b"")
    return path
