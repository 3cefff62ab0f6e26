"""The table of merge methods, held against the mergekit that is installed."""

import importlib.metadata
import importlib.resources

import pytest
from mergekit.common import dtype_from_name

from recipes.merge import merge_methods
from recipes.recipe.methods import CHAT_TEMPLATES, DTYPES, MERGEKIT_VERSION, METHODS, Kind

_TYPES = {"float": Kind.FLOAT, "int": Kind.INT, "bool": Kind.BOOL, "typing.Optional[float]": Kind.FLOAT}


def test_it_is_the_mergekit_of_the_table() -> None:
    assert importlib.metadata.version("mergekit") == MERGEKIT_VERSION
    assert {spec.name for spec in merge_methods()} == set(METHODS)


@pytest.mark.parametrize("spec", merge_methods(), ids=lambda spec: spec.name)
def test_method(spec: object) -> None:
    method = METHODS[spec.name]  # type: ignore[attr-defined] # mergekit has no types
    contract = spec.contract  # type: ignore[attr-defined]
    assert method.base == contract.base.value
    assert (method.min_inputs, method.max_inputs) == (contract.min_inputs, contract.max_inputs)
    assert (method.min_non_base, method.max_non_base) == (contract.min_non_base or 0, contract.max_non_base)
    theirs = {}
    for parameter in spec.parameters:  # type: ignore[attr-defined]
        kind = _TYPES[
            getattr(parameter.value_type, "__name__", "")
            if isinstance(parameter.value_type, type)
            else str(parameter.value_type)
        ]
        default = None if parameter.required else parameter.default
        theirs[parameter.name] = (kind, parameter.scope.value, parameter.required, default)
    ours = {rule.name: (rule.kind, rule.scope, rule.required, rule.default) for rule in method.parameters}
    assert ours == theirs


def test_random_methods_are_those_that_draw() -> None:
    random = {name for name, method in METHODS.items() if method.random}
    assert random == {"dare_ties", "dare_linear", "della", "della_linear", "arcee_fusion"}


def test_dtypes_and_chat_templates() -> None:
    assert all(dtype_from_name(name) is not None for name in DTYPES)
    folder = importlib.resources.files("mergekit._data.chat_templates")
    assert {
        file.name.removesuffix(".jinja") for file in folder.iterdir() if file.name.endswith(".jinja")
    } == set(CHAT_TEMPLATES)
