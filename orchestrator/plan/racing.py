"""Which candidates of a sweep race, and which sweeps cannot race."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evals.benchmark import OutputKind
from evals.stats.candidate_race import EvalKey
from evals.suite import suite_with
from orchestrator.errors import SweepError
from orchestrator.plan.decide import pair_key
from orchestrator.plan.job import EvalJob
from orchestrator.plan.sweep import SweepFile


def eval_key(job: EvalJob) -> EvalKey:
    """Which of a candidate's evaluations a job is."""
    return job.suite, job.benchmark, job.engine.digest


def racing(evals: Sequence[tuple[str, EvalJob]], base: str) -> tuple[str, ...]:
    """The names of the candidates that race, in the order of `evals`, which come with their candidate's name; `base` is the base's.

    A candidate whose engine is not the base's, as a quantised one, cannot be asked in parts; one that is the base itself need not be.
    """
    bases = {pair_key(job): job.digest for name, job in evals if name == base}
    names = dict.fromkeys(name for name, _ in evals if name != base)
    whole = {name for name, job in evals if bases.get(pair_key(job), job.digest) == job.digest}
    return tuple(name for name in names if name not in whole)


def check_race(file: SweepFile, evals: Sequence[tuple[str, EvalJob]], base: str) -> tuple[str, ...]:
    """Notes on candidates that do not race; SweepError if the sweep's benchmarks cannot race, or nobody could leave."""
    rule = file.sweep.decide.race if file.sweep.decide is not None else None
    if rule is None:
        return ()
    place = file.place("decide", "race")
    for job in {(job.suite, job.benchmark): job for _, job in evals}.values():
        if (reason := _not_in_parts(job)) is not None:
            raise SweepError(
                f"{place}: {job.benchmark} cannot be asked in parts ({reason}): leave it out, or leave out the race."
            )
    _check_documents(place, evals)
    names = racing(evals, base)
    if len(names) <= rule.keep:
        raise SweepError(
            f"{place}: {len(names)} candidates race and the best {rule.keep} are kept, so that none can leave: lower `keep`, or leave out "
            "the race."
        )
    return tuple(_notes({name for name, _ in evals if name != base} - set(names)))


def _check_documents(place: str, evals: Sequence[tuple[str, EvalJob]]) -> None:
    """SweepError if two evaluations of a candidate share documents: a race takes the errors of its benchmarks as independent."""
    first: dict[tuple[str, str, str], EvalJob] = {}
    for name, job in evals:
        other = first.setdefault((name, job.benchmark, job.dataset_digest), job)
        if (eval_key(other), pair_key(other)) != (eval_key(job), pair_key(job)):
            raise SweepError(
                f"{place}: {job.benchmark} is asked twice, {_difference(other, job)}, and a race needs benchmarks without common documents: "
                "leave one of the two out, or leave out the race."
            )


def _difference(first: EvalJob, second: EvalJob) -> str:
    """What two evaluations of one benchmark differ in."""
    if first.suite != second.suite:
        return f"in {first.suite} and in {second.suite}"
    if first.engine.digest != second.engine.digest:
        return f"in two engines ({first.engine.kind} and {second.engine.kind})"
    limits = (first.settings.limit, second.settings.limit)
    return f"with the limits {' and '.join('none' if limit is None else f'{limit:,}' for limit in limits)}"


def _notes(names: Iterable[str]) -> Iterable[str]:
    for name in sorted(names):
        yield f"{name} does not race and is asked whole: its engine is not the base's, or it is the base."


def _not_in_parts(job: EvalJob) -> str | None:
    """Why a benchmark cannot be asked in parts, as far as its definition tells; None if it can."""
    if job.is_probe:
        return "a probe is no benchmark: `mergeboard scan --race` races over probes"
    benchmark = suite_with(job.suite, job.benchmark, job.benchmark_digest).benchmark(job.benchmark)
    if benchmark.lower_is_better or benchmark.output is OutputKind.PERPLEXITY:
        return "it is a perplexity"
    if benchmark.formula is not None:
        return "its metric is over all documents"
    return None
