"""vLLM against transformers, the same documents in float32: which answers differ, and how near a tie each of them was.

    MERGEBOARD_DATASETS=DIR python benchmarks/engine_agreement.py --home DIR [--suite leaderboard-v2] [--limit 20]
        [--benchmarks bbh musr]

Runs a sweep of the checkpoint alone with each engine (what the home has already is reused), pairs the stored samples, and lists every
document whose answers differ. The gap of a multiple-choice answer is what separates the two choices in the value that
picks them; the gap of a text is the difference of the log-probabilities of the two tokens where the texts part, on the
transformers engine. A gap below 1e-3 counts as a near-tie. Ends with code 1 where a difference is none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from evals.engine import (
    EngineKind,
    EngineSpec,
    GenerateRequest,
    GenerateResult,
    PathEngine,
    RequestFilter,
    ScoreRequest,
    accept_all,
)
from evals.engines import installed_version, open_engine
from evals.harness import evaluate
from evals.samples import read_samples
from evals.scores import EvalSettings, Sample
from evals.suite import Benchmark, Extraction, OutputKind, Suite, load_suite
from orchestrator.plan.job import EvalJob
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome
from recipes.sources import resolve

NEAR = 1e-3
ENGINES = (EngineKind.VLLM, EngineKind.TRANSFORMERS)
Key = tuple[str, str, int]


def main() -> int:
    """Run both engines and hold their samples against each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--checkpoint", default="demo/SmolLM2-135M-Instruct")
    parser.add_argument("--suite", default="leaderboard-v2")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--benchmarks", nargs="+", help="only these of the suite")
    asked = parser.parse_args()
    os.environ["MERGEBOARD_HOME"] = str(asked.home)
    suite = load_suite(asked.suite)
    names = asked.benchmarks or [benchmark.name for benchmark in suite.benchmarks]
    for kind in ENGINES:
        sweep = {
            "name": f"agreement-{kind}",
            "base": asked.checkpoint,
            "recipes": [],
            "suites": [{"suite": suite.name, "benchmarks": names, "limit": asked.limit}],
            "engines": [{"kind": str(kind), "dtype": "float32"}],
        }
        path = asked.home / f"agreement-{kind}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sweep), encoding="utf-8")
        subprocess.run([str(Path(sys.executable).parent / "mergeboard"), "run", str(path)], check=True)
    settings = Settings.from_environment()
    both = [stored(settings, suite, names, asked.limit, kind) for kind in ENGINES]
    return report(both, suite, settings, asked.checkpoint)


def stored(
    settings: Settings, suite: Suite, names: Sequence[str], limit: int, kind: EngineKind
) -> tuple[dict[Key, Sample], list[EvalJob]]:
    """The samples of one engine's evaluation, by document."""
    samples: dict[Key, Sample] = {}
    jobs: list[EvalJob] = []
    with Store.open(settings.database_url, create=False, read_only=True) as store:
        for run in store.runs():
            for planned in store.run_jobs(run.id):
                job = planned.job
                if not isinstance(job, EvalJob) or job.suite != suite.name or job.benchmark not in names:
                    continue
                if job.settings.limit != limit:
                    continue
                outcome = store.outcomes([job.digest]).get(job.digest)
                if job.engine.kind is not kind or job.layer_path or not isinstance(outcome, EvalOutcome):
                    continue
                jobs.append(job)
                for sample in read_samples(settings.home / outcome.samples_path):
                    samples[sample.benchmark, sample.subset, sample.doc_id] = sample
    return samples, jobs


def report(
    both: Sequence[tuple[dict[Key, Sample], list[EvalJob]]], suite: Suite, settings: Settings, checkpoint: str
) -> int:
    """Print the table and the list; 1 where something differs that is no near-tie."""
    (ours, jobs), (reference, _) = both
    assert ours.keys() == reference.keys(), "the engines have scored different documents"
    differing = [key for key in ours if ours[key].response != reference[key].response]
    gaps = dict(measured(differing, ours, reference, suite, jobs, settings, checkpoint))
    print(f"{'benchmark':12} {'n':>5} {'equal':>6} {'near-ties':>9} {'other':>6} {'largest difference':>19}")
    for benchmark in suite.benchmarks:
        keys = [key for key in ours if key[0] == benchmark.name]
        if not keys:
            continue
        near = sum(1 for key in keys if key in gaps and gaps[key] < NEAR)
        other = sum(1 for key in keys if key in gaps and gaps[key] >= NEAR)
        largest = max(
            (
                abs(a - b)
                for key in keys
                for a, b in zip(ours[key].logprobs, reference[key].logprobs, strict=True)
            ),
            default=None,
        )
        shown = f"{largest:.1e}" if largest is not None else "-"
        print(
            f"{benchmark.name:12} {len(keys):5} {len(keys) - near - other:6} {near:9} {other:6} {shown:>19}"
        )
    for key, gap in gaps.items():
        a, b = ours[key], reference[key]
        what = "near-tie" if gap < NEAR else "NOT a near-tie"
        print(f"{key[1]} {key[2]}: {what}, gap {gap:.1e}; correct {a.correct:g} and {b.correct:g}")
    return int(any(gap >= NEAR for gap in gaps.values()))


