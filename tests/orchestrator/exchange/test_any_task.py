"""lm-eval results of tasks that no suite contains: imported, compared by exact tests, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from evals.stats import SignificanceTest
from orchestrator import cli
from orchestrator.compare.comparison import Comparison
from orchestrator.compare.sides import compare_names
from orchestrator.errors import RunError
from orchestrator.exchange.every_eval import export_every_eval
from orchestrator.exchange.imports import import_path, import_paths
from orchestrator.exchange.stored import imported_runs, remove_imports
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.lm_eval_files import STAMP, Task, write_run


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_environment()


def answers(seed: int, n: int, share: float) -> list[float]:
    return [float(v) for v in np.random.default_rng(seed).uniform(size=n) < share]


def flipped(values: list[float], gained: int, lost: int) -> list[float]:
    changed, ups, downs = list(values), gained, lost
    for i, value in enumerate(values):
        if value == 0 and ups:
            changed[i], ups = 1.0, ups - 1
        elif value == 1 and downs:
            changed[i], downs = 0.0, downs - 1
    assert ups == downs == 0
    return changed


def run(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
    return int(caught.value.code or 0)


def compared(settings: Settings, candidate: Path, base: Path, **options: object) -> Comparison:
    with Store.open(settings.database_url) as store:
        (comparison,) = compare_names(store, [str(candidate)], str(base), settings.home, **options)  # type: ignore[arg-type]
    return comparison


@pytest.mark.parametrize(("gained", "lost"), [(9, 1), (5, 5), (0, 6), (17, 6), (12, 3), (1, 0), (30, 14)])
def test_binary_metrics_are_tested_as_mcnemar_by_hand(
    tmp_path: Path, settings: Settings, gained: int, lost: int
) -> None:
    base = answers(1, 200, 0.4)
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, [Task("aardvark_qa", {"acc": base, "acc_norm": base})])
    write_run(
        b, [Task("aardvark_qa", {"acc": flipped(base, gained, lost), "acc_norm": base})], model="org/merge"
    )
    import_paths([a, b], settings)
    comparison = compared(settings, b, a)
    (row,) = comparison.rows
    assert row.title == "aardvark_qa acc"
    assert row.delta is not None
    assert (row.delta.gained, row.delta.lost, row.delta.n) == (gained, lost, 200)
    exact = binomtest(gained, gained + lost).pvalue
    assert row.delta.p == pytest.approx(exact, rel=1e-9)
    assert row.significant == (exact < 0.05)
    assert (row.delta.interval.low > 0 or row.delta.interval.high < 0) == (exact < 0.05)
    assert row.delta.delta_points == pytest.approx((gained - lost) / 2)
    (row,) = compared(settings, b, a, metric="acc_norm").rows
    assert row.title == "aardvark_qa acc_norm"
    assert row.delta is not None
    assert row.delta.p == 1.0
    with pytest.raises(RunError, match="has acc, acc_norm"):
        compared(settings, b, a, metric="f1")


def test_every_kind_of_task_is_imported(tmp_path: Path, settings: Settings) -> None:
    n = 60
    rng = np.random.default_rng(3)
    right = answers(5, n, 0.5)
    graded = [round(float(v), 3) for v in rng.uniform(size=n)]
    group = [Task(f"zoo_{name}", {"acc": answers(i, n + 20 * i, 0.4)}) for i, name in enumerate("abc")]
    tasks = [
        *group,
        Task(
            "cot_math",
            {"exact_match,strict-match": right, "exact_match,flexible-extract": answers(6, n, 0.6)},
            "generate_until",
            shots=5,
        ),
        Task("essay", {"f1": graded}, "generate_until"),
        Task("translate", {"bleu": graded}, "generate_until", scale=100.0),
        Task("wikitext", {}, extra={"word_perplexity,none": 12.5, "bits_per_byte,none": 0.6}, n_documents=9),
        Task("odd", {}, extra={"odd_len,none": 3.5}, n_documents=9),
    ]
    pooled = sum(sum(t.answers["acc"]) for t in group) / sum(t.n for t in group)
    groups = {"zoo": [t.name for t in group]}
    for name, model in (("a", "org/base"), ("b", "org/merge")):
        write_run(
            tmp_path / name, tasks, model=model, groups=groups, group_values={"zoo": {"acc,none": pooled}}
        )
    (first, _) = import_paths([tmp_path / "a", tmp_path / "b"], settings).runs
    by_name = {r.benchmark: r for r in first.results}
    assert list(by_name) == ["zoo", "cot_math", "essay", "translate", "wikitext"]
    assert first.run.ignored == ("odd",)
    assert "odd has no metric whose direction is known" in first.run.problems[0]
    assert all(r.samples_path for r in first.results[:-1])
    assert by_name["wikitext"].measurement.result.raw == 12.5
    assert by_name["zoo"].measurement.result.raw == pytest.approx(pooled)
    assert by_name["cot_math"].measurement.result.metric == "exact_match,strict-match"
    assert by_name["translate"].measurement.result.raw == pytest.approx(sum(graded) / n)
    comparison = compared(settings, tmp_path / "b", tmp_path / "a")
    assert [row.delta is not None and row.delta.p for row in comparison.rows] == [1.0] * 4 + [False]
    assert "word_perplexity of wikitext (base) has neither samples" in comparison.rows[-1].refused[0]


def test_perplexities_are_imported_and_compared_lower_is_better(tmp_path: Path, settings: Settings) -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(50, 400, 40)
    logprobs = {"a": -2.5 * words, "b": -2.4 * words}
    for name, values in logprobs.items():
        bits = -values.sum() / (5 * words).sum() / np.log(2)
        extra = {
            "word_perplexity,none": float(np.exp(-values.sum() / words.sum())),
            "bits_per_byte,none": float(bits),
        }
        write_run(
            tmp_path / name,
            [Task("pages", {}, "loglikelihood_rolling", extra=extra, n_documents=40)],
            model=f"org/{name}",
        )
        entries = [
            {
                "doc_id": i, "doc": {"page": i}, "target": "", "arguments": [[f"page {i}"]], "resps": [[float(v)]],
                "filtered_resps": [float(v)], "filter": "none", "metrics": ["word_perplexity", "bits_per_byte"],
                "word_perplexity": [float(v), int(n)], "bits_per_byte": [float(v), int(5 * n)],
            }
            for i, (v, n) in enumerate(zip(values, words, strict=True))
        ]  # fmt: skip
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (tmp_path / name / f"samples_pages_{STAMP}.jsonl").write_text(text)
    import_paths([tmp_path / "a", tmp_path / "b"], settings)
    for metric, expected in ((None, np.exp(2.4)), ("bits_per_byte", 2.4 / 5 / np.log(2))):
        (row,) = compared(settings, tmp_path / "b", tmp_path / "a", metric=metric).rows
        assert row.candidate == pytest.approx(100 * expected)
        assert row.lower_is_better
        assert row.delta is not None
        assert row.delta.test is not SignificanceTest.UNPAIRED
        assert row.delta.interval.high < 0
        assert row.verdict == "better"


def test_a_perplexity_keeps_its_value_and_direction_in_cards_and_every_eval_ever(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {"word_perplexity,none": 18.5, "word_perplexity_stderr,none": 0.7}
    write_run(tmp_path / "a", [Task("pages", {}, "loglikelihood_rolling", extra=extra, n_documents=50)])
    import_paths([tmp_path / "a"], settings)
    assert run("card", "org/model") == 0
    assert "value: 18.5\n" in capsys.readouterr().out
    (path,) = export_every_eval(settings, tmp_path / "eee")
    configs = [r["metric_config"] for r in json.loads(path.read_text())["evaluation_results"]]
    assert [(c["lower_is_better"], c["max_score"]) for c in configs] == [(True, "Infinity")] * 2
    (again,) = import_path(path, settings).runs
    assert again.results[0].measurement.result.raw == 18.5


def test_what_has_no_samples_is_compared_unpaired_and_says_so(tmp_path: Path, settings: Settings) -> None:
    base = answers(1, 300, 0.3)
    write_run(tmp_path / "a", [Task("my_task", {"acc": base})], samples=False)
    write_run(tmp_path / "b", [Task("my_task", {"acc": flipped(base, 90, 0)})], model="org/merge")
    import_paths([tmp_path / "a", tmp_path / "b"], settings)
    (row,) = compared(settings, tmp_path / "b", tmp_path / "a").rows
    assert row.delta is not None
    assert row.delta.test == "unpaired"
    assert "without samples: compared as if on different documents" in row.notes
    assert row.verdict == "better"


def test_a_margin_is_tested_for_every_row(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    base = answers(1, 900, 0.5)
    tasks = {"same": base, "little": flipped(base, 20, 24), "much": flipped(base, 0, 150)}
    write_run(tmp_path / "a", [Task(name, {"acc": base}) for name in tasks])
    write_run(tmp_path / "b", [Task(name, {"acc": v}) for name, v in tasks.items()], model="org/b")
    import_paths([tmp_path / "a", tmp_path / "b"], settings)
    command = ("compare", str(tmp_path / "b"), "--base", str(tmp_path / "a"), "--margin", "3")
    assert run(*command, "--json") == 0
    rows = json.loads(capsys.readouterr().out)[0]["rows"]
    assert [row["margin"]["outcome"] for row in rows] == [
        "equivalent within the margin",
        "equivalent within the margin",
        "worse by more than the margin",
    ]
    assert run(*command) == 0
    assert "equivalent within the margin: same acc, little acc." in capsys.readouterr().out
    assert run(*command[:-1], "0") == 2


def test_other_questions_or_another_metric_are_refused(tmp_path: Path, settings: Settings) -> None:
    base = answers(1, 50, 0.3)
    write_run(tmp_path / "a", [Task("x", {"acc": base}), Task("y", {"acc": base})])
    write_run(tmp_path / "b", [Task("x", {"acc": base}, shots=3), Task("y", {"f1": base})], model="org/b")
    import_paths([tmp_path / "a", tmp_path / "b"], settings)
    first, second = compared(settings, tmp_path / "b", tmp_path / "a").rows
    assert first.refused == ("few-shot examples: 0 (base), 3 (candidate)",)
    assert second.refused == ("metric: acc (base), f1 (candidate), and they share none",)


def test_old_files_without_counts_take_them_from_samples(tmp_path: Path, settings: Settings) -> None:
    base = answers(1, 40, 0.3)
    bare = {
        "n-samples": {},
        "configs": {},
        "higher_is_better": {},
        "group_subtasks": {},
        "lm_eval_version": None,
    }
    write_run(tmp_path / "a", [Task("x", {"acc": base}, extra={"acc_stderr,none": 0.0})], **bare)
    (taken,) = import_path(tmp_path / "a", settings).runs
    assert taken.results[0].measurement.result.n == 40
    assert not taken.results[0].measurement.result.partial


def test_imports_are_listed_and_removed(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    base = answers(1, 40, 0.3)
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, [Task("we:ird|x .. y", {"acc": base})])
    write_run(b, [Task("x", {"acc": base})], model="org/other")
    import_paths([a, b], settings)
    assert run("import", "--list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["checkpoint"] for item in listed] in (["org/other", "org/model"], ["org/model", "org/other"])
    kept, gone = imported_runs(settings)
    files = [settings.home / str(item.results[0].samples_path) for item in (kept, gone)]
    assert all(f.is_file() and f.is_relative_to(settings.home / "imports") for f in files)
    with pytest.raises(RunError, match="no imported run zzzz"):
        remove_imports([gone.run.id, "zzzz"], settings)
    assert remove_imports([gone.run.id[:8]], settings) == (gone.run.id,)
    assert [f.is_file() for f in files] == [True, False]
    assert [item.run.id for item in imported_runs(settings)] == [kept.run.id]
    assert run("import", "--list", str(a)) == 2


def test_a_copy_under_another_path_is_found_by_its_content(tmp_path: Path, settings: Settings) -> None:
    base = answers(1, 40, 0.3)
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        write_run(folder, [Task("x", {"acc": base})])
    import_paths([a, b], settings)
    (row,) = compared(settings, a, b).rows
    assert "every answer is the same in both" in " ".join(row.notes)


def test_nested_groups_are_one_benchmark_and_tags_are_none(tmp_path: Path, settings: Settings) -> None:
    """As MMLU's: the outermost group with a value; a plain mean where only that gives the value; a group in itself ends."""
    leaves = [
        Task(f"q_{name}", {"acc": answers(i, 20 + 30 * i, 0.3 + 0.2 * i)}) for i, name in enumerate("abcd")
    ]
    means = [sum(t.answers["acc"]) / t.n for t in leaves]
    groups = {
        "quiz": ["quiz_left", "quiz_right"],
        "quiz_left": ["q_a", "q_b"],
        "quiz_right": ["q_c", "q_d", "quiz"],
        "tagged": ["lone_a", "lone_b"],
    }
    values = {
        "quiz": {"acc,none": sum(means) / 4},
        "quiz_left": {"acc,none": 0.5},
        "quiz_right": {"acc,none": 0.5},
        "tagged": {" ": 0.0},
    }
    lone = [Task(f"lone_{name}", {"acc": answers(9, 30, 0.5)}) for name in "ab"]
    write_run(tmp_path / "a", [*leaves, *lone], groups=groups, group_values=values)
    (taken,) = import_path(tmp_path / "a", settings).runs
    assert [r.benchmark for r in taken.results] == ["quiz", "lone_a", "lone_b"]
    quiz = taken.results[0]
    assert quiz.measurement.result.raw == pytest.approx(sum(means) / 4)
    assert quiz.problems == ()
    assert quiz.samples_path is not None
    assert taken.run.ignored == ()
