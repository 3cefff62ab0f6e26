"""Reads the race of a scan for the layer map, and that of a sweep's candidates."""

from __future__ import annotations

from typing import TypeVar

from dashboard import data
from dashboard.repeat import base_of
from evals.layer_visits import VisitPath
from evals.probes import RankMethod
from evals.stats.candidate_race import CandidateRace
from orchestrator.charts import RacePicture, candidate_race_picture, race_picture
from orchestrator.compare.candidate_races import candidate_race_of, race_rule_of, whole_differences
from orchestrator.compare.races import race_of_run, race_plan_of
from orchestrator.compare.scan_runs import search_ranking
from orchestrator.display.text_safety import line
from orchestrator.store.pages import Pages
from orchestrator.store.records import RunRecord
from recipes.layer_path import LayerPath

T = TypeVar("T")


def race_shown(pages: Pages, run_id: str) -> RacePicture | None:
    """The race of a search run for its chart; None for any other run."""
    if race_plan_of(data.fixed(pages.run, run_id)) is None:
        return None
    return data.of_runs(_race_picture, [data.live(pages.run, run_id)], pages, run_id)


def candidate_race_shown(pages: Pages, run_id: str) -> CandidateRace | None:
    """The race of a run's candidates as far as it is; None for any other run."""
    if race_rule_of(data.fixed(pages.run, run_id)) is None:
        return None
    return data.of_runs(_candidate_race, [data.live(pages.run, run_id)], pages, run_id)


def candidate_race_drawn(pages: Pages, run: RunRecord, race: CandidateRace) -> RacePicture:
    """The race for its chart, with the averages of the candidates that were asked everything so far."""
    whole = data.of_runs(whole_differences, [run], pages, run.id)
    return candidate_race_picture(race, whole, line(run.name, 60))


def _candidate_race(pages: Pages, run_id: str) -> CandidateRace | None:
    return candidate_race_of(pages, pages.run(run_id))


def _race_picture(pages: Pages, run_id: str) -> RacePicture | None:
    run, base = pages.run(run_id), pages.base_of(run_id)
    race = race_of_run(pages, run, data.settings().home)
    if race is None or base is None or not base.layers:
        return None
    n_layers = base.layers
    ranking = search_ranking(pages, run_id, race.plan.rank, race)
    values: dict[VisitPath, float] = {}
    if ranking is not None:
        balanced = race.plan.rank is RankMethod.BALANCED_Z
        values = {p.layers: ranking.in_spreads(p) if balanced else p.score for p in ranking.paths}
    title = line(base_of(run) or "base", 60)
    return race_picture(race, values, title, lambda layers: LayerPath.of_validated(layers, n_layers).label)
