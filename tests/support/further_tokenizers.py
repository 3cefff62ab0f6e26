"""Tiny checkpoints with tokenizers and chat templates of kinds that `tests.support.tiny_checkpoints` has not, trained on the given lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.support.tiny_checkpoints import CHAT_TEMPLATE, tiny_checkpoint

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = [UNKNOWN, BOS, EOS]
SMOKE_DATA = Path(__file__).parents[2] / "evals" / "tasks" / "smoke" / "data"

WRITES_BOS = (
    "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<' + message['role'] + '>\n' + message['content'] | trim + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>\n' }}{% endif %}"
)


class Kind(NamedTuple):
    """A kind of tokenizer with its chat template."""

    train: Callable[[Sequence[str], int], Tokenizer]
    template: str | None
    settings: dict[str, Any]
    """Further keys of tokenizer_config.json."""
    add_bos_token: bool | None
    """Of the suite: None is what the tokenizer does by itself."""


def smoke_lines() -> list[str]:
    """Text of the shipped smoke data."""
    return [
        line
        for path in sorted(SMOKE_DATA.rglob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def _bos_first(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def sentencepiece_bpe(lines: Sequence[str], size: int) -> Tokenizer:
    """As Llama 2 and Mistral: spaces are tokens' first characters, the first word has one too, bytes stand in for the rest."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁+[^▁]*"), "isolated")
    characters = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *characters], show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    stored = json.loads(tokenizer.to_str())
    # As in the real ones: bytes are no special tokens, and words are not split before the merges.
    stored["added_tokens"] = [token for token in stored["added_tokens"] if token["content"] in SPECIAL]
    stored["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(stored))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _bos_first(tokenizer)


def byte_level(lines: Sequence[str], size: int) -> Tokenizer:
    """As Llama 3: byte-level, with BOS."""
    return _bos_first(_byte_level(lines, size, use_regex=True))


def crossing(lines: Sequence[str], size: int) -> Tokenizer:
    """Byte-level without a split into words: merges reach across spaces, and from a context into its continuation."""
    return _byte_level(lines, size, use_regex=False)


def _byte_level(lines: Sequence[str], size: int, *, use_regex: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = lines if use_regex else [line[i : i + 40] for line in lines for i in range(0, len(line), 40)]
    tokenizer.train_from_iterator(pieces, trainer)
    return tokenizer


def unigram(lines: Sequence[str], size: int) -> Tokenizer:
    """As T5 or XLNet: Unigram over text with a space before the first word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=SPECIAL, unk_token=UNKNOWN, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def word_piece(lines: Sequence[str], size: int) -> Tokenizer:
    """As BERT: lower case, words cut into pieces, punctuation of its own, text cleaned up when it is decoded."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


FURTHER_KINDS: dict[str, Kind] = {
    "sentencepiece-bos": Kind(sentencepiece_bpe, CHAT_TEMPLATE, {}, None),
    "byte-level-bos": Kind(byte_level, CHAT_TEMPLATE, {}, None),
    "unigram": Kind(unigram, CHAT_TEMPLATE, {}, None),
    "template-writes-bos": Kind(byte_level, WRITES_BOS, {}, None),
    "template-refuses-system": Kind(sentencepiece_bpe, NO_SYSTEM, {}, True),
    "no-template": Kind(byte_level, None, {}, False),
    "crossing-merges": Kind(crossing, CHAT_TEMPLATE, {}, None),
    "word-piece": Kind(word_piece, CHAT_TEMPLATE, {"clean_up_tokenization_spaces": True}, None),
}


def further_checkpoint(directory: Path, name: str, lines: Sequence[str], size: int) -> Path:
    """A two-layer checkpoint with the tokenizer of this kind."""
    kind = FURTHER_KINDS[name]
    tiny_checkpoint(
        directory, layers=2, vocabulary=size, dtype="float32",
        config={"max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2},
    )  # fmt: skip
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    (directory / "generation_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    tokenizer = kind.train(lines, size)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    (directory / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
        "model_max_length": 8192,
        "clean_up_tokenization_spaces": False,
        **({"chat_template": kind.template} if kind.template else {}),
        **kind.settings,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory
