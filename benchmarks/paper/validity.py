"""Does CAS find failures that are known to be there? Planted failures in the embedded world.

    python -m benchmarks.paper.validity [--domain phantom-chexpert …] [--images 100] [--train 400]
        [--encoders phantom-siglip phantom-medsiglip phantom-metaclip]
        [--backbone alexnet.safetensors] [--out runs/validity]

For every domain: how each primitive and CAS respond to the dose of each failure; the AUROC of
finding it at full dose, beside metrics that can score one image; whether the encoders rank the
sets alike; and what Fréchet and kernel distance of the same sets see. Writes CSV, Markdown and
figures. Sets and embeddings are kept, so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from benchmarks.paper import validity_report as report
from benchmarks.paper.planted_failures import write_sets
from benchmarks.paper.validity_scores import ENCODERS, add_peers, features, score_sets
from benchmarks.paper.validity_tables import detection, dose_response, rankings, set_distances

from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.phantoms import DOMAINS, canonical_domain


def measure(domain: str, root: Path, options: argparse.Namespace) -> None:
    """Write all tables and figures of one domain into ``root``."""
    folders = write_sets(domain, root, train=options.train, images=options.images)
    with EmbeddingCache(options.out / "cache") as cache:
        by_encoder = {spec: score_sets(domain, folders, cache, spec) for spec in options.encoders}
        found = features(folders, cache)
    evaluator = options.encoders[0]
    rows, left_out = add_peers(by_encoder[evaluator], folders, found, options.backbone)
    tables = {
        "dose": dose_response(rows),
        "auroc": detection(rows),
        "sets": set_distances(rows, found),
        "rankings": rankings(by_encoder),
    }
    pd.concat([rows, *list(by_encoder.values())[1:]]).to_csv(root / "per_image.csv", index=False)
    for name, table in tables.items():
        table.to_csv(root / f"{name}.csv", index=False)
    report.draw(tables, root, title=domain)
    text = report.markdown(domain, evaluator, tables, left_out)
    (root / "validity.md").write_text(text, encoding="utf-8")
    print(text, flush=True)


def main() -> None:
    """Measure the domains one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--domain", nargs="+", default=DOMAINS, type=canonical_domain)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--backbone", type=Path, help="AlexNet weights of LPIPS, safetensors")
    parser.add_argument("--out", type=Path, default=Path("runs/validity"))
    options = parser.parse_args()
    for domain in options.domain:
        measure(domain, options.out / domain, options)


if __name__ == "__main__":
    main()
