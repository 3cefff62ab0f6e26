"""Numbers made elsewhere come in: result files with their samples, and cards, read and kept in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from evals.claims.board import BoardRow, board_rows, rows_of
from evals.claims.facts import Fact
from evals.engine import Frozen
from evals.errors import ClaimError, EvaluationError
from evals.results_files import (
    ImportedBenchmark,
    ImportedRun,
    import_result,
    is_alone,
    result_files,
    usable_samples,
    with_samples,
)
from evals.results_files.parse import MAX_BYTES
from evals.samples import write_samples
from evals.scores import SuiteScore
from evals.suite import Suite, load_suite, suite_names
from orchestrator.cards.read import read_bytes
from orchestrator.cards.survey import CardPlan, plan_card
from orchestrator.errors import CardError, MergeboardError
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import CardRecord, ImportedResultRecord, ImportedRunRecord
from recipes.errors import RecipeError
from recipes.outside_file import read_file

CARD_SUFFIXES = (".md", ".markdown")


class TakenRun(Frozen):
    """A result file that was taken in."""

    run: ImportedRunRecord = Field(description="The file.")
    results: tuple[ImportedResultRecord, ...] = Field(description="Its benchmarks, in the suites' order.")
    suites: tuple[SuiteScore, ...] = Field(description="Columns and average of each suite that it has.")
    notes: tuple[str, ...] = Field(
        default=(), description="What the board has published of the same checkpoint."
    )


class Taken(Frozen):
    """What `import` found at a path."""

    runs: tuple[TakenRun, ...] = Field(default=(), description="Result files, the oldest run first.")
    cards: tuple[CardRecord, ...] = Field(default=(), description="Cards.")
    refused: tuple[str, ...] = Field(default=(), description="What could not be taken in, and why.")


def take_in(path: Path, settings: Settings) -> Taken:
    """Read everything at a path and keep it in the store; ClaimError or CardError where there is nothing to read.

    A file that is broken does not keep the others out: it is named in `refused`.
    """
    if path.suffix.lower() in CARD_SUFFIXES and not _is_details_card(path):
        taken = Taken(cards=(read_card_file(path, settings),))
    else:
        taken = _results(path, settings)
    with Store.open(settings.database_url) as store:
        for run in taken.runs:
            store.put_import(run.run, run.results)
        for card in taken.cards:
            store.put_card(card)
    return taken


def read_card_file(path: Path, settings: Settings) -> CardRecord:
    """A card as the store keeps it."""
    return card_record(path, plan_card(path, settings, {}))


def card_record(path: Path, plan: CardPlan) -> CardRecord:
    """What is known of a card before anything runs, as the store keeps it."""
    data = read_bytes(path)
    if not plan.claims:
        raise CardError(
            f"{path} claims no score of a benchmark that a suite has; give a model card with a model-index or a table."
        )
    return CardRecord(
        id=_digest(data),
        source=path.name,
        name=plan.card.name,
        checkpoint=plan.card.checkpoint,
        text=data.decode("utf-8", errors="replace"),
        checks=plan.checks,
        notes=plan.notes,
        claims=plan.claims,
    )


def _results(path: Path, settings: Settings) -> Taken:
    try:
        files = result_files(path)
    except ClaimError:
        cards = (
            sorted(p for p in path.glob("*") if p.suffix.lower() in CARD_SUFFIXES) if path.is_dir() else []
        )
        if not cards:
            raise
        return _cards(cards, settings)
    suites = [load_suite(name) for name in suite_names()]
    runs: list[TakenRun] = []
    refused: list[str] = []
    for file in files:
        try:
            run = import_result(file, suites, alone=is_alone(file, files))
        except EvaluationError as error:
            refused.append(str(error))
            continue
        if run.benchmarks:
            runs.append(_taken(run, file, suites, settings.home))
        else:
            refused.append(_nothing_known(run))
    if not runs:
        raise ClaimError(refused[0])
    order = sorted(runs, key=lambda r: (r.run.measured_at is None, str(r.run.measured_at), r.run.source))
    return Taken(runs=tuple(order), refused=tuple(refused))


def _cards(paths: Sequence[Path], settings: Settings) -> Taken:
    found, refused = [], []
    for path in paths:
        try:
            found.append(read_card_file(path, settings))
        except (MergeboardError, RecipeError, EvaluationError) as error:
            refused.append(str(error))
    if not found:
        raise CardError(refused[0])
    return Taken(cards=tuple(found), refused=tuple(refused))


def _taken(run: ImportedRun, file: Path, suites: Sequence[Suite], home: Path) -> TakenRun:
    """The run as the store keeps it, its samples written beside the store."""
    import_id = _digest(read_file(file, MAX_BYTES))
    by_name = {suite.name: suite for suite in suites}
    record = ImportedRunRecord(
        id=import_id,
        source=str(file.absolute()),
        checkpoint=run.file.checkpoint,
        revision=run.file.revision,
        format=run.file.format,
        measured_at=run.file.measured_at,
        facts=run.file.facts,
        ignored=run.ignored,
        problems=run.problems,
    )
    results = [_result(run, found, by_name[found.suite], import_id, home) for found in run.benchmarks]
    return TakenRun(run=record, results=tuple(results), suites=run.suites, notes=tuple(_published(run)))


def _published(run: ImportedRun) -> Iterator[str]:
    """What the board's published rows of the same checkpoint, template and precision say of the same benchmarks."""
    for row in rows_of(run.file.checkpoint, board_rows()):
        if row.facts.differences(run.file.facts, (Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION)):
            continue
        mine = [
            b
            for b in run.benchmarks
            if b.suite == row.suite and b.primary and row.values(b.measurement.result.benchmark)
        ]
        other = [b for b in mine if not _is_published(b, row)]
        if not mine or any(b.measurement.result.partial for b in mine):
            continue
        yield f"{row.source}: {len(mine) - len(other)} of {len(mine)} benchmarks are as published for {row.checkpoint}."
        for found in other:
            score = found.measurement.result
            known = row.values(score.benchmark)
            shown = known.get(found.stage) if None not in known else known[None]
            told = (
                f"{shown:.2f}" if shown is not None else ", ".join(f"{v:.2f} ({s})" for s, v in known.items())
            )
            yield f"{score.title}: {score.normalized:.2f} here, published as {told}."


