"""What survives when processes do not."""
