"""Text without a length: `repo@commit` of a hub checkpoint is longer than the 64 characters of its columns.

PostgreSQL changes the catalogue alone: text and varchar are stored alike, and indexes and foreign keys stay as they
are. SQLite ignores lengths, so that its tables need no change.
"""

from __future__ import annotations

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

_COLUMNS = {
    "protocols": ("digest", "engine_digest"),
    "runs": ("id", "sweep_digest"),
    "candidates": ("run_id", "weights_digest"),
    "jobs": ("digest", "protocol_digest", "weights_digest"),
    "attempts": ("id", "job_digest", "run_id"),
    "run_jobs": ("run_id", "job_digest"),
    "candidate_jobs": ("run_id", "job_digest"),
    "outcomes": ("job_digest", "attempt_id"),
    "builds": ("job_digest",),
    "evaluations": ("job_digest", "samples_sha256"),
    "scores": ("job_digest",),
    "imports": ("id",),
    "imported_results": ("import_id", "benchmark_digest", "samples_sha256"),
    "cards": ("id",),
    "claims": ("card_id",),
    "reproductions": ("id", "card_id", "run_id"),
    "verdicts": ("reproduction_id",),
}


def upgrade() -> None:
    """Take the length from every column but those of our own enums."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, columns in _COLUMNS.items():
        changes = ", ".join(f"ALTER COLUMN {column} TYPE TEXT" for column in columns)
        op.execute(f"ALTER TABLE {table} {changes}")


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
