"""What a job's digest covers, and what it leaves out."""

import pytest

from evals.engine import EngineKind, EngineSpec, EngineTuning
from evals.scores import ChatTemplate, EvalSettings, Seeds
from orchestrator.jobs import BuildJob, CheckpointPlace, EvalJob, RecipeSource, job_from_json

ENGINE = EngineSpec(kind=EngineKind.TRANSFORMERS, version="5.19.0")
SETTINGS = EvalSettings(chat_template=ChatTemplate.ON, fewshot_as_multiturn=True)
JOB = EvalJob(
    weights_digest="w",
    suite="smoke",
    benchmark="bbh",
    benchmark_digest="b",
    dataset_digest="d",
    engine=ENGINE,
    settings=SETTINGS,
    scorer="s",
    place=CheckpointPlace(name="demo/x"),
)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "other"},
        {"layer_path": (0, 1)},
        {"benchmark_digest": "other"},
        {"dataset_digest": "other"},
        {"scorer": "other"},
        {"engine": ENGINE.model_copy(update={"dtype": "float32"})},
        {"engine": ENGINE.model_copy(update={"kv_cache_dtype": "fp8"})},
        {"engine": ENGINE.model_copy(update={"max_length": 4096})},
        {"settings": SETTINGS.model_copy(update={"limit": 3})},
        {"settings": SETTINGS.model_copy(update={"chat_template": ChatTemplate.OFF})},
        {"settings": SETTINGS.model_copy(update={"seeds": Seeds(fewshot=1)})},
    ],
)
def test_everything_that_affects_the_result_is_identity(change: dict) -> None:
    assert JOB.model_copy(update=change).digest != JOB.digest


@pytest.mark.parametrize(
    "change",
    [
        {"place": CheckpointPlace(artifact="a")},
        {"live_layers": (0, 1)},
        {"tuning": EngineTuning(batch_size=3)},
    ],
)
def test_where_and_how_fast_is_not(change: dict) -> None:
    assert JOB.model_copy(update=change).digest == JOB.digest


def test_a_live_path_and_the_same_path_built_are_one_identity() -> None:
    live = JOB.model_copy(update={"layer_path": (0, 0), "live_layers": (0, 0)})
    built = JOB.model_copy(update={"layer_path": (0, 0), "place": CheckpointPlace(artifact="a")})
    assert live.digest == built.digest
    assert live.engine_key != built.engine_key
    assert built.needs == ("a",)


def test_jobs_survive_json() -> None:
    build = BuildJob(
        recipe="r", recipe_digest="x", sources=(RecipeSource(name="n", place="p", weights_digest="w"),)
    )
    for job in (JOB, build):
        assert job_from_json(job.model_dump_json()) == job
