"""Training images and prompts."""
