"""What `cas memorization` found, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from cas_metric import protocol
from cas_metric.statistics.rounding import between, fixed
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, p_value


def memorization_markdown(summary: Mapping[str, Any]) -> str:
    """Tables 17 and 18, the verdict, and how many images could not be read."""
    notice = [PHANTOM_NOTICE] if summary["embedded_world"] else []
    varied = any("phash_variant_near" in one for one in summary["methods"])
    counts = "method", "n", "ssim_above", "phash_near", *["phash_variant_near"] * varied
    duplicates = [
        [
            *(str(one.get(key, "–")) for key in counts),
            str(one["either"]),
            str(one["aligned"]["hits"]) if "aligned" in one else "–",
            f"{one['aligned']['expected']:.1f}" if "aligned" in one else "–",
            f"{one['max_ssim']:.3f}" if "max_ssim" in one else "–",
        ]
        for one in summary["methods"]
    ]
    limits = [f"SSIM > {protocol.SSIM_THRESHOLD}", f"pHash ≤ {protocol.PHASH_THRESHOLD}"]
    limits += ["symmetry"] * varied
    headings = ["method", "images", *limits, "either", "aligned", "expected", "max SSIM"]
    parts = [*notice, markdown_table(headings, duplicates)]
    if distances := [_distances(one) for one in summary["methods"] if _tested(one)]:
        headings = ["method", "to training", "to test", "difference", "95% interval", "p (Holm)"]
        parts.append(markdown_table(headings, distances))
    parts.append(summary["verdict"])
    parts += [summary[key]["verdict"] for key in ("extraction", "canaries") if key in summary]
    if summary["failures"]:
        parts.append(f"{len(summary['failures'])} images could not be read; see summary.json.")
    return "\n\n".join(parts) + "\n"


def _tested(one: Mapping[str, Any]) -> bool:
    return "p_nearer_to_train" in one.get("neighbours", {})


def _distances(one: Mapping[str, Any]) -> list[str]:
    near = one["neighbours"]
    gap = near["difference"]
    four = partial(fixed, digits=4, signed=True)
    return [
        *(one["method"], fixed(near["train"], 4), fixed(near["test"], 4)),
        four(gap["estimate"]),
        between([gap["low"], gap["high"]], four),
        p_value(near["p_nearer_to_train_adjusted"]),
    ]
