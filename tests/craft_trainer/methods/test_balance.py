"""How the two terms of Eq. 1 pull, and what doctor and estimate say of a run with critics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.craft_trainer.training.test_trainer import ready

from craft_trainer.cost import doctor
from craft_trainer.cost.memory import encoder_bytes, memory_of, parts_of
from craft_trainer.methods.craft import RATIO
from craft_trainer.runtime.journal import Journal
from craft_trainer.training.preflight import encoders_of

CRAFT = {"method": "craft", "steps": 1, "reward_gradients_every": 1}


KEPT = {"kl_to_base": 5.0, "safeguards": {"trajectory_kl": 5.0}}


@pytest.mark.parametrize(
    "both", [CRAFT, {**CRAFT, "micro_batch": 1}, {**CRAFT, "lambda_cam": 0.3, **KEPT}]
)
def test_the_ratio_is_that_of_the_weighted_terms(settings: Any, both: dict[str, Any]) -> None:
    norms, logged = {}, 0.0
    alone = {"kl_to_base": 0.0, "safeguards": None}
    for name, changes in {
        "both": {},
        "reward": {"lambda_diff": 0.0, **alone},
        "diffusion": {"lambda_cam": 0.0, **alone},
    }.items():
        run = ready(settings({**both, **changes}))
        with torch.no_grad():
            for number, parameter in enumerate(run.parameters):
                parameter.add_(
                    0.1
                    * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                )
        (positions,) = run._positions(0)
        loss = run.method.loss(run.inputs.batch(positions), 0)
        loss.total.backward()
        found = [p.grad.flatten() for p in run.parameters if p.grad is not None]
        norms[name] = torch.cat(found).norm().item()
        assert (RATIO in loss.logs) == (name == "both")
        logged = float(loss.logs.get(RATIO, logged))
    assert logged == pytest.approx(norms["reward"] / norms["diffusion"], rel=1e-4)


def test_doctor_warns_where_the_reward_hardly_counts(settings: Any) -> None:
    config = settings(CRAFT)
    assert not list(doctor._balance(config))
    journal = Journal(config.output / "1-craft" / "metrics.jsonl")
    for step, value in enumerate((0.2, 0.5, 4.0), start=1):
        journal.append({"step": step, RATIO: value})
    (check,) = doctor._balance(config)
    assert (check.status, "0.5 times" in check.detail) == ("warn", True)
    assert check.fix == "raise lambda_cam or lower lambda_diff"
    leading = settings(CRAFT, sampling={"steps": 3, "timestep_spacing": "leading"})
    assert "trailing" in next(doctor._balance(leading)).fix
    for step in range(4, 8):
        journal.append({"step": step, RATIO: 3.0})
    (check,) = doctor._balance(config)
    assert check.status == "ok"


def test_every_critic_counts_in_its_own_precision(
    settings: Any, critic: Path, evaluator: Path
) -> None:
    held, texts, kept = encoder_bytes(str(critic))
    half, _, less = encoder_bytes(str(critic), "bfloat16")
    assert half * 2 == pytest.approx(held, rel=0.01)  # positions are counted in whole numbers
    assert less < 0.7 * kept
    assert 0 < texts < held
    *_, again = encoder_bytes(str(critic), checkpointing=True)
    assert again < kept
    one = settings(CRAFT)
    two = settings({**CRAFT, "safeguards": {"critics": [str(evaluator)]}})
    parts = parts_of(one)
    single, both = (memory_of(c, c.stages[0], 2, parts) for c in (one, two))
    assert both.weights - single.weights == pytest.approx((held - texts) / 1e9)
    assert both.activations > single.activations
    assert encoders_of(two) == {
        "critic": str(critic), "critic 2": str(evaluator), "evaluator": None, "memorization": None
    }  # fmt: skip
