"""Find how a card says that its scores were measured: harness command lines, phrases, arguments."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from evals.claims.facts import NOT_QUANTIZED, Fact, Facts, limit_text, on_off
from evals.claims.labels import plain

_MAX_SAID = 1000  # maximum number of sentences about measuring that are used
_MEASURING = re.compile(
    r"\b(?:evaluat|measured|benchmark|scor(?:es?|ed|ing)\b|leaderboard|lm[-_ ]eval|harness)", re.IGNORECASE
)
_DTYPES = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float32",
    "fp32": "float32",
}
_TEMPLATE_OFF = re.compile(
    r"\b(?:without|no)\s+(?:an?\s+|the\s+|any\s+|its\s+)?chat[ _-]template\b", re.IGNORECASE
)
_TEMPLATE_ON = re.compile(
    r"\b(?:with|using)\s++(?:[^;\n]{1,40}?\sand\s+)?(?:an?\s+|the\s+|its\s+)?chat[ _-]template\b",
    re.IGNORECASE,
)
_TEMPLATE_SET = re.compile(
    r"chat[ _-]template\W{0,4}\s*(?P<value>on|off|yes|no|true|false|applied|not applied)\b", re.IGNORECASE
)
_OFF_WORDS = ("off", "no", "false", "not applied")
_DTYPE_WORD = re.compile(r"\b(?P<value>bfloat16|bf16|float16|fp16|float32|fp32)\b", re.IGNORECASE)
_BITS = re.compile(r"\b(?P<bits>[2-8])[- ]?bit\b", re.IGNORECASE)
_GGUF = re.compile(r"\b(?P<value>I?Q[2-8]_[0-9A-Z_]+)\b")
_PROGRAM = re.compile(r"lm[-_]eval(?!uation)|lm_eval\b|main\.py")
_OPTION = re.compile(r"--(?:model|tasks)\b")
_MAX_COMMAND = 4000


_HARNESS_HEAD = re.compile(
    r"\bpretrained=[^\s,()]{1,300},(?:[^\s,()]{1,100},){0,20}dtype=(?:torch\.)?(?P<value>\w{1,20})"
)
_SENTENCE = re.compile(r"(?<=[.;!?])\s+")
_TEMPLATE_COLUMNS = ("template", "chattemplate", "applychattemplate", "withchattemplate", "chat")
_DTYPE_COLUMNS = (
    "precision",
    "dtype",
    "torchdtype",
    "datatype",
    "weights",
    "quantization",
    "quantisation",
    "quant",
)
_ON_CELL = re.compile(r"(?:on|yes|true|with|applied|\u2713|\u2714|\u2705)\ufe0f?", re.IGNORECASE)
_OFF_CELL = re.compile(
    r"(?:off|no|none|false|without|not applied|\u2717|\u2718|\u274c|\u2716)\ufe0f?", re.IGNORECASE
)
_TEMPLATE_WORD = re.compile(r"\bchat[ _-]template\b", re.IGNORECASE)


def stated_facts(text: str, of_others: Callable[[str], bool] = lambda sentence: False) -> Facts:
    """Facts that hold for all scores of the card's own model; contradictory facts are left out.

    `of_others` tells whether a sentence is only about another model; such sentences are ignored.
    """
    values_by_fact: dict[Fact, set[str]] = {}
    n_said = 0
    joined = re.sub(r"\\\r?\n\s*", " ", text)
    for command in filter(None, map(_command_in, joined.split("\n"))):
        if not of_others(command):
            _add(values_by_fact, _of_command(command))
    for line in joined.splitlines():
        if len(line) < 4000 and _MEASURING.search(line) and _command_in(line) is None:
            for sentence in _SENTENCE.split(line):
                facts = _of_words(sentence)
                n_said += bool(facts)
                if facts and n_said <= _MAX_SAID and not of_others(sentence):
                    _add(values_by_fact, facts)
        head = _HARNESS_HEAD.search(line[:4000])
        if head is not None and head["value"].lower() in _DTYPES and not of_others(head[0]):
            _add(values_by_fact, {Fact.DTYPE: _DTYPES[head["value"].lower()]})
    return Facts(
        known={fact: next(iter(values)) for fact, values in values_by_fact.items() if len(values) == 1}
    )


def _command_in(line: str) -> str | None:
    """The harness command line in a line of text: the program followed by `--model` or `--tasks`."""
    program = _PROGRAM.search(line)
    if program is None or _OPTION.search(line, program.end()) is None:
        return None
    return line[program.start() :][:_MAX_COMMAND]


@functools.lru_cache(maxsize=1024)
def facts_of_label(label: str) -> Facts:
    """Facts in the name of a row or column, as in "Model (bf16, no chat template)"."""
    facts = _of_words(label)
    if Fact.TEMPLATE not in facts and _TEMPLATE_WORD.search(label) and not _TEMPLATE_OFF.search(label):
        facts[Fact.TEMPLATE] = on_off(True)
    return Facts(known=facts)


@functools.lru_cache(maxsize=1024)
def facts_of_cell(header: str, cell: str) -> Facts:
    """Facts that a cell gives for its row (or column), given the name of its column (or row)."""
    key = plain(header)
    if key in _TEMPLATE_COLUMNS and (_ON_CELL.fullmatch(cell) or _OFF_CELL.fullmatch(cell)):
        return Facts(known={Fact.TEMPLATE: on_off(_ON_CELL.fullmatch(cell) is not None)})
    dtype = _DTYPES.get(cell.lower().removeprefix("torch.")) if key in _DTYPE_COLUMNS else None
    if dtype is not None:
        return Facts(known={Fact.DTYPE: dtype})
    return Facts(known=_of_words(cell[:1000]))


def facts_of_args(*arguments: Any) -> Facts:
    """Facts in the arguments of a `model-index` entry, besides the number of shots."""
    facts: dict[Fact, str] = {}
    for args in arguments:
        if not isinstance(args, dict):
            continue
        values = {str(k).lower(): v for k, v in args.items() if isinstance(v, str | int | float | bool)}
        for key in ("chat_template", "apply_chat_template"):
            if key in values:
                facts[Fact.TEMPLATE] = on_off(
                    str(values[key]).lower() not in ("off", "no", "false", "none", "0")
                )
        for key in ("dtype", "torch_dtype", "precision"):
            dtype = _DTYPES.get(str(values.get(key, "")).lower().removeprefix("torch."))
            if dtype is not None:
                facts[Fact.DTYPE] = dtype
        if "quantization" in values:
            facts[Fact.QUANTIZATION] = str(values["quantization"])
        if isinstance(values.get("limit"), int | float):
            facts[Fact.LIMIT] = limit_text(float(values["limit"]))
    return Facts(known=facts)


def _of_command(command: str) -> dict[Fact, str]:
    """Facts of a complete command line; a missing option counts too: no flag means no template."""
    facts = {
        Fact.HARNESS: "lm-eval",
        Fact.TEMPLATE: on_off(re.search(r"--apply_chat_template(?!\s+[Ff]alse)", command) is not None),
    }
    limit = re.search(r"(?:--limit|-L)[ =](\d+(?:\.\d+)?)", command)
    facts[Fact.LIMIT] = limit_text(float(limit[1]) if limit else None)
    dtype = re.search(r"\bdtype=[\"']?(?:torch\.)?(\w+)", command)
    if dtype and dtype[1].lower() in _DTYPES:
        facts[Fact.DTYPE] = _DTYPES[dtype[1].lower()]
    bits = re.search(r"load_in_([48])bit=True", command)
    if bits:
        facts[Fact.QUANTIZATION] = f"{bits[1]}bit"
    return facts


def _of_words(line: str) -> dict[Fact, str]:
    facts: dict[Fact, str] = {}
    templates = {on_off(m["value"].lower() not in _OFF_WORDS) for m in _TEMPLATE_SET.finditer(line)}
    templates |= {on_off(False)} if _TEMPLATE_OFF.search(line) else set()
    templates |= {on_off(True)} if _TEMPLATE_ON.search(line) else set()
    if len(templates) == 1:
        facts[Fact.TEMPLATE] = templates.pop()
    dtypes = {_DTYPES[m["value"].lower()] for m in _DTYPE_WORD.finditer(line)}
    if len(dtypes) == 1:
        facts[Fact.DTYPE] = dtypes.pop()
    quantized = {f"{m['bits']}bit" for m in _BITS.finditer(line)} | {m["value"] for m in _GGUF.finditer(line)}
    if len(quantized) == 1:
        facts[Fact.QUANTIZATION] = quantized.pop()
    elif re.search(
        r"\b(?:unquanti[sz]ed|not quanti[sz]ed|quanti[sz]ation\W{0,4}none)\b", line, re.IGNORECASE
    ):
        facts[Fact.QUANTIZATION] = NOT_QUANTIZED
    return facts


def _add(
    values_by_fact: dict[Fact, set[str]], facts: Mapping[Fact, str] | Iterable[tuple[Fact, str]]
) -> None:
    for fact, value in dict(facts).items():
        values_by_fact.setdefault(fact, set()).add(value)
