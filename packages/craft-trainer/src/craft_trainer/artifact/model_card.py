"""Model card of an artefact: what it is, what made it, how it was judged, what it cannot do.

``README.md`` with the YAML header that model hubs read, beside the curves and a sheet of samples.
Whatever comes from a manifest or a configuration is escaped: a class name cannot become a heading,
a link or HTML.
"""

from __future__ import annotations

import html
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
import torch
import yaml
from markupsafe import Markup

from cas_metric.files import write_bytes
from cas_metric.images import load_image, to_tensor
from cas_metric.protocol import PRIMITIVES
from cas_metric.statistics.intervals import mean_interval
from cas_metric.statistics.rounding import fixed
from cas_metric.statistics.tables import PHANTOM_NOTICE
from cas_metric.statistics.uncertainty import Interval
from craft_trainer.artifact.curves import draw_curves
from craft_trainer.artifact.usage import usage_of
from craft_trainer.bases.base import TextTower, family_of
from craft_trainer.bases.tokens import token_of
from craft_trainer.bases.weights import base_directory, pipeline_name
from craft_trainer.config.schema import Config, to_yaml
from craft_trainer.config.stage import Stage
from craft_trainer.data.dataset import Examples
from craft_trainer.guards.reward_hacking import Look
from craft_trainer.guards.samples import load_squares
from craft_trainer.guards.watch import SAMPLES, Watch
from craft_trainer.inference import write_image

CARD: Final = "README.md"
CURVES: Final = "curves.png"
SHEET: Final = "samples.png"
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#|~])")


def write_card(
    directory: Path,
    *,
    config: Config,
    number: int,
    train: Examples,
    identity: Mapping[str, Any],
    watch: Watch,
    trainable: int,
    steps: int,
    truncated: int = 0,
) -> None:
    """Write ``README.md``, ``curves.png`` and, where samples were drawn, ``samples.png``.

    Args:
        directory: Of the artefact.
        config: Of the run.
        number: Of the stage, from 1.
        train: Training images.
        identity: Of the stage.
        watch: Its journals, looks and findings.
        trainable: Number of trained parameters.
        steps: Optimizer steps taken.
        truncated: Training texts that the text encoder cut.
    """
    stage = config.stages[number - 1]
    real = watch.held_out.real if watch.held_out is not None else None
    best = watch.best.step if watch.looks else None
    curves = draw_curves(watch.metrics.rows(), watch.looks, real, best)
    write_bytes(directory / CURVES, curves)
    sheet = _write_sheet(directory, config, watch)
    handed_on = _handed_on(config, watch)
    text = _render(
        {
            **_header(config, stage, train, handed_on),
            **_facts(config, stage, train, identity),
            **_judgement(config, watch, handed_on),
            "trained": True,
            "usage": _usage(config, stage, train, watch.model.towers if watch.model.tokens else ()),
            "number": number,
            "stages": len(config.stages),
            "parameters": f"{trainable:,}",
            "steps": steps,
            "truncated": truncated,
            "samples": SHEET if sheet else "",
            "sample_rows": sheet,
            "configuration": fenced(to_yaml(config), "yaml"),
            "tokens": sorted(watch.model.tokens.items()),
        }
    )
    write_bytes(directory / CARD, text.encode())


def write_untrained_card(
    directory: Path, *, config: Config, train: Examples, identity: Mapping[str, Any]
) -> None:
    """Write ``README.md`` of the artefact without weights."""
    stage = config.stages[0]
    text = _render(
        {
            **_header(config, stage, train, None),
            **_facts(config, stage, train, identity),
            "trained": False,
            "usage": _usage(config, stage, train, ()),
            "truncated": 0,
            "configuration": fenced(to_yaml(config), "yaml"),
        }
    )
    write_bytes(directory / CARD, text.encode())


def plain(value: Any) -> str:
    """Text that Markdown and HTML show as it stands; :class:`Markup` is left alone."""
    if isinstance(value, Markup):
        return value
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def fenced(text: str, language: str) -> Markup:
    """A code block that its content cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")  # noqa: S704 - escapes nothing else


def _render(context: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("craft_trainer"),
        autoescape=False,  # noqa: S701 - every expression goes through `plain`
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(context)


def _header(
    config: Config, stage: Stage, train: Examples, handed_on: Look | None
) -> dict[str, Any]:
    """Title, the notice on drawings, and the YAML that a hub reads."""
    domain = train.domain.name if train.domain else ""
    phantom = domain.startswith("phantom-")
    title = f"{stage.title} on {domain or config.data.train.name}"
    adapter = ["lora"] if stage.learns == "lora" else []
    tags = dict.fromkeys([stage.method.replace("_", "-"), *adapter])
    header: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "license": "other",
        "license_name": "see-licence-section",
        "tags": ["craft-trainer", *tags, "text-to-image"],
    }
    if _HUB_ID.fullmatch(config.base) and not Path(config.base).is_dir():
        header["base_model"] = config.base
    if handed_on is not None:
        header["model-index"] = [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": "text-to-image"},
                        "dataset": {"name": domain or "held-out images", "type": "image-folder"},
                        "metrics": [
                            {
                                "type": "clinical-alignment-score",
                                "name": f"Clinical Alignment Score ({config.validation.encoder})",
                                "value": round(handed_on.cas, 4),
                            }
                        ],
                    }
                ],
            }
        ]
    return {
        "header": Markup(yaml.safe_dump(header, sort_keys=False)),  # noqa: S704 - quoted by YAML
        "phantom": Markup(PHANTOM_NOTICE) if phantom else "",  # noqa: S704 - our own sentence
        "title": title,
        "method": stage.title,
    }


def _facts(
    config: Config, stage: Stage, train: Examples, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Base, data and who judged."""
    counts = Counter(train.labels)
    own = train.manifest.config
    origin = (own.provenance if own else {}) or {}
    told = "; ".join(f"{key}: {value}" for key, value in origin.items())
    return {
        "base": f"{config.base}{f' at {config.revision}' if config.revision else ''}",
        "base_sha256": identity.get("base_sha256", "unknown"),
        "images": len(train),
        "classes": len(counts),
        "counts": ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
        "data": told or config.data.train.name,
        "domain": train.domain.name if train.domain else "none",
        "resolution": config.data.resolution,
        "critic": stage.judged_by(config),
        "evaluator": config.validation.encoder or "none",
        "versions": ", ".join(
            f"{name} {version(name)}" for name in ("craft-trainer", "diffusers", "peft", "torch")
        ),
    }


