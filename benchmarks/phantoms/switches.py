"""What each safeguard of CRAFT does alone, and what the chosen ones do together.

``python -m benchmarks.phantoms.switches phantom-chexpert [--out runs/phantom-craft] [--only NAME]``

Goes on from what ``benchmarks.phantoms.craft`` trained in the same folder: each entry of
:data:`SWITCHES` is CRAFT again, from the same TI + LoRA on the same batches, with one setting
changed, shorter than there: :data:`STEPS` steps on trajectories of :data:`TRAJECTORY`. The held-out
prompts are drawn with :data:`SEEDS` seeds by each, and judged by the encoders that gave no reward
(phantom-metaclip gives one in ``two_critics``), by phantom-dino against unseen phantoms
(Fréchet distance over that of real against real), and by how many images lie nearer to a training
image than real ones do. An interrupted run continues; a finished one prints its table again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.paper.steps import Step, as_command, run
from benchmarks.phantoms.craft import Continuation, interval, publish
from benchmarks.phantoms.judging import gain, ratio, to_unseen, unseen
from benchmarks.phantoms.recipes import EVALUATORS, SAFEGUARDS, SAMPLING, SETTINGS
from cas_metric import compare
from cas_metric.phantoms import DOMAINS
from cas_metric.statistics.tables import PHANTOM_NOTICE, markdown_table, number
from craft_trainer.data.dataset import read_examples
from craft_trainer.guards.samples import load_squares
from craft_trainer.guards.statistics import image_statistics

SEEDS: Final = 2
#: Steps of CRAFT with each switch, and of a trajectory within it.
STEPS, TRAJECTORY = 100, 10
#: Name to what changes of the stage; ``safeguards`` are those of the trainer. The last ones are
#: several that were of use alone; ``contrast_kl`` is ``benchmarks.phantoms.craft --also guarded``.
SWITCHES: Final[dict[str, dict[str, Any]]] = {
    "sfs_other": {"safeguards": {"sfs_against": "other"}},
    "sfs_class_mean": {"safeguards": {"sfs_against": "class_mean"}},
    "ccs_contrast": {"safeguards": {"ccs_contrast": True}},
    "clip_at_real": {"safeguards": {"clip_at_real": True}},
    "augment": {"safeguards": {"augment": 0.2}},
    "grey": {"safeguards": {"grey": True}},
    "balance": {"safeguards": {"balance": True}},
    "trajectory_kl": {"safeguards": {"trajectory_kl": 1.0}},
    "kl_to_base": {"kl_to_base": 1.0},
    "random_step": {"safeguards": {"differentiate": "random"}, "repeat_mode": "resample"},
    "spread_step": {"safeguards": {"differentiate": "spread"}, "repeat_mode": "resample"},
    "base_steps": {"safeguards": {"base_steps": 2}, "repeat_mode": "resample"},
    "two_critics": {"safeguards": {"critics": ["phantom-metaclip"]}},
    "ema": {"ema": 0.98},
    "dropout": {"lora": {"dropout": 0.1}},
    "together": {
        "safeguards": {
            "sfs_against": "other",
            "clip_at_real": True,
            "trajectory_kl": 1.0,
            "grey": True,
        }
    },
    "contrast_kl": {"safeguards": SAFEGUARDS},
}
#: What every switch is held against.
BASELINES: Final = ("ti_lora", "control", "craft")


class Switches(Continuation):
    """The commands of one domain, in a folder within that of ``benchmarks.phantoms.craft``.

    Args:
        domain: A phantom domain.
        folder: Of ``benchmarks.phantoms.craft``.
        names: Which of :data:`SWITCHES`.
    """

    seeds = SEEDS
    sampling: Mapping[str, Any] = {**SAMPLING, "steps": TRAJECTORY}

    def __init__(self, domain: str, folder: Path, names: Sequence[str]) -> None:
        super().__init__(domain, folder, "switches", replace(SETTINGS[domain], craft=STEPS))
        self.methods = (*BASELINES, *names)

    def steps(self) -> list[Step]:
        """All commands, each after what it needs."""
        steps = [self.data(), self.adapted(), unseen(self.domain, self.folder)]
        for name in self.methods:
            steps += [self.continued(name), self.images(name)]
            steps += [self.scores(encoder, name) for encoder in EVALUATORS]
            steps += [to_unseen(self, name), self.copies(name)]
        return steps

    def stage(self, name: str) -> dict[str, Any]:
        """CRAFT with one setting changed."""
        changes = {key: value for key, value in SWITCHES.get(name, {}).items() if key != "lora"}
        return super().stage(name) | changes

    def configuration(
        self, output: str, stages: list[dict[str, Any]], start: Path | None = None
    ) -> str:
        """As of CRAFT, with the adapter's own settings where a switch changes them."""
        values = yaml.safe_load(super().configuration(output, stages, start))
        values["lora"] |= SWITCHES.get(Path(output).name, {}).get("lora", {})
        return yaml.safe_dump(values, sort_keys=False)

    def drawn(self, name: str) -> tuple[str, ...]:
        """By as many steps as in the whole path."""
        return (f"sampling.steps={SAMPLING['steps']}",)

    def copies(self, name: str) -> Step:
        """Nearness to the training images."""
        out, images = self.folder / "memorization" / name, str(self.folder / "images" / name)
        data = self.folder / "data"
        command = ("cas", "memorization", images, str(data / "train"), "--test", str(data / "test"))
        words = ("--no-geometry", "--no-ssim", "--cache", str(self.folder / "cache"))
        return Step(
            f"memorization {name}", (*command, *words, "--out", str(out)), out / "summary.json"
        )


