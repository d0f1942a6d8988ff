"""Studies with people in them, under conditions that a test suite has no time for."""
