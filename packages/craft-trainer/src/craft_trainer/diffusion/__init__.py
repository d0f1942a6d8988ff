"""Diffusion processes: forward noising, DRaFT sampling with gradients, flow matching."""
