"""One mergekit document as a value: what goes in, how it is merged, what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import Field

from recipes.recipe.methods import METHODS, Method
from recipes.recipe.refs import ModelRef
from recipes.tensor_file import Frozen

Scalar = bool | int | float

DEFAULT_MODULE = ""
"""Name of the module of a document that has `models` or `slices` at its top."""


class Condition(Frozen):
    """One value of a parameter and the tensors that it is for."""

    filter: str | None = Field(
        default=None, description="Text that the tensor's name contains; null is all tensors."
    )
    value: Scalar | tuple[Scalar, ...] = Field(
        description="The value, or a gradient over the layers of the slice."
    )


class Parameter(Frozen):
    """A parameter that the method reads; the first condition that matches a tensor decides."""

    name: str = Field(description="Its name.")
    conditions: tuple[Condition, ...] = Field(description="Its values, in order.")

    @property
    def constant(self) -> Scalar | None:
        """The one value that holds for every tensor and layer, or None."""
        first = self.conditions[0]
        return None if first.filter is not None or isinstance(first.value, tuple) else first.value

    @property
    def is_complete(self) -> bool:
        """Whether every tensor gets a value."""
        return self.conditions[-1].filter is None


class Input(Frozen):
    """A checkpoint, or a range of its layers, that goes into a merge."""

    model: ModelRef = Field(description="The checkpoint or earlier stage.")
    layers: tuple[int, int] | None = Field(
        default=None, description="Its layers [a, b); null is all of them."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this input.")


class Slice(Frozen):
    """A run of output layers, made from one range of each input."""

    inputs: tuple[Input, ...] = Field(description="Ranges of equal length.")
    base: ModelRef | None = Field(
        default=None, description="Base of this slice, where it is not the document's."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this slice.")

    @property
    def n_layers(self) -> int:
        """Output layers of the slice."""
        a, b = self.inputs[0].layers or (0, 0)
        return b - a


class Module(Frozen):
    """A stack of layers of the output: the whole language model, or one part of a model of several."""

    name: str = Field(default=DEFAULT_MODULE, description="Name of the part; empty for the whole.")
    models: tuple[Input, ...] = Field(
        default=(), description="Whole checkpoints to merge, or empty where slices are."
    )
    slices: tuple[Slice, ...] = Field(
        default=(), description="Output slices in order, or empty where models are."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of this module.")

    def groups(self) -> tuple[Slice, ...]:
        """The slices, or the models as one slice whose ranges are not known yet."""
        return self.slices or (Slice(inputs=self.models),)


class TokenRule(Frozen):
    """Where the embedding of one token comes from."""

    token: str = Field(description="The token.")
    model: ModelRef | None = Field(
        default=None, description="Checkpoint that it is taken from; null is by default."
    )
    zero: bool = Field(default=False, description="Whether it is zero.")
    other_token: str | int | None = Field(
        default=None, description="Token, as text or id, whose embedding is taken."
    )
    force: bool = Field(
        default=False, description="Whether it replaces embeddings that inputs have of their own."
    )


class TokenizerRule(Frozen):
    """How the output's tokenizer and vocabulary are made."""

    source: ModelRef | str = Field(description="`base`, `union`, or the checkpoint whose tokenizer is taken.")
    tokens: tuple[TokenRule, ...] = Field(default=(), description="Tokens with a rule of their own.")
    pad_to_multiple_of: int | None = Field(
        default=None, description="Vocabulary is padded to a multiple of this."
    )


class Stage(Frozen):
    """One merge: everything in a mergekit document that has a meaning."""

    name: str | None = Field(default=None, description="Name under which later stages use the result.")
    method: str = Field(description="Merge method.")
    base: ModelRef | None = Field(default=None, description="Base model.")
    modules: tuple[Module, ...] = Field(
        description="What is merged; one entry but for models of several parts."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), description="Parameters of the whole document.")
    tokenizer: TokenizerRule | None = Field(
        default=None, description="How the vocabulary is made; null copies one."
    )
    chat_template: str | None = Field(
        default=None, description="Template to set, by name, as text, or `auto`."
    )
    dtype: str | None = Field(default=None, description="Dtype in which the merge computes.")
    out_dtype: str | None = Field(default=None, description="Dtype that is written, where it is another.")

    @property
    def rule(self) -> Method:
        """The merge method's entry in the table."""
        return METHODS[self.method]

    def refs(self) -> Iterator[ModelRef]:
        """Every model reference, in a fixed order: inputs as they come, then bases, then the tokenizer's."""
        for module in self.modules:
            for group in module.groups():
                yield from (one.model for one in group.inputs)
                yield from [group.base] if group.base else []
        yield from [self.base] if self.base else []
        if self.tokenizer:
            yield from [self.tokenizer.source] if isinstance(self.tokenizer.source, ModelRef) else []
            yield from (token.model for token in self.tokenizer.tokens if token.model)

    def all_parameters(self) -> Iterator[Parameter]:
        """Every parameter at every level."""
        yield from self.parameters
        for module in self.modules:
            yield from module.parameters
            for group in module.groups():
                yield from group.parameters
                yield from (parameter for one in group.inputs for parameter in one.parameters)

    def mapped(self, change: Callable[[ModelRef], ModelRef]) -> Stage:
        """The stage with every model reference replaced."""

        def of_input(one: Input) -> Input:
            return one.model_copy(update={"model": change(one.model)})

        def of_slice(one: Slice) -> Slice:
            inputs = tuple(of_input(i) for i in one.inputs)
            return one.model_copy(update={"inputs": inputs, "base": change(one.base) if one.base else None})

        modules = tuple(
            module.model_copy(
                update={
                    "models": tuple(of_input(i) for i in module.models),
                    "slices": tuple(of_slice(s) for s in module.slices),
                }
            )
            for module in self.modules
        )
        tokenizer = self.tokenizer
        if tokenizer:
            source = change(tokenizer.source) if isinstance(tokenizer.source, ModelRef) else tokenizer.source
            tokens = tuple(
                t.model_copy(update={"model": change(t.model)}) if t.model else t for t in tokenizer.tokens
            )
            tokenizer = tokenizer.model_copy(update={"source": source, "tokens": tokens})
        base = change(self.base) if self.base else None
        return self.model_copy(update={"modules": modules, "base": base, "tokenizer": tokenizer})


class Remark(Frozen):
    """Something in the text that mergekit accepts and then does nothing with."""

    origin: str = Field(description="File, or what stands for it.")
    line: int | None = Field(default=None, description="Line, from 1, where known.")
    field: str = Field(description="Path of the field in its document.")
    text: str = Field(description="What is ignored, and what to write instead.")

    def __str__(self) -> str:
        where = f"{self.origin}:{self.line}" if self.line else self.origin
        return f"{where}: {self.field}: {self.text}"
