"""Why an image scores low: which primitive, which attribute of its checklist, and where."""
