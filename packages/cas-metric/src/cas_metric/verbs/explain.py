"""Why images score low: which primitive, which attribute, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import CasError, InputError
from cas_metric.verbs.inputs import load_run, run_encoder
from cas_metric.verbs.progress import Progress, counting
from cas_metric.verbs.result import Result, require_free

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cas_metric.domains import Domain
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.encoders.deferred import DeferredEncoder
    from cas_metric.runs import Run

#: Images that are explained where none is named: as many as the report shows.
COUNT: Final = 24
#: Attributes of an image that get a map: those that it lacks most.
MAPPED: Final = 2
#: Real images of each class that a map is held against, at most.
OTHERS: Final = 20
#: Folder of the maps in that of the result.
MAPS: Final = "maps"


@dataclass(frozen=True, eq=False)
class Explanation(Result):
    """Why images score low. Saved into the folder of its run, it enters the report there.

    Attributes:
        run: What was explained.
    """

    run: Run | None = None

    def save(self, folder: str | Path) -> Path:
        """See :meth:`Result.save`."""
        from cas_metric.report.document import write_report
        from cas_metric.runs.folder import Origin

        run, path = self.run.path if self.run is not None else None, Path(folder)
        if run is None or run.resolve() != path.resolve():
            return super().save(path)
        # Of the run that it lies in, wherever that is moved to.
        super(Explanation, replace(self, origin=Origin.of_verb(self.name, {}))).save(path)
        write_report(path)
        return path


def explain(
    run: str | Path | Run,
    *,
    images: Sequence[str] = (),
    count: int = COUNT,
    domain: str | Path | Domain | None = None,
    encoder: str | Path | None = None,
    maps: bool = True,
    occlusion: bool = False,
    device: str = "auto",
    offline: bool = False,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Explain images of a run.

    Args:
        run: Folder of `cas score`, or the run.
        images: Ids to explain; the lowest of each method by default.
        count: How many of them, of each method.
        domain: Checklists; by default those that the run was scored with.
        encoder: The encoder of the run, where its name does not lead to it, such as a directory.
        maps: Draw where the most lacking attributes are seen or missed.
        occlusion: Draw them by occlusion, slow and blind to the model, not by patch tokens.
        device: ``auto`` or a torch device.
        offline: Never use the network.
        cache: Store of embeddings; None takes the user's.
        out: Where it is to be saved: refused before anything is computed, if another result lies
            there.
        progress: Told how many images have their maps.

    Returns:
        A result named ``explanation`` with the tables ``explanation`` (one row an attribute of an
        image, the most lacking first) and ``primitives``; saved, it also writes ``maps/``.

    Raises:
        InputError: No such image, no checklists, another encoder than the run's, or one whose
            patches are not known.
        ModelUnavailable: The encoder cannot be had here.

    Examples:
        >>> import cas_metric
        >>> found = cas_metric.explain("demo/run", count=3)
        >>> found.tables["explanation"].groupby("method")["id"].nunique().tolist()
        [3, 3, 3]
    """
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.explanation.why import explain_attributes, explain_primitives
    from cas_metric.report.explained import digest
    from cas_metric.runs.folder import Origin

    ours = load_run(run)
    origin = Origin.of_verb("explanation", {"run": ours.path})
    require_free(out, "explanation", origin)
    rows = _chosen(ours, images, count)
    pack = _domain(ours, domain, offline)
    model = run_encoder(ours, encoder, device, offline)
    with EmbeddingCache(cache) as store:
        work = _Work(ours, pack, model, store)
        embeddings, failures = work.images(rows, "generated")
        real = _known_real(ours)
        real_embeddings, _ = work.images(real, "real")
        vectors = work.texts()
    attributes = explain_attributes(
        rows, embeddings, real["label"].astype(str).to_numpy(), real_embeddings, pack, vectors
    )
    primitives = explain_primitives(rows, ours.real, ours.floor)
    drawn = _maps(work, rows, attributes, vectors, occlusion, progress) if maps else {}
    summary = {
        "run": str(ours.path or "in memory"),
        "rows": digest(ours.rows),
        "encoder": ours.summary["encoder"],
        "domain": pack.name,
        "embedded_world": bool(ours.summary.get("embedded_world")),
        "by": "occlusion" if occlusion else "patch tokens",
        "images": _entries(rows, attributes, primitives),
    }
    return Explanation(
        "explanation",
        summary,
        _markdown(summary),
        {"explanation": attributes, "primitives": primitives},
        (partial(_write_maps, drawn),) if drawn else (),
        failures=failures,
        warnings=(*(ours.summary.get("warnings") or ()), *_other_checklists(ours, pack)),
        origin=origin,
        run=ours,
    )


