"""The page that scores a pair: the function behind its button, and what a browser gets."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tests.support.real_data import real_data

import cas_metric
from cas_metric.errors import InputError
from cas_metric.page.__main__ import main
from cas_metric.page.pair import Pairs, Scored, Upload
from cas_metric.verbs.demo import draw_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings, and a run of them."""
    folder = tmp_path_factory.mktemp("page")
    real, generated = draw_world(folder, "chexpert", 16, 0)
    cas_metric.score(
        generated, real, method="faithful", out=folder / "run", cache=folder / "cache", device="cpu"
    )
    return folder


@pytest.fixture(scope="module")
def pairs(world: Path) -> Pairs:
    return Pairs.of(world / "run", device="cpu", offline=True)


def upload(path: Path) -> Upload:
    return Upload(path.name, path.read_bytes())


def values(found: Scored) -> dict[str, float | None]:
    return {line.name: line.value for line in found.lines}


def test_a_pair_gets_what_the_run_gave_it(world: Path, pairs: Pairs) -> None:
    run = cas_metric.Run.load(world / "run")
    for row in run.rows.head(3).to_dict("records"):
        images = [
            upload(next(world.glob(f"{side}/**/{Path(row[column]).name}")))
            for side, column in (("generated", "image"), ("real", "reference"))
        ]
        found = pairs.score(*images, label=row["label"], prompt=row["prompt"])
        told = values(found)
        assert told == pytest.approx({name: row[name] for name in told}, abs=2e-6)
        assert len(found.pictures) == 2
        assert found.notes == ()
        floor = run.floor[run.floor["label"] == row["label"]]["cas"]
        assert found.lines[-1].lower == (floor < told["cas"]).sum()
        assert found.lines[-1].of == len(floor)


