"""What the report's tests share: a home with a run, a card with verdicts, an imported run, a hostile run and a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.claims.facts import Fact, Facts
from orchestrator import cli
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from tests.support.claim_store import imported
from tests.support.demo_stores import Maker, demo_store, load_suite, store_url
from tests.support.made_results import DEMO, HOSTILE, Made
from tests.support.scan_store import scan_store

CONFIRMED = {(3, 5): 0.97, (2, 4): 0.5, (4, 5): 0.1}


@dataclass(frozen=True)
class Stored:
    """A home with its runs."""

    home: Path
    demo: str
    hostile: str
    live: str
    search: str
    confirmation: str


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    home = tmp_path_factory.mktemp("reported")
    demo = demo_store(home)
    smoke = load_suite("smoke")
    with Store.open(store_url(home)) as store:
        bad = Made(HOSTILE.replace("\x00", ""), ability=0.2, restless=0.9, response=HOSTILE + "a" * 100_000)
        twin = Made("```\n# twin <img src=x>", ability=0.2, restless=0.9)
        hostile = Maker(store, home, smoke, n=6, seed=1, name="*run* <b>").run((DEMO[0], bad, twin))
        maker = Maker(store, home, smoke, n=4, seed=2, name="live")
        lease, planned = maker.create(DEMO[:1] + DEMO[3:5])
        for item in planned[:12]:
            maker.execute(lease, item, (DEMO[:1] + DEMO[3:5])[item.candidates[0]])
        _import(store)
    search, confirmation = scan_store(home, confirmed=CONFIRMED)
    assert confirmation is not None
    return Stored(home, demo, hostile, lease.run_id, search, confirmation)


def _import(store: Store) -> None:
    """A result file of somebody else's checkpoint with one benchmark, without samples."""
    run = imported(store, "someone/other-7B")
    (result,) = store.imported_results([run.id])[run.id]
    benchmark = load_suite("smoke").benchmark("bbh")
    facts = Facts(known={Fact.SUITE: "smoke", Fact.BENCHMARK: "bbh"})
    measurement = result.measurement.model_copy(update={"facts": facts})
    fitting = {"benchmark_digest": benchmark.digest, "measurement": measurement}
    store.put_import(run.model_copy(update={"id": "07e40001"}), [result.model_copy(update=fitting)])


@pytest.fixture
def pages(stored: Stored) -> Iterator[Pages]:
    with Pages.open(store_url(stored.home), create=False, read_only=True) as store:
        yield store


@pytest.fixture
def call(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `mergeboard report` in this process: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("MERGEBOARD_HOME", str(stored.home))
        monkeypatch.setattr("sys.argv", ["mergeboard", "report", "--quiet", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run
