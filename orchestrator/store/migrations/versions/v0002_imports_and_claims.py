"""Imported results, cards, claims and verdicts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of what was made elsewhere and of what became of it."""
    op.create_table(
        "imports",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
    )
    op.create_index("ix_imports_checkpoint", "imports", ["checkpoint"], unique=False)
    op.create_index("ix_imports_imported_at", "imports", ["imported_at"], unique=False)
    op.create_table(
        "imported_results",
        sa.Column("import_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("benchmark_digest", sa.String(length=64), nullable=False),
        sa.Column("raw", sa.Float(precision=53), nullable=False),
        sa.Column("normalized", sa.Float(precision=53), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("samples_path", sa.Text(), nullable=True),
        sa.Column("samples_sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_imported_results_import_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "position", name="pk_imported_results"),
    )
    _cards()
    _verdicts()


def _cards() -> None:
    op.create_table(
        "cards",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cards"),
    )
    op.create_index("ix_cards_checkpoint", "cards", ["checkpoint"], unique=False)
    op.create_index("ix_cards_imported_at", "cards", ["imported_at"], unique=False)
    op.create_table(
        "claims",
        sa.Column("card_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=True),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["card_id"], ["cards.id"], name="fk_claims_card_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("card_id", "position", name="pk_claims"),
    )


def _verdicts() -> None:
    op.create_table(
        "reproductions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("card_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("candidate", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["card_id"], ["cards.id"], name="fk_reproductions_card_id"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_reproductions_run_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reproductions"),
    )
    op.create_index("ix_reproductions_card_id", "reproductions", ["card_id"], unique=False)
    op.create_index("ix_reproductions_made_at", "reproductions", ["made_at"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("reproduction_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("measured", sa.Float(precision=53), nullable=True),
        sa.Column("difference_points", sa.Float(precision=53), nullable=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reproduction_id"], ["reproductions.id"], name="fk_verdicts_reproduction_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("reproduction_id", "position", name="pk_verdicts"),
    )
    op.create_index("ix_verdicts_kind", "verdicts", ["kind"], unique=False)


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
