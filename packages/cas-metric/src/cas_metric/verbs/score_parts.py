"""Which engine scores, and what is asked of it; see :mod:`cas_metric.engine.parts`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.embedding.ranks import Ranks
from cas_metric.errors import InputError, MissingDependency, PartsDone
from cas_metric.protocol import CALIBRATED_VERSION

if TYPE_CHECKING:
    from cas_metric.embedding.cache import EmbeddingCache
    from cas_metric.scoring.inputs import Inputs
    from cas_metric.scoring.pipeline import Options, Scores
    from cas_metric.scoring.probe import Probe

#: A run in one piece, by this process and the ranks of its launcher.
LOCAL: Final = "local"
NAMES: Final = (LOCAL, "parts", "ray")


@dataclass(frozen=True)
class Engine:
    """A run in parts.

    Attributes:
        name: ``parts`` or ``ray``.
        shard: Which share of the parts, ``k`` of ``n``.
        stops: Whether it ends with the parts of its share.
        rows_only: Whether it ends with the statistics of the parts.
    """

    name: str
    shard: tuple[int, int]
    stops: bool
    rows_only: bool

    @classmethod
    def of(
        cls, name: str, shard: str | None, rows_only: bool, protocol: str, ranks: Ranks
    ) -> Engine:
        """What was asked for, if it can be had.

        Raises:
            InputError: No such engine, or it does not go with the other arguments.
            MissingDependency: Ray is not installed.
        """
        if name not in NAMES:
            raise InputError(f"{name!r} is no engine", fix=f"choose one of {', '.join(NAMES)}")
        from importlib.util import find_spec

        from cas_metric.engine.parts import shard_of

        if name == "ray" and find_spec("ray") is None:
            raise MissingDependency("ray", extra="ray", purpose="--engine ray")
        if ranks.count > 1:
            raise InputError(
                "a launcher's ranks and an engine's parts both divide the images",
                fix="start one process, or leave --engine, --shard and --rows-only out",
            )
        if protocol == CALIBRATED_VERSION:
            raise InputError(
                f"{CALIBRATED_VERSION} ranks all images together and is not computed in parts",
                fix="leave --engine, --shard and --rows-only out, or --protocol",
            )
        if shard is not None and rows_only:
            raise InputError("a share has no statistics of the whole", fix="leave one out")
        parts = shard_of(shard) if shard is not None else (1, 1)
        return cls("parts" if name == LOCAL else name, parts, shard is not None, rows_only)

    def score(
        self,
        inputs: Inputs,
        choice: Any,
        store: EmbeddingCache,
        folder: Path | None,
        probe: Probe | None,
        options: Options,
        notify: Callable[[str], None],
    ) -> Scores:
        """Score the parts that are missing; all rows, where they are asked for.

        Raises:
            InputError: There is no folder to keep the parts in.
            PartsDone: A share or the parts alone were asked for.
            TooManyFailures: More images failed than allowed; of a share, more of its own.
        """
        from cas_metric.engine.parts import here, part_out

        if folder is None:
            raise InputError("an engine keeps its parts in a folder", fix="give out=FOLDER")
        if self.name == "ray":
            from cas_metric.engine.ray_data import on_ray as executor
            from cas_metric.engine.ray_data import require_named

            require_named(inputs.generated["path"])
        else:
            executor = here
        parted = part_out(
            inputs,
            choice.open,
            store,
            folder,
            cache=str(store.directory.absolute()),
            probe=probe,
            options=options,
            device=choice.device,
        )
        parted.run(executor, self.shard)
        if not (self.stops or self.rows_only):
            return parted.scores()
        failures = parted.failures(self.shard)
        summary: dict[str, Any] = {"run": str(folder), "failures": failures}
        if self.rows_only:
            from cas_metric.engine.partitions import write_statistics

            path = write_statistics(parted)
            summary |= {"partitions": str(path), **json.loads(path.read_text(encoding="utf-8"))}
            notify(f"statistics of the parts: {path}")
        else:
            k, n = self.shard
            summary |= {"share": f"{k}/{n}", "parts": len(parted.parts[k - 1 :: n])}
            notify(
                f"share {k} of {n} is scored; when all are, the same command without --shard "
                "completes the run"
            )
        if failures:
            notify(f"{len(failures)} images failed (first: {failures[0]['error']})")
        raise PartsDone(summary)
