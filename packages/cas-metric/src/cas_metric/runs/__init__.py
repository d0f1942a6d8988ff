"""A scoring run as an object and as a folder."""
