"""The relayer against `mergekit-yaml` and `cp -r`, in one run: the same checkpoint, the same layer path, whole processes.

    python benchmarks/relayer.py [--runs 3] [--folder DIR]

Makes a bf16 Llama checkpoint of random weights (40 layers, 2048 wide, 3.7 GB in 1 GB shards), writes the layer path
(17, 23) of it, 46 layers, with each tool in turn, checks that the results are equal, and prints medians of wall-clock
time and the largest peak of resident memory. Needs 15 GB of disk; leaves nothing behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from recipes.checkpoint import Checkpoint
from recipes.checkpoint_files import INDEX_NAME
from recipes.file_hash import file_sha256
from recipes.tensor_file import Tensor, header_bytes

LAYERS, HIDDEN, INTERMEDIATE, HEADS, VOCABULARY = 40, 2048, 4352, 16, 32000
SHARD_BYTES = 1_000_000_000
BLOCK = (17, 23)

RELAYER = """
import sys
from pathlib import Path
from recipes.relayer import write_layer_path
source, out, layers, shard_bytes = sys.argv[1:]
write_layer_path(Path(source), tuple(map(int, layers.split(","))), Path(out), shard_bytes=int(shard_bytes))
"""

STORE = """
import sys
from pathlib import Path
from recipes.artifact import ArtifactStore
from recipes.relayer import write_layer_path
source, out, layers, shard_bytes = sys.argv[1:]
path = tuple(map(int, layers.split(",")))
write = lambda to: write_layer_path(Path(source), path, to, shard_bytes=int(shard_bytes))
ArtifactStore(Path(out)).build("0123456789abcdef", write, meta={})
"""


@dataclass
class Tool:
    """One way of writing the checkpoint, and what was measured."""

    name: str
    command: list[str]
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    def run(self, out: Path) -> None:
        """Run the process once and note its time and peak memory."""
        os.sync()
        started = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.perf_counter() - started)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{self.name} failed:\n{errors.decode()[-2000:]}")
        self.peak_bytes.append(usage.ru_maxrss * 1024)
        print(f"  {self.name:28} {self.seconds[-1]:7.2f} s  {self.peak_bytes[-1] / 1e6:8.0f} MB", flush=True)
        assert out.exists()


def main() -> None:
    """Make the checkpoint, run the tools in turn, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to work; a temporary folder by default"
    )
    parser.add_argument("--step", nargs=2, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, directory = options.step
        make_checkpoint(Path(directory)) if step == "make" else print(
            json.dumps(tensor_hashes(Path(directory)))
        )
        return
    with tempfile.TemporaryDirectory(prefix="mergeboard-relayer-", dir=options.folder) as folder:
        benchmark(Path(folder), options.runs)


def benchmark(folder: Path, runs: int) -> None:
    """All runs, one after another, and the table."""
    source, out = folder / "source", folder / "out"
    apart("make", source)
    checkpoint = Checkpoint.open(source)
    layers = [*range(BLOCK[1]), *range(BLOCK[0], LAYERS)]
    print(
        f"{checkpoint.size_bytes / 1e9:.2f} GB, {LAYERS} layers -> {len(layers)} layers, "
        f"shards of {SHARD_BYTES / 1e9:.0f} GB, {os.cpu_count()} cores"
    )
    arguments = [str(source), str(out), ",".join(map(str, layers)), str(SHARD_BYTES)]
    tools = [
        Tool("relayer", [sys.executable, "-c", RELAYER, *arguments]),
        Tool("mergekit-yaml", mergekit_command(folder, source, out)),
        Tool("cp -r (of the source)", ["cp", "-r", str(source), str(out)]),
        Tool("relayer in artifact store", [sys.executable, "-c", STORE, *arguments]),
    ]
    equal = {}
    for number in range(1, runs + 1):
        print(f"run {number}", flush=True)
        for tool in tools:
            tool.run(out)
            if number == 1 and tool.name in {"relayer", "mergekit-yaml"}:
                equal[tool.name] = json.loads(apart("hash", out))
            shutil.rmtree(out)
    if equal["relayer"] != equal["mergekit-yaml"]:
        sys.exit("relayer and mergekit-yaml wrote different tensors")
    report(tools)


def report(tools: list[Tool]) -> None:
    """The table, in Markdown."""
    slow = statistics.median(tools[1].seconds)
    print(
        "\n| tool | median s | times faster than mergekit-yaml | peak memory, MB |\n| --- | --- | --- | --- |"
    )
    for tool in tools:
        median = statistics.median(tool.seconds)
        print(f"| {tool.name} | {median:.2f} | {slow / median:.1f} | {max(tool.peak_bytes) / 1e6:.0f} |")
    print("\nEvery tensor of relayer and mergekit-yaml is equal, bit for bit.")


def mergekit_command(folder: Path, source: Path, out: Path) -> list[str]:
    """mergekit-yaml for the same layer path."""
    pairs = ([0, BLOCK[1]], [BLOCK[0], LAYERS])
    slices = [{"sources": [{"model": str(source), "layer_range": pair}]} for pair in pairs]
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps({"merge_method": "passthrough", "dtype": "bfloat16", "slices": slices}))
    tool = str(Path(sys.executable).with_name("mergekit-yaml"))
    return [tool, str(recipe), str(out), "--out-shard-size", str(SHARD_BYTES)]


