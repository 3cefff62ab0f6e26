"""Claims page: the claims of each card, with verdicts and reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.board import known_suite
from dashboard.components.code import show_code
from evals.claims.records import CardCheck, CheckOutcome, Claim, Scale, Verdict, VerdictKind
from evals.errors import EvaluationError
from orchestrator.display.format import UNKNOWN, moment
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.claim_records import CardRecord, CardSummary, ReproductionRecord
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord

_MOST_CARDS = 200
_MARKS = {
    VerdictKind.REPRODUCED: "✓ reproduced",
    VerdictKind.NOT_REPRODUCED: "✗ not reproduced",
    VerdictKind.NOT_COMPARABLE: "⊘ not comparable",
    VerdictKind.IMPOSSIBLE: "⚠ impossible",
}
_CARDS = {
    "Card": "Name of the card, or its file.",
    "Claims": "Figures of the card that name a benchmark of a suite.",
    _MARKS[
        VerdictKind.REPRODUCED
    ]: "Claims within the 95 % interval of our own score, widened by their rounding.",
    _MARKS[VerdictKind.NOT_REPRODUCED]: "Claims outside of it.",
    _MARKS[VerdictKind.NOT_COMPARABLE]: "Claims that were measured otherwise, or of another checkpoint.",
    "Checked": "When our own scores were compared with it.",
}
_VERDICTS = {
    "Claimed": "The card's figure.",
    "Measured": "Our normalized score, 0 to 100.",
    "Δ": "Measured minus claimed, in points.",
    "95 % interval": "Interval of our score.",
    "Source": "Where in the card the figure is.",
}
_CHECKS = {CheckOutcome.HOLDS: "✓", CheckOutcome.NOTE: "○", CheckOutcome.FAILS: "✗"}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Claims", "What model cards claim, and what our own measurements say")
    cards = data.live(pages.cards, limit=_MOST_CARDS)
    if not cards:
        widgets.show_message(
            "No cards in this store",
            "A model card's figures are checked, claim by claim, by:",
            command="mergeboard reproduce CARD.md",
            icon=":material/fact_check:",
        )
        return
    requested = address.value("card", cards[0].id)
    chosen = _choose(cards, requested)
    _card(pages, data.slow(pages.card, chosen))


def _choose(cards: Sequence[CardSummary], requested: str) -> str:
    """Draw the list of cards; returns the id of the selected one."""
    selected = widgets.table(
        [_summary(card) for card in cards],
        "cards",
        columns=_helped(_CARDS),
        select=("single-row", "single-cell"),
        height=widgets.table_height(min(len(cards), 8)),
        name="Cards",
    )
    for index in widgets.picked(selected, len(cards)):
        if cards[index].id != address.value("card"):
            address.put(card=cards[index].id, reproduction=None)
            return cards[index].id
    return requested if any(card.id == requested for card in cards) else cards[0].id


def _summary(card: CardSummary) -> dict[str, Any]:
    return {
        "Card": line(card.name or card.source, 60),
        "Checkpoint": line(card.checkpoint or "–", 60),
        "Claims": card.n_claims,
        **{mark: card.verdicts.get(kind, 0) if card.reproduced_at else None for kind, mark in _MARKS.items()},
        "Checked": moment(card.reproduced_at) if card.reproduced_at else "not yet",
        "Imported": moment(card.imported_at),
        "Id": card.id,
    }


def _card(pages: Pages, card: CardRecord) -> None:
    st.subheader(escaped(card.name or card.source, 80), anchor=False)
    reproductions = data.live(pages.reproductions, card.id)
    if reproductions:
        _reproduced(reproductions, card)
    else:
        st.caption("Nothing has been measured for this card yet. Its claims are checked by:")
        show_code("mergeboard reproduce CARD.md")
        _claims(card.claims)
        _checks(card.checks)
        widgets.notes(card.notes)
    with st.expander("The card itself"):
        show_code(card.text, height=420)


def _reproduced(reproductions: Sequence[ReproductionRecord], card: CardRecord) -> None:
    """Draw one reproduction of a card: verdicts, checks and the run that measured it."""
    by_id = {reproduction.id: reproduction for reproduction in reproductions}
    chosen = reproductions[0]
    if len(reproductions) > 1:
        chosen = by_id[
            address.choose(
                "Reproduction", "reproduction", list(by_id), label_of=lambda key: moment(by_id[key].made_at)
            )
        ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(escaped(f"{moment(chosen.made_at)}, measured as {chosen.candidate}", 200))
        if chosen.run_id is not None:
            address.link(View.LEADERBOARD, "The run that measured it", run=chosen.run_id)
    st.markdown(f"**{_summed(chosen.verdicts)}**")
    _verdicts(chosen.verdicts)
    rows = [_flat(card, verdict) for verdict in chosen.verdicts]
    widgets.download(
        "CSV", f"claims-{card.id}.csv", lambda: widgets.csv_of(rows), "text/csv", f"claims_csv_{chosen.id}"
    )
    _checks(chosen.checks)
    widgets.notes(chosen.notes)


def _verdicts(verdicts: Sequence[Verdict]) -> None:
    better, worse, forbidden = widgets.tints()
    tints = {
        VerdictKind.REPRODUCED: better,
        VerdictKind.NOT_REPRODUCED: worse,
        VerdictKind.NOT_COMPARABLE: forbidden,
        VerdictKind.IMPOSSIBLE: worse,
    }

    def colour(index: int, name: str) -> str:
        return f"background-color: {tints[verdicts[index].kind]}" if name == "Verdict" else ""

    widgets.table(
        [_verdict(v) for v in verdicts],
        "verdicts",
        tint=colour,
        columns=_helped(_VERDICTS)
        | {"Reason": st.column_config.TextColumn(width="large", help="Why it has this verdict.")},
        height=widgets.table_height(min(len(verdicts), 20)),
        name="Verdicts",
    )
    for verdict in verdicts:
        if verdict.kind is not VerdictKind.REPRODUCED:
            st.text(f"{_title(verdict.claim)}: {_MARKS[verdict.kind]}. {line(verdict.reason, 500)}")


def _verdict(verdict: Verdict) -> dict[str, Any]:
    span = verdict.interval
    return {
        "Benchmark": _title(verdict.claim),
        "Claimed": _claimed(verdict.claim),
        "Verdict": _MARKS[verdict.kind] + (" (forced)" if verdict.forced else ""),
        "Measured": "–" if verdict.measured is None else f"{verdict.measured:.2f}",
        "Δ": "–" if verdict.difference_points is None else f"{verdict.difference_points:+z.2f}",
        "95 % interval": f"[{span.low:.2f}, {span.high:.2f}]" if span else "–",
        "Reason": line(verdict.reason, 500),
        "Source": line(verdict.claim.source, 120),
    }


def _flat(card: CardRecord, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a record for export."""
    claim, span = verdict.claim, verdict.interval
    return {
        "card": card.name or card.source,
        "card_id": card.id,
        "suite": claim.suite,
        "benchmark": claim.benchmark or "average",
        "claimed": claim.value,
        "rounding_points": claim.rounding_points,
        "scale": claim.scale.value,
        "measured": verdict.measured,
        "difference_points": verdict.difference_points,
        "interval_low": span.low if span else None,
        "interval_high": span.high if span else None,
        "verdict": verdict.kind.value,
        "forced": verdict.forced,
        "reason": verdict.reason,
        "source": claim.source,
    }


