"""A grid of layer paths in one line: every block (i, j) on a raster.

grid: all                              every (i, j): N (N + 1) / 2 of them, and the baseline
grid: i=0:30:5 j=1:31 max_added=8      start:end:step, half-open; left out, i is 0: and j is 1:
"""

from __future__ import annotations

import re

from pydantic import Field

from recipes.errors import LayerPathError
from recipes.layer_path import LayerPath, check_source, quoted
from recipes.tensor_file import Frozen

MAX_GRID = 1_000_000
"""Most paths that one grid may expand to."""


class LayerPathGrid(Frozen):
    """All blocks (i, j) with i and j on a raster, as one line of text."""

    i: tuple[int, int | None, int] = Field(
        default=(0, None, 1), description="Start, end (null: the last layer), step of i."
    )
    j: tuple[int, int | None, int] = Field(
        default=(1, None, 1), description="The same of j, whose last value is N."
    )
    min_added: int = Field(default=1, ge=1, description="Fewest layers that a block may add.")
    max_added: int | None = Field(
        default=None, ge=1, description="Most layers that a block may add; null is no limit."
    )

    @classmethod
    def parse(cls, text: str) -> LayerPathGrid:
        """Read `all` or `i=0:30:5 j=1:31 max_added=8`, with or without `grid:` before it."""
        body = text.strip().removeprefix("grid:").strip()
        if len(body) > 200:
            raise LayerPathError(f"{quoted(body)} is too long for a grid of layer paths.")
        fields: dict[str, object] = {}
        for word in [] if body == "all" else body.split():
            key, _, value = word.partition("=")
            if key in fields or not value:
                raise _bad_grid(word)
            if key in ("i", "j"):
                fields[key] = _raster(value, 0 if key == "i" else 1, word)
            elif key in ("min_added", "max_added") and re.fullmatch(r"0*[1-9]\d{0,7}", value, re.ASCII):
                fields[key] = int(value)
            else:
                raise _bad_grid(word)
        if not fields and body != "all":
            raise _bad_grid(body)
        return cls.model_validate(fields)

    @property
    def canonical(self) -> str:
        """The one text of this grid."""
        words = [f"{name}={_raster_text(raster)}" for name, raster in (("i", self.i), ("j", self.j))]
        words += [f"min_added={self.min_added}"] if self.min_added != 1 else []
        words += [f"max_added={self.max_added}"] if self.max_added is not None else []
        return "grid: " + ("all" if self == LayerPathGrid() else " ".join(words))

    def paths(self, n_layers: int) -> tuple[LayerPath, ...]:
        """The baseline, then the blocks of the grid, for a source of `n_layers` layers."""
        check_source(n_layers)
        starts, ends = _bounded(self.i, n_layers, "i"), _bounded(self.j, n_layers + 1, "j")
        most = n_layers if self.max_added is None else self.max_added
        blocks = [(a, b) for a in starts for b in ends if self.min_added <= b - a <= most]
        if len(blocks) > MAX_GRID:
            raise LayerPathError(
                f"The grid has {len(blocks):,} blocks, at most {MAX_GRID:,} fit: use larger steps."
            )
        return (LayerPath.baseline(n_layers), *(LayerPath.of_block(a, b, n_layers) for a, b in blocks))


def _bad_grid(word: str) -> LayerPathError:
    return LayerPathError(
        f"{quoted(word)} is not part of a grid of layer paths: write `grid: all` or "
        "`grid: i=0:30:5 j=1:31 max_added=8` (start:end:step, end not included; also min_added)."
    )


def _raster(text: str, default: int, word: str) -> tuple[int, int | None, int]:
    parts = text.split(":")
    if len(parts) > 3 or any(
        part and not (part.isascii() and part.isdigit() and len(part) < 9) for part in parts
    ):
        raise _bad_grid(word)
    if len(parts) == 1:
        return int(text), int(text) + 1, 1
    start = int(parts[0]) if parts[0] else default
    end = int(parts[1]) if parts[1] else None
    step = int(parts[2]) if len(parts) == 3 and parts[2] else 1
    if step < 1 or (end is not None and end <= start):
        raise _bad_grid(word)
    return start, end, step


def _raster_text(raster: tuple[int, int | None, int]) -> str:
    start, end, step = raster
    return f"{start}:{'' if end is None else end}" + (f":{step}" if step != 1 else "")


def _bounded(raster: tuple[int, int | None, int], limit: int, name: str) -> range:
    start, end, step = raster
    if start >= limit or (end is not None and end > limit):
        raise LayerPathError(
            f"The grid's {name}={_raster_text(raster)} leaves the checkpoint: {name} is at most {limit - 1}."
        )
    return range(start, limit if end is None else end, step)
