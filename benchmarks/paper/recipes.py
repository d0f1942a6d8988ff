"""What the paper compares, as stages of the trainer.

A recipe names the stage that it adds and the recipe that it starts from, so that all methods share
one textual inversion, and all ablations one enriched LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cas_metric.protocol import PRIMITIVES

#: The same text for every generator (§4.1.3), behind the token of its class where it has one.
WITH_TOKEN: Final = "{token}. {prompt}"
#: Sparse conditioning: the class alone.
SPARSE: Final = "a photo of {token}"


@dataclass(frozen=True)
class Recipe:
    """One way of adapting the base model.

    Attributes:
        name: In paths and as a method in the rows.
        title: As the paper prints it.
        method: Stage of the trainer; None is the base model as it is.
        start: Recipe whose artefact the stage starts from.
        prompt: Template of the texts that the stage is trained on.
        changes: Further keys of the stage.
        overrides: Dotted keys of the whole configuration, in training only.
        evaluation: Template of the texts of held-out images.
        shots: Training images a class; None takes all.
    """

    name: str
    title: str
    method: str | None = None
    start: str | None = None
    prompt: str = WITH_TOKEN
    changes: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    evaluation: str = WITH_TOKEN
    shots: int | None = None


def _craft(name: str, title: str, *overrides: str, **changes: Any) -> Recipe:
    return Recipe(name, title, "craft", "ti_lora_ep", changes=changes, overrides=overrides)


def _rewards(**weights: float) -> dict[str, dict[str, float]]:
    return {"rewards": {**dict.fromkeys(PRIMITIVES, 0.0), **weights}}


CRAFT: Final = _craft("craft", "CRAFT")
MAIN: Final = (
    Recipe("zero_shot", "Zero-Shot", evaluation="{prompt}"),
    Recipe("ti", "TI", "textual_inversion", prompt=SPARSE),
    Recipe("dpo", "DPO", "dpo", "ti_lora"),
    Recipe("ti_lora", "TI+LoRA", "lora", "ti", prompt=SPARSE),
    Recipe("ti_lora_ep", "TI+LoRA+t_ep", "lora", "ti"),
    CRAFT,
)
#: As many further steps without a reward: what CRAFT's longer training alone would do.
CONTROL: Final = Recipe("control", "LoRA, continued", "lora", "ti_lora_ep")
#: Table 4a adds one reward to the base, Table 4b leaves one out.
SINGLE: Final = tuple(
    _craft(f"craft_only_{name}", f"+ {name.upper()}", **_rewards(**{name: 0.25}))
    for name in PRIMITIVES
)
LEAVE_ONE_OUT: Final = (
    *(
        _craft(f"craft_no_{name}", f"w/o {name.upper()}", rewards={name: 0.0})
        for name in PRIMITIVES
    ),
    _craft("craft_no_diff", "w/o Diff.", lambda_diff=0.0),
)
#: Figure 8. Evaluation always takes the sampler of the scale. The default is trained once.
GRADIENT_STEPS: Final = (
    replace(CRAFT, title="K = 1"),
    *(_craft(f"craft_k{k}", f"K = {k}", gradient_steps=k) for k in (2, 4)),
)
TRAINING_STEPS: Final = (
    _craft("craft_t10", "T = 10", "sampling.steps=10"),
    replace(CRAFT, title="T = 20"),
    _craft("craft_t50", "T = 50", "sampling.steps=50"),
)
REPEATS: Final = (
    _craft("craft_m1", "M = 1", repeats=1),
    replace(CRAFT, title="M = 2"),
    _craft("craft_m4", "M = 4", repeats=4),
)
#: Table 15 states effective weights: lambda_cam (0.8) times the weight within r_cam.
DD_WEIGHTS: Final = tuple(
    replace(CRAFT, title="0.20")
    if value == 0.2
    else _craft(f"craft_dd{value:g}", f"{value:.2f}", rewards={"dd": value / 0.8})
    for value in (0.02, 0.10, 0.20, 0.50, 1.00)
)


def few_shot(shots: int) -> tuple[Recipe, ...]:
    """The recipes of Table 12 on ``shots`` images a class; each has a chain of its own."""
    suffix = f"_{shots}shot"
    return tuple(
        replace(
            recipe,
            name=recipe.name + suffix,
            start=recipe.start + suffix if recipe.start else None,
            shots=shots,
        )
        for recipe in MAIN
        if recipe.method is not None
    )


SHOTS: Final = (10, 20)
#: Every recipe by its name.
RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        *(recipe for shots in SHOTS for recipe in few_shot(shots)),
        *SINGLE,
        *LEAVE_ONE_OUT,
        *GRADIENT_STEPS,
        *TRAINING_STEPS,
        *REPEATS,
        *DD_WEIGHTS,
        CONTROL,
        *MAIN,
    )
}
