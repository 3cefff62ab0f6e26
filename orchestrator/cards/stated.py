"""What a card says about how its figures were measured: command lines of the harness, words, arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from evals.claims.facts import NOT_QUANTIZED, Fact, Facts, limit_text, on_off

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
_TEMPLATE_ON = re.compile(r"\b(?:with|using)\s+(?:an?\s+|the\s+|its\s+)?chat[ _-]template\b", re.IGNORECASE)
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


def stated_facts(text: str) -> Facts:
    """What the card says of all its figures. What it says in two ways is taken as not said."""
    found: dict[Fact, set[str]] = {}
    joined = re.sub(r"\\\r?\n\s*", " ", text)
    for command in filter(None, map(_command_in, joined.split("\n"))):
        _add(found, _of_command(command))
    for line in joined.splitlines():
        if len(line) < 4000 and _MEASURING.search(line) and _command_in(line) is None:
            _add(found, _of_words(line))
    return Facts(known={fact: next(iter(values)) for fact, values in found.items() if len(values) == 1})


def _command_in(line: str) -> str | None:
    """The command line of a harness that a line holds: a program, and after it one of the options that all have."""
    program = _PROGRAM.search(line)
    if program is None or _OPTION.search(line, program.end()) is None:
        return None
    return line[program.start() :][:_MAX_COMMAND]


def facts_of_args(*arguments: Any) -> Facts:
    """What the arguments of a `model-index` entry say besides the number of shots."""
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
    """A whole command line says what it leaves out, too: without the flag there was no template."""
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


def _add(found: dict[Fact, set[str]], facts: Mapping[Fact, str] | Iterable[tuple[Fact, str]]) -> None:
    for fact, value in dict(facts).items():
        found.setdefault(fact, set()).add(value)
