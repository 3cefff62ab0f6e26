"""A search on two Ray nodes with four engines, killed at ten random moments, is the undisturbed one."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.errors import StoreError
from orchestrator.plan.job import EvalJob
from orchestrator.store import Store
from orchestrator.store.merge_report import SearchView
from orchestrator.store.records import AttemptRecord, AttemptState
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEARCH = """\
name: nodes
base: base
recipe:
  merge_method: linear
  dtype: float32
  models:
    - {model: ./base, parameters: {weight: {search: [0.1, 1]}}}
    - {model: ./first, parameters: {weight: {search: [0, 1]}}}
    - {model: ./second, parameters: {weight: {search: [0, 1]}}}
objectives: [emotion-easy-scored]
budget: {evaluations: 40}
sampler: tpe
seed: 5
engine: {kind: transformers, dtype: float32}
confirm: {keep: 2}
"""
KILLS, LOST_ENGINES = 10, 3
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with room for two engines each."""
    nodes = new_cluster(head_cpus=2, head_gpus=2)
    add_node(nodes, num_cpus=2, num_gpus=2)
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parents")
    for seed, name in enumerate(("base", "first", "second")):
        tiny_checkpoint(folder / name, layers=2, hidden=32, seed=seed, dtype="float32")
    (folder / "search.yaml").write_text(SEARCH)
    return folder / "search.yaml"


class Command:
    """`mergeboard search` on the cluster in processes of its own, one after another; what it prints goes to `home/log`."""

    def __init__(self, search: Path, home: Path, cluster: Any) -> None:
        home.mkdir(exist_ok=True)
        self._home = home
        self._words = ["-m", "tests.support.slow_search", str(search), "--address", str(cluster.address)]
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "MERGEBOARD_HOME": str(self._home), "PYTHONPATH": str(ROOT)}
        with (self._home / "log").open("ab") as log:
            return subprocess.Popen([sys.executable, *self._words], env=env, cwd=ROOT, stdout=log, stderr=log)

    @property
    def ended(self) -> bool:
        """Whether the search has ended; a cluster that is too busy to answer refuses it, and it is begun again, as a user would."""
        code = self._process.poll()
        if code is None:
            return False
        text = (self._home / "log").read_text()
        if code == 2 and "did not answer" in text.splitlines()[-1]:
            self._process = self._start()
            return False
        assert code == 0, text[-2000:]
        return True

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait for a moment of the search."""
        end = time.monotonic() + 1500
        while not ready():
            assert not self.ended, "the search ended too early"
            assert time.monotonic() < end
            time.sleep(0.05)

    def kill_and_restart(self) -> None:
        """SIGKILL the command, then begin it again."""
        assert not self.ended
        self.kill()
        self._process = self._start()

    def kill(self) -> None:
        """SIGKILL the command."""
        self._process.kill()
        self._process.wait()

    def finish(self) -> SearchView:
        """Wait for the command's end and return what is stored."""
        end = time.monotonic() + 1500
        while not self.ended:
            assert time.monotonic() < end
            time.sleep(0.2)
        with opened(self._home) as store:
            (record,) = store.searches()
            view = store.search_view(record.run_id)
        assert view is not None
        return view


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    """The commands that a test starts; those that still run at its end are killed."""
    started: list[Command] = []
    yield started
    for command in started:
        command.kill()


def opened(home: Path) -> Store:
    return Store.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True)


def attempts(home: Path) -> dict[str, list[AttemptRecord]]:
    """The attempts at each evaluation of the search and of its confirmation, by job."""
    with opened(home) as store:
        jobs = [item.job for run in store.runs() for item in store.run_jobs(run.id)]
        assert all(job.kind == "eval" for job in jobs), "merges run live in the four engines; none is built"
        return {job.digest: list(store.attempts(job.digest)) for job in jobs}


def evaluated(home: Path) -> int:
    """Number of stored evaluations."""
    with contextlib.suppress(StoreError), opened(home) as store:
        return sum(len(store.done([i.job.digest for i in store.run_jobs(r.id)])) for r in store.runs())
    return 0  # the command has not made its store yet


def engine_processes(cluster: Any) -> list[psutil.Process]:
    """The processes of this cluster's engines."""
    raylets = [
        psutil.Process(info.process.pid)
        for node in cluster.list_all_nodes()
        for info in node.all_processes["raylet"]
    ]
    workers = [child for raylet in raylets for child in raylet.children(recursive=True)]
    return [worker for worker in workers if any("PausingHost" in word for word in worker.cmdline())]


def table_of(view: SearchView) -> list[object]:
    """The final table without what depends on the clock."""
    return [(t.number, t.arm, t.parameters, t.recipe_digest, t.state, t.objectives) for t in view.trials]


def test_killed_at_ten_moments_it_ends_as_if_undisturbed(
    cluster: Any, search: Path, tmp_path: Path, commands: list[Command]
) -> None:
    calm, home = tmp_path / "calm", tmp_path / "home"
    commands.append(Command(search, calm, cluster))
    expected = commands[0].finish()
    assert expected.report.parallel == 4
    trials = {t.recipe_digest for t in expected.trials}
    with opened(calm) as store:
        jobs = store.run_jobs(expected.report.run_id)
    digests = [i.job.digest for i in jobs if isinstance(i.job, EvalJob) and i.job.weights_digest in trials]
    assert len({attempts(calm)[digest][-1].worker for digest in digests}) == 4, "four engines"

    chance = random.Random(18)
    events = [*(["search"] * KILLS), *(["engine"] * LOST_ENGINES)]
    chance.shuffle(events)
    command = Command(search, home, cluster)
    commands.append(command)
    moments: list[int] = []
    for number, event in enumerate(events):
        least = evaluated(home) + (chance.randint(1, 2) if number else 0)
        command.wait_for(functools.partial(_has, home, least))
        time.sleep(chance.uniform(0, 0.8))
        if event == "engine":
            command.wait_for(lambda: bool(engine_processes(cluster)))
            chance.choice(engine_processes(cluster)).kill()
            continue
        moments.append(evaluated(home))
        command.kill_and_restart()
    view = command.finish()

    assert table_of(view) == table_of(expected)
    assert view.report == expected.report
    by_job, calmly = attempts(home), attempts(calm)
    assert by_job.keys() == calmly.keys()
    for digest, tries in by_job.items():
        assert [a.state for a in tries].count(AttemptState.SUCCEEDED) == 1, digest
        assert tries[-1].state is AttemptState.SUCCEEDED, "what is stored is not done again"
    states = [a.state for tries in by_job.values() for a in tries]
    print(
        f"\n{len(moments)} kills with {moments} evaluations stored, {LOST_ENGINES} engines killed besides: {len(by_job)} evaluations, "
        f"{len(states)} attempts, {len(states) - len(by_job)} of them cut short; undisturbed {sum(map(len, calmly.values()))}"
    )


def _has(home: Path, least: int) -> bool:
    return evaluated(home) >= least