def _summed(verdicts: Sequence[Verdict]) -> str:
    """The number of claims with each verdict, in one line."""
    counts = Counter(verdict.kind for verdict in verdicts)
    return " · ".join(f"{counts[kind]} {mark}" for kind, mark in _MARKS.items() if counts[kind])


def _helped(helps: Mapping[str, str]) -> dict[str, Any]:
    """Column settings with a tooltip each."""
    return {name: st.column_config.Column(help=text) for name, text in helps.items()}


def _claims(claims: Sequence[Claim]) -> None:
    """Draw the claims of a card without a reproduction."""
    rows = [
        {
            "Benchmark": _title(claim),
            "Claimed": _claimed(claim),
            "Suite": line(claim.suite or UNKNOWN, 40),
            "Subject": line(claim.subject or "the card's own", 60),
            "Source": line(claim.source, 120),
        }
        for claim in claims
    ]
    if not rows:
        st.caption("No figure of this card is a score.")
        return
    widgets.table(rows, "claims_of_card", height=widgets.table_height(min(len(rows), 20)), name="Claims")


def _checks(checks: Sequence[CardCheck]) -> None:
    """Draw the checks of the card's figures, failed ones first."""
    if not checks:
        return
    st.markdown("**The card against itself and its recipe**")
    order = [CheckOutcome.FAILS, CheckOutcome.NOTE, CheckOutcome.HOLDS]
    for check in sorted(checks, key=lambda c: order.index(c.outcome)):
        where = f" (line {check.line})" if check.line else ""
        st.text(f"{_CHECKS[check.outcome]} {line(check.sentence, 500)}{where}")


def _title(claim: Claim) -> str:
    """The benchmark's title in its suite, else the title in the card."""
    if claim.benchmark is None:
        return "Average"
    try:
        suite = known_suite(claim.suite) if claim.suite is not None else None
        return suite.benchmark(claim.benchmark).title if suite else line(claim.title, 40)
    except EvaluationError:
        return line(claim.title, 40)


def _claimed(claim: Claim) -> str:
    raw, unclear = claim.scale is Scale.RAW, bool(claim.unclear)
    return f"{claim.value:g}{' (raw)' if raw else ''}{' (unclear)' if unclear else ''}"
