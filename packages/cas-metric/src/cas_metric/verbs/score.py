"""``cas score``: from two sets of images to a run. The main job, from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cas_metric.domains import Domain, load_domain, pack_file
from cas_metric.embedding.cache import NO_CACHE, EmbeddingCache
from cas_metric.embedding.ranks import ALONE, Ranks
from cas_metric.encoders.loading import open_encoder
from cas_metric.errors import InputError, RankStopped
from cas_metric.files import cache_directory
from cas_metric.manifest import FolderConfig, Manifest
from cas_metric.manifest.sources import as_manifest
from cas_metric.protocol import (
    CALIBRATED_VERSION,
    EVALUATOR,
    SCORE_DTYPE,
    TEXT_POLICY,
    VERSION,
)
from cas_metric.runs.folder import Origin, claim, own_folder
from cas_metric.runs.run import Run
from cas_metric.runs.summary import build_summary
from cas_metric.scoring.diagnosis import aligned
from cas_metric.scoring.inputs import Inputs, prepare, select, unlabelled
from cas_metric.scoring.pipeline import Options, Scores, score_inputs
from cas_metric.scoring.probe import Probe

if TYPE_CHECKING:
    from cas_metric.encoders import Encoder
    from cas_metric.manifest.sources import Source
    from cas_metric.verbs.score_parts import Engine

#: Scores phantoms where no encoder is named.
PHANTOM_EVALUATOR = "phantom-siglip"


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder, and how it is loaded; see :func:`~cas_metric.encoders.load_encoder`."""

    spec: str | Path | Encoder
    dtype: str
    text_policy: str
    device: str
    offline: bool
    compile: bool
    verify: bool

    def open(self, dtype: str | None = None) -> Encoder:
        """The encoder, also in another precision; one that was handed over is taken as it is."""
        if not isinstance(self.spec, str | Path):
            return self.spec
        return open_encoder(
            self.spec,
            device=self.device,
            dtype=dtype or self.dtype,
            text_policy=self.text_policy,
            offline=self.offline,
            compile=self.compile,
            verify=self.verify,
        )


