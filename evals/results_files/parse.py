"""Parses result files of all versions of lm-eval and of both leaderboards into one record.

Unknown fields are ignored; a used field of the wrong form is a ClaimError.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from evals.claims.facts import NOT_QUANTIZED, TOKENIZERS_DEFAULT, Fact, Facts, limit_text, on_off
from evals.errors import ClaimError
from evals.outside_file import parse_json, read_file
from evals.results_files.imported_run import FileFormat, ResultFile, TaskResult
from evals.results_files.task_config import task_fields, text_list

MAX_BYTES = 64_000_000
"""Maximum size of a result file; lm-eval's files with all configs have a few MB."""
_MOST = 2**53
_BOS_BY_TOKENIZER = (0, 4, 9, 2)
_STAMP = re.compile(r"(20\d\d)[-_](\d\d)[-_](\d\d)T(\d\d)[-_:](\d\d)[-_:](\d\d)")
_BLOCK_OPENS = re.compile(r"^```(?:python|json)?[ \t]*+\r?\n(?=\{)", re.MULTILINE)
_BLOCK_CLOSES = re.compile(r"^(?P<end>\})[ \t]*+\r?\n```", re.MULTILINE)
_SUBJECT = re.compile(r"Evaluation run of (?:model )?\[?([\w.-]+/[\w.-]+)\]?")
_BOARD_KEY = re.compile(r"harness\|[^|]+\|(?P<shots>\d{1,4})$")
_ENGINES = {"hf": "transformers", "hf-auto": "transformers", "huggingface": "transformers", "vllm": "vllm"}
_QUANTIZED_NAME = re.compile(
    r"(?i)(?<![a-z0-9])(gptq|awq|gguf|exl2|hqq|fp8|nf4|(?:bnb-)?[48]-?bit|int[48]|i?q[2-8]_[0-9a-z_]+)(?![a-z0-9])"
)


def read_result_file(path: Path) -> ResultFile:
    """Read a result file; ClaimError if it cannot be read or is not one."""
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise ClaimError(
            f"{path} cannot be read ({error.strerror}); give a result file of lm-eval."
        ) from error
    except UnicodeDecodeError as error:
        raise ClaimError(f"{path} is not text; give a result file of lm-eval (results_*.json).") from error
    return parse_results(text, str(path))


def parse_results(text: str, source: str) -> ResultFile:
    """Parse a result file: JSON, or a leaderboard's details card that contains the results."""
    block = None if text.lstrip()[:1] == "{" else _json_block(text)
    if block is not None:
        return _details_card(_object(block, source), text, source)
    data = _object(text, source)
    results = data.get("results")
    if isinstance(results, dict) and any(_BOARD_KEY.match(k) for k in results):
        return _board_v1(data, results, source)
    if isinstance(results, dict) and results:
        return _harness(data, results, source)
    raise ClaimError(f"{source} has no 'results' of tasks; give a result file of lm-eval (results_*.json).")


def _json_block(text: str) -> str | None:
    """The first fenced JSON object of a card; None if it is not closed."""
    opening = _BLOCK_OPENS.search(text)
    closing = _BLOCK_CLOSES.search(text, opening.end()) if opening else None
    return text[opening.end() : closing.end("end")] if opening and closing else None


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        data = parse_json(text)
    except ValueError as error:
        reason = str(error)[:120]
        raise ClaimError(
            f"{source} is not JSON ({reason}); give a result file of lm-eval (results_*.json)."
        ) from error
    if not isinstance(data, dict):
        raise ClaimError(
            f"{source} is a JSON {type(data).__name__}, not a result; give a results_*.json of lm-eval."
        )
    return data


