"""What is printed at the end of a run, and by `compare`."""

from __future__ import annotations

import json

from rich.table import Table

from evals.rounding import points_text
from orchestrator.cli.console import wide_console
from orchestrator.cli.decided_view import decided_data, show_decided
from orchestrator.cli.ending import error_key
from orchestrator.cli.race_view import candidate_race_data, show_candidate_race
from orchestrator.compare import Comparison, ComparisonRow, print_comparisons
from orchestrator.compare.candidate_races import candidate_race_of
from orchestrator.compare.kept import family_of_run
from orchestrator.compare.run_comparisons import (
    CandidateResult,
    benchmark_scores,
    results_of_run,
)
from orchestrator.plan.plan import Plan
from orchestrator.run.scheduler import RunSummary
from orchestrator.settings import Settings
from orchestrator.store import Store


def show_results(
    summary: RunSummary, plan: Plan, settings: Settings, *, as_json: bool, failure: str | None = None
) -> None:
    """The base's scores, every candidate's differences, and what did not run; in JSON the failure as well."""
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        results = results_of_run(store, summary.run_id)
        label = store.label
        compared = family_of_run(store, summary.run_id, settings.home).comparisons()
        decided, savings = store.sequences(summary.run_id), store.savings(summary.run_id)
        race = candidate_race_of(store, store.run(summary.run_id))
    if as_json:
        print(
            json.dumps(
                {
                    **_data(summary, plan, results, compared),
                    **decided_data(decided, savings),
                    **candidate_race_data(race),
                    **error_key(failure),
                },
                indent=2,
            )
        )
        return
    console = wide_console()
    for result in results:
        if result.candidate.is_base or len(results) == 1:
            console.print(score_table(result))
            console.print()
    print_comparisons(compared, console)
    show_decided(decided, savings, summary.run_id, console)
    show_candidate_race(race, summary.run_id, console)
    reused = f", {summary.cached} of them reused" if summary.cached else ""
    console.print(
        f"Run {summary.run_id}: {summary.done} jobs done{reused}, {summary.duration_s:.0f} s.", soft_wrap=True
    )
    console.print(f"Store: {label}", soft_wrap=True, markup=False)


def score_table(result: CandidateResult) -> Table:
    """One candidate's benchmarks: raw, normalized, how many questions, and what to know about them."""
    title = (
        f"{result.candidate.name}: {', '.join(result.suites)} with {result.engine.kind} {result.engine.dtype}"
    )
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("Benchmark")
    for column in ("n", "raw", "normalized"):
        table.add_column(column, justify="right")
    table.add_column("remarks")
    for score in benchmark_scores(result):
        remarks = ["partial"] if score.partial else []
        remarks += [f"alarm: {alarm.share:.0%} {alarm.kind}" for alarm in score.alarms]
        if score.remark:
            remarks.append(score.remark)
        table.add_row(
            score.title, str(score.n), f"{score.raw:.4f}", points_text(score.normalized), "; ".join(remarks)
        )
    return table


def _data(
    summary: RunSummary, plan: Plan, results: tuple[CandidateResult, ...], compared: tuple[Comparison, ...]
) -> dict[str, object]:
    return {
        "summary": summary.model_dump(mode="json"),
        "missing": [missing.model_dump(mode="json") for missing in plan.missing],
        "results": [
            {
                "candidate": result.candidate.name,
                "is_base": result.candidate.is_base,
                "engine": result.engine.model_dump(mode="json"),
                "benchmarks": [score.model_dump(mode="json") for score in benchmark_scores(result)],
            }
            for result in results
        ],
        "comparisons": [
            {**comparison.model_dump(mode="json"), "rows": [_row(row) for row in comparison.rows]}
            for comparison in compared
        ],
    }


def _row(row: ComparisonRow) -> dict[str, object]:
    return {**row.model_dump(mode="json"), "significant": row.significant, "verdict": row.verdict}
