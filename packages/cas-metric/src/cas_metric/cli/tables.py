"""Tables that a user hands to a verb: :func:`cas_metric.tables.read_frame` by its older name."""

from cas_metric.tables import read_frame as read_columns

__all__ = ["read_columns"]
