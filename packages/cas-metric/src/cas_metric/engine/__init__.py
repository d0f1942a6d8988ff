"""Engines: scoring in parts, by one process, an array of jobs, or the workers of a cluster."""
