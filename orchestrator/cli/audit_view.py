"""What `audit` prints and writes: the board of verdicts as a table, a page and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evals.claims.facts import Fact
from evals.claims.records import CardCheck, CheckOutcome, VerdictKind
from orchestrator.display.format import UNKNOWN, moment
from orchestrator.display.text_safety import line
from orchestrator.report.page import (
    LineList,
    ReportBlock,
    ReportCell,
    ReportColumn,
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
from orchestrator.reproduce.audit import AuditBoard, AuditedCard, AuditedClaim, AuditedResults
from orchestrator.version import version_text
from recipes.atomic_file import write_file

_KINDS = (*VerdictKind, None)
_TONES = {
    VerdictKind.REPRODUCED: ReportTone.HOLDS,
    VerdictKind.NOT_REPRODUCED: ReportTone.FAILS,
    VerdictKind.NOT_COMPARABLE: ReportTone.REFUSED,
    VerdictKind.IMPOSSIBLE: ReportTone.FAILS,
    None: ReportTone.PLAIN,
}
_CHECKS = {
    CheckOutcome.FAILS: ReportTone.FAILS,
    CheckOutcome.NOTE: ReportTone.PLAIN,
    CheckOutcome.HOLDS: ReportTone.HOLDS,
}
_UNCHECKED = "not checked"
_MOST_SECTIONS = 500
_MOST_CLAIMS = 400
_SHOWN_FACTS = (Fact.SHOTS, Fact.PROTOCOL, Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION, Fact.LIMIT)


def show_audit(board: AuditBoard, console: Console, written: Sequence[Path]) -> None:
    """The board in the terminal: a line per card, and the sentences of failed checks."""
    table = Table(title=_headline(board), title_justify="left", box=None, header_style="bold")
    table.add_column("card", no_wrap=True)
    for column in ("claims", *map(_name, _KINDS), "failed checks"):
        table.add_column(column, justify="right")
    for column in ("jobs left", "GPU-hours"):
        table.add_column(column, justify="right")
    for card in board.cards:
        counts = [str(card.count(kind) or UNKNOWN) for kind in _KINDS]
        cost = card.cost
        jobs = str(cost.jobs) if cost is not None and cost.jobs else UNKNOWN
        gpu_hours = f"{cost.gpu_hours:.2f}" if cost is not None and cost.jobs and cost.gpu_hours else UNKNOWN
        name = line(card.file, 80)
        table.add_row(name, str(len(card.claims)), *counts, str(card.failed or UNKNOWN), jobs, gpu_hours)
    console.print(table)
    for card in board.cards:
        if card.problem is not None:
            console.print(f"{line(card.file, 80)}: {line(card.problem, 500)}", markup=False, soft_wrap=True)
        for check in card.checks:
            if check.outcome is CheckOutcome.FAILS:
                console.print(
                    f"{line(card.file, 80)}{_where(check)}: {line(check.sentence, 500)}",
                    markup=False,
                    soft_wrap=True,
                )
    for text in (*board.notes, *(f"Written: {path}" for path in written)):
        console.print(text, markup=False, soft_wrap=True)


def written_json(board: AuditBoard, path: Path) -> None:
    """Write the board as JSON. Raises OSError."""
    write_file(path, board.model_dump_json(indent=2).encode("utf-8", "replace"))


def audit_page(board: AuditBoard) -> ReportPage:
    """The board as one page: a table of all cards, then each card with its claims and findings."""
    sections = [_overview(board)]
    shown = [card for card in board.cards if card.claims or card.checks or card.problem][:_MOST_SECTIONS]
    sections += [_card_section(number, card) for number, card in enumerate(shown)]
    if board.results:
        sections.append(_results_section(board.results))
    notices = [ReportLine(text=note) for note in board.notes]
    return ReportPage(
        kind=ReportKind.AUDIT,
        title=f"Audit of {line(Path(board.folder).name or board.folder)}",
        subtitle=f"{len(board.cards)} cards · {sum(len(c.claims) for c in board.cards)} claims · {len(board.results)} result files",
        made_at=datetime.now(UTC),
        notices=tuple(notices),
        verdict=_verdict(board),
        sections=tuple(sections),
        made_by=version_text(),
    )


def _headline(board: AuditBoard) -> str:
    total = sum(len(card.claims) for card in board.cards)
    counts = [f"{n} {_name(kind)}" for kind in _KINDS if (n := board.count(kind))]
    listed = f": {', '.join(counts)}" if counts else ""
    return f"{len(board.cards)} {'card' if len(board.cards) == 1 else 'cards'}, {total} {'claim' if total == 1 else 'claims'}{listed}"


def _verdict(board: AuditBoard) -> ReportVerdict:
    failed = sum(card.failed for card in board.cards)
    lines = [
        ReportLine(
            text=f"{line(card.name or card.file, 80)}: {claim.claim.title} is impossible: {claim.verdict.reason}.",
            tone=ReportTone.FAILS,
        )
        for card in board.cards
        for claim in card.claims
        if claim.verdict is not None and claim.verdict.kind is VerdictKind.IMPOSSIBLE
    ][:20]
    clean = sum(not card.failed and card.problem is None for card in board.cards)
    lines.append(
        ReportLine(text=f"{failed} checks failed; {clean} of {len(board.cards)} cards have no failed check.")
    )
    tone = ReportTone.FAILS if failed or board.count(VerdictKind.NOT_REPRODUCED) else ReportTone.PLAIN
    return ReportVerdict(headline=f"{_headline(board)}.", tone=tone, lines=tuple(lines))


def _overview(board: AuditBoard) -> ReportSection:
    columns = [
        ReportColumn(title="Claims", help="Scores that the card states for its own model.", narrow=True)
    ]
    columns += [
        ReportColumn(title=_name(kind).capitalize(), narrow=kind is VerdictKind.IMPOSSIBLE) for kind in _KINDS
    ]
    columns += [
        ReportColumn(title="Failed checks", help="Findings that need no run.", narrow=True),
        ReportColumn(title="Jobs", help="Evaluations and builds that the rest takes."),
        ReportColumn(title="GPU-hours", help="Estimate for the rest; – if unknown."),
    ]
    rows = [_overview_row(card) for card in board.cards]
    groups = (
        ("failed", "With failed checks"),
        ("sound", "Without failed checks"),
        ("empty", "Without claims"),
        ("unread", "Not read"),
    )
    filters = [
        ReportFilter(key=key, label=label, count=count)
        for key, label in groups
        if (count := sum(row.group == key for row in rows))
    ]
    table = ReportTable(
        caption="The cards, with their claims by verdict and what checking the rest takes.",
        first="Card",
        columns=tuple(columns),
        rows=tuple(rows),
        filters=tuple(filters),
    )
    intro = "Impossible: no run on that many questions can give the score. Not checked: nothing was measured for the claim yet."
    return ReportSection(key="cards", title="Cards", intro=intro, blocks=(table,))


def _overview_row(card: AuditedCard) -> ReportRow:
    cost = card.cost
    counts = [_number_cell(card.count(kind), _TONES[kind]) for kind in _KINDS]
    gpu_hours = cost.gpu_hours if cost is not None and cost.jobs else None
    cells = [
        _number_cell(len(card.claims), ReportTone.PLAIN),
        *counts,
        _number_cell(card.failed, ReportTone.FAILS),
        _number_cell(cost.jobs if cost is not None else 0, ReportTone.PLAIN),
        ReportCell(text=UNKNOWN if gpu_hours is None else f"{gpu_hours:.2f}", value=gpu_hours),
    ]
    group = "unread" if card.problem else ("failed" if card.failed else ("sound" if card.claims else "empty"))
    return ReportRow(
        name=line(card.name or card.file, 80), remark=line(card.file, 80), cells=tuple(cells), group=group
    )


def _number_cell(number: int, tone: ReportTone) -> ReportCell:
    return ReportCell(
        text=str(number) if number else UNKNOWN, value=number, tone=tone if number else ReportTone.PLAIN
    )


def _card_section(number: int, card: AuditedCard) -> ReportSection:
    blocks: list[ReportBlock] = []
    if card.claims:
        blocks.append(_claims_table(card.claims))
    order = list(_CHECKS)
    checks = sorted(card.checks, key=lambda c: order.index(c.outcome))
    lines = [ReportLine(text=f"{line(c.sentence, 600)}{_where(c)}", tone=_CHECKS[c.outcome]) for c in checks]
    if card.problem is not None:
        lines.insert(0, ReportLine(text=line(card.problem, 500), tone=ReportTone.WARNING))
    if card.cost is not None and card.claims:
        lines.append(ReportLine(text=f"To check the rest: {card.cost.sentence}"))
    if card.reproduced_at is not None:
        lines.append(ReportLine(text=f"Last reproduced {moment(card.reproduced_at)}."))
    if lines:
        blocks.append(LineList(lines=tuple(lines)))
    bases = f" · made from {', '.join(line(b, 60) for b in card.bases[:4])}" if card.bases else ""
    return ReportSection(
        key=f"card-{number}",
        title=line(card.name or card.file, 100),
        intro=f"{line(card.file, 120)}{bases}",
        blocks=tuple(blocks),
    )


def _claims_table(claims: Sequence[AuditedClaim]) -> ReportTable:
    columns = (
        ReportColumn(title="Claimed", narrow=True),
        ReportColumn(title="Measured"),
        ReportColumn(title="Metric", numeric=False),
        ReportColumn(title="Conditions", numeric=False),
        ReportColumn(title="Verdict", numeric=False, narrow=True),
    )
    more = (
        f"{len(claims) - _MOST_CLAIMS:,} more claims are in the JSON file."
        if len(claims) > _MOST_CLAIMS
        else ""
    )
    return ReportTable(
        caption="What the card claims of its own model.",
        first="Benchmark",
        columns=columns,
        rows=tuple(map(_claim_row, claims[:_MOST_CLAIMS])),
        notes=(more,) if more else (),
    )


def _claim_row(audited: AuditedClaim) -> ReportRow:
    claim, verdict = audited.claim, audited.verdict
    kind = verdict.kind if verdict is not None else None
    conditions = [f"{fact} {value}" for fact in _SHOWN_FACTS if (value := claim.facts.get(fact)) is not None]
    conditions += [f"{claim.n:,} questions"] if claim.n is not None else []
    known = "" if claim.suite or claim.known_as or claim.benchmark is None else "unknown benchmark"
    cells = (
        ReportCell(text=f"{claim.value:g}{' %' if claim.in_percent else ''}", value=claim.value),
        ReportCell(
            text=UNKNOWN if verdict is None or verdict.measured is None else f"{verdict.measured:.2f}",
            value=verdict.measured if verdict is not None else None,
        ),
        ReportCell(text=line(claim.metric or UNKNOWN, 40)),
        ReportCell(text=line(", ".join(conditions) or UNKNOWN, 160)),
        ReportCell(
            text=f"{_name(kind)}{f' ({audited.judged_by})' if audited.judged_by else ''}",
            tone=_TONES[kind],
            hint=line(verdict.reason, 500) if verdict is not None else "",
        ),
    )
    name = claim.known_as or claim.title
    return ReportRow(name=line(name, 80), remark=line(claim.suite or known, 60), cells=cells)


def _results_section(results: Sequence[AuditedResults]) -> ReportSection:
    columns = (
        ReportColumn(title="Checkpoint", numeric=False, narrow=True),
        ReportColumn(title="Benchmarks"),
        ReportColumn(title="Cards that it judges", numeric=False),
    )
    rows = [
        ReportRow(
            name=line(r.file, 100),
            remark=line(r.problem or "", 200),
            cells=(
                ReportCell(text=line(r.checkpoint or UNKNOWN, 80)),
                ReportCell(text=str(len(r.benchmarks)), value=len(r.benchmarks)),
                ReportCell(text=line(", ".join(r.cards) or UNKNOWN, 160)),
            ),
        )
        for r in results
    ]
    table = ReportTable(
        caption="Result files in the folder.", first="File", columns=columns, rows=tuple(rows)
    )
    return ReportSection(key="results", title="Result files", blocks=(table,))


def _where(check: CardCheck) -> str:
    return f" (line {check.line})" if check.line is not None else ""


def _name(kind: VerdictKind | None) -> str:
    return kind.value if kind is not None else _UNCHECKED
