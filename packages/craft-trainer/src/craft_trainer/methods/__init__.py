"""The methods: each is a loss and nothing else."""

from craft_trainer.methods.base import Loss, Method, Objective
from craft_trainer.methods.craft import Craft
from craft_trainer.methods.denoising import Denoising
from craft_trainer.methods.dpo import Dpo

__all__ = ["Craft", "Denoising", "Dpo", "Loss", "Method", "Objective"]
