"""Find and parse a card's metadata block; replace its `model-index` without changing other bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump

from orchestrator.errors import CardError
from recipes.errors import RecipeSyntaxError
from recipes.yaml_text import LOADER, YamlDocument, load_yaml_documents

KEY = "model-index"
MAX_BYTES = 4_000_000
MAX_LINES = 50_000
"""Maximum number of lines of a card with its metadata."""
MAX_BODY_LINES = 10_000
"""Maximum number of lines below the metadata; each is read by every reader of scores."""
_MAX_ABOVE = 500
"""Maximum number of lines before `model-index:` that are tried as the start of the metadata."""
_BOM = "\ufeff"
_PASTED_LINE = re.compile(r"[ \t]*(?:- |-$|[\w\"'.-]+ *:|\S+$)|[ \t]+\S")


@dataclass(frozen=True)
class FrontMatter:
    """A card's metadata and its position: text[start:end] is the YAML between the two `---` lines."""

    document: YamlDocument
    start: int
    end: int
    first_line: int
    fenced: bool

    @property
    def data(self) -> dict[str, Any]:
        """The metadata as a mapping."""
        data: dict[str, Any] = self.document.data
        return data

    def line_of(self, *location: int | str) -> int:
        """The 1-based line of a value in the card."""
        return self.first_line + self.document.line_of(location) - 1


def decoded(card: str | bytes, source: str) -> str:
    """Decode a card with its line ends unchanged. Raises CardError if it is not text or too long."""
    if len(card) > MAX_BYTES:
        raise CardError(f"{source} has {len(card):,} bytes; a card of more than {MAX_BYTES:,} is not read.")
    if isinstance(card, bytes):
        try:
            card = card.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CardError(
                f"{source} is not text (byte {error.start} is not UTF-8); give a Markdown file."
            ) from error
    if "\0" in card:
        raise CardError(f"{source} is not text (it holds a NUL character); give a Markdown file.")
    if not card.strip():
        raise CardError(f"{source} is empty; give a model card.")
    if (count := len(card.splitlines())) > MAX_LINES:
        raise CardError(f"{source} has {count:,} lines; a card of more than {MAX_LINES:,} is not read.")
    return card


def find_front_matter(text: str, source: str) -> FrontMatter | None:
    """The metadata between the first two `---` lines; None if the card does not begin with them."""
    skipped = len(_BOM) if text.startswith(_BOM) else 0
    match = REGEX_YAML_BLOCK.search(text[skipped:])
    if match is None:
        return None
    start, end = (skipped + position for position in match.span(2))
    document = _mapping(text[start:end], source)
    return FrontMatter(document, start, end, text.count("\n", 0, start) + 1, fenced=True)


def find_pasted(text: str, source: str) -> FrontMatter | None:
    """The metadata around `model-index:` in a card that was copied from a web page without `---` lines."""
    lines = text.splitlines(keepends=True)
    fenced = in_code(lines)
    at = next((i for i, line in enumerate(lines) if line.startswith(f"{KEY}:") and not fenced[i]), None)
    if at is None:
        return None
    first, last = at, at
    while first > 0 and _PASTED_LINE.match(lines[first - 1]):
        first -= 1
    while last + 1 < len(lines) and lines[last + 1].strip():
        last += 1
    read = 0
    for begin in range(max(first, at - _MAX_ABOVE), at + 1):
        block = "".join(lines[begin : last + 1])
        read += len(block)
        if read > MAX_BYTES:
            raise CardError(
                f"The metadata of {source} is too long to be searched; put it between two '---' lines."
            )
        try:
            document = _mapping(block, source)
        except CardError:
            if begin == at:
                raise
            continue
        start = sum(map(len, lines[:begin]))
        return FrontMatter(document, start, start + len(block), begin + 1, fenced=False)
    return None


