"""Builds checkable claims from the figures of a card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from evals.claims.board import BoardRow, find_row
from evals.claims.facts import ALL_DOCUMENTS, Fact, Facts
from evals.claims.known import known_benchmarks
from evals.claims.records import Claim, Figure, Scale, Unit, Where
from evals.suite import Suite

_MOST_BESIDE = 50  # limit of the figures that an average is compared with; no board has this many benchmarks


class _Context:
    """What a card states besides one figure: its text, the published row, and the own model's figures by table."""

    def __init__(
        self, figures: Sequence[Figure], own_figures: Sequence[Figure], stated: Facts, row: BoardRow | None
    ) -> None:
        self.stated, self.row = stated, row
        self.sourced = [f for f in own_figures if f.source_url is not None]
        self.tables: dict[int, list[Figure]] = defaultdict(list)
        self._suites: dict[int, set[str]] = defaultdict(set)
        for figure in figures:
            if figure.suite is not None:
                self._suites[figure.group].add(figure.suite)
        for figure in own_figures:
            if not figure.is_average and len(self.tables[figure.group]) < _MOST_BESIDE:
                self.tables[figure.group].append(figure)

    def suite_beside(self, average: Figure) -> str | None:
        """The suite of the scores in the same table, for an average."""
        names = self._suites[average.group] if average.is_average else set()
        return next(iter(names)) if len(names) == 1 else None


def claims_of(
    figures: Sequence[Figure],
    *,
    source: str,
    checkpoint: str | None,
    stated: Facts,
    suites: Sequence[Suite],
    rows: Sequence[BoardRow],
    runs: int | None = None,
) -> tuple[Claim, ...]:
    """One claim for every distinct score and average that the card states for its own model, of a suite or not.

    The known circumstances come from the card's text (`stated`) and, if its figures equal those of a published row,
    from that row. If the text contradicts the row, the text is kept and the claim is unclear. `runs` is the number of runs that the card's
    text says are averaged.
    """
    by_name = {suite.name: suite for suite in suites}
    row = find_row(figures, checkpoint, rows)
    by_number: dict[tuple[object, ...], list[Claim]] = {}
    own_figures = [f for f in figures if f.subject is None and f.error is None and f.unit is not Unit.CHANGE]
    context = _Context(figures, own_figures, stated, row)
    for figure in sorted(own_figures, key=lambda f: f.where is not Where.MODEL_INDEX):
        suite = by_name.get(figure.suite or context.suite_beside(figure) or "")
        if suite is None or (figure.benchmark is None and not figure.is_average):
            claim = _of_no_suite(figure, checkpoint, source, stated, runs)
        else:
            claim = _make_claim(figure, suite, checkpoint, source, context)
        metric = None if claim.suite is not None else claim.metric
        number = (claim.suite, claim.benchmark, claim.scale, round(claim.value, 6), metric)
        _add_claim(by_number.setdefault(number, []), claim)
    order: dict[tuple[str | None, str | None], int] = {
        (s.name, b): i for s in suites for i, b in enumerate([*(x.name for x in s.benchmarks), None])
    }
    claims = [claim for members in by_number.values() for claim in members]
    return tuple(sorted(claims, key=lambda c: order.get((c.suite, c.benchmark), len(order))))


def _of_no_suite(
    figure: Figure, checkpoint: str | None, source: str, stated: Facts, runs: int | None
) -> Claim:
    """The claim of a figure whose benchmark is in no suite."""
    facts = stated.plus(figure.facts.known)
    if figure.shots is not None and not figure.is_average:
        facts = facts.plus({Fact.SHOTS: str(figure.shots)})
    known = known_benchmarks().get(figure.known_as or "")
    return Claim(
        subject=checkpoint,
        suite=None,
        benchmark=None if figure.is_average else figure.name,
        title=figure.label,
        known_as=figure.known_as,
        metric=figure.metric or (known.metric if known is not None else None),
        n=figure.n,
        runs=_runs(facts, runs),
        in_percent=figure.unit is not Unit.OWN,
        value=figure.points,
        rounding_points=figure.rounding_points,
        scale=figure.scale or Scale.RAW,
        source=f"{source}, {figure.where}, line {figure.line}",
        source_url=figure.source_url,
        facts=facts,
        unclear=(figure.unclear,) if figure.unclear else (),
    )


