"""What to do about a refused comparison: how the two sides become comparable."""

from __future__ import annotations

from collections.abc import Sequence

from evals.claims.facts import Fact

_ENGINE = frozenset(
    {
        Fact.DTYPE,
        Fact.QUANTIZATION,
        Fact.KV_CACHE,
        Fact.ENGINE,
        Fact.ENGINE_VERSION,
        Fact.TENSOR_PARALLEL,
        Fact.DEVICE,
        Fact.EXECUTION,
        Fact.ATTENTION,
        Fact.BATCH_INVARIANCE,
        Fact.MAX_LENGTH,
    }
)
_VERSION = frozenset(
    {Fact.DEFINITION, Fact.TASK_VERSION, Fact.DATA, Fact.SCORER, Fact.HARNESS, Fact.HARNESS_VERSION}
)

_HAS_ADVICE = ("again", "restore", "import")


def facts_of_refusal(reasons: Sequence[str]) -> tuple[Fact, ...]:
    """The circumstances that reasons name, in their order."""
    by_name = {str(fact): fact for fact in Fact}
    named = (by_name.get(reason.partition(":")[0]) for reason in reasons)
    return tuple(dict.fromkeys(fact for fact in named if fact is not None))


def remedy(reasons: Sequence[str]) -> str:
    """What makes the two comparable, one or two sentences."""
    facts = facts_of_refusal(reasons)
    one_sided = [reason for reason in reasons if reason.startswith("only the ")]
    if facts and set(facts) <= _ENGINE:
        return (
            f"Evaluate both with the same {_names(facts)}: one sweep with one entry in `engines`. Evaluations that are "
            "stored with the same settings are not run again."
        )
    if facts and set(facts) <= _VERSION:
        return "Evaluate both again with this version and the same data: one sweep does both."
    if facts:
        return (
            f"Evaluate both with the same {_names(facts)}: one sweep does it, since its settings hold for every recipe. "
            "Evaluations that are stored with the same settings are not run again."
        )
    if one_sided and len(one_sided) == len(reasons):
        return "Evaluate the side that lacks the score: resume the run, or see why its job failed."
    return "Evaluate both again in one sweep."


def reason_with_remedy(reason: str) -> str:
    """A reason as a sentence, followed by what to do, unless the reason says it itself."""
    sentence = reason if reason.endswith(".") else f"{reason}."
    return sentence if any(word in reason for word in _HAS_ADVICE) else f"{sentence} {remedy((reason,))}"


def _names(facts: Sequence[Fact]) -> str:
    names = [str(fact) for fact in facts[:4]]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
