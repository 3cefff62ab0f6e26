"""The table of a race in a report: how many were asked, left and went on at each look."""

from __future__ import annotations

from collections.abc import Sequence

from evals.probes.race import Race, RaceLook
from evals.stats.candidate_race import CandidateRace
from orchestrator.report.page import ReportCell, ReportColumn, ReportRow, ReportTable


def race_table(race: Race | CandidateRace) -> ReportTable:
    """The looks of a race of layer paths, or of a sweep's candidates."""
    what = "path" if isinstance(race, Race) else "candidate"
    rows = []
    for look in race.looks:
        asked: Sequence[object] = look.paths if isinstance(look, RaceLook) else look.candidates
        counts = (len(asked), len(look.left), len(look.kept), len(look.failed))
        cells = tuple(ReportCell(text=f"{n:,}", value=float(n)) for n in counts)
        rows.append(ReportRow(name=f"{look.n:,} of {look.n_whole:,}", cells=cells))
    columns = tuple(ReportColumn(title=name) for name in (f"{what}s asked", "left", "went on", "failed"))
    return ReportTable(
        caption="The race",
        first=f"Questions a {what}",
        columns=columns,
        rows=tuple(rows),
        notes=(f"{race.sentence}.",),
    )
