"""What a job's digest covers, and what it leaves out."""

import json
from pathlib import Path

import pytest

from evals.engine import DeviceKind, EngineKind, EngineSpec, EngineTuning, ExecutionMode
from evals.scores import ChatTemplate, EvalSettings, Seeds
from orchestrator.plan.job import BuildJob, CheckpointPlace, EvalJob, RecipeSource, job_from_json
from orchestrator.store.records import Protocol

_STORED = Path(__file__).parents[2] / "support" / "stored_rows"
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
        {"engine": ENGINE.model_copy(update={"device": DeviceKind.CUDA})},
        {"engine": ENGINE.model_copy(update={"execution": ExecutionMode.GRAPHS})},
        {"engine": ENGINE.model_copy(update={"attention_backend": "FLASH_ATTN"})},
        {"engine": ENGINE.model_copy(update={"batch_invariant": True})},
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
        {"tuning": EngineTuning(live=True)},
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


def test_digests_stay_what_they_are() -> None:
    """A digest names results in stores of users; whoever changes one of these says why in the commit.

    The first is what versions wrote that recorded neither device nor execution mode: it must stay readable under its name.
    """
    assert (ENGINE.digest, JOB.digest) == ("735331cb0e09bdb8", "27db00cf89ee34f9")
    recorded = ENGINE.model_copy(
        update={
            "device": DeviceKind.CPU,
            "execution": ExecutionMode.EAGER,
            "attention_backend": "auto",
            "batch_invariant": False,
        }
    )
    job = JOB.model_copy(update={"engine": recorded})
    assert (recorded.digest, job.digest) == ("5698a947e3e1b2bc", "ea30fd26d6cc5d88")


@pytest.mark.parametrize("file", sorted(_STORED.glob("*.json")), ids=lambda path: path.stem)
def test_protocols_of_every_earlier_schema_keep_their_digests(file: Path) -> None:
    """What was stored is found again under the digests it was stored under."""
    rows = json.loads(file.read_text())["protocols"]
    assert rows
    for row in rows:
        protocol = Protocol.model_validate_json(row["spec"])
        assert (protocol.digest, protocol.engine.digest) == (row["digest"], row["engine_digest"])


def test_jobs_survive_json() -> None:
    build = BuildJob(
        recipe="r", recipe_digest="x", sources=(RecipeSource(name="n", place="p", weights_digest="w"),)
    )
    for job in (JOB, build):
        assert job_from_json(job.model_dump_json()) == job
