"""From files to what a peer computes, ours beside it, with the same weights.

``python -m benchmarks.performance.peers {clip-score,m3-score} [--images 192] [--device cuda]``

``clip-score`` is torchmetrics' CLIPScore: one cosine an image and a text of its own, by a CLIP
base/32. Ours pads a text to a multiple of eight tokens, so that a text's bytes depend on no other
text; CLIPScore pads to the longest of a batch. With transformers 5 CLIPScore cannot read what its
model returns, so it is handed a model whose methods return the tensor that it expects.

``m3-score`` is the package of that name (``pip install m3-score``): class tokens of two folders by
a DINOv2 of the size of its own encoder (small, patches of 16), handed to it as a custom backbone,
then its kernel distance, coverage and nearest real image; ours are the measures of ``cas fidelity``
that ask the same. The mean is that of the cosines between the tokens of image and partner.

Weights are random. Each side runs in processes of its own, in turn. A process is timed after its
model is loaded and warmed up, by the clock and by the processor time that it used, which other work
on the machine disturbs less; its peak resident memory is read from the kernel. The two means are
printed: they must agree.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.performance.workload import build_clip_base, build_dinov2_small, write_folders

BATCH = 32
KEYS = ("rate", "processor", "peak", "mean")

#: Wall and processor time in seconds.
Clocks = tuple[float, float]


def main() -> None:
    """Run the sides in turn and print the median rate, memory and mean of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--images", type=int, default=192, help="of each folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        side, root = arguments.worker
        print(json.dumps(work(arguments.peer, side, Path(root), arguments.device)))
        return
    sides = ("ours", arguments.peer)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        PEERS[arguments.peer][0](root / "model")
        write_folders(root, arguments.images, 256 if arguments.peer == "clip-score" else 224)
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(arguments.repeats):
            for side in sides:
                found[side].append(_process(arguments.peer, side, root, arguments.device))
    for side, runs in found.items():
        rate, processor, peak, mean = (statistics.median(run[key] for run in runs) for key in KEYS)
        print(
            f"{side + ':':11} {rate:6.1f} images/s, {processor:6.1f} a second of processor time, "
            f"peak {peak:5.0f} MiB, mean {mean:.5f}"
        )
    for key in ("rate", "processor"):
        ratios = sorted(a[key] / b[key] for a, b in zip(*found.values(), strict=True))
        print(
            f"ratio of the {key + ':':11} {statistics.median(ratios):.2f} "
            f"(median of {len(ratios)} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def work(peer: str, side: str, root: Path, device: str) -> dict[str, float]:
    """One side in this process: images a second by both clocks, peak memory in MiB, the mean."""
    clocks, count, mean = PEERS[peer][1 if side == "ours" else 2](root, device)
    wall, processor = (now - before for now, before in zip(_clocks(), clocks, strict=True))
    return {"rate": count / wall, "processor": count / processor, "peak": _peak(), "mean": mean}


def clip_ours(root: Path, device: str) -> tuple[Clocks, int, float]:
    """Start of the clocks, images, and the mean of VDC."""
    from cas_metric import primitives
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files, embed_texts
    from cas_metric.encoders import load_encoder

    encoder, (paths, texts) = load_encoder(root / "model", device=device), _pairs(root)
    with EmbeddingCache("none") as cache:
        embed_image_files(paths[:BATCH], encoder, cache, batch_size=BATCH)
        embed_texts(texts[:BATCH], encoder, cache)
    with EmbeddingCache("none") as cache:
        started = _clocks()
        images = embed_image_files(paths, encoder, cache, batch_size=BATCH).embeddings
        words = embed_texts(texts, encoder, cache).embeddings
        mean = float(primitives.vdc(images, words).mean())
    return started, len(paths), mean


def clip_theirs(root: Path, device: str) -> tuple[Clocks, int, float]:
    """Start of the clocks, images, and CLIPScore on the scale of a cosine."""
    import numpy as np
    from PIL import Image
    from torchmetrics.multimodal import CLIPScore

    def model_and_processor() -> tuple[Any, Any]:
        from transformers import AutoProcessor, CLIPModel

        model = root / "model"
        return Tensors(CLIPModel.from_pretrained(model)), AutoProcessor.from_pretrained(model)

    metric, (paths, texts) = CLIPScore(model_and_processor).to(device), _pairs(root)

    def update(start: int) -> None:
        some = slice(start, start + BATCH)
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths[some]]
        tensors = [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in pixels]
        metric.update(tensors, texts[some])

    update(0)
    metric.reset()
    started = _clocks()
    for start in range(0, len(paths), BATCH):
        update(start)
    # Not compute(), which cuts a negative mean off at 0.
    return started, len(paths), float(metric.score / metric.n_samples) / 100


