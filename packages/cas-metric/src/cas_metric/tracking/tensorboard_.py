"""``tensorboard``: event files in the folder of the run, under ``tensorboard/``."""

from __future__ import annotations

from cas_metric.tracking import Entry

#: Rows that the text of the page shows.
_SHOWN = 50


def log(entry: Entry) -> None:
    """Write event files: scalars, pictures, settings and the first rows as text."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(entry.folder / "tensorboard")) as writer:
        for name, value in entry.metrics.items():
            writer.add_scalar(name, value)
        for number, (caption, pixels) in enumerate(entry.pictures):
            writer.add_image(f"lowest/{number:02d} {caption}", pixels, dataformats="HWC")
        told = "\n".join(f"    {key}: {value}" for key, value in entry.settings.items())
        writer.add_text("settings", told)
        lowest = entry.rows.sort_values("cas", kind="stable").head(_SHOWN)
        writer.add_text(
            "rows with the lowest CAS", "    " + lowest.to_string().replace("\n", "\n    ")
        )
