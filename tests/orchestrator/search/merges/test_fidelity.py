"""Fidelity that grows: what each step asks, which merges go on, and that kills and the order of results change nothing."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from evals.probes import ProbeError, Split, get_probe
from evals.scores import Sample
from orchestrator.errors import SweepError
from orchestrator.search.merges.course import Course, best_first
from orchestrator.search.merges.fidelity import FidelityStep, estimated, goes_on, likelihood
from orchestrator.search.merges.files import write_merge_search
from orchestrator.search.merges.tables import merge_search_text
from orchestrator.store import Store
from orchestrator.store.merge_report import SearchView
from orchestrator.store.trial_records import TrialRecord, TrialState
from tests.orchestrator.search.merges.test_course import bowl, file_of, planted
from tests.orchestrator.search.merges.test_merge_run import file_in, folder, peak, searched, table_of
from tests.orchestrator.search.test_grid_scan import settings_at
from tests.support.simulated_merges import Simulation

__all__ = ["folder"]

CHANGES = {
    "budget: {evaluations: 12}": "fidelity: {anchors: 6, subset: 0.5, keep: 0.3}\nbudget: {evaluations: 16}",
    "compare_with: [random]\n": "",
    "cma-es": "random",
    "parallel: 3": "parallel: 2",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(folder: Path, home: Path) -> SearchView:
    file = file_in(folder, "steps.yaml", **CHANGES)
    return searched(file, home, Simulation(peak, folder / "base"))


def test_a_part_of_a_probe_is_a_probe_with_an_identity_of_its_own() -> None:
    whole, part = get_probe("emotion-easy-scored-search"), get_probe("emotion-easy-scored-search-part8")
    assert part.name == "emotion-easy-scored-search-part8"
    assert len(part.items) == 8 < len(whole.items)
    assert all(item in whole.items for item in part.items)
    assert part.digest != whole.digest
    assert whole.part(10_000) is whole
    for name in ("emotion-easy-scored-search-part0", "emotion-easy-scored-search-part9999", "x-part8"):
        with pytest.raises(ProbeError, match="There is no probe"):
            get_probe(name)


def test_only_promising_merges_are_asked_everything(undisturbed: SearchView, home: Path) -> None:
    trials = undisturbed.trials
    stopped = [t for t in trials if t.state is TrialState.STOPPED]
    whole = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len(stopped) + len(whole) == 16
    assert len(stopped) >= 4
    assert len(whole) >= 4
    assert all(t.objectives is None and 1 <= len(t.steps) <= 2 for t in stopped)
    assert all(len(t.steps) == 2 for t in whole)
    assert all(
        t.message == "It was not among the best at the step anchors." for t in stopped if len(t.steps) == 1
    )
    with Store.open(settings_at(home).database_url) as store:
        jobs = [i.job for i in store.run_jobs(undisturbed.report.run_id) if i.job.kind == "eval"]
        views = store.search_view(undisturbed.report.run_id)
    names = [job.benchmark for job in jobs]
    recipes = len({t.recipe_digest for t in trials})
    assert names.count("emotion-easy-scored-search-part6") == recipes
    assert names.count("emotion-easy-scored-search") == len({t.recipe_digest for t in whole}) + 4
    assert views is not None
    assert views.trials == trials


def test_values_of_steps_are_no_scores(undisturbed: SearchView, folder: Path, tmp_path: Path) -> None:
    file = file_in(folder, "steps.yaml", **CHANGES)
    text = merge_search_text(undisturbed)
    stopped = [t for t in undisturbed.trials if t.state is TrialState.STOPPED]
    assert not any(f"{t.candidate} " in text for t in stopped)
    assert f"{len(stopped)} of 16 merges left before they were asked everything" in text
    write_merge_search(file, undisturbed, tmp_path)
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0].split(",")[:5] == ["trial", "method", "state", "emotion-easy-scored", "together"]
    row = rows[1 + stopped[0].number].split(",")
    assert row[2:5] == ["stopped", "", ""]
    assert {c.number for c in (undisturbed.report.confirmation or pytest.fail("none")).merges} <= {
        t.number for t in undisturbed.trials if t.objectives is not None
    }


def test_killed_five_times_and_in_another_order_the_same_merges_go_on(
    folder: Path, undisturbed: SearchView, tmp_path: Path
) -> None:
    file = file_in(folder, "steps.yaml", **CHANGES)
    kills = set(random.Random(4).sample(range(5, 90), 5))
    simulation = Simulation(peak, folder / "base", kills=kills, order=random.Random(8))
    disturbed = searched(file, tmp_path, simulation)
    assert simulation.moment > max(kills)
    assert table_of(disturbed) == table_of(undisturbed)
    assert [t.steps for t in disturbed.trials] == [t.steps for t in undisturbed.trials]
    assert disturbed.report.conclusion == undisturbed.report.conclusion


def test_the_best_share_goes_on() -> None:
    assert goes_on((0.1,), [], 0.3), "the first of all"
    assert not goes_on((0.1,), [(0.2,), (0.3,)], 0.3)
    assert goes_on((0.3,), [(0.2,), (0.3,)], 0.3), "equal to the best"
    assert goes_on((0.25,), [(0.2,), (0.3,), (0.1,)], 0.5)
    assert goes_on((0.0, 0.9), [(0.5, 0.1), (0.6, 0.2), (0.7, 0.3)], 0.25, in_any=True)
    assert not goes_on((0.0, 0.0), [(0.5, 0.1), (0.6, 0.2), (0.7, 0.3)], 0.25, in_any=True)


def test_a_stopped_merge_is_estimated_on_the_scale_of_the_whole() -> None:
    assert estimated(0.3, []) == 0.3
    assert estimated(0.3, [(0.4, 0.8)]) == pytest.approx(0.7)
    pairs = [(0.30, 0.2), (0.31, 0.4), (0.32, 0.6)]
    assert estimated(0.29, pairs) == pytest.approx(0.0)


def test_the_likelihood_of_right_answers() -> None:
    common = {
        "benchmark": "b",
        "doc_hash": "d",
        "prompt_hash": "p",
        "response": "",
        "extracted": None,
        "metrics": {},
    }
    choice = Sample(
        subset="a", doc_id=0, target=" B", choices=(" A", " B"), logprobs=(math.log(0.1), math.log(0.3)), correct=1, **common,
    )  # fmt: skip
    text = Sample(subset="b", doc_id=0, target="7", correct=0.0, **common)
    assert likelihood([choice]) == pytest.approx(0.75)
    assert likelihood([choice, text]) == pytest.approx(0.375)
    alone = Sample(subset="c", doc_id=0, target="x", choices=("abcd",), logprobs=(-4.0,), correct=0, **common)
    assert likelihood([alone]) == pytest.approx(math.exp(-1))


def test_a_step_of_a_suite_asks_fewer_documents(folder: Path) -> None:
    objective = "objectives: [{suite: smoke, benchmarks: [bbh], limit: 20}, emotion-easy-scored]"
    file = file_in(
        folder,
        "suite.yaml",
        **CHANGES,
        **{"objectives: [emotion-easy-scored]": objective},
    )
    assert file.steps == (FidelityStep.ANCHORS, FidelityStep.SUBSET, FidelityStep.WHOLE)
    suite, probe = file.search.objectives
    assert [file.limit_of(suite, Split.SEARCH, step) for step in file.steps] == [6, 10, 20]
    names = [file.probe_name(probe, Split.SEARCH, step) for step in file.steps]
    assert names[0] == "emotion-easy-scored-search-part6"
    assert names[2] == "emotion-easy-scored-search"


def test_fidelity_without_a_step_is_refused(folder: Path) -> None:
    with pytest.raises(SweepError, match=r"fidelity: give `anchors`, `subset` or both"):
        file_in(
            folder,
            "none.yaml",
            **{"budget: {evaluations: 12}": "fidelity: {keep: 0.5}\nbudget: {evaluations: 9}"},
        )


QUESTIONS = {FidelityStep.ANCHORS: 8, FidelityStep.SUBSET: 25, FidelityStep.WHOLE: 100}


def best_at(seed: int, questions: int, fidelity: str) -> tuple[float, int]:
    """True value of the best of a simulated search that may ask so many questions, and the number of merges tried."""
    file = file_of("tpe", seed, weights=3, budget="{evaluations: 1000}", more=fidelity)
    course, spent = Course(file.search, file.space), 0
    optimum, noise = planted(seed, 3), random.Random(seed)

    def truth(trial: TrialRecord) -> float:
        return (bowl(optimum)(trial) or (0.0,))[0]

    while spent < questions:
        trial = course.propose()
        assert trial is not None
        values: list[tuple[float, ...]] = []
        ending: dict[str, object] = {"state": TrialState.STOPPED}
        for step in file.steps:
            spent += QUESTIONS[step]
            # The spread of a mean over questions with a standard deviation of 0.3 each, those of a merge with the base in common.
            value = (truth(trial) + noise.gauss(0, 0.3 / QUESTIONS[step] ** 0.5),)
            if step is FidelityStep.WHOLE:
                ending = {"state": TrialState.COMPLETE, "objectives": value}
                break
            values.append(value)
            if not course.goes_on(trial.number, values):
                break
        course.end(trial.model_copy(update={**ending, "steps": tuple(values), "cost_s": 1.0}))
    best = best_first(file.search, course.trials)[0]
    return truth(best), len(course.trials)


@pytest.mark.slow
def test_at_the_same_number_of_questions_steps_find_at_least_as_good_a_merge() -> None:
    """1,500 questions, 20 seeds; prints both means."""
    results = {
        name: [best_at(seed, 1_500, fidelity) for seed in range(20)]
        for name, fidelity in {
            "whole": "",
            "steps": "fidelity: {anchors: 8, subset: 0.25, keep: 0.34}",
        }.items()
    }
    mean = {name: sum(value for value, _ in each) / 20 for name, each in results.items()}
    tried = {name: sum(count for _, count in each) / 20 for name, each in results.items()}
    wins = sum(a[0] < b[0] for a, b in zip(results["whole"], results["steps"], strict=True))
    print(f"\nmean true value of the best {mean}, merges tried {tried}; with steps better in {wins} of 20")
    assert mean["steps"] > mean["whole"] - 0.01