def _usage(config: Config, stage: Stage, train: Examples, towers: Sequence[TextTower]) -> Markup:
    """Draws the first class, by its learned token where there is one."""
    label = min(filter(None, train.labels), default="an image")
    prompt = token_of(label) if towers else label
    base = base_directory(config.base, config.revision, offline=config.offline)
    family = family_of(pipeline_name(base))
    code = usage_of(config, family, towers, adapter=stage.learns == "lora", prompt=prompt)
    return Markup(code.replace("```", ""))  # noqa: S704 - within a code block


def _handed_on(config: Config, watch: Watch) -> Look | None:
    """The look at the weights that the artefact holds."""
    if not watch.looks:
        return None
    best = config.artifact == "best" or watch.stopped is not None
    return watch.best if best else watch.looks[-1]


def _judgement(config: Config, watch: Watch, handed_on: Look | None) -> dict[str, Any]:
    """Held-out table, change and findings."""
    stopped = watch.stopped
    found: dict[str, Any] = {
        "held_out": "",
        "watched": handed_on is not None,
        "findings": watch.findings,
        "stopped": stopped.guard if stopped else "",
        "weights": "",
        "guards": ", ".join(
            name
            for name, guard in config.guards.model_dump().items()
            if isinstance(guard, dict) and guard["reaction"] != "off"
        ),
    }
    if handed_on is None or watch.held_out is None:
        return found
    sides = {"before": watch.looks[0]}
    if handed_on is not watch.looks[-1]:
        sides[f"last, step {watch.looks[-1].step}"] = watch.looks[-1]
    sides[f"handed on, step {handed_on.step}"] = handed_on
    change = change_of(watch.looks[0], handed_on)
    return found | {
        "held_out": Markup(held_out_table({**sides, "real partners": watch.held_out.real})),  # noqa: S704
        "prompts": len(handed_on.scores["cas"]),
        "weights": f", the weights after step {handed_on.step}",
        "change": told_change(change),
    }


def change_of(before: Look, after: Look) -> Interval:
    """Mean change of CAS with its 95% interval, paired by prompt."""
    return mean_interval(np.subtract(after.scores["cas"], before.scores["cas"]))


def told_change(change: Interval) -> str:
    """A change with its interval, every number with its sign."""
    estimate, low, high = (fixed(end, signed=True) for end in change[:3])
    return f"{estimate} ({low} to {high})"


def held_out_table(sides: Mapping[str, Look]) -> str:
    """Mean and interval of every primitive and CAS, as Markdown."""
    names = (*PRIMITIVES, "cas")
    lines = ["| | " + " | ".join(name.upper() for name in names) + " |"]
    lines.append("| --- |" + " ---: |" * len(names))
    for title, look in sides.items():
        cells = []
        for name in names:
            one = mean_interval(look.scores[name])
            cells.append(f"{one.estimate:.3f} ({one.low:.3f} to {one.high:.3f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _write_sheet(directory: Path, config: Config, watch: Watch) -> str:
    """Copy the last sheet, or set real partners and looks below each other; say what is in it."""
    folder = watch.folder / SAMPLES
    if not watch.looks or watch.held_out is None:
        sheets = sorted(folder.glob("step-*.png")) if folder.is_dir() else []
        if not sheets:
            return ""
        shutil.copyfile(sheets[-1], directory / SHEET)
        return "The first training prompts, after the last step."
    shown = _handed_on(config, watch)
    assert shown is not None
    rows = {"before this stage": watch.looks[0], f"step {shown.step}, handed on": shown}
    count = min(config.validation.images, len(watch.held_out.examples))
    real = load_squares(watch.held_out.examples, config.data.resolution)[:count]
    drawn = [_read_sheet(folder / f"heldout-{look.step:07d}.png") for look in rows.values()]
    parts = [torch.cat(list(real), dim=2), *drawn]
    write_image(torch.cat(parts, dim=1), directory / SHEET)
    return f"From above: the real partners; {'; '.join(rows)}. One held-out prompt a column."


def _read_sheet(path: Path) -> torch.Tensor:
    """``(3, H, W)`` in [0, 1]."""
    return to_tensor(load_image(path).pixels)