def _chosen(run: Run, images: Sequence[str], count: int) -> pd.DataFrame:
    from cas_metric.report.gallery import lowest

    if not images:
        return lowest(run.rows, count)
    named = run.rows["id"].astype(str).isin(list(images))
    missing = sorted(set(images) - set(run.rows["id"].astype(str)))
    if missing:
        raise InputError(f"the run has no image {missing[0]!r}", fix="see the ids in per_image.csv")
    return run.rows[named]


def _domain(run: Run, given: str | Path | Domain | None, offline: bool) -> Domain:
    from cas_metric.domains import Domain, load_domain
    from cas_metric.runs.run import domain_of

    named = given or domain_of(run.summary)
    if not named:
        raise InputError(
            "the run was scored without a domain, so there is no checklist to explain it by",
            fix="name one: --domain NAME or FILE",
        )
    return named if isinstance(named, Domain) else load_domain(named, offline=offline)


def _other_checklists(run: Run, pack: Domain) -> list[str]:
    """A warning where the pack is not known to hold the checklists that the run was scored by."""
    from cas_metric.runs.summary import changed_checklists

    known = set(pack.class_names)
    told = {name: one for name, one in run.summary["text"]["checklists"].items() if name in known}
    changed = changed_checklists({"text": {"checklists": told}}, pack)
    if not changed:
        return []
    return [
        f"{pack.name} is not known to hold the checklists that the run was scored by: "
        f"{', '.join(changed)}; they are explained by those of {pack.name}"
    ]


def _known_real(run: Run) -> pd.DataFrame:
    if run.real is None:
        raise InputError(
            "the run has no real images to hold its images against", fix="score against real images"
        )
    return run.real


@dataclass(frozen=True, eq=False)
class _Work:
    """A run with what its images are embedded by."""

    run: Run
    domain: Domain
    encoder: DeferredEncoder
    cache: EmbeddingCache

    def paths(self, rows: pd.DataFrame, side: str) -> list[Path]:
        """Files of the rows; an error names the first that cannot be told."""
        from cas_metric.runs.run import locate, roots

        root = roots(self.run.summary)[side == "real"]
        found = [locate(root, row, "image") for row in rows.to_dict("records")]
        if None in found:
            raise InputError(
                "the run does not say where its images lie", fix="score them from a folder"
            )
        return [path for path in found if path is not None]

    def images(self, rows: pd.DataFrame, side: str) -> tuple[np.ndarray, dict[str, str]]:
        """Embeddings of rows, through the cache, and the files that could not be read."""
        from cas_metric.embedding.passes import embed_image_files

        paths = self.paths(rows, side)
        found = embed_image_files(
            paths, self.encoder, self.cache, windows=[self.window(side)] * len(paths)
        )
        return found.embeddings, {str(path): why for path, why in found.errors.items()}

    def window(self, side: str) -> Any:
        """The display window of a side."""
        from cas_metric.runs.run import windows

        return windows(self.run.summary)[side == "real"]

    def texts(self) -> dict[str, np.ndarray]:
        """Every attribute of every class, embedded."""
        from cas_metric.embedding.passes import embed_texts
        from cas_metric.explanation.attributes import attribute_texts

        texts = attribute_texts(self.domain)
        if not texts:
            raise InputError(
                f"the domain {self.domain.name} has no checklists", fix="name one that has"
            )
        found = embed_texts(texts, self.encoder, self.cache)
        return dict(zip(texts, found.embeddings, strict=True))


