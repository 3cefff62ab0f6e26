"""The first schema: runs, candidates, jobs, attempts, outcomes, scores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "protocols",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("engine_digest", sa.String(length=64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_protocols"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("sweep_digest", sa.String(length=64), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_as", sa.String(length=32), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(ended_at is null) = (ended_as is null)", name="ck_runs_end_is_whole"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_created_at", "runs", ["created_at"], unique=False)
    op.create_index("ix_runs_sweep_digest", "runs", ["sweep_digest"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_base", sa.Boolean(), nullable=False),
        sa.Column("weights_digest", sa.String(length=64), nullable=False),
        sa.Column("layer_path", sa.Text(), nullable=True),
        sa.Column("recipe", sa.Text(), nullable=True),
        sa.Column("layers", sa.Integer(), nullable=True),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_candidates_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "position", name="pk_candidates"),
    )
    op.create_index("ix_candidates_name", "candidates", ["name"], unique=False)
    op.create_index("ix_candidates_weights_digest", "candidates", ["weights_digest"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("protocol_digest", sa.String(length=64), nullable=True),
        sa.Column("weights_digest", sa.String(length=64), nullable=True),
        sa.Column("layer_path", sa.Text(), nullable=True),
        sa.CheckConstraint("(kind = 'eval') = (protocol_digest is not null)", name="ck_jobs_eval_has_protocol"),
        sa.ForeignKeyConstraint(["protocol_digest"], ["protocols.digest"], name="fk_jobs_protocol_digest"),
        sa.PrimaryKeyConstraint("digest", name="pk_jobs"),
    )
    op.create_index("ix_jobs_protocol_digest", "jobs", ["protocol_digest"], unique=False)
    op.create_index("ix_jobs_weights_digest", "jobs", ["weights_digest"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure_class", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=True),
        sa.Column("will_retry", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["job_digest"], ["jobs.digest"], name="fk_attempts_job_digest"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempts_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("job_digest", "number", name="uq_attempts_job_digest_number"),
    )
    op.create_index("ix_attempts_run_id_state", "attempts", ["run_id", "state"], unique=False)
    op.create_index(
        "uq_attempts_one_running",
        "attempts",
        ["job_digest"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "run_jobs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("live_layers", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_digest"], ["jobs.digest"], name="fk_run_jobs_job_digest"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_jobs_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "job_digest", name="pk_run_jobs"),
    )
    op.create_index("ix_run_jobs_job_digest", "run_jobs", ["job_digest"], unique=False)
    op.create_table(
        "candidate_jobs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("candidate", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "candidate"],
            ["candidates.run_id", "candidates.position"],
            name="fk_candidate_jobs_run_id_candidate",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "job_digest"],
            ["run_jobs.run_id", "run_jobs.job_digest"],
            name="fk_candidate_jobs_run_id_job_digest",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "candidate", "job_digest", name="pk_candidate_jobs"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("attempt_id", sa.String(length=32), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_outcomes_attempt_id"),
        sa.ForeignKeyConstraint(["job_digest"], ["jobs.digest"], name="fk_outcomes_job_digest"),
        sa.PrimaryKeyConstraint("job_digest", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_accepted_at", "outcomes", ["accepted_at"], unique=False)
    op.create_table(
        "builds",
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("layers", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_digest"], ["outcomes.job_digest"], name="fk_builds_job_digest"),
        sa.PrimaryKeyConstraint("job_digest", name="pk_builds"),
    )
    op.create_table(
        "evaluations",
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("raw", sa.Float(precision=53), nullable=False),
        sa.Column("normalized", sa.Float(precision=53), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("comparable_to_board", sa.Boolean(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=True),
        sa.Column("alarms", sa.Text(), nullable=True),
        sa.Column("samples_path", sa.Text(), nullable=False),
        sa.Column("samples_sha256", sa.String(length=64), nullable=False),
        sa.Column("n_requests", sa.Integer(), nullable=False),
        sa.Column("n_replayed", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["job_digest"], ["outcomes.job_digest"], name="fk_evaluations_job_digest"),
        sa.PrimaryKeyConstraint("job_digest", name="pk_evaluations"),
    )
    op.create_table(
        "scores",
        sa.Column("job_digest", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subset", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("stderr", sa.Float(precision=53), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("n_full", sa.Integer(), nullable=False),
        sa.Column("lower_bound", sa.Float(precision=53), nullable=False),
        sa.Column("task_version", sa.Text(), nullable=False),
        sa.Column("alarms", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_digest"], ["evaluations.job_digest"], name="fk_scores_job_digest"),
        sa.PrimaryKeyConstraint("job_digest", "position", name="pk_scores"),
        sa.UniqueConstraint("job_digest", "subset", "metric", name="uq_scores_job_digest_subset_metric"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Stores are only ever brought forward."""
    raise NotImplementedError("stores are only ever brought forward")
