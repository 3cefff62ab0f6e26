"""Classification of failures, logs of attempts, and no secret in either."""

import errno
from pathlib import Path

import pytest

from evals.errors import DatasetError, EngineError
from orchestrator.plan.job import BuildJob, CheckpointPlace, RecipeSource
from orchestrator.settings import WorkerContext
from orchestrator.store.records import BuildOutcome, Failure, FailureClass
from orchestrator.worker.failures import classify
from orchestrator.worker.inputs import Inputs
from orchestrator.worker.worker import run_build
from recipes.checkpoint import weights_digest
from recipes.errors import ArtifactError, BuildError, CheckpointError, RecipeSyntaxError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureClass.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), FailureClass.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), FailureClass.FULL_DISK),
        (caused(BuildError("x"), OSError(errno.ENOSPC, "No space")), FailureClass.FULL_DISK),
        (CheckpointError("x"), FailureClass.BAD_CHECKPOINT),
        (ArtifactError("x"), FailureClass.BAD_CHECKPOINT),
        (EngineError("x"), FailureClass.BAD_CHECKPOINT),
        (RecipeSyntaxError("x"), FailureClass.BAD_INPUT),
        (DatasetError("x"), FailureClass.BAD_INPUT),
        (ZeroDivisionError(), FailureClass.UNKNOWN),
    ],
)
def test_classes(error: Exception, kind: FailureClass) -> None:
    assert classify(error) is kind


def build_job(source: str, digest: str, weights: str = "w") -> BuildJob:
    recipe = f"base: {source}\nlayer_path: (1, 2)\n"
    return BuildJob(
        recipe=recipe,
        recipe_digest=digest,
        sources=(RecipeSource(name=source, place=source, weights_digest=weights),),
    )


def test_a_build_gives_an_artifact_with_its_facts(home: Path, tiny_llama: Path) -> None:
    job = build_job(str(tiny_llama), "0" * 16, weights_digest(tiny_llama, home / "cache"))
    outcome = run_build(WorkerContext(home=str(home), datasets=None), "a1", job)
    assert isinstance(outcome, BuildOutcome), outcome
    assert outcome.layers == 5
    assert (home / outcome.path / "config.json").exists()


def test_a_failed_build_brings_its_log_and_no_secret(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecrettoken")
    missing = tmp_path / "hf_verysecrettoken" / "nothing"
    outcome = run_build(WorkerContext(home=str(home), datasets=None), "a2", build_job(str(missing), "1" * 16))
    assert isinstance(outcome, Failure)
    assert outcome.failure_class is FailureClass.BAD_CHECKPOINT
    assert "Traceback" in outcome.log_tail
    assert "verysecret" not in outcome.message + outcome.log_tail


def test_a_missing_artifact_is_a_sentence(home: Path) -> None:
    with pytest.raises(ArtifactError, match="every node must mount"):
        Inputs(WorkerContext(home=str(home), datasets=None)).checkpoint(
            CheckpointPlace(artifact="2" * 16), "recipe:" + "2" * 16
        )
