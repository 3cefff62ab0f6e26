"""mergeboard cache list, mergeboard cache prune"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from orchestrator.cli import options


def list_artifacts(as_json: options.AsJson = False) -> None:
    """List built checkpoints with their sizes, the least recently used first.

    \b
    Example:
      mergeboard cache list
    """
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


def prune(
    budget_gb: Annotated[
        float,
        typer.Option(
            "--budget-gb",
            min=0,
            metavar="GB",
            help="Keep at most this much; the least recently used go first.",
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Delete built checkpoints by last use until they fit a budget, and journals that no run can use; what is in use stays.

    A journal goes when its whole evaluation is in the store, or a day after the last write if no run of the store has it.

    \b
    Example:
      mergeboard cache prune --budget-gb 50
    """
    from orchestrator.errors import StoreMissing
    from orchestrator.run.journals import PrunedJournals, prune_journals
    from orchestrator.settings import Settings
    from orchestrator.store import Store
    from recipes.artifact import ArtifactStore

    settings = Settings.from_environment()
    pruned = ArtifactStore(settings.artifacts).prune(int(budget_gb * 1e9))
    freed = sum(artifact.size_bytes for artifact in pruned.evicted)
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            journals = prune_journals(store, settings.journals)
    except StoreMissing:
        journals = PrunedJournals(digests=(), freed_bytes=0)
    if as_json:
        digests = [artifact.digest for artifact in pruned.evicted]
        answer = {"evicted": digests, "freed_bytes": freed, "kept_bytes": pruned.kept_bytes}
        print(json.dumps(answer | {"journals": journals.model_dump(mode="json")}))
        return
    typer.echo(
        f"Evicted {len(pruned.evicted)} artifacts ({freed / 1e9:.2f} GB); {pruned.kept_bytes / 1e9:.2f} GB are left"
        + (f", {len(pruned.leased)} of them in use." if pruned.leased else ".")
    )
    if journals.digests:
        typer.echo(f"Deleted {len(journals.digests)} journals ({journals.freed_bytes / 1e6:.1f} MB).")
