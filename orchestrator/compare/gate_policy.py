"""The policy of a gate: what a candidate must hold against its base, benchmark by benchmark."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from evals.engine import Frozen
from evals.stats.stopping import Aim
from orchestrator.errors import PolicyError
from recipes.errors import RecipeError
from recipes.outside_file import read_file
from recipes.yaml_text import load_yaml

_MAX_BYTES = 1_000_000


class Requirement(Frozen):
    """What must hold on one benchmark or on the average: exactly one of `may_lose` and `must_gain`."""

    may_lose: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="The candidate must not lose this many points or more (non-inferiority test).",
    )
    must_gain: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="The candidate must gain more than this many points; 0: any gain that is shown (test of the difference).",
    )
    critical: bool = Field(
        default=True,
        description="Whether it decides; an advisory requirement (false) is reported and decides nothing.",
    )

    @model_validator(mode="after")
    def _check_one(self) -> Requirement:
        if (self.may_lose is None) == (self.must_gain is None):
            raise ValueError("give either may_lose or must_gain, in points")
        return self

    @property
    def aim(self) -> Aim:
        """The test."""
        return Aim.SUPERIORITY if self.may_lose is None else Aim.NON_INFERIORITY

    @property
    def margin_points(self) -> float:
        """The margin in points, as the test takes it."""
        return float(self.must_gain or 0.0) if self.may_lose is None else self.may_lose

    @property
    def text(self) -> str:
        """For example `may lose less than 2 points`."""
        if self.may_lose is not None:
            return f"may lose less than {self.may_lose:g} points"
        return f"must gain more than {self.must_gain:g} points" if self.must_gain else "must gain"


class Budget(Frozen):
    """How much may be evaluated for one decision, with `--run`."""

    questions: int | None = Field(
        default=None, ge=0, description="Questions of both sides together; null: no limit."
    )
    seconds: float | None = Field(
        default=None, ge=0, description="Seconds after which no further benchmark is begun; null: no limit."
    )


class Policy(Frozen):
    """A gate's policy file."""

    suite: str = Field(min_length=1, description="Suite whose benchmarks are required.")
    benchmarks: dict[str, Requirement] = Field(
        default_factory=dict, description="Requirement of each benchmark, by its name in the suite."
    )
    average: Requirement | None = Field(default=None, description="Requirement of the suite's average.")
    others: Requirement | None = Field(
        default=None, description="Requirement of every benchmark of the suite that is not named; null: none."
    )
    error_rate: float = Field(
        default=0.05,
        ge=0.0001,
        le=0.25,
        description="Largest probability of GO for a candidate that fails a critical requirement, and of NO-GO for one that holds all.",
    )
    correct_for_sweep: bool = Field(
        default=True,
        description="Whether GO is corrected for the other candidates of the run, among which this one may have been chosen.",
    )
    budget: Budget = Field(default_factory=Budget, description="Limits of what `--run` may evaluate.")

    @model_validator(mode="after")
    def _check_critical(self) -> Policy:
        stated = [*self.benchmarks.values(), self.average, self.others]
        if not any(requirement is not None and requirement.critical for requirement in stated):
            raise ValueError(
                "no requirement is critical, so that nothing would decide; set critical: true for one"
            )
        return self


def load_policy(path: Path) -> Policy:
    """Read a policy file. Raises PolicyError, which names file, line and field."""
    from orchestrator.plan.fields_file import place_of

    try:
        document = load_yaml(read_file(path, _MAX_BYTES), str(path))
    except OSError as error:
        raise PolicyError(
            f"{path} cannot be read ({error.strerror}); give the path of a policy file."
        ) from error
    except RecipeError as error:
        raise PolicyError(str(error)) from error
    if not isinstance(document.data, dict):
        raise PolicyError(
            f"{path} holds no policy: it is a mapping with `suite` and `benchmarks` (docs/gate.md)."
        )
    try:
        return Policy.model_validate(document.data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        line = document.line_of(first["loc"])
        problem = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            problem = "there is no such field; docs/gate.md lists them"
        where = place_of(first["loc"], f"{path}:{line}", {}).rstrip(": ")
        raise PolicyError(f"{where}: {problem}.") from error
