"""A small real world: encoders and generators trained on the real photographs at hand."""
