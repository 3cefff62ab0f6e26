"""The tables of the store.

| table             | a row is                                                                        |
| ----------------- | ------------------------------------------------------------------------------- |
| runs              | one execution of a plan, with the lease of the process that drives it           |
| candidates        | one thing that a run scores                                                     |
| protocols         | everything that a score depends on besides weights and layer path               |
| jobs              | one unit of work by its digest; runs share jobs                                 |
| run_jobs          | a job in a run, with what that run needs to execute it (where the weights lie)  |
| candidate_jobs    | which candidates of a run need which job                                        |
| attempts          | one try at a job; at most one per job is running                                |
| outcomes          | a job that is done: exactly one row per job, never changed                      |
| builds            | what a build gave                                                               |
| evaluations       | what an evaluation gave: the benchmark as its leaderboard shows it, the samples |
| scores            | one metric of one subset of an evaluation                                       |
| imports           | a result file made elsewhere                                                    |
| imported_results  | one benchmark of such a file under one suite, with its samples where it has some |
| cards             | a model card as it was read                                                     |
| claims            | one number that a card claims                                                   |
| reproductions     | one check of a card's claims                                                    |
| suites            | the definition of a user's suite, as the runs that scored it had it             |
| sequences         | the looks at an evaluation that may stop early, and where it stopped            |
| comparisons       | a candidate compared with a base of its run, kept for pages and commands        |
| searches          | a search over merge parameters: the run that evaluates its merges               |
| trials            | one merge of a search: its parameters and what they gave                        |
| verdicts          | what became of a claim in a reproduction                                        |

Text has no length: a checkpoint of the hub is known by `repo@commit`, and names are whatever their owner wrote.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from evals.claims.records import VerdictKind
from orchestrator.plan.job import JobKind
from orchestrator.store.column_types import LayerPathText, UtcDateTime
from orchestrator.store.records import AttemptState, FailureClass, RunState
from orchestrator.store.trial_records import Arm, TrialState


def _enum(kind: type[StrEnum]) -> sa.Enum:
    """An enum as text; a new member needs no migration."""
    return sa.Enum(
        kind, native_enum=False, length=32, values_callable=lambda members: [m.value for m in members]
    )


def _job(**options: Any) -> sa.Column[str]:
    return sa.Column("job_digest", sa.Text, sa.ForeignKey("jobs.digest"), nullable=False, **options)


def _run(**options: Any) -> sa.Column[str]:
    return sa.Column(
        "run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, **options
    )


NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMES)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("sweep", sa.Text, nullable=False),
    sa.Column("sweep_digest", sa.Text, nullable=False, index=True),
    sa.Column("provenance", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    sa.Column("started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    # How the run ended; null while it has not. The other states are derived.
    sa.Column("ended_as", _enum(RunState)),
    sa.Column("cancel_requested_at", UtcDateTime),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_token", sa.Integer, nullable=False),
    sa.Column("lease_expires_at", UtcDateTime),
    sa.CheckConstraint("(ended_at is null) = (ended_as is null)", name="end_is_whole"),
)

candidates = sa.Table(
    "candidates",
    metadata,
    _run(primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("is_base", sa.Boolean, nullable=False),
    sa.Column("weights_digest", sa.Text, nullable=False, index=True),
    sa.Column("layer_path", LayerPathText),
    sa.Column("recipe", sa.Text),
    sa.Column("layers", sa.Integer),
    sa.Column("parameters", sa.BigInteger),
    sa.Column("made_from", sa.Text),
)

protocols = sa.Table(
    "protocols",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("benchmark", sa.Text, nullable=False),
    sa.Column("engine_digest", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("kind", _enum(JobKind), nullable=False),
    # The identity of an evaluation; null for a build, whose digest is its recipe's.
    sa.Column("protocol_digest", sa.Text, sa.ForeignKey("protocols.digest"), index=True),
    sa.Column("weights_digest", sa.Text, index=True),
    sa.Column("layer_path", LayerPathText),
    sa.CheckConstraint("(kind = 'eval') = (protocol_digest is not null)", name="eval_has_protocol"),
)

run_jobs = sa.Table(
    "run_jobs",
    metadata,
    _run(primary_key=True),
    _job(primary_key=True, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    # What this run needs to execute the job and what is no part of its identity: the whole job for a build,
    # place and tuning for an evaluation.
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("live_layers", LayerPathText),
)

candidate_jobs = sa.Table(
    "candidate_jobs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("candidate", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job_digest", sa.Text, primary_key=True),
    sa.ForeignKeyConstraint(
        ["run_id", "candidate"], ["candidates.run_id", "candidates.position"], ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["run_id", "job_digest"], ["run_jobs.run_id", "run_jobs.job_digest"], ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    _job(),
    _run(),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", _enum(AttemptState), nullable=False),
    sa.Column("node", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("heartbeat_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("failure_class", _enum(FailureClass)),
    sa.Column("message", sa.Text),
    sa.Column("log_tail", sa.Text),
    sa.Column("will_retry", sa.Boolean),
    sa.UniqueConstraint("job_digest", "number"),
    sa.Index("ix_attempts_run_id_state", "run_id", "state"),
    # The database itself refuses a second live attempt at a job.
    sa.Index(
        "uq_attempts_one_running",
        "job_digest",
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    ),
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    _job(primary_key=True),
    sa.Column("attempt_id", sa.Text, sa.ForeignKey("attempts.id")),
    sa.Column("accepted_at", UtcDateTime, nullable=False, index=True),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, nullable=False),
    sa.Column("hardware", sa.Text, nullable=False),
)

builds = sa.Table(
    "builds",
    metadata,
    sa.Column("job_digest", sa.Text, sa.ForeignKey("outcomes.job_digest"), primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("parameters", sa.BigInteger, nullable=False),
    sa.Column("layers", sa.Integer, nullable=False),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("job_digest", sa.Text, sa.ForeignKey("outcomes.job_digest"), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("raw", sa.Float(53), nullable=False),
    sa.Column("normalized", sa.Float(53), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("partial", sa.Boolean, nullable=False),
    sa.Column("comparable_to_board", sa.Boolean, nullable=False),
    sa.Column("remark", sa.Text),
    sa.Column("alarms", sa.Text),
    sa.Column("samples_path", sa.Text, nullable=False),
    sa.Column("samples_sha256", sa.Text, nullable=False),
    sa.Column("n_requests", sa.Integer, nullable=False),
    sa.Column("n_replayed", sa.Integer, nullable=False),
    sa.Column("duration_s", sa.Float(53), nullable=False),
)

sequences = sa.Table(
    "sequences",
    metadata,
    sa.Column("job_digest", sa.Text, sa.ForeignKey("outcomes.job_digest"), primary_key=True),
    # An evaluation that stopped early has no row in evaluations, and so no score.
    sa.Column("early", sa.Boolean, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("n_whole", sa.Integer, nullable=False),
    sa.Column("n_requests", sa.Integer, nullable=False),
    sa.Column("n_replayed", sa.Integer, nullable=False),
    sa.Column("duration_s", sa.Float(53), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
)

scores = sa.Table(
    "scores",
    metadata,
    sa.Column("job_digest", sa.Text, sa.ForeignKey("evaluations.job_digest"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subset", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("value", sa.Float(53), nullable=False),
    sa.Column("stderr", sa.Float(53)),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("n_full", sa.Integer, nullable=False),
    sa.Column("lower_bound", sa.Float(53), nullable=False),
    sa.Column("task_version", sa.Text, nullable=False),
    sa.Column("alarms", sa.Text),
    sa.UniqueConstraint("job_digest", "subset", "metric"),
    sqlite_with_rowid=False,
)

comparisons = sa.Table(
    "comparisons",
    metadata,
    _run(primary_key=True),
    # Positions in the run. One row per pair and engine: a newer comparison replaces it.
    sa.Column("base", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("candidate", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("engine_key", sa.Text, primary_key=True),
    # Digest of all that the comparison depends on; another key than expected means that it is out of date.
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
)

searches = sa.Table(
    "searches",
    metadata,
    _run(primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    # Trials in work at once when it was begun: proposals depend on it.
    sa.Column("parallel", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # What the search ended with, as JSON; null while it goes on.
    sa.Column("report", sa.Text),
)

trials = sa.Table(
    "trials",
    metadata,
    sa.Column(
        "run_id",
        sa.Text,
        sa.ForeignKey("searches.run_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("arm", _enum(Arm), nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("recipe_digest", sa.Text),
    sa.Column("state", _enum(TrialState), nullable=False),
    # The objectives' values as a JSON list; null without them.
    sa.Column("objectives", sa.Text),
    # A JSON list with the objectives' values at each smaller step; null without steps.
    sa.Column("steps", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("cost_s", sa.Float),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.CheckConstraint("(state = 'running') = (ended_at is null)", name="end_is_whole"),
)

imports = sa.Table(
    "imports",
    metadata,
    # First digits of the file's sha256: the same file is the same import.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("checkpoint", sa.Text, nullable=False, index=True),
    sa.Column("revision", sa.Text),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("measured_at", UtcDateTime),
    sa.Column("imported_at", UtcDateTime, nullable=False, index=True),
    sa.Column("spec", sa.Text, nullable=False),
)

imported_results = sa.Table(
    "imported_results",
    metadata,
    sa.Column("import_id", sa.Text, sa.ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("benchmark", sa.Text, nullable=False),
    sa.Column("benchmark_digest", sa.Text, nullable=False),
    sa.Column("raw", sa.Float(53), nullable=False),
    sa.Column("normalized", sa.Float(53), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("samples_path", sa.Text),
    sa.Column("samples_sha256", sa.Text),
)

cards = sa.Table(
    "cards",
    metadata,
    # First digits of the card's sha256: the same text is the same card.
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("checkpoint", sa.Text, index=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("imported_at", UtcDateTime, nullable=False, index=True),
    sa.Column("checks", sa.Text, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("card_id", sa.Text, sa.ForeignKey("cards.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("benchmark", sa.Text),
    sa.Column("value", sa.Float(53), nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
)

suites = sa.Table(
    "suites",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

reproductions = sa.Table(
    "reproductions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("card_id", sa.Text, sa.ForeignKey("cards.id"), nullable=False, index=True),
    sa.Column("run_id", sa.Text, sa.ForeignKey("runs.id", ondelete="SET NULL")),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("made_at", UtcDateTime, nullable=False, index=True),
    sa.Column("checks", sa.Text, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column(
        "reproduction_id",
        sa.Text,
        sa.ForeignKey("reproductions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", _enum(VerdictKind), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("measured", sa.Float(53)),
    sa.Column("difference_points", sa.Float(53)),
    # The verdict whole, its claim included: a card that is read anew does not change what was judged.
    sa.Column("spec", sa.Text, nullable=False),
)
