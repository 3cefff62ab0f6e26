"""How much each searched parameter matters: fANOVA over the trials of a search, by Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from orchestrator.search.merges.sampler import distribution_of
from orchestrator.search.merges.search_file import SearchFile
from orchestrator.store.trial_records import TrialRecord

_LEAST_TRIALS = 8


def importance_of(file: SearchFile, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Share of the variance of the weighted mean by parameter, the largest first; empty for too few or equal trials."""
    distributions = {p.name: distribution_of(p) for p in file.space.parameters}
    complete = [trial for trial in trials if trial.objectives is not None]
    values = [file.search.together(trial.objectives or ()) for trial in complete]
    if len(complete) < _LEAST_TRIALS or len(set(values)) < 2 or len(distributions) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(value=value, params=dict(trial.parameters), distributions=distributions)
            for trial, value in zip(complete, values, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=file.search.seed % 2**31)
        )
    return {name: float(share) for name, share in shares.items()}
