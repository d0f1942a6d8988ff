"""Benchmarks: training of the embedded models, performance, the paper's tables."""
