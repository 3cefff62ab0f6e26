"""Task files of a user, one of each kind that lm-eval knows, with data of their own.

They say `do_sample: false`: lm-eval 0.4.13's own vLLM model draws at temperature 1 where a task leaves it out, its hf model does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SUMS = [
    {
        "q": f"What is {a} plus {b}?",
        "options": [str(a + b), str(a + b + 1), str(2 * a + b + 3)][: 2 + (a + b) % 2],
        "right": 0,
        "text": f"{a} plus {b} is {a + b}.",
    }
    for a in range(3)
    for b in range(4)
]
_COLOURS = [
    {"first": "The red fox", "second": "The quick fox", "end": " jumps over the lazy dog.", "right": n % 2}
    for n in range(6)
]
_PAGES = [
    {"page": f"Page {n}. " + "The quick brown fox jumps over the lazy dog. " * (2 + 6 * n)} for n in range(5)
]

FILES: dict[str, str] = {
    "choice.yaml": """
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl, train: data/shots.jsonl}}
output_type: multiple_choice
test_split: test
fewshot_split: train
num_fewshot: 2
doc_to_text: "Q: {{q}}\\nA:"
doc_to_choice: "{{options}}"
doc_to_target: right
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
""",
    "letters.yaml": """
task: own_letters
include: choice.yaml
num_fewshot: 0
doc_to_choice: ["A", "B"]
doc_to_text: "{{q}}\\nA. {{options[0]}}\\nB. {{options[1]}}\\nAnswer:"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "endings.yaml": """
task: own_endings
dataset_path: json
dataset_kwargs: {data_files: {test: data/colours.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: right
doc_to_target: end
doc_to_choice: "{{[first, second]}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "last_word.yaml": """
task: own_last_word
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{text.rsplit(' ', 1)[0]}}"
doc_to_target: "{{' ' + text.rsplit(' ', 1)[1]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "pages.yaml": """
task: own_pages
dataset_path: json
dataset_kwargs: {data_files: {test: data/pages.jsonl}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{page}}"
metric_list:
  - {metric: word_perplexity}
  - {metric: byte_perplexity}
  - {metric: bits_per_byte}
""",
    "written.yaml": """
task: own_written
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{q}}\\n"
doc_to_target: "{{options[0]}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 12, do_sample: false}
filter_list:
  - name: strict
    filter:
      - {function: regex, regex_pattern: "is ([0-9]+)"}
      - {function: take_first}
  - name: flexible
    filter:
      - {function: regex, group_select: -1, regex_pattern: "([0-9])"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
""",
    "free.yaml": """
task: own_free
dataset_path: csv
dataset_kwargs: {data_files: {test: data/free.csv}}
output_type: generate_until
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
generation_kwargs: {until: ["."], max_gen_toks: 9, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_punctuation: true}
""",
    "scored.yaml": """
task: own_scored
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{options[0]}}"
process_docs: !function own_code.even
process_results: !function own_code.digits
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list:
  - {metric: digits, aggregation: mean, higher_is_better: true}
""",
    "program.yaml": """
task: own_program
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
unsafe_code: true
output_type: generate_until
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{options[0]}}"
process_results: !function own_code.run
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 8}
metric_list:
  - {metric: passed, aggregation: mean, higher_is_better: true}
""",
    "own_code.py": '''"""Python that a task brings."""


def even(docs):
    return docs.filter(lambda doc: int(doc["options"][0]) % 2 == 0)


def digits(doc, results):
    return {"digits": sum(c.isdigit() for c in results[0]) / max(1, len(results[0]))}


def run(doc, results):
    names = {}
    try:
        exec(results[0], names)
    except Exception:
        return {"passed": 0.0}
    return {"passed": float(bool(names.get("passed")))}
''',
    "few.yaml": """
task: own_few
include: written.yaml
num_fewshot: 3
dataset_kwargs: {data_files: {test: data/sums.jsonl, train: data/shots.jsonl}}
fewshot_split: train
fewshot_config: {sampler: first_n}
""",
    "group.yaml": """
group: own_group
task:
  - own_part_a
  - {task: own_part_b, num_fewshot: 1}
aggregate_metric_list:
  - {metric: acc, weight_by_size: false}
""",
    "part_a.yaml": """
task: own_part_a
include: choice.yaml
dataset_kwargs: {data_files: {test: data/sums.jsonl, train: data/shots.jsonl}}
""",
    "part_b.yaml": """
task: own_part_b
include: choice.yaml
num_fewshot: 0
process_docs: null
""",
    "sampled.yaml": """
task: own_sampled
dataset_path: json
dataset_kwargs: {data_files: {test: data/sums.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{options[0]}}"
repeats: 6
generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: true, temperature: 1.0}
filter_list:
  - name: digit
    filter:
      - {function: regex, regex_pattern: "([0-9])"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
}
GREEDY = (
    "own_choice", "own_letters", "own_endings", "own_last_word", "own_pages", "own_written", "own_free", "own_scored", "own_few",
    "own_group",
)  # fmt: skip


def write_own_tasks(folder: Path) -> Path:
    """The task files and their data below a folder."""
    (folder / "data").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text.lstrip("\n"), encoding="utf-8")
    _write(folder / "data/sums.jsonl", _SUMS)
    _write(folder / "data/shots.jsonl", [row | {"q": f"Say: {row['q']}"} for row in _SUMS[::3]])
    _write(folder / "data/colours.jsonl", _COLOURS)
    _write(folder / "data/pages.jsonl", _PAGES)
    lines = ["q,a", *(f'"The capital of France, number {n}, is",Paris' for n in range(4))]
    (folder / "data/free.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
