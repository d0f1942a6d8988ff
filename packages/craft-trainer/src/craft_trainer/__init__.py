"""Clinical reward-aligned finetuning (CRAFT) of diffusers models."""

__version__ = "0.1.0"