def with_model_index(text: str, model_index: list[dict[str, Any]], source: str) -> str:
    """The card with this `model-index` in its metadata; all other bytes are unchanged."""
    metadata = find_front_matter(text, source)
    if metadata is None:
        raise CardError(
            f"{source} has no metadata block to update; begin it with a line '---', metadata, and a line '---'."
        )
    block = text[metadata.start : metadata.end]
    start, end = _span_of_key(block, source)
    newline = "\r\n" if "\r\n" in text[: metadata.end] else "\n"
    new = yaml_dump({KEY: model_index}, sort_keys=False).rstrip("\n").replace("\n", newline)
    if start == end:
        body = block[:start].rstrip("\r\n")
        kept = block[len(body) :]
        updated = f"{body}{newline if body.strip() else ''}{new}{kept if body.strip() else ''}"
    else:
        updated = block[:start] + new + block[end:]
    result = text[: metadata.start] + updated + text[metadata.end :]
    _check(result, metadata.data, model_index, source)
    return result


def new_front_matter(text: str, model_index: list[dict[str, Any]], source: str) -> str:
    """The card with a new metadata block at its start; all other bytes are unchanged.

    Raises CardError if the card has a block that is not closed, or a `model-index` outside of one.
    """
    mark = _BOM if text.startswith(_BOM) else ""
    body = text[len(mark) :]
    if body.lstrip().startswith("---") or find_pasted(text, source) is not None:
        raise CardError(
            f"{source} has metadata that does not stand between two '---' lines; put it there, then update it."
        )
    newline = "\r\n" if "\r\n" in text else "\n"
    block = yaml_dump({KEY: model_index}, sort_keys=False).rstrip("\n").replace("\n", newline)
    return f"{mark}---{newline}{block}{newline}---{newline}{body}"


def _mapping(block: str, source: str) -> YamlDocument:
    try:
        documents = load_yaml_documents(block, f"the metadata of {source}")
    except RecipeSyntaxError as error:
        raise CardError(str(error)[:1].upper() + str(error)[1:]) from error
    if not documents:
        return YamlDocument({})
    if len(documents) > 1 or not isinstance(documents[0].data, dict):
        raise CardError(f"The metadata of {source} is not a list of 'key: value' lines; mend it first.")
    return documents[0]


def _span_of_key(block: str, source: str) -> tuple[int, int]:
    """Span from the key to the end of its value's last line; an empty span at the end if it is missing."""
    root = yaml.compose(block, Loader=LOADER)
    if root is None:
        return len(block), len(block)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise CardError(
            f"The metadata of {source} is written in braces; write one 'key: value' per line first."
        )
    for key, value in root.value:
        if key.value == KEY:
            start: int = key.start_mark.index
            end = max(value.end_mark.index, key.end_mark.index)
            return start, _last_content(block, start, end)
    return len(block), len(block)


def _last_content(block: str, start: int, end: int) -> int:
    """The end of the value's last line that is neither blank nor a comment (these belong to the next key)."""
    lines = block[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    stop = start + sum(map(len, lines))
    rest = re.compile(r"[^\r\n]*").match(block, stop)
    if rest is not None and not block[:stop].endswith(("\n", "\r")):
        stop = rest.end()
    return start + len(block[start:stop].rstrip())


def _check(result: str, before: dict[str, Any], model_index: list[dict[str, Any]], source: str) -> None:
    """Raise CardError if the result does not parse as intended, for example because of a YAML anchor."""
    try:
        after = find_front_matter(result, source)
    except CardError:
        after = None
    expected = {**before, KEY: model_index}
    if after is None or after.data != expected:
        raise CardError(
            f"The {KEY} of {source} is tied to other metadata (by an anchor or its place) and cannot be replaced "
            "alone; move it to the end of the metadata first."
        )


def in_code(lines: Sequence[str]) -> list[bool]:
    """For each line, whether it is inside a fenced code block."""
    inside, fence, flags = False, "", []
    for line in lines:
        flags.append(inside)
        if "```" not in line and "~~~" not in line:
            continue
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark is not None and not inside:
            inside, fence = True, mark[1]
        elif mark is not None and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            inside = False
    return flags
