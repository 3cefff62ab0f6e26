"""Columns of several tasks: lm-eval's groups, by size or not, flat and nested, and weights that a user gives."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import lm_eval.evaluator
import numpy as np
import pytest
from lm_eval.tasks import TaskManager

from evals.benchmark import Aggregation, Benchmark
from evals.errors import SuiteError
from evals.harness import evaluate
from evals.harness.tasks import quiet
from evals.normalize import benchmark_score, raw_value
from evals.samples import read_samples
from evals.scores import ChatTemplate, Sample, Score
from evals.stats import delta, documents, estimate, unpaired_delta
from evals.suite import Suite
from evals.suite_file import SuiteRequest, read_suite_file, resolve_suite
from evals.suite_text import formula, suite_text
from tests.support.own_tasks import write_own_tasks
from tests.support.parity import SideBySide

GROUPS = {
    "by_size": """
group: by_size
task: [own_choice, own_endings]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
""",
    "alike": """
group: alike
task: [own_choice, own_endings]
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
""",
    # lm-eval's default is by size.
    "silent": """
group: silent
task: [own_choice, own_endings]
aggregate_metric_list: [{metric: acc}]
""",
    # The mean is over the tasks below, not over the inner groups, which have an aggregation of their own.
    "nested": """
group: nested
task:
  - own_endings
  - {group: inner, task: [own_choice, own_letters], aggregate_metric_list: [{metric: acc, weight_by_size: true}]}
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
""",
    "nested_by_size": """
group: nested_by_size
task: [own_endings, alike_pair]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
""",
    "alike_pair": """
group: alike_pair
task: [own_choice, own_letters]
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = write_own_tasks(tmp_path_factory.mktemp("groups") / "tasks")
    for name, text in GROUPS.items():
        (written / f"{name}.yaml").write_text(text)
    return written


def _suite(folder: Path, name: str) -> Suite:
    suite = resolve_suite(SuiteRequest(tasks=(name,), include=str(folder), name=f"of-{name}"), folder)
    return suite.model_copy(update={"settings": suite.settings.model_copy(update={"max_length": 256})})


