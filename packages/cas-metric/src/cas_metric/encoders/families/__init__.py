"""One file a family; :mod:`cas_metric.encoders.family` finds them here."""
