"""The report-based rival of a checklist: an image is reported on, and the report is read.

The model sees pixels alone, neither label nor classes, and writes findings and an impression; what
the report says of the classes is read off by rules, see :mod:`cas_metric.mllm.labeller`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from cas_metric.mllm.types import Request

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.domains import Domain

_SYSTEM: Final = """\
You report on one image ({modality}). Nothing is known about where the image comes from or what it \
should show. Report what can be seen in it, and nothing else, as you would to a colleague."""

_PROMPT: Final = "Write the report of this image."


class Report(BaseModel):
    """A report of an image."""

    model_config = ConfigDict(extra="forbid")

    findings: str = Field(description="what is seen, in at most 60 words")
    impression: str = Field(
        description="the diagnosis that the findings support, or that the image is normal"
    )


def report_requests(table: pd.DataFrame, domain: Domain) -> list[Request]:
    """One question an image, in the order of the table.

    Args:
        table: Rows of :class:`cas_metric.mllm.sources.Images`.
        domain: The pack, of which the modality is told.
    """
    return [
        Request(
            key=str(n),
            system=_SYSTEM.format(modality=domain.modality),
            prompt=_PROMPT,
            schema=Report,
            images=(path,),
            window=window,
        )
        for n, (path, window) in enumerate(zip(table["path"], table["window"], strict=True))
    ]
