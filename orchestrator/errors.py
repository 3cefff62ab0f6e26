"""Exceptions that are shown to the user as one sentence.

MergeboardError            base: one sentence that says what, where and the next step; the command exits with 2
├── SweepError             a sweep file that does not parse or does not make sense
├── PlanError              a plan that cannot be made: missing checkpoints, no benchmark that can run
│   └── PlanOutdated       a node has other definitions or versions than those that were planned
├── StoreError             a store that cannot be opened, is newer than this code, or refuses a request
│   ├── StoreMissing       there is no store yet
│   └── StoreLost          a store that does not answer, or whose disk is full: it may be back in a while
├── ClusterError           Ray cannot be reached or does not have what a job needs
│   └── TokenError         Ray is there and rejected the connection: our token is missing, not sent, or not the cluster's
├── PolicyError            a gate's policy file that does not parse or does not fit the suite
├── RunError               a run that is unknown, already driven by someone else, or ended with failures
└── CardError              a model card that cannot be read or must not be written

`recipes.errors.RecipeError` and `evals.errors.EvaluationError` are shown in the same way.
"""

from __future__ import annotations

import os
from pathlib import Path


class MergeboardError(Exception):
    """Base of errors that a user can fix; the message is shown without a traceback."""


class SweepError(MergeboardError):
    """The sweep file does not parse or does not make sense."""


class PlanError(MergeboardError):
    """No plan can be made of it."""


class PlanOutdated(PlanError):
    """A node has other definitions or versions than those that were planned."""


class StoreError(MergeboardError):
    """The store cannot be opened, is newer than this code, or refuses a request."""


class StoreMissing(StoreError):
    """There is no store yet: nothing has run."""


class StoreLost(StoreError):
    """The store does not answer, or its disk is full: it may be back in a while."""


class SchemaError(StoreError):
    """A store whose schema is not that of this code."""


class ClusterError(MergeboardError):
    """Ray cannot be reached, or lacks what a job needs."""


class TokenError(ClusterError):
    """Ray rejected the connection: our token is missing, not sent, or not the cluster's."""

    def __init__(self, address: str) -> None:
        token = _token_source()
        if token is None:
            reason = "it asks for a token and none is set; export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as its head has them"
        elif (mode := os.environ.get("RAY_AUTH_MODE", "")).lower() != "token":
            reason = f"a token is set ({token}), and RAY_AUTH_MODE={mode or '(not set)'} keeps Ray from sending it; export RAY_AUTH_MODE=token"
        else:
            reason = f"the token of {token} is not the cluster's; export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as its head has them"
        super().__init__(f"Ray at {address} rejected the connection: {reason}.")


def _token_source() -> str | None:
    """Where Ray would take a token from, in Ray's order; None if there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return "RAY_AUTH_TOKEN_PATH"
    file = Path.home() / ".ray" / "auth_token"
    return str(file) if file.is_file() else None


class RunError(MergeboardError):
    """The run is unknown, driven by another process, or ended with failures."""


class PolicyError(MergeboardError):
    """The policy file of a gate does not parse, or does not fit the suite."""


class CardError(MergeboardError):
    """The model card cannot be read, or must not be written."""
