"""Every page on a small store, without a browser: nothing raises, and each shows what it is there for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.charts import READY
from evals.probes import Scoring, get_probe
from orchestrator.store.pages import Pages
from orchestrator.store.tables import outcomes, run_jobs
from tests.support.demo_stores import Maker, demo_store, load_suite, store_url
from tests.support.made_results import DEMO, HOSTILE, Made
from tests.support.page_text import codes, component_table
from tests.support.pg import PostgresForTests
from tests.support.probe_store import PROBE, probe_store

# Streamlit's cache drops an opened store without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For what depends on no query of its own: every page is drawn from both databases by other tests."""
PAGES = ("overview", "leaderboard", "compare", "recipe", "layer_map", "claims", "job", "card")


def page(name: str, **query: str) -> AppTest:
    """One view inside the frame that every page has."""

    def script(name: str) -> None:
        import importlib

        from dashboard import address, data
        from dashboard.frame import _choose_run

        address.register({})
        address.link = lambda *_, **__: None
        pages = data.open_pages()
        importlib.import_module(f"dashboard.pages.{name}").show(pages, _choose_run(pages))

    app = AppTest.from_function(script, args=(name,), default_timeout=60)
    app.session_state[READY] = True
    for key, text in query.items():
        app.query_params[key] = text
    return app


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    yield
    st.cache_resource.clear()