def apart(step: str, directory: Path) -> str:
    """A step in a process of its own: this one must stay small, for a child's peak memory begins at its parent's."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, str(directory)], check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


def tensor_hashes(directory: Path) -> dict[str, str]:
    """A hash of each tensor's bytes."""
    import numpy as np

    found = {}
    for tensor in Checkpoint.open(directory).tensors:
        data = np.fromfile(
            directory / tensor.file, dtype=np.uint8, count=tensor.size_bytes, offset=tensor.start
        )
        found[tensor.name] = hashlib.sha256(data.tobytes()).hexdigest()
    return found


def make_checkpoint(directory: Path) -> None:
    """Random weights in the names and shapes of a Llama checkpoint."""
    import numpy as np

    directory.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "intermediate_size": INTERMEDIATE, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(0).standard_normal(40_000_000, dtype=np.float32) * np.float32(0.02)
    data = memoryview((noise.view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes())
    shards: list[list[Tensor]] = [[]]
    for name, shape in shapes():
        tensor = Tensor(
            name=name, dtype="BF16", shape=shape, file="", start=0, size_bytes=2 * math.prod(shape)
        )
        if sum(t.size_bytes for t in shards[-1]) + tensor.size_bytes > SHARD_BYTES:
            shards.append([])
        shards[-1].append(tensor)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        write_shard(directory / file, shard, data)
        weight_map |= {tensor.name: file for tensor in shard}
    (directory / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for path in directory.glob("*.safetensors"):
        file_sha256(path)  # read once, so that every tool finds the source in the page cache


def write_shard(path: Path, shard: list[Tensor], data: memoryview) -> None:
    """Tensors of different bytes cut out of one block of noise."""
    with path.open("wb") as stream:
        stream.write(header_bytes(shard))
        for number, tensor in enumerate(shard):
            offset, left = 4096 * number, tensor.size_bytes
            while left:
                piece = data[offset : offset + left]
                left -= stream.write(piece)
                offset = 0


def shapes() -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in Hugging Face's order."""
    found: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (VOCABULARY, HIDDEN))]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        found += [(f"{prefix}self_attn.{part}_proj.weight", (HIDDEN, HIDDEN)) for part in "qkvo"]
        found += [(f"{prefix}mlp.{part}_proj.weight", (INTERMEDIATE, HIDDEN)) for part in ("gate", "up")]
        found += [(f"{prefix}mlp.down_proj.weight", (HIDDEN, INTERMEDIATE))]
        found += [(f"{prefix}{part}_layernorm.weight", (HIDDEN,)) for part in ("input", "post_attention")]
    return [*found, ("model.norm.weight", (HIDDEN,)), ("lm_head.weight", (VOCABULARY, HIDDEN))]


if __name__ == "__main__":
    main()
