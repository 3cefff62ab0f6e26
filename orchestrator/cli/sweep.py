"""mergeboard sweep fields, mergeboard sweep schema, mergeboard sweep reference"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from orchestrator.cli import options

if TYPE_CHECKING:
    from pydantic import BaseModel

OfSearch = Annotated[
    bool, typer.Option("--search", help="Of a search file (`mergeboard search`), not of a sweep file.")
]


def list_fields(of_search: OfSearch = False, as_json: options.AsJson = False) -> None:
    """List the fields of a sweep file: what each takes, its default, and what it is for.

    \b
    Example:
      mergeboard sweep fields
      mergeboard sweep fields --search
    """
    from orchestrator.cli.console import print_rows

    fields = list(_fields(_model(of_search), ""))
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    print_rows(
        ("field", "takes", "default", "what it is"),
        [(f["field"], f["takes"], f["default"], f["description"]) for f in fields],
    )


def schema(of_search: OfSearch = False) -> None:
    """Print the JSON schema of a sweep file; an editor completes and checks fields with it.

    A sweep that begins with `# yaml-language-server: $schema=sweep.schema.json` is checked while it is written.

    \b
    Example:
      mergeboard sweep schema > sweep.schema.json
    """
    from orchestrator.plan.sweep_schema import sweep_schema
    from orchestrator.search.merges.schema import search_schema

    print(json.dumps(search_schema() if of_search else sweep_schema(), indent=2))


def reference(of_search: OfSearch = False) -> None:
    """Print the reference page of a sweep file as Markdown, as docs/sweep.md holds it; of a search file, docs/search-file.md.

    \b
    Example:
      mergeboard sweep reference > docs/sweep.md
      mergeboard sweep reference --search > docs/search-file.md
    """
    print(search_reference_page() if of_search else reference_page(), end="")


def _model(of_search: bool) -> type[BaseModel]:
    from orchestrator.plan.sweep import Sweep
    from orchestrator.search.merges.search_file import MergeSearch

    return MergeSearch if of_search else Sweep


def search_reference_page() -> str:
    """docs/search-file.md, made from the search's model."""
    head = """# The search file

Made from the model by `mergeboard sweep reference --search`; a test compares the two. `mergeboard sweep schema --search` prints the JSON
schema for editors. Shorthands: an objective that is a plain text is a `probe`, an engine its `kind`.

In `recipe` any number may be searched:

| instead of a number | it is searched as |
| --- | --- |
| `{search: [0, 1]}` | a number of the range, ends included |
| `{search: [0.01, 10], log: true}` | the same on a logarithmic scale |
| `{search: [0, 1], step: 0.1}` | in steps; whole numbers if both ends and the step are whole, for example in a `layer_range` |
| `{search: [0, 1], points: 4}` | a gradient: a list of four numbers, first layer first |
| `{choices: [ties, dare_ties]}`, `{search: {choice: [0.3, 0.5]}}` | one of several values, also where the document has a text |
| `{search: [0, 1], name: t}` | places with one name share one value |

"""
    return head + _field_table(_model(True))


def reference_page() -> str:
    """docs/sweep.md, made from the sweep's model."""
    from orchestrator.plan.sweep import Sweep

    head = """# The sweep file

Made from the model by `mergeboard sweep reference`; a test compares the two. `mergeboard sweep schema` prints the JSON schema for editors.
Shorthands: a recipe that is a plain text is a `layer_path`, a suite that is a plain text its `suite`, an engine its `kind`.

"""
    return head + _field_table(Sweep)


def _field_table(model: type[BaseModel]) -> str:
    """The fields of a record and of the records in it as a Markdown table."""
    rows = [
        f"| `{f['field']}` | {_cell(f['takes'])} | `{_cell(f['default'])}` | {_cell(f['description'])} |"
        for f in _fields(model, "")
    ]
    return "| field | takes | default | what it is |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """A text inside a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[dict[str, str]]:
    """The fields of a record and of the records in it, as rows of text."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        inner = _record_in(field.annotation)
        yield {
            "field": prefix + name,
            "takes": _takes(schema["properties"][name], schema.get("$defs", {})),
            "default": "required"
            if field.is_required()
            else _default(field.get_default(call_default_factory=True)),
            "description": field.description or "",
        }
        if inner is not None:
            several = "[]" if get_origin(field.annotation) is tuple else ""
            yield from _fields(inner, f"{prefix}{name}{several}.")


def _record_in(annotation: Any) -> type[BaseModel] | None:
    """The record that a field holds, or holds several of; None where it holds plain values."""
    from pydantic import BaseModel

    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _takes(schema: dict[str, Any], records: dict[str, Any]) -> str:
    """The values of a JSON schema in words."""
    if "$ref" in schema:
        return _takes(records[schema["$ref"].rpartition("/")[2]], records)
    if "anyOf" in schema:
        kinds = [_takes(each, records) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    pattern = str(schema.get("pattern", ""))
    if pattern.startswith("^(") and pattern.endswith(")$"):
        return pattern[2:-2].replace("|", ", ")
    names = {
        "string": "text",
        "integer": "number",
        "number": "number",
        "boolean": "true, false",
        "array": "list",
        "object": "mapping",
    }
    return names.get(str(schema.get("type")), "value")


def _default(value: Any) -> str:
    """A default as YAML shows it in one line; of a record, what is not its own default."""
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    def plain(part: Any) -> Any:
        return part.model_dump(mode="json", exclude_defaults=True) if isinstance(part, BaseModel) else part

    shown = [plain(part) for part in value] if isinstance(value, tuple) else plain(value)
    return "null" if shown is None else json.dumps(to_jsonable_python(shown))
