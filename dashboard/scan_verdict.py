"""The verdict of a scan or search: what its confirmation shows, or how far it is. Never before it is complete."""

from __future__ import annotations

import streamlit as st
from pydantic import Field

from dashboard import address, data
from dashboard.address import View
from dashboard.components.code import show_code
from dashboard.runs import going_on, suites_of
from evals.engine import Frozen
from evals.errors import EvaluationError
from evals.layer_visits import VisitPath
from evals.probes import Confirmation, ConfirmedPath, Finding
from evals.scores import PROBE_SUITE
from orchestrator.charts import MEANINGS, Meaning
from orchestrator.compare.scan_runs import ScanRuns, scan_runs, stored_confirmation, tried_paths
from orchestrator.display.text_safety import escaped
from orchestrator.store.pages import Pages
from orchestrator.store.records import ENDED, RunRecord, RunState
from recipes.layer_path import LayerPath

_MOST_NAMED = 4
_LUCK = "The best of so many is best by luck as well: these are no findings yet."


class ScanVerdict(Frozen):
    """What a scan shows, in words."""

    title: str = Field(description="The verdict in one sentence.")
    details: tuple[str, ...] = Field(default=(), description="Further sentences.")
    command: str | None = Field(default=None, description="The command that goes on; null if there is none.")
    confirmation: Confirmation | None = Field(
        default=None, description="The confirmation behind it; null while there is none."
    )

    def meanings(self) -> dict[VisitPath, Meaning]:
        """The meaning of each confirmed path, by its layers."""
        paths = self.confirmation.paths if self.confirmation else ()
        return {path.layers: MEANINGS[path.finding] for path in paths}

    def path(self, layers: VisitPath | None) -> ConfirmedPath | None:
        """The confirmation of a path; None if it was not confirmed."""
        paths = self.confirmation.paths if self.confirmation else ()
        return next((path for path in paths if path.layers == layers), None)


def scan_of_run(pages: Pages, run: RunRecord) -> ScanRuns | None:
    """The scan or search that a run is a part of; None if it asked no probes."""
    return data.live(scan_runs, pages, run.id)


def scan_verdict(pages: Pages, scan: ScanRuns) -> ScanVerdict:
    """The verdict of a scan."""
    if not scan.searches:
        return ScanVerdict(title="The search that these paths were picked by is not in this store.")
    tried = len(data.slow(tried_paths, pages, scan))
    if scan.confirmation is None:
        return _unconfirmed(pages, [data.live(pages.run, run_id) for run_id in scan.searches], tried)
    return _of_confirmation(pages, scan, data.live(pages.run, scan.confirmation), tried)


def _of_confirmation(pages: Pages, scan: ScanRuns, confirming: RunRecord, tried: int) -> ScanVerdict:
    n_paths = data.fixed(pages.count_candidates, confirming.id) - 1
    what = f"the {n_paths:,} best of {tried:,} layer paths on the confirmation set"
    if confirming.state not in ENDED:
        counts = data.live(pages.progress, confirming.id)
        if confirming.state is RunState.INTERRUPTED:
            title = f"The confirmation was interrupted after {counts.done:,} of {counts.total:,} evaluations."
            return ScanVerdict(title=title, details=(_LUCK,), command=f"mergeboard resume {confirming.id}")
        title = f"Confirming {what}: {counts.done:,} of {counts.total:,} evaluations are done."
        return ScanVerdict(title=title, details=(_LUCK,))
    try:
        stored = data.fixed(stored_confirmation, pages, scan, data.settings().home)
    except EvaluationError as error:
        return ScanVerdict(title=f"The confirmation cannot be read: {error}", details=(_LUCK,))
    if stored is None:
        title = "The confirmation has no result: its evaluations failed."
        return ScanVerdict(title=title, details=(_LUCK,), command=f"mergeboard status {confirming.id}")
    base = data.fixed(pages.base_of, confirming.id)
    return confirmed_verdict(stored, (base.layers if base else None) or 0)


def _unconfirmed(pages: Pages, runs: list[RunRecord], tried: int) -> ScanVerdict:
    counts = [data.live(pages.progress, run.id) for run in runs]
    done, total = sum(c.done for c in counts), sum(c.total for c in counts)
    stopped = next((run for run in runs if run.state is RunState.INTERRUPTED), None)
    if stopped is not None:
        title = f"The search was interrupted after {done:,} of {total:,} evaluations."
        return ScanVerdict(title=title, details=(_LUCK,), command=going_on(stopped))
    if any(run.state not in ENDED for run in runs):
        title = f"Searching: {done:,} of {total:,} evaluations of {tried:,} layer paths are done."
        return ScanVerdict(title=title, details=(_LUCK,))
    title = f"Not confirmed: the {tried:,} layer paths were measured on the search set alone."
    command = runs[0].provenance.command if runs else ""
    if not command.startswith(("mergeboard scan ", "mergeboard search ")):
        return ScanVerdict(title=title, details=(_LUCK, "A scan with --top confirms its best paths."))
    return ScanVerdict(
        title=title, details=(_LUCK, "The same command again confirms its best paths:"), command=command
    )


def confirmed_verdict(found: Confirmation, n_layers: int) -> ScanVerdict:
    """The verdict of a complete confirmation."""
    tried = f"{len(found.paths):,} best of {found.n_tried:,} layer paths"
    real = [path for path in found.paths if path.finding is Finding.REAL]
    if real:
        verb = "is" if len(real) == 1 else "are"
        title = f"▲ {len(real)} of the {tried} {verb} confirmed better on the confirmation set: {_named(real, n_layers)}."
    else:
        title = f"Nothing here is real: none of the {tried} keeps its gain on the confirmation set."
    details = [
        f"Their mean gain was {found.shrinkage.search_mean:+z.3f} on the search set and is "
        f"{found.shrinkage.confirmation_mean:+z.3f} on the confirmation set; a true gain below "
        f"{found.detectable:.3f} would have been missed."
    ]
    for finding, words in (
        (Finding.SUGGESTIVE, "△ Suggestive, worth more questions"),
        (Finding.WORSE, "▼ Confirmed worse"),
    ):
        paths = [path for path in found.paths if path.finding is finding]
        if paths:
            details.append(f"{words}: {_named(paths, n_layers)}.")
    return ScanVerdict(title=title, details=tuple(details), confirmation=found)


def _named(paths: list[ConfirmedPath], n_layers: int) -> str:
    names = [
        f"{LayerPath.of_validated(p.layers, n_layers).label} {p.confirmation.delta:+z.3f}"
        for p in sorted(paths, key=lambda p: -p.confirmation.delta)[:_MOST_NAMED]
    ]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")


def link_confirmed_benchmarks(pages: Pages, scan: ScanRuns | None) -> None:
    """Draw a link to the benchmark scores of a scan's best paths, if its confirmation has some (`--confirm-suite`)."""
    if scan is None or scan.confirmation is None:
        return
    columns = tuple(c for c in data.fixed(pages.columns, scan.confirmation) if c.suite != PROBE_SUITE)
    if columns:
        address.link(
            View.LEADERBOARD, f"Its best paths on {escaped(suites_of(columns), 80)}", run=scan.confirmation
        )


def show_scan_verdict(verdict: ScanVerdict, warning: str | None) -> None:
    """Draw the verdict of a scan."""
    with st.container(key="run_verdict", gap="xxsmall"):
        if warning:
            st.badge(escaped(warning, 80), color="orange")
        st.markdown(f"**{escaped(verdict.title, 600)}**")
        if verdict.details:
            st.caption(escaped(" ".join(verdict.details), 900))
        if verdict.command:
            show_code(verdict.command)
