"""Stage 1 and the language models' audits on the embedded world, without a server or a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from cas_metric.cli import audit, judge
from cas_metric.domains import load_domain
from cas_metric.errors import CasError
from cas_metric.manifest import read_manifest
from cas_metric.phantoms.dataset import write_generated_set, write_phantom_dataset
from craft_trainer.cli import enrich

#: Enough to tell a model that looks from one that does not; what it can do is in the results pages.
IMAGES = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_phantom_dataset("chexpert", root / "real", train=IMAGES, test=IMAGES, balanced=True)
    for kind in ("faithful", "wrong"):
        write_generated_set("chexpert", root / "real" / "test", root / kind, kind=kind)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAS_CACHE", str(tmp_path / "cache"))


def run(app: Any, *words: object) -> dict[str, Any]:
    given = [*map(str, words), "--mllm", "phantom-llava", "--offline", "--json"]
    done = CliRunner().invoke(app, [*given, "--repairs", "0"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 3), done.output
    return dict(json.loads(done.stdout))


def test_prompts_of_images_keep_the_schema(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "enriched"
    found = run(enrich.app, world / "real" / "train", "--out", out)
    assert found["accepted"] >= IMAGES - 2
    manifest = read_manifest(out)
    schema = load_domain("phantom-chexpert").prompt_schema
    assert schema is not None
    for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        assert schema.validate(told["answer"], told["label"]) == []
    assert manifest.rows["prompt"].str.startswith("frontal chest x-ray, ").all()
    again = run(enrich.app, world / "real" / "train", "--out", out)
    assert again["this_run"]["from_cache"] == IMAGES


def test_checklists_of_classes_without_one(tmp_path: Path) -> None:
    values = load_domain("phantom-chexpert").model_dump(mode="json", exclude_defaults=True)
    bare = {**values, "classes": [{**one} for one in values["classes"]]}
    wanted = bare["classes"][2].pop("checklist")
    pack = tmp_path / "bare.yaml"
    pack.write_text(yaml.safe_dump(bare, sort_keys=False), encoding="utf-8")
    found = run(enrich.app, "--checklists", "--domain", pack, "--out", tmp_path / "draft")
    assert found["accepted"] == 1
    drafted = load_domain(found["out"]).checklist("Pneumonia")
    assert list(drafted) == list(wanted)


def test_audits_tell_right_from_wrong(world: Path, tmp_path: Path) -> None:
    sets = (world / "faithful", world / "wrong")
    found = run(audit.app, *sets, "--cases", 2, "--out", tmp_path / "verdicts")
    assert [one["images"] for one in found["methods"]] == [2, 2]
    assert sum(one["unanswered"] for one in found["methods"]) <= 2
    graded = run(audit.app, *sets, "--graded", "--out", tmp_path / "graded")["graded"]
    assert graded["sources"] == {"logits": 2 * IMAGES * 5}
    assert graded["scores"]["faithful"]["estimate"] > graded["scores"]["wrong"]["estimate"] + 0.2
    reports = run(audit.app, *sets, "--report", "--out", tmp_path / "reports")["methods"]
    support = {name: one["support"]["estimate"] for name, one in reports.items()}
    assert support["faithful"] > support["wrong"] + 0.2
    assert len(pd.read_csv(tmp_path / "reports" / "reports.csv")) == 2 * IMAGES


def test_the_judge_ranks(world: Path, tmp_path: Path) -> None:
    words = (f"good={world / 'faithful'}", f"bad={world / 'wrong'}", "--cases", 3)
    found = run(judge.app, *words, "--out", tmp_path / "judge")
    rankings = pd.read_csv(tmp_path / "judge" / "rankings.csv")
    assert set(rankings["method"]) == {"good", "bad"}
    assert found["embedded_world"]


def test_the_demo_trains_on_what_the_model_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from craft_trainer.training import demo

    class Told(Exception):
        pass

    def train(config: Any, **_: Any) -> None:
        raise Told(config.data.train)

    monkeypatch.setattr(demo, "train_stages", train)
    with pytest.raises(Told) as told:
        demo.demo(tmp_path, size=demo.Size(4, 4, 1, 1, 1), enriched=True)
    assert Path(str(told.value)) == tmp_path / "enriched"
    prompts = read_manifest(tmp_path / "enriched").rows["prompt"]
    assert prompts.str.startswith("frontal chest x-ray, ").all()


@pytest.mark.parametrize("accepted", [0, 3, 4])
def test_the_demo_says_whose_prompts_were_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    from craft_trainer.training import demo

    def enrich(source: Path, asking: Any, out: Path, **_: Any) -> dict[str, Any]:
        assert asking.cache == str(tmp_path / "cache")
        return {"out": str(out), "accepted": accepted, "rejected": 4 - accepted}

    monkeypatch.setattr(demo, "enrich", enrich)
    if not accepted:
        with pytest.raises(CasError, match="none of the 4 prompts") as caught:
            demo.enriched_images(tmp_path / "train", tmp_path)
        assert "--enrich" in caught.value.fix
        return
    train, notes = demo.enriched_images(tmp_path / "train", tmp_path)
    assert train == tmp_path / "enriched"
    assert ["1 of 4 training images are left out" in one for one in notes] == [True] * (
        4 - accepted
    )
