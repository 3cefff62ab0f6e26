"""Steps of a search: what its smaller evaluations showed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("trials", sa.Column("steps", sa.Text(), nullable=True))


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
