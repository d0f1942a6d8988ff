"""Ray as the executor of parts: one actor an accelerator, or a processor, for as many as there are.

Parts travel as Parquet, images by their names; workers write their parts themselves. A
worker that is lost is started again, by Ray, and its part is scored again; see
https://docs.ray.io/en/latest/data/api/doc/data.ActorPoolStrategy.html.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cas_metric.engine.parts import Count, Part, Worker
from cas_metric.errors import CasError, InputError, MissingDependency
from cas_metric.files import is_local

if TYPE_CHECKING:
    from cas_metric.engine.parts import Work


class _Actor:
    """A worker behind rows of Ray Data."""

    def __init__(self, work: Any) -> None:
        ray: Any = import_module("ray")
        self.worker = Worker(ray.get(work))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        table = pd.read_parquet(io.BytesIO(row["table"]))
        return self.worker(Part(int(row["number"]), table, row["key"]))._asdict()


def on_ray(work: Work, parts: Sequence[Part]) -> Iterator[Count]:
    """The executor that is the Ray cluster at hand: that of ``RAY_ADDRESS``, else this machine.

    The pool of actors grows with what the cluster offers, one an accelerator where it has any and
    the device allows.

    Raises:
        MissingDependency: Ray is not installed.
        CasError: What a worker raised.
    """
    try:
        ray: Any = import_module("ray")
        data: Any = import_module("ray.data")
    except ImportError as error:
        raise MissingDependency("ray", extra="ray", purpose="--engine ray") from error
    own = not ray.is_initialized()
    if own:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        items = [
            {"number": part.number, "table": _packed(part.table), "key": part.key} for part in parts
        ]
        accelerated = ray.cluster_resources().get("GPU") and not work.device.startswith("cpu")
        pool = data.ActorPoolStrategy(min_size=1, max_size=len(parts))
        done = data.from_items(items, override_num_blocks=len(items)).map(
            _Actor,
            fn_constructor_args=(ray.put(work),),
            compute=pool,
            num_gpus=1 if accelerated else 0,
            num_cpus=1,
        )
        for row in done.iter_rows():
            yield Count(**{name: int(row[name]) for name in Count._fields})
    except Exception as error:
        raise _cause(error) from error
    finally:
        if own:
            ray.shutdown()


def require_named(paths: Iterable[Path]) -> None:
    """Refuse images that a worker would not find by their names.

    Secrets and queries of URLs are in no name; they stay in the memory of this process.

    Raises:
        InputError: There is one.
    """
    for path in paths:
        if not is_local(path) and not path.is_named:  # type: ignore[attr-defined]
            raise InputError(
                f"{path}: workers of --engine ray find an image by its name alone, and this one "
                "takes more: a query, a user or the choice of a column",
                fix="leave --engine ray out or say --engine parts; or name images by s3:// and "
                "give the workers the credentials; or call the column 'image'",
            )


def _packed(table: pd.DataFrame) -> bytes:
    require_named(table["path"])
    content: bytes = table.assign(path=table["path"].astype(str)).to_parquet(index=False)
    return content


def _cause(error: BaseException) -> CasError:
    """What a worker raised, out of what Ray wraps around it."""
    inner: BaseException | None = error
    while inner is not None:
        for one in (inner, getattr(inner, "cause", None)):
            if isinstance(one, CasError):
                return one
        inner = inner.__cause__
    told = [line for line in str(error).splitlines() if line.strip()]
    return CasError(
        f"a worker failed: {told[-1].strip() if told else type(error).__name__}",
        fix="run the same command again: finished parts are kept",
    )
