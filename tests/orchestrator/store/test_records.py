"""Ids, owners, and the column types that make both databases behave alike."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy.dialects import sqlite

from evals.stats.sequence import LookPlan
from evals.stats.stopping import Rule
from orchestrator.plan.job import BuildJob, Decide, LiveMerge
from orchestrator.store.column_types import LayerPathText
from orchestrator.store.ids import new_id
from orchestrator.store.owners import new_owner, owner_is_gone
from recipes.layer_path import LayerPath
from tests.support.store_data import eval_job

PATHS = some.none() | some.lists(some.integers(min_value=0, max_value=200), max_size=300).map(tuple)


def test_ids_sort_by_time_and_do_not_collide() -> None:
    ids = []
    for _ in range(5):
        ids.append(new_id())
        time.sleep(0.002)
    assert ids == sorted(ids)
    many = [new_id() for _ in range(10_000)]
    assert many == sorted(set(many))
    assert {len(one) for one in ids} == {15}


def test_ids_of_a_clock_that_stands_or_goes_back_increase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the random part is the same again."""
    last = new_id()
    monkeypatch.setattr("orchestrator.store.ids.secrets.randbits", lambda bits: 0)
    for now in (1e9, 1e9, 0.5e9):
        monkeypatch.setattr("orchestrator.store.ids.time.time", lambda now=now: now)
        following = new_id()
        assert following > last
        last = following


# A process of its own that says who it is and then waits.
SAYS_ITS_NAME = "from orchestrator.store.owners import new_owner; print(new_owner(), flush=True); input()"


def test_an_owner_is_gone_when_its_process_is() -> None:
    mine = new_owner()
    assert mine != new_owner()
    assert not owner_is_gone(mine)
    command = [sys.executable, "-c", SAYS_ITS_NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = process.stdout.readline().strip()
        assert not owner_is_gone(other)
        process.communicate("end\n", timeout=60)
    assert owner_is_gone(other)
    # The same process id, given to a later process, is another owner.
    host, _, rest = other.rsplit(":", 2)
    assert owner_is_gone(f"{host}:{os.getpid()}:{rest}")
    # What runs on another machine cannot be known from here, nor what runs in another container of this host name.
    assert not owner_is_gone(f"elsewhere:{os.getpid()}:{rest}")
    assert not owner_is_gone(f"{platform.node()}/{'0' * 16}:{os.getpid()}:{rest}")
    assert not owner_is_gone(f"{platform.node()}:{os.getpid()}:{rest}")


DIALECT = sqlite.dialect()


@given(PATHS)
def test_layer_paths_come_back_as_they_were(path: tuple[int, ...] | None) -> None:
    column = LayerPathText()
    stored = column.process_bind_param(path, DIALECT)
    assert column.process_result_value(stored, DIALECT) == path
    if path and path == tuple(range(path[0], path[-1] + 1)):
        assert stored == f"{path[0]}:{path[-1] + 1}"


def test_visits_in_part_come_back_as_they_were() -> None:
    column = LayerPathText()
    path = LayerPath.parse("layers:0-3,1-3:attention,2:damped=0.5,2:mlp:damped=0.25,3-6", 6).layers
    stored = column.process_bind_param(path, DIALECT)
    assert stored == "0:3,1:3:attention,2:3:damped=0.5,2:3:mlp:damped=0.25,3:6"
    assert column.process_result_value(stored, DIALECT) == path


@given(PATHS, PATHS)
def test_different_layer_paths_are_stored_differently(
    one: tuple[int, ...] | None, other: tuple[int, ...] | None
) -> None:
    column = LayerPathText()
    stored = [column.process_bind_param(path, DIALECT) for path in (one, other)]
    assert (stored[0] == stored[1]) == (one == other)


def test_where_the_weights_lie_is_no_part_of_a_jobs_identity() -> None:
    job = eval_job("bbh", (0, 1, 1))
    elsewhere = {
        "place": eval_job(built="x").place,
        "live_layers": None,
        "live_merge": LiveMerge(build=BuildJob(recipe="r", recipe_digest="d", sources=()), opened_digest="w"),
        "tuning": job.tuning.model_copy(update={"threads": 9}),
        "alone": True,
    }
    assert job.model_copy(update=elsewhere).digest == job.digest
    for name in set(type(job).model_fields) - {*elsewhere, "kind"}:
        other = "changed" if isinstance(getattr(job, name), str) else None
        if name == "engine":
            other = job.engine.model_copy(update={"dtype": "float16"})
        elif name == "decide":
            other = Decide(plan=LookPlan(rule=Rule()), against="base")
        assert job.model_copy(update={name: other}).digest != job.digest, name
