"""A user's suite from its files to a comparison, a card and the leaderboard page, with the real engine in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from dashboard.charts import READY
from dashboard.components.grid import GridColumn, GridRow
from dashboard.pages.leaderboard import page
from dashboard.pages.leaderboard.table import meaning_of
from evals import suite as suites
from orchestrator import cli
from orchestrator.compare import ComparisonRow
from tests.support.in_process import all_runs_here
from tests.support.own_tasks import write_own_tasks
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
OPTIONS = ("--engine", "transformers", "--dtype", "float32", "--chat-template", "off")


def called(*words: str) -> str:
    result = CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


def _leaderboard() -> None:
    import importlib

    from dashboard import address, data
    from dashboard.frame import _choose_run

    address.register({})
    address.link = lambda *_, **__: None
    pages = data.open_pages()
    importlib.import_module("dashboard.pages.leaderboard").show(pages, _choose_run(pages))


def test_from_the_files_to_comparison_card_and_leaderboard(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_runs_here(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_own_tasks(tmp_path / "tasks")
    tiny_checkpoint(tmp_path / "first")
    tiny_checkpoint(tmp_path / "second", seed=9)
    (tmp_path / "my.yaml").write_text("name: words\ntasks: [own_choice, own_pages]\ninclude: tasks\n")
    for checkpoint in ("first", "second"):
        called("eval", checkpoint, "--suite", "my.yaml", *OPTIONS)
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "two", "base": "first", "recipes": [{"name": "theirs", "checkpoint": "second"}], "suites": ["my.yaml"],
                "engines": [{"kind": "transformers", "dtype": "float32"}], "chat_template": "off",
            }
        )
    )  # fmt: skip
    ran = json.loads(called("run", "sweep.yaml", "--json", "--quiet"))
    # Another process, without the user's files, which knows the suite from the store alone.
    suites._defined.clear()
    (tmp_path / "my.yaml").unlink()
    (of_eval,) = json.loads(called("compare", "second", "--base", "first", "--json"))
    (of_run,) = json.loads(called("compare", "--run", "two", "--json"))
    assert (of_eval["base"], of_eval["candidate"]) == ("first", "second")
    assert [r["delta"] for r in of_eval["rows"]] == [r["delta"] for r in of_run["rows"]]
    choice, pages = of_run["rows"]
    assert (choice["title"], pages["title"]) == ("own_choice", "own_pages ↓")
    assert pages["lower_is_better"]
    assert pages["base"] > 100  # bits per byte, in hundredths: these checkpoints know no language
    assert (
        pages["delta"]["interval"]["low"]
        <= pages["delta"]["delta_points"]
        <= pages["delta"]["interval"]["high"]
    )
    assert of_run["averages"] == []
    card = yaml.safe_load(called("card", "second"))
    names = [r["dataset"]["name"] for r in card["model-index"][0]["results"]]
    assert names == ["own_choice", "own_pages ↓"]
    drawn: list[tuple[Sequence[GridColumn], Sequence[GridRow]]] = []
    monkeypatch.setattr(
        page, "show_grid", lambda key, caption, columns, rows, **_: drawn.append((columns, rows))
    )
    app = AppTest.from_function(_leaderboard, default_timeout=60)
    app.session_state[READY] = True
    app.run()
    assert not app.exception
    columns, rows = drawn[-1]
    assert {"own_choice", "own_pages ↓"} <= {column.label for column in columns}
    base, theirs = rows
    assert (base.name, theirs.name) == ("base", "theirs")
    for compared in of_run["rows"]:
        cell = theirs.cells[compared["benchmark"]]
        assert cell.text == f"{compared['candidate']:.1f}"
        assert base.cells[compared["benchmark"]].text == f"{compared['base']:.1f}"
        assert f"{compared['delta']['delta_points']:+z.1f}" in cell.delta
    # The direction is that of the metric, on the page as in the verdict.
    judged = ComparisonRow.model_validate(pages)
    assert judged.improved is (pages["candidate"] < pages["base"])
    assert theirs.cells["own_pages"].meaning == meaning_of(judged)
    assert ran
