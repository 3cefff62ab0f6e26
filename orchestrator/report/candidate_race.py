"""A race of a run's candidates: its section in a report."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from evals.stats.candidate_race import CandidateRace
from orchestrator.charts import Theme, candidate_race_picture, image_bytes, race_image
from orchestrator.display.text_safety import line
from orchestrator.report.page import (
    ReportCell,
    ReportColumn,
    ReportPicture,
    ReportRow,
    ReportSection,
    ReportTable,
)
from orchestrator.report.race_table import race_table


def race_section(
    race: CandidateRace | None, whole: Mapping[str, float], run_id: str, title: str
) -> ReportSection | None:
    """The section of a run whose candidates race; None without a race. `whole` holds the averages of those that were asked everything."""
    if race is None:
        return None
    intro = (
        f"Every candidate was asked a part of each benchmark's questions, in one random order. Those that cannot be among the best "
        f"{race.rule.keep} by the average of the benchmarks any more left: the probability that any of these left is at most "
        f"{race.rule.error_rate:g}, over all candidates and looks. They have no scores, and count in the correction of the others."
    )
    blocks = (*_picture(race, whole, title), race_table(race), *([_left(race, run_id)] if race.left else []))
    return ReportSection(key="race", title="Race", intro=intro, blocks=blocks)


def _picture(race: CandidateRace, whole: Mapping[str, float], title: str) -> tuple[ReportPicture, ...]:
    if not race.looks[0].candidates:
        return ()
    image = race_image(candidate_race_picture(race, whole, title), Theme.LIGHT)
    return (
        ReportPicture(
            title="The race: differences to the base against the questions asked",
            png=base64.b64encode(image_bytes(image)).decode("ascii"),
        ),
    )


def _left(race: CandidateRace, run_id: str) -> ReportTable:
    rows = tuple(
        ReportRow(
            name=line(candidate.name, 80),
            cells=(
                ReportCell(text=f"{look.n:,} of {look.n_whole:,}", value=float(look.n)),
                ReportCell(text=f"{candidate.value:+z.1f} early", value=candidate.value),
                ReportCell(text=f"{candidate.low:+z.1f} … {candidate.high:+z.1f}"),
            ),
        )
        for candidate, look in race.left
    )
    columns = (
        ReportColumn(title="left after", help="Questions that it was asked, over all benchmarks."),
        ReportColumn(
            title="Δ points",
            help="Average over the benchmarks minus the base's on these questions, without the floor.",
        ),
        ReportColumn(
            title="interval",
            help="Of the difference on all questions; holds for all candidates and looks together.",
        ),
    )
    note = (
        "A difference marked early is of the questions that were asked, and no score: it stands in no table, card or export. "
        f"`mergeboard resume {run_id} --whole` asks everything and nothing twice."
    )
    return ReportTable(
        caption="Candidates that left", first="Candidate", columns=columns, rows=rows, notes=(note,)
    )
