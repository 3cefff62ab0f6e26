"""Times every regular expression of the product on strings made to slow it down.

    python -m tests.support.pumping            a table: pattern, worst input, time at 2,000 / 4,000 / 8,000 characters

For each repeat of a pattern a string is made that satisfies what stands before it, pumps what it repeats, and then fails.
Patterns and how they are used (`match` tries one place, `search` all) are taken from the source by its syntax tree.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import itertools
import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parser  # type: ignore[import-not-found]
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("recipes", "evals", "orchestrator", "dashboard")
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split")
_ENDINGS = ("", "!", "\n", "\0", " x", "|", "`")
_LIMIT_S = 1.0
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)


@dataclass(frozen=True)
class Use:
    """One regular expression, and one method that is called on it."""

    place: str
    pattern: re.Pattern[Any]
    method: str

    def run(self, text: str) -> None:
        """Apply the pattern as the product does."""
        subject = text.encode() if isinstance(self.pattern.pattern, bytes) else text
        if self.method == "sub":
            self.pattern.sub(subject[:0], subject)
        elif self.method == "finditer":
            for _ in self.pattern.finditer(subject):
                pass
        else:
            getattr(self.pattern, self.method)(subject)


@dataclass(frozen=True)
class Slowest:
    """The input of a length on which a use took longest."""

    use: Use
    input: str
    seconds: tuple[float, ...]

    @property
    def grows(self) -> bool:
        """Whether four times the length (two doublings) took clearly more than four times the time, and one that can be measured."""
        first, last = self.seconds[0], self.seconds[-1]
        return last >= _LIMIT_S or (last > 0.03 and last > 8 * first)


def uses(packages: tuple[str, ...] = PACKAGES) -> Iterator[Use]:
    """Every pattern that is written in the source, with each method that is called on it."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if "re." in text and "import re\n" in text:
                yield from _of_module(path, ast.parse(text))


def _of_module(path: Path, tree: ast.Module) -> Iterator[Use]:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    namespace: dict[str, Any] = vars(importlib.import_module(name))
    seen = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        method, owner = node.func.attr, node.func.value
        if method not in METHODS or not isinstance(owner, ast.Name | ast.Call):
            continue
        pattern = _pattern(owner, node, namespace)
        if pattern is not None and (pattern.pattern, method) not in seen:
            seen.add((pattern.pattern, method))
            yield Use(
                f"{path.relative_to(ROOT)}:{ast.unparse(owner) if owner.__class__ is ast.Name else 're'}",
                pattern,
                method,
            )


def _pattern(owner: ast.expr, call: ast.Call, namespace: dict[str, Any]) -> re.Pattern[str] | None:
    """The pattern of `NAME.method(...)`, `re.method(pattern, ...)` or `re.compile(...).method(...)`."""
    if isinstance(owner, ast.Name) and owner.id != "re":
        value = namespace.get(owner.id)
        return value if isinstance(value, re.Pattern) else None
    try:
        if isinstance(owner, ast.Call):
            value = eval(compile(ast.Expression(owner), "", "eval"), namespace)
            return value if isinstance(value, re.Pattern) else None
        text = eval(compile(ast.Expression(call.args[0]), "", "eval"), namespace)
        flags = [
            eval(compile(ast.Expression(k), "", "eval"), namespace)
            for k in (*call.args[2:], *(k.value for k in call.keywords if k.arg == "flags"))
            if "re." in ast.unparse(k)
        ]
        return re.compile(text, flags[0] if flags else 0)
    except NameError:
        return None  # built from values at run time: tested by the caller's own tests


def slowest(use: Use, lengths: tuple[int, ...] = (2_000, 4_000, 8_000)) -> Slowest:
    """The worst of the generated inputs: a quarter of the first length picks those that are timed on the lengths."""
    first = lengths[0] // 4
    timed = []
    for prefix, pump, ending in inputs(use.pattern):
        seconds = _timed(use, _text(prefix, pump, ending, first))
        timed.append((seconds, prefix, pump, ending))
        if seconds >= _LIMIT_S:
            break
    timed.sort(reverse=True)
    worst: Slowest | None = None
    for _seconds, *parts in timed[:4]:
        times = [0.0]
        for length in lengths:
            text = _text(*parts, length)
            times.append(_LIMIT_S if times[-1] >= _LIMIT_S else min(_timed(use, text), _timed(use, text)))
        found = Slowest(
            use, " ".join(f"{p!r}" if i != 1 else f"{p!r}*n" for i, p in enumerate(parts)), tuple(times[1:])
        )
        if worst is None or found.seconds[-1] > worst.seconds[-1]:
            worst = found
    assert worst is not None
    return worst


