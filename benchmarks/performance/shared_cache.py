"""How much is embedded when five methods of five seeds are scored against one real set?

``python -m benchmarks.performance.shared_cache [--images 40]``

Without a store every run embeds its generated and all real images, and both texts of every row.
Here each distinct content is embedded once over all runs. A tenth of each method's images is the
same for every seed, as samplers with a fixed latent or a deterministic baseline deliver them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.performance.workload import write_folders
from cas_metric.domains import load_domain
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.manifest import Manifest, read_manifest
from cas_metric.scoring.embeddings import embed_all_images, embed_all_texts
from cas_metric.scoring.inputs import prepare


def main() -> None:
    """Score 25 folders through one cache and count on both sides."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=40, help="of each generated set")
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", default="phantom-siglip")
    arguments = parser.parse_args()
    naive_images = naive_texts = ours_images = 0
    with tempfile.TemporaryDirectory() as name, EmbeddingCache("none") as cache:
        root = Path(name)
        encoder = load_encoder(arguments.encoder)
        _, folder = write_folders(root / "base", arguments.images)
        real, domain = read_manifest(folder), load_domain(str(root / "base" / "domain.yaml"))
        for generated in generated_sets(root, arguments):
            inputs = prepare(generated, real, domain=domain)
            texts = embed_all_texts(inputs, encoder, cache)
            found = embed_all_images(inputs, texts, encoder, cache)
            rows = len(generated) + len(real)
            naive_images, naive_texts = naive_images + rows, naive_texts + 2 * rows
            ours_images += found.embedded
        ours_texts = len(cache) - ours_images
    runs = arguments.methods * arguments.seeds
    print(f"{runs} runs of {arguments.images} images against {len(real)} real ones")
    for what, naive, ours in (
        ("images", naive_images, ours_images),
        ("texts", naive_texts, ours_texts),
    ):
        print(f"{what}: {naive:,} embeddings one by one, {ours:,} here: {naive / ours:.1f} times")


def generated_sets(root: Path, arguments: argparse.Namespace) -> Iterator[Manifest]:
    """A manifest of each method and seed."""
    for method in range(arguments.methods):
        for seed in range(arguments.seeds):
            place = root / f"{method}-{seed}"
            folder, _ = write_folders(place, arguments.images, stream=1 + method * 100 + seed)
            for number in range(0, arguments.images, 10):
                first = root / f"{method}-0" / "generated" / f"{number}.png"
                if seed:
                    shutil.copy(first, folder / f"{number}.png")
            yield read_manifest(folder)


if __name__ == "__main__":
    main()
