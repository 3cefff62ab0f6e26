"""The report of a scan or a search: what the confirmation shows, the map of all blocks, and the ranking of the search set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evals.errors import EvaluationError
from evals.layer_visits import VisitPath
from evals.probes import (
    Confirmation,
    Finding,
    Measured,
    PathValues,
    Ranking,
    RankMethod,
    Scoring,
    Split,
    confirm,
    get_probe,
    rank,
)
from evals.probes.race import Race
from evals.stats import Delta
from orchestrator.compare.races import race_of_run
from orchestrator.compare.run_comparisons import results_of_run, run_comparisons
from orchestrator.display.text_safety import line
from orchestrator.errors import RunError
from orchestrator.report.methods import (
    methods_section,
    provenance_facts,
    repeat_section,
    run_facts,
)
from orchestrator.report.notices import run_notices
from orchestrator.report.page import (
    CodeText,
    ReportFact,
    ReportKind,
    ReportLine,
    ReportPage,
    ReportSection,
    ReportTone,
    ReportVerdict,
)
from orchestrator.report.race_table import race_table
from orchestrator.report.request import ReportRequest
from orchestrator.report.scan_blocks import (
    benchmark_block,
    confirmation_block,
    level_block,
    map_blocks,
    ranking_block,
)
from orchestrator.report.scan_runs import ProbeScan, labels_of, rank_method, read_measured, scan_of_run
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord
from orchestrator.version import version_text
from recipes.errors import RecipeError
from recipes.yaml_text import load_yaml

SCORING = Scoring.CORRECTED
_SCORING_TEXT = "corrected scoring of the answers; a probe's value is a fraction of 1, no benchmark score"


@dataclass(frozen=True)
class ScanResult:
    """What a scan measured and showed."""

    scan: ProbeScan
    searched: list[Measured]
    confirmed: list[Measured]
    ranking: Ranking
    confirmation: Confirmation | None
    race: Race | None = None


def scan_report(
    store: Pages, run: RunRecord, request: ReportRequest, home: Path, *, now: datetime
) -> ReportPage:
    """The report of the scan or search that a run is a part of. Raises RunError if the checkpoint itself has no value yet."""
    result = read_scan(store, run, home)
    scan = result.scan
    checkpoint = line(_checkpoint(scan.runs[0]) or scan.runs[0].name, 80)
    kind = ReportKind.SEARCH if len(scan.searches) > 1 else ReportKind.SCAN
    title = f"{'Search over layer paths' if kind is ReportKind.SEARCH else 'Layer scan'} of {checkpoint}"
    return ReportPage(
        kind=kind,
        title=title,
        subtitle=f"{len(scan.tried):,} layer paths over {scan.n_layers} layers · {', '.join(result.ranking.probes)}",
        made_at=now,
        notices=(
            *(notice for part in scan.runs for notice in run_notices(store, part)),
            ReportLine(
                text="Probes, no benchmarks: small sets of questions that screen layer paths. Their values are no leaderboard scores.",
                tone=ReportTone.WARNING,
            ),
        ),
        verdict=scan_verdict(result),
        sections=tuple(_sections(result, request, checkpoint)),
        made_by=version_text(),
    )


def read_scan(store: Pages, run: RunRecord, home: Path) -> ScanResult:
    """The scan of a run with its ranking and confirmation, as `mergeboard scan` computes them."""
    scan = scan_of_run(store, run)
    base = tuple(range(scan.n_layers))
    searched = read_measured(store, scan.searches, Split.SEARCH, home)
    parts = [scan.confirmation] if scan.confirmation is not None else []
    confirmed = read_measured(store, parts, Split.CONFIRMATION, home)
    if not searched or searched[0].layers != base:
        raise RunError(
            f"Run {run.id} has no value of the unmodified checkpoint on the search set yet; every path is compared with it. "
            f"`mergeboard status {run.id}` says why."
        )
    probes = tuple(result.key for result in searched[0].results)
    table = [
        PathValues(layers=path.layers, values={r.key: r.value(SCORING) for r in path.results})
        for path in searched
    ]
    first = scan.searches[0].run
    race = race_of_run(store, first, home)
    method = rank_method(first, home) if race is None else race.plan.rank
    ranking = rank(table, probes, scan.n_layers, method, race.spreads if race is not None else None)
    tried = {path.layers for path in searched}
    usable = [path for path in confirmed if path.layers in tried]
    confirmation = None
    if len(usable) > 1 and any(path.layers == base for path in usable):
        early = race.early_gains if race is not None else ()
        confirmation = _confirm(store, scan, searched, usable, ranking, early, home)
    return ScanResult(scan, searched, usable, ranking, confirmation, race)


def _confirm(
    store: Pages,
    scan: ProbeScan,
    searched: Sequence[Measured],
    confirmed: Sequence[Measured],
    ranking: Ranking,
    early: Sequence[tuple[float, float]],
    home: Path,
) -> Confirmation:
    assert scan.confirmation is not None
    names = [result.probe for path in (searched[0], confirmed[0]) for result in path.results]
    weights = _weights(ranking) if ranking.method is RankMethod.BALANCED_Z else None
    return confirm(
        searched,
        confirmed,
        scan.n_layers,
        SCORING,
        weights=weights,
        n_tried=len(scan.tried),
        benchmarks=_benchmark_deltas(store, scan, home),
        levels={name: get_probe(name).levels() for name in names},
        early=early,
    )


def _benchmark_deltas(store: Pages, scan: ProbeScan, home: Path) -> Mapping[VisitPath, Mapping[str, Delta]]:
    """Differences of the confirmed paths on benchmarks, if any were scored."""
    assert scan.confirmation is not None
    results = results_of_run(store, scan.confirmation.run.id)
    paths = {c.name: c.layer_path for c in scan.confirmation.candidates if c.layer_path is not None}
    deltas: dict[VisitPath, dict[str, Delta]] = {}
    for comparison in run_comparisons(results, home) if results else ():
        layers = paths.get(comparison.candidate)
        if layers is not None:
            rows = {row.title: row.delta for row in comparison.rows if row.delta is not None}
            deltas.setdefault(layers, {}).update(rows)
    return deltas


def _weights(ranking: Ranking) -> dict[str, float]:
    """Weights of the probes for which the mean gain ranks paths as the balanced z does: one over each spread."""
    return {name: 1.0 / spread if spread > 1e-12 else 1.0 for name, spread in ranking.spreads.items()}


def scan_verdict(result: ScanResult) -> ReportVerdict:
    """What a scan shows: nothing without a confirmation."""
    confirmation = result.confirmation
    n_tried = len(result.scan.tried)
    if confirmation is None:
        text = "The best of so many paths is the best by luck as well; `mergeboard scan` confirms the best on other questions."
        return ReportVerdict(
            headline=f"Nothing is confirmed: {n_tried:,} paths were tried on the search set only.",
            tone=ReportTone.HINT,
            lines=(ReportLine(text=text),),
        )
    labels = labels_of((path.layers for path in confirmation.paths), result.scan.n_layers)
    lines = [ReportLine(text=confirmation.conclusion.replace(" -", " \N{MINUS SIGN}"))]
    for path in confirmation.paths:
        if path.finding in (Finding.REAL, Finding.WORSE):
            tone = ReportTone.BETTER if path.finding is Finding.REAL else ReportTone.WORSE
            gain = path.confirmation
            text = (
                f"{labels[path.layers].label}: {gain.delta:+z.3f} on the confirmation set, 95 % interval "
                f"{gain.interval.low:+z.3f} to {gain.interval.high:+z.3f}"
            )
            lines.append(ReportLine(text=text.replace(" -", " \N{MINUS SIGN}"), tone=tone))
    if not confirmation.real:
        return ReportVerdict(
            headline=f"Nothing here is real: none of the {len(confirmation.paths)} best of {n_tried:,} paths keeps its gain.",
            lines=tuple(lines),
        )
    count = len(confirmation.real)
    headline = (
        f"{count} of the {len(confirmation.paths)} best of {n_tried:,} paths {'has' if count == 1 else 'have'} a real gain: "
        f"{', '.join(labels[path.layers].label for path in confirmation.real[:4])}{', …' if count > 4 else ''}."
    )
    return ReportVerdict(headline=headline, tone=ReportTone.BETTER, lines=tuple(lines))


def _sections(result: ScanResult, request: ReportRequest, checkpoint: str) -> list[ReportSection]:
    sections = []
    found, n_layers = result.confirmation, result.scan.n_layers
    if found is not None:
        blocks = [confirmation_block(found, n_layers), *benchmark_block(found, n_layers)]
        intro = (
            "Gain over the unmodified checkpoint on questions that were not used to choose the paths. real: p x "
            f"{found.n_tried:,} tried paths is at most {found.alpha}; suggestive: only the correction for the {len(found.paths)} "
            "confirmed ones; worse: the same for a loss."
        )
        sections.append(
            ReportSection(key="confirmation", title="Confirmation", intro=intro, blocks=tuple(blocks))
        )
    maps = map_blocks(result.searched, result.ranking, found, n_layers)
    if maps:
        intro = (
            "Difference to the unmodified checkpoint on the search set; colours are centred on it. "
            "Outlined: confirmed paths, dashed where no gain is real."
        )
        sections.append(ReportSection(key="map", title="Map of all blocks", intro=intro, blocks=tuple(maps)))
    if result.race is not None:
        intro = (
            f"Paths that cannot be among the best {result.race.plan.keep} any more were not asked further questions: the probability that any of "
            f"the best left is at most {result.race.plan.error_rate:g}, over all paths and looks. They have no value, and none is shown."
        )
        sections.append(
            ReportSection(key="race", title="Race", intro=intro, blocks=(race_table(result.race),))
        )
    sections.append(
        ReportSection(
            key="ranking",
            title="Ranking on the search set",
            intro="Picked by luck as well: a path is believed only after its confirmation.",
            blocks=(ranking_block(result.searched, result.ranking, found, n_layers),),
        )
    )
    sections.append(
        ReportSection(
            key="levels",
            title="Null levels",
            intro="What answers without knowledge get, beside the checkpoint.",
            blocks=(level_block(result.searched[0], result.ranking),),
        )
    )
    sections.append(methods_section(*_methods(result)))
    repeat = repeat_section(result.scan.runs, request.command)
    build = _build_command(result, checkpoint)
    sections.append(repeat.model_copy(update={"blocks": (build, *repeat.blocks)}) if build else repeat)
    return sections


def _methods(result: ScanResult) -> list[Sequence[ReportFact]]:
    first = result.scan.searches[0]
    sizes = [f"{r.key} ({len(r.items)} questions)" for r in result.searched[0].results]
    n_left = len(result.race.left) if result.race is not None else 0
    failed = len(result.scan.tried) + 1 - len(result.searched) - n_left
    facts = [
        ReportFact(name="Probes, search set", value="; ".join(sizes)),
        ReportFact(name="Scoring", value=_SCORING_TEXT),
        ReportFact(name="Ranking", value=f"{result.ranking.method} over {len(result.ranking.probes)} probes"),
        ReportFact(name="Not measured", value=f"{failed:,} of {len(result.scan.tried):,} paths"),
    ]
    if result.race is not None:
        rate = f"error rate {result.race.plan.error_rate:g} over all paths and looks"
        facts.append(
            ReportFact(
                name="Race",
                value=f"for the best {result.race.plan.keep}, {rate}: {result.race.sentence}; paths that left have no value",
            )
        )
    if result.confirmation is not None:
        sizes = [f"{r.key} ({len(r.items)} questions)" for r in result.confirmed[0].results]
        facts += [
            ReportFact(name="Probes, confirmation set", value="; ".join(sizes)),
            ReportFact(
                name="Test",
                value="t-test on the differences of single questions, stratified by probe; one-sided against 'no gain' (worse: 'no loss')",
            ),
            ReportFact(
                name="Correction",
                value=f"Bonferroni: p times the {result.confirmation.n_tried:,} paths tried",
            ),
        ]
    engine = first.jobs[0].engine
    settings = [
        ReportFact(name="Engine", value=f"{engine.kind} {engine.version}, {engine.dtype}"),
        ReportFact(name="Chat template", value=str(first.jobs[0].settings.chat_template)),
    ]
    runs = [fact for run in result.scan.runs for fact in run_facts(run)]
    return [facts, settings, provenance_facts(result.scan.runs[0].provenance), runs]


def _build_command(result: ScanResult, checkpoint: str) -> CodeText | None:
    """The command that builds the best path: of the real ones, else of the ranking."""
    confirmation = result.confirmation
    real = confirmation.real if confirmation is not None else ()
    paths = [path.layers for path in real] or [path.layers for path in result.ranking.paths[:1]]
    if not paths:
        return None
    label = labels_of(paths[:1], result.scan.n_layers)[paths[0]].label
    command = f"mergeboard build {shlex.quote(label)} --base {shlex.quote(checkpoint)} --out path"
    title = (
        "Build the best real path"
        if real
        else "Build the first of the ranking (its gain is not shown to be real)"
    )
    return CodeText(title=title, text=command)


def _checkpoint(run: RunRecord) -> str | None:
    """The scanned checkpoint in a run's sweep; None if it cannot be read."""
    try:
        sweep = load_yaml(run.sweep, "sweep").data
    except (RecipeError, EvaluationError):
        return None
    base = sweep.get("base") if isinstance(sweep, dict) else None
    return base if isinstance(base, str) else None
