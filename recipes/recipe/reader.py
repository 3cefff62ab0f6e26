"""Reads one mergekit document into a Stage."""

from __future__ import annotations

import difflib
import re

from recipes.errors import RecipeSyntaxError
from recipes.layer_path import MAX_LAYERS
from recipes.recipe.checks import check_module
from recipes.recipe.methods import CHAT_TEMPLATES, DTYPES, METHODS, Method
from recipes.recipe.node import Node, describe, quoted
from recipes.recipe.older import with_older_meaning
from recipes.recipe.refs import ModelRef, SourceRef
from recipes.recipe.settings import read_parameters
from recipes.recipe.stage import DEFAULT_MODULE, Input, Module, Slice, Stage
from recipes.recipe.vocabulary import read_tokenizer

_EXTRA_KEYS = ("name", "about", "sources")
"""Additional keys of a document: stage name (as in mergekit-multi), catalogue data, and mapped sources."""

MAX_MODULES = 32
MAX_SLICES = 4096
MAX_INPUTS = 128

_KEYS = (
    *(
        "merge_method",
        "models",
        "slices",
        "modules",
        "base_model",
        "parameters",
        "tokenizer",
        "tokenizer_source",
    ),
    *("chat_template", "dtype", "out_dtype"),
)
_LIKELY_DTYPES = {
    **dict.fromkeys(("bf16", "bfloat", "bfloat-16"), "bfloat16"),
    **dict.fromkeys(("fp16", "half", "f16", "float"), "float16"),
    **dict.fromkeys(("fp32", "f32", "full"), "float32"),
}
_OTHER_TOOLS = {
    "experts": "a mergekit-moe configuration (experts behind a router)",
    "gate_mode": "a mergekit-moe configuration (experts behind a router)",
    "genome": "a mergekit-evolve configuration",
    "layer_slices": "a bakllama configuration; write it as `slices:` with `merge_method: passthrough`",
}
_STAGE_NAME = re.compile(r"[^\x00-\x1f\x7f@+:\\]{1,200}")


def read_stage(node: Node) -> Stage:
    """Read a document. Raises RecipeSyntaxError for what mergekit refuses; records remarks for what it ignores."""
    node.mapping()
    method = _read_method(node)
    node.check_keys(_KEYS, _EXTRA_KEYS)
    base = read_ref(node.child("base_model"))
    stage = Stage(
        name=_read_stage_name(node.child("name")),
        method=method.name,
        base=base,
        parameters=read_parameters(node.child("parameters"), method),
        modules=_read_modules(node, method, base),
        tokenizer=read_tokenizer(node, read_ref),
        chat_template=_read_chat_template(node.child("chat_template")),
        dtype=_read_dtype(node.child("dtype")),
        out_dtype=_read_dtype(node.child("out_dtype")),
    )
    stage = with_older_meaning(stage, node)
    for module in stage.modules:
        module_node = node.child("modules").child(module.name) if node.value.get("modules") else node
        check_module(module_node.child("slices" if module.slices else "models"), module, stage)
    return stage


def read_ref(node: Node) -> ModelRef | None:
    """Read a model reference in either of mergekit's spellings; None if the field is absent or null."""
    try:
        if node.value is None:
            return None
        if isinstance(node.value, str):
            return ModelRef.parse(node.value)
        if not isinstance(node.value, dict):
            node.refuse(f"the name of a checkpoint is expected here, not {describe(node.value)}.")
        node.check_keys({"model", "lora", "override_architecture"})
        source = _read_source(node.child("model"))
        if source is None:
            node.child("model").refuse("a model reference needs `model`.")
        architecture = node.child("override_architecture")
        return ModelRef(
            source=source,
            adapter=_read_source(node.child("lora")),
            architecture=None if architecture.value is None else architecture.text(),
        )
    except RecipeSyntaxError as error:
        if ": " + node.field in str(error):
            raise
        node.refuse(str(error))


def _read_source(node: Node) -> SourceRef | None:
    if node.value is None or isinstance(node.value, str):
        return None if node.value is None else SourceRef.parse(node.value)
    node.check_keys({"path", "revision"})
    revision = node.child("revision")
    name = node.child("path").text()
    return SourceRef(name=name, revision=None if revision.value is None else revision.text())


def _read_method(node: Node) -> Method:
    child = node.child("merge_method")
    if child.value is None:
        for key, tool in _OTHER_TOOLS.items():
            if key in node.value:
                node.refuse(f"this is {tool}, which mergekit-yaml does not accept.")
        matches = difflib.get_close_matches("merge_method", [str(key) for key in node.value], n=1, cutoff=0.7)
        hint = f" (instead of {quoted(matches[0])}?)" if matches else ""
        node.refuse(f"a recipe needs `merge_method`{hint}, or `base` and `layer_path`.")
    name = child.text()
    if name not in METHODS:
        matches = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.6)
        hint = f"did you mean {matches[0]}?" if matches else f"it has {', '.join(sorted(METHODS))}."
        child.refuse(f"mergekit 0.1.5 has no merge method {quoted(name)}; {hint}")
    return METHODS[name]


def _read_stage_name(node: Node) -> str | None:
    if node.value is None:
        return None
    name = node.text()
    if not _STAGE_NAME.fullmatch(name) or name != name.strip() or {"", ".", "..", "~"} & set(name.split("/")):
        node.refuse(
            f"{quoted(name)} is not a valid stage name: it must stay inside the output folder and not contain @ + : or \\."
        )
    return name


