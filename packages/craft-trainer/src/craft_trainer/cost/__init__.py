"""Time and memory of a run, estimated and measured."""
