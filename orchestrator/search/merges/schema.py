"""JSON schema of a search file with its shorthands, for editors."""

from __future__ import annotations

from typing import Any

from orchestrator.search.merges.search_file import MergeSearch

_SHORT = {"Objective": "Key of a probe.", "EngineEntry": "vllm or transformers."}


def search_schema() -> dict[str, Any]:
    """The schema of `MergeSearch`; entries that may be written as one text are accepted as one."""
    schema = MergeSearch.model_json_schema()
    for name, description in _SHORT.items():
        record = schema["$defs"][name]
        schema["$defs"][name] = {"anyOf": [{"type": "string", "description": description}, record]}
    # YAML reads a bare on or off as a boolean.
    schema["properties"]["chat_template"]["type"] = ["string", "boolean"]
    schema["properties"]["stop"]["anyOf"].append({"type": "boolean"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mergeboard search"} | schema
