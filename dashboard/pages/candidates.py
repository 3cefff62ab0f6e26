"""Choice of a run's candidates, and the check of those that an address names."""

from __future__ import annotations

import streamlit as st

from dashboard import address, data
from orchestrator.display.text_safety import line
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateRecord, RunRecord

MOST_NAMES = 300
"""Runs with more candidates get a search field instead of one long list."""


def requested_candidate(pages: Pages, run: RunRecord, name: str) -> CandidateRecord | None:
    """The candidate that an address parameter names; None if it names none of the run."""
    text = address.value(name)
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return data.fixed(pages.candidate, run.id, int(text)) if is_number else None


def choose_one(
    pages: Pages, run: RunRecord, label: str, name: str, default: CandidateRecord
) -> CandidateRecord:
    """Draw the choice of one candidate, with a search field in large runs."""
    requested = requested_candidate(pages, run, name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = ""
        if data.fixed(pages.count_candidates, run.id) > MOST_NAMES:
            text = address.search("Narrow the list", "q", "part of a recipe's name")
        named = {str(c.position): c for c in data.slow(pages.search_candidates, run.id, text, MOST_NAMES)}
        for candidate in (default, requested):
            if candidate is not None:
                named[str(candidate.position)] = candidate
        chosen = address.choose(
            label,
            name,
            sorted(named, key=int),
            default=str(default.position),
            label_of=lambda position: line(named[position].name, 70),
        )
    return named[chosen]


def first_recipe(pages: Pages, run: RunRecord, base: CandidateRecord) -> CandidateRecord:
    """The first candidate that is not the base; the base if there is no other."""
    some = data.fixed(pages.search_candidates, run.id, "", 2)
    return next((c for c in some if c.position != base.position), base)
