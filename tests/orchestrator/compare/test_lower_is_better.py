"""A benchmark of which less is better, such as perplexity: a negative difference is an improvement wherever it is judged."""

from __future__ import annotations

import pytest

from dashboard.components.rows import meaning_of_row
from dashboard.pages.leaderboard.table import meaning_of as grid_meaning
from evals.errors import EvaluationError
from evals.normalize import suite_score
from evals.scores import BenchmarkScore, Sample, Score
from evals.stats import (
    Delta,
    Interval,
    MarginOutcome,
    SignificanceTest,
    delta,
    documents,
    estimate_from_scores,
    margin_test,
    unpaired_delta,
)
from evals.suite import load_suite
from orchestrator.charts import Meaning
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.compare.answers import Flip, paired
from orchestrator.compare.family import RunFamily, pairs_of_run
from orchestrator.compare.verdict import Standing, run_verdict, standing, verdict_sentences
from orchestrator.report.page import ReportTone
from orchestrator.report.questions import flip_groups
from orchestrator.report.verdicts import comparison_text, run_text
from orchestrator.store.comparisons import ScoredCandidate


def difference(points: float) -> Delta:
    return Delta(
        base=90.0, candidate=90.0 + points, delta_points=points, delta_percent=points / 0.9,
        interval=Interval(low=points - 1, high=points + 1), stderr_points=0.5, detectable_points=1.4,
        test=SignificanceTest.SIGN_FLIP, p=0.001, n=50, gained=1, lost=2,
    )  # fmt: skip


def row(points: float, *, lower: bool, p: float | None = 0.001) -> ComparisonRow:
    return ComparisonRow(
        suite="s", benchmark="b", title="b", base=90.0, candidate=90.0 + points, lower_is_better=lower, p_corrected=p,
        delta=difference(points),
    )  # fmt: skip


def _compared(candidate: str, row: ComparisonRow) -> Comparison:
    return Comparison(base="base", candidate=candidate, rows=(row,), averages=(), n_tests=1)


@pytest.mark.parametrize(("points", "lower", "verdict"), [
    (-3.0, True, "better"), (3.0, True, "worse"), (-3.0, False, "worse"), (3.0, False, "better"),
])  # fmt: skip
def test_the_direction_decides(points: float, lower: bool, verdict: str) -> None:
    judged = row(points, lower=lower)
    assert judged.verdict == verdict
    assert judged.improved is (verdict == "better")
    comparison = _compared("c", judged)
    assert standing(comparison) is Standing(verdict)
    assert meaning_of_row(judged) is (Meaning.BETTER if judged.improved else Meaning.WORSE)
    assert grid_meaning(judged) == verdict
    whole = run_verdict("base", [comparison])
    assert whole.count(Standing(verdict)) == 1
    assert [effect.improved for effect in whole.benchmark_effects] == [judged.improved]
    report = comparison_text(comparison, whole)
    assert report.headline == f"c is {verdict} than base."
    tone = ReportTone.BETTER if judged.improved else ReportTone.WORSE
    assert [
        line.tone for line in run_text(whole, ended=True).lines if "+3" in line.text or "3.0 b" in line.text
    ] == [tone]


def test_gains_and_losses_of_a_run_in_their_order() -> None:
    """Six candidates: the largest gain is the lowest, and no effect is both a gain and a loss."""
    points = {"most": -9.0, "much": -6.0, "some": -3.0, "bad": 2.0, "worse": 5.0, "worst": 8.0}
    uncorrected = {name: _compared(name, row(p, lower=True, p=None)) for name, p in points.items()}
    scored = [
        ScoredCandidate(position=n, engine_key="e", suites=("s",), jobs=(f"{n}",))
        for n in range(len(points) + 1)
    ]
    family = RunFamily(pairs_of_run(scored, 0))
    for position, comparison in enumerate(uncorrected.values(), start=1):
        family.add((position, "e"), comparison.model_dump_json())
    names = dict(enumerate(points, start=1))
    of_records = run_verdict("base", family.comparisons())
    assert family.verdict("s", "e", names, base="base") == of_records
    assert [effect.candidate for effect in of_records.benchmark_effects] == list(points)
    (single,) = verdict_sentences(of_records)
    assert single.startswith("Single benchmarks: 3 better, most most -9.0 b")
    assert "3 worse, most worst +8.0 b" in single
    lines = [line.text for line in run_text(of_records, ended=True).lines]
    assert lines[0] == "Single benchmarks: 3 better, 3 worse."
    assert [line.split()[0] for line in lines[1:5]] == ["most", "much", "worst", "worse"]
    assert lines[5] == "and 2 more in the table below."


