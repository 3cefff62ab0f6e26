"""Table of the merge methods of mergekit 0.1.5: parameters and accepted inputs.

A test compares it with the registry of the installed mergekit.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from recipes.tensor_file import Frozen

MERGEKIT_VERSION = "0.1.5"
"""Version of mergekit that this package supports; part of the digest of every recipe that it computes."""

CHAT_TEMPLATES = ("alpaca", "chatml", "exaone", "llama3", "mistral")
"""Names of the chat templates in mergekit."""

DTYPES = ("bfloat16", "float16", "float32", "float64")
"""Dtypes for merges; mergekit also accepts int64, which rounds weights to integers."""


class BasePolicy(StrEnum):
    """Whether a method uses a base model."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    IGNORED = "ignored"


class Scope(StrEnum):
    """Where a parameter is set: for the slice, for each input, or for each input except the base."""

    SHARED = "shared"
    INPUT = "input"
    NON_BASE = "non_base"


class Kind(StrEnum):
    """Type of a parameter's value."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"


class ParameterRule(Frozen):
    """A parameter of a merge method."""

    name: str = Field(description="Name of the parameter.")
    kind: Kind = Field(description="Type of the value.")
    scope: Scope = Field(default=Scope.SHARED, description="Where it is set.")
    required: bool = Field(default=False, description="Whether it is required.")
    default: float | int | bool | None = Field(
        default=None, description="Default value; null if there is none."
    )


class Method(Frozen):
    """A merge method."""

    name: str = Field(description="Name in a recipe.")
    base: BasePolicy = Field(default=BasePolicy.REQUIRED, description="Whether it uses a base model.")
    min_inputs: int = Field(default=1, description="Minimum number of inputs, the base included.")
    max_inputs: int | None = Field(
        default=None, description="Maximum number of inputs, the base included; null is no limit."
    )
    min_non_base: int = Field(default=0, description="Minimum number of inputs without the base.")
    max_non_base: int | None = Field(
        default=None, description="Maximum number of inputs without the base; null is no limit."
    )
    random: bool = Field(
        default=False, description="Whether it uses random numbers, so that the seed affects the result."
    )
    parameters: tuple[ParameterRule, ...] = Field(default=(), description="Parameters of the method.")

    def rule(self, name: str) -> ParameterRule | None:
        """The parameter with this name, or None."""
        return next((rule for rule in self.parameters if rule.name == name), None)


def _number(
    name: str, default: float | None = None, scope: Scope = Scope.SHARED, required: bool = False
) -> ParameterRule:
    return ParameterRule(name=name, kind=Kind.FLOAT, scope=scope, required=required, default=default)


def _flag(name: str, default: bool) -> ParameterRule:
    return ParameterRule(name=name, kind=Kind.BOOL, default=default)


_INT8_MASK = _flag("int8_mask", False)
_WEIGHT = _number("weight", scope=Scope.NON_BASE, required=True)
_T = _number("t", required=True)


def _task_arithmetic(
    name: str,
    *,
    normalize: bool = False,
    rescale: bool = False,
    random: bool = False,
    extra: ParameterRule | None = None,
) -> Method:
    rules = (
        _INT8_MASK,
        _flag("normalize", normalize),
        _flag("rescale", rescale),
        _number("lambda", 1.0),
        _WEIGHT,
        _number("density", 1.0, Scope.NON_BASE),
    )
    return Method(name=name, random=random, parameters=(*rules, extra) if extra else rules)


_GAMMA = _number("gamma", 0.01, Scope.NON_BASE)
_EPSILON = _number("epsilon", 0.15, Scope.NON_BASE)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="multislerp",
            base=BasePolicy.OPTIONAL,
            min_non_base=1,
            parameters=(_WEIGHT, _flag("normalize_weights", True), _number("eps", 1e-8)),
        ),
        Method(name="nearswap", min_inputs=2, max_inputs=2, parameters=(_T,)),
        Method(name="ram", parameters=(_number("epsilon", 1e-5),)),
        Method(
            name="ramplus_tl", parameters=(_number("r", 0.1), _number("alpha", 0.2), _number("epsilon", 1e-5))
        ),
        Method(name="sce", parameters=(_INT8_MASK, _number("select_topk", 1.0))),
        Method(
            name="linear",
            base=BasePolicy.IGNORED,
            parameters=(_number("weight", scope=Scope.INPUT, required=True), _flag("normalize", True)),
        ),
        Method(name="slerp", min_inputs=2, max_inputs=2, parameters=(_T,)),
        Method(
            name="nuslerp",
            base=BasePolicy.OPTIONAL,
            min_non_base=2,
            max_non_base=2,
            parameters=(_WEIGHT, _flag("nuslerp_row_wise", False), _flag("nuslerp_flatten", True)),
        ),
        Method(
            name="passthrough",
            base=BasePolicy.IGNORED,
            max_inputs=1,
            parameters=(_number("scale", scope=Scope.INPUT),),
        ),
        Method(name="model_stock", min_inputs=3, parameters=(_flag("filter_wise", False),)),
        Method(name="arcee_fusion", min_inputs=2, max_inputs=2, random=True),
        Method(
            name="karcher",
            base=BasePolicy.IGNORED,
            parameters=(ParameterRule(name="max_iter", kind=Kind.INT, default=10), _number("tol", 1e-5)),
        ),
        _task_arithmetic("task_arithmetic"),
        _task_arithmetic("ties", normalize=True),
        _task_arithmetic("dare_ties", rescale=True, random=True),
        _task_arithmetic("dare_linear", rescale=True, random=True),
        _task_arithmetic("breadcrumbs", extra=_GAMMA),
        _task_arithmetic("breadcrumbs_ties", extra=_GAMMA),
        _task_arithmetic("della", normalize=True, rescale=True, random=True, extra=_EPSILON),
        _task_arithmetic("della_linear", rescale=True, random=True, extra=_EPSILON),
    )
}
