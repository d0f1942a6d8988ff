"""Images and texts to embeddings: decoded, cached by content, shared out over ranks."""
