"""What `import` prints: each benchmark raw and normalized, what a card claims, what is doubtful."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from evals.claims.facts import Fact
from evals.rounding import points_text
from evals.scores import SuiteScore
from evals.suite import load_suite
from orchestrator.cli.console import wide_console
from orchestrator.cli.ending import ExitCode, error_key
from orchestrator.display.format import UNKNOWN
from orchestrator.exchange.imports import ImportResult, TakenRun
from orchestrator.exchange.stored import StoredImport
from orchestrator.store.claim_records import CardRecord, ImportedResultRecord

_SHOWN = (Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION, Fact.LIMIT, Fact.ENGINE, Fact.HARNESS_VERSION)

_LISTED = 6


def show_taken(taken: ImportResult, *, as_json: bool, failure: str | None = None) -> None:
    """Print what was imported; in JSON also why not everything was."""
    if as_json:
        print(json.dumps({**_data(taken), **error_key(failure, ExitCode.REFUSED)}, indent=2))
        return
    console = wide_console()
    for run in taken.runs:
        _show_run(run, console)
        console.print()
    for card in taken.cards:
        _show_card(card, console)
    for sentence in taken.refused:
        console.print(f"Not imported: {sentence}", markup=False, soft_wrap=True)


def show_imports(imported: Sequence[StoredImport], *, as_json: bool) -> None:
    """Print the imported runs of the store, one per line."""
    if as_json:
        print(json.dumps([_stored_data(item) for item in imported], indent=2))
        return
    console = wide_console()
    if not imported:
        console.print("There is no imported run; `mergeboard import PATH` imports result files.")
        return
    table = Table(box=None, header_style="bold")
    for column in ("id", "checkpoint", "measured", "benchmarks", "samples", "format"):
        table.add_column(column, overflow="fold")
    for item in imported:
        primary = [r for r in item.results if r.primary]
        titles = ", ".join(r.measurement.result.title for r in primary[:_LISTED])
        more = f" and {len(primary) - _LISTED} more" if len(primary) > _LISTED else ""
        table.add_row(
            item.run.id,
            item.run.checkpoint,
            f"{item.run.measured_at:%Y-%m-%d}" if item.run.measured_at else "–",
            f"{titles}{more}",
            f"{sum(r.samples_path is not None for r in primary)} of {len(primary)}",
            item.run.format.value,
        )
    console.print(table)


def _stored_data(item: StoredImport) -> dict[str, Any]:
    return {
        **item.run.model_dump(mode="json"),
        "benchmarks": [_result_data(result) for result in item.results],
    }


def _show_run(taken: TakenRun, console: Console) -> None:
    run = taken.run
    told = [run.format.value, *([f"{run.measured_at:%Y-%m-%d}"] if run.measured_at else [])]
    told += [f"{fact} {run.facts.known[fact]}" for fact in _SHOWN if fact in run.facts.known]
    console.print(f"{run.checkpoint} (import {run.id})", markup=False, style="bold", soft_wrap=True)
    console.print(f"  {'; '.join(told)}", markup=False, soft_wrap=True)
    console.print(_table(taken))
    for suite in taken.suites:
        console.print(f"  {_average(suite)}", markup=False, soft_wrap=True)
    for number, text in enumerate(_remarks(taken), start=1):
        console.print(f"  [{number}] {text}", markup=False, soft_wrap=True)
    for problem in (*run.problems, *taken.notes):
        console.print(f"  {problem}", markup=False, soft_wrap=True)
    if run.ignored:
        more = f" and {len(run.ignored) - 8} more" if len(run.ignored) > 8 else ""
        console.print(
            f"  Tasks without a usable metric: {', '.join(run.ignored[:8])}{more}.",
            markup=False,
            soft_wrap=True,
        )


def _table(taken: TakenRun) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=True)
    table.add_column("Benchmark")
    for column in ("n", "raw", "normalized", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("samples")
    table.add_column("remarks")
    numbers = {text: number for number, text in enumerate(_remarks(taken), start=1)}
    for result in taken.results:
        score, span = result.measurement.result, result.measurement.estimate.interval
        stage = f", stage {result.stage or 'unknown'}" if _has_stages(result) else ""
        table.add_row(
            f"{score.title}{stage}",
            f"{score.n:,}",
            f"{score.raw:.4f}",
            points_text(score.normalized),
            f"{points_text(span.low)} … {points_text(span.high)}",
            "yes" if result.samples_path else "no",
            " ".join(f"[{numbers[text]}]" for text in _texts(result)),
        )
    return table


def _has_stages(result: ImportedResultRecord) -> bool:
    return result.definition is None and bool(load_suite(result.suite).benchmark(result.benchmark).stages)


def _texts(result: ImportedResultRecord) -> list[str]:
    score = result.measurement.result
    texts = [f"Partial: {score.title} has {score.n:,} documents here."] if score.partial else []
    texts += [
        f"Alarm: {alarm.share:.0%} of the responses of a subset are {alarm.kind}." for alarm in score.alarms
    ]
    texts += [f"Not the board's: {score.remark}"] if score.remark else []
    texts += [f"Not to be compared: {result.unfit}."] if result.unfit else []
    return [*texts, *result.problems]


def _remarks(taken: TakenRun) -> list[str]:
    return list(dict.fromkeys(text for result in taken.results for text in _texts(result)))


def _average(score: SuiteScore) -> str:
    suite = load_suite(score.suite)
    if score.average is not None:
        return f"{suite.title}: average {points_text(score.average)}"
    there = len(score.benchmarks)
    mean = points_text(score.partial_average) if score.partial_average is not None else "unknown"
    whole = f"{there} of {len(suite.benchmarks)} benchmarks" + (
        ", not all whole" if not score.missing else ""
    )
    return f"{suite.title}: {whole}; their mean {mean} is not the board's average"


def _show_card(card: CardRecord, console: Console) -> None:
    title = f"{card.name or card.source} (card {card.id}): {len(card.claims)} claims"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column in ("suite", "benchmark", "claimed", "scale", "source"):
        table.add_column(column, justify="right" if column == "claimed" else "left")
    for claim in card.claims:
        scale = f"{claim.scale}, unclear" if claim.unclear else claim.scale.value
        cells = (claim.suite or UNKNOWN, claim.title, f"{claim.value:g}", scale, claim.source)
        table.add_row(*cells)
    console.print(table)
    for check in card.checks:
        console.print(f"{check.outcome}: {check.sentence}", markup=False, soft_wrap=True)
    for note in card.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)


def _data(taken: ImportResult) -> dict[str, Any]:
    return {
        "runs": [_run_data(run) for run in taken.runs],
        "cards": [card.model_dump(mode="json", exclude={"text"}) for card in taken.cards],
        "refused": list(taken.refused),
    }


def _run_data(taken: TakenRun) -> dict[str, Any]:
    return {
        **taken.run.model_dump(mode="json", exclude={"imported_at"}),
        "benchmarks": [_result_data(result) for result in taken.results],
        "notes": list(taken.notes),
        "suites": [suite.model_dump(mode="json", exclude={"benchmarks"}) for suite in taken.suites],
    }


def _result_data(result: ImportedResultRecord) -> dict[str, Any]:
    measured = result.measurement
    return {
        "suite": result.suite,
        **measured.result.model_dump(mode="json"),
        "interval": measured.estimate.interval.model_dump(mode="json"),
        **result.model_dump(
            mode="json", include={"stage", "stage_reason", "primary", "problems", "unfit", "samples_path"}
        ),
        "facts": measured.facts.model_dump(mode="json")["known"],
        "scores": [score.model_dump(mode="json") for score in measured.scores],
    }
