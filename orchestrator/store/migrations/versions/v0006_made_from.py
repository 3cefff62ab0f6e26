"""What a candidate's weights were made from, so that a checkpoint built earlier compares as its recipe does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; null in rows of earlier versions, which did not record it."""
    op.add_column("candidates", sa.Column("made_from", sa.Text(), nullable=True))


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
