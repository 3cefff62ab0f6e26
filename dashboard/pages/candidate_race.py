"""A race of a run's candidates: its looks, and who left where."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, widgets
from dashboard.races import candidate_race_drawn, candidate_race_shown
from evals.stats.candidate_race import begun_text, left_text
from orchestrator.charts import race_chart, race_image
from orchestrator.compare.candidate_races import race_rule_of
from orchestrator.display.text_safety import escaped, line
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateRecord, RunRecord

_HEIGHT = 520


def show_race(pages: Pages, run: RunRecord) -> None:
    """Draw how many candidates went on after each part, and who left; nothing for a run without a race."""
    rule, race = race_rule_of(run), candidate_race_shown(pages, run.id)
    if race is None:
        if rule is not None:
            st.caption(escaped(f"{begun_text(rule)}.", 300))
        return
    st.subheader(f"Race for the best {race.rule.keep}", anchor=False)
    st.caption(
        escaped(f"{race.sentence}. Error rate {race.rule.error_rate:g} over all candidates and looks.", 300)
    )
    looks = [
        {
            "Questions": f"{look.n:,} of {look.n_whole:,}",
            "Candidates": len(look.candidates),
            "Left": len(look.left),
            "Went on": len(look.kept),
            "Failed": len(look.failed),
        }
        for look in race.looks
    ]
    widgets.table(looks, "race_looks", name="Looks at the race")
    if race.looks[0].candidates:
        picture, theme = candidate_race_drawn(pages, run, race), widgets.theme()
        charts.plot(
            lambda: race_chart(picture, theme).update_layout(title=None, margin_t=40),
            "race",
            height=_HEIGHT,
            alt=f"The race of {picture.title}: {race.sentence}",
        )
        if picture.warning:
            st.caption(picture.warning)
        charts.images("race", "race", lambda: race_image(picture, theme))
    left = [
        {
            "Candidate": line(candidate.name, 80),
            "Left after": f"{look.n:,} of {look.n_whole:,}",
            "\N{GREEK CAPITAL LETTER DELTA} points early": round(candidate.value, 1),
            "Interval": f"[{candidate.low:+z.1f}, {candidate.high:+z.1f}]",
        }
        for candidate, look in race.left
    ]
    if left:
        widgets.table(left, "race_left", name="Candidates that left")
        st.caption(
            "Early differences are of the questions that were asked, averaged over the benchmarks; they are no scores. "
            f"`mergeboard resume {escaped(run.id, 80)} --whole` asks everything and nothing twice."
        )


def show_left(pages: Pages, run: RunRecord, candidate: CandidateRecord) -> bool:
    """Say that a candidate left the race of its run, and what is known of it; False if it did not."""
    race = candidate_race_shown(pages, run.id)
    if race is None:
        return False
    for left, look in race.left:
        if left.name == candidate.name:
            widgets.show_message(
                "Left the race",
                f"{line(candidate.name)} {left_text(left, look, race.rule.keep)}. It has no scores in this run. Ask the rest with:",
                command=f"mergeboard resume {run.id} --whole",
            )
            return True
    return False
