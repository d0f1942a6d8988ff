"""Groups of verbs that are imported on use: ``--help`` must not wait for torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


class LazyGroup(TyperGroup):
    """A group whose help needs no import of its verbs."""

    #: Verb to its module, which defines ``app``, and its one-line help, in the order of the help.
    verbs: ClassVar[Mapping[str, tuple[str, str]]] = {}

    #: Whether the help is being written, for which a verb's name and line are enough.
    _listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the table of verbs."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs, in the order of a user's work."""
        return list(self.verbs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a verb and hand out its command."""
        if cmd_name not in self.verbs:
            return None
        module, line = self.verbs[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=line)
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = cmd_name
        return command
