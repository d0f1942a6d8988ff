"""Training and measuring the models of the embedded world."""
