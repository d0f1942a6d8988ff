"""Does synthetic data help a classifier of real images?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cas_metric.errors import InputError
from cas_metric.files import write_bytes
from cas_metric.protocol import BOOTSTRAP_SEED
from cas_metric.verbs.inputs import (
    domain_of,
    domain_title,
    failure_list,
    load_run,
    named_manifests,
    run_warnings,
    split_name,
)
from cas_metric.verbs.memorization import PACKAGES
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import FolderResult

if TYPE_CHECKING:
    from cas_metric.downstream.comparison import Outcome
    from cas_metric.downstream.grid import Experiment
    from cas_metric.downstream.pictures import LabelledPictures
    from cas_metric.manifest import Manifest
    from cas_metric.manifest.sources import Source

#: Shares of the real training images that are trained on.
SCALES: Final = (0.25, 0.5, 1.0)
#: Fewest methods that a correlation is worth computing for.
_FEWEST: Final = 3


class _Read(NamedTuple):
    """Manifests and their pictures."""

    train: Manifest
    test: Manifest
    methods: dict[str, Manifest]
    real: LabelledPictures
    held_out: LabelledPictures
    synthetic: dict[str, LabelledPictures]

    @property
    def errors(self) -> dict[str, str]:
        """Path of each unreadable image to the reason."""
        parts = (self.real, self.held_out, *self.synthetic.values())
        return {path: why for part in parts for path, why in part.errors.items()}


def utility(
    train: Source,
    test: Source,
    generated: Mapping[str, Source] | Iterable[str],
    *,
    scales: Sequence[float] = SCALES,
    seeds: int = 5,
    focus: str | None = None,
    runs: Sequence[str] = (),
    model: str = "resnet18",
    weights: str | Path | None = None,
    size: int | None = None,
    share: float = 0.2,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    batch_size: int = 50,
    augment: bool = True,
    folder: str | Path | None = None,
    offline: bool = False,
    device: str = "auto",
    num_workers: int | None = None,
    progress: Progress | None = None,
) -> FolderResult:
    """Train classifiers on real and synthetic images together and test them on real ones (Fig. 3).

    Args:
        train: Real images to train on, with labels; as
            :func:`~cas_metric.manifest.sources.as_manifest` takes them.
        test: Real images to test on, with labels.
        generated: Synthetic images: method to source, or ``PATH`` or ``NAME=PATH`` each.
        scales: Shares of the real training images, in (0, 1].
        seeds: Number of training seeds.
        focus: Method to compare with the best of the others; by default the most accurate, which
            is then chosen after the fact.
        runs: Runs of ``score`` of these methods, ``PATH`` or ``NAME=PATH`` each; of three methods
            or more, their CAS is correlated with both scores (Appendix G).
        model: ``resnet18`` or ``small``.
        weights: Safetensors file of torchvision's ResNet-18 to start from.
        size: Side of the pictures; by default 224, or 64 for ``small``.
        share: Share of every batch that is synthetic, in [0, 1).
        epochs: Updates of every classifier, as passes over all real training images.
        learning_rate: Peak of the one-cycle schedule of AdamW.
        batch_size: Images in a batch.
        augment: Mirror and shift training images.
        folder: Where pictures and finished classifiers are kept, so that the same call continues an
            interrupted one, and where the result is saved by default: ``utility``.
        offline: Never use the network.
        device: ``auto`` or a torch device.
        num_workers: Threads that read and decode.
        progress: Told how far the work is.

    Returns:
        One row a classifier (``utility``), and in the summary scores by method and scale, and
        comparisons over seeds and over test images.

    Raises:
        InputError: Wrong sources or settings.
        ModelUnavailable: There are no such weights.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.utility(
        ...     *("demo/real/train", "demo/real/test", {"faithful": "demo/generated/faithful"}),
        ...     model="small", size=16, scales=[1], seeds=1, epochs=1, folder="demo/utility",
        ... )
        >>> [one["method"] for one in found.summary["methods"]]
        ['real only', 'faithful']
    """
    from cas_metric.downstream.batches import synthetic_per_batch
    from cas_metric.downstream.comparison import Outcome
    from cas_metric.downstream.grid import Experiment, run
    from cas_metric.downstream.networks import SIZES, build_network
    from cas_metric.downstream.training import Recipe
    from cas_metric.encoders.devices import resolve_device
    from cas_metric.runs.folder import Origin, result_folder

    # A wrong name, file or device shows before decoding.
    synthetic_per_batch(batch_size, share)
    chosen = str(resolve_device(device))
    start = Path(weights) if weights is not None else None
    build_network(model, 2, seed=0, weights=start)
    # Methods may be added to a folder, whose classifiers are trained once.
    origin = Origin.of_verb("utility", {"train": train, "test": test})
    place, side = result_folder(folder, Path("utility"), origin), size or SIZES[model]
    read = _read(
        (train, test), generated, size=side, folder=place, offline=offline, num_workers=num_workers,
        progress=counting(progress, "images"),
    )  # fmt: skip
    if focus is not None and focus not in read.methods:
        raise InputError(f"no method {focus!r}", fix=f"one of {', '.join(read.methods)}")
    recipe = Recipe(
        network=model,
        size=side,
        batch_size=batch_size,
        share=share,
        steps=epochs * -(-len(read.real) // batch_size),
        learning_rate=learning_rate,
        augment=augment,
        weights=start,
        device=chosen,
    )
    experiment = Experiment(
        *(read.real, read.held_out, read.synthetic),
        *(sorted({float(scale) for scale in scales}), range(seeds), recipe),
    )
    predictions = run(experiment, place / "cells", counting(progress, "classifiers"))
    outcome = Outcome(
        read.held_out.classes, read.held_out.clusters, len(_classes(read.train)), predictions
    )
    summary = summarise(outcome, focus)
    summary |= _context(read, experiment)
    summary["provenance"]["origin"] = origin.as_dict()
    summary["correlation"] = correlation(runs, outcome)
    summary["warnings"] += run_warnings(load_run(split_name(one)[1]) for one in runs)
    return _result(summary, read, place)


def _result(summary: dict[str, Any], read: _Read, folder: Path) -> FolderResult:
    import pandas as pd

    from cas_metric.report.utility import utility_markdown

    classifiers = pd.DataFrame(summary["classifiers"])
    classifiers["n_real"] = classifiers["scale"].astype(str).map(summary["n_real"])
    classifiers["n_synthetic"] = [
        summary["n_synthetic"].get(method, 0) for method in classifiers["method"]
    ]
    tables = {"utility": classifiers}
    found = summary["correlation"]
    if found:
        tables["cas_utility"] = pd.DataFrame(found["rows"])
    text = utility_markdown(summary, _correlations(found) if found else "")
    manifests = (read.train, read.test, *read.methods.values())
    return FolderResult(
        "utility",
        summary,
        text,
        tables,
        (partial(_write_rest, summary, text),),
        read.errors,
        tuple(summary["warnings"]),
        notes=tuple(note for one in manifests for note in one.notes),
        folder=folder,
    )


def _write_rest(summary: Mapping[str, Any], text: str, folder: Path) -> None:
    """The text and the figure."""
    from cas_metric.downstream.grid import REAL_ONLY
    from cas_metric.report.figures import save_figure
    from cas_metric.report.utility import utility_figure

    n_real = {float(scale): count for scale, count in summary["n_real"].items()}
    figure = utility_figure(
        summary["methods"], n_real, reference=REAL_ONLY, title=summary["domain"]
    )
    save_figure(figure, folder / "utility")
    write_bytes(folder / "utility.md", text.encode())


def _read(
    real: tuple[Source, Source],
    generated: Mapping[str, Source] | Iterable[str],
    *,
    size: int,
    folder: Path,
    offline: bool,
    num_workers: int | None,
    progress: Progress | None,
) -> _Read:
    """Read all manifests first, so that a mistake in one costs no decoding."""
    from cas_metric.downstream.pictures import read_pictures
    from cas_metric.manifest.sources import as_manifest
    from cas_metric.scoring.labels import same_labels

    named = named_manifests(generated, offline=offline)
    train, test, *made = same_labels(
        [*(as_manifest(one, offline=offline) for one in real), *named.values()], offline=offline
    )
    manifests = train, test
    methods = dict(zip(named, made, strict=True))
    classes = _classes(manifests[0])
    own, held_out, *synthetic = (
        read_pictures(
            manifest, classes, size=size, folder=folder / "pictures", num_workers=num_workers,
            progress=counting(progress, "images"),
        )
        for manifest in (*manifests, *methods.values())
    )  # fmt: skip
    return _Read(*manifests, methods, own, held_out, dict(zip(methods, synthetic, strict=True)))


def summarise(outcome: Outcome, focus: str | None) -> dict[str, Any]:
    """Scores, comparisons and one row a classifier.

    Args:
        outcome: What the classifiers said.
        focus: Method that is held against the best other one; None takes the most accurate.
    """
    from cas_metric.downstream.comparison import SCORES, best_method, by_method, compare_all

    chosen = focus or best_method(outcome)
    seeds = sorted({cell.seed for cell in outcome.predictions})
    rows = [
        {"method": method, "scale": scale, "seed": seed, **dict(zip(SCORES, values, strict=True))}
        for method in sorted(outcome.methods)
        for scale in outcome.scales
        for seed, *values in zip(seeds, *outcome.scores(method, scale).values(), strict=True)
    ]
    return {
        "kind": "utility",
        "focus": {"method": chosen, "chosen_after_the_fact": focus is None},
        "classifiers": rows,
        "methods": by_method(outcome),
        "comparisons": compare_all(outcome, chosen),
    }


def correlation(runs: Sequence[str], outcome: Outcome) -> dict[str, Any] | None:
    """CAS of the methods with both scores at the largest data scale (Appendix G, Table 13).

    Args:
        runs: Directories of ``cas score`` runs, each with or without ``NAME=``.
        outcome: What the classifiers said.

    Returns:
        ``rows`` (method, cas, scores) and ``results``; None without runs.

    Raises:
        InputError: A run's method was not trained with, two runs have one method, or fewer than
            three methods have a CAS.
    """
    import numpy as np
    import pandas as pd

    from cas_metric.downstream.comparison import SCORES
    from cas_metric.statistics.correlation_table import correlate_columns

    if not runs:
        return None
    cas = _mean_cas(runs)
    unknown = sorted(set(cas) - set(outcome.methods))
    if unknown:
        raise InputError(
            f"the runs hold a method {unknown[0]!r} that no classifier was trained with",
            fix=f"rename it with NAME=RUN; the methods are {', '.join(outcome.methods[1:])}",
        )
    if len(cas) < _FEWEST:
        raise InputError(f"a correlation needs three methods, the runs hold {len(cas)}")
    scale = outcome.scales[-1]
    table = pd.DataFrame(
        [
            {
                "method": method,
                "cas": value,
                **{s: v.mean() for s, v in outcome.scores(method, scale).items()},
            }
            for method, value in cas.items()
        ]
    )
    # A score that is the same for every method has no correlation, which is no reason to fail now.
    varying = [score for score in SCORES if np.ptp(table[score]) > 0]
    results = [correlate_columns(table, "", "cas", score, BOOTSTRAP_SEED) for score in varying]
    return {"scale": scale, "rows": table.to_dict("records"), "results": results}


def _mean_cas(runs: Sequence[str]) -> dict[str, float]:
    """Mean CAS of every method of the runs."""
    from cas_metric.runs.folder import read_run

    found: dict[str, float] = {}
    for argument in runs:
        name, path = split_name(argument)
        rows = read_run(path).rows
        methods = rows["method"].fillna("").astype(str)
        if name and len(set(methods)) > 1:
            raise InputError(f"{path} holds several methods", fix="leave NAME= out")
        for own, cas in rows.groupby(methods)["cas"]:
            method = name or str(own) or path.name
            if method in found:
                raise InputError(f"two runs hold the method {method!r}", fix="use NAME=RUN")
            found[method] = float(cas.mean())
    return found


def _correlations(found: Mapping[str, Any]) -> str:
    from cas_metric.report.utility import LABELS
    from cas_metric.statistics.correlation_table import coefficient_table

    parts = [f"## CAS and utility\n\nAt {found['scale']:.0%} of the real images (cas_utility.csv)."]
    for result in found["results"]:  # those of the scores that differ between methods
        parts.append(f"CAS with {LABELS[result['y']]}:")
        parts.append(coefficient_table(result["coefficients"]))
    return "\n\n".join(parts)


def _classes(train: Manifest) -> list[str]:
    """The labels of the real training images, in alphabetical order."""
    classes = sorted(set(train.rows["label"]) - {""})
    if len(classes) < 2:
        raise InputError(
            f"{train.root}: the real training images have {len(classes)} classes, two are needed"
        )
    return classes


def _context(read: _Read, experiment: Experiment) -> dict[str, Any]:
    """What the summary tells beside the scores."""
    import numpy as np

    from cas_metric.downstream.batches import real_subset
    from cas_metric.downstream.leaks import made_for_tests, same_images, same_patients
    from cas_metric.runs.provenance import described, provenance

    named = {"train": read.train, "test": read.test, **read.methods}
    domain = domain_title(domain_of(read.train, read.test, *read.methods.values()))
    pictures = {"the real training images": read.real, **read.synthetic}
    return {
        "domain": domain,
        "embedded_world": domain.startswith("phantom-"),
        "classes": _classes(read.train),
        "n_test": len(read.held_out),
        "n_real": {
            str(scale): len(real_subset(read.real.classes, scale, np.random.default_rng(0)))
            for scale in experiment.scales
        },
        "n_synthetic": {name: len(pictures) for name, pictures in read.synthetic.items()},
        "recipe": experiment.recipe.identity(),
        "seeds": list(experiment.seeds),
        "warnings": [
            *same_images(read.held_out, pictures),
            *same_patients(read.train, read.test),
            *made_for_tests(read.train, read.test, read.methods),
        ],
        "failures": failure_list(read.errors),
        "provenance": provenance(
            "utility", PACKAGES, {name: described(one) for name, one in named.items()}
        ),
    }
