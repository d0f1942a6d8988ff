"""Statistics of an evaluation: pure functions on arrays and on the rows of a run.

Nothing here reads a file, knows an encoder or prints. Every random step takes a seed, and every
interval says how it was made.
"""