def score(
    generated: Source,
    real: Source,
    *,
    domain: str | Path | Domain | None = None,
    encoder: str | Path | Encoder | None = None,
    train: Source | None = None,
    probe: str | Path | Probe | None = None,
    method: str | None = None,
    seed: int | None = None,
    by: str | Sequence[str] = (),
    unpaired: bool = False,
    partial_train: bool = False,
    allowed_roots: Sequence[str | Path] = (),
    dtype: str = SCORE_DTYPE,
    text_policy: str = TEXT_POLICY,
    strict_text: bool = False,
    max_failures: int | None = None,
    offline: bool = False,
    device: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's own name for it
    batch_size: int | None = None,
    num_workers: int | None = None,
    cache: str | Path | EmbeddingCache | None = None,
    out: str | Path | None = None,
    below: str | Path | None = None,
    protocol: str = VERSION,
    engine: str = "local",
    shard: str | None = None,
    rows_only: bool = False,
    track: str | Sequence[str] = (),
    crate: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notify: Callable[[str], None] | None = None,
    command: Sequence[str] = ("cas_metric.score",),
    ranks: Ranks = ALONE,
) -> Run:
    """Score every generated image against its real partner.

    Args:
        generated: Images to score: a folder or table, a manifest, a pandas or polars frame, or a
            split of a Hugging Face data set.
        real: Their real partners, likewise.
        domain: Classes and checklists: a domain pack's name or file, or the domain. By default what
            the ``cas.yaml`` of ``real``, else of ``generated``, says; without one CCS stays empty.
        encoder: The space to score in: alias, hub id, directory, or a loaded encoder. By default
            the protocol's evaluator, or ``phantom-siglip`` for phantom domains.
        train: Real training split, to fit the probe of DD on. By default what ``cas.yaml`` says.
        probe: A fitted probe or its file, in place of ``train``. Without either the probe is
            cross-fitted on ``real`` and the result is ``custom``.
        method: Name of the images; of a manifest that names methods, score only those of this one.
        seed: The same for the generation seed.
        by: Columns, such as ``sex`` or ``age``, whose groups are held against each other in
            ``summary["subgroups"]``; see :mod:`cas_metric.statistics.subgroups`.
        unpaired: Accept images without a real partner; their SFS and CAS stay empty.
        partial_train: Accept a training split that lacks classes of the images.
        allowed_roots: Folders outside of the manifests' own that images may lie in.
        dtype: ``float32`` (protocol), ``bfloat16`` or ``float16``.
        text_policy: ``truncate`` (protocol), ``chunk-mean`` or ``per-attribute-mean``.
        strict_text: Refuse texts that are longer than the encoder reads.
        max_failures: More unreadable images than this are an error; None allows any number.
        offline: Never use the network.
        device: ``auto``, ``cpu``, ``cuda``, ``mps``, …
        compile: Compile the image tower.
        batch_size: Images in one forward pass; None chooses by the device.
        num_workers: Threads that decode; None takes the processors at hand, at most 8.
        cache: Store of embeddings or its directory, ``"none"`` for none; None takes the user's.
        out: Folder to save the run to; whether that is possible is known before anything is
            embedded.
        below: In place of ``out``: a folder in which the run gets one of its own, called after the
            images.
        protocol: ``cas-v1``, or ``cas-v2`` for the calibrated columns beside it; see
            :mod:`cas_metric.calibrated`.
        engine: ``local``; ``parts``, which keeps the rows in parts that need not be done again; or
            ``ray``, whose workers score the parts. See :mod:`cas_metric.engine.parts`.
        shard: ``k/n``: score only every n-th part, from the k-th, and stop there.
        rows_only: Stop at the parts and the statistics of them (``partitions.json``), which hold no
            more than one part in memory.
        track: Experiment trackers that the saved run is logged to: see :mod:`cas_metric.tracking`.
        crate: Describe the saved run as an RO-Crate: see :mod:`cas_metric.tracking.crate`.
        progress: Told how many of the images that the cache lacks are done.
        notify: Told what a person should know before the work begins.
        command: How the run was started, for its provenance.
        ranks: Where this process stands under a launcher; see :mod:`cas_metric.embedding.ranks`.

    Returns:
        The run. Its rows hold every image, also those that could not be read.

    Raises:
        PreflightError: What is wrong with the tables, all of it, before any model is loaded.
        InputError: Arguments that do not fit together, or a folder that cannot be written to.
        ModelUnavailable: The encoder cannot be had here.
        TooManyFailures: More images failed than allowed.
        MissingDependency: Ray is asked for and not installed.
        RankStopped: This is not rank 0, and its part is done (exit code 0) or rank 0 met an error.
        PartsDone: Only a share, or the parts alone, were asked for, and they are done (exit code
            0, or 3 where some images failed).

    Examples:
        >>> import cas_metric
        >>> run = cas_metric.score(
        ...     "demo/generated", "demo/real/test", method="faithful", cache="demo/cache"
        ... )
        >>> sfs = run.summary["methods"][0]["mean"]["sfs"]
        >>> run.floor["sfs"].mean() < sfs < run.real["sfs"].mean()
        np.True_
    """
    started = time.perf_counter()
    notify = notify or (lambda _: None)
    if protocol not in (VERSION, CALIBRATED_VERSION):
        raise InputError(
            f"{protocol!r} is no protocol", fix=f"choose {VERSION} or {CALIBRATED_VERSION}"
        )
    in_parts = _engine(engine, shard, rows_only, protocol, ranks)
    # A text alone is one name, not its letters.
    by, track = ([one] if isinstance(one, str) else one for one in (by, track))
    _require(track, crate, out or below, whole=shard is None and not rows_only)
    read = _Reader(
        *(domain, train, probe, method, seed, by),
        *(unpaired, partial_train, allowed_roots, offline),
    )
    inputs, taught_by = ranks.main_first(lambda: read(generated, real))
    if protocol == CALIBRATED_VERSION and not inputs.occurring:
        raise InputError(
            f"{CALIBRATED_VERSION} ranks images among real ones of their class; none has a class",
            fix="add labels (sub-folders or a `label` column), or leave --protocol out",
        )
    spec = encoder if encoder is not None else _default_encoder(inputs, ranks, notify)
    named = spec if isinstance(spec, str | Path) else spec.name
    origin = Origin.of(generated, real, files=[taught_by], method=method, seed=seed, encoder=named)
    place = out if below is None else own_folder(Path(below), origin)
    folder = ranks.main_first(lambda: claim(place, origin)) if place is not None else None
    choice = EncoderChoice(
        spec, dtype, text_policy, ranks.device or device, offline, compile, cache == NO_CACHE
    )
    model = choice.open()
    known = _known_probe(taught_by, model, inputs)
    if ranks.main:
        for line in (*_warnings(inputs, model), *unlabelled(inputs)):
            notify(line)
    options = Options(batch_size, num_workers, strict_text, max_failures, progress)
    with _open_cache(cache, ranks) as store:
        scores: Scores | None
        if in_parts is not None:
            scores = in_parts.score(inputs, choice, store, folder, known, options, notify)
        else:
            scores = score_inputs(inputs, model, store, probe=known, options=options, ranks=ranks)
        if scores is None:
            raise RankStopped(0)
        change = None
        if model.dtype != SCORE_DTYPE:
            from cas_metric.scoring.precision import precision_change

            exact = partial(choice.open, SCORE_DTYPE)
            change = precision_change(inputs, model, exact, store)
        calibrated, block = None, {}
        if protocol == CALIBRATED_VERSION:
            from cas_metric.calibrated.run import calibrate_run

            calibrated, block["cas_v2"] = calibrate_run(scores, model, store)
    summary = build_summary(
        scores,
        model,
        command,
        origin=origin,
        warnings=_warnings(inputs, model),
        precision=change,
        seconds=time.perf_counter() - started,
    )
    summary |= block
    fitted = scores.judge.probe if inputs.train is not None else None
    run = Run(scores.rows, summary, scores.real, scores.floor, fitted, calibrated)
    if folder is None:
        return run
    if below is not None:  # another run, begun at the same time, may have taken the name since
        folder = claim(own_folder(Path(below), origin), origin)
    run.save(folder, keep=origin.files)
    run = replace(run, path=folder)
    if track or crate:
        _publish(run, track, crate)
    return run


