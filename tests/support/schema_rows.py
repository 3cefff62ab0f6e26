"""Rows of a real store of each schema, so that every migration is tried on what earlier code has written.

Whoever adds a migration runs `python -m tests.support.schema_rows` *before* it, on the code that wrote the
schema until then; the rows land in `stored_rows/REVISION.json` and stay there for ever.
"""

from __future__ import annotations

import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from evals.stats import Interval
from evals.stats.sequence import LookPlan, LookSequence
from evals.stats.stopping import Decision, InterimLook, Rule
from evals.suite import load_suite
from orchestrator.store import Store
from orchestrator.store.comparisons import KeptComparison
from orchestrator.store.records import AttemptRecord, EvalOutcome, Failure, FailureClass, RunState, Success
from orchestrator.store.schema import revisions
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState
from tests.support.claim_data import card_record, imported_result, imported_run, reproduction
from tests.support.store_data import demo_run, new_run, outcome_of

FOLDER = Path(__file__).parent / "stored_rows"


def fill(store: Store) -> None:
    """A run that is done, one that failed, one that goes on: rows in every table."""
    store.keep_suites([load_suite("smoke").model_copy(update={"name": "of-a-user"})])
    failure = Failure(failure_class=FailureClass.OUT_OF_MEMORY, message="No memory.", log_tail="the\nlog")
    for name in ("done", "failed", "going on"):
        run, candidates, planned = demo_run(name)
        store.create_run(run, candidates, planned, owner="driver")
        lease = store.take_lease(run.id, "driver")
        assert lease is not None
        for item in planned[:4]:
            first = store.start_attempt(lease, item.job.digest)
            if not isinstance(first, AttemptRecord):
                continue
            store.fail_attempt(first.id, failure, will_retry=True)
            second = store.start_attempt(lease, item.job.digest)
            assert isinstance(second, AttemptRecord)
            if name == "done":
                store.finish_attempt(second.id, looked_at(outcome_of(item.job)))
        if name == "done":
            kept = KeptComparison(run_id=run.id, base=0, candidate=1, engine_key="e", key="k", spec="{}")
            store.keep_comparisons([kept])
            store.begin_search(run.id, "name: a search", "/somewhere", 1)
            trial = TrialRecord(number=0, arm=Arm.SEARCH, parameters={"w": 0.5}, candidate="trial 0")
            store.add_trial(lease, trial)
            store.end_trial(
                lease, trial.model_copy(update={"state": TrialState.COMPLETE, "objectives": (0.25,)})
            )
            left = trial.model_copy(update={"number": 1, "candidate": "trial 1"})
            store.add_trial(lease, left)
            store.end_trial(lease, left.model_copy(update={"state": TrialState.STOPPED, "steps": ((0.2,),)}))
        if name != "going on":
            store.finish_run(lease, RunState(name))
    store.create_run(new_run("never started"), [], [])
    fill_claims(store)


def looked_at(outcome: Success) -> Success:
    """An evaluation's outcome with looks at it, as one that could have stopped early has them."""
    if not isinstance(outcome, EvalOutcome):
        return outcome
    look = InterimLook(
        n=9,
        n_whole=9,
        delta_points=1.5,
        p=0.4,
        level=0.01,
        interval=Interval(low=-3, high=6),
        decision=Decision.OPEN,
    )
    sequence = LookSequence(plan=LookPlan(rule=Rule()), n_whole=9, looks=(look,), base_score=41.5)
    return outcome.model_copy(update={"sequence": sequence})


def fill_claims(store: Store) -> None:
    """An imported run, a card with two claims, and what became of them."""
    store.put_import(imported_run(), [imported_result()])
    store.put_card(card_record())
    store.put_reproduction(reproduction())


def dump() -> None:
    """Write the rows of this code's schema."""
    with tempfile.TemporaryDirectory() as folder, Store.open(f"sqlite:///{folder}/store.sqlite") as store:
        fill(store)
        rows = store._database.read(_rows)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{revisions()[-1]}.json").write_text(json.dumps(rows, indent=1) + "\n")


def load(connection: sa.Connection, revision: str) -> None:
    """Put the rows of a revision into tables of that revision."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    stored = json.loads((FOLDER / f"{revision}.json").read_text())
    for table in metadata.sorted_tables:
        rows = [_typed(table, row) for row in stored.get(table.name, ())]
        if rows:
            connection.execute(table.insert(), rows)


def _rows(connection: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    metadata = sa.MetaData()
    metadata.reflect(connection)
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    return {
        table.name: [
            {
                name: str(value) if isinstance(value, datetime) else value
                for name, value in row._mapping.items()
            }
            for row in connection.execute(sa.select(table))
        ]
        for table in tables
    }


def _typed(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    def typed(name: str, value: Any) -> Any:
        if value is None or not isinstance(table.c[name].type, sa.DateTime):
            return value
        return datetime.fromisoformat(value + "+00:00" if table.c[name].type.timezone else value)

    return {name: typed(name, value) for name, value in row.items()}


if __name__ == "__main__":
    dump()
