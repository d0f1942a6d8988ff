"""Clinical Alignment Score: per-image clinical faithfulness of synthetic medical images."""

__version__ = "0.1.0"
