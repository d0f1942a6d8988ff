"""What a stage leaves behind: weights, model card, and what decided them."""
