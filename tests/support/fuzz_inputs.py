"""Inputs of the fuzz campaign: valid seeds of every reader, mutated, and texts that a grammar of hostile parts makes."""

from __future__ import annotations

import json
import random
import signal
import time
from typing import Any

import yaml

CARD = """---
license: apache-2.0
base_model:
- meta-llama/Meta-Llama-3-8B
model-index:
- name: Some-Merge-8B
  results:
  - task: {type: text-generation, name: Text Generation}
    dataset: {name: IFEval (0-Shot), type: HuggingFaceH4/ifeval, args: {num_few_shot: 0}}
    metrics: [{type: inst_level_strict_acc and prompt_level_strict_acc, value: 44.12, name: strict accuracy}]
    source: {url: 'https://huggingface.co/spaces/open-llm-leaderboard/open_llm_leaderboard?query=org/Some-Merge-8B', name: Board}
---
# Some-Merge-8B
Built on [Llama](https://huggingface.co/meta-llama/Meta-Llama-3-8B), 8.03B parameters; layers (10, 17) are repeated.
Evaluated with `lm_eval --model hf --model_args pretrained=org/x,dtype=bfloat16 --tasks leaderboard` without chat template.

|Metric|Value|Δ|
|---|---:|:-:|
|Avg.|20.71|+1.2|
|IFEval (0-Shot)|44.12|**-0.3**|
|BBH (3-Shot)|24.08|2,1 %|

<table><tr><th>Benchmark</th><th>org/x</th></tr><tr><td>MMLU-PRO</td><td>30.2 ± 0.4</td></tr></table>

BBH (3-Shot) 24.08
MuSR (0-shot) 6.80
GPQA (0-shot) 5.1

```yaml
merge_method: slerp
slices:
- sources:
  - {model: org/a, layer_range: [0, 32]}
  - {model: org/b, layer_range: [0, 32]}
base_model: org/a
parameters: {t: [0, 0.5, 1]}
dtype: bfloat16
```
"""
RECIPE = CARD.partition("```yaml\n")[2].partition("```")[0]
PATH = 'base: org/a\nlayer_path: "(45, 52)"\n'
SWEEP = """name: s
base: demo/SmolLM2-135M-Instruct
recipes:
- grid: "i=0:30:5 j=1:31 max_added=8"
- {name: twice, layer_path: "blocks:3,5;7,9"}
- {name: m, mergekit: {merge_method: linear, models: [{model: org/a, parameters: {weight: 1.0}}], dtype: float16}}
suites: [smoke, {suite: leaderboard-v2, benchmarks: [musr], limit: 10}]
engines: [vllm, {kind: transformers, dtype: float32}]
seeds: {fewshot: 1234}
"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64,
    "vocab_size": 384, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32,
    "layer_types": ["full_attention"] * 4, "max_position_embeddings": 2048, "torch_dtype": "bfloat16", "rope_scaling": None,
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}, "tie_word_embeddings": False,
}  # fmt: skip
RESULTS = {
    "results": {
        "leaderboard_musr_murder_mysteries": {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.03, "alias": "x", "sample_len": 250},
        "leaderboard_musr_object_placements": {"acc_norm,none": 0.25, "acc_norm_stderr,none": 0.03},
        "leaderboard_ifeval": {"inst_level_strict_acc,none": 0.5, "prompt_level_strict_acc,none": 0.4},
    },
    "versions": {"leaderboard_musr_murder_mysteries": 1.0}, "n-shot": {"leaderboard_ifeval": 0},
    "n-samples": {"leaderboard_musr_murder_mysteries": {"original": 250, "effective": 250}},
    "config": {"model": "hf", "model_args": "pretrained=org/x,dtype=bfloat16", "limit": None, "model_sha": "a" * 40, "random_seed": 0,
               "numpy_seed": 1, "torch_seed": 2, "fewshot_seed": 3, "gen_kwargs": {"temperature": 0}},
    "date": 1730000000.5, "lm_eval_version": "0.4.5", "chat_template": "x", "fewshot_as_multiturn": True, "max_length": 4096,
    "group_subtasks": {"leaderboard_musr": ["leaderboard_musr_murder_mysteries"]},
}  # fmt: skip
BOARD_V1 = {
    "results": {"harness|arc:challenge|25": {"acc": 0.5, "acc_norm": 0.6}, "harness|gsm8k|5": {"acc": 0.1}, "all": {"acc": 0.3}},
    "config_general": {"model_name": "org/x", "model_dtype": "torch.float16", "max_samples": None}, "versions": {"all": 0},
}  # fmt: skip
DETAILS = f"# Evaluation run of org/x\nlatest results from\nrun 2024-01-01T00:00:00\n```python\n{json.dumps(BOARD_V1['results'], indent=1)}\n```\n"
SAMPLE = {
    "doc_id": 0, "doc": {"q": "?"}, "target": "1", "arguments": [["ctx", " a"], ["ctx", " b"]],
    "resps": [[["-1.5", "True"]], [["-2.5", "False"]]], "filtered_resps": [["-1.5", "True"], ["-2.5", "False"]],
    "filter": "none", "metrics": ["acc_norm"], "acc_norm": 1.0, "doc_hash": "d" * 64, "prompt_hash": "p" * 64,
}  # fmt: skip
HEADER = {
    "__metadata__": {"format": "pt"}, "model.embed_tokens.weight": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
    "model.layers.0.mlp.up_proj.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [64, 80]},
}  # fmt: skip
QUERY = {
    "run": "r-1",
    "page": "0",
    "q": "base",
    "base": "a",
    "candidate": "b",
    "suite": "smoke",
    "benchmark": "musr",
    "job": "x",
}

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**9, 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400, 0.1, -0.0, 1e308, float("inf"), float("-inf"), float("nan"),
    "", " ", "\0", "\ud800", "\u202e", "\x1b[31m", "x" * 5_000, "9" * 5_000, "1e400", "NaN", "../../etc/passwd", "/dev/zero", "[bold]",
    "=1+1", "(0,10**9)", "(0, 999999999)", "layers:0-999999999", "repeat:1*99999999", [], {}, [[]], [{}], {"": ""}, [None] * 300, {"a": [{}]},
)  # fmt: skip
_TOKENS = (
    '|', '---', '```', '~~~', '<table>', '<tr>', '<td>', '</table>', '<!--', '&#x0;', '&amp;', '[', '](', ')', '(', '**', '`', '\n', '\r\n',
    '\t', ' ', '1', '1.5', '99,9', '-', '+', '%', '±', '\u2028', '\x0b', '\x85', '\ufeff', '\x00', '\u202e', 'é', '😀', 'BBH', 'Average',
    '(3-shot)', 'lm_eval --model', '--tasks', 'billion parameters', 'huggingface.co/a/b', 'org/name', 'model:', '- model: x/y', 'slices:',
    'merge_method:', 'layer_range: [0, 1]', '&a [*a]', '*a', '<<: *a', '!!python/object:os.system', '? ', ': ', '{', '}', '[[[[', "'", '"',
    '1e400', '.inf', '.nan', '0x', '12:30:45', '9999999999999999999999999999999999999999', 'name:', 'base:', 'layer_path:', 'grid: all',
    'models--a--b/snapshots/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '<think>', 'layers (1, 2)', '8B params',
    'Evaluated without chat template',
)  # fmt: skip


def text_input(rng: random.Random, seeds: tuple[str, ...]) -> bytes:
    """A mutated seed, or a text of hostile parts."""
    kind = rng.random()
    if kind < 0.15:
        text = "".join(rng.choice(_TOKENS) for _ in range(rng.randint(1, 300)))
    elif kind < 0.25:
        text = rng.choice(seeds) + _pumped(rng) + rng.choice(seeds)
    else:
        text = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            text = _mutated(rng, text)
    return _damaged(rng, text.encode("utf-8", "surrogatepass"))


LIMIT_S = 5.0
"""Processor time that reading one input may take."""


class Clock:
    """Processor time of one input, from when it has been made: making one of several MB takes seconds itself."""

    started = 0.0

    def restart(self) -> None:
        """Give the reader its whole time from now on."""
        self.started = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)


CLOCK = Clock()


def yaml_input(rng: random.Random, seeds: tuple[str, ...]) -> bytes:
    """A seed of one YAML document with values replaced, repeated or renamed; or a damaged text."""
    if rng.random() < 0.4:
        return text_input(rng, seeds)
    data = yaml.safe_load(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = _changed(rng, data)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=rng.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def json_input(rng: random.Random, seeds: tuple[Any, ...]) -> bytes:
    """A seed with values replaced, repeated or renamed, written as JSON; some are damaged as text too."""
    data = json.loads(json.dumps(rng.choice(seeds)))
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = _changed(rng, data)
    text = json.dumps(data, ensure_ascii=rng.random() < 0.7, indent=rng.choice((None, 1)))
    if rng.random() < 0.2:
        text = _mutated(rng, text)
    if rng.random() < 0.02:
        text = text.replace(
            rng.choice(("1", "0", '""')), rng.choice(("9" * 10_000, "1e999", "[" * 50_000)), 1
        )
    return _damaged(rng, text.encode("utf-8", "surrogatepass"))


def header_input(rng: random.Random) -> bytes:
    """A safetensors file whose header, length or data is not what it should be."""
    header = json_input(rng, (HEADER,))
    length = (
        len(header) if rng.random() < 0.8 else rng.choice((0, 7, len(header) + 1, 2**31, 2**63, 2**64 - 1))
    )
    return length.to_bytes(8, "little") + header + b"\0" * rng.choice((80, 80, 0, 79, 81))


def binary_input(rng: random.Random, seed: bytes) -> bytes:
    """A file with bytes changed, cut out or cut off."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 5, 50, 500))):
        at = rng.randrange(len(data))
        data[at] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    if rng.random() < 0.2 and data:
        at = rng.randrange(len(data))
        del data[at : at + rng.randint(1, 5_000)]
    return bytes(data)


