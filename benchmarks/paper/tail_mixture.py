"""Rebuild the paper's thresholds tau from its Real rows: a mixture of two modes a quarter apart.

    python benchmarks/paper/tail_mixture.py

Real rows are made from the means and the DD rate of Table 1 with one normal spread of CAS within
either mode, the same for all data sets; nothing is fitted to Table 14. Printed beside the paper's
tau: the rebuilt one with the interval that resampling gives it, and the verdict on the boundary.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from cas_metric.statistics.bimodality import bimodality
from cas_metric.statistics.claims import load_paper
from cas_metric.statistics.claims.schema import Scores, Tail
from cas_metric.statistics.tail import tail_statistics

SPREAD = 0.0115


def mixture(n: int, vdc: float, ccs: float, dd: float) -> tuple[np.ndarray, np.ndarray]:
    """CAS and DD of ``n`` real images at the quantiles of a normal spread within each mode."""
    n_right = round(n * dd)
    correct = np.repeat([1.0, 0.0], [n_right, n - n_right])
    noise = [norm.ppf((np.arange(size) + 0.5) / size) for size in (n_right, n - n_right)]
    return (vdc + ccs + 1 + correct) / 4 + SPREAD * np.concatenate(noise), correct


def main() -> None:
    """Print one line a data set."""
    tables = load_paper().tables
    taus = {t.dataset: t.tau for t in tables if isinstance(t, Tail)}
    for table in tables:
        if not isinstance(table, Scores) or table.name != "Table 1" or table.n is None:
            continue
        real = next(row for row in table.rows if row.real)
        cas, correct = mixture(table.n, real.vdc.value, real.ccs.value, real.dd.value)
        tau = tail_statistics(cas, cas).tau
        modes = bimodality(cas, correct)
        print(
            f"{table.dataset:15s} tau {taus[table.dataset]}  rebuilt {tau.estimate:.3f} "
            f"[{tau.low:.3f}, {tau.high:.3f}]  DD = 0 in {modes.wrong_share:.1%} "
            f"[{modes.wrong_low:.1%}, {modes.wrong_high:.1%}]  in the {modes.mode} mode, "
            f"other mode with probability {modes.flip_probability:.2f}"
            + ("  BOUNDARY" if modes.warning else "")
        )


if __name__ == "__main__":
    main()
