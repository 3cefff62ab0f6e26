"""The course of a merge search: which trial comes next, from which results, and when it ends. Independent of how merges run.

Trial n is proposed from the results of the trials before n - window + 1; those after count as running, whatever they are. There are
no generations: a new trial is proposed whenever fewer than `parallel` run and the results that it needs are there. So that
the order in which evaluations end changes no proposal, and a search that was killed goes on as if it had not been.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

from orchestrator.search.merges.fidelity import estimates, goes_on
from orchestrator.search.merges.sampler import PastTrial, Proposer, trial_seed
from orchestrator.search.merges.search_file import MergeSearch, SamplerKind
from orchestrator.search.merges.space import SearchParameter, Space, Value, Values
from orchestrator.store.trial_records import Arm, TrialRecord, TrialState

_HOUR_S = 3600.0
# Failures in a row at the beginning of a search after which it stops: something is wrong with every merge.
MOST_FAILURES = 5


class Course:
    """State of a search: its trials so far; `propose` gives the next."""

    def __init__(
        self,
        search: MergeSearch,
        space: Space,
        *,
        parallel: int = 1,
        gpus: int = 0,
        trials: Sequence[TrialRecord] = (),
    ) -> None:
        self._search = search
        self._space = space
        self._parallel = parallel
        self._gpus = gpus
        self._trials: list[TrialRecord] = list(trials)
        self._arms = (Arm.SEARCH, *(Arm(rival.value) for rival in search.compare_with))
        objectives = len(search.objectives) if search.pareto else 1
        self._proposer = Proposer(space, search.sampler, search.seed, objectives)
        self._random = Proposer(space, SamplerKind.RANDOM, trial_seed(search.seed, -1), objectives)

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(self._trials)

    @property
    def running(self) -> tuple[TrialRecord, ...]:
        """Trials without a result."""
        return tuple(trial for trial in self._trials if trial.state is TrialState.RUNNING)

    @property
    def window(self) -> int:
        """Number of trials before the next one whose results it does not wait for, plus one."""
        return 1 if self._parallel == 1 else 2 * self._parallel

    @property
    def ended(self) -> bool:
        """Whether every trial has a result and there will be no further one."""
        return not self.running and self._arm() is None

    @property
    def left(self) -> int:
        """Expected number of trials that are not proposed yet; of a budget in time by the mean cost until now."""
        counts = Counter(trial.arm for trial in self._trials)
        budget = self._search.budget
        total = budget.evaluations or counts[Arm.SEARCH]
        if budget.evaluations is None and not self._search_is_over(counts[Arm.SEARCH]):
            costs = [t.cost_s for t in self._trials if t.arm is Arm.SEARCH and t.cost_s]
            seconds = budget.seconds or (budget.gpu_hours or 0.0) * _HOUR_S / max(1, self._gpus)
            total = max(total, int(seconds * len(costs) / sum(costs)) if costs else 0)
        return sum(max(0, self._evaluations(arm, total) - counts[arm]) for arm in self._arms)

    @property
    def hopeless(self) -> TrialRecord | None:
        """The last of the failures with which the search began, if there are too many of them."""
        first = self._trials[:MOST_FAILURES]
        if len(first) == MOST_FAILURES and all(trial.state is TrialState.FAILED for trial in first):
            return first[-1]
        return None

    def propose(self) -> TrialRecord | None:
        """The next trial, which is then running; None if it has to wait, or the search has ended."""
        arm = self._arm()
        if arm is None or len(self.running) >= self._parallel:
            return None
        past = [trial for trial in self._trials if trial.arm is arm]
        if any(t.state is TrialState.RUNNING for t in past[: known(len(past), self.window)]):
            return None
        number = len(self._trials)
        trial = TrialRecord(
            number=number,
            arm=arm,
            parameters=self._parameters(arm, past),
            candidate=f"trial {number}",
        )
        self._trials.append(trial)
        return trial

    def best_before(self, number: int) -> TrialRecord | None:
        """The best trial of the same method among those that the proposal of trial `number` knew; None if none has a value."""
        past = [t for t in self._trials[:number] if t.arm is self._trials[number].arm]
        ranked = best_first(self._search, past[: known(len(past), self.window)])
        return ranked[0] if ranked else None

    def goes_on(self, number: int, values: Sequence[tuple[float, ...]]) -> bool:
        """Whether trial `number` goes on to its next step; `values` are those of its steps so far.

        It follows from the trials that its proposal knew, whose results are all there.
        """
        fidelity, trial = self._search.fidelity, self._trials[number]
        if fidelity is None:
            return True
        past = [t for t in self._trials[:number] if t.arm is trial.arm]
        step = len(values) - 1
        others = [t.steps[step] for t in past[: known(len(past), self.window)] if len(t.steps) > step]
        if self._search.pareto:
            return goes_on(values[step], others, fidelity.keep, in_any=True)
        together = self._search.together
        return goes_on((together(values[step]),), [(together(other),) for other in others], fidelity.keep)

    def end(self, trial: TrialRecord) -> None:
        """Take a trial that has a result."""
        self._trials[trial.number] = trial

    def _arm(self) -> Arm | None:
        """Method that proposes the next trial; None if all have had their evaluations."""
        counts = {arm: sum(trial.arm is arm for trial in self._trials) for arm in self._arms}
        if not self._search_is_over(counts[Arm.SEARCH]) and not any(
            count for arm, count in counts.items() if arm is not Arm.SEARCH
        ):
            return Arm.SEARCH
        budget = counts[Arm.SEARCH]
        return next((arm for arm in self._arms[1:] if counts[arm] < self._evaluations(arm, budget)), None)

    def _search_is_over(self, count: int) -> bool:
        budget = self._search.budget
        if budget.evaluations is not None:
            return count >= budget.evaluations
        # The results that the next trial may know: with others, the time at which they come in would decide.
        known_trials = self._trials[: known(len(self._trials), self.window)]
        spent_s = sum(trial.cost_s or 0.0 for trial in known_trials if trial.arm is Arm.SEARCH)
        if budget.seconds is not None:
            return spent_s >= budget.seconds
        return spent_s * self._gpus >= (budget.gpu_hours or 0.0) * _HOUR_S

    def _evaluations(self, arm: Arm, budget: int) -> int:
        return min(budget, len(grid(self._space, budget, self._search.seed))) if arm is Arm.GRID else budget

    def _parameters(self, arm: Arm, past: Sequence[TrialRecord]) -> Values:
        if arm is Arm.GRID:
            budget = sum(trial.arm is Arm.SEARCH for trial in self._trials)
            return grid(self._space, budget, self._search.seed)[len(past)]
        proposer = self._proposer if arm is Arm.SEARCH else self._random
        seen = [self._seen(trial, past[:place]) for place, trial in enumerate(past)]
        return proposer.propose(seen, [known(n, self.window) for n in range(len(past) + 1)])

    def _seen(self, trial: TrialRecord, before: Sequence[TrialRecord]) -> PastTrial:
        """A trial as the sampler sees it: of a stopped one an estimate, from the trials of its method before it."""
        values = trial.objectives if trial.state is not TrialState.STOPPED else estimates(trial, before)
        if values is not None and not self._search.pareto:
            values = (self._search.together(values),)
        return PastTrial(parameters=trial.parameters, values=values, failed=trial.state is TrialState.FAILED)


def known(number: int, window: int) -> int:
    """Number of trials of an arm whose results its trial `number` is proposed from."""
    return max(0, number - window + 1)


def grid(space: Space, budget: int, seed: int) -> list[Values]:
    """At most `budget` points of a regular grid, ends included, in a seeded order.

    Ranges have as many levels as the budget allows, the same for all; with more than log2(budget) of them, two levels and
    a random part of the corners.
    """
    choices = 1
    for parameter in space.parameters:
        choices *= len(parameter.choices) or 1
    ranges = sum(parameter.is_range for parameter in space.parameters)
    levels = 2
    while ranges and choices * (levels + 1) ** ranges <= budget:
        levels += 1
    axes = [_levels(parameter, levels) for parameter in space.parameters]
    rng = random.Random(trial_seed(seed, -2))
    size = 1
    for axis in axes:
        size *= len(axis)
    return [_point(space, axes, pick) for pick in rng.sample(range(size), min(budget, size))]


def _point(space: Space, axes: Sequence[Sequence[Value]], pick: int) -> Values:
    values: Values = {}
    for parameter, axis in zip(space.parameters, axes, strict=True):
        pick, index = divmod(pick, len(axis))
        values[parameter.name] = axis[index]
    return space.rounded(values)


def _levels(parameter: SearchParameter, levels: int) -> list[Value]:
    """Evenly spread values of a range, ends included; all values of a choice."""
    if not parameter.is_range:
        return list(parameter.choices)
    low, high = parameter.bounds
    shares = [n / (levels - 1) for n in range(levels)]
    spread = [low * (high / low) ** s if parameter.log else low + (high - low) * s for s in shares]
    if parameter.step is not None:
        spread = [low + round((value - low) / parameter.step) * parameter.step for value in spread]
    return list(dict.fromkeys(parameter.rounded(value) for value in spread))


def best_first(search: MergeSearch, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Complete trials, the best first: by the weighted mean, or on a Pareto search those of the front before the others.

    Of trials with the same merge only the first counts.
    """
    complete: dict[str, TrialRecord] = {}
    for trial in trials:
        if trial.objectives is not None:
            complete.setdefault(trial.recipe_digest or str(sorted(trial.parameters.items())), trial)
    front = set(pareto_front(list(complete.values()))) if search.pareto else set()

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        assert trial.objectives is not None
        return trial.number not in front, -search.together(trial.objectives), trial.number

    return sorted(complete.values(), key=key)


def pareto_front(trials: Sequence[TrialRecord]) -> list[int]:
    """Numbers of the trials that no other beats in one objective without losing in another."""
    valued = [(trial.number, trial.objectives) for trial in trials if trial.objectives is not None]

    def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    return [number for number, mine in valued if not any(dominates(other, mine) for _, other in valued)]


def best_so_far(search: MergeSearch, trials: Sequence[TrialRecord]) -> list[tuple[int, float, float]]:
    """For each complete trial of one method: evaluations and seconds until then, and the best value until then."""
    steps: list[tuple[int, float, float]] = []
    cost_s, best = 0.0, float("-inf")
    for count, trial in enumerate(itertools.chain(trials), start=1):
        cost_s += trial.cost_s or 0.0
        if trial.objectives is not None:
            best = max(best, search.together(trial.objectives))
            steps.append((count, cost_s, best))
    return steps
