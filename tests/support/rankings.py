"""Rankings that raters with known utilities give."""

import numpy as np

from cas_metric.statistics.preference import Rankings


def draw(n_cases=60, raters=2, m=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    utilities = np.linspace(-spread, spread, m) + rng.gumbel(size=(n_cases * raters, m))
    return Rankings(
        methods=tuple("ABCDEF"[:m]),
        cases=np.repeat(np.arange(n_cases).astype(str), raters),
        raters=np.tile([f"r{k}" for k in range(raters)], n_cases),
        ranks=np.argsort(np.argsort(-utilities, axis=1), axis=1) + 1.0,
    )
