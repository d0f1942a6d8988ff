"""One generated and one real image, scored as those of a run were."""

from __future__ import annotations

import base64
import io
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

import cas_metric
from cas_metric.errors import CasError, InputError
from cas_metric.images import IMAGE_SUFFIXES, Window, load_image, to_uint8
from cas_metric.manifest import FolderConfig, Manifest
from cas_metric.manifest.sources import as_manifest
from cas_metric.runs.run import domain_of, windows
from cas_metric.runs.summary import changed_checklists

if TYPE_CHECKING:
    import pandas as pd

    from cas_metric.domains import Domain
    from cas_metric.encoders import Encoder
    from cas_metric.runs import Run

#: Scores that are shown, and which rows of the run each is held against: those of the real images,
#: or those of real images against another one of their class.
SHOWN: Final = {"vdc": "real", "ccs": "real", "dd_prob": "real", "sfs": "floor", "cas": "floor"}
#: Longest side in pixels of the pictures that are shown.
SIDE: Final = 512
_PROBE: Final = "probe.safetensors"


@dataclass(frozen=True)
class Upload:
    """A file as a browser sends it."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Line:
    """A score, and how many of the run's real images of the class have a lower one."""

    name: str
    value: float | None
    lower: int
    of: int


@dataclass(frozen=True)
class Scored:
    """What a pair got.

    Attributes:
        lines: One a score.
        seen: Class that the probe takes the image for; empty where there is none.
        notes: What was wrong with an image, what was cut off, and what to be warned of.
        pictures: What each is, and a PNG as ``data:`` address, of the images that could be read.
    """

    lines: tuple[Line, ...]
    seen: str
    notes: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Scores pairs by the encoder, the checklists, the probe and the windows of a run.

    Attributes:
        run: Its real images are what a pair is held against.
        domain: Classes and checklists.
        encoder: In the space of the run.
        probe: File of the run's probe; None leaves DD and CAS empty.

    Examples:
        >>> pairs = Pairs.of("demo/run")
        >>> image = Upload("a.png", Path("demo/real/test/images/test-00000.png").read_bytes())
        >>> found = pairs.score(image, image, label="Pneumonia", prompt="")
        >>> next(line.value for line in found.lines if line.name == "sfs")  # its own reference
        1.0
    """

    run: Run
    domain: Domain
    encoder: Encoder
    probe: Path | None
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(
        cls,
        folder: str | Path,
        *,
        domain: str | Path | None = None,
        encoder: str | Path | None = None,
        device: str = "auto",
        offline: bool = False,
    ) -> Self:
        """Open a run.

        Args:
            folder: Of ``cas score``.
            domain: Checklists, where what the run names does not lead to them.
            encoder: Likewise, such as a directory.
            device: ``auto`` or a torch device.
            offline: Never use the network.

        Raises:
            InputError: No run, one without a domain, or a domain of other classes or checklists.
            ModelUnavailable: The encoder cannot be had here.
        """
        run = cas_metric.Run.load(folder)
        named, stated = domain or domain_of(run.summary), run.summary["encoder"]
        if not named:
            raise InputError("the run was scored without a domain", fix="name one: --domain NAME")
        model = cas_metric.load_encoder(
            encoder or stated["name"], device=device, offline=offline,
            dtype=stated["dtype"], text_policy=stated["text_policy"],
        )  # fmt: skip
        if model.fingerprint != stated["fingerprint"]:
            raise InputError(
                f"{model.name} is not the encoder that the run was scored by ({stated['name']})",
                fix="name that one: --encoder NAME",
            )
        pack, probe = cas_metric.load_domain(named, offline=offline), Path(folder) / _PROBE
        if domain_of(run.summary):
            _require_same(run.summary, pack)
        return cls(run, pack, model, probe if probe.is_file() else None)

    def score(self, generated: Upload, real: Upload, *, label: str, prompt: str) -> Scored:
        """Score a pair; its files are gone when this returns.

        Raises:
            CasError: It cannot be scored at all, such as a label that the domain does not have.
        """
        shown_by = windows(self.run.summary)
        with TemporaryDirectory(prefix="cas-page-") as place, self._one_at_a_time:
            folder = Path(place)
            files = [
                _write(folder, name, one)
                for name, one in (("generated", generated), ("real", real))
            ]
            try:
                found = cas_metric.score(
                    *(_manifest(*one, label, prompt) for one in zip(files, shown_by, strict=True)),
                    domain=self.domain, encoder=self.encoder, probe=self.probe, method="uploaded",
                    cache="none", num_workers=1, offline=True,
                )  # fmt: skip
            except CasError as error:
                raise InputError(_without(folder, str(error))) from error
            pictures = tuple(
                (file.name.split(".")[0], shown)
                for file, window in zip(files, shown_by, strict=True)
                if (shown := _picture(file, window))
            )
        row = found.rows.iloc[0]
        notes = [_without(folder, str(row["error"])), *found.summary["warnings"]]
        notes += [
            f"the encoder read only the beginning of the {text}"
            for text in ("prompt", "checklist")
            if found.rows[f"{text}_truncated"].fillna(False).any()
        ]
        if self.probe is None:
            notes.append("this run has no probe of its own, so DD and CAS stay empty")
        return Scored(
            tuple(self._line(name, row) for name in SHOWN),
            str(row.get("seen", "")), tuple(note for note in notes if note), pictures,
        )  # fmt: skip

    def _line(self, name: str, row: pd.Series[Any]) -> Line:
        against = getattr(self.run, SHOWN[name])
        value = None if row.isna()[name] else float(row[name])
        if value is None or against is None:
            return Line(name, value, 0, 0)
        others = against.loc[against["label"] == row["label"], name].dropna()
        return Line(name, value, int((others < value).sum()), len(others))


def _without(folder: Path, text: str) -> str:
    """A message without the place of the files, which are gone when it is read."""
    return text.replace(f"{folder}{os.sep}", "")


def _write(folder: Path, name: str, upload: Upload) -> Path:
    """The upload under a name of ours; only a known ending is kept of its own."""
    lower = upload.name.lower()
    ending = next((one for one in IMAGE_SUFFIXES if lower.endswith(one)), "")
    path = folder / f"{name}{ending}"
    path.write_bytes(upload.content)
    return path


def _require_same(summary: Mapping[str, Any], domain: Domain) -> None:
    """Refuse checklists that are not those of the run; their name alone does not tell."""
    fix = "name those of the run with --domain, or score its images again"
    if list(domain.class_names) != summary["classes"]:
        told, now = ", ".join(summary["classes"]), ", ".join(domain.class_names)
        raise InputError(
            f"the run was scored with the classes {told}; {domain.name}: {now}", fix=fix
        )
    if changed := changed_checklists(summary, domain):
        raise InputError(
            f"{domain.name} is not known to hold the checklists that the run was scored by: "
            f"{', '.join(changed)}",
            fix=fix,
        )


def _manifest(file: Path, window: Window | None, label: str, prompt: str) -> Manifest:
    """One image, read by the window that the run's were read by."""
    import pandas as pd

    row = {"id": "pair", "image": str(file), "label": label, "prompt": prompt.strip()}
    config = FolderConfig(window=window.bounds if window else None)
    return replace(as_manifest(pd.DataFrame([row])), config=config)


def _picture(file: Path, window: Window | None) -> str:
    """The image as our readers see it, small; empty where they cannot."""
    from PIL import Image

    try:
        pixels = load_image(file, window=window).pixels
    except CasError:
        return ""
    image = Image.fromarray(to_uint8(pixels))
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
