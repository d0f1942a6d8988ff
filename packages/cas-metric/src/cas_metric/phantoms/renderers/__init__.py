"""One module a phantom domain.

The first line of a renderer's module names its domain in double backticks; ``RENDERER`` is the
renderer, see :class:`cas_metric.phantoms.base.Renderer`.
"""
