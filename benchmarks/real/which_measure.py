"""CAS, CLIPScore, LPIPS, FID and the Inception Score of the same planted photographs.

    python -m benchmarks.real.which_measure skin ENCODER alexnet.safetensors [--images 120]

The sets of ``benchmarks.validity.photographs``: made of images that the encoder was not trained on.
CAS, CLIPScore and LPIPS judge an image: AUROC of telling it from ``another``, an unspoilt image of
the class, with 95% intervals over cases. FID and the Inception Score judge a set: their value
against photographs that no set is made of, beside the middle 95% of 200 unspoilt sets of the same
size and classes, drawn with replacement as ``another`` is. No InceptionV3 was at hand: both take
EfficientNet-lite0 with its ImageNet weights, FID its pooled features, the Inception Score its
posterior. ``benchmarks.lpips_backbone`` writes the AlexNet of LPIPS.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.image.inception import InceptionScore

from benchmarks.real import backbone, planted
from benchmarks.real.pictures import SIDE, WORLDS
from benchmarks.validity.photographs import spoilt
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.scoring.pipeline import score_manifests
from cas_metric.sets.diversity import load_lpips
from cas_metric.sets.fidelity import frechet_distance
from cas_metric.statistics.tables import markdown_table
from cas_metric.statistics.uncertainty import resampling_counts

#: The set that the others are told from.
GOOD: Final = "another"
#: Unspoilt sets that say where FID and the Inception Score lie by chance.
DRAWS: Final = 200
_BATCH: Final = 16


def pixels(manifest: Manifest, side: int) -> Tensor:
    """``(N, 3, side, side)`` in [0, 1]."""
    rows = []
    for path in manifest.paths():
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            rows.append(np.asarray(small, dtype=np.float32) / 255)
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)


class ImageNet:
    """EfficientNet-lite0: pooled features ``(N, 1280)`` and logits ``(N, 1000)`` of images."""

    def __init__(self) -> None:
        self.network: Any = timm.create_model(backbone.MODEL).eval()
        backbone.load_into(self.network)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[np.ndarray, Tensor]:
        """Features and logits of ``(N, 3, 224, 224)`` in [0, 1]."""
        features, logits = [], []
        for batch in ((images - 0.5) / 0.5).split(_BATCH):
            pooled = self.network.forward_head(self.network.forward_features(batch), True)
            features.append(pooled.double())
            logits.append(self.network.get_classifier()(pooled))
        return torch.cat(features).numpy(), torch.cat(logits)


def inception_score(logits: Tensor) -> float:
    """Of one block of all images, by torchmetrics."""
    with warnings.catch_warnings():
        # It says that it keeps what it is given, and that one block has no deviation.
        warnings.simplefilter("ignore", UserWarning)
        metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
        metric.update(logits.double())
        return float(metric.compute()[0])


def same_classes(labels: list[str], pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of a pool, drawn with replacement, as many of each class as ``labels`` has."""
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(pool == name), labels.count(name))
            for name in sorted(set(labels))
        ]
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("world", choices=list(WORLDS))
    parser.add_argument("encoder")
    parser.add_argument("alexnet", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/which-measure"))
    parser.add_argument("--images", type=int, default=120)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, out = WORLDS[options.world], options.out.absolute() / options.world
    parts = spoilt(options.world, out, options.images)
    encoder = load_encoder(options.encoder, device="cpu", offline=True)
    lpips, imagenet = load_lpips(options.alexnet), ImageNet()
    found: dict[str, dict[str, np.ndarray]] = {}
    sets: dict[str, tuple[np.ndarray, Tensor]] = {}
    labels: list[str] = []
    with EmbeddingCache(options.out / "cache") as cache:
        for method in planted.SPOILT:
            images = read_manifest(out / "planted" / method)
            scores = score_manifests(
                images, parts["test"], encoder=encoder, cache=cache, domain=world.domain,
                train=parts["critic"],
            )  # fmt: skip
            rows = scores.rows.set_index("id").loc[images.rows["id"]]
            references = parts["test"].rows["id"].tolist()
            order = [references.index(one) for one in images.rows["reference"]]
            partners = pixels(parts["test"].take(order), SIDE) * 2 - 1
            with torch.no_grad():
                pairs = zip(
                    (pixels(images, SIDE) * 2 - 1).split(_BATCH),
                    partners.split(_BATCH),
                    strict=True,
                )
                apart = torch.cat([lpips(one, other).reshape(-1) for one, other in pairs])
            found[method] = {
                "CAS": rows["cas"].to_numpy(float),
                "CLIPScore": 100 * rows["vdc"].to_numpy(float).clip(min=0),
                "LPIPS": -apart.numpy().astype(float),  # more is worse
            }
            sets[method] = imagenet(pixels(images, backbone.SIDE))
            labels = images.rows["label"].tolist()
    for line in table(found, sets, labels, parts, imagenet):
        print(line)


def table(
    found: dict[str, dict[str, np.ndarray]],
    sets: dict[str, tuple[np.ndarray, Tensor]],
    labels: list[str],
    parts: dict[str, Manifest],
    imagenet: ImageNet,
) -> list[str]:
    """The rows of the table, and the range of unspoilt sets."""
    reference, _ = imagenet(pixels(parts["critic"], backbone.SIDE))
    unspoilt, logits = imagenet(pixels(parts["test"], backbone.SIDE))
    classes, rng = parts["test"].rows["label"].to_numpy(), np.random.default_rng(0)
    chance = []
    for _ in range(DRAWS):
        rows = same_classes(labels, classes, rng)
        chance.append((frechet_distance(unspoilt[rows], reference), inception_score(logits[rows])))
    low, high = np.quantile(chance, [0.025, 0.975], axis=0)
    counts = np.concatenate(list(resampling_counts(len(labels), 1000, 0)))
    counts = np.vstack([np.ones(len(labels)), counts])
    body = []
    for method, (features, own) in sets.items():
        cells = [method]
        for name, bad in found[method].items():
            area = areas(found[GOOD][name], bad, counts)
            interval = np.quantile(area[1:], [0.025, 0.975])
            cells.append(
                "" if method == GOOD else f"{area[0]:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
            )
        distance, score = frechet_distance(features, reference), inception_score(own)
        body.append([*cells, f"{distance:.2f}", f"{score:.2f}"])
    ranges = [f"{a:.2f} to {b:.2f}" for a, b in zip(low, high, strict=True)]
    body.append(["unspoilt sets", "", "", "", *ranges])
    names = list(found[GOOD])
    means = [f"{name} of {GOOD}: {abs(found[GOOD][name].mean()):.3f}" for name in names]
    return [
        f"{len(labels)} images a set, made of {len(unspoilt)}; FID against {len(reference)} others",
        "; ".join(means),
        markdown_table(["set", *names, "FID", "Inception Score"], body),
    ]


def areas(good: np.ndarray, bad: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUROC ``(draws,)`` of a score that is lower for ``bad``, cases counted as ``counts`` says."""
    won = (bad[None] < good[:, None]) + 0.5 * (bad[None] == good[:, None])
    return np.asarray(((counts @ won) * counts).sum(axis=1) / counts.sum(axis=1) ** 2)


if __name__ == "__main__":
    main()
