"""Import result files with their samples, and model cards, into the store."""

from __future__ import annotations

import hashlib
import re
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
    assemble_run,
    definition_of,
    import_result,
    is_alone,
    read_result_file,
    result_files,
    usable_samples,
    with_samples,
)
from evals.samples import write_samples
from evals.scores import SuiteScore
from evals.suite import Suite, load_suite, suite_names
from orchestrator.cards.read import read_bytes
from orchestrator.cards.survey import CardPlan, plan_card
from orchestrator.compare.imported import import_id_of
from orchestrator.errors import CardError, MergeboardError
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import CardRecord, ImportedResultRecord, ImportedRunRecord
from recipes.errors import RecipeError

CARD_SUFFIXES = (".md", ".markdown")


class TakenRun(Frozen):
    """An imported result file."""

    run: ImportedRunRecord = Field(description="The imported run.")
    results: tuple[ImportedResultRecord, ...] = Field(description="Its benchmarks, in the suites' order.")
    suites: tuple[SuiteScore, ...] = Field(description="Scores and average of each suite in the file.")
    notes: tuple[str, ...] = Field(
        default=(),
        description="Comparison with the leaderboard's published scores of the checkpoint.",
    )


class ImportResult(Frozen):
    """The result of `mergeboard import` for a path."""

    runs: tuple[TakenRun, ...] = Field(default=(), description="Imported runs, the oldest first.")
    cards: tuple[CardRecord, ...] = Field(default=(), description="Imported model cards.")
    refused: tuple[str, ...] = Field(
        default=(), description="Why files were not imported, one sentence each."
    )


def import_paths(paths: Sequence[Path], settings: Settings) -> ImportResult:
    """Import everything at several paths. Raises ClaimError or CardError if nothing can be read at any of them."""
    parts: list[ImportResult] = []
    errors: list[EvaluationError | MergeboardError] = []
    for path in paths:
        try:
            parts.append(import_path(path, settings))
        except (EvaluationError, MergeboardError) as error:
            errors.append(error)
    if not parts:
        raise errors[0]
    return ImportResult(
        runs=tuple(run for part in parts for run in part.runs),
        cards=tuple(card for part in parts for card in part.cards),
        refused=(*(text for part in parts for text in part.refused), *map(str, errors)),
    )


def import_path(path: Path, settings: Settings) -> ImportResult:
    """Import everything at a path into the store. Raises ClaimError or CardError if nothing can be read.

    A broken file does not stop the import of the others; it is reported in `refused`.
    """
    if path.suffix.lower() in CARD_SUFFIXES and not _is_details_card(path):
        taken = ImportResult(cards=(read_card_file(path, settings),))
    else:
        taken = _results(path, settings)
    with Store.open(settings.database_url) as store:
        for run in taken.runs:
            store.put_import(run.run, run.results)
        for card in taken.cards:
            store.put_card(card)
    return taken


def read_card_file(path: Path, settings: Settings) -> CardRecord:
    """Read a card's file into the record for the store."""
    return card_record(path, plan_card(path, settings, {}))


def card_record(path: Path, plan: CardPlan) -> CardRecord:
    """The record of a card for the store, with what is known before anything runs."""
    data = read_bytes(path)
    if not plan.claims:
        raise CardError(
            f"{path} claims no score of its model; give a model card with a model-index, a table or a list of scores."
        )
    return CardRecord(
        id=card_id(data),
        source=path.name,
        name=plan.card.name,
        checkpoint=plan.card.checkpoint,
        text=data.decode("utf-8", errors="replace"),
        checks=plan.checks,
        notes=plan.notes,
        claims=plan.claims,
    )


def card_id(data: bytes) -> str:
    """The id of a card in the store: the first digits of its sha256."""
    return _digest(data)


def _results(path: Path, settings: Settings) -> ImportResult:
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
            taken = _taken(run, file, suites, settings.home) if run.benchmarks else None
        except EvaluationError as error:
            refused.append(str(error))
            continue
        if taken is not None:
            runs.append(taken)
        else:
            refused.append(_reason_unknown(run))
    if not runs:
        raise ClaimError(refused[0])
    order = sorted(runs, key=lambda r: (r.run.measured_at is None, str(r.run.measured_at), r.run.source))
    return ImportResult(runs=tuple(order), refused=tuple(refused))