def inputs(pattern: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """(prefix, pump, ending) triples."""
    tree = sre_parser.parse(pattern.pattern, pattern.flags)
    prefixes, pumps = {"": None}, {}
    for before, body in _repeats(list(tree), ""):
        prefixes[before] = None
        for sample in body:
            pumps[sample] = None
            for after in (" ", "   ", "\n"):
                pumps[sample + after] = None
    for before in list(prefixes):
        if before:
            pumps[before] = pumps[before + "\n"] = None
    for character in _characters(tree):
        pumps[character] = None
    whole = _example(list(tree))
    pumps[whole] = pumps[whole + " "] = None
    known = [p for p in pumps if p][:50]
    return list(itertools.product(list(prefixes)[:8], known, _ENDINGS))


def _inner(kind: Any, value: Any) -> list[list[Any]]:
    """What stands inside of an element: one list of elements, or one for each branch."""
    if kind in _REPEATS:
        return [list(value[2])]
    if kind is sre.SUBPATTERN:
        return [list(value[3])]
    if kind is sre.ATOMIC_GROUP:
        return [list(value)]
    return [list(branch) for branch in value[1]] if kind is sre.BRANCH else []


def _repeats(items: list[Any], before: str) -> Iterator[tuple[str, list[str]]]:
    """For each repeat that can be long: a text that leads to it, and texts that it can repeat."""
    for kind, value in items:
        if kind in _REPEATS and value[1] > 8:
            yield before, [_example(list(value[2])), *_characters(value[2])]
        for inner in _inner(kind, value):
            yield from _repeats(inner, before)
        before += _example([(kind, value)])


def _example(items: list[Any]) -> str:
    """A text that the items match, as a rule."""
    text = ""
    for kind, value in items:
        if kind is sre.LITERAL:
            text += chr(value)
        elif kind is sre.NOT_LITERAL:
            text += "a" if chr(value) != "a" else "b"
        elif kind is sre.ANY:
            text += "a"
        elif kind is sre.IN:
            text += _member(value)
        elif kind is sre.ASSERT:
            text += _example(list(value[1])) if value[0] < 0 else ""
        elif inner := _inner(kind, value):
            times = max(1 if value[1] else 0, value[0]) if kind in _REPEATS else 1
            text += _example(inner[0]) * times
    return text


_OF_CLASS = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_WORD: "a",
    sre.CATEGORY_NOT_SPACE: "a",
}


def _member(items: list[Any]) -> str:
    """A character of a class."""
    if items and items[0][0] is sre.NEGATE:
        return next(c for c in "a1 -\n!\x01" if not _excluded(items, c))
    for kind, value in items:
        if kind is sre.LITERAL:
            return chr(value)
        if kind is sre.RANGE:
            return chr(value[0])
        if kind is sre.CATEGORY:
            return _OF_CLASS.get(value, "-")
    return "a"


def _excluded(items: list[Any], character: str) -> bool:
    """Whether a negated class names the character."""
    for kind, value in items:
        if (kind is sre.LITERAL and chr(value) == character) or (
            kind is sre.RANGE and value[0] <= ord(character) <= value[1]
        ):
            return True
        if kind is sre.CATEGORY and (
            (value is sre.CATEGORY_SPACE and character.isspace())
            or (value is sre.CATEGORY_WORD and character.isalnum())
            or (value is sre.CATEGORY_DIGIT and character.isdigit())
        ):
            return True
    return False


def _characters(tree: Any) -> list[str]:
    """Single characters that mean something to the pattern."""
    found: dict[str, None] = {}
    for kind, value in tree:
        if kind is sre.LITERAL:
            found[chr(value)] = None
        elif kind is sre.IN:
            found |= dict.fromkeys("".join(map(_named, value)))
        for inner in _inner(kind, value):
            found |= dict.fromkeys(_characters(inner))
    return list(found)


def _named(item: tuple[Any, Any]) -> str:
    """Characters that one entry of a class stands for."""
    kind, value = item
    if kind is sre.LITERAL:
        return chr(value)
    if kind is sre.RANGE:
        return chr(value[0])
    return {sre.CATEGORY_SPACE: " \n"}.get(value, _OF_CLASS.get(value, "-")) if kind is sre.CATEGORY else ""


def _text(prefix: str, pump: str, ending: str, length: int) -> str:
    return prefix + pump * max(1, length // len(pump)) + ending


class _TooLong(Exception):
    """The limit of one timing."""


def _timed(use: Use, text: str) -> float:
    """Seconds of one use, `_LIMIT_S` at most (the engine of `re` lets signals in)."""

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _LIMIT_S)
    start = time.process_time()
    try:
        use.run(text)
        return time.process_time() - start
    except _TooLong:
        return _LIMIT_S
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def main() -> None:
    """Print the table, slowest first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="Also the patterns that are linear.")
    wanted = parser.parse_args()
    lengths = (2_000, 4_000, 8_000)
    rows = sorted((slowest(use, lengths) for use in uses()), key=lambda s: -s.seconds[-1])
    print(f"{len(rows)} uses of patterns, {sum(r.grows for r in rows)} super-linear")
    for row in rows:
        if wanted.all or row.grows:
            times = " / ".join(f"{s:.3f}" if s < _LIMIT_S else f">{_LIMIT_S:.0f}" for s in row.seconds)
            print(f"{row.use.place} .{row.use.method}  {row.input}  {times} s")


if __name__ == "__main__":
    main()
