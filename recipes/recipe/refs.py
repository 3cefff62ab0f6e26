"""References to checkpoints: `org/name`, `org/name@revision`, a directory or `demo/...`; `+` adds an adapter."""

from __future__ import annotations

import re
from enum import StrEnum

from pydantic import Field, model_validator

from recipes.errors import RecipeSyntaxError
from recipes.tensor_file import Frozen

MAX_NAME = 512
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029\ud800-\udfff]")
_HUB = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_BARE = re.compile(r"[\w.-]{1,96}", re.ASCII)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class SourceKind(StrEnum):
    """Kind of a source."""

    DEMO = "demo"
    HUB = "hub"
    LOCAL = "local"
    BARE = "bare"


class SourceRef(Frozen):
    """Reference to a source checkpoint."""

    name: str = Field(description="Hub id, directory or `demo/...`, as written.")
    revision: str | None = Field(
        default=None, description="Commit, tag or branch on the hub; null is the default branch."
    )

    @model_validator(mode="after")
    def _check(self) -> SourceRef:
        for text in (self.name, self.revision):
            if text is not None and (not text.strip() or len(text) > MAX_NAME or _CONTROL.search(text)):
                raise RecipeSyntaxError(f"{_short(text)} is not the name of a checkpoint.")
        if "://" in self.name:
            raise RecipeSyntaxError(
                f"{_short(self.name)} is an address; write the hub id (org/name) or a directory."
            )
        return self

    @classmethod
    def parse(cls, text: str) -> SourceRef:
        """Parse `name` or `name@revision`. Raises RecipeSyntaxError."""
        name, at, revision = text.partition("@")
        if "@" in revision:
            raise RecipeSyntaxError(f"{_short(text)} has more than one @; write name@revision.")
        return cls(name=name, revision=revision if at else None)

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def kind(self) -> SourceKind:
        """Demo checkpoint, hub repository, directory, or a bare word, which may be a stage or a directory."""
        if self.name.startswith("demo/"):
            return SourceKind.DEMO
        if self.name.startswith((".", "~")) or _DRIVE.match(self.name):
            return SourceKind.LOCAL
        if _HUB.fullmatch(self.name):
            return SourceKind.HUB
        return SourceKind.BARE if _BARE.fullmatch(self.name) else SourceKind.LOCAL


class ModelRef(Frozen):
    """Model reference of mergekit: a checkpoint or earlier stage, with an optional adapter and architecture."""

    source: SourceRef = Field(description="Checkpoint, or name of an earlier stage.")
    adapter: SourceRef | None = Field(
        default=None, description="LoRA adapter that is merged into the checkpoint first."
    )
    architecture: str | None = Field(
        default=None, description="Architecture that replaces that of the config."
    )

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Parse `name`, `name@revision` or `name+adapter`. Raises RecipeSyntaxError."""
        name, plus, adapter = text.partition("+")
        if "+" in adapter:
            raise RecipeSyntaxError(f"{_short(text)} has more than one +; write checkpoint+adapter.")
        return cls(source=SourceRef.parse(name), adapter=SourceRef.parse(adapter) if plus else None)

    def __str__(self) -> str:
        return f"{self.source}+{self.adapter}" if self.adapter else str(self.source)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
