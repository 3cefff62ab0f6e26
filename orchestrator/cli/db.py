"""mergeboard db upgrade, mergeboard db check"""

from __future__ import annotations

import json

import typer

from orchestrator.cli import options


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
    """Tell whether the store can be opened by this version of mergeboard.

    \b
    Example:
      mergeboard db check
    """
    from orchestrator.settings import Settings
    from orchestrator.store import Store

    with Store.open(Settings.from_environment().database_url, create=False) as store:
        label = store.label
    typer.echo(json.dumps({"store": label}) if as_json else f"{label} is fine.")