def _maps(
    work: _Work,
    rows: pd.DataFrame,
    attributes: pd.DataFrame,
    vectors: dict[str, np.ndarray],
    occlusion: bool,
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """File name to overlay: of every image its most lacking attributes."""
    from cas_metric.explanation.attributes import attributes_of
    from cas_metric.explanation.maps import along, occlusion_map, token_map
    from cas_metric.explanation.overlay import overlay, seen_part
    from cas_metric.explanation.why import attributes_by_image, image_key, map_name

    told = counting(progress, "maps")
    by_image = attributes_by_image(attributes)
    model = work.encoder.model()
    starts = {} if occlusion else _other_classes(work, model, set(rows["label"].astype(str)))
    drawn = {}
    paths = work.paths(rows, "generated")
    for done, (row, path) in enumerate(zip(rows.to_dict("records"), paths, strict=True), start=1):
        lacking = by_image.get(image_key(row))
        if lacking is None:
            continue
        pixels = _picture(path, work.window("generated"))
        inputs, seen = model.official_preprocess([pixels]), seen_part(pixels, model.preprocessing)
        asked = attributes_of(work.domain, str(row["label"]), vectors)
        for name in lacking["attribute"].head(MAPPED):
            score = along(asked.directions[asked.names.index(name)])
            if occlusion:
                found = occlusion_map(model, inputs, score)
            else:
                found = token_map(model, inputs, score, starts.get(str(row["label"])))
            drawn[map_name(row, name)] = overlay(seen, found)
        if told is not None:
            told(done, len(rows))
    return drawn


def _other_classes(work: _Work, model: Any, labels: set[str]) -> dict[str, Any]:
    """For each label, the patch tokens of real images of the other classes, on average."""
    from cas_metric.explanation.maps import mean_tokens

    real, window, means = _known_real(work.run), work.window("real"), {}
    for label, part in real.groupby(real["label"].astype(str), sort=True):
        frames = []
        for path in work.paths(part.head(OTHERS), "real"):
            try:
                frames.append(_picture(path, window))
            except CasError:
                continue
        if frames:
            means[str(label)] = mean_tokens(model, model.official_preprocess(frames))
    return {
        label: sum(others) / len(others)
        for label in labels
        if (others := [mean for name, mean in means.items() if name != label])
    }


def _picture(path: Path, window: Any) -> np.ndarray:
    """A picture as 8 bits."""
    from cas_metric.images import load_image, to_uint8

    return to_uint8(load_image(path, window=window).pixels)


def _write_maps(drawn: dict[str, np.ndarray], folder: Path) -> None:
    from PIL import Image

    place = folder / MAPS
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, pixels in drawn.items():
            Image.fromarray(pixels).save(place / name)
    except OSError as error:
        raise CasError(f"{place} cannot be written: {error}", fix="choose another --out") from error


def _entries(
    rows: pd.DataFrame, attributes: pd.DataFrame, primitives: pd.DataFrame
) -> list[dict[str, Any]]:
    """What the report and ``--json`` tell of each image."""
    from cas_metric.explanation.why import attributes_by_image, image_key, map_name

    by_image = attributes_by_image(attributes)
    entries = []
    for row, found in zip(rows.to_dict("records"), primitives.to_dict("records"), strict=True):
        lacking = by_image.get(image_key(row))
        listed = [] if lacking is None else lacking.head(MAPPED).to_dict("records")
        entries.append(
            {
                **{name: row[name] for name in ("method", "seed", "id", "label")},
                "lowest": found["lowest"],
                "deviation": found[found["lowest"]] if found["lowest"] else None,
                "attributes": [
                    {
                        **{key: one[key] for key in ("attribute", "text", "deviation", "rank")},
                        "map": f"{MAPS}/{map_name(row, one['attribute'])}",
                    }
                    for one in listed
                ],
            }
        )
    return entries


def _markdown(summary: dict[str, Any]) -> str:
    from cas_metric.statistics.rounding import fixed

    lines = [
        "# Explanation",
        "",
        "Deviations are in standard deviations of real images of the class; far below zero: "
        "missing, or not seen by the encoder.",
        "",
        "| image | method | class | lowest primitive | most lacking attribute | next |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in summary["images"]:
        lowest = f"{one['lowest'].upper()} {fixed(one['deviation'], 1)}" if one["lowest"] else "–"
        attributes = [f"{a['attribute']} {fixed(a['deviation'], 1)}" for a in one["attributes"]]
        cells = (one["id"], one["method"], one["label"], lowest, *[*attributes, "–", "–"][:2])
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    if summary["embedded_world"]:
        lines += ["", "Phantom images: drawings, not medical data."]
    return "\n".join(lines) + "\n"
