"""Where images lie that are no local files: remote stores, archives, tables with image bytes.

Each is a flat list of named contents (:class:`~cas_metric.stores.base.Store`), and an
:class:`~cas_metric.stores.address.Address` is one of the names in the guise of a path: what reads a
folder reads them all, and an image's identity stays the SHA-256 of its bytes.
"""

from cas_metric.stores.address import Address
from cas_metric.stores.opening import located

__all__ = ["Address", "located"]
