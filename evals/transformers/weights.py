"""Replaces the weights of a loaded transformers model in place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from evals.engine import EngineSpec
from evals.errors import EngineError
from evals.weights import Shapes, StreamedWeights, complete, replaceable_tensors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class WeightLoader:
    """Copies weights into the parameters of a model, whose layers must be in the checkpoint's order."""

    def __init__(self, model: PreTrainedModel, spec: EngineSpec, checkpoint: Path) -> None:
        self._model = model
        self._spec = spec
        self._checkpoint = checkpoint
        self._expected: Shapes | None = None

    def expected(self) -> Shapes:
        """Names and shapes of the tensors that `load` takes. Raises EngineError where the weights cannot be replaced."""
        if self._expected is None:
            self._expected = replaceable_tensors(self._checkpoint)
        return self._expected

    def load(self, weights: StreamedWeights | None, expected: Shapes) -> None:
        """Replace all weights; None restores the checkpoint's own. Raises EngineError unless every parameter is written."""
        import torch

        # Keys of another name or shape are converted by transformers, as when it loads files (stacked experts, older names).
        targets = self._model.state_dict(keep_vars=True)
        plain = all(
            name in targets and tuple(targets[name].shape) == shape for name, shape in expected.items()
        )
        with torch.no_grad():
            if weights is None:
                _copy(self._as_loaded(None), targets, self._checkpoint)
                return
            tensors = complete(weights.tensors(), expected, self._checkpoint)
            _copy(tensors if plain else self._as_loaded(dict(tensors)), targets, self._checkpoint)

    def _as_loaded(self, tensors: dict[str, torch.Tensor] | None) -> Iterable[tuple[str, torch.Tensor]]:
        """The state of a model that transformers loads from these tensors, or from the checkpoint's files."""
        import torch
        from transformers import AutoConfig

        place = str(self._checkpoint) if tensors is None else None
        model, report = type(self._model).from_pretrained(
            place,
            config=AutoConfig.from_pretrained(
                self._checkpoint, local_files_only=True, trust_remote_code=self._spec.trust_remote_code
            ),
            state_dict=tensors,
            dtype=getattr(torch, self._spec.dtype),
            output_loading_info=True,
        )
        if report["missing_keys"]:
            raise EngineError(
                f"The new weights lack {min(report['missing_keys'])}, which {self._checkpoint} has: build the merge with "
                "`materialize: true`."
            )
        return model.state_dict().items()


def _copy(
    tensors: Iterable[tuple[str, torch.Tensor]], targets: dict[str, torch.Tensor], checkpoint: Path
) -> None:
    """Copy tensors into the targets of their names; EngineError if a parameter is not written, or written with two values."""
    import torch

    written: dict[int, str] = {}
    for name, tensor in tensors:
        target = targets[name]
        first = written.setdefault(target.data_ptr(), name)
        if first == name:
            target.copy_(tensor)
        elif not torch.equal(target, tensor.to(target)):
            raise EngineError(
                f"{first} and {name} are one parameter in the running engine of {checkpoint} and differ in the new weights: build the "
                "merge with `materialize: true`."
            )
    left = [
        name
        for name, target in targets.items()
        if isinstance(target, torch.nn.Parameter) and target.data_ptr() not in written
    ]
    if left:
        raise EngineError(
            f"The new weights give no value for {left[0]} of {checkpoint}: build the merge with `materialize: true`."
        )