def report(experiment: Switches) -> str:
    """One row a method."""
    found = {encoder: compared(experiment, encoder) for encoder in EVALUATORS}
    main = found[EVALUATORS[0]]
    rows = []
    for name in experiment.methods:
        row = [name]
        for encoder in EVALUATORS:
            entry = _entry(found[encoder], name)
            row += ["–", "–"]
            if entry:
                row[-2:] = [number(entry["mean"]["cas"]), _gain(found[encoder], name)]
        dd = _entry(main, name)
        assert dd is not None
        row.append(f"{number(dd['mean']['dd'])} {interval(*dd['interval']['dd'])}")
        rows.append((*row, *_judged(experiment, name)))
    real = main["real"]
    heads = ["method"]
    for encoder in EVALUATORS:
        heads += [f"CAS by {encoder}", "minus CRAFT"]
    heads += ["DD", "saturation", "edges", "Fréchet ratio", "nearer to training than real"]
    seen = statistics(experiment.folder / "data" / "test")
    text = (
        f"Real: saturation {seen[0]}, edges {seen[1]}, CAS {number(real['mean']['cas'])}, DD "
        f"{number(real['mean']['dd'])} {interval(*real['interval']['dd'])}; floor: CAS "
        f"{number(main['floor']['mean']['cas'])}."
    )
    title = f"# Switches of CRAFT on {experiment.domain}"
    return "\n\n".join([PHANTOM_NOTICE, title, markdown_table(heads, rows), text]) + "\n"


def compared(experiment: Switches, encoder: str) -> Mapping[str, Any]:
    """``cas compare`` of the methods to which the encoder gave no reward."""
    given = {
        name: experiment.scores(encoder, name).result.parent
        for name in experiment.methods
        if encoder not in SWITCHES.get(name, {}).get("safeguards", {}).get("critics", ())
    }
    return compare(given, method=experiment.focus).summary


def _entry(found: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((one for one in found["methods"] if one["method"] == name), None)


def _gain(found: Mapping[str, Any], name: str) -> str:
    """The paired difference to CRAFT."""
    for pair in found["pairs"]:
        if {pair["left"], pair["right"]} == {name, Switches.focus}:
            own = pair["difference"]
            sign = 1 if pair["left"] == name else -1
            ends = sorted(sign * own[end] for end in ("low", "high"))
            return gain(sign * own["estimate"], *ends)
    return "–"


def statistics(folder: Path) -> tuple[str, ...]:
    """Saturation and edge density of a folder's images, as the guards of a training see them."""
    images = load_squares(read_examples(folder, None), resolution=64)
    found = image_statistics(images, repeats=1)
    return tuple(f"{found[f'image/{name}'].item():.3f}" for name in ("saturation", "edge_density"))


def _judged(experiment: Switches, name: str) -> tuple[str, ...]:
    near = json.loads(experiment.copies(name).result.read_text(encoding="utf-8"))
    nearer = near["methods"][0]["neighbours"]
    count, expected = nearer["nearer_than_real"], nearer["nearer_expected"]
    seen = statistics(experiment.folder / "images" / name)
    return *seen, f"{ratio(to_unseen(experiment, name)):.1f}", f"{count} ({expected:.1f} expected)"


def main() -> None:
    """Run what is not done yet, then write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-craft"))
    parser.add_argument("--only", nargs="+", choices=SWITCHES, default=list(SWITCHES))
    options = parser.parse_args()
    experiment = Switches(options.domain, options.out / options.domain, options.only)
    experiment.link()
    with as_command():
        run(experiment.steps(), experiment.folder / "steps.log")
    publish(experiment, "switches", report(experiment))


if __name__ == "__main__":
    main()
