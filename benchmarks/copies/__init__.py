"""Copies planted among drawn and real images, and what finds them."""
