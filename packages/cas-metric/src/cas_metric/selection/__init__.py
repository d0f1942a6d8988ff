"""Which images of a run to train on, and why the others are refused."""