def _read_modules(node: Node, method: Method, base: ModelRef | None) -> tuple[Module, ...]:
    present = [key for key in ("models", "slices", "modules") if node.value.get(key)]
    if len(present) != 1:
        listed = " and ".join(present) if present else "none of them"
        node.refuse(f"a recipe has exactly one of models, slices and modules; this one has {listed}.")
    if present[0] != "modules":
        return (_read_module(node, DEFAULT_MODULE, method, base),)
    modules = node.child("modules")
    if len(modules.mapping()) > MAX_MODULES:
        modules.refuse(f"{len(modules.value)} modules; at most {MAX_MODULES} are read.")
    return tuple(_read_named_module(modules.child(name), name, method, base) for name in modules.value)


def _read_named_module(node: Node, name: str, method: Method, base: ModelRef | None) -> Module:
    node.check_keys({"models", "slices", "parameters"})
    if not name or bool(node.value.get("models")) == bool(node.value.get("slices")):
        node.refuse("a module has a name and exactly one of models and slices.")
    module = _read_module(node, name, method, base)
    return module.model_copy(update={"parameters": read_parameters(node.child("parameters"), method)})


def _read_module(node: Node, name: str, method: Method, base: ModelRef | None) -> Module:
    if node.value.get("models"):
        inputs = node.child("models").items(MAX_INPUTS)
        return Module(
            name=name, models=tuple(_read_input(child, method, base, ranged=False) for child in inputs)
        )
    slices = tuple(_read_slice(child, method, base) for child in node.child("slices").items(MAX_SLICES))
    return Module(name=name, slices=slices)


def _read_slice(node: Node, method: Method, document_base: ModelRef | None) -> Slice:
    node.check_keys({"sources", "base_model", "parameters", "residual_weight"})
    slice_base = read_ref(node.child("base_model"))
    base = slice_base or document_base
    weight = node.child("residual_weight")
    if weight.value is not None:
        weight.number()
        weight.remark("mergekit 0.1.5 ignores residual_weight; remove it.")
    sources = node.child("sources")
    if not sources.value:
        sources.refuse("a slice needs `sources`, a list of `model` and `layer_range`.")
    return Slice(
        inputs=tuple(_read_input(source, method, base, ranged=True) for source in sources.items(MAX_INPUTS)),
        base=slice_base,
        parameters=read_parameters(node.child("parameters"), method),
    )


def _read_input(node: Node, method: Method, base: ModelRef | None, *, ranged: bool) -> Input:
    node.mapping()
    allowed = {"model", "parameters", "layer_range"} if ranged else {"model", "parameters"}
    _remark_misplaced_keys(node, method, ranged=ranged)
    node.check_keys(allowed, ignored=_misplaced_keys(method, ranged=ranged))
    model = read_ref(node.child("model"))
    if model is None:
        node.child("model").refuse("the checkpoint's name is missing.")
    parameters = read_parameters(node.child("parameters"), method, of_input=True, of_base=model == base)
    return Input(
        model=model,
        layers=_read_layer_range(node.child("layer_range")) if ranged else None,
        parameters=parameters,
    )


def _misplaced_keys(method: Method, *, ranged: bool) -> set[str]:
    """Keys that are often written beside `model` and that mergekit ignores there."""
    return {"revision", *([] if ranged else ["layer_range"]), *(rule.name for rule in method.parameters)}


def _remark_misplaced_keys(node: Node, method: Method, *, ranged: bool) -> None:
    model = node.value.get("model")
    for key in _misplaced_keys(method, ranged=ranged) & set(node.value):
        if key == "revision":
            node.child(key).remark(
                f"mergekit ignores a revision here; write model: {model}@{node.value[key]}."
            )
        elif key == "layer_range":
            node.child(key).remark(
                "mergekit ignores layer_range under `models`; use `slices` to take some layers."
            )
        else:
            node.child(key).remark(f"mergekit ignores {key} here; put it under `parameters:`.")


def _read_layer_range(node: Node) -> tuple[int, int]:
    if node.value is None:
        node.refuse("a source of a slice needs its layers, `layer_range: [first, end)`.")
    if not isinstance(node.value, list) or len(node.value) != 2:
        node.refuse("layer_range is a list of two numbers, [first, end), for example [0, 24].")
    first, end = (entry.integer() for entry in node.items(2))
    if not 0 <= first <= end:
        node.refuse(f"[{first}, {end}] is not a range of layers: it needs 0 <= first <= end.")
    if end > MAX_LAYERS:
        node.refuse(f"layer {end} is too large; at most {MAX_LAYERS:,} layers are supported.")
    return first, end


def _read_dtype(node: Node) -> str | None:
    if node.value in (None, ""):
        return None
    name = node.text().removeprefix("torch.")
    if name not in DTYPES:
        likely = _LIKELY_DTYPES.get(name.lower()) or next(
            iter(difflib.get_close_matches(name.lower(), DTYPES, n=1, cutoff=0.75)), None
        )
        hint = f"write {likely}." if likely else f"it has {', '.join(DTYPES)}."
        node.refuse(f"mergekit cannot merge in {quoted(name)}; {hint}")
    return name


def _read_chat_template(node: Node) -> str | None:
    if node.value in (None, ""):
        return None
    template = node.text()
    if template == "auto" or template in CHAT_TEMPLATES or (len(template) >= 20 and "{" in template):
        return template
    matches = difflib.get_close_matches(template, CHAT_TEMPLATES, n=1, cutoff=0.6)
    hint = (
        f"did you mean {matches[0]}?"
        if matches
        else f"it is auto, {', '.join(CHAT_TEMPLATES)}, or the template's own text."
    )
    node.refuse(f"{quoted(template)} is not a chat template of mergekit; {hint}")
