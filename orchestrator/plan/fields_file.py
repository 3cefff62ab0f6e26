"""Files of fields (a sweep, a search): read, parsed into their record, and what is wrong with one in words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from orchestrator.errors import SweepError
from recipes.errors import RecipeError
from recipes.outside_file import read_file
from recipes.yaml_text import YamlDocument, load_yaml

MAX_BYTES = 4_000_000
"""Largest file that is read."""
Record = TypeVar("Record", bound=BaseModel)


def read_fields(path: Path, whole: str) -> bytes:
    """The bytes of a file that holds a sweep or a search, as `whole` says. Raises SweepError."""
    try:
        return read_file(path, MAX_BYTES)
    except OSError as error:
        raise SweepError(
            f"{path} cannot be read ({error.strerror}); give the path of a {whole} file."
        ) from error


def parse_fields(
    data: bytes,
    model: type[Record],
    *,
    origin: str,
    whole: str,
    fields: str,
    options: Mapping[str, str] | None = None,
) -> tuple[Record, YamlDocument]:
    """A file's record, and its document for the lines of fields.

    `whole` names what the file holds and `fields` what it must have, for messages. Raises SweepError with line and field of the first error.
    """
    try:
        document = load_yaml(data, origin)
    except RecipeError as error:
        raise SweepError(str(error)) from error
    if not isinstance(document.data, dict):
        raise SweepError(f"{origin} holds no {whole}: a {whole} file is a mapping with {fields}.")
    try:
        return model.model_validate(document.data), document
    except ValidationError as error:
        raise SweepError(_first_error(error, document, origin, options, model=model, whole=whole)) from error


def place_of(location: Sequence[int | str], origin: str, options: Mapping[str, str]) -> str:
    """Location of a field for messages: `sweep.yaml: recipes.0`, or the option that set it or its parent."""
    parts = [str(part) for part in location]
    for depth in range(len(parts), 0, -1):
        if option := options.get(".".join(parts[:depth])):
            return option
    return f"{origin}: {'.'.join(parts)}"


def _first_error(
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
