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
    _check_limits(place, evals)
    names = racing(evals, base)
    if len(names) <= rule.keep:
        raise SweepError(
            f"{place}: {len(names)} candidates race and the best {rule.keep} are kept, so that none can leave: lower `keep`, or leave out "
            "the race."
        )
    return tuple(_notes({name for name, _ in evals if name != base} - set(names)))


def _check_limits(place: str, evals: Sequence[tuple[str, EvalJob]]) -> None:
    """SweepError if a benchmark has two limits: it shares documents with itself, and a race takes its benchmarks' errors as independent."""
    first: dict[tuple[str, EvalKey], EvalJob] = {}
    for name, job in evals:
        other = first.setdefault((name, eval_key(job)), job)
        if pair_key(other) != pair_key(job):
            limits = " and ".join(
                "none" if limit is None else f"{limit:,}"
                for limit in (other.settings.limit, job.settings.limit)
            )
            raise SweepError(
                f"{place}: {job.benchmark} of {job.suite} stands twice in `suites`, with the limits {limits}, and a race needs benchmarks "
                "without common documents: leave one of the two out, or leave out the race."
            )


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
