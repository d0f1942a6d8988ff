"""What the readers of images cost, and whether they agree with other decoders."""
