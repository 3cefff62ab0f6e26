"""What is wrong with a file of fields, in words: its line and field, or the command-line option that set it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from recipes.yaml_text import YamlDocument


def place_of(location: Sequence[int | str], origin: str, options: Mapping[str, str]) -> str:
    """Location of a field for messages: `sweep.yaml: recipes.0`, or the option that set it or its parent."""
    parts = [str(part) for part in location]
    for depth in range(len(parts), 0, -1):
        if option := options.get(".".join(parts[:depth])):
            return option
    return f"{origin}: {'.'.join(parts)}"


def first_error(
    error: ValidationError,
    document: YamlDocument,
    origin: str,
    options: Mapping[str, str] | None = None,
    *,
    model: type[BaseModel],
    whole: str,
) -> str:
    """The first validation error as `file:line: field: what is wrong`, or as `option: what is wrong`.

    `whole` names what the file holds, for errors that are about no field.
    """
    errors = error.errors(include_url=False)
    # A list with invalid entries is also reported as too short: report only the entry.
    entry_parents = {e["loc"][:depth] for e in errors for depth in range(1, len(e["loc"]))}
    errors = [e for e in errors if e["type"] != "too_short" or e["loc"] not in entry_parents]
    # A misspelt field is also reported as missing: report the misspelling.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    location = tuple(part for part in first["loc"] if not (isinstance(part, str) and "[" in part))
    field = ".".join(str(part) for part in location) or whole
    line = document.line_of(location)
    problem = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        problem = _unknown_field(str(first["loc"][-1]), _record_at(model, location[:-1]))
    n_more = len(errors) - 1
    suffix = f" ({n_more} more)" if n_more else ""
    if options:
        return f"{place_of(location, origin, options)}: {problem}{suffix}"
    return f"{origin}:{line}: {field}: {problem}{suffix}"


def _record_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The record of a field, or of the entries of a field that holds several."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            kinds = (annotation, *get_args(annotation))
            records = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
            model = records[0] if records else model
    return model


def _unknown_field(name: str, model: type[BaseModel]) -> str:
    """Message for an unknown field of a record, with the closest known one."""
    matches = difflib.get_close_matches(name, model.model_fields, n=1)
    hint = f"did you mean `{matches[0]}`?" if matches else f"known fields: {', '.join(model.model_fields)}."
    return f"there is no such field; {hint}"