def _engine(
    name: str, shard: str | None, rows_only: bool, protocol: str, ranks: Ranks
) -> Engine | None:
    """What scores in parts, if that is asked for."""
    if (name, shard, rows_only) == ("local", None, False):
        return None
    from cas_metric.verbs.score_parts import Engine

    return Engine.of(name, shard, rows_only, protocol, ranks)


def _require(track: Sequence[str], crate: bool, place: str | Path | None, *, whole: bool) -> None:
    """Refuse what the run could not be published by, before anything is computed."""
    if (track or crate) and not whole:
        raise InputError(
            "a share, or the statistics of parts alone, is no run to be tracked or described",
            fix="leave --track and --crate to the command without --shard and --rows-only",
        )
    if (track or crate) and place is None:
        raise InputError(
            "a run is tracked and described from its folder", fix="say where with out=FOLDER"
        )
    if track:
        from cas_metric.tracking import require

        require(track)


def _publish(run: Run, track: Sequence[str], crate: bool) -> None:
    """Log and describe a saved run."""
    from cas_metric.tracking import track as log
    from cas_metric.tracking.crate import write_crate

    if crate:
        write_crate(run)
    if track:
        log(run, track)


@dataclass(frozen=True)
class _Reader:
    """Manifests, domain and where the probe comes from: the arguments, then each ``cas.yaml``."""

    domain: str | Path | Domain | None
    train: Source | None
    probe: str | Path | Probe | None
    method: str | None
    seed: int | None
    by: Sequence[str]
    unpaired: bool
    partial_train: bool
    allowed_roots: Sequence[str | Path]
    offline: bool

    def __call__(self, generated: Source, real: Source) -> tuple[Inputs, str | Path | Probe | None]:
        if self.train is not None and self.probe is not None:
            raise InputError(
                "--train and --probe both say where the probe comes from", fix="give one"
            )
        ours = select(self._manifest(generated), self.method, self.seed)
        theirs = self._manifest(real)
        config, made = theirs.config or FolderConfig(), ours.config or FolderConfig()
        domain = self.domain or config.domain or made.domain
        # The training split of another domain fits no probe of this one.
        train, probe = self._probe_source(config, *([made] if made.domain == domain else []))
        inputs = prepare(
            ours,
            theirs,
            domain=(
                load_domain(domain, offline=self.offline)
                if isinstance(domain, str | Path)
                else domain
            ),
            train=self._manifest(train) if train is not None else None,
            unpaired=self.unpaired,
            partial_train=self.partial_train,
            by=self.by,
        )
        if isinstance(probe, str | Path):
            aligned(Probe.read(probe), inputs.classes)
        return replace(inputs, pack=pack_file(domain)), probe

    def _manifest(self, source: Source) -> Manifest:
        roots = () if isinstance(source, Manifest) else self.allowed_roots
        return as_manifest(source, allowed_roots=roots, offline=self.offline)

    def _probe_source(
        self, *configs: FolderConfig
    ) -> tuple[Source | None, str | Path | Probe | None]:
        """Training split or saved probe; arguments come before the files, a probe first."""
        if self.train is not None or self.probe is not None:
            return self.train, self.probe
        for config in configs:
            if config.probe is not None:
                return None, config.probe
            if config.train is not None:
                return config.train, None
        return None, None


