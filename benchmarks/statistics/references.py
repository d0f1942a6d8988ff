"""Set measures beside their reference implementation, on the same features of real images.

    python -m benchmarks.statistics.references CHECKOUT GENERATED TRAIN TEST [--encoder NAME]

``CHECKOUT`` is a copy of https://github.com/layer6ai-labs/dgm-eval (Stein et al. 2023), read from
its ``dgm_eval/metrics``; it needs scikit-learn and tqdm. ``GENERATED``, ``TRAIN`` and ``TEST`` are
what ``cas score`` takes. Printed is one row a measure: ours, theirs, and the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np

from cas_metric.manifest.sources import as_manifest
from cas_metric.sets.copying import authenticity, copying_in_cells, data_copying
from cas_metric.sets.diversity import embedding_diversity
from cas_metric.sets.fidelity import frechet_distance, manifolds
from cas_metric.sets.kernels import kernel_distance
from cas_metric.verbs.features import choose_encoder, embed

Features = np.ndarray[Any, np.dtype[np.float64]]


def rows(ours: Features, train: Features, test: Features, checkout: Path) -> list[list[Any]]:
    """Measure, our value and that of the reference."""
    authpct, ct, fd, mmd, prdc, vendi = (
        _module(checkout / "dgm_eval" / "metrics" / f"{name}.py")
        for name in ("authpct", "ct", "fd", "mmd", "prdc", "vendi")
    )
    cells, c_t = _cells(ours, train, test, ct)
    size = min(len(ours), len(train))
    overlap = manifolds(ours, train, k=5)._asdict()
    other = prdc.compute_prdc(train, ours, nearest_k=5)
    whole = kernel_distance(ours[:size], train[:size], subsets=1, subset_size=size).mean
    whole_of_theirs = mmd.compute_mmd(train[:size], ours[:size], n_subsets=1, subset_size=size)
    vendi_score = embedding_diversity(ours).vendi_score
    return [
        ["AuthPct", authenticity(ours, train), authpct.compute_authpct(train, ours)],
        ["C_T, their cells", copying_in_cells(*cells).c_t, c_t],
        ["C_T, own cells", data_copying(ours, train, test).c_t, c_t],
        ["Fréchet distance", frechet_distance(ours, train), fd.compute_FD_with_reps(train, ours)],
        ["kernel distance", whole, whole_of_theirs[0]],
        *([name, value, other[name]] for name, value in overlap.items()),
        ["Vendi score", vendi_score, vendi.compute_vendi_score(ours)],
    ]


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cells(
    ours: Features, train: Features, test: Features, module: Any
) -> tuple[tuple[Features, ...], float]:
    """Sets and cells as the reference takes them, and its C_T for them."""
    from scipy.stats import mannwhitneyu
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    # Its brute-force distances of an image to itself are not 0 but rounding, and take ranks.
    module.NN = functools.partial(NearestNeighbors, algorithm="kd_tree")
    # Written for a SciPy that gave a number for two columns.
    module.mannwhitneyu = lambda a, b, alternative: mannwhitneyu(
        a.ravel(), b.ravel(), alternative=alternative
    )
    known, held_out, made = module.preprcoess_ct(train, test, ours)
    means = KMeans(n_clusters=3, n_init=10, random_state=0).fit(known)
    labels = [means.predict(one) for one in (made, known, held_out)]
    value = module.C_T(
        *(held_out, labels[2], made, labels[0], known, labels[1]), tau=20 / len(made)
    )
    return (made, known, held_out, *labels), float(value)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("sets", type=Path, nargs=3, metavar="SET")
    parser.add_argument("--encoder", default="phantom-siglip")
    arguments = parser.parse_args()
    ours, train, test = (_features(path, arguments.encoder) for path in arguments.sets)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = rows(ours, train, test, arguments.checkout)
    print(f"{len(ours)} / {len(train)} / {len(test)} images, {ours.shape[1]} features\n")
    print("| measure | ours | dgm-eval | difference |\n| --- | --- | --- | --- |")
    for name, value, other in found:
        print(f"| {name} | {value:.6f} | {other:.6f} | {abs(value - other):.1e} |")


def _features(path: Path, encoder: str) -> Features:
    manifest = as_manifest(path)
    model = choose_encoder(encoder, manifest, device="auto", offline=True, raw=True)
    found = embed(manifest, model, None, None).embeddings.astype(np.float64)
    return found[np.isfinite(found).all(axis=1)]


if __name__ == "__main__":
    main()
