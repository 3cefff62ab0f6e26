"""JSON schema of a sweep file with its shorthands, for editors."""

from __future__ import annotations

from typing import Any

from orchestrator.plan.sweep import Sweep

_SHORT = {
    "RecipeEntry": "A layer path.",
    "SuiteEntry": "A suite's name or file, or a task of lm-eval.",
    "EngineEntry": "vllm or transformers.",
}


def sweep_schema() -> dict[str, Any]:
    """The schema of `Sweep`; entries that may be written as one text are accepted as one."""
    schema = Sweep.model_json_schema()
    for name, description in _SHORT.items():
        record = schema["$defs"][name]
        schema["$defs"][name] = {"anyOf": [{"type": "string", "description": description}, record]}
    schema["properties"]["chat_template"] = {
        **schema["properties"]["chat_template"],
        # YAML reads a bare on or off as a boolean.
        "type": ["string", "boolean"],
    }
    schema["properties"]["decide"] = {
        "anyOf": [{"type": "boolean"}, *schema["properties"]["decide"]["anyOf"]],
        "default": None,
        "description": schema["properties"]["decide"]["description"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "mergeboard sweep"} | schema
