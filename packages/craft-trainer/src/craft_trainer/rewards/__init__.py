"""The Clinical Alignment Module: differentiable rewards."""