def test_documents_gained_and_lost_and_the_margin() -> None:
    suite = load_suite("smoke")
    pages = suite.benchmarks[0].model_copy(update={"lower_is_better": True, "metrics": ("bits_per_byte",)})
    task, metric = pages.subsets[0].task, pages.metrics[0]

    def side(*values: float) -> list[Sample]:
        return [
            Sample(
                benchmark=pages.name, subset=task, doc_id=n, doc_hash=f"{n:016x}", prompt_hash="p", target="", response="",
                metrics={metric: value}, correct=value,
            )
            for n, value in enumerate(values)
        ]  # fmt: skip

    base, candidate = side(*[1.5] * 12), side(*[1.2] * 10, 1.6, 9.0)
    found = delta(documents([base, candidate], pages))
    assert (found.gained, found.lost) == (10, 2)
    assert found.interval.low <= found.delta_points <= found.interval.high
    flips = [pair.flip for pair in paired(tuple(base), tuple(candidate), lower_is_better=True)]
    assert (flips.count(Flip.GAINED), flips.count(Flip.LOST)) == (10, 2)
    # Far above 100, where a share would end.
    far = delta(documents([side(*[1.0] * 40), side(*[3.0] * 40)], pages))
    assert far.delta_points == pytest.approx(200)
    assert far.interval.low <= 200 <= far.interval.high

    worse, better = difference(5.0), difference(-5.0)
    assert margin_test(worse, 2.0, lower_is_better=True).outcome is MarginOutcome.WORSE
    assert margin_test(better, 2.0, lower_is_better=True).outcome is MarginOutcome.NOT_WORSE
    assert margin_test(better, 2.0).outcome is MarginOutcome.WORSE
    assert flip_groups([_compared("c", row(-3.0, lower=True))]) == ()
    assert len(flip_groups([_compared("c", row(-3.0, lower=False))])) == 2


def test_bits_per_byte_without_samples() -> None:
    """No share: above 1 as well, normal with the recorded error, and no interval without one."""
    suite = load_suite("smoke")
    first = suite.benchmarks[0]
    pages = first.model_copy(
        update={"lower_is_better": True, "metrics": ("bits_per_byte",), "subsets": first.subsets[:1]}
    )

    def scores(value: float, stderr: float | None) -> list[Score]:
        return [
            Score(
                benchmark=pages.name, subset=pages.subsets[0].task, metric="bits_per_byte", value=value, stderr=stderr,
                n=50, n_full=50, lower_bound=0.0, task_version="1",
            )
        ]  # fmt: skip

    found = estimate_from_scores(scores(1.5, 0.05), pages)
    assert found.value == pytest.approx(150)
    assert found.interval.low == pytest.approx(150 - 9.8, abs=0.5)
    assert found.interval.high == pytest.approx(150 + 9.8, abs=0.5)
    worse = unpaired_delta(scores(1.5, 0.05), scores(3.5, 0.05), pages)
    assert worse.interval.low < 200 < worse.interval.high
    with pytest.raises(EvaluationError, match="neither samples nor a standard error"):
        estimate_from_scores(scores(0.9, None), pages)


def test_a_suite_with_both_directions_has_no_average() -> None:
    suite = load_suite("smoke")
    mixed = suite.model_copy(
        update={
            "benchmarks": (
                suite.benchmarks[0],
                suite.benchmarks[1].model_copy(update={"lower_is_better": True}),
            )
        }
    )
    results = [
        BenchmarkScore(
            benchmark=b.name, title=b.title, metric="m", raw=0.5, normalized=50.0, n=9, partial=False, comparable_to_board=True
        )
        for b in mixed.benchmarks
    ]  # fmt: skip
    assert suite_score(mixed, results).average is None
    assert suite_score(mixed, results).partial_average is None
    plain = mixed.model_copy(update={"benchmarks": suite.benchmarks[:2]})
    assert suite_score(plain, results).average == 50.0
