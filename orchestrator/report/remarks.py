"""What is said of refused comparisons: the reason, and what to do about it."""

from __future__ import annotations

from evals.claims.facts import Fact

_SETTINGS = {
    Fact.TEMPLATE: "set `chat_template: on` or `off` in the sweep",
    Fact.DTYPE: "set the same `dtype` of the engine",
    Fact.LIMIT: "evaluate both on the same documents (`--limit`, or without it)",
    Fact.QUANTIZATION: "compare with a base that was converted from weights of the same precision",
    Fact.MAX_LENGTH: "set the same `max_length` of the engine",
    Fact.EXECUTION: "set the same `execution` of the engine",
    Fact.TENSOR_PARALLEL: "set the same `tensor_parallel` of the engine",
    Fact.ENGINE_VERSION: "evaluate both with one version of the engine",
    Fact.HARNESS_VERSION: "evaluate both with one version of lm-eval",
    Fact.SCORER: "evaluate both with one version of mergeboard and its scorers",
    Fact.SEEDS: "use the same `seeds`",
    Fact.BOS: "evaluate both with the same `add_bos_token`",
}
_HAS_ADVICE = ("again", "restore", "import")


def remedy(reason: str) -> str:
    """What to do about a reason why two results were not compared, as a sentence; empty if the reason says it itself."""
    if reason.startswith("only the "):
        side = "base" if reason.startswith("only the candidate") else "candidate"
        return f"Evaluate the {side} on it too: add it to the sweep and run the same command again."
    if any(word in reason for word in _HAS_ADVICE):
        return ""
    fact = next((f for f in Fact if reason.startswith(f"{f}:")), None)
    if fact in _SETTINGS:
        setting = _SETTINGS[fact]
        return f"{setting[0].upper()}{setting[1:]}; `mergeboard compare --force` shows the difference nevertheless."
    return "Evaluate both in one sweep with the same settings; `mergeboard compare --force` shows the difference nevertheless."


def reason_with_remedy(reason: str) -> str:
    """The reason as a sentence, followed by what to do."""
    sentence = reason if reason.endswith(".") else f"{reason}."
    return f"{sentence} {remedy(reason)}".strip()
