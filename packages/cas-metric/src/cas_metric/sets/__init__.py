"""Measures of whole sets of images: diversity and fidelity."""
