"""What a data set becomes lies in a file without a name, one for all processes of a machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from tests.support.warm import Warm

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.errors import InputError
from craft_trainer.bases.loading import load_model
from craft_trainer.data.dataset import read_examples
from craft_trainer.data.encoding import Encodings, encode_latents, encode_texts
from craft_trainer.data.held import held

# Encodes its share, keeps what it reads of all, and says which nameless files it maps.
_RANK = """
import re, sys, torch
from pathlib import Path
from accelerate import Accelerator
from cas_metric.embedding.cache import EmbeddingCache
from craft_trainer.bases.loading import load_model
from craft_trainer.data.dataset import read_examples
from craft_trainer.data.encoding import Encodings, encode_latents, encode_texts

base, images, folder = sys.argv[1:]
accelerator = Accelerator(cpu=True)
examples = read_examples(Path(images), None)
with EmbeddingCache(Path(folder, f"store{accelerator.process_index}")) as cache:
    encodings = Encodings(cache, "base", load_model(base, device=torch.device("cpu")))
    moments = encode_latents(examples, encodings, 32, None, accelerator)
    texts = encode_texts(examples.prompts, encodings, None, accelerator)
found = moments.clone(), texts.of(examples.prompts).embeddings
torch.save(found, Path(folder, f"{accelerator.process_index}.pt"))
maps = Path("/proc/self/maps").read_text()
print(*re.findall(r" (\\d+) +\\S+/held-\\S+ .deleted", maps))
"""

linux = pytest.mark.skipif(
    not Path("/proc/self/maps").is_file(), reason="asks the kernel what is mapped: Linux"
)


def mapped() -> int:
    """How many of these files this process maps."""
    return Path("/proc/self/maps").read_text().count("/held-")


@linux
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_without_a_name_that_goes_with_what_uses_it(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    before = mapped()
    rows = held((5, 2, 3), dtype, tmp_path)
    assert rows.shape == (5, 2, 3)
    assert rows.dtype == dtype
    assert not rows.any()
    rows[3] = 2
    assert rows.sum() == 12
    assert list(tmp_path.iterdir()) == []
    assert mapped() == before + 1
    del rows
    assert mapped() == before


def test_a_full_disk_is_told_of_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no room for 8e\+06 GB") as caught:
        held((2 * 10**15,), torch.float32, tmp_path)
    assert "--cache" in str(caught.value.fix)

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="no room"):
        held((2,), torch.float32, tmp_path)
    assert list(tmp_path.iterdir()) == []


@linux
@pytest.mark.parametrize("machines", [1, 2])
def test_processes_share_the_work_and_those_of_a_machine_the_file(
    base: Path, images: Path, warm: Warm, tmp_path: Path, machines: int
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    group |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": str(2 // machines)}
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank % (2 // machines))} for rank in (0, 1)]
    envs = [{**os.environ, **group, **place} for place in places]
    ended = warm.together(_RANK, base, images, tmp_path, envs=envs)
    assert [one.returncode for one in ended] == [0, 0], ended
    files = [set(one.stdout.split()) for one in ended]
    assert all(len(own) == 2 for own in files)  # latents and texts
    assert len(files[0] | files[1]) == 2 * machines
    examples = read_examples(images, None)
    with EmbeddingCache("none") as cache:
        alone = Encodings(cache, "base", load_model(str(base), device=torch.device("cpu")))
        moments = encode_latents(examples, alone, 32)
        texts = encode_texts(examples.prompts, alone).of(examples.prompts).embeddings
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for one, other, known in zip(first, second, (moments, texts), strict=True):
        assert torch.equal(one, other)
        # Two processes of a machine have half as many threads each, which may round otherwise.
        torch.testing.assert_close(one, known, atol=1e-6, rtol=1e-6)
