"""Whether a sweep's layer paths run live or are built as checkpoints, and why."""

from __future__ import annotations

from evals.engine import DeviceKind, ExecutionMode, InstalledEngine
from evals.live_paths import untested_family
from orchestrator.plan.sweep import EngineEntry, Sweep
from recipes.config_facts import ConfigFacts

_COMPILED = "the execution mode compiled is asked for, and no layer path can be set in a compiled engine"
_ASKED = "the sweep says `materialize: true`"
_TRY = "with `try_live: true` or --try-live they run live if the engine's self-check passes"


def built_reason(
    sweep: Sweep, engines: list[tuple[EngineEntry, InstalledEngine]], config: ConfigFacts
) -> str | None:
    """Why layer paths are built as checkpoints; None if they run live.

    With `try_live: true` every architecture is tried; what the engine's self-check rejects is built while the run goes on.
    """
    if sweep.materialize:
        return _ASKED
    if any(entry.execution is ExecutionMode.COMPILED for entry in sweep.engines):
        return _COMPILED
    reason = _untested(engines, config)
    return None if reason is None or sweep.try_live else f"{reason}; {_TRY}"


def path_notes(
    reason: str | None,
    engines: list[tuple[EngineEntry, InstalledEngine]],
    config: ConfigFacts,
    *,
    has_paths: bool,
) -> tuple[str, ...]:
    """Notes that layer paths are built for a `reason` that the sweep does not ask for, or tried where no test compares them."""
    if reason == _ASKED or not has_paths:
        return ()
    if reason is not None:
        return (f"Layer paths are built as checkpoints: {reason}.",)
    untested = _untested(engines, config)
    if untested is None:
        return ()
    return (
        f"Layer paths are tried live: {untested}; if the engine's self-check refuses them, they are built as checkpoints while the "
        "run goes on.",
    )


def _untested(engines: list[tuple[EngineEntry, InstalledEngine]], config: ConfigFacts) -> str | None:
    """Why layer paths are not run live unasked, the first reason; None where tests compare them."""
    reasons = (
        untested_family(
            config.model_type, config.architecture, kind=engine.kind, cpu=engine.device is DeviceKind.CPU
        )
        for _, engine in engines
    )
    return next((reason for reason in reasons if reason is not None), None)