def _harness(data: Mapping[str, Any], results: Mapping[str, Any], source: str) -> ResultFile:
    """lm-eval's results, 0.4 and before; the second board uses this format."""
    config = _section(data, "config")
    arguments = _arguments(config.get("model_args"))
    versions, shots, hashes, counts = (
        _section(data, k) for k in ("versions", "n-shot", "task_hashes", "n-samples")
    )
    configs, directions = _section(data, "configs"), _section(data, "higher_is_better")
    tasks = tuple(
        _task(
            key,
            value,
            version=versions.get(key),
            shots=_shots(shots.get(key), _section(configs, key), config),
        ).model_copy(
            update={
                **_counts(counts.get(key), value),
                "prompts_hash": _text(hashes.get(key)),
                **task_fields(_section(configs, key), _section(directions, key)),
            }
        )
        for key, value in results.items()
        if isinstance(value, dict)
    )
    new = any("," in metric for value in results.values() if isinstance(value, dict) for metric in value)
    subtasks = _section(data, "group_subtasks")
    checkpoint = (
        _text(data.get("model_name")) or _text(arguments.get("pretrained")) or _text(arguments.get("model"))
    )
    facts = _harness_facts(data, config, arguments, checkpoint or "")
    if not new and "chat_template" not in data:  # before 0.4 the harness had no chat templates
        facts = facts.plus({Fact.TEMPLATE: on_off(False)})
    return ResultFile(
        source=source,
        format=FileFormat.HARNESS if new else FileFormat.HARNESS_OLD,
        checkpoint=checkpoint or "unknown",
        revision=_text(config.get("model_sha")) or _text(arguments.get("revision")),
        measured_at=_when(data.get("date"), source),
        facts=facts,
        tasks=tasks,
        groups=tuple(k for k, v in subtasks.items() if v),
        limit=_limit(config.get("limit")),
        members={k: names for k, v in subtasks.items() if (names := text_list(v))},
    )


def _harness_facts(
    data: Mapping[str, Any], config: Mapping[str, Any], arguments: Mapping[str, str], checkpoint: str
) -> Facts:
    engine = _text(config.get("model")) or _text(data.get("model_source"))
    facts: dict[Fact, str | None] = {
        Fact.HARNESS: "lm-eval",
        Fact.HARNESS_VERSION: _text(data.get("lm_eval_version")) or _text(data.get("git_hash")),
        Fact.ENGINE: _ENGINES.get(engine, engine) if engine else None,
        Fact.DTYPE: _dtype(config.get("model_dtype")) or _dtype(arguments.get("dtype")),
        Fact.MAX_LENGTH: _text(data.get("max_length"))
        or arguments.get("max_length")
        or arguments.get("max_model_len"),
    }
    if facts[Fact.ENGINE] == "transformers":
        facts[Fact.ENGINE_VERSION] = _text(data.get("transformers_version"))
    if "limit" in config:
        facts[Fact.LIMIT] = limit_text(_number(config["limit"]))
    if "chat_template" in data:
        template = data["chat_template"]
        facts[Fact.TEMPLATE] = on_off(template not in (None, False, ""))
        facts[Fact.TEMPLATE_TEXT] = (_text(data.get("chat_template_sha")) or "")[:16] or None
    if isinstance(data.get("fewshot_as_multiturn"), bool):  # there are no turns without a template
        has_turns = data["fewshot_as_multiturn"] and facts.get(Fact.TEMPLATE) != on_off(False)
        facts[Fact.MULTITURN] = on_off(has_turns)
    if "system_instruction" in data:
        facts[Fact.SYSTEM_PROMPT] = (_text(data.get("system_instruction_sha")) or "none")[:16]
    if "gen_kwargs" in config:
        facts[Fact.GENERATION] = (
            json.dumps(config["gen_kwargs"], sort_keys=True) if config["gen_kwargs"] else "the task's own"
        )
    seeds = [config.get(f"{k}_seed") for k in ("random", "numpy", "torch", "fewshot")]
    if all(isinstance(s, int) for s in seeds):
        facts[Fact.SEEDS] = ", ".join(map(str, seeds))
    if arguments:
        facts |= _argument_facts(arguments)
        facts[Fact.BOS] = _bos(arguments.get("add_bos_token"), data, checkpoint)
    quantized_name = _QUANTIZED_NAME.search(checkpoint)
    if quantized_name is not None and facts.get(Fact.QUANTIZATION, NOT_QUANTIZED) == NOT_QUANTIZED:
        facts[Fact.QUANTIZATION] = quantized_name[1].lower()
    return Facts().plus(facts)


