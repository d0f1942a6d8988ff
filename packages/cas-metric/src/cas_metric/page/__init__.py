"""A page in the browser that scores an uploaded pair of images in the space of a run.

``python -m cas_metric.page RUN`` serves it to this machine alone. It is a demonstration on top of
the public API and decides nothing: :func:`cas_metric.score` scores, the run says by what.
"""
