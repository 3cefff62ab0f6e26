"""What merges of one search would compute again and again, kept between them: see `recipes.merge.kept` for the bound.

mergekit's functions are replaced while a live merge runs: its sparsification (`sparsification`) and three kernels (`arithmetic`). A result
whose inputs and parameters come again is kept whole. All numbers are mergekit's bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from recipes.merge.arithmetic import Angles, linear, merge_group
from recipes.merge.kept import kept
from recipes.merge.sparsification import Sparsifier, state_digest


class RepeatedWork:
    """Replacements of mergekit's functions for one merge."""

    def __init__(self, identify: Callable[[Any], Hashable | None], *, random: bool) -> None:
        """`identify` maps a task that loads a tensor to what identifies the loaded numbers, or to None if nothing does.

        `random` says whether the merge method draws random numbers.
        """
        self._kept = kept()
        self._random = random
        self._identify = identify
        self._vectors: list[Hashable | None] = []
        """What identifies the task vectors that the running task has yet to sparsify, in reverse order."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace mergekit's functions until the block ends."""
        from mergekit.merge_methods import generalized_task_arithmetic, slerp
        from mergekit.merge_methods.linear import linear_merge

        method = generalized_task_arithmetic.GeneralizedTaskArithmeticMerge
        sparsifier = Sparsifier(self._kept, self._next_vector, generalized_task_arithmetic.sparsify)
        angles = Angles(self._kept, self._next_vector, slerp.slerp)
        replaced = (
            (generalized_task_arithmetic, "sparsify", sparsifier),
            (method, "merge_group", merge_group(method.merge_group)),
            (slerp, "slerp", angles),
            (linear_merge, "implementation", linear(linear_merge.implementation)),
        )
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
        try:
            for owner, name, function in replaced:
                setattr(owner, name, function)
            yield
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)

    def execute(self, task: Any, arguments: dict[str, Any]) -> Any:
        """Execute a task of mergekit's plan; the result must not be changed."""
        from mergekit.io.tasks import GatherTensors
        from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask

        self._vectors = []
        if not isinstance(task, ExecuteMergeMethodTask) or not isinstance(task.gather_tensors, GatherTensors):
            return task.execute(**arguments)
        models = task.gather_tensors.weight_info.keys()
        loads = dict(zip(models, task.gather_tensors.arguments().values(), strict=True))
        inputs = {
            model: self._identify(loads[model])
            for model in task.model_order
            if arguments["tensors"].get(model) is not None
        }
        base = inputs.get(task.base_model)
        vectors: list[Hashable | None] = [
            None if base is None or entry is None else (base, entry)
            for model, entry in inputs.items()
            if model != task.base_model
        ]
        self._vectors = vectors[::-1]
        if None in inputs.values():
            return task.execute(**arguments)
        return self._unchanged(task, tuple(inputs.items()), arguments)

    def _unchanged(self, task: Any, inputs: Hashable, arguments: dict[str, Any]) -> Any:
        """The result, kept from the second merge on that has the same inputs and parameters."""
        import torch

        state = torch.get_rng_state() if self._random else None
        key = "result", inputs, _settings(task), None if state is None else state_digest(state)

        def make() -> tuple[torch.Tensor, ...]:
            result = task.execute(**arguments)
            # An optional tensor that no input has gives none.
            return () if result is None else (result, torch.get_rng_state())

        tensors = self._kept.get_or_make_repeated(key, make)
        if not tensors:
            return None
        if self._random:
            torch.set_rng_state(tensors[1])
        return tensors[0]

    def _next_vector(self) -> Hashable | None:
        return self._vectors.pop() if self._vectors else None


def _settings(task: Any) -> Hashable:
    """What determines the result of a merge task beside its inputs."""
    settings = tuple(sorted((name, repr(value)) for name, value in task.parameters.items()))
    by_input = tuple(
        (model, tuple(sorted((name, repr(value)) for name, value in task.input_parameters[model].items())))
        for model in task.model_order
    )
    return (
        task.method_name,
        task.base_model,
        settings,
        by_input,
        task.dtype,
        task.out_dtype,
        task.output_weight.optional,
    )
