"""The training loop: stages, ranks, checkpoints, journal."""
