"""The report of a search over merges: the verdict, the confirmation against every parent, all merges, and the pictures."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Sequence
from datetime import datetime

from evals.probes import Finding
from orchestrator.charts import Theme, image_bytes
from orchestrator.charts.merge_images import merge_pictures
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import line
from orchestrator.report.methods import methods_section, provenance_facts, repeat_section, run_facts
from orchestrator.report.notices import run_notices
from orchestrator.report.page import (
    CodeText,
    DeltaLine,
    DeltaTable,
    ReportCell,
    ReportColumn,
    ReportFact,
    ReportKind,
    ReportLine,
    ReportPage,
    ReportPicture,
    ReportRow,
    ReportSection,
    ReportTable,
    ReportTone,
    ReportVerdict,
)
from orchestrator.report.request import ReportRequest
from orchestrator.store.merge_report import ConfirmedMerge, SearchView
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord
from orchestrator.store.trial_records import Arm
from orchestrator.version import version_text

_TONES = {
    Finding.REAL: ReportTone.BETTER,
    Finding.SUGGESTIVE: ReportTone.HINT,
    Finding.NOT_CONFIRMED: ReportTone.PLAIN,
    Finding.WORSE: ReportTone.WORSE,
}
_TITLES = {
    "progress": "Best merge so far against cost",
    "objectives": "Objectives of every merge, with the Pareto front",
    "parameters": "Parameters against value",
    "importance": "Which parameter matters",
    "gradients": "Weights by layer",
}


def merge_search_report(
    store: Pages, run: RunRecord, view: SearchView, request: ReportRequest, *, now: datetime
) -> ReportPage:
    """The report of a search, finished or not."""
    report = view.report
    objectives = ", ".join(objective.name for objective in report.objectives)
    return ReportPage(
        kind=ReportKind.SEARCH,
        title=f"Search over merges: {line(report.name, 80)}",
        subtitle=f"{len(view.trials):,} merges · {report.sampler}, {report.budget} · {line(objectives, 200)}",
        made_at=now,
        notices=(
            *run_notices(store, run),
            ReportLine(
                text="Values are fractions of 1 on small sets of questions; they are no leaderboard scores.",
                tone=ReportTone.WARNING,
            ),
        ),
        verdict=_verdict(view),
        sections=tuple(_sections(view, run, request)),
        made_by=version_text(),
    )


def _verdict(view: SearchView) -> ReportVerdict:
    report = view.report
    conclusion = report.conclusion.replace(" -", " \N{MINUS SIGN}")
    headline, _, rest = conclusion.partition(": " if conclusion.startswith("No merge") else ". ")
    winning = report.winning
    better = winning is not None and any(
        merge.finding is Finding.REAL for merge in (report.confirmation.merges if report.confirmation else ())
    )
    tone = ReportTone.BETTER if better else ReportTone.PLAIN if report.confirmation else ReportTone.HINT
    lines = [ReportLine(text=rest[:1].upper() + rest[1:])] if rest else []
    return ReportVerdict(headline=f"{headline.rstrip('.')}.", tone=tone, lines=tuple(lines))


def _sections(view: SearchView, run: RunRecord, request: ReportRequest) -> list[ReportSection]:
    sections = []
    if view.report.confirmation is not None:
        sections.append(_confirmation(view))
    pictures = [
        ReportPicture(
            title=f"{_TITLES[name]}, {line(view.report.name, 80)}",
            png=base64.b64encode(image_bytes(image())).decode("ascii"),
        )
        for name, image, _ in merge_pictures(view, Theme.LIGHT)
    ]
    if pictures:
        intro = "Values of the search set: the best of many is the best by luck as well."
        sections.append(ReportSection(key="pictures", title="Pictures", intro=intro, blocks=tuple(pictures)))
    intro = (
        "On the questions by which merges were proposed and picked; base, parents and plain average on top."
    )
    if view.stopped is not None:
        intro += f" {line(view.stopped, 400)}"
    sections.append(ReportSection(key="merges", title="All merges", intro=intro, blocks=(_merges(view),)))
    sections.append(methods_section(_facts(view), provenance_facts(run.provenance), run_facts(run)))
    repeat = repeat_section([run], request.command)
    return [*sections, repeat.model_copy(update={"blocks": (*_build(view), *repeat.blocks)})]


def _confirmation(view: SearchView) -> ReportSection:
    """The confirmed merges against each reference, as forest plots."""
    c, parent = view.report.confirmation, view.report.better_parent
    assert c is not None
    assert parent is not None
    tables = [
        DeltaTable(
            caption=f"Difference to {reference.name}{' (the better parent)' if reference.name == parent.name else ''}",
            first="Merge",
            headings=(line(reference.name, 40), "Merge"),
            flips="Questions",
            p_heading="p",
            decimals=3,
            unit="of 1",
            rows=tuple(_delta(view, merge, reference.name) for merge in c.merges),
        )
        for reference in sorted(view.report.references, key=lambda r: r.name != parent.name)
        if all(reference.name in merge.gains for merge in c.merges)
    ]
    intro = (
        f"{c.n_questions} questions that the search did not ask. real: better than every parent with p x {c.n_tried:,} merges tried at "
        "most 0.05; suggestive: only after the correction for the confirmed ones."
    )
    return ReportSection(key="confirmation", title="Confirmation", intro=intro, blocks=tuple(tables))


def _delta(view: SearchView, merge: ConfirmedMerge, reference: str) -> DeltaLine:
    gain = merge.gains[reference]
    values = next(r.confirmed for r in view.report.references if r.name == reference) or ()
    by = "" if merge.arm is Arm.SEARCH else f" ({merge.arm})"
    return DeltaLine(
        label=f"trial {merge.number}{by}",
        base=f"{view.report.together(values):.3f}" if values else "",
        candidate=f"{view.report.together(merge.confirmed):.3f}",
        delta=gain.delta,
        low=gain.interval.low,
        high=gain.interval.high,
        p=p_value(gain.p),
        flips=str(gain.n),
        tone=_TONES[merge.finding],
        word=str(merge.finding),
    )


def _merges(view: SearchView) -> ReportTable:
    report = view.report
    names = [objective.name for objective in report.objectives]
    columns = [ReportColumn(title="Method", numeric=False)]
    columns += [ReportColumn(title=name, narrow=len(names) == 1) for name in names]
    if len(names) > 1:
        columns.append(ReportColumn(title="Together", narrow=True, help="Weighted mean of the objectives."))
    columns += [
        ReportColumn(title=parameter.label or parameter.name, numeric=parameter.low is not None)
        for parameter in report.parameters
    ]
    blank = [ReportCell(text="")] * len(report.parameters)
    rows = [
        ReportRow(
            name=reference.name,
            cells=(
                ReportCell(text="parent" if reference.is_parent else "average"),
                *_cells(view, reference.objectives),
                *blank,
            ),
            pinned=True,
        )
        for reference in report.references
    ]
    ordered = sorted(view.trials, key=lambda trial: -(view.value(trial) or 0.0))
    for trial in ordered:
        values = [trial.parameters[parameter.name] for parameter in report.parameters]
        shown = [
            ReportCell(
                text=f"{v:.4g}" if isinstance(v, float) else str(v), value=float(v) if _is_number(v) else None
            )
            for v in values
        ]
        rows.append(
            ReportRow(
                name=trial.candidate,
                cells=(ReportCell(text=str(trial.arm)), *_cells(view, trial.objectives), *shown),
                remark="" if trial.message is None else line(trial.message, 120),
            )
        )
    return ReportTable(
        caption="Merges",
        first="Merge",
        columns=tuple(columns),
        rows=tuple(rows),
        sorted_by=len(names) if len(names) == 1 else len(names) + 1,
    )


def _cells(view: SearchView, values: Sequence[float] | None) -> list[ReportCell]:
    count = len(view.report.objectives)
    if values is None:
        return [ReportCell(text="–")] * (count + (count > 1))
    shown = [*values, *([view.report.together(values)] if count > 1 else [])]
    return [ReportCell(text=f"{value:.4f}", value=value) for value in shown]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _facts(view: SearchView) -> list[ReportFact]:
    report = view.report
    weights = "; ".join(f"{objective.name} x {objective.weight:g}" for objective in report.objectives)
    methods = "; ".join(
        f"{arm}: {len(trials):,} merges, {sum(t.cost_s or 0.0 for t in trials):,.0f} s"
        for arm in Arm
        if (trials := [t for t in view.trials if t.arm is arm])
    )
    return [
        ReportFact(name="Objectives", value=weights + (" (Pareto front)" if report.pareto else "")),
        ReportFact(
            name="Proposals", value=f"{report.sampler}, seed {report.seed}, {report.parallel} in work at once"
        ),
        ReportFact(name="Cost", value=methods or "nothing yet"),
        ReportFact(
            name="Test",
            value="t-test on the differences of single questions, stratified by objective; one-sided, the largest p over the parents",
        ),
    ]


def _build(view: SearchView) -> list[CodeText]:
    """The command that builds the winner."""
    if view.report.winner is None:
        return []
    place = f"searches/{view.report.run_id}/winner.yaml"
    title = f"Build trial {view.report.winner}, which did best on the other questions (from MERGEBOARD_HOME)"
    return [CodeText(title=title, text=f"mergeboard build {shlex.quote(place)} --out merge")]
