"""Which score notices that the label is wrong? Reports, items and encoders on the same images.

``python -m benchmarks.phantoms.rivals DOMAIN [--count N] [--mllm SPEC]`` draws N phantoms and gives
every second one the label (and the prompt and the real partner) of another class. Each image is
then scored by CAS and its parts (``cas score``) and by a language model: support of its report,
pass rate of its checklist, and P(yes). Printed is, of each, the area under the ROC curve of right
against wrong labels, with the interval of 2,000 bootstrap draws over images.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from cas_metric.manifest import FolderConfig
from cas_metric.mllm.asking import Asking
from cas_metric.phantoms import canonical_domain, generator, render_phantom, renderer
from cas_metric.phantoms.dataset import read_specs, write_phantom_dataset, write_phantom_folder
from cas_metric.phantoms.failures import fresh_nuisance
from cas_metric.statistics.graded import auroc
from cas_metric.statistics.tables import markdown_table
from cas_metric.verbs.audit import audit
from cas_metric.verbs.score import score

DRAWS = 2000


def planted(domain: str, real: Path, out: Path, seed: int) -> pd.Series:
    """Images of the real cases' findings, every second one of another case and class.

    Returns:
        ``(N,)`` whether the label of an image is right, by its id.
    """
    artist = renderer(domain)
    rng = np.random.default_rng(seed)
    cases = read_specs(real)
    names = list(cases)
    right, items = {}, []
    for number, (case, spec) in enumerate(cases.items()):
        drawn = spec
        if number % 2:
            others = [name for name in names if cases[name].label != spec.label]
            drawn = cases[str(rng.choice(others))]
        fresh = fresh_nuisance(artist, drawn, generator(domain, drawn.label, seed, 77, number))
        phantom = render_phantom(artist, fresh)
        phantom = dataclasses.replace(phantom, label=spec.label, prompt=artist.describe(spec))
        row = {"id": f"made-{case}", "reference": case, "method": "planted", "seed": 0}
        items.append((phantom, row))
        right[row["id"]] = drawn is spec
    config = FolderConfig(domain=domain, provenance={"embedded": True, "seed": seed})
    write_phantom_folder(out, config, items, lambda: None)
    return pd.Series(right)


def scores(
    domain: str, count: int, mllm: str, seed: int, folder: Path
) -> tuple[pd.DataFrame, pd.Series]:
    """``(N, scores)`` of the images, and which labels are right."""
    train = 12 * len(renderer(domain).classes)
    write_phantom_dataset(
        domain, folder / "real", train=train, test=count, seed=seed, balanced=True
    )
    right = planted(domain, folder / "real" / "test", folder / "made", seed)
    run = folder / "run"
    score(folder / "made", folder / "real" / "test").save(run)
    rows = pd.read_csv(run / "per_image.csv").set_index("id").loc[right.index]
    table = rows[["cas", "ccs", "dd", "sfs", "vdc"]].rename(columns=str.upper)
    asking = Asking(mllm, repairs=0)
    reports = audit([str(run)], asking, report=True).tables["reports"].set_index("id")
    table["report"] = reports["support"]
    items = audit([str(run)], asking).tables["audit"]
    present = items.assign(there=(items["verdict"] == "present").astype(float))
    table["verdicts"] = present.groupby("id")["there"].mean()
    graded = audit([str(run)], asking, graded=True).tables["audit"]
    table["P(yes)"] = graded.groupby("id")["score"].mean()
    return table, right


def main() -> None:
    """Print the table of one domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--mllm", default="phantom-llava")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    domain = canonical_domain(options.domain)
    with tempfile.TemporaryDirectory() as name:
        table, right = scores(domain, options.count, options.mllm, options.seed, Path(name))
    truth = right.to_numpy(dtype=float)
    rng = np.random.default_rng(options.seed)
    draws = rng.integers(len(truth), size=(DRAWS, len(truth)))
    lines = []
    for column in table.columns:
        values = table[column].fillna(0.0).to_numpy()
        found = [auroc(values[draw], truth[draw]) for draw in draws]
        low, high = np.nanquantile(found, [0.025, 0.975])
        missing = int(table[column].isna().sum())
        cells = [f"{auroc(values, truth):.3f} [{low:.3f}, {high:.3f}]", str(missing)]
        lines.append([column, *cells])
    print(f"{domain}, {len(truth)} images, {int(truth.sum())} with the right label\n")
    print(markdown_table(["score", "AUROC", "without an answer"], lines))


if __name__ == "__main__":
    main()
