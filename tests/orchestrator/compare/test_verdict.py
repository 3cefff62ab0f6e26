"""The verdict of a run from its corrected comparisons."""

from __future__ import annotations

from orchestrator.compare import compare, correct
from orchestrator.compare.verdict import Standing, run_verdict
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
