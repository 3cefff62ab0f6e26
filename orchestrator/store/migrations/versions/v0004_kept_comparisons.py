"""Comparisons of candidates with the base of their run, kept so that a page shows the verdict of thousands at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; `mergeboard compare --run` fills it in for runs of earlier versions."""
    op.create_table(
        "comparisons",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("base", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("engine_key", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_comparisons_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "base", "candidate", "engine_key", name="pk_comparisons"),
    )


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
