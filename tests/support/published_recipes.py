"""Recipes in the ways in which people publish them, and a seeded way to damage a text."""

from __future__ import annotations

import random
from collections.abc import Callable

SLERP_BY_LAYERS = """
slices:
  - sources:
      - model: OpenPipe/mistral-ft-optimized-1218
        layer_range: [0, 32]
      - model: mlabonne/NeuralHermes-2.5-Mistral-7B
        layer_range: [0, 32]
merge_method: slerp
base_model: OpenPipe/mistral-ft-optimized-1218
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: bfloat16
"""

DARE_TIES = """
models:
  - model: mistralai/Mistral-7B-v0.1
    # No parameters necessary for base model
  - model: samir-fama/SamirGPT-v1
    parameters:
      density: 0.53
      weight: 0.4
  - model: abacusai/Slerp-CM-mist-dpo
    parameters: {density: 0.53, weight: 0.3}
merge_method: dare_ties
base_model: mistralai/Mistral-7B-v0.1
parameters:
  int8_mask: true
dtype: bfloat16
random_seed: 0
"""

TIES_GRADIENTS = """
models:
  - model: psmathur/orca_mini_v3_13b
    parameters:
      density: [1, 0.7, 0.1] # density gradient
      weight: 1.0
  - model: garage-bAInd/Platypus2-13B
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1] # weight gradient
  - model: WizardLM/WizardMath-13B-V1.0
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: TheBloke/Llama-2-13B-fp16
parameters:
  normalize: true
  int8_mask: true
dtype: float16
"""

FRANKENMERGE = """
slices:
- sources:
  - model: "meta-llama/Meta-Llama-3-70B-Instruct"
    layer_range: [0, 20]
- sources:
  - model: "meta-llama/Meta-Llama-3-70B-Instruct"
    layer_range: [10, 30]
- sources:
  - {model: meta-llama/Meta-Llama-3-70B-Instruct, layer_range: [20, 40]}
merge_method: passthrough
dtype: float16
"""

LINEAR = """
models:
  - model: org/one
    parameters: {weight: 1.0}
  - model: org/two@0123abc
    parameters: {weight: "1e-1"}
merge_method: linear
parameters: {normalize: off}
dtype: float32
out_dtype: bfloat16
tokenizer_source: union
"""

MODEL_STOCK = """
base_model: NousResearch/Meta-Llama-3-8B
models:
  - model: org/a
  - model: org/b
  - model: org/c
merge_method: model_stock
parameters: {filter_wise: false}
dtype: bfloat16
tokenizer:
  source: base
chat_template: llama3
"""

LORAS = """
models:
  - model: org/base+org/adapter
    parameters: {weight: 1}
  - model: {model: {path: org/base, revision: v1}, lora: {path: org/other}}
    parameters: {weight: 0.5}
merge_method: task_arithmetic
base_model: org/base
parameters: {lambda: 1.1}
"""

MODULES = """
modules:
  text_decoder:
    slices:
      - sources:
          - model: Qwen/Qwen2-VL-7B
            layer_range: [0, 4]
          - model: Qwen/Qwen2-VL-7B-Instruct
            layer_range: [0, 4]
    parameters: {t: 0.25}
  vision_tower:
    models:
      - model: Qwen/Qwen2-VL-7B
      - model: Qwen/Qwen2-VL-7B-Instruct
merge_method: slerp
base_model: Qwen/Qwen2-VL-7B
parameters: {t: [0.1, 0.9]}
"""

TOKENS = """
merge_method: nuslerp
models:
  - model: org/a
    parameters: {weight: [1, 0.5]}
  - model: org/b
    parameters: {weight: 0.5}
tokenizer:
  source: union
  tokens:
    <|im_start|>: {source: org/a, force: true}
    <|im_end|>:
      source: {kind: model_token, model: org/b, token_id: 2}
    <|pad|>: {source: {kind: zero}}
  pad_to_multiple_of: 64
parameters: {nuslerp_row_wise: true}
"""

SLICE_LEVELS = """
merge_method: slerp
base_model: org/a
slices:
  - sources:
      - {model: org/a, layer_range: [0, 2]}
      - {model: org/b, layer_range: [2, 4]}
    parameters: {t: 0.2}
  - sources:
      - {model: org/b, layer_range: [4, 8]}
      - {model: org/c, layer_range: [4, 8]}
    base_model: org/c
    parameters:
      t: [{filter: q_proj, value: 0.9}, {filter: "*", value: 0.1}, {filter: k_proj, value: 0.5}]
"""

ANCHORS = """
models:
  - model: org/a
    parameters: &same {weight: 0.5, density: 0.6, epsilon: 0.2}
  - model: org/b
    parameters:
      <<: *same
      weight: 0.25
merge_method: della
base_model: org/base
"""

STAGES = """
name: first
merge_method: passthrough
slices:
  - sources: [{model: org/a, layer_range: [0, 6]}]
  - sources: [{model: org/b, layer_range: [2, 8]}]
---
name: second
merge_method: linear
models:
  - {model: first, parameters: {weight: 0.5}}
  - {model: first+org/adapter, parameters: {weight: 0.5}}
---
merge_method: nearswap
models: [{model: first}, {model: second}]
base_model: second
parameters: {t: 0.001}
"""

