"""Grids of layer paths as one line of text: every block (i, j) on a raster.

grid: all                              every block (i, j), N (N + 1) / 2, and the baseline
grid: i=0:30:5 j=1:31 max_added=8      start:end:step, half-open; default i=0: and j=1:
grid: all variant=attention            the second pass runs the attention alone; also mlp, damped=0.5, attention:damped=0.5
"""

from __future__ import annotations

import re

from pydantic import Field

from recipes.errors import LayerPathError
from recipes.layer_path import LayerPath, check_source
from recipes.layer_path_text import quoted
from recipes.layer_visit import WHOLE, Variant
from recipes.tensor_file import Frozen

MAX_GRID = 1_000_000
"""Maximum number of paths of a grid."""


class LayerPathGrid(Frozen):
    """All blocks (i, j) with i and j on a raster."""

    i: tuple[int, int | None, int] = Field(
        default=(0, None, 1), description="Start, end (null: the last layer), step of i."
    )
    j: tuple[int, int | None, int] = Field(
        default=(1, None, 1), description="Start, end (null: N + 1), step of j."
    )
    min_added: int = Field(default=1, ge=1, description="Minimum number of layers that a block adds.")
    max_added: int | None = Field(
        default=None, ge=1, description="Maximum number of layers that a block adds; null is no limit."
    )
    variant: Variant = Field(
        default=WHOLE, description="How the second pass through a block runs its layers."
    )

    @classmethod
    def parse(cls, text: str) -> LayerPathGrid:
        """Parse `all` or `i=0:30:5 j=1:31 max_added=8`, either with `variant=...`, with an optional prefix `grid:`.

        Raises LayerPathError.
        """
        body = text.strip().removeprefix("grid:").strip()
        if len(body) > 200:
            raise LayerPathError(f"{quoted(body)} is too long for a grid of layer paths.")
        fields: dict[str, object] = {}
        words = body.split()
        for word in words[1:] if words[:1] == ["all"] else words:
            key, _, value = word.partition("=")
            if key in fields or not value:
                raise _grid_error(word)
            if key in ("i", "j"):
                fields[key] = _parse_raster(value, 0 if key == "i" else 1, word)
            elif key in ("min_added", "max_added") and re.fullmatch(r"0*[1-9]\d{0,7}", value, re.ASCII):
                fields[key] = int(value)
            elif key == "variant":
                fields[key] = _parse_variant(value)
            else:
                raise _grid_error(word)
        if not words or (words[0] == "all" and set(fields) - {"variant"}):
            raise _grid_error(body)
        return cls.model_validate(fields)

    @property
    def canonical(self) -> str:
        """Canonical text of the grid."""
        words = [f"{name}={_format_raster(raster)}" for name, raster in (("i", self.i), ("j", self.j))]
        words += [f"min_added={self.min_added}"] if self.min_added != 1 else []
        words += [f"max_added={self.max_added}"] if self.max_added is not None else []
        if self == LayerPathGrid(variant=self.variant):
            words = ["all"]
        words += [] if self.variant.is_whole else [f"variant={self.variant.text}"]
        return "grid: " + " ".join(words)

    def paths(self, n_layers: int) -> tuple[LayerPath, ...]:
        """Baseline and blocks of the grid for a checkpoint with `n_layers` layers. Raises LayerPathError."""
        check_source(n_layers)
        starts, ends = _raster_range(self.i, n_layers, "i"), _raster_range(self.j, n_layers + 1, "j")
        max_added = n_layers if self.max_added is None else self.max_added
        blocks = [(i, j) for i in starts for j in ends if self.min_added <= j - i <= max_added]
        if len(blocks) > MAX_GRID:
            raise LayerPathError(
                f"The grid has {len(blocks):,} blocks; at most {MAX_GRID:,} are allowed: use larger steps."
            )
        paths = (LayerPath.of_blocks(((i, j, self.variant),), n_layers) for i, j in blocks)
        return (LayerPath.baseline(n_layers), *paths)


def _grid_error(word: str) -> LayerPathError:
    return LayerPathError(
        f"{quoted(word)} is not part of a grid of layer paths: write `grid: all` or "
        "`grid: i=0:30:5 j=1:31 max_added=8` (start:end:step, end not included; also min_added, variant=attention)."
    )


def _parse_raster(text: str, default: int, word: str) -> tuple[int, int | None, int]:
    parts = text.split(":")
    if len(parts) > 3 or any(
        part and not (part.isascii() and part.isdigit() and len(part) < 9) for part in parts
    ):
        raise _grid_error(word)
    if len(parts) == 1:
        return int(text), int(text) + 1, 1
    start = int(parts[0]) if parts[0] else default
    end = int(parts[1]) if parts[1] else None
    step = int(parts[2]) if len(parts) == 3 and parts[2] else 1
    if step < 1 or (end is not None and end <= start):
        raise _grid_error(word)
    return start, end, step


def _parse_variant(value: str) -> Variant:
    variant = Variant.parse(value)
    if variant.factor == 0:
        raise LayerPathError("A grid with damped=0 changes nothing: choose a larger factor.")
    return variant


def _format_raster(raster: tuple[int, int | None, int]) -> str:
    start, end, step = raster
    return f"{start}:{'' if end is None else end}" + (f":{step}" if step != 1 else "")


def _raster_range(raster: tuple[int, int | None, int], limit: int, name: str) -> range:
    start, end, step = raster
    if start >= limit or (end is not None and end > limit):
        raise LayerPathError(
            f"The grid's {name}={_format_raster(raster)} leaves the checkpoint: {name} is at most {limit - 1}."
        )
    return range(start, limit if end is None else end, step)
