"""What can go wrong, as the person at the command line sees it.

MergeboardError            base: one sentence that says what, where and the next step; the command exits with 2
├── SweepError             a sweep file that does not parse or does not make sense
├── PlanError              a plan that cannot be made: missing checkpoints, no benchmark that can run
│   └── PlanOutdated       a node has other definitions or versions than those that were planned
├── StoreError             a store that cannot be opened, is newer than this code, or refuses a request
│   └── StoreLost          a store that does not answer, or whose disk is full: it may be back in a while
├── ClusterError           Ray cannot be reached or does not have what a job needs
│   └── TokenError         Ray is there and turns us away, since our token is missing or not the cluster's
├── RunError               a run that is unknown, already driven by someone else, or ended with failures
└── CardError              a model card that cannot be read or must not be written

`recipes.errors.RecipeError` and `evals.errors.EvaluationError` are shown in the same way.
"""


class MergeboardError(Exception):
    """Base of what a user can mend; the message is the whole answer."""


class SweepError(MergeboardError):
    """The sweep file does not parse or does not make sense."""


class PlanError(MergeboardError):
    """No plan can be made of it."""


class PlanOutdated(PlanError):
    """A node has other definitions or versions than those that were planned."""


class StoreError(MergeboardError):
    """The store cannot be opened, is newer than this code, or refuses a request."""


class StoreLost(StoreError):
    """The store does not answer, or its disk is full: it may be back in a while."""


class ClusterError(MergeboardError):
    """Ray cannot be reached, or lacks what a job needs."""


class TokenError(ClusterError):
    """Ray turns us away: our token is missing or not the cluster's."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"Ray at {address} turns us away: it asks for its token; export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as its head has them."
        )


class RunError(MergeboardError):
    """The run is unknown, driven by another process, or ended with failures."""


class CardError(MergeboardError):
    """The model card cannot be read, or must not be written."""
