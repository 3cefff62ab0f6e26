"""What the overview says of each state of a run, and the layer map of a whole scan, without a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.pages.layer_paths import _flat
from dashboard.runs import parts_of_scans, run_labels
from dashboard.scan_verdict import link_confirmed_benchmarks
from dashboard.scans import layer_map, scan_of
from dashboard.verdict import so_far_text
from orchestrator.charts import PROBE_WARNING, SMOKE_WARNING, Meaning
from orchestrator.compare.scan_runs import probe_columns, scan_runs, search_ranking
from orchestrator.compare.verdict import RunVerdict, Standing
from orchestrator.store import Store
from orchestrator.store.pages import Pages
from orchestrator.store.records import AttemptRecord, Failure, FailureClass, RunState
from tests.dashboard.test_pages import page
from tests.support.demo_stores import Maker, demo_store, load_suite, store_url
from tests.support.made_results import DEMO, Made
from tests.support.page_text import codes, component_table
from tests.support.probe_store import HELD_OUT, LUCK, Shares, scan_store

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
    yield
    st.cache_resource.clear()


def said(app: AppTest) -> str:
    """All text of a page outside its tables."""
    assert not app.exception, app.exception
    parts = (*app.header, *app.subheader, *app.markdown, *app.caption, *app.text, *app.warning)
    return "\n".join([*(part.value for part in parts), *codes(app)]).replace("\\", "")


@pytest.mark.parametrize(
    ("held_out", "verdict", "first"),
    [
        (
            HELD_OUT,
            "▲ 1 of the 3 best of 4 layer paths is confirmed better on the confirmation set: (3, 6)",
            "▲ real",
        ),
        (LUCK, "Nothing here is real: none of the 2 best of 4 layer paths keeps its gain", "not confirmed"),
        (None, "Not confirmed: the 4 layer paths were measured on the search set alone.", None),
    ],
    ids=["real", "luck", "unconfirmed"],
)
def test_search_and_confirmation_are_one_scan(
    home: Path, held_out: Shares | None, verdict: str, first: str | None
) -> None:
    """Each run of a scan shows the whole scan: on main the search said nothing of its confirmation, and vice versa."""
    search, confirmation = scan_store(home, held_out)
    for run in filter(None, (search, confirmation)):
        app = page("layer_map", run=run).run()
        for shown in (app, *([page("overview", run=run).run()] if run == search else ())):
            text = said(shown)
            assert verdict in text, text
            assert PROBE_WARNING in text
        assert app.selectbox(key="measure").value == "together", "all probes are combined by default"
        best = component_table(app, "Ranking")[0]
        assert best["Layer path"] == "(3, 6)"
        assert best.get("Confirmed") == first
        assert any("Best: **(3, 6)**" in m.value.replace("\\", "") for m in app.markdown)
        assert any(code.startswith("mergeboard build '(3, 6)'") for code in codes(app))
    assert "no layer path (99, 100)" in said(page("layer_map", run=search, path="(99, 100)").run())
    runs = next(f.value for f in page("overview", run=search).run().dataframe if "Recipes" in f.value)
    assert len(runs) == 1, "search and confirmation are one line"


def test_map_and_export_mark_what_values_are_not(home: Path) -> None:
    search, _ = scan_store(home)
    demo = demo_store(home)
    with Pages.open(store_url(home), create=False, read_only=True) as pages:
        for run, warning in ((search, PROBE_WARNING), (demo, SMOKE_WARNING)):
            base, known = pages.base_of(run), scan_runs(pages, run)
            assert base is not None
            paths = layer_map({run: pages.candidates(run)}, base)
            assert paths is not None
            columns = probe_columns(pages, run) or pages.columns(run)
            ranking = search_ranking(pages, run, known.rank) if known else None
            confirmed = {paths.places[0].candidate.layer_path or (): Meaning.WORSE}
            scan, _ = scan_of(pages, "x", paths, columns, ranking=ranking, confirmed=confirmed)
            assert scan is not None
            assert scan.warning == warning
            rows = _flat(scan, paths)
            assert {row["data"] for row in rows} == {warning}
            assert rows[0]["confirmed"] == "worse"


def test_a_finished_run_shows_its_result(home: Path) -> None:
    text = said(page("overview", run=demo_store(home)).run())
    assert "38 of 38 jobs" in text
    assert "recipes are compared" in text or "Mean: 0 of" in text
    assert "smoke test data" in text


def test_a_live_run_shows_what_runs_where(home: Path) -> None:
    with Store.open(store_url(home)) as store:
        maker = Maker(store, home, load_suite("smoke"), n=4)
        lease, planned = maker.create(DEMO)
        for item in planned[:8]:
            maker.execute(lease, item, DEMO[item.candidates[0]])
        progress = (
            {"stage": "evaluating", "done": 33, "total": 48, "share_done": 0.7, "work_s": 20.0},
            {"stage": "starting the engine", "engine_starts": True},
        )
        for item, node, written in zip(planned[8:], ("gpu-7", "gpu-8"), progress, strict=False):
            store.start_attempt(lease, item.job.digest, node=node, worker=node)
            folder = home / "journals" / item.job.digest
            folder.mkdir(parents=True)
            (folder / "progress.json").write_text(json.dumps(written))
    app = page("overview", run=lease.run_id).run()
    assert "8 of 38 jobs" in said(app)
    rows = next(f.value for f in app.dataframe if "Node" in f.value)
    assert rows["Progress"].tolist() == ["33 of 48", "starting the engine"]
    assert rows["Node"].tolist() == ["gpu-7", "gpu-8"]
    assert set(rows["Engine"]) == {"vllm 0.32.0+cpu, bfloat16"}
    assert rows["Benchmark"].tolist() == ["smoke bbh", "smoke math"]


def test_runs_that_have_no_result_say_so_and_what_to_do(home: Path) -> None:
    suite = load_suite("smoke")
    with Store.open(store_url(home)) as store:
        broken = Made("base", failure=FailureClass.OUT_OF_MEMORY)
        failed = Maker(store, home, suite, n=4).run((broken,), end=RunState.FAILED)
        maker = Maker(store, home, suite, n=4, seed=1)
        lease, planned = maker.create(DEMO)
        for item in planned[:5]:
            maker.execute(lease, item, DEMO[item.candidates[0]])
        store.finish_run(lease, RunState.CANCELLED)
        empty = maker.write((Made("base"),), [])
        store.finish_run(empty, RunState.DONE)
    text = said(page("overview", run=failed).run())
    assert "All 6 jobs failed: no result" in text
    assert f"mergeboard resume {failed}" in text
    assert "**6 jobs** · out of memory" in text, "one group for one message, not six lines"
    assert "To do:** Set a larger `tensor_parallel`" in text
    text = said(page("overview", run=lease.run_id).run())
    assert "Cancelled" in text
    assert "5 of 38 jobs have a result" in text
    assert f"mergeboard resume {lease.run_id}" in text
    assert "This run is empty" in said(page("overview", run=empty.run_id).run())


def test_queries_of_the_overview_on_either_database(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that differ in numbers alone are one group; a job that succeeded later does not count."""
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    search, confirmation = scan_store(home)
    with Store.open(url) as store:
        lease, planned = Maker(store, home, load_suite("smoke"), n=4).create((DEMO[0],))
        maker = Maker(store, home, load_suite("smoke"), n=4)
        for number, item in enumerate(planned[:4]):
            attempt = store.start_attempt(lease, item.job.digest, node="n", worker="w")
            assert isinstance(attempt, AttemptRecord)
            message = f"Tried to allocate {number + 1}.5 GiB." if number < 3 else "No such file."
            failure = Failure(failure_class=FailureClass.OUT_OF_MEMORY, message=message)
            store.fail_attempt(attempt.id, failure, will_retry=number == 0)
        maker.execute(lease, planned[0], DEMO[0])
    with Pages.open(url, create=False, read_only=True) as pages:
        groups = pages.failure_groups(lease.run_id)
        assert pages.run_ids()[0] == lease.run_id
        assert parts_of_scans(pages) == {confirmation: search}
        scan = scan_runs(pages, search)
    assert [(g.jobs, g.attempts) for g in groups] == [(2, 3), (1, 1)]
    assert groups[0].message == "Tried to allocate 3.5 GiB."
    assert scan is not None
    assert (scan.searches, scan.confirmation) == ((search,), confirmation)


