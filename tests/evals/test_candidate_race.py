"""Parts of benchmarks that a race of candidates asks, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from evals.benchmark import Benchmark
from evals.errors import EvaluationError
from evals.race_rule import RaceRule
from evals.scores import Sample
from evals.stats.candidate_race import part_answers, part_of_documents, run_race
from evals.stats.paired import documents, pooled
from evals.stats.race import RaceProbe, race_look
from evals.stats.resample import Floats, measured
from evals.stats.sequence import LookPlan, LookSequence, PartAnswers, SubsetPart
from evals.stats.stopping import Rule
from evals.suite import load_suite


def samples(benchmark: Benchmark, seed: int, share: float, n: int = 40) -> list[Sample]:
    """Answers to n documents of each subset; metrics over items where the name says so."""
    rng = np.random.default_rng([seed, len(benchmark.name)])
    items = np.random.default_rng(1).integers(1, 5, (len(benchmark.subsets), n))
    answered = []
    for s, subset in enumerate(benchmark.subsets):
        for d in range(n):
            counts = {m: float(items[s, d]) for m in benchmark.metrics if m.startswith("inst")}
            metrics = {
                m: float(rng.binomial(int(counts.get(m, 1)), share) / counts.get(m, 1.0))
                for m in benchmark.metrics
            }
            common = {
                "benchmark": benchmark.name,
                "subset": subset.task,
                "doc_id": d,
                "doc_hash": f"{d:016x}",
            }
            answered.append(
                Sample(
                    **common,
                    prompt_hash="p" * 16,
                    target="a",
                    response="a",
                    metrics=metrics,
                    correct=0.0,
                    weights=counts,
                )
            )
    return answered


def points(part: PartAnswers) -> float:
    value, begin = 0.0, 0
    for subset in part.subsets:
        value += subset.points * sum(part.credits[begin : begin + subset.n]) / subset.n
        begin += subset.n
    return value


@pytest.mark.parametrize("name", ["ifeval", "bbh", "mmlu-pro"])
def test_all_documents_are_worth_the_difference_of_the_normalized_scores(name: str) -> None:
    benchmark = next(b for b in load_suite("leaderboard-v2").benchmarks if b.name == name)
    base, candidate = samples(benchmark, 0, 0.9), samples(benchmark, 1, 0.75)
    part = part_answers(benchmark, base, candidate, 0.9999, 0)
    docs = documents([base, candidate], benchmark)
    before, after = measured(docs.subsets, docs.pooled)
    assert len(part.items) == len(base)
    assert len(part.subsets) == (1 if pooled(benchmark) else len(benchmark.subsets))
    assert points(part) == pytest.approx(after - before, abs=1e-9)
    # A part asks the documents of the smaller ones and more, and no fewer than three of a subset.
    small = part_answers(benchmark, base, candidate, 0.05, 0)
    half = part_answers(benchmark, base, candidate, 0.5, 0)
    assert set(small.items) < set(half.items)
    assert all(subset.n >= 3 for subset in small.subsets)
    # The documents beyond the part are not needed.
    keys = sorted((s.subset, s.doc_id) for s in base)
    asked = {keys[item] for item in half.items}
    some = [s for s in candidate if (s.subset, s.doc_id) in asked]
    assert part_answers(benchmark, base, some, 0.5, 0) == half
    # Those of the part are, with every metric.
    with pytest.raises(EvaluationError, match=f"Document {some[0].doc_id} of {some[0].subset} is among"):
        part_answers(benchmark, base, some[1:], 0.5, 0)
    unknown = [s.model_copy(update={"metrics": {}}) for s in base]
    for before, after_it in ((base, unknown), (unknown, some)):
        with pytest.raises(EvaluationError, match=f"{benchmark.title} cannot be asked in parts"):
            part_answers(benchmark, before, after_it, 0.5, 0)
    assert part_of_documents(keys, 0.5, 0) == half.items
    stored = LookSequence(plan=LookPlan(rule=Rule()), n_whole=len(base), looks=(), part=half)
    assert LookSequence.model_validate_json(stored.model_dump_json()) == stored


def part_of(credits: Floats, n: int, n_whole: int) -> PartAnswers:
    subset = SubsetPart(name="s", n=n, n_whole=n_whole, points=100.0)
    return PartAnswers(items=tuple(range(n)), credits=tuple(credits[:n].tolist()), subsets=(subset,))


def test_a_race_of_two_benchmarks() -> None:
    rng = np.random.default_rng(0)
    rule = RaceRule(keep=1, shares=(0.2, 0.5))
    keys = [("a", "x", "e"), ("a", "y", "e")]
    levels = {"best": 0.8, "good": 0.7, "bad": 0.2}
    credits = {name: [(rng.random(100) < level) - 0.5 for _ in keys] for name, level in levels.items()}
    rounds = [
        {
            name: {key: part_of(c, n, 100) for key, c in zip(keys, of, strict=True)}
            for name, of in credits.items()
        }
        for n in (20, 50)
    ]
    race = run_race(rule, keys, rounds[:1])
    (look,) = race.looks
    assert (look.n, look.n_whole, race.over) == (40, 200, False)
    assert look.left == ("bad",)
    assert look.candidates[0].value == pytest.approx(
        max(100 * np.mean([c[:20].mean() for c in of]) for of in credits.values())
    )
    race = run_race(rule, keys, rounds)
    assert race.over
    assert race.asked == 3 * 40 + 2 * 60 + len(race.contenders) * 100
    assert f"{race.asked} of 600" in race.sentence
    # A candidate without an answer is out; without any, the race ends.
    del rounds[0]["best"][keys[1]]
    assert run_race(rule, keys, rounds[:1]).looks[0].failed == ("best",)
    nobody = run_race(rule, keys, [{name: {} for name in levels}])
    assert (nobody.contenders, nobody.over, nobody.asked) == ((), True, 0)
    assert "none of 3 candidates could be asked" in nobody.sentence


def test_sets_of_one_question_and_of_thousands() -> None:
    rng = np.random.default_rng(2)
    true = np.linspace(0.3, 0.6, 12)[:, None]
    whole = (rng.random((12, 6000)) < true).astype(float)
    single = RaceProbe(values=np.ones((12, 1)), n_whole=1, weight=5.0)
    looked = race_look(
        [RaceProbe(values=whole[:, :3000], n_whole=6000, weight=100.0), single], keep=2, error_rate=0.05
    )
    best = np.argsort(-whole.mean(axis=1))[:2]
    assert not looked.leaves[best].any()
    assert looked.leaves[:6].all()
    # The errors are those of as many random numbers as questions.
    assert looked.high - looked.value == pytest.approx(3.0 * np.sqrt(0.5) * looked.stderr, rel=0.2)
