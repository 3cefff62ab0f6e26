"""A store with something of everything that a reader of the dashboard looks for."""

from __future__ import annotations

from pathlib import Path

from evals.scores import ChatTemplate
from orchestrator.store import Store
from orchestrator.store.records import FailureClass
from tests.support.claim_store import claims, imported
from tests.support.demo_stores import Maker, load_suite, store_url
from tests.support.made_results import DEMO, HOSTILE, Made, block
from tests.support.probe_store import scan_store

BASE, OTHER_TEMPLATE, FAILED, BETTER, HOSTILE_PATH = range(5)
"""Positions in the run."""
CANDIDATES = (
    DEMO[0],
    Made("other template", template=ChatTemplate.OFF),
    Made("broken merge", built=True, failure=FailureClass.BAD_CHECKPOINT),
    block(10, 17, ability=0.95, by_benchmark={"gpqa": 0.2}),
    block(3, 6, ability=0.4, response=HOSTILE + "word " * 30_000),
)


def task_store(home: Path) -> tuple[str, str]:
    """A store with a run that has a better, a refused and a failed recipe, and a confirmed scan; ids of run and scan."""
    scan, _ = scan_store(home)
    with Store.open(store_url(home)) as store:
        run = Maker(store, home, load_suite("smoke"), seed=3, name="<b>two</b>").run(CANDIDATES)
        claims(store, run)
        imported(store)
    return run, scan
