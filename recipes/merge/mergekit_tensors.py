"""mergekit in this process: the tensors of a stage, out of the plan that mergekit makes to write files.

The plan, its order and its tasks are those of a build; the writer at its end hands tensors over instead of writing them.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from recipes.errors import BuildError
from recipes.merge.mergekit_worker import OUT_CONFIG, MergeRequest, ordered_configuration, with_layer_settings
from recipes.merge.repeated_work import RepeatedWork
from recipes.merge.reproducible import reproducible_sums
from recipes.merge.source_pool import TensorLoader

if TYPE_CHECKING:
    import torch

NamedTensors = Generator[tuple[str, "torch.Tensor"], None, None]


def stage_tensors(
    request: MergeRequest, loaders: Mapping[str, TensorLoader], *, random: bool
) -> NamedTensors:
    """Names and tensors of a stage's result on the CPU, in mergekit's order; computed one by one while iterated.

    `loaders` maps the directories of the models in the document to their tensors. If `random`, the request's seed is set as a
    build sets it; random numbers of the caller are not disturbed. mergekit keeps its loaders in a global: iterate over one
    stage at a time. If `request.out` is a directory, the result's config.json is written to it at the start. Raises BuildError.
    """
    import torch

    tensors = _tensors(request, loaders, random=random)
    if not random:
        yield from tensors
        return
    generator = torch.default_generator
    state = torch.Generator().manual_seed(request.seed).get_state()
    while True:
        outer = generator.get_state()
        generator.set_state(state)
        try:
            named = next(tensors, None)
        finally:
            state = generator.get_state()
            generator.set_state(outer)
        if named is None:
            return
        yield named


def _tensors(request: MergeRequest, loaders: Mapping[str, TensorLoader], *, random: bool) -> NamedTensors:
    try:
        yield from _planned(request, loaders, random=random)
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise BuildError(f"mergekit could not merge: {reason.rstrip('.')}.") from error


def _planned(request: MergeRequest, loaders: Mapping[str, TensorLoader], *, random: bool) -> NamedTensors:
    from mergekit import merge
    from mergekit.architecture import get_architecture_info
    from mergekit.graph import Executor
    from mergekit.io import tasks
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner

    options = MergeOptions(
        random_seed=request.seed,
        out_shard_size=request.shard_bytes,
        trust_remote_code=request.trust_remote_code,
        quiet=True,
    )
    configuration = ordered_configuration(request.document)
    architecture = get_architecture_info(configuration, options)
    cache = tasks.LoaderCache()
    cache.setup(options=options)
    cache.loaders.clear()
    cache.loaders.update(
        {model: loaders[str(model.model.path)] for model in configuration.referenced_models()}
    )
    make_config = with_layer_settings(getattr(merge, OUT_CONFIG), request.layer_settings)
    config = make_config(configuration, architecture, trust_remote_code=request.trust_remote_code)
    if request.out:
        config.save_pretrained(request.out)
    planner = MergePlanner(configuration, architecture, options=options, out_model_config=config)
    targets = planner.plan_to_disk(out_path=request.out)
    schedule = Executor(targets=targets).schedule
    writer = _HandOver()
    work = RepeatedWork(lambda load: _identity(load, loaders), random=random)
    original, tasks.TensorWriter = tasks.TensorWriter, lambda *_arguments, **_options: writer
    try:
        with reproducible_sums(), work.installed():
            for _ in _steps(schedule, work):
                yield from writer.take()
    finally:
        tasks.TensorWriter = original
        cache.loaders.clear()


def _identity(load: Any, loaders: Mapping[str, TensorLoader]) -> Hashable | None:
    """What identifies the numbers that a task of mergekit loads; None if nothing does."""
    identity = loaders[str(load.model.model.path)].identity
    return None if identity is None else (identity, load.tensor, load.dtype)


def _steps(schedule: Any, work: RepeatedWork) -> Iterator[None]:
    """Run the tasks of mergekit's schedule in its order, as its executor does on a CPU; yields after each.

    The executor looks at every value after every task to find those that are not needed any more, half of the time of a small
    merge; here they are listed before.
    """
    expired: dict[int, list[Any]] = {}
    for handle, last in schedule.last_use_index.items():
        expired.setdefault(last, []).append(handle)
    values: dict[Any, Any] = {}
    for number, handle in enumerate(schedule.tasks):
        arguments = {name: values[needed] for name, needed in handle.arguments().items()}
        values[handle] = work.execute(handle.task(), arguments)
        del arguments
        yield
        for old in expired.get(number, ()):
            values.pop(old, None)


class _HandOver:
    """mergekit's `TensorWriter` without files: keeps the tensors that were saved since the last `take`."""

    def __init__(self) -> None:
        self._saved: list[tuple[str, torch.Tensor]] = []

    def save_tensor(self, name: str, tensor: torch.Tensor, clone: bool = False) -> None:
        """Keep a tensor."""
        self._saved.append((name, tensor.contiguous()))

    def take(self) -> list[tuple[str, torch.Tensor]]:
        """The tensors since the last call."""
        saved, self._saved = self._saved, []
        return saved

    def finalize(self) -> None:
        """Nothing: there are no files."""


def dtype_name(tensor: Any) -> str:
    """Dtype of a tensor in the spelling of safetensors. Raises KeyError for a dtype that no checkpoint has."""
    return _SAFETENSORS[str(tensor.dtype).removeprefix("torch.")]


_SAFETENSORS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint8": "U8", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
