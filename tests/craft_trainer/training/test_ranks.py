"""Two processes against one with twice the batch, and against themselves after a kill."""

from __future__ import annotations

import os
import signal
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.preferences import write_pairs_of
from tests.support.warm import Warm

from craft_trainer.config.schema import to_yaml
from craft_trainer.runtime import ranks
from craft_trainer.training import trainer

STEPS = 4
RATE = {"learning_rate": 1e-3, "steps": STEPS, "checkpoint_every": 2}
STAGES: dict[str, dict[str, Any]] = {
    "textual_inversion": {"method": "textual_inversion", **RATE},
    "lora": {"method": "lora", "accumulate": 2, "kl_to_base": 0.5, **RATE},
    "dpo": {"method": "dpo", "beta": 50.0, **RATE},
    "craft": {"method": "craft", "gradient_steps": 2, **RATE},
    "nft": {"method": "nft", "score": "cas", "group": 2, **RATE},
}
#: The method whose two processes are killed and started again.
KILLED = "craft"

# Trains every configuration that it is given; is killed in the third step of those called "killed".
_RANK = """
import os, signal, sys
from pathlib import Path
from craft_trainer.config.schema import load_config
from craft_trainer.training.trainer import train_stages

for file in map(Path, sys.argv[1:]):
    def progress(what, done, total):
        if file.stem.startswith("killed") and what.endswith("steps") and done == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    train_stages(load_config(file), progress=progress, cache="none")
"""


def launch(warm: Warm, *configurations: Path) -> list[int]:
    """Exit codes of two processes on this machine, told of each other as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    group |= {"LOCAL_WORLD_SIZE": "2"}
    ranks = [{**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    return [ended.returncode for ended in warm.together(_RANK, *configurations, envs=ranks)]


def trained(folder: Path) -> dict[str, torch.Tensor]:
    """All that a run learned."""
    (artifact,) = folder.glob("1-*/artifact")
    files = sorted(artifact.rglob("*.safetensors"))
    return {
        f"{file.name}/{name}": value for file in files for name, value in load_file(file).items()
    }


@pytest.fixture(scope="module")
def runs(
    make_settings: Any, images: Path, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of every method's run: by two processes, by one, and by two that were killed."""
    root = tmp_path_factory.mktemp("runs")
    pairs = write_pairs_of(images, root / "pairs")
    folders: dict[str, Path] = {}
    files: dict[str, Path] = {}
    for method, stage in STAGES.items():
        own = {**stage, "pairs": str(pairs)} if method == "dpo" else stage
        kinds = {"two": 1, "one": 2} | ({"killed": 1} if method == KILLED else {})
        for kind, batch in kinds.items():
            name = f"{kind}-{method}"
            folders[name] = root / name
            config = make_settings({**own, "batch_size": batch}, output=str(folders[name]))
            files[name] = root / f"{name}.yaml"
            files[name].write_text(to_yaml(config))
            if kind == "one":
                trainer.train_stages(config, cache="none")
    whole = [files[f"two-{method}"] for method in STAGES]
    killed = files[f"killed-{KILLED}"]
    assert launch(warm, *whole, killed) == [-signal.SIGKILL] * 2
    resumed = killed.rename(root / "resumed.yaml")  # under another name nobody kills it
    assert launch(warm, resumed) == [0, 0]
    return folders


@pytest.mark.parametrize("method", STAGES)
def test_two_processes_learn_what_one_with_twice_the_batch_learns(
    runs: dict[str, Path], method: str
) -> None:
    two, one = trained(runs[f"two-{method}"]), trained(runs[f"one-{method}"])
    assert two.keys() == one.keys()
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], atol=1e-5, rtol=0, msg=name)


def test_two_killed_processes_end_with_the_same_bits(runs: dict[str, Path]) -> None:
    whole, resumed = trained(runs[f"two-{KILLED}"]), trained(runs[f"killed-{KILLED}"])
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_one_process_writes_the_files(runs: dict[str, Path]) -> None:
    for method in STAGES:
        stage = runs[f"two-{method}"] / f"1-{method}"
        rows = (stage / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == STEPS
        kept = sorted(path.name for path in (stage / "checkpoints").iterdir())
        assert kept == ["step-0000002.safetensors", "step-0000004.safetensors"]


def test_the_others_wait_for_long_work_of_the_main_one(settings: Any) -> None:
    """A download, or the embedding of the training images, takes longer than NCCL's ten minutes."""
    joined = ranks.join(settings({"method": "lora", "steps": 1}))
    assert joined.init_handler.timeout >= timedelta(hours=12)
