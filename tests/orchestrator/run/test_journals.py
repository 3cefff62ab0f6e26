"""Which journals `cache prune` deletes: those of whole evaluations, and old ones that no run has."""

from __future__ import annotations

import os
import time
from pathlib import Path

from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from orchestrator.plan.job import Decide
from orchestrator.run.journals import prune_journals
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import AttemptRecord, CandidateRecord, PlannedJob
from tests.support.store_data import eval_job, eval_outcome, new_run


def journal(settings: Settings, digest: str, *, age_s: float = 0.0) -> Path:
    folder = settings.journals / digest
    folder.mkdir(parents=True)
    (folder / "requests.jsonl").write_text("x" * 100)
    for path in (folder / "requests.jsonl", folder):
        os.utime(path, (time.time() - age_s,) * 2)
    return folder


def test_journals_that_a_run_can_use_stay(home: Path) -> None:
    settings = Settings.from_environment()
    decide = Decide(
        plan=LookPlan(rule=Rule(), first_share=0.2, slice_share=0.1, order_seed=0),
        against=eval_job("bbh").digest,
    )
    base, early, open_job = (
        eval_job("bbh"),
        eval_job("musr").model_copy(update={"decide": decide}),
        eval_job("ifeval"),
    )
    with Store.open(settings.database_url) as store:
        candidate = CandidateRecord(position=0, name="base", is_base=True, weights_digest="w")
        jobs = [PlannedJob(job=job, candidates=(0,)) for job in (base, early, open_job)]
        run = new_run()
        store.create_run(run, [candidate], jobs)
        lease = store.take_lease(run.id, "me")
        assert lease is not None
        attempt = store.start_attempt(lease, base.digest)
        assert isinstance(attempt, AttemptRecord)
        store.finish_attempt(attempt.id, eval_outcome(base))
        folders = {
            "asked whole": journal(settings, base.digest),
            "stopped early": journal(settings, early.whole.digest, age_s=1e6),
            "unfinished": journal(settings, open_job.digest, age_s=1e6),
            "of another store": journal(settings, "0" * 16),
            "of no run": journal(settings, "1" * 16, age_s=1e6),
        }
        pruned = prune_journals(store, settings.journals)
    gone = {name for name, folder in folders.items() if not folder.exists()}
    assert gone == {"asked whole", "of no run"}
    assert (set(pruned.digests), pruned.freed_bytes) == ({base.digest, "1" * 16}, 200)
