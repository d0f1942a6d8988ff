"""Names of modules that have moved: usable for one version, with a warning."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Moved(MetaPathFinder, Loader):
    """Finds a module under its old name."""

    def __init__(self, package: str, names: Mapping[str, str]) -> None:
        self.names = {f"{package}.{old}": f"{package}.{new}" for old, new in names.items()}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = self.names[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def alias(package: str, names: Mapping[str, str]) -> None:
    """Let modules of ``package`` be imported under their old names, with a DeprecationWarning.

    Args:
        package: E.g. ``cas_metric``.
        names: Old to new name within the package, e.g. ``{"cache": "embedding.cache"}``.
    """
    sys.meta_path.append(_Moved(package, names))
