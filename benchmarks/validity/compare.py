"""Does ``cas-v2`` find planted failures better than ``cas-v1``, its primitives and its peers?

    python -m benchmarks.validity.compare [--out runs/validity-v2] [--backbone alexnet.safetensors]

The combination was chosen by the mean AUROC over the eight failures on radiographs and dermatology
with two encoders; all other cells were looked at once, afterwards. Prints both halves: every
candidate, the table of failures, and paired intervals (cases resampled within domains, shared by
encoders). Sets and embeddings are kept.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from benchmarks.paper.planted_failures import FAILURES, FAITHFUL, Folders
from benchmarks.paper.validity_scores import add_peers, features
from benchmarks.validity import sets
from benchmarks.validity.candidates import combined, contrastive
from cas_metric.calibrated.alignment import calibrate
from cas_metric.calibrated.measures import measure
from cas_metric.embedding.cache import EmbeddingCache
from cas_metric.embedding.passes import embed_texts
from cas_metric.encoders import load_encoder
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.tables import markdown_table
from cas_metric.statistics.uncertainty import resampling_counts

ENCODERS = ("phantom-siglip", "phantom-metaclip", "phantom-medsiglip")
CHOSEN_ON = [
    (domain, encoder)
    for domain in ("phantom-chexpert", "phantom-fitzpatrick17k")
    for encoder in ENCODERS[:2]
]
RIVALS = {
    "cas": "cas-v1", "vdc": "VDC", "ccs": "CCS", "dd": "DD", "dd_prob": "p(label)", "sfs": "SFS",
    "label_cosine": "CLIPScore", "ssim": "SSIM", "lpips_similarity": "LPIPS",
    "real_similarity": "nearest real",
}  # fmt: skip
V2 = "alignment"
#: Failures of a finding, which an image of a healthy class does not have.
ABOUT_A_FINDING = ("wrong_side", "exaggeration")
_RESAMPLES = 1000


def score_cell(
    domain: str, spec: str, folders: Folders, cache: EmbeddingCache
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """One row a planted image with every score; and the candidates' scores."""
    encoder = load_encoder(spec, device="cpu", offline=True)
    found = sets.score(domain, folders, encoder, cache)
    images, real = measure(found, encoder, cache)
    rows = pd.concat([found.rows, calibrate(images, real)], axis=1)
    rows["failure"] = rows["method"].str.split(" ").str[0]
    rows["case"] = [Path(reference).stem for reference in rows["reference"]]
    rows["digest"] = found.material.images["generated"].digests
    bare = embed_texts(list(found.inputs.classes), encoder, cache).embeddings
    own = bare[found.inputs.generated["class_index"].to_numpy()]
    rows["label_cosine"] = (found.material.images["generated"].embeddings * own).sum(axis=1)
    contrasts = (contrastive(found, "generated", images), contrastive(found, "real", real))
    forms = {"absolute": (images.primitives, real.primitives), "contrast": contrasts}
    return rows, combined(images, real, forms)


def wins(rows: pd.DataFrame, scores: np.ndarray, failure: str) -> tuple[np.ndarray, np.ndarray]:
    """``(n, n)`` whether a failing image is below a faithful one, and which cases these are."""
    table = rows.assign(score=scores).set_index("case")
    good, bad = (table[table["failure"] == one].sort_index() for one in (FAITHFUL, failure))
    changed = (good.loc[bad.index, "digest"] != bad["digest"]).to_numpy()
    cases = np.flatnonzero(changed)
    above, below = good["score"].to_numpy()[cases], bad["score"].to_numpy()[cases]
    return (below[None] < above[:, None]) + 0.5 * (below[None] == above[:, None]), cases