class Tensors(torch.nn.Module):
    """A CLIP model whose feature methods return tensors, as before transformers 5."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def get_image_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` image features."""
        return self.model.get_image_features(*inputs).pooler_output

    def get_text_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` text features."""
        return self.model.get_text_features(*inputs).pooler_output


def m3_ours(root: Path, device: str) -> tuple[Clocks, int, float]:
    """Start of the clocks, images of both folders, and the mean cosine of partners."""
    import numpy as np

    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.embedding.passes import embed_image_files
    from cas_metric.encoders import load_encoder
    from cas_metric.sets.fidelity import manifolds
    from cas_metric.sets.kernels import kernel_distance

    encoder = load_encoder(root / "model", device=device)
    sides = [_files(root / name) for name in ("generated", "real")]
    with EmbeddingCache("none") as cache:
        embed_image_files(sides[0][:BATCH], encoder, cache, batch_size=BATCH)
    with EmbeddingCache("none") as cache:
        started = _clocks()
        generated, real = (
            embed_image_files(paths, encoder, cache, batch_size=BATCH).embeddings for paths in sides
        )
        kernel_distance(generated, real)
        manifolds(generated, real)
    return started, sum(map(len, sides)), float(np.mean((generated * real).sum(axis=1)))


def m3_theirs(root: Path, device: str) -> tuple[Clocks, int, float]:
    """The same by m3-score, without its permutation test."""
    from m3score import M3Score
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(root / "model", dtype=torch.float32)
    blocks = len(model.encoder.layer)
    metric = M3Score(device, backbone=Blocks(model), layers=(blocks,) * 3, batch_size=BATCH)
    metric.score(root / "real", root / "generated", n=BATCH, stats=False)
    started = _clocks()
    result = metric.score(root / "real", root / "generated", stats=False)
    sides = [torch.cat(metric._features[real][blocks]) for real in (False, True)]
    with torch.no_grad():
        tokens = [torch.nn.functional.normalize(model.layernorm(one), dim=1) for one in sides]
    return started, result.n_real + result.n_gen, float((tokens[0] * tokens[1]).sum(dim=1).mean())


class Blocks(torch.nn.Module):
    """A DINOv2 of transformers with the names that m3-score asks of a vision transformer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.patch_embed, self.blocks = model.embeddings, model.encoder.layer
        self.patch_embed.img_size = (model.config.image_size,) * 2
        self._pos_embed = self.norm_pre = torch.nn.Identity()


#: Of each peer: what writes its model, ours, theirs.
PEERS: dict[str, tuple[Any, Any, Any]] = {
    "clip-score": (build_clip_base, clip_ours, clip_theirs),
    "m3-score": (build_dinov2_small, m3_ours, m3_theirs),
}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


def _pairs(root: Path) -> tuple[list[Path], list[str]]:
    """The generated files, and a text of its own for each."""
    paths = _files(root / "generated")
    return paths, [f"a drawing of case {path.stem} on a noisy background" for path in paths]


def _process(peer: str, side: str, root: Path, device: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.performance.peers", peer]
    command += ["--device", device, "--worker", side, str(root)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _clocks() -> Clocks:
    return time.perf_counter(), time.process_time()


def _peak() -> float:
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
