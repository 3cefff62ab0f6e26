"""The space of a merge search: the searched numbers of a mergekit document, and the document with values in their place.

weight: {search: [0, 1]}                        a number of the range
density: {search: [0.1, 1], log: true}          on a logarithmic scale
layer_range: [0, {search: [4, 8], step: 1}]     whole numbers, if both ends and the step are whole
t: {search: [0, 1], points: 4}                  a gradient: four numbers of the range, a list in the document
merge_method: {choices: [ties, dare_ties]}      one of several values; also {search: {choice: [...]}}
weight: {search: [0, 1], name: w}               places with the same name share one value
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field, ValidationError, model_validator

from evals.engine import Frozen

Value = bool | int | float | str
"""Value of a parameter."""
Values = dict[str, Value]
"""Value of each parameter by name."""
Location = tuple[int | str, ...]

MAX_PARAMETERS = 64
MAX_POINTS = 64
MAX_CHOICES = 64
# Values are rounded to this share of the range, so that two processors propose the same merge and equal merges are found again.
_GRAIN = 1e-4
_KEYS = frozenset({"search", "choices", "log", "step", "points", "name"})


class SpaceError(ValueError):
    """A searched value that cannot be read, with its place in the document."""

    def __init__(self, location: Location, problem: str) -> None:
        super().__init__(problem)
        self.location = location
        self.problem = problem


class SearchParameter(Frozen):
    """One searched number or choice."""

    name: str = Field(description="Its place in the recipe, or the name that the file gives it.")
    low: float | None = Field(default=None, description="Lower end of the range; null for a choice.")
    high: float | None = Field(default=None, description="Upper end of the range, included.")
    log: bool = Field(default=False, description="Whether the range is searched on a logarithmic scale.")
    step: float | None = Field(default=None, description="Distance between values; null is any number.")
    is_integer: bool = Field(default=False, description="Whether its values are whole numbers.")
    choices: tuple[Value, ...] = Field(default=(), description="The values of a choice; empty for a range.")

    @property
    def is_range(self) -> bool:
        """Whether it is a range of numbers, not a choice."""
        return not self.choices

    @property
    def bounds(self) -> tuple[float, float]:
        """Both ends of a range."""
        if self.low is None or self.high is None:
            raise ValueError(f"{self.name} is a choice and has no range")
        return self.low, self.high

    def rounded(self, value: Value) -> Value:
        """A proposed value to a ten-thousandth of the range, of four digits on a logarithmic scale; steps are kept."""
        if not self.is_range or isinstance(value, str):
            return value
        if self.is_integer:
            return round(value)
        low, high = self.bounds
        if self.step is not None:
            decimals, high = 12, self._last_step
        elif self.log:
            decimals = 3 - math.floor(math.log10(value))
        else:
            decimals = -math.floor(math.log10((high - low) * _GRAIN) + 1e-9)
        return min(high, max(low, round(float(value), decimals)))

    @property
    def _last_step(self) -> float:
        """The largest value of a range with steps, with the optimiser's decimal arithmetic: 0.9 of [0, 1] in steps of 0.3."""
        low, high, step = (Decimal(str(number)) for number in (*self.bounds, self.step))
        return float(low + (high - low) // step * step)

    @model_validator(mode="after")
    def _check(self) -> SearchParameter:
        if self.choices:
            return self
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError("the first number of a range must be smaller than the second")
        if self.log and low <= 0:
            raise ValueError("a logarithmic range must begin above 0")
        if self.step is not None and not 0 < self.step <= high - low:
            raise ValueError("the step must be above 0 and at most the length of the range")
        if self.step is not None and self.log:
            raise ValueError("a range is logarithmic or has a step, not both")
        return self


class DocumentPlace(Frozen):
    """A place of the document that is filled with parameters."""

    location: tuple[int | str, ...] = Field(description="Keys and indices from the document's root.")
    parameters: tuple[str, ...] = Field(description="Its parameter, or those of a gradient's points.")
    is_gradient: bool = Field(description="Whether the document gets a list of the values.")


class Space(Frozen):
    """The searched parameters of a recipe, and where they stand in it."""

    parameters: tuple[SearchParameter, ...] = Field(description="The parameters, in the document's order.")
    places: tuple[DocumentPlace, ...] = Field(description="Where they stand.")
    gradients: dict[str, tuple[str, ...]] = Field(
        description="Name of each gradient to the names of its points, first layer first."
    )

    @classmethod
    def of(cls, document: Any) -> Space:
        """Read the searched values of a document, a mapping or a list of stages. Raises SpaceError."""
        parameters: dict[str, SearchParameter] = {}
        places: list[DocumentPlace] = []
        gradients: dict[str, tuple[str, ...]] = {}
        for location, entry in _searched(document, ()):
            place, read = _place(location, entry)
            places.append(place)
            for parameter in read:
                if parameters.setdefault(parameter.name, parameter) != parameter:
                    raise SpaceError(
                        location,
                        f"{parameter.name!r} is searched in two ranges; give both the same, or other names.",
                    )
            if place.is_gradient:
                gradients[str(entry.get("name") or _dotted(location))] = place.parameters
        if not places:
            raise SpaceError(
                (), "nothing is searched: put {search: [0, 1]} in the place of a number of the recipe."
            )
        if len(parameters) > MAX_PARAMETERS:
            raise SpaceError((), f"{len(parameters)} values are searched; at most {MAX_PARAMETERS} can be.")
        return cls(parameters=tuple(parameters.values()), places=tuple(places), gradients=gradients)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    def fill(self, document: Any, values: Mapping[str, Value]) -> Any:
        """The document with these values in the places of the searched ones."""
        filled = copy.deepcopy(document)
        for place in self.places:
            given = [values[name] for name in place.parameters]
            holder = filled
            for key in place.location[:-1]:
                holder = holder[key]
            holder[place.location[-1]] = given if place.is_gradient else given[0]
        return filled

    def rounded(self, values: Mapping[str, Value]) -> Values:
        """Proposed values, rounded, in the order of the parameters."""
        return {p.name: p.rounded(values[p.name]) for p in self.parameters}


def is_searched(document: Any) -> bool:
    """Whether a document has searched values."""
    return next(_searched(document, ()), None) is not None


def _searched(node: Any, location: Location) -> Iterator[tuple[Location, dict[str, Any]]]:
    """The searched entries of a document with their locations, in its order."""
    if isinstance(node, dict):
        if "search" in node or "choices" in node:
            yield location, node
            return
        for key, value in node.items():
            yield from _searched(value, (*location, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _searched(value, (*location, index))


def _place(location: Location, entry: dict[str, Any]) -> tuple[DocumentPlace, list[SearchParameter]]:
    """The place and its parameters; SpaceError for an entry that cannot be read."""
    unknown = set(entry) - _KEYS
    if unknown:
        raise SpaceError(
            location, f"{', '.join(sorted(map(str, unknown)))} is no setting of a searched value."
        )
    name = str(entry.get("name") or _dotted(location))
    points = entry.get("points")
    if points is not None and (type(points) is not int or not 2 <= points <= MAX_POINTS):
        raise SpaceError(location, f"`points` is a whole number from 2 to {MAX_POINTS}.")
    names = (name,) if points is None else tuple(f"{name}[{n}]" for n in range(points))
    fields = _fields(location, entry)
    try:
        parameters = [SearchParameter(name=each, **fields) for each in names]
    except ValidationError as error:
        problem = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise SpaceError(location, f"{problem}.") from error
    return DocumentPlace(location=location, parameters=names, is_gradient=points is not None), parameters


def _fields(location: Location, entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry's parameter, without its name."""
    searched = entry.get("search")
    choices = entry.get("choices")
    if isinstance(searched, dict) and set(searched) == {"choice"} and choices is None:
        choices, searched = searched["choice"], None
    if (searched is None) == (choices is None):
        raise SpaceError(location, "give either `search`, a range [low, high], or `choices`.")
    if choices is not None:
        return {"choices": _choices(location, entry, choices)}
    ends = searched if isinstance(searched, list) else []
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends):
        raise SpaceError(location, "a range is written [low, high], with two numbers.")
    step, log = entry.get("step"), entry.get("log", False)
    if type(log) is not bool or (step is not None and type(step) not in (int, float)):
        raise SpaceError(location, "`log` is true or false, and `step` is a number.")
    whole = type(step) is int and all(type(end) is int for end in ends)
    return {"low": ends[0], "high": ends[1], "log": log, "step": step, "is_integer": whole}


def _choices(location: Location, entry: dict[str, Any], choices: Any) -> tuple[Value, ...]:
    if not isinstance(choices, list) or not 2 <= len(choices) <= MAX_CHOICES:
        raise SpaceError(location, f"`choices` is a list of 2 to {MAX_CHOICES} values.")
    if not all(isinstance(choice, bool | int | float | str) for choice in choices):
        raise SpaceError(location, "each of the `choices` is a number, a text, true or false.")
    if len({(type(choice), choice) for choice in choices}) < len(choices):
        raise SpaceError(location, "one of the `choices` is named twice.")
    if entry.get("log") or entry.get("step"):
        raise SpaceError(location, "`log` and `step` are settings of a range, not of `choices`.")
    return tuple(choices)


def _dotted(location: Location) -> str:
    return ".".join(map(str, location))
