"""Proposes the next merge of a search, with Optuna. The only module that imports it for that.

A proposal depends on the seed, the number of the trial and the trials before it, and on nothing else: each trial has its own
seed, and the study is made anew from the trials, so that a search that was interrupted proposes what it would have proposed.
CMA-ES has a state of its own; it is brought there by proposing the earlier trials once more.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from evals.engine import Frozen
from orchestrator.search.merges.search_file import SamplerKind
from orchestrator.search.merges.space import SearchParameter, Space, Value, Values

optuna.logging.set_verbosity(optuna.logging.ERROR)
_STARTUP = 10
"""Random trials before the first proposal of a model."""
_ATTEMPTS = 20
"""Proposals that are looked at until one is new; those after the second are random."""


class PastTrial(Frozen):
    """A trial as a sampler sees it."""

    parameters: dict[str, Value] = Field(description="Value of each parameter.")
    values: tuple[float, ...] | None = Field(
        description="The objectives' values; null while it is evaluated, as far as this proposal may know."
    )
    failed: bool = Field(default=False, description="Whether it gave no values and never will.")


class Proposer:
    """Proposes trials; deterministic for a seed."""

    def __init__(self, space: Space, kind: SamplerKind, seed: int, n_objectives: int = 1) -> None:
        self._space = space
        self._kind = kind
        self._seed = seed
        self._n_objectives = n_objectives
        self._distributions = {p.name: distribution_of(p) for p in space.parameters}
        self._evolution: _Evolution | None = None

    def propose(self, past: Sequence[PastTrial], seen: Sequence[int]) -> Values:
        """Parameters of trial `len(past)`.

        `seen[i]` is the number of trials whose results trial i could use, for i up to len(past); a trial's values
        beyond it are not looked at, and count as being evaluated. A merge that was proposed before is not proposed again while
        another is found, but by CMA-ES, whose state comes from its own proposals.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._kind is SamplerKind.CMA_ES:
                if self._evolution is None:
                    self._evolution = _Evolution(self._distributions, self._seed)
                return self._space.rounded(self._evolution.propose(past, seen))
            tried = {tuple(trial.parameters.values()) for trial in past}
            for attempt in range(_ATTEMPTS):
                values = self._space.rounded(self._ask(past, seen[len(past)], attempt))
                if tuple(values.values()) not in tried:
                    break
        return values

    def _ask(self, past: Sequence[PastTrial], n_known: int, attempt: int) -> Values:
        study = optuna.create_study(
            directions=["maximize"] * self._n_objectives,
            sampler=self._sampler(trial_seed(self._seed, len(past), attempt), attempt),
        )
        study.add_trials(
            [self._frozen(trial, is_known=number < n_known) for number, trial in enumerate(past)]
        )
        return dict(study.ask(self._distributions).params)

    def _sampler(self, seed: int, attempt: int) -> BaseSampler:
        if self._kind is SamplerKind.GP and attempt < 2:
            # A model with noise expects something of its best point, again and again; one without expects nothing there.
            return GPSampler(seed=seed, n_startup_trials=_STARTUP, deterministic_objective=attempt == 1)
        if self._kind is SamplerKind.TPE and attempt < 2:
            return TPESampler(seed=seed, n_startup_trials=_STARTUP, multivariate=True, constant_liar=True)
        return RandomSampler(seed=seed)

    def _frozen(self, trial: PastTrial, *, is_known: bool) -> FrozenTrial:
        state, values = TrialState.RUNNING, None
        if is_known:
            state, values = (TrialState.FAIL, None) if trial.failed else (TrialState.COMPLETE, trial.values)
        return optuna.trial.create_trial(
            state=state, values=values, params=dict(trial.parameters), distributions=self._distributions
        )


class _Evolution:
    """CMA-ES, whose state comes from having proposed every earlier trial."""

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int) -> None:
        self._distributions = distributions
        self._study = optuna.create_study(
            direction="maximize", sampler=CmaEsSampler(seed=seed, n_startup_trials=1)
        )
        self._asked = 0
        self._told = 0

    def propose(self, past: Sequence[PastTrial], seen: Sequence[int]) -> Values:
        params: Values = {}
        while self._asked <= len(past):
            self._tell(past[: seen[self._asked]])
            params = dict(self._study.ask(self._distributions).params)
            self._asked += 1
        return params

    def _tell(self, trials: Sequence[PastTrial]) -> None:
        for trial in trials[self._told :]:
            if trial.failed:
                self._study.tell(self._told, state=TrialState.FAIL)
            else:
                self._study.tell(self._told, trial.values)
            self._told += 1


def distribution_of(parameter: SearchParameter) -> BaseDistribution:
    """A parameter as Optuna's distribution."""
    if not parameter.is_range:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds
    if parameter.is_integer:
        return IntDistribution(int(low), int(high), step=int(parameter.step or 1))
    return FloatDistribution(low, high, log=parameter.log, step=parameter.step)


def trial_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Seed of one trial's proposal, 32 bits; further attempts have others."""
    text = f"{seed}:{number}" + (f":{attempt}" if attempt else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
