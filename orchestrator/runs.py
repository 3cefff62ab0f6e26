"""Running a plan from start to end: the store, the cluster, the scheduler, in that order."""

from __future__ import annotations

import os
import uuid
from contextlib import AbstractContextManager
from typing import Protocol

from orchestrator.plan import Plan
from orchestrator.provenance import hardware
from orchestrator.scheduler import Reporter, RunSummary
from orchestrator.settings import Settings
from orchestrator.store import Store


class ReporterContext(Reporter, AbstractContextManager["ReporterContext"], Protocol):
    """A reporter that draws while it is entered."""


def execute(
    plan: Plan, settings: Settings, reporter: ReporterContext, *, address: str | None = None
) -> RunSummary:
    """Run a plan until nothing is left to do; what is in the store already is not run again."""
    settings.home.mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database_url)
    try:
        owner = f"{hardware().host}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        run = store.open_run(plan.digest) or store.create_run(
            new_run(plan), plan_candidates(plan), plan_jobs(plan)
        )
        return drive(store, plan, run, settings, reporter, owner=owner, address=address)
    finally:
        store.close()
