"""Audit of many cards: what each claims, what can be said without running anything, what checking the rest takes, what is known."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import AwareDatetime, Field

from evals.claims.known import joined
from evals.claims.plausible import impossible
from evals.claims.records import CardCheck, CheckOutcome, Claim, Figure, Measurement, Verdict, VerdictKind
from evals.engine import EngineKind, Frozen
from evals.errors import ClaimError, EvaluationError
from evals.results_files import import_result, result_files
from orchestrator.cards import Card, card_checks, card_claims, read_card
from orchestrator.cards.read import read_bytes, repository_of, size_in_name
from orchestrator.cards.recipe_checks import check_recipe
from orchestrator.display.format import hours
from orchestrator.errors import CardError, MergeboardError
from orchestrator.exchange.imports import CARD_SUFFIXES, card_id
from orchestrator.plan.durations import Workload, work_s
from orchestrator.reproduce.plan import wanted_benchmarks
from orchestrator.reproduce.verdicts import verdict_on
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.claim_records import ReproductionRecord
from recipes.extract import Proposal, find_proposals

MAX_FILES = 5_000
_MAX_DEPTH = 12


class AuditedClaim(Frozen):
    """A claim with what is known of it."""

    claim: Claim = Field(description="The claim.")
    verdict: Verdict | None = Field(
        description="Verdict of arithmetic, of a result file, or of the last reproduction; null if nothing was measured."
    )
    judged_by: str = Field(description="What gave the verdict, in a word or two; empty without one.")


class CheckCost(Frozen):
    """What it takes to check the claims that have no verdict."""

    jobs: int = Field(ge=0, description="Evaluations and builds.")
    gpu_hours: float | None = Field(
        description="Estimated GPU-hours; null if the number of parameters is unknown."
    )
    no_suite: tuple[str, ...] = Field(description="Claimed benchmarks that no suite has.")
    sentence: str = Field(description="The same in one sentence.")


class AuditedCard(Frozen):
    """One card of an audit."""

    file: str = Field(description="The file, relative to the audited folder.")
    id: str | None = Field(
        default=None, description="Id of the card in the store; null if it cannot be read."
    )
    name: str | None = Field(default=None, description="The model, as the card names it.")
    bases: tuple[str, ...] = Field(
        default=(), description="What the model is made from, according to the card."
    )
    problem: str | None = Field(default=None, description="Why the card cannot be read; null if it can.")
    figures: tuple[Figure, ...] = Field(
        default=(), description="All scores and changes, of the model and of others."
    )
    claims: tuple[AuditedClaim, ...] = Field(default=(), description="Claims about the card's own model.")
    checks: tuple[CardCheck, ...] = Field(
        default=(), description="What can be said without running anything."
    )
    cost: CheckCost | None = Field(default=None, description="What checking the rest takes.")
    reproduced_at: AwareDatetime | None = Field(
        default=None, description="Time of the last reproduction; null if none."
    )

    def count(self, kind: VerdictKind | None) -> int:
        """The number of claims with this verdict; None counts those without one."""
        return sum((c.verdict.kind if c.verdict is not None else None) is kind for c in self.claims)

    @property
    def failed(self) -> int:
        """The number of failed checks."""
        return sum(check.outcome is CheckOutcome.FAILS for check in self.checks)


class AuditedResults(Frozen):
    """One result file of an audit."""

    file: str = Field(description="The file, relative to the audited folder.")
    checkpoint: str | None = Field(
        default=None, description="The evaluated checkpoint, according to the file."
    )
    benchmarks: tuple[str, ...] = Field(default=(), description="Suite and benchmark of each result.")
    cards: tuple[str, ...] = Field(default=(), description="Files of the cards that it judges.")
    problem: str | None = Field(default=None, description="Why it cannot be read; null if it can.")


class AuditBoard(Frozen):
    """The verdicts on all cards of a folder."""

    folder: str = Field(description="The audited folder or file.")
    cards: tuple[AuditedCard, ...] = Field(description="The cards, by file.")
    results: tuple[AuditedResults, ...] = Field(description="The result files, by file.")
    notes: tuple[str, ...] = Field(default=(), description="Remarks, one sentence each.")

    def count(self, kind: VerdictKind | None) -> int:
        """The number of claims with this verdict in all cards; None counts those without one."""
        return sum(card.count(kind) for card in self.cards)


def audit(path: Path, settings: Settings) -> AuditBoard:
    """Audit every card and result file at a path; nothing is run, written or downloaded.

    Raises CardError if there is neither a card nor a result file.
    """
    if not path.exists():
        raise CardError(f"{path} does not exist; give a folder of model cards, or one card.")
    cards, notes = _card_files(path)
    runs = list(_runs(path))
    if not cards and not runs:
        raise CardError(
            f"{path} holds neither a model card (.md) nor a result file; give a folder that does."
        )
    known = _reproductions(settings)
    measured: dict[str, list[Measurement]] = {}
    for run, measurements in runs:
        if run.checkpoint:
            measured.setdefault(_plain_name(run.checkpoint), []).extend(measurements)
    audited = [_audited(file, _shown(file, path), measured, known) for file in cards]
    by_name: dict[str, list[str]] = {}
    for card in audited:
        for name in {_plain_name(n) for n in (card.name, Path(card.file).parent.name) if n}:
            by_name.setdefault(name, []).append(card.file)
    results = [
        run.model_copy(update={"cards": tuple(by_name.get(_plain_name(run.checkpoint or ""), ()))})
        for run, _ in runs
    ]
    return AuditBoard(folder=str(path), cards=tuple(audited), results=tuple(results), notes=tuple(notes))


def _reproductions(settings: Settings) -> dict[str, ReproductionRecord]:
    """The last reproduction of every card in the store; empty if there is no store."""
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            cards = store.cards(limit=100_000)
            reproduced = [card.id for card in cards if card.reproduced_at is not None]
            return {i: records[0] for i in reproduced if (records := store.reproductions(i))}
    except MergeboardError:
        return {}


def _card_files(path: Path) -> tuple[list[Path], list[str]]:
    """The Markdown files below a path, without hidden folders and links."""
    if path.is_file():
        return ([path] if path.suffix.lower() in CARD_SUFFIXES else []), []
    files: list[Path] = []
    for folder, folders, names in os.walk(path):
        depth = len(Path(folder).relative_to(path).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < _MAX_DEPTH else []
        files += [Path(folder) / name for name in sorted(names) if name.lower().endswith(CARD_SUFFIXES)]
        if len(files) > MAX_FILES:
            return files[:MAX_FILES], [f"Only the first {MAX_FILES:,} cards were read."]
    return files, []


def _runs(path: Path) -> Iterator[tuple[AuditedResults, list[Measurement]]]:
    """The result files below a path with their measurements."""
    if path.is_file() and path.suffix.lower() in CARD_SUFFIXES:
        return
    try:
        files = result_files(path)
    except ClaimError:
        return
    for file in files[:MAX_FILES]:
        shown = _shown(file, path)
        try:
            run = import_result(file)
        except EvaluationError as error:
            yield AuditedResults(file=shown, problem=str(error)), []
            continue
        measured = [b.measurement for b in run.benchmarks if b.unfit is None]
        names = tuple(f"{b.suite} {b.measurement.result.benchmark}" for b in run.benchmarks)
        yield AuditedResults(file=shown, checkpoint=run.file.checkpoint, benchmarks=names), measured


def _audited(
    file: Path, shown: str, measured: dict[str, list[Measurement]], known: dict[str, ReproductionRecord]
) -> AuditedCard:
    try:
        data = read_bytes(file)
        card = read_card(data, file.name, repository=repository_of(file))
    except CardError as error:
        return AuditedCard(file=shown, problem=str(error))
    claims = card_claims(card)
    identity = card_id(data)
    proposals = find_proposals(data.decode("utf-8", errors="replace"), origin=file.name)
    of_recipes = [check for proposal in proposals for check in check_recipe(proposal, {})]
    names = [n for n in (card.checkpoint, card.name, file.parent.name) if n]
    own = [m for name in dict.fromkeys(map(_plain_name, names)) for m in measured.get(name, ())]
    reproduction = known.get(identity)
    audited = tuple(_judged(claim, own, reproduction) for claim in claims)
    return AuditedCard(
        file=shown,
        id=identity,
        name=card.name,
        bases=card.bases,
        figures=card.figures,
        claims=audited,
        checks=(*card_checks(card), *of_recipes),
        cost=_cost(card, [a.claim for a in audited if a.verdict is None], proposals),
        reproduced_at=reproduction.made_at if reproduction is not None else None,
    )


def _judged(
    claim: Claim, measured: Sequence[Measurement], reproduction: ReproductionRecord | None
) -> AuditedClaim:
    """The verdict of arithmetic, else of the last reproduction, else of result files of the same checkpoint."""
    reason = impossible(claim)
    if reason is not None:
        verdict = Verdict(claim=claim, kind=VerdictKind.IMPOSSIBLE, reason=reason)
        return AuditedClaim(claim=claim, verdict=verdict, judged_by="arithmetic")
    if reproduction is not None:
        stored = next((v for v in reproduction.verdicts if _same(v.claim, claim)), None)
        if stored is not None and claim.suite is not None:
            return AuditedClaim(claim=claim, verdict=stored, judged_by="reproduction")
    by_file = verdict_on(claim, measured)
    return AuditedClaim(claim=claim, verdict=by_file, judged_by="result file" if by_file is not None else "")


def _same(left: Claim, right: Claim) -> bool:
    return (left.suite, left.benchmark, left.value) == (right.suite, right.benchmark, right.value)


def _cost(card: Card, claims: Sequence[Claim], proposals: Sequence[Proposal]) -> CheckCost:
    """Jobs and GPU-hours of the claims without a verdict, by the planner's model of the work."""
    wanted = wanted_benchmarks(claims)
    others = tuple(dict.fromkeys(c.benchmark or c.title for c in claims if c.suite is None))
    n_evals = sum(map(len, wanted.values()))
    builds = int(bool(n_evals) and any(p.recipe is not None for p in proposals))
    size = next(iter(card.sizes), None) or size_in_name(card.name or "")
    parameters = round(size.parameters_b * 1e9) if size is not None else None
    seconds = (
        sum(
            work_s(Workload(suite, benchmark, None, parameters, EngineKind.VLLM), on_gpu=True)
            for suite, benchmarks in wanted.items()
            for benchmark in benchmarks
        )
        if parameters
        else None
    )
    gpu_hours = seconds / 3600 if seconds is not None else None
    return CheckCost(
        jobs=n_evals + builds,
        gpu_hours=gpu_hours,
        no_suite=others,
        sentence=_cost_sentence(n_evals + builds, seconds, others, bool(claims)),
    )


def _cost_sentence(jobs: int, seconds: float | None, others: Sequence[str], any_left: bool) -> str:
    if not any_left:
        return "Nothing is left to check."
    parts = []
    if jobs:
        time = (
            f"about {hours(seconds)} GPU-hours"
            if seconds is not None
            else "an unknown time, since the card names no size"
        )
        parts.append(f"{jobs} {'job' if jobs == 1 else 'jobs'}, {time}")
    if others:
        named = ", ".join(others[:6]) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
        parts.append(f"no suite of ours measures {named} as the card does")
    return f"{'; '.join(parts)}."


def _plain_name(name: str) -> str:
    return joined(name.rpartition("/")[2])


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if root.is_dir() else file.name
