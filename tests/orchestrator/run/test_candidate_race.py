"""A race of a sweep's candidates: what is planned, who leaves, and what the store holds of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evals.race_rule import RaceRule
from evals.samples import write_samples
from evals.scores import Sample
from evals.stats.candidate_race import CandidateRace, left_text
from evals.suite import load_suite
from orchestrator.compare.candidate_races import candidate_race_of, n_left_out
from orchestrator.compare.early import with_race
from orchestrator.compare.family import RunFamily, pairs_of_run
from orchestrator.compare.verdict import RunVerdict, Standing
from orchestrator.errors import SweepError
from orchestrator.plan.candidate_race import first_round, part_evals, race_rule, racing_names
from orchestrator.plan.job import EvalJob, Task, job_from_json
from orchestrator.plan.plan import PlannedEval
from orchestrator.plan.racing import check_race
from orchestrator.plan.sweep import DecideEntry, Sweep, SweepFile, parse_sweep
from orchestrator.run.run import run_id_of
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome, Failure, FailureClass, Outcome
from tests.evals.test_candidate_race import samples
from tests.orchestrator.run.test_decided import run as run_whole
from tests.support.pg import PostgresForTests
from tests.support.raced import RULE, N, Racer, answers, raced_plan, run_race
from tests.support.stand_in_plan import stand_in_plan
from tests.support.store_data import HUB_BASE, eval_outcome


def race_in(store: Store, run_id: str) -> CandidateRace:
    race = candidate_race_of(store, store.run(run_id))
    assert race is not None
    return race


def test_parts_have_identities_of_their_own_and_leave_the_others_as_they_were() -> None:
    plan, whole = raced_plan(), stand_in_plan(18)
    assert race_rule(plan) == RULE
    assert [e.job.digest for e in plan.evals] == [e.job.digest for e in whole.evals]
    first = first_round(plan, RULE)
    base = plan.candidates[0].name
    assert [e.job.decide is None for e in first.evals] == [e.candidate == base for e in first.evals]
    parts = [e.job for e in first.evals if e.job.decide is not None]
    assert len({job.digest for job in parts} | set(plan.jobs)) == 16 + 18
    for job in parts:
        assert job.decide is not None
        assert job.decide.part == RULE.shares[0]
        assert job.decide.against in job.needs
        assert job.whole.digest in plan.jobs
        assert job_from_json(job.model_dump_json()) == job
    # What is asked does not depend on who is kept, so that another rule asks nothing again.
    names = racing_names(plan)
    other = RULE.model_copy(update={"keep": 3, "error_rate": 0.2})
    assert part_evals(plan, other, 0, names) == part_evals(plan, RULE, 0, names)
    assert len({run_id_of(plan), run_id_of(raced_plan(rule=other)), run_id_of(whole)}) == 3
    assert race_rule(plan.model_copy(update={"whole": True})) is None


def test_who_leaves_has_no_score_and_who_stays_has_one(tmp_path: Path) -> None:
    plan, executor = raced_plan(), Racer()
    summary, store = run_race(tmp_path, plan, executor)
    race = race_in(store, summary.run_id)
    assert (race.n_candidates, race.over) == (8, True)
    by_name = {e.candidate: e.job for e in plan.evals if e.job.benchmark == "bbh"}
    totals = {c: sum(float(answers(e.job).mean()) for e in plan.evals if e.candidate == c) for c in by_name}
    best = sorted(list(by_name)[1:], key=lambda name: -totals[name])[:2]
    assert set(best) <= set(race.contenders)
    assert 0 < len(race.left) == 8 - len(race.contenders)
    # Asked whole: the base and who is left, with their ordinary digests; of the others there is no row.
    whole = {e.job.digest for e in plan.evals if e.candidate in {plan.candidates[0].name, *race.contenders}}
    assert set(store.evaluated(summary.run_id)) == whole
    jobs = [item.job for item in store.run_jobs(summary.run_id) if isinstance(item.job, EvalJob)]
    outcomes = store.outcomes(job.digest for job in jobs)
    for job in jobs:
        assert isinstance(outcomes[job.digest], EvalOutcome if job.digest in whole else EarlyOutcome)
    saved = store.savings(summary.run_id)
    assert saved is not None
    assert (saved.asked, saved.whole) == (race.asked, race.whole)
    assert saved.early == 2 * len(race.left)
    assert race.whole == 8 * 2 * N
    assert store.sequences(summary.run_id) == ()
    assert "2 of 8 candidates are asked everything" in race.sentence


def test_workers_that_die_and_other_numbers_of_them_change_nothing(tmp_path: Path) -> None:
    plan = raced_plan()
    single, first = run_race(tmp_path / "one", plan, Racer())
    many, second = run_race(tmp_path / "many", plan, Racer(engines=3, killed=4))
    assert race_in(first, single.run_id) == race_in(second, many.run_id)
    assert len(race_in(first, single.run_id).looks) == 2
    assert first.snapshot() == second.snapshot()


def test_postgresql_holds_the_same(tmp_path: Path, postgres: PostgresForTests) -> None:
    plan, url = raced_plan(), postgres.new_database()
    single, first = run_race(tmp_path / "one", plan, Racer())
    other, second = run_race(tmp_path / "other", plan, Racer(), url)
    assert race_in(first, single.run_id) == race_in(second, other.run_id)
    assert first.snapshot() == second.snapshot()
    assert first.savings(single.run_id) == second.savings(other.run_id)
    second.close()
    postgres.drop(url)


class Stopped(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [6, 20])
def test_a_race_that_was_stopped_goes_on_and_ends_the_same(tmp_path: Path, after: int) -> None:
    plan = raced_plan()
    calm, expected = run_race(tmp_path / "calm", plan, Racer())

    class Stopping(Racer):
        def submit(self, tasks: Sequence[Task]) -> None:
            if len(self.started) >= after:
                raise Stopped
            super().submit(tasks)

    with pytest.raises(Stopped):
        run_race(tmp_path / "home", plan, Stopping())
    with Store.open(f"sqlite:///{tmp_path}/home/store.sqlite") as store:
        early = candidate_race_of(store, store.run(calm.run_id))
        # Before a round is done it is not looked at.
        assert early is None or early.looks == race_in(expected, calm.run_id).looks[: len(early.looks)]
    executor = Racer(engines=2)
    summary, store = run_race(tmp_path / "home", plan, executor)
    assert race_in(store, summary.run_id) == race_in(expected, calm.run_id)
    assert store.evaluated(summary.run_id) == expected.evaluated(calm.run_id)
    # Again, nothing is asked.
    executor = Racer()
    again, _ = run_race(tmp_path / "home", plan, executor)
    assert (executor.started, again.failed) == ([], {})


def test_a_candidate_whose_jobs_fail_is_out_and_the_others_go_on(tmp_path: Path) -> None:
    plan = raced_plan()
    lost = plan.candidates[1].name

    class Failing(Racer):
        def _outcome(self, task: Task) -> Outcome:
            job = task.job
            if isinstance(job, EvalJob) and job.layer_path == plan.candidates[1].layer_path:
                return Failure(failure_class=FailureClass.BAD_INPUT, message="No.")
            return super()._outcome(task)

    summary, store = run_race(tmp_path, plan, Failing())
    race = race_in(store, summary.run_id)
    assert race.looks[0].failed == (lost,)
    assert lost not in race.contenders
    assert lost not in {candidate.name for candidate, _ in race.left}
    assert len(summary.failed) == 2
    assert race.contenders


def test_a_base_that_fails_ends_the_race(tmp_path: Path) -> None:
    class Failing(Racer):
        def answer(self, job: EvalJob, task: Task) -> EvalOutcome | EarlyOutcome:
            raise AssertionError(job)

        def _outcome(self, task: Task) -> Outcome:
            return Failure(failure_class=FailureClass.BAD_INPUT, message="No.")

    summary, store = run_race(tmp_path, raced_plan(), Failing())
    assert (len(summary.failed), summary.blocked) == (2, 16)
    assert race_in(store, summary.run_id).contenders == ()


def test_what_left_counts_in_the_correction_and_is_named_in_the_verdict(tmp_path: Path) -> None:
    plan = raced_plan()
    summary, store = run_race(tmp_path, plan, Racer())
    race = race_in(store, summary.run_id)
    names = {c.position: c.name for c in store.candidates(summary.run_id) if not c.is_base}
    pairs = pairs_of_run(store.scored_candidates(summary.run_id), 0)
    assert n_left_out(store, summary.run_id, {pair.candidate.position for pair in pairs}) == len(race.left)
    family = RunFamily(pairs, len(race.left))
    engine_key = pairs[0].candidate.engine_key
    spec = '{"rows": [{"suite": "smoke", "benchmark": "bbh", "title": "BBH", "delta": {"delta_points": 9, "p": 0.01}, "refused": [], '
    spec += '"forced": false, "notes": []}], "averages": []}'
    for pair in pairs:
        family.add(pair.at, spec)
    verdict = family.verdict("smoke", engine_key, names, base="base")
    assert verdict.n_tests == 8
    assert verdict.count(Standing.BETTER) == 0
    shown = with_race(verdict, race)
    assert shown.count(Standing.LEFT) == len(race.left)
    left, look = race.left[0]
    assert f"{left.name} {left_text(left, look, 2)}" in shown.early
    assert with_race(verdict, None) is verdict
    assert isinstance(shown, RunVerdict)
    # Of a run without a race nobody is left out.
    plain, whole = run_whole(tmp_path / "whole", stand_in_plan(18), Racer())
    assert plain.failed == {}
    assert n_left_out(whole, plain.run_id, ()) == 0


class Keeping(Racer):
    """An executor whose whole evaluations leave samples, some of them altered, and whose workers refuse parts."""

    def __init__(self, home: Path, altered: Callable[[list[Sample]], list[Sample]]) -> None:
        super().__init__()
        self._home, self._altered = home, altered

    def _outcome(self, task: Task) -> Outcome:
        job = task.job
        assert isinstance(job, EvalJob)
        if job.decide is not None:
            return Failure(failure_class=FailureClass.BAD_INPUT, message="It cannot be asked in parts.")
        seed = len(job.layer_path or ())
        written = samples(load_suite("smoke").benchmark(job.benchmark), seed, 0.5, 20)
        outcome, file = eval_outcome(job), self._home / f"{job.digest}.parquet"
        write_samples(file, written if job.layer_path is None else self._altered(written))
        update = {
            "samples_path": file.name,
            "samples_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        return outcome.model_copy(update=update)


def _lacking_a_metric(of_path: list[Sample]) -> list[Sample]:
    return [s.model_copy(update={"metrics": {}}) for s in of_path]


def _of_two_kinds(of_path: list[Sample]) -> list[Sample]:
    scored = {"choices": ("a", "b"), "logprobs": (-1.0, -2.0)}
    return [of_path[0].model_copy(update=scored), *of_path[1:]]


@pytest.mark.parametrize(
    ("altered", "refused"),
    [
        (list, False),
        (_lacking_a_metric, True),
        (_of_two_kinds, True),
        (lambda of_path: of_path[1:], True),
    ],
    ids=["whole", "no metric", "two kinds", "fewer documents"],
)
def test_whole_evaluations_that_make_no_part_are_left_to_the_worker(
    tmp_path: Path, altered: Callable[[list[Sample]], list[Sample]], refused: bool
) -> None:
    plan = raced_plan(candidates=3)
    whole, _ = run_whole(tmp_path, plan.model_copy(update={"whole": True}), Keeping(tmp_path, altered))
    assert whole.failed == {}
    executor = Keeping(tmp_path, altered)
    summary, _ = run_race(tmp_path, plan, executor)
    assert len(executor.started) == len(summary.failed) == (6 if refused else 0)
    assert set(summary.failed.values()) == ({"It cannot be asked in parts."} if refused else set())


def sweep(text: str) -> Sweep:
    head = f"name: s\nbase: {HUB_BASE}\nsuites: [smoke]\n"
    return parse_sweep((head + text).encode(), origin="s.yaml", folder=Path()).sweep


def test_a_race_in_a_sweep_file() -> None:
    assert sweep("decide: {race: {keep: 3}}").decide == DecideEntry(race=RaceRule(keep=3))
    plain = sweep("decide: true").decide
    assert plain is not None
    assert "race" not in plain.model_dump()
    for text, words in (
        ("decide: {race: {}}", r"s.yaml:4: decide.race.keep"),
        ("decide: {race: {keep: 0}}", r"decide.race.keep"),
        ("decide: {race: {keep: 2, shares: [0.5, 0.2]}}", "the shares ascend"),
        ("decide: {race: {keep: 2}, margin: 1}", "leave out `margin`"),
        ("decide: {race: {keep: 2}, error_rate: 0.1}", "give `error_rate` below `race`"),
        ("decide: {race: {keep: 2}}\nscore_base: false", "score_base"),
    ):
        with pytest.raises(SweepError, match=words):
            sweep(text)


def pairs_of(evals: Sequence[PlannedEval]) -> list[tuple[str, EvalJob]]:
    return [(planned.candidate, planned.job) for planned in evals]


def test_what_cannot_race_is_refused_by_name() -> None:
    plan = raced_plan(candidates=2)
    file = SweepFile(sweep=plan.sweep, text="", origin="s.yaml", folder="/")
    base = plan.candidates[0].name
    with pytest.raises(SweepError, match=r"s.yaml: decide.race: 2 candidates race and the best 2 are kept"):
        check_race(file, pairs_of(plan.evals), base)
    probes = [e.model_copy(update={"job": e.job.model_copy(update={"suite": "probes"})}) for e in plan.evals]
    with pytest.raises(SweepError, match="bbh cannot be asked in parts"):
        check_race(file, pairs_of(probes), base)
    wider = [
        e.job.model_copy(update={"settings": e.job.settings.model_copy(update={"limit": None})})
        for e in plan.evals
    ]
    twice = [*pairs_of(plan.evals), *((e.candidate, job) for e, job in zip(plan.evals, wider, strict=True))]
    words = "bbh is asked twice, with the limits 20 and none, and a race needs"
    with pytest.raises(SweepError, match=f"s.yaml: decide.race: {words}"):
        check_race(file, twice, base)
    for changed, words in (
        ({"suite": "leaderboard-v2"}, "in smoke and in leaderboard-v2"),
        (
            {"engine": plan.evals[0].job.engine.model_copy(update={"dtype": "float16"})},
            r"in two engines \(vllm and vllm\)",
        ),
    ):
        others = [
            (e.candidate, e.job.model_copy(update=changed)) for e in plan.evals if e.job.benchmark == "bbh"
        ]
        with pytest.raises(SweepError, match=f"bbh is asked twice, {words}"):
            check_race(file, [*pairs_of(plan.evals), *others], base)
    # A candidate with another engine than the base's is asked whole, and the plan says so.
    wide = raced_plan(candidates=5)
    name = wide.candidates[1].name
    evals = [
        e.model_copy(
            update={
                "job": e.job.model_copy(
                    update={"engine": e.job.engine.model_copy(update={"quantization": "awq"})}
                )
            }
        )
        if e.candidate == name
        else e
        for e in wide.evals
    ]
    (note,) = check_race(file, pairs_of(evals), base)
    assert note.startswith(f"{name} does not race and is asked whole")
    first = first_round(wide.model_copy(update={"evals": tuple(evals)}), RULE)
    assert {e.job.decide is None for e in first.evals if e.candidate == name} == {True}