def _argument_facts(arguments: Mapping[str, str]) -> dict[Fact, str | None]:
    """Facts from the model's arguments or from their defaults."""
    quantized = [
        k for k in ("load_in_4bit", "load_in_8bit", "autogptq", "gptqmodel") if _truth(arguments.get(k))
    ]
    quantized += [
        arguments[k] for k in ("quantization", "gguf_file") if arguments.get(k) not in (None, "None", "")
    ]
    return {
        Fact.QUANTIZATION: quantized[0].removeprefix("load_in_") if quantized else NOT_QUANTIZED,
        Fact.TENSOR_PARALLEL: arguments.get("tensor_parallel_size", "1"),
        Fact.KV_CACHE: arguments.get("kv_cache_dtype", "auto"),
    }


def _bos(add_bos_token: str | None, data: Mapping[str, Any], checkpoint: str) -> str:
    """Whether BOS was added. Without `add_bos_token` lm-eval uses the tokenizer's default since 0.4.9.2 (#3347).

    Earlier versions, and the second board, added it for Gemma only; the earliest of them did not record their version.
    """
    if add_bos_token is not None:
        return on_off(_truth(add_bos_token))
    version = _text(data.get("lm_eval_version"))
    numbers = re.match(r"\d{1,4}(?:\.\d{1,4}){0,4}", version or "0")
    if numbers is None or tuple(map(int, numbers[0].split("."))) >= _BOS_BY_TOKENIZER:
        return TOKENIZERS_DEFAULT
    return on_off("gemma" in checkpoint.lower())


def _board_v1(data: Mapping[str, Any], results: Mapping[str, Any], source: str) -> ResultFile:
    """A file of the first board: one harness commit, no chat template, keys like 'harness|arc:challenge|25'."""
    config = _section(data, "config_general") or _section(data, "config")
    versions = _section(data, "versions")
    arguments = _arguments(config.get("model_args"))
    dtype = _text(config.get("model_dtype"))
    facts = Facts(known=_V1_FACTS).plus(
        {
            Fact.DTYPE: _dtype(dtype),
            Fact.QUANTIZATION: NOT_QUANTIZED if _dtype(dtype) else dtype,
            Fact.HARNESS_VERSION: _text(config.get("lighteval_sha")),
            Fact.LIMIT: limit_text(_number(config.get("max_samples"))) if "max_samples" in config else None,
        }
    )
    return ResultFile(
        source=source,
        format=FileFormat.BOARD_V1,
        checkpoint=_text(config.get("model_name")) or arguments.get("pretrained") or "unknown",
        revision=_text(config.get("model_sha")),
        measured_at=_when(None, source),
        facts=facts,
        tasks=_board_tasks(results, versions),
    )


def _details_card(data: dict[str, Any], text: str, source: str) -> ResultFile:
    """The card of a board's details data set, which contains the latest results without the run's settings."""
    everything = data.get("all")
    nested = isinstance(everything, dict) and any(isinstance(v, dict) for v in everything.values())
    results: Mapping[str, Any] = everything if nested and isinstance(everything, dict) else data
    subject, stamp = _SUBJECT.search(text), re.search(r"latest results from\s+run ([^\]\s]+)", text)
    if any(_BOARD_KEY.match(k) for k in results):
        tasks, facts = _board_tasks(results, {}), Facts(known=_V1_FACTS)
    else:
        tasks = tuple(_task(k, v) for k, v in results.items() if isinstance(v, dict))
        facts = Facts(known={Fact.HARNESS: "lm-eval"})
    if not tasks:
        raise ClaimError(f"{source} has no results of tasks; give a result file of lm-eval (results_*.json).")
    return ResultFile(
        source=source,
        format=FileFormat.DETAILS_CARD,
        checkpoint=subject[1].rstrip(".") if subject else "unknown",
        measured_at=_when(None, stamp[1] if stamp else source),
        facts=facts,
        tasks=tasks,
    )


