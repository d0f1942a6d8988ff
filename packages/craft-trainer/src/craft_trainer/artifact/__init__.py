"""What a stage leaves behind: weights, model card, provenance."""
