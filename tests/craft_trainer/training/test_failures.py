"""What can go wrong in the middle of a run: a clear message, and the last checkpoint intact.

Each message names a way out; the tests take it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.craft_trainer.guards.test_heldout import journal
from tests.craft_trainer.training.test_trainer import CRAFT, INVERSION, LORA, weights
from tests.support.warm import Warm

from cas_metric import primitives
from cas_metric.errors import CasError, InputError, PreflightError
from cas_metric.manifest import read_manifest, write_manifest
from craft_trainer.config.schema import to_yaml
from craft_trainer.guards.heldout import HeldOut
from craft_trainer.methods.denoising import Denoising
from craft_trainer.runtime import checkpoints
from craft_trainer.runtime.failures import NotFinite
from craft_trainer.training import trainer

#: As an accelerator says it, and as the allocator of a CPU does.
OUT_OF_MEMORY: dict[str, Callable[[], Any]] = {
    "accelerator": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
    "cpu": lambda: torch.empty(2**56),
}


def last_checkpoint(config: Any) -> Path:
    (folder,) = config.output.glob("1-*/checkpoints")
    return checkpoints.checkpoints(folder)[-1]


def first_step(config: Any) -> tuple[Path, int]:
    """Run on, and tell with which step that began."""
    seen: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        if what.endswith("steps"):
            seen.append(done)

    artifact = trainer.train_stages(config, progress=progress, cache="none")
    return artifact, seen[0]


def test_a_nan_reward_stops_before_the_step_is_taken(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_sfs, calls = primitives.sfs, []

    def failing(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return true_sfs(image, reference) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(primitives, "sfs", failing)
    stage = {**CRAFT, "reward_gradients_every": 0}
    config = settings(stage)
    with pytest.raises(NotFinite, match=r"reward/sfs is nan in step 3; .* not taken") as caught:
        trainer.train_stages(config, cache="none")
    last = last_checkpoint(config)
    assert last.name == "step-0000002.safetensors"
    assert str(last) in caught.value.fix
    assert all(torch.isfinite(value).all() for value in load_file(last).values())
    # Lower rewards need another folder, and unchanged settings continue, here without the NaN.
    with pytest.raises(InputError, match=r"rewards\.sfs: 0\.25 then, 0\.1 now"):
        trainer.train_stages(settings({**stage, "rewards": {"sfs": 0.1}}), cache="none")
    resumed, began = first_step(config)
    assert began == 3
    whole = trainer.train_stages(settings(stage, output=str(tmp_path / "whole")), cache="none")
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_a_step_beyond_memory_leaves_the_last_checkpoint(
    settings: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    plain = Denoising.loss

    def full(self: Any, batch: Any, step: int) -> Any:
        if step == 3:
            OUT_OF_MEMORY[kind]()
        return plain(self, batch, step)

    monkeypatch.setattr(Denoising, "loss", full)
    config = settings(LORA)
    with pytest.raises(CasError, match="step 4 does not fit into memory") as caught:
        trainer.train_stages(config, cache="none")
    last = last_checkpoint(config)
    assert last.name == "step-0000002.safetensors"
    assert "gradient_checkpointing: true" in caught.value.fix
    assert str(last) in caught.value.fix
    monkeypatch.undo()
    with pytest.raises(InputError, match="batch_size: 2 then, 1 now"):
        trainer.train_stages(settings({**LORA, "batch_size": 1, "accumulate": 2}), cache="none")
    _, began = first_step(settings(LORA, gradient_checkpointing=True))
    assert began == 3


def test_the_optimizer_may_be_what_does_not_fit(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    config = settings(LORA, gradient_checkpointing=True)
    with pytest.raises(CasError, match="step 1 does not fit into memory") as caught:
        trainer.train_stages(config, cache="none")
    assert "gradient_checkpointing" not in caught.value.fix  # it is on already
    assert "halve batch_size" in caught.value.fix


def test_a_look_beyond_memory_names_its_own_batch(
    watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = HeldOut.look

    def full(self: Any, model: Any, texts: Any, step: int, reward: Any) -> Any:
        if step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, model, texts, step, reward)

    monkeypatch.setattr(HeldOut, "look", full)
    config = watched({**LORA, "checkpoint_every": 1})
    with pytest.raises(CasError, match="evaluation after step 3 does not fit") as caught:
        trainer.train_stages(config, cache="none")
    assert "validation.batch_size" in caught.value.fix
    assert last_checkpoint(config).name == "step-0000002.safetensors"


def test_a_mistake_of_the_program_is_not_put_down_to_memory(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, batch: Any, step: int) -> Any:
        return torch.ones(2) @ torch.ones(3)

    monkeypatch.setattr(Denoising, "loss", broken)
    with pytest.raises(RuntimeError, match=r"inconsistent tensor size|size mismatch"):
        trainer.train_stages(settings(LORA), cache="none")


def test_a_class_without_a_token_is_named_with_every_image_of_it(
    settings: Any, images: Path, tmp_path: Path
) -> None:
    learned = trainer.train_stages(
        settings(INVERSION, output=str(tmp_path / "tokens")), cache="none"
    )
    before = {path: path.read_bytes() for path in learned.rglob("*") if path.is_file()}
    folder = tmp_path / "three"
    shutil.copytree(images, folder)
    rows = read_manifest(images).rows
    rows.loc[[1, 4], "label"] = "Pneumonia"  # which had no image when tokens were learned
    write_manifest(rows, folder)
    stage = {**LORA, "prompt": "{token}. {prompt}"}
    config = settings(stage, data={"train": str(folder), "resolution": 16}, start=str(learned))
    with pytest.raises(PreflightError) as caught:
        trainer.train_stages(config, cache="none")
    for name in ("1.png", "4.png"):
        assert f"{name}: class 'Pneumonia' has no learned token" in str(caught.value)
    assert "0.png" not in str(caught.value)
    assert "learn the tokens first" in caught.value.fix
    assert {path: path.read_bytes() for path in learned.rglob("*") if path.is_file()} == before
    assert not list(config.output.rglob("*.safetensors"))
    # The way out: a template without them.
    plain = config.model_copy(
        update={"stages": (config.stages[0].model_copy(update={"prompt": "{prompt}"}),)}
    )
    assert trainer.train_stages(plain, cache="none").is_dir()


def test_a_template_with_a_token_that_was_never_learned_is_refused(settings: Any) -> None:
    with pytest.raises(InputError, match="has no learned token"):
        trainer.train_stages(settings({**LORA, "prompt": "{token}"}), cache="none")


def test_images_that_cannot_be_decoded_are_listed_before_any_step(
    settings: Any, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(images, folder)
    (folder / "1.png").write_bytes(b"no picture")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:200])  # cut off
    config = settings(LORA, data={"train": str(folder), "resolution": 16})
    with pytest.raises(PreflightError) as caught:
        trainer.train_stages(config, cache="none")
    assert "1.png" in str(caught.value)
    assert "4.png" in str(caught.value)
    assert "0.png" not in str(caught.value)
    assert "replace or remove" in caught.value.fix
    assert not list(config.output.rglob("*.safetensors"))


def test_an_image_that_breaks_while_a_run_rests_leaves_its_checkpoint(
    settings: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    config = settings(LORA, data={"train": str(folder), "resolution": 16})
    plain = Denoising.loss

    def interrupted(self: Any, batch: Any, step: int) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return plain(self, batch, step)

    monkeypatch.setattr(Denoising, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_stages(config, cache="none")
    monkeypatch.undo()
    last = last_checkpoint(config)
    before, whole = last.read_bytes(), (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(PreflightError, match=r"2\.png"):
        trainer.train_stages(config, cache="none")
    assert last.read_bytes() == before
    (folder / "2.png").write_bytes(whole)
    assert first_step(config)[1] == 3


def test_a_held_out_image_that_cannot_be_decoded_is_named(
    watched: Any, unseen: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "unseen"
    shutil.copytree(unseen, folder)
    (folder / "0.png").write_bytes(b"no picture")
    config = watched(validation={"manifest": str(folder)})
    with pytest.raises(PreflightError, match=r"0\.png"):
        trainer.train_stages(config, cache="none")


# Lets no file grow beyond so many bytes from a step on: to a program a disk that is full.
_FULL = """
import resource, sys
from pathlib import Path
from cas_metric.errors import CasError
from craft_trainer.training import trainer
from craft_trainer.config.schema import load_config