def _cards(paths: Sequence[Path], settings: Settings) -> ImportResult:
    cards, refused = [], []
    for path in paths:
        try:
            cards.append(read_card_file(path, settings))
        except (MergeboardError, RecipeError, EvaluationError) as error:
            refused.append(str(error))
    if not cards:
        raise CardError(refused[0])
    return ImportResult(cards=tuple(cards), refused=tuple(refused))


def _taken(run: ImportedRun, file: Path, suites: Sequence[Suite], home: Path) -> TakenRun:
    """Convert a run to records for the store and write its samples into the home folder."""
    import_id = import_id_of(file)
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
    results = [_result(run, b, suites, import_id, home) for b in run.benchmarks]
    return TakenRun(run=record, results=tuple(results), suites=run.suites, notes=tuple(_published(run)))


def _published(run: ImportedRun) -> Iterator[str]:
    """Compare with the leaderboard's published rows of the same checkpoint, template and precision."""
    for row in rows_of(run.file.checkpoint, board_rows()):
        if row.facts.differences(run.file.facts, (Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION)):
            continue
        shared = [
            b
            for b in run.benchmarks
            if b.suite == row.suite and b.primary and row.values(b.measurement.result.benchmark)
        ]
        differing = [b for b in shared if not _is_published(b, row)]
        if not shared or any(b.measurement.result.partial for b in shared):
            continue
        yield f"{row.source}: {len(shared) - len(differing)} of {len(shared)} benchmarks are as published for {row.checkpoint}."
        for benchmark in differing:
            score = benchmark.measurement.result
            published = row.values(score.benchmark)
            shown = published.get(benchmark.stage) if None not in published else published[None]
            text = (
                f"{shown:.2f}"
                if shown is not None
                else ", ".join(f"{v:.2f} ({s})" for s, v in published.items())
            )
            yield f"{score.title}: {score.normalized:.2f} here, published as {text}."


def _is_published(benchmark: ImportedBenchmark, row: BoardRow) -> bool:
    """Whether the leaderboard published this value, at the file's scoring stage if that is known."""
    score, stage = benchmark.measurement.result, benchmark.stage
    published = row.values(score.benchmark)
    staged = {s: v for s, v in published.items() if stage is None or s in (None, stage)} or published
    return any(abs(value - score.normalized) <= 0.005 + 1e-9 for value in staged.values())


def _result(
    run: ImportedRun, imported: ImportedBenchmark, suites: Sequence[Suite], import_id: str, home: Path
) -> ImportedResultRecord:
    definition = definition_of(imported, suites)
    suite = next((s for s in suites if s.name == imported.suite), None)
    samples, problems = usable_samples(run, imported, suites)
    relative = sha256 = None
    if samples:
        try:
            imported = with_samples(imported, samples, suite)
        except EvaluationError as error:
            samples, problems = (), (f"The samples are not used: {error}",)
    if samples:
        relative = f"imports/{import_id}/{_file_name(imported)}.parquet"
        write_samples(home / relative, samples)
        sha256 = hashlib.sha256((home / relative).read_bytes()).hexdigest()
    return ImportedResultRecord(
        suite=imported.suite,
        benchmark_digest=imported.digest or definition.digest,
        definition=imported.definition,
        measurement=imported.measurement,
        stage=imported.stage,
        stage_reason=imported.stage_reason,
        primary=imported.primary,
        problems=tuple(dict.fromkeys((*imported.problems, *problems))),
        unfit=imported.unfit,
        samples_path=relative,
        samples_sha256=sha256,
    )


def _file_name(imported: ImportedBenchmark) -> str:
    """Name of a samples file; that of a task that no suite has is foreign text, and is reduced to safe characters."""
    name = imported.measurement.result.benchmark
    if imported.definition is None:
        return f"{imported.suite}-{name}"
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{imported.suite}-{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:60]}-{digest}"


def _reason_unknown(run: ImportedRun) -> str:
    detail = " ".join(run.problems) or "it has no result"
    return f"{run.file.source} has no score to import: {detail.rstrip('.')}."


def _is_details_card(path: Path) -> bool:
    """Whether a Markdown file is the card of a leaderboard's data set, which holds results, not claims."""
    if not path.is_file():
        return False
    try:
        return bool(assemble_run(read_result_file(path)).benchmarks)
    except ClaimError:
        return False


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