SMALL = {
    "breadcrumbs": """
models:
  - {model: org/a, parameters: {weight: 0.5, density: 0.9, gamma: 0.02}}
  - {model: org/b, parameters: {weight: 0.5}}
merge_method: breadcrumbs_ties
base_model: org/base
parameters: {density: 0.8, rescale: yes}
""",
    "sce": """
models: [{model: org/a}, {model: org/b}]
merge_method: sce
base_model: org/base
parameters: {select_topk: 0.1}
""",
    "karcher": """
models: [{model: org/a}, {model: org/b}, {model: org/c}]
merge_method: karcher
parameters: {max_iter: 100, tol: 1e-9}
""",
    "multislerp": """
models:
  - {model: org/a, parameters: {weight: [1.0, 0.5, 0.2]}}
  - {model: org/b, parameters: {weight: 0.4}}
merge_method: multislerp
parameters: {eps: 1.0e-8}
""",
    "arcee_fusion": """
models: [{model: org/a}, {model: org/b}]
merge_method: arcee_fusion
base_model: org/a
dtype: torch.bfloat16
""",
    "ram": """
models: [{model: org/a}, {model: org/b}]
merge_method: ramplus_tl
base_model: org/base
parameters: {r: 0.2, alpha: 0.3}
""",
    "scaled": """
merge_method: passthrough
slices:
  - sources:
      - model: org/a
        layer_range: [0, 3]
        parameters: {scale: [{filter: o_proj, value: 0.0}, {filter: down_proj, value: [1, 0.5]}, {value: 1.0}]}
  - sources: [{model: org/a, layer_range: [3, 8]}]
parameters: {scale: 0.9}
""",
    "path": """
base: demo/SmolLM2-135M-Instruct
layer_path: (10, 17)
""",
}

PUBLISHED: dict[str, str] = {
    "slerp": SLERP_BY_LAYERS,
    "dare_ties": DARE_TIES,
    "ties": TIES_GRADIENTS,
    "frankenmerge": FRANKENMERGE,
    "linear": LINEAR,
    "model_stock": MODEL_STOCK,
    "loras": LORAS,
    "modules": MODULES,
    "tokens": TOKENS,
    "slice_levels": SLICE_LEVELS,
    "anchors": ANCHORS,
    "stages": STAGES,
    **SMALL,
}

_SCRAPS = (
    *(
        "null",
        "[]",
        "{}",
        "~",
        "-1",
        "1e400",
        ".nan",
        "yes",
        "'",
        '"',
        "&a [*a]",
        "*x",
        "!!python/object:os.system x",
    ),
    *(
        "- ",
        ": ",
        "  ",
        "\t",
        "#",
        "---",
        "...",
        "[0, 99999999999]",
        "[32, 0]",
        "../../etc",
        "/",
        "@",
        "+",
        "\x00",
        "é",
    ),
    *(
        "😀",
        "\u2028",
        "a" * 300,
        "0x10",
        "2024-01-01",
        "<<: *x",
        "? x",
        "| ",
        "> ",
        "%YAML 9.9",
        "!!binary aaa",
        "[" * 200,
    ),
    *(
        "merge_method: slerp",
        "models:",
        "slices:",
        "parameters:",
        "weight: 0",
        "layer_range: [0, 4]",
        "base_model: org/a",
    ),
)


def damaged(text: str, rng: random.Random, others: tuple[str, ...] = ()) -> str:
    """The text after one to three small accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = text.split("\n")
        rng.choice(_ACCIDENTS)(lines, rng.randrange(len(lines)), rng)
        if others and rng.random() < 0.1:
            donor = rng.choice(others).split("\n")
            start = rng.randrange(len(donor))
            lines[start:start] = donor[start : start + rng.randint(1, 8)]
        text = "\n".join(lines)
    return text


def _swap(lines: list[str], at: int, rng: random.Random) -> None:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _new_value(lines: list[str], at: int, rng: random.Random) -> None:
    head, colon, _ = lines[at].partition(":")
    lines[at] = f"{head}{colon} {rng.choice(_SCRAPS)}"


def _cut(lines: list[str], at: int, _rng: random.Random) -> None:
    del lines[at + 1 :]


def _drop(lines: list[str], at: int, _rng: random.Random) -> None:
    lines[at : at + 1] = []


def _scribble(lines: list[str], at: int, rng: random.Random) -> None:
    line = list(lines[at])
    for _ in range(rng.randint(1, 3)):
        line.insert(
            rng.randint(0, len(line)), chr(rng.choice([*range(32, 127), 9, 0, 0xA0, 0xFEFF, 0x1F600]))
        )
        if len(line) > 1 and rng.random() < 0.5:
            del line[rng.randrange(len(line))]
    lines[at] = "".join(line)


_ACCIDENTS: tuple[Callable[[list[str], int, random.Random], None], ...] = (
    *(_swap, _new_value, _cut, _drop, _scribble, _scribble),
    lambda lines, at, rng: lines.insert(at, rng.choice(lines)),
    lambda lines, at, rng: lines.insert(at, rng.choice(_SCRAPS)),
    lambda lines, at, rng: lines.__setitem__(at, " " * rng.randint(0, 5) + lines[at].lstrip()),
)
