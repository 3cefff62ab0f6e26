"""mergeboard db upgrade, mergeboard db check"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from orchestrator.cli import options
from orchestrator.cli.ending import ExitCode

if TYPE_CHECKING:
    from rich.console import Console


def upgrade(as_json: options.AsJson = False) -> None:
    """Bring the store's schema up to this version of mergeboard.

    \b
    Example:
      mergeboard db upgrade
    """
    from orchestrator.settings import Settings
    from orchestrator.store import label_of, upgrade_store

    url = Settings.from_environment().database_url
    before = upgrade_store(url)
    if as_json:
        print(json.dumps({"store": label_of(url), "was": str(before)}))
        return
    typer.echo(f"{label_of(url)} is up to date (was: {before}).")


def check(as_json: options.AsJson = False) -> None:
    """Check the store's schema, every samples file that it names, and the artifacts; exit code 1 where something is wrong.

    \b
    Example:
      mergeboard db check
    """
    from rich.console import Console

    from orchestrator.display.text_safety import plain
    from orchestrator.run.store_check import Checked, check_store
    from orchestrator.settings import Settings
    from orchestrator.store import label_of

    settings = Settings.from_environment()
    with _counter(Console(stderr=True), quiet=as_json) as show:
        checked = Checked()
        for fault in check_store(settings, checked, show):
            if not as_json:
                typer.echo(plain(fault.message))
    label = label_of(settings.database_url)
    if as_json:
        print(json.dumps({"store": label, "ok": not checked.faults, **checked.as_json()}, indent=2))
    else:
        counted = f"{checked.samples:,} samples files, {checked.artifacts:,} artifacts"
        typer.echo(
            f"{label}: {len(checked.faults):,} fault{'' if len(checked.faults) == 1 else 's'}; checked the schema, {counted}."
            if checked.faults
            else f"{label} is fine: the schema, {counted}."
        )
    if checked.faults:
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _counter(console: Console, *, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far a long check is, as a bar with an estimate; nothing where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bars:
        task = bars.add_task("")
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