def measured(
    differing: Sequence[Key], ours: dict[Key, Sample], reference: dict[Key, Sample], suite: Suite,
    jobs: Sequence[EvalJob], settings: Settings, checkpoint: str,
) -> Iterator[tuple[Key, float]]:  # fmt: skip
    """The gap of every differing answer."""
    texts: list[Key] = []
    for key in differing:
        benchmark = suite.benchmark(key[0])
        if benchmark.output is OutputKind.GENERATION:
            texts.append(key)
        else:
            yield key, choice_gap(benchmark, ours[key], reference[key])
    if not texts:
        return
    place = resolve(checkpoint, None, home=settings.home)
    spec = EngineSpec(
        kind=EngineKind.TRANSFORMERS, version=installed_version(EngineKind.TRANSFORMERS), dtype="float32"
    )
    engine = open_engine(spec, place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    settings_of = {job.benchmark: job.settings for job in jobs}
    for name in dict.fromkeys(key[0] for key in texts):
        prompts = prompts_of(engine, suite, suite.benchmark(name), settings_of[name], settings.datasets)
        for key in texts:
            if key[0] == name:
                yield (
                    key,
                    text_gap(
                        engine,
                        tokenizer,
                        prompts[key],
                        ours[key].response or "",
                        reference[key].response or "",
                    ),
                )
    engine.close()


def choice_gap(benchmark: Benchmark, ours: Sample, reference: Sample) -> float:
    """What separates the two choices, in the engine where it is more."""
    sizes = [
        float(len(c)) if benchmark.extraction is Extraction.CHOICE_PER_CHARACTER else 1.0
        for c in ours.choices
    ]
    one, other = (ours.choices.index(s.response or "") for s in (ours, reference))
    return max(
        abs(s.logprobs[one] / sizes[one] - s.logprobs[other] / sizes[other]) for s in (ours, reference)
    )


class _Recorder:
    """Stands before an engine and answers every request with its number."""

    def __init__(self, engine: PathEngine) -> None:
        self.spec, self.checkpoint, self.max_length = engine.spec, engine.checkpoint, engine.max_length
        self.requests: list[GenerateRequest] = []

    def score(
        self, requests: Sequence[ScoreRequest], names: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        """Not asked: only texts are looked at."""
        raise AssertionError("a benchmark of texts asked for scores")

    def generate(
        self, requests: Sequence[GenerateRequest], names: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        """The request's number as its text."""
        for index in filter(names, range(len(requests))):
            request = requests[index]
            self.requests.append(request)
            text = str(len(self.requests) - 1)
            yield index, GenerateResult(text=text, n_tokens=1, finish_reason="stop")

    def set_layer_path(self, layers: tuple[int, ...] | None) -> None:
        """Nothing to switch."""

    def close(self) -> None:
        """Nothing to free."""


def prompts_of(
    engine: PathEngine, suite: Suite, benchmark: Benchmark, settings: EvalSettings, mirror: Path | None
) -> dict[Key, GenerateRequest]:
    """The request of every document, as the harness makes it."""
    recorder = _Recorder(engine)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.parquet"
        evaluate(
            recorder, suite, benchmark, settings,  # type: ignore[arg-type]  # it answers no scores
            mirror=mirror, journal_dir=Path(folder) / "journal", samples_path=file,
        )  # fmt: skip
        return {
            (s.benchmark, s.subset, s.doc_id): recorder.requests[int(s.response or "")]
            for s in read_samples(file)
        }


def text_gap(
    engine: PathEngine,
    tokenizer: PreTrainedTokenizerBase,
    request: GenerateRequest,
    ours: str,
    reference: str,
) -> float:
    """Difference of the log-probabilities of the two tokens where the texts part."""
    one, other = (tokenizer.encode(text, add_special_tokens=False) for text in (ours, reference))
    end = tokenizer.eos_token_id
    shared = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    first, second = (ids[shared] if shared < len(ids) else end for ids in (one, other))
    asked = ScoreRequest(context=(*request.prompt, *one[:shared]), continuations=((first,), (second,)))
    ((_, result),) = engine.score([asked])
    return abs(result.logprobs[0] - result.logprobs[1])


if __name__ == "__main__":
    sys.exit(main())
