"""By which rule do wrong images go and good ones stay?

    python -m benchmarks.selection_rules [--confirm] [--out runs/validity-v2]

The planted sets of ``benchmarks.validity.compare``: faithful images, and those of another class or
without their finding. Chosen on the half that ``cas-v2`` was chosen on; ``--confirm`` takes the
other half with the seeds of ``benchmarks.validity.regions``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.validity import sets
from benchmarks.validity.compare import CHOSEN_ON, ENCODERS, FAITHFUL
from benchmarks.validity.regions import FRESH
from cas_metric.calibrated.alignment import calibrate
from cas_metric.calibrated.measures import measure
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.encoders import load_encoder
from cas_metric.phantoms import DOMAINS
from cas_metric.selection.keep import levels
from cas_metric.statistics.tables import markdown_table

ALPHAS, WRONG = (0.02, 0.05, 0.1, 0.2), ("wrong_class", "missing_finding")


def shares(domain: str, spec: str, out: Path, seed: int) -> dict[str, tuple[float, float]]:
    """Rule to the shares of good and of wrong images that it keeps."""
    folders = sets.write(domain, out / "sets" / f"{domain}-{seed}", seed=seed)
    encoder = load_encoder(spec, device="cpu", offline=True)
    with EmbeddingCache(out / "cache") as cache:
        found = sets.score(domain, folders, encoder, cache)
        table = calibrate(*measure(found, encoder, cache))
    rows, floor = found.rows, found.floor
    ranks = {
        "alignment": table["alignment"].to_numpy(),
        "rank of CAS": levels(rows["cas"], rows["label"], floor["cas"], floor["label"]),
        "rank of DD": table["rank_dd"].to_numpy(),
    }
    kept = {f"{name} above {a}": rank > a for name, rank in ranks.items() for a in ALPHAS}
    kept["DD = 1"] = rows["dd"].to_numpy() == 1
    both = kept["alignment above 0.05"] & kept["rank of DD above 0.05"]
    kept["alignment and rank of DD above 0.05"] = both
    kinds = rows["method"].str.split(" ").str[0].to_numpy()
    digests = np.array(found.material.images["generated"].digests)
    good = kinds == FAITHFUL
    wrong = np.isin(kinds, WRONG) & ~np.isin(digests, digests[good])
    return {name: (one[good].mean(), one[wrong].mean()) for name, one in kept.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2"))
    parser.add_argument("--confirm", action="store_true")
    options = parser.parse_args()
    every = [(domain, spec) for domain in DOMAINS for spec in ENCODERS]
    cells = [one for one in every if (one in CHOSEN_ON) != options.confirm]
    seed = FRESH if options.confirm else sets.SEED
    found = [shares(*one, options.out, seed) for one in cells]
    body = []
    for name in found[0]:
        good, wrong = np.mean([one[name] for one in found], axis=0)
        body.append([name, f"{good:.3f}", f"{wrong:.3f}", f"{good - wrong:.3f}"])
    print(markdown_table(["rule", "good", "wrong", "difference"], body))


if __name__ == "__main__":
    main()
