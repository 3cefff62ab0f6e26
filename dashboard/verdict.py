"""The verdict of a whole run as one or two lines: never about a part of it, never before it is computed."""

from __future__ import annotations

import streamlit as st

from dashboard.comparisons import WholeVerdict, verdict_of_run
from orchestrator.compare.verdict import RunVerdict, Standing, verdict_sentences
from orchestrator.display.format import duration
from orchestrator.display.text_safety import escaped

__all__ = ["WholeVerdict", "show_verdict", "verdict_of_run", "verdict_text"]

_COUNTED = {
    Standing.BETTER: "▲ better",
    Standing.WORSE: "▼ worse",
    Standing.MIXED: "▲▼ better and worse",
    Standing.UNSHOWN: "no difference shown",
    Standing.REFUSED: "⊘ not compared",
    Standing.UNSCORED: "no scores",
    Standing.LEFT: "left the race",
    Standing.PENDING: "… pending",
}


def label_of(standing: Standing) -> str:
    """A standing in words, with its mark."""
    return _COUNTED[standing]


def verdict_text(
    verdict: RunVerdict, *, n_waiting: int = 0, remaining_s: float | None = None
) -> tuple[str, ...]:
    """The lines of a verdict as plain text: what the run shows, or how far its computation is.

    `n_waiting` candidates of a live run are not evaluated in full yet; `remaining_s` is the estimate for the rest.
    """
    total = len(verdict.standings)
    if not total:
        return ("There is nothing to compare with the base yet.",)
    if verdict.complete:
        sentences = verdict_sentences(verdict)
        return sentences or (f"No recipe could be compared with {verdict.base}.",)
    compared = total - verdict.count(Standing.PENDING)
    if n_waiting:
        return (f"The run goes on: {compared:,} of {total:,} recipes are evaluated and compared.",)
    left = f", about {duration(remaining_s)} left" if remaining_s else ""
    return (f"Computing: {compared:,} of {total:,} recipes are compared{left}.",)


def so_far_text(verdict: RunVerdict) -> str | None:
    """What the recipes show that are compared already, marked as not final; None for a complete verdict."""
    compared = len(verdict.standings) - verdict.count(Standing.PENDING)
    if verdict.complete or not compared:
        return None
    shown = (Standing.BETTER, Standing.WORSE, Standing.MIXED, Standing.REFUSED)
    parts = [f"{verdict.count(s):,} {_COUNTED[s]}" for s in shown if verdict.count(s)] or [
        "no difference shown"
    ]
    return f"So far, not final: {', '.join(parts)} of {compared:,}. Corrected p-values can grow with further recipes."


def show_verdict(
    verdict: RunVerdict,
    *,
    n_waiting: int = 0,
    remaining_s: float | None = None,
    smoke: bool = False,
    counts: bool = False,
) -> None:
    """Draw the verdict of a run.

    With `smoke` it is marked as smoke test data; with `counts` a line says how many recipes have which standing,
    for pages that have no filters for them. The other arguments are those of `verdict_text`.
    """
    with st.container(key="run_verdict", gap="xxsmall"):
        if smoke:
            st.badge("smoke test data: not leaderboard scores", color="orange")
        lines = verdict_text(verdict, n_waiting=n_waiting, remaining_s=remaining_s)
        st.markdown("  \n".join(f"**{escaped(line, 600)}**" for line in lines))
        so_far = so_far_text(verdict)
        if so_far is not None:
            st.caption(escaped(so_far, 400))
        if counts and verdict.complete:
            parts = [f"{verdict.count(s):,} {label_of(s)}" for s in _COUNTED if verdict.count(s)]
            if verdict.partial:
                parts.append(f"{len(verdict.partial):,} ◔ partial")
            st.caption(escaped(" · ".join(parts), 400))
