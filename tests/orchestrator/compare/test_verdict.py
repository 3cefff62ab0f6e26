"""The verdict of a run from its corrected comparisons."""

from __future__ import annotations

import pytest

from orchestrator.compare import compare, correct
from orchestrator.compare import family as family_module
from orchestrator.compare.family import RunFamily, pairs_of_run
from orchestrator.compare.verdict import Standing, run_verdict, verdict_sentences
from orchestrator.store.comparisons import ScoredCandidate
from tests.support.compared_sides import V2, answers, flipped, several, side

NAMES = ("musr", "bbh")


def test_a_verdict_counts_every_candidate_once_and_names_its_effects():
    base = [side(name, answers(name)) for name in NAMES]
    sides = {
        "gain": several(NAMES, gain=25),
        "loss": several(NAMES, gain=0, lose=25),
        "same": several(NAMES, gain=1, lose=1),
        "other prompt": [side(n, answers(n), prompt="q") for n in NAMES],
        "mixed": [
            side("musr", flipped(answers("musr"), gain=25)),
            side("bbh", flipped(answers("bbh"), lose=25)),
        ],
    }
    comparisons = correct([compare(base, {name: given}, [V2])[0] for name, given in sides.items()])
    verdict = run_verdict("base", comparisons, pending=("later",))
    assert verdict.standings == {
        "later": Standing.PENDING,
        "gain": Standing.BETTER,
        "loss": Standing.WORSE,
        "same": Standing.UNSHOWN,
        "other prompt": Standing.REFUSED,
        "mixed": Standing.MIXED,
    }
    assert not verdict.complete
    assert run_verdict("base", comparisons).complete
    assert {effect.candidate for effect in verdict.average_effects} <= {"gain", "loss", "mixed"}
    assert verdict.benchmark_effects[0].candidate == "gain"
    assert verdict.benchmark_effects[0].sentence.startswith("gain +")
    refusal = next(r for r in verdict.refusals if "other prompt" in r.candidates)
    assert refusal.candidates == ("other prompt",)


def test_a_family_says_of_kept_comparisons_what_their_records_say():
    base = [side(name, answers(name)) for name in NAMES]
    sides = {
        "gain": several(NAMES, gain=25),
        "loss": several(NAMES, gain=0, lose=25),
        "other prompt": [side(n, answers(n), prompt="q") for n in NAMES],
    }
    uncorrected = [compare(base, {name: given}, [V2])[0] for name, given in sides.items()]
    scored = [
        ScoredCandidate(position=position, engine_key="e", suites=(V2.name,), jobs=(f"job {position}",))
        for position in range(5)
    ]
    family = RunFamily(pairs_of_run(scored, 0))
    names = dict(enumerate(["base", *sides, "later", "never scored"]))
    others = {position: name for position, name in names.items() if position}
    for position, comparison in enumerate(uncorrected, start=1):
        family.add((position, "e"), comparison.model_dump_json())
    verdict = family.verdict(V2.name, "e", others, base="base")
    assert verdict.standings["later"] is Standing.PENDING
    assert verdict.standings["never scored"] is Standing.UNSCORED
    assert verdict_sentences(verdict) == (), "nothing is concluded before all are compared"
    assert family.comparisons() == correct(uncorrected, other_candidates=1)

    family.add((4, "e"), compare(base, {"later": base}, [V2])[0].model_dump_json())
    family_verdict = family.verdict(V2.name, "e", {p: n for p, n in others.items() if p < 5}, base="base")
    assert family_verdict == run_verdict("base", family.comparisons())
    mean, single = verdict_sentences(family_verdict)
    assert mean == "Mean: 1 of 3 better, 1 worse"
    assert single.startswith("Single benchmarks: gain +")


def test_a_comparison_is_out_of_date_with_a_further_evaluation_and_with_other_statistics(
    monkeypatch: pytest.MonkeyPatch,
):
    def key(jobs: tuple[str, ...]) -> str:
        sides = [
            ScoredCandidate(position=p, engine_key="e", suites=(V2.name,), jobs=jobs if p else ("b",))
            for p in (0, 1)
        ]
        return pairs_of_run(sides, 0)[0].key

    before = key(("x",))
    assert key(("x",)) == before
    assert key(("x", "y")) != before
    monkeypatch.setattr(family_module, "STATISTICS", family_module.STATISTICS + 1)
    assert key(("x",)) != before
