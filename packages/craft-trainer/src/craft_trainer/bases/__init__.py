"""Families of base models, one a file, found by the pipeline that diffusers loads."""