def test_two_runs_of_one_name_have_different_labels(home: Path) -> None:
    first, second = demo_store(home), demo_store(home, seed=5)
    with Pages.open(store_url(home), create=False, read_only=True) as pages:
        runs = [run.model_copy(update={"created_at": pages.run(first).created_at}) for run in pages.runs()]
    labels = run_labels(runs)
    assert set(labels) == {first, second}
    assert len(set(labels.values())) == 2


def test_an_unfinished_verdict_says_what_there_is_and_that_it_is_not_final() -> None:
    kinds = (Standing.BETTER, Standing.UNSHOWN, Standing.WORSE, Standing.PENDING)
    verdict = RunVerdict(
        base="base",
        standings={f"recipe {n}": standing for n, standing in enumerate(kinds)},
        average_effects=(),
        benchmark_effects=(),
        n_averages=3,
        partial=(),
        refusals=(),
        n_tests=12,
    )
    text = so_far_text(verdict)
    assert text is not None
    assert text.startswith("So far, not final: 1 ▲ better, 1 ▼ worse of 3.")
    whole = {name: s for name, s in verdict.standings.items() if s is not Standing.PENDING}
    assert so_far_text(verdict.model_copy(update={"standings": whole})) is None
    nothing = dict.fromkeys(verdict.standings, Standing.PENDING)
    assert so_far_text(verdict.model_copy(update={"standings": nothing})) is None


def test_a_scan_leads_to_the_benchmarks_of_its_confirmation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of `--confirm-suite` could be reached by its address alone."""
    search, confirmation = scan_store(home, HELD_OUT)
    links: list[tuple[str, str]] = []
    monkeypatch.setattr("dashboard.address.link", lambda _, label, **to: links.append((label, to["run"])))
    with Pages.open(store_url(home), create=False, read_only=True) as pages:
        assert isinstance(pages, Pages)
        scan = scan_runs(pages, search)
        link_confirmed_benchmarks(pages, scan)
        assert links == [], "its confirmation asked probes alone"
        with_suite = pages.columns(search)[0].model_copy(update={"suite": "smoke"})
        probes = pages.columns(search)
        monkeypatch.setattr(Pages, "columns", lambda *_: (*probes, with_suite))
        st.cache_resource.clear()
        link_confirmed_benchmarks(pages, scan)
    assert [run for _, run in links] == [confirmation]
    assert links[0][0].startswith("Its best paths on ")