def progress(what, done, total):
    if what.endswith("steps") and done == int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))

try:
    trainer.train_stages(load_config(Path(sys.argv[1])), progress=progress, cache="none")
except CasError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize(
    ("limit", "unwritten"),
    [
        (4096, "checkpoints/step-0000004.safetensors"),  # which is larger
        (200, "metrics.jsonl"),  # of which two lines are larger
    ],
)
def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_continues(
    settings: Any, warm: Warm, tmp_path: Path, limit: int, unwritten: str
) -> None:
    whole = trainer.train_stages(settings(LORA, output=str(tmp_path / "whole")), cache="none")
    config = settings(LORA)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    ended = warm.run(_FULL, file, 3, limit)
    assert ended.returncode == 7, ended.stderr
    assert f"{config.output / '1-lora' / unwritten} cannot be written: File too large" in (
        ended.stdout
    )
    assert "free space" in ended.stdout
    last = last_checkpoint(config)
    assert last.name == "step-0000002.safetensors"
    assert not [path for path in last.parent.iterdir() if path != last]  # and no half of one
    resumed, began = first_step(config)
    assert began == 3
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_artefact_that_does_not_fit_on_the_disk_is_no_artefact(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(model: Any, directory: Path) -> None:
        (directory / "pytorch_lora_weights.safetensors").write_bytes(b"half of ")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(trainer, "save_artifact", full)
    config = settings(LORA)
    with pytest.raises(CasError, match=r"artifact cannot be written: .*No space left") as caught:
        trainer.train_stages(config, cache="none")
    folder = config.output / "1-lora"
    assert str(last_checkpoint(config)) in caught.value.fix
    assert not [path for path in folder.iterdir() if "artifact" in path.name]
    monkeypatch.undo()
    assert trainer.train_stages(config, cache="none") == folder / "artifact"


def test_a_checkpoint_that_is_damaged_is_named(settings: Any) -> None:
    config = settings(LORA)
    artifact = trainer.train_stages(config, cache="none")
    shutil.rmtree(artifact)
    last = last_checkpoint(config)
    last.write_bytes(last.read_bytes()[:-50])
    with pytest.raises(InputError, match=f"{last.name} is no checkpoint") as caught:
        trainer.train_stages(config, cache="none")
    assert caught.value.fix == "remove it"
    last.unlink()
    assert first_step(config)[1] == 3  # from the one before it


def test_weights_that_are_not_finite_are_never_saved(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = torch.optim.AdamW.step, []

    def overflowing(self: Any, *args: Any) -> None:
        plain(self, *args)
        calls.append(1)
        if len(calls) == 4:  # the last step: no loss would tell
            self.param_groups[0]["params"][0].data.fill_(float("inf"))

    monkeypatch.setattr(torch.optim.AdamW, "step", overflowing)
    config = settings({**LORA, "steps": 4, "checkpoint_every": 2})
    with pytest.raises(NotFinite, match="not finite after step 4") as caught:
        trainer.train_stages(config, cache="none")
    last = last_checkpoint(config)
    assert last.name == "step-0000002.safetensors"
    assert str(last) in str(caught.value)
    assert not (config.output / "1-lora" / "artifact").exists()


@pytest.mark.parametrize("watching", [True, False])
def test_an_attempt_that_died_before_a_checkpoint_leaves_nothing_to_the_next(
    watched: Any, settings: Any, watching: bool
) -> None:
    stage = {**LORA, "steps": 1}

    def killed(what: str, done: int, total: int) -> None:
        if what.endswith("steps"):
            raise KeyboardInterrupt

    config = watched(stage)
    with pytest.raises(KeyboardInterrupt):
        trainer.train_stages(config, progress=killed, cache="none")
    folder = config.output / "1-lora"
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert left >= {"heldout.jsonl", "guards.json", "samples/heldout-0000000.png"}
    assert not (folder / "checkpoints").exists()
    (before,) = journal(folder)
    if not watching:
        trainer.train_stages(settings(stage), cache="none")
        assert {path.name for path in folder.iterdir()} >= {"artifact", "metrics.jsonl"}
        assert not any((folder / name).is_file() for name in left)
        return
    changed = watched(
        {**stage, "learning_rate": 1e-30},  # the best weights are those before the first step
        artifact="best",
        sampling={"steps": 3, "guidance": 8.0},
        validation={"prompts": 2},
    )
    artifact = trainer.train_stages(changed, cache="none")
    looks = journal(folder)
    assert [(look["step"], len(look["scores"]["cas"])) for look in looks] == [(0, 2), (1, 2)]
    assert looks[0]["scores"]["cas"] != before["scores"]["cas"][:2]
    assert (artifact.parent / "best" / "step-0000000.safetensors").is_file()
