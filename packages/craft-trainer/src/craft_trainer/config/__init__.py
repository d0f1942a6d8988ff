"""The typed configuration of a run: :mod:`~craft_trainer.config.schema` reads it."""
