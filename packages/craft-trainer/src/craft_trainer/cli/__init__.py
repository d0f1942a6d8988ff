"""``craft-trainer``: one file a verb."""
