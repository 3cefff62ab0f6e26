"""doctor, cache, db, dashboard, export."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("doctor")(doctor)
    app.command("export")(export)
    app.command("dashboard")(dashboard)
    cache = typer.Typer(help="Artifacts and model copies on disk.", no_args_is_help=True)
    cache.command("list")(cache_list)
    cache.command("prune")(cache_prune)
    app.add_typer(cache, name="cache")
    db = typer.Typer(help="The store's schema.", no_args_is_help=True)
    db.command("upgrade")(db_upgrade)
    db.command("check")(db_check)
    app.add_typer(db, name="db")


def doctor(address: options.Address = None, as_json: options.AsJson = False) -> None:
    """What this machine or cluster can do, what is missing, and the command that mends it."""
    from orchestrator.doctor import Health, examine
    from orchestrator.settings import Settings
    from orchestrator.text_safety import Terminal

    console = Terminal()
    findings = []
    for finding in examine(Settings.from_environment(), address):
        findings.append(finding)
        if not as_json:
            mark = {Health.OK: "ok     ", Health.MISSING: "missing", Health.BROKEN: "BROKEN "}[finding.health]
            console.print(f"{mark} {finding.name}: {finding.message}", markup=False, soft_wrap=True)
            if finding.mend:
                console.print(f"        mend: {finding.mend}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps([f.model_dump(mode="json") for f in findings], indent=2))
    if any(f.health is Health.BROKEN for f in findings):
        raise typer.Exit(1)


def export(
    out: Annotated[Path, typer.Option("--out", help="Folder for the Parquet files.")],
    run_id: Annotated[str | None, typer.Option("--run", help="Only this run.")] = None,
) -> None:
    """Write scores and samples as Parquet."""
    from orchestrator.exchange.parquet import export_parquet
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    for path in export_parquet(settings, out, run_id=run_id):
        typer.echo(str(path))


def dashboard(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8501,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; loopback unless you say otherwise.")
    ] = "127.0.0.1",
) -> None:
    """Open the Streamlit app on the store."""
    import os
    import sys

    from orchestrator.settings import Settings

    Settings.from_environment()
    words = [
        "--server.port",
        str(port),
        "--server.address",
        host,
        "--server.headless",
        "true",
        "--browser.gatherUsageStats",
        "false",
    ]
    typer.echo(f"Dashboard: http://{host}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    # The dashboard imports the orchestrator, never the reverse: it is started as a program (-P: not one that lies here).
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dashboard", *words])


def cache_list(as_json: options.AsJson = False) -> None:
    """List built checkpoints with their sizes and last use."""
    from orchestrator.settings import Settings
    from recipes.artifact import ArtifactStore

    rows = ArtifactStore(Settings.from_environment().artifacts).list()
    if as_json:
        print(
            json.dumps(
                [{"digest": a.digest, "path": str(a.path), "size_bytes": a.size_bytes} for a in rows],
                indent=2,
            )
        )
        return
    for artifact in rows:
        typer.echo(f"{artifact.digest}  {artifact.size_bytes / 1e9:8.2f} GB  {artifact.path}")
    typer.echo(f"{len(rows)} artifacts, {sum(a.size_bytes for a in rows) / 1e9:.2f} GB")


def cache_prune(
    budget_gb: Annotated[
        float,
        typer.Option("--budget-gb", min=0, help="Keep at most this much; the least recently used go first."),
    ],
) -> None:
    """Evict built checkpoints by last use until they fit a budget; what is in use stays."""
    from orchestrator.settings import Settings
    from recipes.artifact import ArtifactStore

    pruned = ArtifactStore(Settings.from_environment().artifacts).prune(int(budget_gb * 1e9))
    freed = sum(artifact.size_bytes for artifact in pruned.evicted)
    typer.echo(
        f"Evicted {len(pruned.evicted)} artifacts ({freed / 1e9:.2f} GB); {pruned.kept_bytes / 1e9:.2f} GB are left"
        + (f", {len(pruned.leased)} of them in use." if pruned.leased else ".")
    )


def db_upgrade() -> None:
    """Bring the store's schema up to this version of mergeboard."""
    from orchestrator.settings import Settings
    from orchestrator.store import label_of, upgrade_store

    url = Settings.from_environment().database_url
    before = upgrade_store(url)
    typer.echo(f"{label_of(url)} is up to date (was: {before}).")


def db_check(as_json: options.AsJson = False) -> None:
    """Check the store's schema, every samples file that it names, and the artifacts; exit code 1 where something is wrong."""
    from rich.console import Console

    from orchestrator.run.store_check import Checked, check_store
    from orchestrator.settings import Settings
    from orchestrator.store import label_of
    from orchestrator.text_safety import plain

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
            f"{label}: {len(checked.faults):,} faults; checked the schema, {counted}."
            if checked.faults
            else f"{label} is fine: the schema, {counted}."
        )
    if checked.faults:
        raise typer.Exit(1)


@contextmanager
def _counter(console: Console, *, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far a long check is, as a bar with an estimate; nothing where there is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disable) as bars:
        task = bars.add_task("")
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