def aurocs(rows: pd.DataFrame, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``(R, failures)`` AUROC in every resample of the cases; a row of ones gives the estimate."""
    columns = []
    for failure in FAILURES:
        won, cases = wins(rows, scores, failure)
        drawn = counts[:, cases]
        columns.append(((drawn @ won) * drawn).sum(axis=1) / drawn.sum(axis=1) ** 2)
    return np.stack(columns, axis=1)


def resamples(cases: int, seed: int) -> np.ndarray:
    """Everything once, then draws with replacement."""
    drawn = np.concatenate(list(resampling_counts(cases, _RESAMPLES, seed)))
    return np.vstack([np.ones((1, cases)), drawn])


def tables(cells: dict[tuple[str, str], tuple[pd.DataFrame, dict[str, np.ndarray]]]) -> str:
    """Both halves as Markdown."""
    counts = {d: resamples(sets.CASES, k) for k, d in enumerate(dict.fromkeys(c[0] for c in cells))}
    names = [V2, "deviation", *(n for n in RIVALS if all(n in rows for rows, _ in cells.values()))]
    found = {
        cell: {n: aurocs(rows, rows[n].to_numpy(float), counts[cell[0]]) for n in names}
        for cell, (rows, _) in cells.items()
    }
    halves = {
        "chosen on": [cell for cell in cells if cell in CHOSEN_ON],
        "confirmed on": [cell for cell in cells if cell not in CHOSEN_ON],
    }
    parts = []
    for title, half in halves.items():
        if half:
            parts += [f"## {title}: {len(half)} cells", _candidates(cells, half, counts)]
            parts += [_failures(found, half, names), _paired(found, half, names)]
    rest = [_worst(found), _by_finding(cells), _agreement(cells), _beyond(cells)]
    return "\n\n".join([*parts, *rest])


def _candidates(cells: dict, half: list, counts: dict) -> str:
    lines = []
    for name in cells[half[0]][1]:
        means = [
            aurocs(cells[cell][0], cells[cell][1][name], counts[cell[0]][:1])[0] for cell in half
        ]
        lines.append((name, np.mean(means, axis=0), float(np.mean(means))))
    lines.sort(key=lambda line: -line[2])
    body = [[n, f"{mean:.4f}", *(f"{v:.2f}" for v in values)] for n, values, mean in lines]
    return markdown_table(["candidate", "mean", *(f.replace("_", " ") for f in FAILURES)], body)


def _failures(found: dict, half: list, names: list[str]) -> str:
    body = []
    for k, failure in enumerate(FAILURES):
        values = [np.mean([found[cell][n][0, k] for cell in half]) for n in names]
        body.append([failure.replace("_", " "), *(f"{v:.3f}" for v in values)])
    values = [np.mean([found[cell][n][0] for cell in half]) for n in names]
    body.append(["mean", *(f"{v:.3f}" for v in values)])
    return markdown_table(["failure", *(RIVALS.get(n, n) for n in names)], body)


def _paired(found: dict, half: list, names: list[str]) -> str:
    body = []
    for name in names[1:]:
        gap = np.mean([(found[c][V2] - found[c][name]).mean(axis=1) for c in half], axis=0)
        low, high = np.quantile(gap[1:], [0.025, 0.975])
        body.append([RIVALS.get(name, name), f"{gap[0]:+.4f}", f"{low:+.4f} to {high:+.4f}"])
    return markdown_table(["alignment less", "mean AUROC", "95%"], body)


def _worst(found: dict) -> str:
    body = [
        [*cell, *(f"{found[cell][n][0, k]:.2f}" for k in range(len(FAILURES)) for n in (V2,))]
        for cell in found
    ]
    return markdown_table(["domain", "encoder", *(f.replace("_", " ") for f in FAILURES)], body)


def _by_finding(cells: dict) -> str:
    """What has no finding can neither show it on the wrong side nor exaggerate it."""
    body = []
    for cell, (rows, _) in cells.items():
        sides = rows.set_index("case").groupby("failure")["digest"]
        healthy = sides.get_group(FAITHFUL) == sides.get_group("missing_finding")
        none = rows["case"].isin(healthy.index[healthy])
        parts = (rows[~none], rows[none]) if none.any() else (rows,)
        line = ["chosen on" if cell in CHOSEN_ON else "confirmed on", *cell]
        for failure in ABOUT_A_FINDING:
            told = [wins(part, part[V2].to_numpy(float), failure)[0].mean() for part in parts]
            line += [f"{told[0]:.3f}", f"{told[1]:.3f}" if none.any() else "–"]
        body.append(line)
    for half in ("chosen on", "confirmed on"):
        with_one = np.array([line[3::2] for line in body if line[0] == half], dtype=float)
        if len(with_one):
            side, more = with_one.mean(axis=0)
            body.append([half, "mean", "", f"{side:.3f}", "", f"{more:.3f}", ""])
    head = [f"{one.replace('_', ' ')}{end}" for one in ABOUT_A_FINDING for end in ("", ", none")]
    return markdown_table(["half", "domain", "encoder", *head], body)


def _agreement(cells: dict) -> str:
    """Order of the sets, and of the images, between encoders."""
    body = []
    for domain in dict.fromkeys(cell[0] for cell in cells):
        by = {cell[1]: rows for cell, (rows, _) in cells.items() if cell[0] == domain}
        for left, right in combinations(by, 2):
            line = [domain, f"{left}, {right}"]
            sides = by[left], by[right]
            for name in ("cas", V2):
                means = [rows.groupby("failure")[name].mean() for rows in sides]
                line.append(f"{kendalltau(*means).statistic:.3f}")
            line += [f"{spearmanr(*(r[n] for r in sides)).statistic:.3f}" for n in ("cas", V2)]
            body.append(line)
    mean = [f"{np.mean([float(line[k]) for line in body]):.3f}" for k in range(2, 6)]
    head = ["domain", "encoders", "sets τ v1", "sets τ v2", "images ρ v1", "images ρ v2"]
    return markdown_table(head, [*body, ["mean", "", *mean]])


def _beyond(cells: dict) -> str:
    """AUROC among images whose diagnosis is right, and how far the tail is a wrong diagnosis."""
    body = []
    for cell, (rows, _) in cells.items():
        same = set(
            rows.loc[rows["failure"] == FAITHFUL, "digest"]
        )  # a class without a sign to miss
        changed = (rows["failure"] == FAITHFUL) | ~rows["digest"].isin(same)
        right = rows[(rows["dd"] == 1) & changed]
        good = right.loc[right["failure"] == FAITHFUL, V2].to_numpy()
        line = [*cell]
        for failure in FAILURES:
            bad = right.loc[right["failure"] == failure, V2].to_numpy()
            won = (bad[None] < good[:, None]) + 0.5 * (bad[None] == good[:, None])
            line.append(f"{won.mean():.2f}" if len(bad) >= 5 else "–")
        body.append(line)
    return markdown_table(["DD = 1", "encoder", *(f.replace("_", " ") for f in FAILURES)], body)


def main() -> None:
    """Score all cells, then print both halves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/validity-v2"))
    parser.add_argument("--backbone", type=Path, help="AlexNet weights of LPIPS, safetensors")
    options = parser.parse_args()
    cells = {}
    with EmbeddingCache(options.out / "cache") as cache:
        for domain in DOMAINS:
            folders = sets.write(domain, options.out / "sets" / domain)
            seen = features(folders, cache)
            peers = None
            for spec in ENCODERS:
                rows, scores = score_cell(domain, spec, folders, cache)
                if peers is None:
                    peers, left_out = add_peers(rows, folders, seen, options.backbone)
                    print(*left_out, sep="\n", flush=True)
                known = [c for c in ("ssim", "lpips_similarity", "real_similarity") if c in peers]
                cells[domain, spec] = rows.assign(**{c: peers[c] for c in known}), scores
    text = tables(cells)
    (options.out / "validity-v2.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
