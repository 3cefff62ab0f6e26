"""`mergeboard gate --run`: evaluate what is missing, benchmark by benchmark, until the policy is decided or its budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from evals.suite import Benchmark
from orchestrator.compare import Side
from orchestrator.compare.gate import GateReport, GateVerdict
from orchestrator.compare.gate_policy import Budget, Policy
from orchestrator.compare.gate_stored import gate_of_sides, policy_suite
from orchestrator.errors import PolicyError, RunError
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.plan.capacity import ClusterFacts
    from orchestrator.plan.plan import Plan


class Evaluations(Protocol):
    """Evaluates one benchmark of a suite on a checkpoint."""

    def missing(self, checkpoint: str, suite: str, benchmark: Benchmark) -> int:
        """Questions that the store has no answers to yet; 0 if the evaluation is stored."""

    def sides(self, checkpoint: str, suite: str, benchmark: Benchmark) -> Sequence[Side]:
        """The evaluation, run if it is not stored."""


def gate_with_runs(
    policy: Policy,
    candidate: str,
    base: str,
    evaluations: Evaluations,
    *,
    force: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> GateReport:
    """Judge a checkpoint, evaluating benchmarks with critical requirements first, those with fewest missing questions before others.

    Stops at NO-GO, or when every critical requirement holds. The budget is asked before each benchmark: one that is begun is ended.
    Raises PolicyError if the suite is not known here, and the errors of a run.
    """
    suite = policy_suite(policy)
    if suite is None:
        raise PolicyError(
            f"suite: there is no suite '{policy.suite}' to run; `mergeboard suite list` names them."
        )
    waiting = [b for b in suite.benchmarks if policy.average or policy.others or b.name in policy.benchmarks]
    sides: dict[str, list[Side]] = {base: [], candidate: []}
    began, asked, ended = clock(), 0, None
    missing = {
        b.name: sum(evaluations.missing(c, suite.name, b) for c in dict.fromkeys((base, candidate)))
        for b in waiting
    }
    waiting.sort(key=lambda b: (not _critical(policy, b.name), missing[b.name]))
    report = gate_of_sides(policy, (), candidate, (), force=force)
    for benchmark in waiting:
        ended = _ended(
            policy.budget,
            asked + missing[benchmark.name],
            clock() - began,
            benchmark,
            missing[benchmark.name],
        )
        if ended is not None:
            break
        for checkpoint in sides:
            sides[checkpoint] += evaluations.sides(checkpoint, suite.name, benchmark)
        asked += missing[benchmark.name]
        report = gate_of_sides(policy, sides[base], candidate, sides[candidate], force=force)
        if report.verdict is not GateVerdict.INCONCLUSIVE:
            break
    # In their own runs both are named "base".
    named = report.model_copy(update={"base": base})
    if ended is not None and report.verdict is GateVerdict.INCONCLUSIVE:
        return named.model_copy(update={"budget_ended": ended})
    return named


def _critical(policy: Policy, name: str) -> bool:
    requirement = policy.benchmarks.get(name, policy.others)
    return requirement is not None and requirement.critical


def _ended(budget: Budget, asked: int, elapsed_s: float, benchmark: Benchmark, missing: int) -> str | None:
    """How the budget ends before a benchmark; None if it does not. What is stored costs nothing."""
    if not missing:
        return None
    if budget.questions is not None and asked > budget.questions:
        return (
            f"The budget ended before {benchmark.title}: {asked:,} questions are needed so far, the policy allows "
            f"{budget.questions:,}; raise budget.questions."
        )
    if budget.seconds is not None and elapsed_s >= budget.seconds:
        return (
            f"The budget ended before {benchmark.title}: {elapsed_s:,.0f} s have passed, the policy allows "
            f"{budget.seconds:,.0f}; raise budget.seconds, or give the same command again: what is stored is not asked again."
        )
    return None


@dataclass
class Evaluator:
    """Evaluations by the same runs that `mergeboard eval` makes, so that either finds the other's results."""

    settings: Settings
    engine: str
    dtype: str
    chat_template: str
    address: str | None = None
    quiet: bool = False

    def missing(self, checkpoint: str, suite: str, benchmark: Benchmark) -> int:
        """Questions of the jobs whose outcome is not in the store; all of them if there is no store yet."""
        from orchestrator.cluster import disconnect
        from orchestrator.errors import StoreMissing
        from orchestrator.store import Store

        try:
            plan, _ = self._plan(checkpoint, suite, benchmark)
        finally:
            disconnect()
        digests = [planned.job.digest for planned in plan.evals]
        try:
            with Store.open(self.settings.database_url, create=False, read_only=True) as store:
                stored = store.outcomes(digests)
        except StoreMissing:
            stored = {}
        whole = sum(subset.n_documents or 0 for subset in benchmark.subsets)
        return whole * sum(digest not in stored for digest in digests)

    def sides(self, checkpoint: str, suite: str, benchmark: Benchmark) -> Sequence[Side]:
        """The evaluation as a side, run if it is not stored; RunError if its job failed."""
        from orchestrator.cli.ending import failure_of
        from orchestrator.cli.interrupts import interruptible, stopped
        from orchestrator.cli.progress import TerminalReporter
        from orchestrator.compare.run_comparisons import results_of_run
        from orchestrator.compare.run_comparisons import sides as sides_of
        from orchestrator.display.text_safety import Terminal
        from orchestrator.run.run import execute
        from orchestrator.run.scheduler import job_labels
        from orchestrator.store import Store

        with interruptible(stopped):
            plan, cluster = self._plan(checkpoint, suite, benchmark)
            if not plan.evals:
                reasons = "; ".join(m.reason for m in plan.missing)
                raise RunError(f"{benchmark.title} cannot be evaluated on {checkpoint}: {reasons}.")
            with TerminalReporter(Terminal(stderr=True), quiet=self.quiet) as reporter:
                summary = execute(plan, self.settings, reporter, address=self.address, cluster=cluster)
        failure = failure_of(summary, job_labels(plan))
        if failure is not None:
            raise RunError(failure)
        with Store.open(self.settings.database_url, create=False, read_only=True) as store:
            return [
                side
                for result in results_of_run(store, summary.run_id)
                for side in sides_of(result, self.settings.home)
            ]

    def _plan(self, checkpoint: str, suite: str, benchmark: Benchmark) -> tuple[Plan, ClusterFacts]:
        from orchestrator.plan.sweep import sweep_of_values
        from orchestrator.run.run import cluster_for, gpus_of, plan_for

        file = sweep_of_values(
            {
                "name": f"eval {checkpoint} {suite}",
                "base": checkpoint,
                "suites": [{"suite": suite, "benchmarks": [benchmark.name]}],
                "engines": [{"kind": self.engine, "dtype": self.dtype}],
                "chat_template": self.chat_template,
            },
            origin="mergeboard gate",
            options={"base": "CANDIDATE / --base", "engines": "--engine", "engines.0.dtype": "--dtype"},
        )
        cluster = cluster_for(self.settings, self.address, gpus=gpus_of(file.sweep))
        return plan_for(file, self.settings, cluster), cluster
