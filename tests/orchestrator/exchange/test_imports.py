"""`import` and `compare` of what was made elsewhere: whole and broken files, samples in every state, cards."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.errors import ClaimError
from evals.stats import SignificanceTest
from evals.suite import load_suite
from orchestrator import cli
from orchestrator.compare.sides import compare_names
from orchestrator.errors import CardError, RunError
from orchestrator.exchange.imports import ImportResult, import_path
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.board_files import STAMP, board_v1, board_v2, logged, right_answers, write, write_samples

MUSR = load_suite("leaderboard-v2").benchmark("musr")
Answers = dict[str, np.ndarray]
Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_environment()


def answers() -> Answers:
    rng = np.random.default_rng(0)
    return {s.task: rng.random(s.n_documents or 1) < 0.6 for s in MUSR.subsets}


def gained(right: Answers, n: int = 20) -> Answers:
    """The same answers with n more right ones in each subset."""
    better = {task: values.copy() for task, values in right.items()}
    for values in better.values():
        values[np.flatnonzero(~values)[:n]] = True
    return better


def run_folder(folder: Path, right: Answers, change: Change | None = None, **fields: Any) -> Path:
    """A run as lm-eval leaves it: results and a samples file for each task."""
    counts = {task: int(values.sum()) for task, values in right.items()}
    write(folder, board_v2(counts, model_name=f"org/{folder.name}", **fields))
    for task, values in right.items():
        entries = logged(task, values)
        write_samples(folder, task, change(entries) if change else entries)
    return folder


def take_both(tmp_path: Path, settings: Settings, change: Change | None = None, **fields: Any) -> Any:
    """Base and variant taken in, and MuSR compared."""
    right = answers()
    import_path(run_folder(tmp_path / "base", right), settings)
    import_path(run_folder(tmp_path / "variant", gained(right), change, **fields), settings)
    with Store.open(settings.database_url, read_only=True) as store:
        (found,) = compare_names(store, ["org/variant"], "org/base", settings.home)
    (row,) = found.rows
    return row


def test_samples_give_paired_tests(tmp_path: Path, settings: Settings) -> None:
    row = take_both(tmp_path, settings)
    assert (row.verdict, row.delta.test) == ("better", SignificanceTest.SIGN_FLIP)
    assert (row.delta.gained, row.delta.lost, row.refused) == (60, 0, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: [{**x, "doc_id": x["doc_id"] + 1000} for x in e], "no document is in both"),
        (
            lambda e: [{**x, "doc_hash": f"{x['doc_id'] + 1:064x}"[::-1]} for x in e],
            "the questions of 756 of 756",
        ),
        (lambda e: [{**x, "prompt_hash": "f" * 64} for x in e], "prompts: those of 756 of 756"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, settings: Settings, change: Change, reason: str) -> None:
    row = take_both(tmp_path, settings, change)
    assert row.delta is None
    assert row.refused[0].startswith(reason)


def test_another_template_or_limit_is_refused(tmp_path: Path, settings: Settings) -> None:
    row = take_both(tmp_path, settings, chat_template=None)
    assert "chat template: on (base), off (candidate)" in row.refused


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda e: e[: len(e) // 2], "they hold 125 of 250 documents of leaderboard_musr_murder_mysteries"),
        (
            lambda e: [*e, {**e[0], "acc_norm": 1 - e[0]["acc_norm"]}],
            "document 0 has two different answers",
        ),
        (
            lambda e: [{k: v for k, v in x.items() if k != "acc_norm"} for x in e],
            "has no acc_norm from 0 to 1",
        ),
    ],
)
def test_samples_that_are_not_whole_are_not_used(
    tmp_path: Path, settings: Settings, change: Change, problem: str
) -> None:
    row = take_both(tmp_path, settings, change)
    assert row.delta.test is SignificanceTest.UNPAIRED
    assert any(problem in note for note in row.notes)


def test_a_line_that_was_written_twice_counts_once(tmp_path: Path, settings: Settings) -> None:
    row = take_both(tmp_path, settings, lambda e: e + e[:9])
    assert (row.delta.test, row.delta.n) == (SignificanceTest.SIGN_FLIP, 756)


def test_a_samples_file_that_was_cut_keeps_the_scores(tmp_path: Path, settings: Settings) -> None:
    folder = run_folder(tmp_path / "base", answers())
    samples = next(folder.glob("samples_*murder*"))
    samples.write_bytes(samples.read_bytes()[:5000])
    (run,) = import_path(folder, settings).runs
    (result,) = run.results
    assert result.samples_path is None
    assert "is truncated" in result.problems[0]
    assert result.measurement.result.n == 756


def test_several_runs_of_one_checkpoint_have_to_be_told_apart(tmp_path: Path, settings: Settings) -> None:
    right = answers()
    for name, template in (("a", "x"), ("b", None)):
        run_folder(tmp_path / name, right, chat_template=template)
        results = tmp_path / name / f"results_{STAMP}.json"
        results.write_text(results.read_text().replace(f"org/{name}", "org/model"))
        import_path(results, settings)
    with Store.open(settings.database_url, read_only=True) as store:
        with pytest.raises(RunError, match=r"2 imported runs of org/model have musr; .*chat template off"):
            compare_names(store, ["org/model"], "org/model", settings.home)
        first, second = (run.id for run in store.imports())
        (found,) = compare_names(store, [first], second, settings.home)
        assert found.rows[0].refused
        (found,) = compare_names(store, [str(tmp_path / "a")], str(tmp_path / "b"), settings.home)
        assert found.rows[0].refused


def test_what_is_no_number_is_shown_as_the_board_did_and_not_compared(
    tmp_path: Path, settings: Settings
) -> None:
    for name in ("good", "bad"):
        data = board_v1()
        data["config_general"]["model_name"] = f"org/{name}"
        if name == "bad":
            data["results"]["harness|truthfulqa:mc|0"]["mc2"] = math.nan
        write(tmp_path / name, data)
        import_path(tmp_path / name, settings)
    with Store.open(settings.database_url, read_only=True) as store:
        (found,) = compare_names(store, ["org/bad"], "org/good", settings.home)
    row = next(r for r in found.rows if r.benchmark == "truthfulqa")
    assert (row.candidate, row.delta) == (0.0, None)
    assert "not a number" in row.refused[0]
    assert all(r.delta is not None for r in found.rows if r is not row)


def test_a_folder_with_a_broken_file_gives_the_others_and_names_it(
    tmp_path: Path, settings: Settings
) -> None:
    write(tmp_path, board_v2(right_answers()))
    (tmp_path / "results_2024-01-01T00-00-00.json").write_text('{"results": {"leaderboard_')
    taken = import_path(tmp_path, settings)
    assert len(taken.runs) == 1
    assert "2024-01-01T00-00-00.json is not JSON" in taken.refused[0]


def test_files_of_any_name_are_known_by_what_is_in_them(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "base.json").write_text(json.dumps(board_v2(right_answers())))
    (tmp_path / "package.json").write_text("{}")
    assert [run.run.checkpoint for run in import_path(tmp_path, settings).runs] == ["org/model"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"results": {"my_task": {"odd_len,none": 9.1}}}', "my_task has no metric whose direction is known"),
        ('{"results": {"leaderboard_mmlu_pro": {"acc,none": 1.7}}}', "not a share from 0 to 1"),
        ("", "is not JSON"),
        ("[]", "JSON list"),
    ],
)
def test_what_holds_nothing_is_refused_in_a_sentence(
    tmp_path: Path, settings: Settings, text: str, words: str
) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ClaimError, match=words):
        import_path(tmp_path, settings)
    (tmp_path / "README.md").write_text("# nothing\n")
    with pytest.raises(CardError, match="claims no score"):
        import_path(tmp_path / "README.md", settings)


def test_the_boards_own_row_is_recognised(tmp_path: Path, settings: Settings) -> None:
    """A file that comes to another value than the row that the board published says so."""
    write(tmp_path, board_v2(right_answers(), model_name="Qwen/Qwen2-72B", chat_template=None))
    (run,) = import_path(tmp_path, settings).runs
    assert run.notes[0].endswith("0 of 6 benchmarks are as published for Qwen/Qwen2-72B.")
    assert any(note.startswith("BBH: ") and note.endswith("published as 51.86.") for note in run.notes)


def test_the_command_prints_raw_and_normalized(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    folder = run_folder(tmp_path / "base", answers())
    code, text, _ = call("import", str(folder))
    assert code == 0
    (line,) = [line for line in text.splitlines() if line.startswith(" MuSR")]
    assert "0.5780" in line
    assert "32.61" in line
    code, text, _ = call("import", str(folder), "--json")
    (found,) = json.loads(text)["runs"][0]["benchmarks"]
    assert (round(found["raw"], 4), round(found["normalized"], 2)) == (0.578, 32.61)
    assert (settings.home / found["samples_path"]).is_file()
    code, _, error = call("compare", "org/base")
    assert (code, "--base names what to compare" in error) == (2, True)
    code, text, _ = call("compare", "org/base", "--base", "org/base")
    assert (code, "every answer is the same" in " ".join(text.split())) == (0, True)


def test_a_card_is_kept_with_its_claims(tmp_path: Path, settings: Settings) -> None:
    card = tmp_path / "README.md"
    card.write_text(
        "# m\n\n| Metric | Value |\n|---|---|\n| Avg. | 20.00 |\n| IFEval | 30.0 |\n| BBH | 10.0 |\n"
    )
    taken: ImportResult = import_path(tmp_path, settings)
    with Store.open(settings.database_url, read_only=True) as store:
        found = store.card(taken.cards[0].id)
    assert [claim.value for claim in found.claims] == [30.0, 10.0, 20.0]
    assert found.text == card.read_text()
