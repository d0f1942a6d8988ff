"""Preference pairs for Diffusion-DPO."""