@pytest.fixture(autouse=True, params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The store of the environment; nothing is in it."""
    if request.param == "sqlite":
        monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)
        yield store_url(home)
        return
    server: PostgresForTests = request.getfixturevalue("postgres")
    url = server.new_database()
    monkeypatch.setenv("MERGEBOARD_DATABASE_URL", url)
    yield url
    st.cache_resource.clear()
    server.drop(url)


@pytest.fixture
def demo(home: Path) -> str:
    return demo_store(home)


def test_every_page_draws_the_demo(demo: str) -> None:
    for name in PAGES:
        app = page(name, run=demo).run()
        assert not app.exception, (name, app.exception)
        assert app.header, name


@ON_SQLITE
def test_leaderboard_refuses_what_may_not_be_compared(home: Path) -> None:
    from evals.scores import ChatTemplate
    from orchestrator.store import Store

    with Store.open(store_url(home)) as store:
        other = Made("other template", template=ChatTemplate.OFF)
        run = Maker(store, home, load_suite("smoke"), n=8).run((DEMO[0], other))
    app = page("compare", run=run, cand="1").run()
    assert not app.exception, app.exception
    assert any("chat template" in text.value for text in app.text)
    assert any("chat_template: 'on'" in code for code in codes(app)), "the command that makes them comparable"


def test_claims_are_shown_with_verdict_and_reason(demo: str) -> None:
    app = page("claims", run=demo).run()
    assert not app.exception, app.exception
    cards, verdicts = app.dataframe[0].value, app.dataframe[1].value
    assert list(cards["Claims"]) == [3, 3]
    assert verdicts["Verdict"].tolist() == ["✓ reproduced", "✗ not reproduced", "⊘ not comparable"]
    assert verdicts["Δ"].tolist() == ["-0.07", "-12.07", "+0.83"]
    shown = " ".join(text.value for text in app.text)
    assert "The chat template differs" in shown
    assert "does not follow" in shown
    unchecked = page("claims", run=demo, card="ca4d0002").run()
    assert "Verdict" not in unchecked.dataframe[1].value
    assert "mergeboard reproduce" in codes(unchecked)[0]


def test_imported_runs_stand_among_the_runs_and_are_marked(demo: str) -> None:
    app = page("overview", run=demo, **{"import": "1a90a7ed"}).run()
    assert not app.exception, app.exception
    assert any("State" in f.value and f.value["State"].tolist() == ["⇣ imported"] for f in app.dataframe)
    assert any("data type" in text.value for text in app.text)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite: test_broken_stores.py
def test_empty_store_is_shown_kindly(home: Path) -> None:
    from orchestrator.store import Store

    Store.open(store_url(home)).close()
    for name in PAGES:
        app = page(name).run()
        assert not app.exception, (name, app.exception)


@ON_SQLITE
def test_hostile_text_is_text(home: Path) -> None:
    from orchestrator.store import Store

    long = HOSTILE + "a" * 1_000_000
    with Store.open(store_url(home)) as store:
        made = (DEMO[0], Made(HOSTILE.replace("\x00", ""), ability=0.2, built=True, response=long))
        run = Maker(store, home, load_suite("smoke"), n=8, name="*run* <b>").run(made)
    for name in PAGES:
        app = page(name, run=run, cand="1", bench="ifeval").run()
        assert not app.exception, (name, app.exception)
        marked = [m.value for m in (*app.markdown, *app.caption, *app.header, *app.subheader)]
        assert not any("<script>" in text or "![x](" in text for text in marked), name
        assert all(len(code) < 30_000 for code in codes(app))


def test_the_store_cannot_be_written(demo: str, home: Path) -> None:
    from orchestrator.errors import StoreError

    with (
        Pages.open(store_url(home), create=False, read_only=True) as pages,
        pytest.raises(StoreError),
    ):
        pages.cancel_run(demo)


@ON_SQLITE
def test_probes_stand_between_what_knowing_nothing_gets_and_the_ceiling(home: Path) -> None:
    run = probe_store(home)
    levels = {str(x.kind): x.value for x in get_probe(PROBE).levels() if x.scoring is Scoring.CORRECTED}
    for picture in ("heatmap", "skyline", "pareto"):
        app = page("layer_map", run=run, picture=picture).run()
        assert not app.exception, app.exception
        said = next(c.value for c in app.caption if "layer paths measured" in c.value)
        for kind in ("random", "constant", "echo"):
            assert f"{kind} answers {levels[kind]:.3f}" in said
        assert f"ceiling {levels['ceiling']:.3f}" in said
    (scores,) = component_table(app, "Scores of the path")
    assert component_table(app, "Ranking")[0]["Layer path"] == "(3, 6)"
    nothing = max(levels[kind] for kind in ("random", "constant", "echo"))
    assert scores["Guess"] == f"{nothing:.3f}"
    assert scores["Ceiling"] == f"{levels['ceiling']:.3f}"
    assert float(scores["Path"]) > float(scores["Base"]) > nothing
    commands = next(c for c in codes(app) if c.startswith("mergeboard build"))
    build, evaluate = commands.splitlines()
    assert build.startswith("mergeboard build '(3, 6)' --base")
    assert evaluate.endswith("--layer-path '(3, 6)' --suite leaderboard-v2")


def test_outcomes_are_counted_in_whole_steps_of_time(demo: str, database: str) -> None:
    """An outcome belongs to the step that it came in during, on either database."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        mine = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == demo)
        done = connection.scalars(
            sa.select(outcomes.c.job_digest).where(outcomes.c.job_digest.in_(mine))
        ).all()
        for number, digest in enumerate(done):
            at = begin + timedelta(seconds=10 * number)
            this = outcomes.c.job_digest == digest
            connection.execute(sa.update(outcomes).where(this).values(accepted_at=at))
    engine.dispose()
    with Pages.open(database, create=False, read_only=True) as pages:
        steps: dict[datetime, int] = {}
        for arrived in pages.arrivals(demo, begin, 60):
            steps[arrived.at] = steps.get(arrived.at, 0) + arrived.count
    expected = {begin + timedelta(minutes=m): 6 for m in range(len(done) // 6)}
    if len(done) % 6:
        expected[begin + timedelta(minutes=len(done) // 6)] = len(done) % 6
    assert steps == expected


@ON_SQLITE
def test_two_layer_paths_are_compared_by_their_probes_down_to_the_answers(home: Path) -> None:
    app = page("compare", run=probe_store(home), cand="1", flips="gained").run()
    assert not app.exception, app.exception
    row = app.dataframe[0].value.iloc[0]
    low, high = (float(end) for end in row["95 % interval"].strip("[]").split(", "))
    assert 0 < low < float(row["Difference"]) < high
    assert float(row["Knowing nothing"]) < float(row["Base"]) < float(row["Ceiling"])
    assert any("not corrected for the 4 layer paths" in c.value for c in app.caption)
    reader = next(html.value for html in app.get("html") if "mb-sides" in html.value)
    base, candidate = reader.split('class="mb-sides"')[1].split('class="mb-label"')[1:3]
    assert "✗ wrong" in base
    assert "✓ right" in candidate
    assert "Question" in reader


@ON_SQLITE
def test_the_card_of_a_run_of_probes_says_why_there_is_none(home: Path) -> None:
    run = probe_store(home)
    app = page("card", run=run, cand="1").run()
    assert not app.exception, app.exception
    assert any("benchmark scores" in text.value for text in app.text)
    assert codes(app)[0].endswith("--layer-path '(3, 6)' --suite leaderboard-v2")
    recipe = page("recipe", run=run, cand="1").run()
    assert not recipe.exception, recipe.exception
    assert any("Repeated: [3, 6) twice" in text.value for text in recipe.text)
