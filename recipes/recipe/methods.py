"""The merge methods of mergekit 0.1.5 as data: what each reads, needs and refuses.

A test compares this table with the registry of the mergekit that is installed.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from recipes.tensor_file import Frozen

MERGEKIT_VERSION = "0.1.5"
"""The mergekit whose language and results these are; part of the identity of everything that it computes."""

CHAT_TEMPLATES = ("alpaca", "chatml", "exaone", "llama3", "mistral")
"""Chat templates that mergekit brings along."""

DTYPES = ("bfloat16", "float16", "float32", "float64")
"""Dtypes that mergekit can merge in (it also knows int64, which would round every weight to a whole number)."""


class BasePolicy(StrEnum):
    """Whether a method takes a base among its inputs."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    IGNORED = "ignored"


class Scope(StrEnum):
    """What a parameter belongs to: the whole slice, each input, or each input but the base."""

    SHARED = "shared"
    INPUT = "input"
    NON_BASE = "non_base"


class Kind(StrEnum):
    """Type of a parameter's value."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"


class ParameterRule(Frozen):
    """One parameter that a method reads."""

    name: str = Field(description="Its name.")
    kind: Kind = Field(description="Type of its value.")
    scope: Scope = Field(default=Scope.SHARED, description="What it belongs to.")
    required: bool = Field(default=False, description="Whether it has to be given.")
    default: float | int | bool | None = Field(default=None, description="Value where it is not given.")


class Method(Frozen):
    """One merge method."""

    name: str = Field(description="Its name in a recipe.")
    base: BasePolicy = Field(default=BasePolicy.REQUIRED, description="Whether it takes a base.")
    min_inputs: int = Field(default=1, description="Fewest inputs, the base included.")
    max_inputs: int | None = Field(
        default=None, description="Most inputs, the base included; null is no limit."
    )
    min_non_base: int = Field(default=0, description="Fewest inputs that are not the base.")
    max_non_base: int | None = Field(default=None, description="Most inputs that are not the base.")
    random: bool = Field(
        default=False, description="Whether it draws random numbers, so that the seed matters."
    )
    parameters: tuple[ParameterRule, ...] = Field(default=(), description="What it reads.")

    def rule(self, name: str) -> ParameterRule | None:
        """The parameter of that name, if the method reads it."""
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
