"""What a family of encoders is, and where families are found.

A family is one module with a ``FAMILY``: either a file in :mod:`cas_metric.encoders.families`, or
an entry point of the group ``cas_metric.encoders`` in any installed distribution::

    [project.entry-points."cas_metric.encoders"]
    mine = "my_package.my_family:FAMILY"

Importing such a module must be cheap: torch belongs inside ``load``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cas_metric.errors import CasError

if TYPE_CHECKING:
    from cas_metric.encoders.model import Towers

#: Entry points of other distributions that bring a family.
ENTRY_POINTS: Final = "cas_metric.encoders"


@dataclass(frozen=True)
class EncoderInfo:
    """One named encoder.

    Attributes:
        alias: The spec that users write.
        family: Name of the family that loads it.
        hub_id: Repository on the hub, or the directory of an embedded model.
        revision: Commit that is loaded unless another is asked for; a branch where no commit is
            pinned.
        licence: Licence of the weights; read it before publishing what they made.
        token_limit: Longest text in tokens with special tokens; 0 for image-only families.
        image_size: Side of the model input in pixels.
        download_mb: Size of the weights in MB, rounded; 0 for embedded ones and where unknown.
        gated: Whether the hub asks for an account and an accepted licence.
        embedded: Whether the weights come with this package (phantom world only).
        purpose: What the protocol uses it for.
        pickled: Whether the hub has the weights as a pickle only: to be converted once.
        sha256: Of every file that loading reads, by name, where it is publicly known; what tells
            whether a copy is genuine.

    Examples:
        >>> from cas_metric.encoders import list_encoders
        >>> info = next(one for one in list_encoders() if one.alias == "siglip")
        >>> info.hub_id, info.token_limit
        ('google/siglip-so400m-patch14-384', 64)
    """

    alias: str
    family: str
    hub_id: str
    revision: str
    licence: str
    token_limit: int
    image_size: int
    download_mb: int
    gated: bool = False
    embedded: bool = False
    purpose: str = ""
    pickled: bool = False
    sha256: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Family:
    """One way of making an encoder from a directory.

    Attributes:
        name: For people.
        load: From a directory and its ``config.json`` (empty where there is none) to the towers.
        model_types: Values of ``model_type`` in ``config.json`` that it loads.
        recognises: Whether it loads a directory that names no such type, told by the names of its
            files and its configuration.
        encoders: The encoders that it gives names to.
        image_only: Whether a checkpoint of this configuration has no text tower; by default all
            have one.

    Examples:
        >>> family = Family("mine", load=lambda directory, config: ..., model_types=("my-vit",))
        >>> family.takes({"config.json"}, {"model_type": "my-vit"})
        True
    """

    name: str
    load: Callable[[Path, dict[str, Any]], Towers]
    model_types: tuple[str, ...] = ()
    recognises: Callable[[set[str], dict[str, Any]], bool] | None = None
    encoders: tuple[EncoderInfo, ...] = ()
    image_only: Callable[[dict[str, Any]], bool] = lambda config: False

    def takes(self, names: set[str], config: dict[str, Any]) -> bool:
        """Whether it loads a directory with files of these names and this configuration."""
        if config.get("model_type") in self.model_types:
            return True
        return self.recognises is not None and self.recognises(names, config)


@cache
def own_families() -> tuple[Family, ...]:
    """The families of this package, by the name of their file."""
    from cas_metric.encoders import families

    names = sorted(module.name for module in pkgutil.iter_modules(families.__path__))
    modules = (importlib.import_module(f"{families.__name__}.{name}") for name in names)
    return tuple(module.FAMILY for module in modules)


def foreign_families() -> Iterator[Family]:
    """The families that other distributions bring.

    Raises:
        CasError: One of them cannot be imported, or is no family.
    """
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        origin = f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}"
        try:
            family = point.load()
        except Exception as error:  # whatever foreign code raises
            raise CasError(
                f"the encoder family {point.name!r} ({origin}) cannot be imported: {error}",
                fix="update or uninstall that package",
            ) from error
        if not isinstance(family, Family):
            raise CasError(
                f"the encoder family {point.name!r} ({origin}) is no "
                "cas_metric.encoders.family.Family",
                fix="update or uninstall that package",
            )
        yield family


def families() -> Iterator[Family]:
    """All families: this package's come first, so that none of them can be replaced."""
    yield from own_families()
    yield from foreign_families()
