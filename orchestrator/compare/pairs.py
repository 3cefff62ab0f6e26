"""Compare candidates with a base: comparability checks, paired differences and their correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.claims.facts import Fact
from evals.claims.records import Measurement
from evals.scores import Sample
from evals.stats import (
    Delta,
    PairedDraws,
    average_draws,
    delta_of,
    documents,
    has_sums,
    missing_error,
    paired_draws,
    unpaired_delta,
)
from evals.suite import Benchmark, Suite
from orchestrator.compare.comparison import Comparison, ComparisonRow
from orchestrator.compare.correction import correct
from orchestrator.compare.measurement import Side, shared_definition, under_definition

Key = tuple[str, str]  # suite and benchmark
RowKey = tuple[str, str | None]
"""Suite and benchmark of a row; no benchmark for the suite's average."""
_NO_SUITE = "unknown"


@dataclass(frozen=True)
class _Pair:
    """A row with its bootstrap draws over paired documents; `draws` is None without samples."""

    row: ComparisonRow
    draws: PairedDraws | None


def comparability(base: Measurement, candidate: Measurement) -> tuple[str, ...]:
    """Differences in the measurement conditions that forbid a comparison; empty if there are none."""
    return tuple(d.sentence() for d in base.facts.differences(candidate.facts))


def sample_differences(base: Sequence[Sample], candidate: Sequence[Sample]) -> tuple[str, ...]:
    """Differences between the questions or prompts of two sets of samples."""
    base_by_document = {(s.subset, s.doc_id): s for s in base}
    matched = [
        (base_by_document[s.subset, s.doc_id], s)
        for s in candidate
        if (s.subset, s.doc_id) in base_by_document
    ]
    if not matched:
        return ("no document is in both sets of samples",) if base and candidate else ()
    differences = []
    other_docs = sum(a.doc_hash != b.doc_hash for a, b in matched)
    other_prompts = sum(a.prompt_hash != b.prompt_hash for a, b in matched)
    if other_docs:
        differences.append(f"the questions of {other_docs} of {len(matched)} documents differ")
    elif other_prompts:
        differences.append(f"{Fact.PROMPTS}: those of {other_prompts} of {len(matched)} documents differ")
    if len(matched) < max(len(base), len(candidate)):
        differences.append(f"{Fact.LIMIT}: {len(base)} (base), {len(candidate)} (candidate)")
    return tuple(differences)


def count_differences(base: Measurement, candidate: Measurement) -> tuple[str, ...]:
    """Differences in the subsets, or in the number of documents per subset, of two sets of scores."""
    base_counts, candidate_counts = ({s.subset: s.n for s in m.scores} for m in (base, candidate))
    only = [
        (n, set(a) - set(b))
        for n, a, b in (("base", base_counts, candidate_counts), ("candidate", candidate_counts, base_counts))
    ]
    unmatched = [f"{len(tasks)} are in the {name} alone" for name, tasks in only if tasks]
    if unmatched:
        return (f"subsets: {' and '.join(unmatched)}",)
    other = [task for task in base_counts if base_counts[task] != candidate_counts[task]]
    if not other:
        return ()
    first = f"{base_counts[other[0]]} (base), {candidate_counts[other[0]]} (candidate) in {other[0]}"
    more = f" and {len(other) - 1} more subsets" if len(other) > 1 else ""
    return (f"{Fact.LIMIT}: {first}{more}",)