_V1_FACTS = {Fact.HARNESS: "lm-eval", Fact.TEMPLATE: on_off(False), Fact.MULTITURN: on_off(False)}


def _board_tasks(results: Mapping[str, Any], versions: Mapping[str, Any]) -> tuple[TaskResult, ...]:
    tasks = []
    for key, value in results.items():
        match = _BOARD_KEY.match(key)
        if match is not None and isinstance(value, dict):
            tasks.append(_task(key, value, version=versions.get(key), shots=int(match["shots"])))
    return tuple(tasks)


def _task(key: str, values: Mapping[str, Any], version: Any = None, shots: int | None = None) -> TaskResult:
    metrics: dict[str, float] = {}
    stderrs: dict[str, float] = {}
    not_numbers = []
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        metric, _, kind = name.partition(",")
        kind = "" if kind == "none" else kind
        is_stderr = metric.endswith("_stderr")
        label = metric.removesuffix("_stderr") + (f",{kind}" if kind else "")
        if isinstance(value, float) and math.isnan(value):
            not_numbers += [] if is_stderr else [label]
        elif abs(value) < _MOST:
            (stderrs if is_stderr else metrics)[label] = float(value)
    return TaskResult(
        key=key,
        metrics=metrics,
        stderrs=stderrs,
        version=None if version is None or version == "N/A" else str(version),
        shots=shots,
        nan_metrics=tuple(not_numbers),
    )


def _counts(counts: Any, values: Mapping[str, Any]) -> dict[str, int | None]:
    """Number of evaluated documents, and of all documents of the task."""
    if isinstance(counts, dict):
        pair = {"n": counts.get("effective"), "n_full": counts.get("original")}
        return {k: v if _is_count(v) else None for k, v in pair.items()}
    length = values.get("sample_len")
    return {"n": length if _is_count(length) and length > 0 else None}


def _shots(value: Any, task: Mapping[str, Any], run: Mapping[str, Any]) -> int | None:
    """The first shot count in the task's result, its settings, or the run's settings (the only ones in lm-eval 0.3)."""
    counts = (value, task.get("num_fewshot"), run.get("num_fewshot"))
    shots = next((count for count in counts if count is not None), None)
    return shots if _is_count(shots) else None


def _is_count(value: Any) -> TypeGuard[int]:
    """Whether a value is a plausible count: an integer below ten million."""
    return type(value) is int and 0 <= value < 10_000_000


def _arguments(value: Any) -> dict[str, str]:
    """The model's arguments, which lm-eval writes as 'a=b,c=d' or as an object."""
    if isinstance(value, dict):
        return {str(k): str(v) for k, v in value.items()}
    if not isinstance(value, str):
        return {}
    return {k.strip(): v.strip() for k, sep, v in (part.partition("=") for part in value.split(",")) if sep}


def _dtype(value: Any) -> str | None:
    text = _text(value)
    name = text.lower().removeprefix("torch.") if text else ""
    return name if name in ("bfloat16", "float16", "float32") else None


def _when(date: Any, source: str) -> datetime.datetime | None:
    """The time in the file's name (when it was written), else the date in the file (when the run began)."""
    stamp = _STAMP.search(Path(source).name)
    try:
        if stamp is not None:
            year, month, day, hour, minute, second = map(int, stamp.groups())
            return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        return None
    number = _number(date)
    return datetime.datetime.fromtimestamp(number, datetime.UTC) if number and 1e9 < number < 1e11 else None


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    if isinstance(value, str) and value and value != "None":
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return float(value) if is_number else None


def _limit(value: Any) -> int | None:
    """Maximum number of documents per task; None for no limit or a share (below 1)."""
    number = _number(value)
    return int(number) if number is not None and number >= 1 else None


def _truth(value: str | None) -> bool:
    return value is not None and value.lower() in ("true", "1", "yes")
