"""The methods: each is a loss and nothing else."""

from craft_trainer.methods.base import Loss, Method
from craft_trainer.methods.craft import Craft
from craft_trainer.methods.denoising import Denoising

__all__ = ["Craft", "Denoising", "Loss", "Method"]