def _runs(facts: Facts, runs: int | None) -> int | None:
    """The number of runs that a score averages: of its own protocol, such as avg@16, else of the card's text."""
    for part in (facts.get(Fact.PROTOCOL) or "").split(", "):
        kind, _, number = part.partition("@")
        if number.isdecimal() and int(number) > 1:
            return int(number) if kind in ("avg", "mean") else (0 if kind in ("pass", "best") else None)
    return runs


def _add_claim(claims: list[Claim], claim: Claim) -> None:
    """Append a claim to those with the same number, or merge its circumstances into the one that it repeats."""
    for i, existing in enumerate(claims):
        if not existing.facts.differences(claim.facts):
            unclear = existing.unclear if existing.unclear and claim.unclear else ()
            facts = claim.facts.plus(existing.facts.known)
            claims[i] = existing.model_copy(update={"facts": facts, "unclear": unclear})
            return
    claims.append(claim)


def _make_claim(
    figure: Figure,
    suite: Suite,
    checkpoint: str | None,
    source: str,
    context: _Context,
) -> Claim:
    stated, row = context.stated, context.row
    copied = None
    if row is not None and row.suite == suite.name and row.has(figure.benchmark, figure.points):
        copied = row
    of_board = copied is not None or _from_board(figure, context.sourced, suite)
    facts = Facts(known={Fact.SUITE: suite.name})
    if figure.benchmark is not None:
        facts = facts.plus({Fact.BENCHMARK: figure.benchmark})
    if figure.shots is not None and figure.benchmark is not None:
        facts = facts.plus({Fact.SHOTS: str(figure.shots)})
    if of_board:
        facts = facts.plus({Fact.LIMIT: ALL_DOCUMENTS, Fact.HARNESS: "lm-eval"})
    facts = facts.plus(stated.known).plus(figure.facts.known)
    unclear = [figure.unclear] if figure.unclear else []
    unclear += _incomplete_average(figure, context.tables[figure.group], suite)
    if copied is not None:
        stage = copied.stage_of(figure.benchmark, figure.points) if _depends_on_stage(figure, suite) else None
        for difference in facts.differences(copied.facts):
            unclear.append(
                f"the card says {difference.fact} {difference.left}, and {copied.checkpoint} has this score on the board with "
                f"{difference.fact} {difference.right}"
            )
        facts = copied.facts.plus(facts.known).plus({Fact.STAGE: stage})
    return Claim(
        subject=checkpoint,
        suite=suite.name,
        benchmark=figure.benchmark,
        title=figure.label,
        known_as=figure.known_as,
        metric=figure.metric,
        n=figure.n,
        value=figure.points,
        rounding_points=figure.rounding_points,
        scale=figure.scale
        or (Scale.RAW if figure.unit is Unit.FRACTION and not of_board else Scale.NORMALIZED),
        source=f"{source}, {figure.where}, line {figure.line}",
        source_url=figure.source_url,
        of_board=of_board,
        facts=facts,
        unclear=tuple(unclear),
    )


def _incomplete_average(figure: Figure, table: Sequence[Figure], suite: Suite) -> list[str]:
    """Why an average may not be the board's: scores of the board are missing from its table, or others are part of it."""
    if not figure.is_average:
        return []
    beside = [f for f in table if f.facts == figure.facts and f.scale is figure.scale]
    shown = {f.benchmark: f for f in beside if f.suite == suite.name}
    if len(shown) < len(suite.benchmarks):
        return [
            f"{figure.label} is of {len(shown)} of the {len(suite.benchmarks)} benchmarks of {suite.title}"
        ]
    slack = figure.rounding_points + max(f.rounding_points for f in beside) + 1e-9
    means = [fmean(f.points for f in scores) for scores in (list(shown.values()), beside)]
    if len(beside) > len(shown) and abs(means[0] - figure.points) > slack >= abs(means[1] - figure.points):
        return [f"{figure.label} is of {len(beside)} figures, not only of {suite.title}"]
    return []


def _from_board(figure: Figure, figures: Sequence[Figure], suite: Suite) -> bool:
    """Whether the card attributes the figure, or another one with the same value, to the board."""
    if suite.card_source_url is None:
        return False
    page = suite.card_source_url.partition("?")[0]
    equal = [f for f in figures if f.benchmark == figure.benchmark and abs(f.points - figure.points) < 0.006]
    return any(f.source_url is not None and f.source_url.startswith(page) for f in (figure, *equal))


def _depends_on_stage(figure: Figure, suite: Suite) -> bool:
    """Whether the figure depends on the scoring stage: its benchmark has stages, or its average includes one that has."""
    return any(b.stages for b in suite.benchmarks if figure.benchmark in (None, b.name))