def _known_probe(
    source: str | Path | Probe | None, encoder: Encoder, inputs: Inputs
) -> Probe | None:
    """The probe that was given, if it fits the encoder and the classes."""
    if source is None:
        return None
    probe = source if isinstance(source, Probe) else Probe.read(source)
    return aligned(probe.require(encoder), inputs.classes)


def _default_encoder(inputs: Inputs, ranks: Ranks, notify: Callable[[str], None]) -> str:
    """The evaluator of the protocol, or that of the embedded world for its images."""
    if inputs.domain is None or not inputs.domain.embedded:
        return EVALUATOR
    if ranks.main:
        notify(
            f"{inputs.domain.name} is a phantom domain: scoring with {PHANTOM_EVALUATOR} "
            "(--encoder chooses another)"
        )
    return PHANTOM_EVALUATOR


def _warnings(inputs: Inputs, encoder: Encoder) -> list[str]:
    """What makes every number of the run meaningless; to be read first."""
    embedded = inputs.domain is not None and inputs.domain.embedded
    if encoder.revision == "embedded" and not embedded:
        return [
            f"{encoder.name} has only ever seen drawings (phantoms): on other images its numbers "
            "mean nothing"
        ]
    return []


def _open_cache(place: str | Path | EmbeddingCache | None, ranks: Ranks) -> Any:
    """The store; ranks of one host share it, every further host has one of its own beside it."""
    if isinstance(place, EmbeddingCache):
        return EmbeddingCache(place.directory)  # the same store, counted as another user
    if ranks.count > 1 and place == NO_CACHE:
        raise InputError("--cache none cannot be shared by several processes", fix="name a DIR")
    if ranks.host:
        return EmbeddingCache(Path(place or cache_directory()) / f"host-{ranks.host}")
    return EmbeddingCache(place)
