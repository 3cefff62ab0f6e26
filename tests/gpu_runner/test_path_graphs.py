"""CUDA graphs of live paths, with graphs that are recorded on CPU tensors (see `graph_recorder`): what is replayed is the set path's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evals.engine import EngineKind, EngineTuning, GenerateRequest, GenerateResult
from tests.gpu.ways import Exact, exact, same_answer
from tests.gpu_runner.v2 import Runner, call
from tests.support.engine_requests import generated, opened
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = [pytest.mark.gpu_runner, pytest.mark.vllm, pytest.mark.slow]

LAYERS = 3
PATHS = ((0, 1, 2), (0, 1, 1, 2), (0, 2), (2, 0, 1))
NEW = 4


@dataclass
class Seen:
    """What the process saw, for the asserts."""

    graphs: dict[str, Exact] = field(default_factory=dict)
    """Tokens and log-probabilities of each prompt, by path and way."""
    texts: dict[tuple[int, ...], list[GenerateResult]] = field(default_factory=dict)
    counts: list[tuple[str, int, int]] = field(default_factory=list)
    """(after what, graphs that exist, replays so far)"""
    remarks: list[str] = field(default_factory=list)


def prompts(count: int) -> list[GenerateRequest]:
    """Of different lengths, so that rows of one step differ in everything."""
    return [
        GenerateRequest(prompt=tuple(range(5 + 7 * n, 9 + 8 * n)), max_new_tokens=NEW) for n in range(count)
    ]


def texts(count: int) -> list[tuple[int, ...]]:
    """The prompts' tokens."""
    return [request.prompt for request in prompts(count)]


def explore(checkpoint: Path) -> Seen:
    """One engine through changes of path, with graphs and without."""
    import logging

    from tests.gpu_runner import graph_recorder
    from tests.gpu_runner.graph_recorder import RecordedGraph

    graph_recorder.install()
    seen = Seen()

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.remarks.append(record.getMessage())

    logging.getLogger("evals.vllm").addHandler(Keeps())
    tuning = EngineTuning(threads=2, extra_layer_slots=LAYERS, kv_cache_gib=0.05, batch_size=8)
    with opened(EngineKind.VLLM, checkpoint, tuning, max_length=64, execution="graphs") as opened_engine:
        engine: Any = opened_engine
        worker = engine._llm.llm_engine.model_executor.driver_worker.worker
        graphs = worker.path_graphs

        def count(what: str) -> None:
            seen.counts.append((what, len(graphs.graphs), RecordedGraph.replays))

        count("start")
        for path in PATHS:
            engine.set_layer_path(path)
            count(f"set {path}")
            seen.graphs[f"graphs {path}"] = exact(engine, texts(4), NEW)
            count(f"ran {path}")
            graphs.enabled = False
            seen.graphs[f"eager {path}"] = exact(engine, texts(4), NEW)
            count(f"eager {path}")
            graphs.enabled = True
            seen.texts[path] = generated(engine, prompts(2))
        # The same path again, by its other name, keeps its graphs.
        engine.set_layer_path(PATHS[0])
        exact(engine, texts(2), NEW)
        count("two rows")
        engine.set_layer_path(None)
        count("renamed")
        exact(engine, texts(4), NEW)
        count("four rows")
        # A change that nobody told of: not replayed, and refused where it is tried.
        before = RecordedGraph.replays
        worker.layer_slots.set(PATHS[1])
        seen.graphs["untold"] = exact(engine, texts(4), NEW)
        count("untold")
        assert RecordedGraph.replays == before
        try:
            graphs.run_fullgraph(next(iter(graphs.graphs)))
        except RuntimeError as error:
            seen.remarks.append(type(error).__name__)
        # The control: with the guard's number forged, another path's graphs are replayed, and it shows.
        graphs._generation = worker.layer_slots.generation
        seen.graphs["forged"] = exact(engine, texts(4), NEW)
        assert RecordedGraph.replays > before
        # A capture that fails.
        engine.set_layer_path(PATHS[2])
        RecordedGraph.broken = True
        seen.texts[(-1,)] = generated(engine, prompts(2))
        count("failed")
        engine.set_layer_path(PATHS[3])
        seen.texts[(-2,)] = generated(engine, prompts(2))
        count("after")
    return seen


def test_graphs_are_those_of_the_set_path_bit_by_bit(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, dtype="float32")
    seen = call(explore, checkpoint, runner=Runner(async_scheduling=True))
    counts = {what: (graphs, replays) for what, graphs, replays in seen.counts}
    assert counts["start"] == (0, 0), "nothing is captured before a generation asks"
    for path in PATHS:
        assert counts[f"set {path}"][0] == 0, "a change of path drops the graphs"
        assert counts[f"ran {path}"][0] == 3, "batch sizes 1, 2 and 4 are captured"
        assert counts[f"ran {path}"][1] > counts[f"set {path}"][1]
        assert counts[f"eager {path}"] == counts[f"ran {path}"]
        assert seen.graphs[f"graphs {path}"] == seen.graphs[f"eager {path}"]
    assert counts["two rows"][0] == counts["renamed"][0] == 2
    assert counts["four rows"][0] == 3
    assert seen.graphs["untold"] == seen.graphs[f"eager {PATHS[1]}"]
    assert "StaleGraph" in seen.remarks
    assert seen.graphs["forged"] != seen.graphs["untold"], "the stand-in replays what was captured"
    assert counts["failed"][0] == counts["after"][0] == 0
    assert seen.texts[(-1,)] == seen.texts[PATHS[2]]
    assert seen.texts[(-2,)] == seen.texts[PATHS[3]]
    assert sum("runs without CUDA graphs" in remark for remark in seen.remarks) == 1
    with opened(EngineKind.TRANSFORMERS, checkpoint, max_length=64) as reference:
        for path in PATHS:
            reference.set_layer_path(path)
            for ours, known in zip(seen.texts[path], generated(reference, prompts(2)), strict=True):
                assert same_answer(ours, known)
