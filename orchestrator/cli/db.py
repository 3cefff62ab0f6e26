"""mergeboard db upgrade, mergeboard db check"""

from __future__ import annotations

import json

import typer

from orchestrator.cli import options
from orchestrator.cli.ending import ExitCode


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

    from orchestrator.cli.console import counter
    from orchestrator.display.text_safety import plain
    from orchestrator.run.store_check import Checked, check_store
    from orchestrator.settings import Settings
    from orchestrator.store import label_of

    settings = Settings.from_environment()
    with counter(Console(stderr=True), quiet=as_json) as show:
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