def _is_published(found: ImportedBenchmark, row: BoardRow) -> bool:
    """Whether the board showed this value, at the file's own scoring stage where that is known."""
    score = found.measurement.result
    known = row.values(score.benchmark)
    staged = {s: v for s, v in known.items() if found.stage is None or s in (None, found.stage)} or known
    return any(abs(value - score.normalized) <= 0.005 + 1e-9 for value in staged.values())


def _result(
    run: ImportedRun, found: ImportedBenchmark, suite: Suite, import_id: str, home: Path
) -> ImportedResultRecord:
    samples, problems = usable_samples(run, found, (suite,))
    relative = sha256 = None
    if samples:
        try:
            found = with_samples(found, samples, suite)
        except EvaluationError as error:
            samples, problems = (), (f"The samples are not used: {error}",)
    name = found.measurement.result.benchmark
    if samples:
        relative = f"imports/{import_id}/{suite.name}-{name}.parquet"
        write_samples(home / relative, samples)
        sha256 = hashlib.sha256((home / relative).read_bytes()).hexdigest()
    return ImportedResultRecord(
        suite=suite.name,
        benchmark_digest=suite.benchmark(name).digest,
        measurement=found.measurement,
        stage=found.stage,
        stage_reason=found.stage_reason,
        primary=found.primary,
        problems=tuple(dict.fromkeys((*found.problems, *problems))),
        unfit=found.unfit,
        samples_path=relative,
        samples_sha256=sha256,
    )


def _nothing_known(run: ImportedRun) -> str:
    tasks = ", ".join(run.ignored[:5]) + (" and others" if len(run.ignored) > 5 else "")
    detail = f"no suite knows its tasks ({tasks})" if tasks else " ".join(run.problems) or "it has no result"
    return f"{run.file.source} holds nothing of a leaderboard: {detail.rstrip('.')}. The suites are {', '.join(suite_names())}."


def _is_details_card(path: Path) -> bool:
    """Whether a Markdown file is the card of a board's data set, which holds results and claims nothing."""
    if not path.is_file():
        return False
    try:
        return bool(import_result(path).benchmarks)
    except ClaimError:
        return False


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