def test_real_films_get_what_a_folder_of_them_gets(
    world: Path, pairs: Pairs, tmp_path: Path
) -> None:
    folder = real_data("kermany_cxr")
    table = pd.read_csv(folder / "metadata.csv")
    one, other = table[table["label"] == "Pneumonia"]["file_name"].head(2)
    found = pairs.score(
        upload(folder / one), upload(folder / other), label="Pneumonia", prompt="a hazy opacity"
    )
    for side, name in (("gen", one), ("real", other)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.jpg").write_bytes((folder / name).read_bytes())
        (tmp_path / side / "metadata.csv").write_text(
            "file_name,id,label,prompt\na.jpg,a,Pneumonia,a hazy opacity\n"
        )
    row = cas_metric.score(
        tmp_path / "gen", tmp_path / "real", domain="phantom-chexpert", device="cpu",
        probe=world / "run" / "probe.safetensors", cache="none",
    ).rows.iloc[0]  # fmt: skip
    told = values(found)
    assert told == pytest.approx({name: row[name] for name in told}, abs=2e-6)


def test_what_cannot_be_read_is_said_without_a_place(world: Path, pairs: Pairs) -> None:
    good = upload(next((world / "real" / "test").glob("**/*.png")))
    for bad in (Upload("a.png", b"no image"), Upload("../../etc/passwd", b""), Upload("x", b"\0")):
        found = pairs.score(bad, good, label="Pneumonia", prompt="")
        assert set(values(found).values()) == {None}
        assert len(found.pictures) == 1
        assert found.notes
        assert "cas-page-" not in " ".join(found.notes)
        assert (
            pairs.score(good, bad, label="Pneumonia", prompt="")
            .notes[0]
            .startswith("vdc: no prompt; sfs: ")
        )
    with pytest.raises(InputError, match="Nothing"):
        pairs.score(good, good, label="Nothing", prompt="")
    (note,) = pairs.score(good, good, label="Pneumonia", prompt="opacity " * 99).notes
    assert note == "the encoder read only the beginning of the prompt"


def test_without_a_prompt_or_a_probe_scores_stay_empty(world: Path, pairs: Pairs) -> None:
    good = upload(next((world / "real" / "test").glob("**/*.png")))
    bare = Pairs(pairs.run, pairs.domain, pairs.encoder, None)
    found = bare.score(good, good, label="Pneumonia", prompt=" ")
    assert [name for name, value in values(found).items() if value is None] == [
        "vdc", "dd_prob", "cas"
    ]  # fmt: skip
    assert "no probe" in found.notes[-1]


def test_an_encoder_of_another_space_is_refused(world: Path) -> None:
    with pytest.raises(InputError, match="not the encoder"):
        Pairs.of(world / "run", encoder="phantom-metaclip", device="cpu", offline=True)


@pytest.mark.parametrize("window", [None, (900.0, 1500.0)])
def test_a_pair_is_seen_by_the_windows_of_the_run(
    world: Path, tmp_path: Path, window: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(0)
    for side, shown in (("gen", (0.0, 4000.0)), ("real", window)):
        (tmp_path / side).mkdir()
        table = "file_name,id,label,prompt\n"
        for number, label in enumerate(("Pneumonia", "Cardiomegaly") * 3):
            stored = rng.integers(600, 1600, (24, 24)).astype(np.uint16 if shown else np.uint8)
            Image.fromarray(stored).save(tmp_path / side / f"{number}.png")
            table += f"{number}.png,{number},{label},a film\n"
        (tmp_path / side / "metadata.csv").write_text(table)
        if shown:
            (tmp_path / side / "cas.yaml").write_text(f"window: [{shown[0]}, {shown[1]}]\n")
    run = cas_metric.score(
        tmp_path / "gen", tmp_path / "real", domain="phantom-chexpert", device="cpu",
        probe=world / "run" / "probe.safetensors", cache="none", out=tmp_path / "run",
    )  # fmt: skip
    (tmp_path / "run" / "probe.safetensors").write_bytes(
        (world / "run" / "probe.safetensors").read_bytes()
    )
    pairs = Pairs.of(tmp_path / "run", device="cpu", offline=True)
    images = (upload(tmp_path / side / "0.png") for side in ("gen", "real"))
    found = pairs.score(*images, label="Pneumonia", prompt="a film")
    row, told = run.rows.set_index("id").loc["0"], values(found)
    assert told == pytest.approx({name: row[name] for name in told}, abs=2e-6)
    assert len(found.pictures) == 2
    png = base64.b64decode(found.pictures[0][1].partition(",")[2])
    seen = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)
    stored = np.asarray(Image.open(tmp_path / "gen" / "0.png"), dtype=float)
    assert np.abs(seen - stored / 4000 * 255).max() <= 1


def test_checklists_of_the_same_name_and_other_words_are_refused(
    world: Path, tmp_path: Path
) -> None:
    pack = cas_metric.load_domain("phantom-chexpert").model_dump(mode="json", exclude_none=True)
    one = next(one for one in pack["classes"] if one["name"] == "Pneumonia")
    one["checklist"] = dict.fromkeys(one["checklist"], "other words")
    (tmp_path / "pack.yaml").write_text(yaml.safe_dump(pack, sort_keys=False))
    for domain, told in ((tmp_path / "pack.yaml", ": Pneumonia\n"), ("phantom-origa", "classes")):
        with pytest.raises(InputError, match=told):
            Pairs.of(world / "run", domain=domain, device="cpu", offline=True)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("python_multipart", reason="the extra page is not installed")
    assert main([str(tmp_path), "--port", "0"]) == 2
    assert "fix:" in capsys.readouterr().err


class TestInTheBrowser:
    """What is sent and shown."""

    @pytest.fixture
    def client(self, pairs: Pairs):
        pytest.importorskip("python_multipart", reason="the extra page is not installed")
        from starlette.testclient import TestClient

        from cas_metric.page.app import create_app

        return TestClient(
            create_app(pairs),
            base_url="http://127.0.0.1:8000",
            headers={"sec-fetch-site": "same-origin"},
        )

    @pytest.fixture
    def files(self, world: Path) -> dict[str, tuple[str, bytes]]:
        one = upload(next((world / "real" / "test").glob("**/*.png")))
        return dict.fromkeys(("generated", "real"), (one.name, one.content))

    def test_a_pair_is_sent_and_its_scores_come_back(self, client, files, pairs: Pairs) -> None:
        assert re.findall(r"<option>(.*?)</option>", client.get("/").text) == list(
            pairs.domain.class_names
        )
        answer = client.post("/", files=files, data={"label": "Pneumonia", "prompt": "<b>&"})
        assert answer.status_code == 200
        assert re.search(r"like the real image</th>\s*<td>1\.000</td>", answer.text)
        assert answer.text.count('src="data:image/png;base64,') == 2
        assert "<option selected>Pneumonia</option>" in answer.text
        assert "&lt;b&gt;&amp;" in answer.text
        assert "not medical data" in answer.text

    def test_what_is_wrong_is_text(self, client, files) -> None:
        answer = client.post("/", files=files, data={"label": "<i>", "prompt": ""})
        assert answer.status_code == 422
        assert "&lt;i&gt;" in answer.text
        assert "<i>" not in answer.text
        del files["real"]
        answer = client.post("/", files=files, data={"label": "Pneumonia", "prompt": ""})
        assert "no real image was chosen" in html.unescape(answer.text)
        bad = {"generated": ("a.png", b"no image"), "real": ("b.png", b"")}
        answer = client.post("/", files=bad, data={"label": "Pneumonia", "prompt": ""})
        assert answer.status_code == 200
        assert "no readable image" in answer.text

    def test_nobody_else_reaches_it_and_it_reaches_nobody(
        self, client, files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cas_metric.page import app

        sent = {"files": files, "data": {"label": "Pneumonia", "prompt": ""}}
        assert client.post("/", headers={"sec-fetch-site": "cross-site"}, **sent).status_code == 403
        assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 400
        policy = client.get("/").headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy
        assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", client.get("/").text)
        assert client.get("/page.css").headers["content-type"].startswith("text/css")
        monkeypatch.setattr(app, "MAX_BODY", 100)
        assert client.post("/", **sent).status_code == 413