def compare(
    base: Sequence[Side],
    candidates: Mapping[str, Sequence[Side]],
    suites: Sequence[Suite],
    *,
    force: bool = False,
    other_candidates: int = 0,
    other_tests: int = 0,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare every candidate with the base.

    The p-values are corrected over all benchmarks and averages of the given candidates and of
    `other_candidates` further ones, and over `other_tests` tests that were made to choose them. The further
    candidates and tests are assumed to have shown no effect, which is conservative.
    """
    base_name = base[0].measurement.checkpoint if base else "base"
    uncorrected = [
        _comparison(base_name, name, _pairs(base, sides, suites, force, seed), suites)
        for name, sides in candidates.items()
    ]
    return correct(uncorrected, other_candidates=other_candidates, other_tests=other_tests)


def compare_with_draws(
    base: Sequence[Side],
    candidate: str,
    sides: Sequence[Side],
    suites: Sequence[Suite],
    *,
    force: bool = False,
    seed: int = 0,
) -> tuple[Comparison, dict[RowKey, PairedDraws]]:
    """One candidate compared with the base, uncorrected, and the draws of each row that was compared on samples.

    The draws test other hypotheses than "no difference": margins, at any level.
    """
    pairs = _pairs(base, sides, suites, force, seed)
    compared = _comparison(base[0].measurement.checkpoint if base else "base", candidate, pairs, suites)
    draws: dict[RowKey, PairedDraws] = {}
    for suite in suites:
        used = {p.row.benchmark: p.draws for p in pairs if p.row.suite == suite.name and p.draws is not None}
        draws |= {(suite.name, name): drawn for name, drawn in used.items()}
        if len(used) > 1:
            draws[suite.name, None] = average_draws(list(used.values()))
    return compared, draws


def _comparison(base: str, candidate: str, pairs: Sequence[_Pair], suites: Sequence[Suite]) -> Comparison:
    """One candidate's rows and averages, uncorrected; its draws (megabytes) are not kept."""
    return Comparison(
        base=base,
        candidate=candidate,
        rows=tuple(p.row for p in pairs),
        averages=tuple(_averages(pairs, suites)),
        n_tests=0,
    )


def _pairs(
    base: Sequence[Side], candidate: Sequence[Side], suites: Sequence[Suite], force: bool, seed: int
) -> list[_Pair]:
    """One pair per benchmark that either side has, in the suites' order."""
    left, right = _by_key(base), _by_key(candidate)
    pairs = []
    for suite in suites:
        for benchmark in suite.benchmarks:
            key = (suite.name, benchmark.name)
            if key in left or key in right:
                sides = _same_stage(left.get(key, []), right.get(key, []))
                pairs.append(_pair(suite.name, benchmark, sides, force, seed))
    defined = {(suite.name, benchmark.name) for suite in suites for benchmark in suite.benchmarks}
    undefined = [key for key in dict.fromkeys([*left, *right]) if key not in defined]
    return [*pairs, *(_pair_of_undefined(key, left, right, force, seed) for key in undefined)]


def _pair_of_undefined(
    key: Key,
    left: Mapping[Key, Sequence[Side]],
    right: Mapping[Key, Sequence[Side]],
    force: bool,
    seed: int,
) -> _Pair:
    """Compare a benchmark that no suite defines, under the definition that imported results bring."""
    base, candidate = next(iter(left.get(key, [])), None), next(iter(right.get(key, [])), None)
    definition = shared_definition(base, candidate)
    if definition is None:
        return _pair(key[0], None, (base, candidate), force, seed)
    base, candidate = (under_definition(s, definition) if s is not None else None for s in (base, candidate))
    metric = definition.metrics[0]
    named = definition.model_copy(update={"title": f"{definition.title} {metric}"})
    return _pair(key[0], named, (base, candidate), force, seed)


def _same_stage(base: Sequence[Side], candidate: Sequence[Side]) -> tuple[Side | None, Side | None]:
    """Both sides at the first scoring stage that they share; the main result of each if they share none."""
    for left in base:
        for right in candidate:
            if not left.measurement.facts.differences(right.measurement.facts, (Fact.STAGE,)):
                return left, right
    return next(iter(base), None), next(iter(candidate), None)


def _pair(
    suite: str,
    benchmark: Benchmark | None,
    sides: tuple[Side | None, Side | None],
    force: bool,
    seed: int,
) -> _Pair:
    """Compare one benchmark; `benchmark` is None if no suite defines it any more."""
    base, candidate = sides
    named_result = next(s.measurement.result for s in sides if s is not None)
    row = ComparisonRow(
        suite=suite,
        benchmark=named_result.benchmark,
        title=benchmark.title if benchmark else named_result.title,
        base=base.measurement.result.normalized if base else None,
        candidate=candidate.measurement.result.normalized if candidate else None,
        delta=None,
        notes=_notes(base, candidate),
        lower_is_better=benchmark is not None and benchmark.lower_is_better,
    )
    unnamed = _without_suite(base, candidate)
    if unnamed:
        return _Pair(row.model_copy(update={"refused": unnamed}), None)
    if base is None or candidate is None:
        return _Pair(
            row.model_copy(
                update={"refused": (f"only the {'candidate' if base is None else 'base'} has it",)}
            ),
            None,
        )
    unfit = tuple(s.unfit for s in (base, candidate) if s.unfit)
    blocking = (*_outdated(base, candidate, benchmark), *unfit)
    if blocking or benchmark is None:
        return _Pair(row.model_copy(update={"refused": blocking}), None)
    reasons = comparability(base.measurement, candidate.measurement)
    for differences in (
        count_differences(base.measurement, candidate.measurement),
        sample_differences(base.samples, candidate.samples),
    ):
        reasons += tuple(r for r in differences if not _same_kind_in(r, reasons))
    if reasons and not force:
        return _Pair(row.model_copy(update={"refused": reasons}), None)
    if unknown := _without_error(base, candidate, benchmark):
        return _Pair(row.model_copy(update={"refused": unknown}), None)
    draws, difference = _difference(benchmark, base, candidate, seed)
    notes = row.notes if draws else (*row.notes, "without samples: compared as if on different documents")
    if difference.clusters is not None:
        notes = (
            *notes,
            f"questions that share a passage, story or source are one cluster: {difference.clusters:,} clusters of "
            f"{difference.n:,} questions; interval and test are by cluster",
        )
    if draws and _same_answers(base.samples, candidate.samples):
        notes = (
            *notes,
            "every answer is the same in both, to the last digit: the same weights, or copied samples",
        )
    update = {"delta": difference, "refused": reasons, "forced": bool(reasons), "notes": notes}
    return _Pair(row.model_copy(update=update), draws)


def _without_suite(base: Side | None, candidate: Side | None) -> tuple[str, ...]:
    """Why a result cannot be compared whose suite is not recorded; `force` does not apply."""
    names = [
        n for n, side in (("base", base), ("candidate", candidate)) if side is not None and side.suite is None
    ]
    return (
        (f"{Fact.SUITE}: that of the {' and '.join(names)} is not recorded; import its files again",)
        if names
        else ()
    )


def _outdated(base: Side, candidate: Side, benchmark: Benchmark | None) -> tuple[str, ...]:
    """Why a stored score does not fit the benchmark's current definition; `force` does not apply."""
    if benchmark is None and any(side.benchmark is not None for side in (base, candidate)):
        metrics = [side.measurement.result.metric for side in (base, candidate)]
        return (f"metric: {metrics[0]} (base), {metrics[1]} (candidate), and they share none",)
    if benchmark is None:
        return (f"{Fact.DEFINITION}: no suite has it any more; the scores are shown as they were stored",)
    if base.benchmark is not None and candidate.benchmark is not None:
        return ()
    old = [name for name, side in (("base", base), ("candidate", candidate)) if side.outdated(benchmark)]
    if not old:
        return ()
    subject = f"{' and '.join(old)} {'were' if len(old) > 1 else 'was'}"
    advice = "evaluated or imported; do that again to compare"
    return (f"{Fact.DEFINITION}: it has changed since the {subject} {advice}",)


def _same_answers(base: Sequence[Sample], candidate: Sequence[Sample]) -> bool:
    """Whether two sets of samples have the same answers and log-probabilities."""
    base_answers, candidate_answers = (
        {(s.subset, s.doc_id): (s.response, s.logprobs, s.metrics) for s in side}
        for side in (base, candidate)
    )
    return base_answers == candidate_answers


def _difference(
    benchmark: Benchmark, base: Side, candidate: Side, seed: int
) -> tuple[PairedDraws | None, Delta]:
    metric = base.measurement.result.metric
    if metric not in benchmark.metrics and len(benchmark.metrics) == 1:  # scored at another stage
        benchmark = benchmark.model_copy(update={"metrics": (metric,)})
    if _paired(base, candidate, benchmark):
        unlisted = base.benchmark is not None and candidate.benchmark is not None
        docs = documents([base.samples, candidate.samples], benchmark)
        draws = paired_draws(docs, seed=seed, mcnemar=unlisted)
        return draws, delta_of(draws)
    return None, unpaired_delta(base.measurement.scores, candidate.measurement.scores, benchmark, seed=seed)


def _paired(base: Side, candidate: Side, benchmark: Benchmark) -> bool:
    """Whether both sides have samples that determine the score."""
    return all(side.samples and has_sums(side.samples, benchmark) for side in (base, candidate))


def _without_error(base: Side, candidate: Side, benchmark: Benchmark) -> tuple[str, ...]:
    """Why a difference has no interval; `force` does not apply."""
    if _paired(base, candidate, benchmark):
        return ()
    sides = (("base", base), ("candidate", candidate))
    missing = ((name, missing_error(side.measurement.scores, benchmark)) for name, side in sides)
    return tuple(
        f"{score} ({name}) has neither samples that it can be computed from nor a standard error: no interval can be given"
        for name, score in missing
        if score is not None
    )[:1]


def _averages(pairs: Sequence[_Pair], suites: Sequence[Suite]) -> list[ComparisonRow]:
    """One mean per suite over the benchmarks compared on samples, if there are at least two."""
    rows = []
    for suite in suites:
        used = [p for p in pairs if p.row.suite == suite.name and p.draws is not None]
        draws = [p.draws for p in used if p.draws is not None]
        if len(draws) < 2 or not suite.has_average:
            continue
        complete = len(used) == len(suite.benchmarks) and not any(is_partial(p.row) for p in used)
        mean = delta_of(average_draws(draws))
        rows.append(
            ComparisonRow(
                suite=suite.name,
                benchmark=None,
                title="Average" if complete else f"Mean {len(used)} of {len(suite.benchmarks)}",
                base=mean.base,
                candidate=mean.candidate,
                delta=mean,
                forced=any(p.row.forced for p in used),
                notes=() if complete else ("not the board's average",),
            )
        )
    return rows


def _notes(base: Side | None, candidate: Side | None) -> tuple[str, ...]:
    notes = []
    for name, side in (("base", base), ("candidate", candidate)):
        if side is None:
            continue
        result = side.measurement.result
        if result.partial:
            notes.append(f"{_PARTIAL} ({name}: {result.n} documents)")
        notes += [f"{name}: {a.share:.0%} of the responses are {a.kind}" for a in result.alarms]
        notes += [f"{name}: {note}" for note in side.notes]
    kinds = {s.measurement.facts.get(Fact.ENGINE) for s in (base, candidate) if s is not None} - {None}
    if len(kinds) > 1:
        notes.append(ROUNDING)
    if any(s is not None and not s.measurement.result.comparable_to_board for s in (base, candidate)):
        remarks = {s.measurement.result.remark for s in (base, candidate) if s is not None}
        notes += [f"not the board's: {r}" for r in sorted(r for r in remarks if r)]
    return tuple(notes)


_PARTIAL = "partial"
ROUNDING = (
    "across engines: in bfloat16 the same weights round differently, and a few documents in a hundred can be answered differently "
    "(docs/agreement.md)"
)
"""Note on rows whose sides were evaluated with different engines."""


def is_partial(row: ComparisonRow) -> bool:
    """Whether a side of a row has only some of the benchmark's documents."""
    return any(note.startswith(_PARTIAL) for note in row.notes)


def _same_kind_in(reason: str, reasons: Sequence[str]) -> bool:
    """Whether the reasons contain one of the same kind: the text before the colon."""
    kind = reason.partition(":")[0]
    return any(r.partition(":")[0] == kind for r in reasons)


def _by_key(sides: Sequence[Side]) -> dict[Key, list[Side]]:
    """Sides by suite and benchmark: one per scoring stage, the main stage first."""
    by_key: dict[Key, list[Side]] = {}
    for side in sides:
        key = (side.suite or _NO_SUITE, side.measurement.result.benchmark)
        by_key.setdefault(key, []).append(side)
    return by_key
