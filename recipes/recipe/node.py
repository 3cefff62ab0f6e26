"""A value of a YAML document with its position, so that errors name file, line and field."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from recipes.errors import RecipeSyntaxError
from recipes.recipe.stage import Remark
from recipes.yaml_text import YamlDocument

MAX_TEXT = 100_000
"""Maximum length of a text in a recipe, in characters; chat templates are the longest."""


class Node:
    """A value of a document and its path."""

    def __init__(
        self,
        value: Any,
        document: YamlDocument,
        origin: str,
        remarks: list[Remark],
        path: tuple[int | str, ...] = (),
    ) -> None:
        self.value = value
        self._document = document
        self._origin = origin
        self._remarks = remarks
        self._path = path

    @property
    def field(self) -> str:
        """The path as text, for example `slices[0].sources[1].layer_range`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self._path)
        return quoted(text.lstrip("."))[1:-1] if text else "document"

    @property
    def line(self) -> int | None:
        """Line in the file; None for data without text."""
        return self._document.line_of(self._path) if self._document.lines else None

    def refuse(self, text: str) -> NoReturn:
        """Raise RecipeSyntaxError with file, line and field."""
        where = f"{self._origin}:{self.line}" if self.line else self._origin
        raise RecipeSyntaxError(f"{where}: {self.field}: {text}")

    def remark(self, text: str) -> None:
        """Record a setting that mergekit accepts and ignores."""
        self._remarks.append(Remark(origin=self._origin, line=self.line, field=self.field, text=text))

    def child(self, key: int | str) -> Node:
        """The node under a key or index; its value is None if the key is missing."""
        value = self.value[key] if isinstance(key, int) else self.value.get(key)
        return Node(value, self._document, self._origin, self._remarks, (*self._path, key))

    def check_keys(self, keys: Collection[str], ignored: Collection[str] = ()) -> None:
        """Require a mapping; record a remark for every key that is not in `keys` or `ignored`."""
        self.mapping()
        for key in self.value:
            if key in keys or key in ignored:
                continue
            matches = difflib.get_close_matches(str(key), [*keys], n=1, cutoff=0.75)
            hint = f"did you mean {matches[0]}?" if matches else "remove it."
            self.child(key).remark(f"mergekit ignores this key; {hint}")

    def mapping(self) -> dict[str, Any]:
        """The value as a mapping with text keys."""
        if not isinstance(self.value, dict):
            self.refuse(f"a mapping (key: value) is expected here, not {describe(self.value)}.")
        for key in self.value:
            if not isinstance(key, str):
                self.refuse(f"the key {quoted(str(key))} is not text; put it in quotes if it is meant.")
        return self.value

    def items(self, limit: int) -> Iterator[Node]:
        """The elements of a list with at most `limit` entries."""
        if not isinstance(self.value, list):
            self.refuse(f"a list (- item) is expected here, not {describe(self.value)}.")
        if len(self.value) > limit:
            self.refuse(f"{len(self.value):,} entries; at most {limit:,} are read.")
        return (self.child(index) for index in range(len(self.value)))

    def text(self) -> str:
        """The value as text."""
        if not isinstance(self.value, str):
            self.refuse(f"text is expected here, not {describe(self.value)}.")
        if len(self.value) > MAX_TEXT:
            self.refuse(f"a text of {len(self.value):,} characters; at most {MAX_TEXT:,} are read.")
        return self.value

    def boolean(self) -> bool:
        """The value as true or false."""
        if isinstance(self.value, bool):
            return self.value
        spellings = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        text = str(self.value).lower().removesuffix(".0")
        if isinstance(self.value, str | int | float) and text in spellings:
            return spellings[text]
        self.refuse(f"true or false is expected here, not {describe(self.value)}.")

    def number(self) -> float:
        """The value as a finite number; also parses text such as 1e-5, which is not a number in YAML 1.1."""
        if isinstance(self.value, str | int | float):
            try:
                number = float(self.value)
            except (ValueError, OverflowError):
                number = math.nan if isinstance(self.value, str) else math.inf
            if math.isfinite(number):
                return number
        self.refuse(f"a number is expected here, not {describe(self.value)}.")

    def integer(self) -> int:
        """The value as a whole number."""
        if type(self.value) is int:
            return self.value
        number = self.number()
        if number != int(number):
            self.refuse(f"a whole number is expected here, not {describe(self.value)}.")
        return int(number)


def describe(value: object) -> str:
    """Description of a value for messages: its type or its shortened text."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    return quoted(str(value))


def quoted(text: str) -> str:
    """The text in quotes, shortened, on one line."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
