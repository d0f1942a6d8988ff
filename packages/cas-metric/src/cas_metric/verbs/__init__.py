"""What users ask for: one module a verb, each a function that the command line calls as well.

A verb takes paths, manifests or frames, decides what was left open, runs, and hands back an object
with the numbers; it prints nothing. ``import cas_metric`` offers all of them by name.
"""
