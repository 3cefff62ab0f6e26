"""Whether a sweep's layer paths run live or are built as checkpoints, and why."""

from __future__ import annotations

from evals.engine import DeviceKind, ExecutionMode, InstalledEngine
from evals.live_paths import untested_family
from orchestrator.plan.sweep import EngineEntry, Sweep
from recipes.config_facts import ConfigFacts

_COMPILED = "the execution mode compiled is asked for, and no layer path can be set in a compiled engine"
_ASKED = "the sweep says `materialize: true`"


def built_reason(
    sweep: Sweep, engines: list[tuple[EngineEntry, InstalledEngine]], config: ConfigFacts
) -> str | None:
    """Why layer paths are built as checkpoints; None if they run live.

    With `try_live: true` every architecture is tried, and the engine refuses, with the reason, what its self-check rejects.
    """
    if sweep.materialize:
        return _ASKED
    if any(entry.execution is ExecutionMode.COMPILED for entry in sweep.engines):
        return _COMPILED
    if sweep.try_live:
        return None
    reasons = (
        untested_family(
            config.model_type, config.architecture, kind=engine.kind, cpu=engine.device is DeviceKind.CPU
        )
        for _, engine in engines
    )
    return next((reason for reason in reasons if reason is not None), None)


def path_notes(reason: str | None, *, has_paths: bool) -> tuple[str, ...]:
    """A note that layer paths are built and why, unless the sweep asks for it."""
    if reason in (None, _ASKED) or not has_paths:
        return ()
    return (f"Layer paths are built as checkpoints: {reason}.",)