def query_input(rng: random.Random) -> dict[str, str]:
    """Values of an address."""
    query = dict(QUERY) if rng.random() < 0.5 else {}
    for name in rng.sample([*QUERY, "view", "sort", "kind", "i", "j", "\0"], rng.randint(1, 5)):
        value = rng.choice(_VALUES)
        query[name] = str(value)[:3_000].replace("\ud800", "?")
    return query


def _pumped(rng: random.Random) -> str:
    pump = "".join(rng.choice(_TOKENS) for _ in range(rng.randint(1, 4)))
    size = rng.choice((100, 1_000, 10_000, 10_000, 100_000)) if rng.random() < 0.97 else 2_000_000
    return pump * (size // len(pump) + 1)


def _mutated(rng: random.Random, text: str) -> str:
    at, end = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    kind = rng.randrange(6)
    if kind == 0:
        return text[:at] + rng.choice(_TOKENS) + text[at:]
    if kind == 1:
        return text[:at] + text[min(end, at + 40) :]
    if kind == 2:
        return text[:at] + text[at : at + rng.randint(1, 60)] * rng.choice((2, 3, 10, 300)) + text[at:]
    if kind == 3:
        return text[:at] + str(rng.choice(_VALUES)) + text[at + rng.randint(0, 5) :]
    if kind == 4:
        return (
            text[:at] + _pumped(rng) + text[at:]
            if rng.random() < 0.2
            else text[:at] + chr(rng.randrange(0x300)) + text[at:]
        )
    return text[:at]


def _changed(rng: random.Random, data: Any) -> Any:
    """The data with one value or key changed somewhere."""
    if isinstance(data, dict) and data and rng.random() < 0.9:
        key = rng.choice(list(data))
        if rng.random() < 0.15:
            return {**{k: v for k, v in data.items() if k != key}, str(rng.choice(_VALUES)): data[key]}
        return {**data, key: _changed(rng, data[key])}
    if isinstance(data, list) and data and rng.random() < 0.8:
        at = rng.randrange(len(data))
        return (
            data * rng.choice((2, 50))
            if rng.random() < 0.1
            else [*data[:at], _changed(rng, data[at]), *data[at + 1 :]]
        )
    return rng.choice(_VALUES)


def _damaged(rng: random.Random, data: bytes) -> bytes:
    """A few inputs are no UTF-8, empty, or of another encoding."""
    kind = rng.random()
    if kind < 0.01:
        return data.decode("utf-8", "replace").encode("utf-16")
    if kind < 0.02:
        return rng.randbytes(rng.randint(0, 300))
    if kind < 0.05 and data:
        at = rng.randrange(len(data))
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data
