"""Records of a mergekit document: inputs, merge method, output."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import Field

from recipes.recipe.methods import METHODS, Method
from recipes.recipe.refs import ModelRef
from recipes.tensor_file import Frozen

Scalar = bool | int | float

DEFAULT_MODULE = ""
"""Name of the module of a document with `models` or `slices` at the top level."""


class Condition(Frozen):
    """A value of a parameter and a filter of tensors."""

    filter: str | None = Field(
        default=None, description="Substring of the tensor name; null matches all tensors."
    )
    value: Scalar | tuple[Scalar, ...] = Field(
        description="Value, or a gradient over the layers of the slice."
    )


class Parameter(Frozen):
    """A parameter of the merge method; the first condition that matches a tensor applies."""

    name: str = Field(description="Name of the parameter.")
    conditions: tuple[Condition, ...] = Field(description="Conditional values, in order.")

    @property
    def constant(self) -> Scalar | None:
        """The value if it is the same for all tensors and layers, or None."""
        first = self.conditions[0]
        return None if first.filter is not None or isinstance(first.value, tuple) else first.value

    @property
    def is_complete(self) -> bool:
        """Whether every tensor has a value."""
        return self.conditions[-1].filter is None


class Input(Frozen):
    """An input of a merge: a checkpoint or a range of its layers."""

    model: ModelRef = Field(description="Checkpoint or earlier stage.")
    layers: tuple[int, int] | None = Field(
        default=None, description="Layer range [a, b); null is all layers."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this input.")


class Slice(Frozen):
    """Consecutive output layers, merged from one layer range of each input."""

    inputs: tuple[Input, ...] = Field(description="Inputs with layer ranges of equal length.")
    base: ModelRef | None = Field(
        default=None, description="Base of this slice; null is the base of the document."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this slice.")

    @property
    def n_layers(self) -> int:
        """Number of output layers of the slice."""
        a, b = self.inputs[0].layers or (0, 0)
        return b - a


class Module(Frozen):
    """A module of the output: the whole language model, or one part of a multi-part model."""

    name: str = Field(default=DEFAULT_MODULE, description="Name of the module; empty for the whole model.")
    models: tuple[Input, ...] = Field(
        default=(), description="Whole checkpoints to merge; empty if there are slices."
    )
    slices: tuple[Slice, ...] = Field(
        default=(), description="Output slices in order; empty if there are models."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this module.")

    def groups(self) -> tuple[Slice, ...]:
        """The slices, or the models as one slice without ranges."""
        return self.slices or (Slice(inputs=self.models),)


class TokenRule(Frozen):
    """Source of the embedding of one token."""

    token: str = Field(description="The token.")
    model: ModelRef | None = Field(
        default=None, description="Checkpoint that gives the embedding; null is mergekit's default."
    )
    zero: bool = Field(default=False, description="Whether the embedding is zero.")
    other_token: str | int | None = Field(
        default=None, description="Token (text or id) whose embedding is used."
    )
    force: bool = Field(default=False, description="Whether it replaces existing embeddings of the inputs.")


class TokenizerRule(Frozen):
    """Tokenizer and vocabulary of the output."""

    source: ModelRef | str = Field(description="`base`, `union`, or the checkpoint whose tokenizer is used.")
    tokens: tuple[TokenRule, ...] = Field(default=(), description="Rules for single tokens.")
    pad_to_multiple_of: int | None = Field(
        default=None, description="The vocabulary is padded to a multiple of this number."
    )


class Stage(Frozen):
    """One merge: the effective content of a mergekit document."""

    name: str | None = Field(default=None, description="Name by which later stages refer to the result.")
    method: str = Field(description="Merge method.")
    base: ModelRef | None = Field(default=None, description="Base model.")
    modules: tuple[Module, ...] = Field(description="Merged modules; one, except for multi-part models.")
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of the whole document.")
    tokenizer: TokenizerRule | None = Field(
        default=None, description="Tokenizer of the output; null copies one."
    )
    chat_template: str | None = Field(
        default=None, description="Chat template of the output: a name, a text, or `auto`."
    )
    dtype: str | None = Field(default=None, description="Dtype of the computation.")
    out_dtype: str | None = Field(default=None, description="Dtype of the output, if different.")

    @property
    def method_spec(self) -> Method:
        """Specification of the merge method."""
        return METHODS[self.method]

    def refs(self) -> Iterator[ModelRef]:
        """All model references in a fixed order: inputs, bases, tokenizer."""
        for module in self.modules:
            for group in module.groups():
                yield from (input_.model for input_ in group.inputs)
                yield from [group.base] if group.base else []
        yield from [self.base] if self.base else []
        if self.tokenizer:
            yield from [self.tokenizer.source] if isinstance(self.tokenizer.source, ModelRef) else []
            yield from (token.model for token in self.tokenizer.tokens if token.model)

    def all_parameters(self) -> Iterator[Parameter]:
        """All parameters at all levels."""
        yield from self.parameters
        for module in self.modules:
            yield from module.parameters
            for group in module.groups():
                yield from group.parameters
                yield from (parameter for input_ in group.inputs for parameter in input_.parameters)

    def map_refs(self, change: Callable[[ModelRef], ModelRef]) -> Stage:
        """Replace every model reference by `change(reference)`."""

        def map_input(input_: Input) -> Input:
            return input_.model_copy(update={"model": change(input_.model)})

        def map_slice(slice_: Slice) -> Slice:
            inputs = tuple(map_input(input_) for input_ in slice_.inputs)
            return slice_.model_copy(
                update={"inputs": inputs, "base": change(slice_.base) if slice_.base else None}
            )

        modules = tuple(
            module.model_copy(
                update={
                    "models": tuple(map_input(input_) for input_ in module.models),
                    "slices": tuple(map_slice(slice_) for slice_ in module.slices),
                }
            )
            for module in self.modules
        )
        tokenizer = self.tokenizer
        if tokenizer:
            source = change(tokenizer.source) if isinstance(tokenizer.source, ModelRef) else tokenizer.source
            tokens = tuple(
                token.model_copy(update={"model": change(token.model)}) if token.model else token
                for token in tokenizer.tokens
            )
            tokenizer = tokenizer.model_copy(update={"source": source, "tokens": tokens})
        base = change(self.base) if self.base else None
        return self.model_copy(update={"modules": modules, "base": base, "tokenizer": tokenizer})


class Remark(Frozen):
    """A setting that mergekit accepts and ignores."""

    origin: str = Field(description="File name or other origin.")
    line: int | None = Field(default=None, description="Line number from 1; null if unknown.")
    field: str = Field(description="Path of the field in the document.")
    text: str = Field(description="What is ignored and what to write instead.")

    def __str__(self) -> str:
        where = f"{self.origin}:{self.line}" if self.line else self.origin
        return f"{where}: {self.field}: {self.text}"