@pytest.mark.slow
def test_groups_equal_lm_evals_own_aggregate(
    folder: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    both: SideBySide | None = None
    values = {}
    for name in GROUPS:
        suite = _suite(folder, name)
        (benchmark,) = suite.benchmarks
        both = both or SideBySide(suite, tiny_llama)
        ours = evaluate(
            both.engine, suite, benchmark, suite.eval_settings(ChatTemplate.OFF), mirror=None,
            journal_dir=tmp_path / f"j-{name}", samples_path=tmp_path / f"{name}.parquet",
        )  # fmt: skip
        with quiet():
            theirs = lm_eval.evaluator.simple_evaluate(
                both.stock, tasks=[name], task_manager=TaskManager(include_defaults=False, include_path=folder),
                bootstrap_iters=0,
            )  # fmt: skip
        values[name] = theirs["groups"][name]["acc,none"]
        column = benchmark_score(benchmark, ours.scores)
        assert column.raw == pytest.approx(values[name], abs=1e-12), name
        assert estimate(
            documents([read_samples(tmp_path / f"{name}.parquet")], benchmark)
        ).value == pytest.approx(100 * values[name]), name
    assert both is not None
    both.engine.close()
    assert values["by_size"] == values["silent"]
    assert len({values["by_size"], values["alike"]}) == 2, "the checkpoint tells the two apart"


def _weighted(folder: Path, text: str = "weights: {own_choice: 3, own_endings: 1}") -> Benchmark:
    file = folder.parent / "weighted.yaml"
    file.write_text(f"tasks: [alike]\ninclude: tasks\n{text}\n")
    (benchmark,) = read_suite_file(file).benchmarks
    return benchmark


def test_weights_of_a_user(folder: Path) -> None:
    weighted = _weighted(folder)
    assert weighted.aggregation is Aggregation.SUBSET_MEAN
    assert (
        formula(weighted) == "100 * (3 * own_choice + 1 * own_endings) / 4, each the value of the mean of acc"
    )
    plain = _suite(folder, "alike").benchmarks[0]
    assert "weights" not in plain.model_dump(), "definitions without weights keep their digests"
    assert weighted.digest != plain.digest
    rng = np.random.default_rng(0)
    sides = [_samples(weighted, rng, right) for right in (0.5, 0.7)]
    means = [
        [fmean(s.correct for s in side if s.subset == subset.task) for subset in weighted.subsets]
        for side in sides
    ]
    values = [(3 * a + b) / 4 for a, b in means]
    scores = [_scores(weighted, row) for row in means]
    assert [raw_value(weighted, s) for s in scores] == pytest.approx(values)
    assert raw_value(plain, scores[0]) == pytest.approx(fmean(means[0]))
    found = delta(documents(sides, weighted))
    assert (found.base, found.candidate) == pytest.approx((100 * values[0], 100 * values[1]))
    # By hand: independent subsets, whose shares are 3/4 and 1/4.
    spread = _spread(weighted, sides)
    assert found.stderr_points == pytest.approx(spread, rel=0.12)
    assert unpaired_delta(scores[0], scores[1], weighted).delta_points == pytest.approx(found.delta_points)
    assert found.interval.low < found.delta_points < found.interval.high


def test_equal_weights_are_the_plain_mean(folder: Path) -> None:
    equal = _weighted(folder, "weights: {own_choice: 2, own_endings: 2}")
    plain = _suite(folder, "alike").benchmarks[0]
    rng = np.random.default_rng(1)
    sides = [_samples(equal, rng, right) for right in (0.4, 0.6)]
    assert delta(documents(sides, equal)) == delta(documents(sides, plain))


def test_weights_survive_the_suite_file(folder: Path) -> None:
    weighted = _weighted(folder)
    suite = _suite(folder, "alike").model_copy(update={"benchmarks": (weighted,)})
    file = folder.parent / "full.yaml"
    file.write_text(suite_text(suite, other_metrics={}, include="tasks"))
    (read,) = read_suite_file(file).benchmarks
    assert read.weights == {"own_choice": 3, "own_endings": 1}
    assert read.digest == weighted.digest
    assert read.subsets[1].files == {"test": ("data/colours.jsonl",)}, "each task has data files of its own"
    plain = suite_text(_suite(folder, "alike"), other_metrics={}, include="tasks")
    assert "# weights: {own_choice: 2, own_endings: 1}" in plain


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("{own_choice: 3}", "weights lack own_endings: give every subset of alike a weight"),
        ("{own_choice: 3, own_endings: 0}", "the weight of own_endings is 0: give a number above 0"),
        ("{own_choice: 3, own_endings: .inf}", "the weight of own_endings is inf"),
        ("{own_choice: 3, own_endings: 1, other: 1}", "weights: 'other' is no subset of a group"),
        ("{own_choice: much, own_endings: 1}", "valid number"),
        ("[1, 2]", "give a mapping of tasks to numbers"),
    ],
)
def test_wrong_weights_are_one_sentence(folder: Path, weights: str, words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        _weighted(folder, f"weights: {weights}")


def test_weights_of_pooled_documents_are_refused(folder: Path) -> None:
    file = folder.parent / "pooled.yaml"
    suite = _suite(folder, "by_size")
    text = suite_text(suite, other_metrics={}, include="tasks")
    file.write_text(
        text.replace("    output:", "    weights: {own_choice: 1, own_endings: 2}\n    output:", 1)
    )
    with pytest.raises(SuiteError, match="weights need a mean over subsets: set `aggregation: subset_mean`"):
        read_suite_file(file)


def test_one_aggregation_without_a_list_and_a_task_named_twice(folder: Path) -> None:
    """Ten groups of lm-eval 0.4.13 write the aggregation as a mapping."""
    (folder / "mapping.yaml").write_text(
        "group: mapping\ntask: [own_choice, own_endings]\naggregate_metric_list:\n  metric: acc\n  weight_by_size: false\n"
    )
    (benchmark,) = _suite(folder, "mapping").benchmarks
    assert benchmark.aggregation is Aggregation.SUBSET_MEAN
    with pytest.raises(
        SuiteError, match="The task 'own_choice' is 2 times in own_choice, alike: a suite has each"
    ):
        resolve_suite(SuiteRequest(tasks=("own_choice", "alike"), include=str(folder), name="twice"), folder)


def _samples(benchmark: Benchmark, rng: np.random.Generator, right: float) -> list[Sample]:
    sizes = {"own_choice": 150, "own_endings": 60}
    return [
        Sample(
            benchmark=benchmark.name, subset=task, doc_id=n, doc_hash=f"{n:016x}", prompt_hash="p", target="", response="",
            metrics={"acc": value}, correct=value,
        )
        for task, size in sizes.items()
        for n, value in enumerate((rng.random(size) < right).astype(float).tolist())
    ]  # fmt: skip


def _scores(benchmark: Benchmark, means: list[float]) -> list[Score]:
    return [
        Score(
            benchmark=benchmark.name, subset=subset.task, metric="acc", value=value, stderr=None, n=n, n_full=n,
            lower_bound=0.0, task_version="1",
        )
        for subset, value, n in zip(benchmark.subsets, means, (150, 60), strict=True)
    ]  # fmt: skip


def _spread(benchmark: Benchmark, sides: list[list[Sample]]) -> float:
    """Standard error of the weighted paired difference in points, subset by subset."""
    total = 0.0
    for subset in benchmark.subsets:
        base, candidate = ([s.correct for s in side if s.subset == subset.task] for side in sides)
        differences = np.subtract(candidate, base)
        share = benchmark.weight(subset.task) / 4
        total += share**2 * float(differences.var()) / len(differences)
    return 100 * math.sqrt(total)
