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
    """Delete built checkpoints by last use until they fit a budget; what is in use stays.

    \b
    Example:
      mergeboard cache prune --budget-gb 50
    """
    from orchestrator.settings import Settings
    from recipes.artifact import ArtifactStore

    pruned = ArtifactStore(Settings.from_environment().artifacts).prune(int(budget_gb * 1e9))
    freed = sum(artifact.size_bytes for artifact in pruned.evicted)
    if as_json:
        digests = [artifact.digest for artifact in pruned.evicted]
        print(json.dumps({"evicted": digests, "freed_bytes": freed, "kept_bytes": pruned.kept_bytes}))
        return
    typer.echo(
        f"Evicted {len(pruned.evicted)} artifacts ({freed / 1e9:.2f} GB); {pruned.kept_bytes / 1e9:.2f} GB are left"
        + (f", {len(pruned.leased)} of them in use." if pruned.leased else ".")
    )
