"""Reads the scenes of the emotion probes from YAML."""

from __future__ import annotations

import functools
from importlib import resources

import yaml
from pydantic import Field, TypeAdapter

from evals.engine import Frozen


class Scene(Frozen):
    """A scene, a person in it, and how strongly that person feels each of four emotions."""

    id: str = Field(description="Name of the scene, unique over all sets.")
    about: str = Field(description="The person.")
    text: str = Field(description="What happens.")
    emotions: dict[str, int] = Field(min_length=4, max_length=4, description="Rating 0 to 10 by emotion.")


class Moment(Frozen):
    """A sentence, a person in it, and that person's feeling."""

    about: str = Field(description="The person.")
    text: str = Field(description="What happens.")
    feeling: str = Field(description="The feeling of the person.")


class Moments(Frozen):
    """The moments of each set."""

    examples: tuple[Moment, ...] = Field(description="Few-shot examples.")
    search: tuple[Moment, ...] = Field(description="The search set.")
    confirmation: tuple[Moment, ...] = Field(description="The confirmation set.")


@functools.cache
def read_scenes(name: str) -> tuple[Scene, ...]:
    """The scenes of `search` or `confirmation`."""
    return TypeAdapter(tuple[Scene, ...]).validate_python(yaml.safe_load(_text(name)))


@functools.cache
def read_moments() -> Moments:
    """All moments."""
    return Moments.model_validate(yaml.safe_load(_text("moments")))


def _text(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
