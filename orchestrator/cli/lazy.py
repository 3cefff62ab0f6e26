"""A group of commands whose modules are imported when one of them is called, so that `mergeboard --help` answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command


class CommandEntry(NamedTuple):
    """One command: its line in the help, and the function that it is, as `module:function`."""

    help: str
    function: str


class CommandGroup(NamedTuple):
    """A command with commands of its own, such as `cache`."""

    help: str
    entries: Mapping[str, CommandEntry]


Table = Mapping[str, Mapping[str, CommandEntry | CommandGroup]]
"""Heading of the help -> name of a command -> the command."""


class LazyCommands(MutableMapping[str, Any]):
    """Name -> click command, each made from its module when it is first asked for; names cost nothing."""

    def __init__(self, entries: Mapping[str, CommandEntry | CommandGroup]) -> None:
        self._entries = entries
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._entries[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._entries

    def __len__(self) -> int:
        return len(self._entries)


class LazyGroup(TyperGroup):
    """A group that knows names, help lines and headings of its commands without importing them."""

    table: ClassVar[Table] = {}

    def __init__(self, *, table: Table | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._sections = self.table if table is None else table
        self.commands = LazyCommands(
            {k: v for section in self._sections.values() for k, v in section.items()}
        )

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the table's order."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Commands under their headings."""
        width = max(len(name) for name in self.commands)
        for heading, entries in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), entry.help) for name, entry in entries.items()], col_max=width + 2
                )


def _load(name: str, entry: CommandEntry | CommandGroup) -> Any:
    """The click command of an entry."""
    if isinstance(entry, CommandGroup):
        return LazyGroup(
            name=name,
            help=entry.help,
            table={"Commands": entry.entries},
            rich_markup_mode=None,
        )
    module, _, function = entry.function.partition(":")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name)(getattr(import_module(f"orchestrator.cli.{module}"), function))
    return get_command(single)
