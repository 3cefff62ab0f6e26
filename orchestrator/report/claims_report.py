"""The report of a card: its claims, the measured scores, and a verdict per claim."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from evals.claims.records import CardCheck, CheckOutcome, Claim, Verdict, VerdictKind
from orchestrator.display.format import moment
from orchestrator.display.text_safety import line
from orchestrator.report.deltas import SHAPES, signed
from orchestrator.report.methods import methods_section, provenance_facts, repeat_section, run_facts
from orchestrator.report.notices import run_notices
from orchestrator.report.page import (
    DeltaLine,
    DeltaTable,
    LineList,
    ReportBlock,
    ReportCell,
    ReportColumn,
    ReportFact,
    ReportFilter,
    ReportKind,
    ReportLine,
    ReportPage,
    ReportRow,
    ReportSection,
    ReportTable,
    ReportTone,
    ReportVerdict,
)
from orchestrator.report.request import ReportRequest
from orchestrator.store import Store
from orchestrator.store.claim_records import CardRecord, ReproductionRecord, counted
from orchestrator.version import version_text

_TONES = {
    VerdictKind.REPRODUCED: ReportTone.HOLDS,
    VerdictKind.NOT_REPRODUCED: ReportTone.FAILS,
    VerdictKind.NOT_COMPARABLE: ReportTone.REFUSED,
    VerdictKind.IMPOSSIBLE: ReportTone.FAILS,
}
_CHECK_TONES = {
    CheckOutcome.HOLDS: ReportTone.HOLDS,
    CheckOutcome.NOTE: ReportTone.PLAIN,
    CheckOutcome.FAILS: ReportTone.FAILS,
}


def claims_report(store: Store, card_id: str, request: ReportRequest, *, now: datetime) -> ReportPage:
    """The report of a card and its last reproduction; of its claims and checks alone if nothing was measured."""
    card = store.card(card_id)
    reproduction = next(iter(store.reproductions(card_id)), None)
    run = store.run(reproduction.run_id) if reproduction is not None and reproduction.run_id else None
    verdicts = reproduction.verdicts if reproduction is not None else ()
    sections = [_claims_section(card.claims, verdicts)]
    plot = _forest(verdicts)
    if plot is not None:
        intro = "Ours minus the claim, in points; the line is the 95 % interval of our score, widened by the claim's rounding."
        sections.insert(0, ReportSection(key="differences", title="Differences", intro=intro, blocks=(plot,)))
    checks = dict.fromkeys((*card.checks, *(reproduction.checks if reproduction is not None else ())))
    sections += _checks(tuple(checks), card, reproduction)
    facts = [
        ReportFact(name="Card", value=f"{line(card.source)} ({card.id})"),
        ReportFact(name="Checkpoint", value=line(card.checkpoint or "not named")),
        ReportFact(
            name="Rule",
            value="reproduced: the claim lies in the 95 % interval of our score, widened by the claim's rounding; not comparable: a "
            "known circumstance of the measurement differs, or the claim is ambiguous; impossible: no run on that many questions can give it",
        ),
    ]
    if reproduction is not None:
        facts.append(ReportFact(name="Judged", value=moment(reproduction.made_at)))
    groups = [facts, *((provenance_facts(run.provenance), run_facts(run)) if run is not None else ())]
    sections += [methods_section(*groups), repeat_section([run] if run is not None else [], request.command)]
    return ReportPage(
        kind=ReportKind.CLAIMS,
        title=f"Claims of {line(card.name or card.checkpoint or card.source)}",
        subtitle=line(f"{card.source} · {len(card.claims)} claims"),
        made_at=now,
        notices=run_notices(store, run) if run is not None else (),
        verdict=_verdict(card, reproduction, tuple(checks)),
        sections=tuple(sections),
        made_by=version_text(),
    )


def _verdict(
    card: CardRecord, reproduction: ReproductionRecord | None, checks: Sequence[CardCheck]
) -> ReportVerdict:
    failed = [
        ReportLine(text=check.sentence, tone=ReportTone.FAILS)
        for check in checks
        if check.outcome is CheckOutcome.FAILS
    ]
    if reproduction is None:
        headline = f"None of the {len(card.claims)} claims has been checked."
        return ReportVerdict(headline=headline, tone=ReportTone.REFUSED, lines=tuple(failed))
    counts = {kind: count for kind, count in counted(reproduction.verdicts).items() if count}
    total = len(reproduction.verdicts)
    parts = [f"{count} {kind}" for kind, count in counts.items()]
    headline = f"Of {total} {'claim' if total == 1 else 'claims'}, {_listed(parts)}."
    tones = {_tone(kind) for kind in counts}
    tone = ReportTone.FAILS if ReportTone.FAILS in tones else ReportTone.REFUSED
    if tones == {ReportTone.HOLDS}:
        tone = ReportTone.HOLDS
    lines = [
        ReportLine(text=f"{line(verdict.claim.title, 60)}: {verdict.reason}", tone=_tone(verdict.kind))
        for verdict in reproduction.verdicts
        if _tone(verdict.kind) is ReportTone.FAILS
    ]
    return ReportVerdict(headline=headline, tone=tone, lines=(*lines, *failed))


def _claims_section(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> ReportSection:
    rows = [_row(verdict) for verdict in verdicts] or [_unchecked(claim) for claim in claims]
    kinds = dict.fromkeys(verdict.kind for verdict in verdicts)
    filters = [
        ReportFilter(key=_group(kind), label=str(kind), count=sum(v.kind is kind for v in verdicts))
        for kind in kinds
    ]
    table = ReportTable(
        caption="Claims",
        first="Claim",
        columns=(
            ReportColumn(title="Verdict", help="How the claim was judged.", numeric=False, narrow=True),
            ReportColumn(title="Claimed", help="The published score, 0 to 100."),
            ReportColumn(title="Measured", help="Our score, 0 to 100, and the difference to the claim."),
            ReportColumn(title="95 % interval", help="Of our score.", numeric=False),
            ReportColumn(title="Scale", help="Raw, or normalized as the leaderboard does.", numeric=False),
        ),
        rows=tuple(rows),
        filters=tuple(filters),
    )
    reasons = tuple(
        ReportLine(
            text=f"{line(v.claim.title, 60)}: {v.reason} Source: {v.claim.source}.", tone=_tone(v.kind)
        )
        for v in verdicts
    )
    blocks: list[ReportBlock] = [table]
    if reasons:
        blocks.append(LineList(lines=reasons))
    return ReportSection(key="claims", title="Claims", blocks=tuple(blocks))


def _row(verdict: Verdict) -> ReportRow:
    claim, span, tone = verdict.claim, verdict.interval, _tone(verdict.kind)
    forced = ", forced" if verdict.forced else ""
    difference = "" if verdict.difference_points is None else signed(verdict.difference_points)
    cells = (
        ReportCell(text=f"{SHAPES[tone]} {verdict.kind}{forced}".strip(), tone=tone),
        ReportCell(text=f"{claim.value:.2f}", value=claim.value),
        ReportCell(
            text="–" if verdict.measured is None else f"{verdict.measured:.2f}",
            value=verdict.measured,
            delta=difference,
        ),
        ReportCell(text="–" if span is None else f"{span.low:.1f} to {span.high:.1f}"),
        ReportCell(text=str(claim.scale)),
    )
    return ReportRow(
        name=line(claim.title),
        cells=cells,
        remark=line(claim.suite or "in no suite"),
        group=_group(verdict.kind),
    )


def _unchecked(claim: Claim) -> ReportRow:
    cells = (
        ReportCell(text="not checked"),
        ReportCell(text=f"{claim.value:.2f}", value=claim.value),
        ReportCell(text="–"),
        ReportCell(text="–"),
        ReportCell(text=str(claim.scale)),
    )
    return ReportRow(name=line(claim.title), cells=cells, remark=line(claim.suite or "in no suite"))


def _forest(verdicts: Sequence[Verdict]) -> DeltaTable | None:
    rows = []
    for verdict in verdicts:
        claim, span = verdict.claim, verdict.interval
        if verdict.measured is None or span is None:
            continue
        slack = claim.rounding_points
        judged = verdict.difference_points is not None
        reproduced = verdict.kind is VerdictKind.REPRODUCED
        rows.append(
            DeltaLine(
                label=line(claim.title),
                base=f"{claim.value:.1f}",
                candidate=f"{verdict.measured:.1f}",
                delta=verdict.measured - claim.value,
                low=span.low - slack - claim.value,
                high=span.high + slack - claim.value,
                tone=_tone(verdict.kind) if judged or reproduced else ReportTone.PLAIN,
                word=str(verdict.kind),
            )
        )
    if not rows:
        return None
    return DeltaTable(
        caption="Measured minus claimed", first="Claim", headings=("Claimed", "Measured"), rows=tuple(rows)
    )


def _checks(
    checks: Sequence[CardCheck], card: CardRecord, reproduction: ReproductionRecord | None
) -> list[ReportSection]:
    lines = [
        ReportLine(
            text=f"{check.outcome}: {check.sentence}" + (f" (line {check.line})" if check.line else ""),
            tone=_CHECK_TONES[check.outcome],
        )
        for check in checks
    ]
    notes = dict.fromkeys((*card.notes, *(reproduction.notes if reproduction is not None else ())))
    lines += [ReportLine(text=f"note: {note}") for note in notes]
    if not lines:
        return []
    intro = "The card against itself, its recipe and published results."
    return [
        ReportSection(
            key="checks", title="Checks of the card", intro=intro, blocks=(LineList(lines=tuple(lines)),)
        )
    ]


def _tone(kind: VerdictKind) -> ReportTone:
    return _TONES.get(kind, ReportTone.FAILS)


def _group(kind: VerdictKind) -> str:
    return kind.name.lower().replace("_", "-")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
