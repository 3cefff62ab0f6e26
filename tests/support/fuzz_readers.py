"""The readers that the fuzz campaign tries, each with inputs of its own kind."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
from pathlib import Path

from evals.results_files import import_result, read_logged_samples
from evals.suite import load_suite
from orchestrator import cli
from orchestrator.cards.read import load_card
from orchestrator.cards.survey import plan_card
from orchestrator.cli.card_view import show_card_plan
from orchestrator.compare.lookup import find_result
from orchestrator.compare.run_comparisons import results_of_run
from orchestrator.exchange.imports import import_path
from orchestrator.plan.sweep import load_sweep
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.checkpoint import Checkpoint
from recipes.extract import find_proposals
from recipes.layer_grid import LayerPathGrid
from recipes.layer_path import LayerPath
from recipes.recipe import Recipe
from recipes.tensor_file import read_header
from tests.support import fuzz_inputs as inputs
from tests.support.demo_stores import demo_store
from tests.support.other_tools import EVERY_EVAL, inspect_log, lighteval_results

_OTHER_TOOLS = (
    inspect_log("org/a", [1.0, 0.0]),
    lighteval_results("org/a", {"squad_v2|0": [1.0, 0.0]}),
    EVERY_EVAL,
)


class Readers:
    """Files under one folder, written anew for each input."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._settings = Settings.from_environment()
        self._musr = load_suite("leaderboard-v2").benchmark("musr")
        self._run = demo_store(root / "seed")
        store = root / "seed" / "store.sqlite"
        with sqlite3.connect(store) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._store = store.read_bytes()

    def _file(self, name: str, data: bytes) -> Path:
        path = self._root / name
        path.write_bytes(data)
        inputs.CLOCK.restart()
        return path

    def card(self, rng: random.Random) -> None:
        """A card, read with its recipes."""
        path = self._file("card.md", inputs.text_input(rng, (inputs.CARD, inputs.DETAILS)))
        card = load_card(path)
        card.model_dump_json()
        find_proposals(path.read_text(errors="replace"), path.name)

    def recipe(self, rng: random.Random) -> None:
        """A recipe file."""
        path = self._file(
            "r.yaml",
            inputs.yaml_input(rng, (inputs.RECIPE, inputs.PATH)),
        )
        str(Recipe.load(path).digest)

    def sweep(self, rng: random.Random) -> None:
        """A sweep file, its grids expanded."""
        for entry in load_sweep(self._file("s.yaml", inputs.yaml_input(rng, (inputs.SWEEP,)))).sweep.recipes:
            if entry.grid is not None:
                LayerPathGrid.parse(entry.grid).paths(80)

    def layer_path(self, rng: random.Random) -> None:
        """A layer path or grid."""
        seeds = (
            "(45, 52)",
            "blocks:3,5;7,9",
            "repeat:10*3",
            "layers:0-52,45-80",
            "[0, 1, 2]",
            "i=0:30:5 j=1:31 max_added=8",
        )
        text = inputs.text_input(rng, seeds).decode("utf-8", "replace")
        if "=" in text:
            LayerPathGrid.parse(text).paths(80)
        else:
            str(LayerPath.parse(text, 80).canonical)

    def results(self, rng: random.Random) -> None:
        """A result file."""
        data = (
            inputs.json_input(rng, (inputs.RESULTS, inputs.BOARD_V1, *_OTHER_TOOLS))
            if rng.random() < 0.85
            else inputs.text_input(rng, (inputs.DETAILS,))
        )
        import_result(self._file("results_2024-01-01T00-00-00.json", data)).model_dump_json()

    def samples(self, rng: random.Random) -> None:
        """A samples file."""
        lines = [inputs.json_input(rng, ({**inputs.SAMPLE, "doc_id": n},)) for n in range(rng.randint(1, 6))]
        path = self._file("samples_x.jsonl", rng.choice((b"\n", b"\n", b",\n", b"")).join(lines))
        for sample in read_logged_samples(path, self._musr, "leaderboard_musr_murder_mysteries"):
            sample.model_dump_json()

    def header(self, rng: random.Random) -> None:
        """A safetensors file."""
        self._file("m.safetensors", inputs.header_input(rng))
        read_header(self._root, "m.safetensors")

    def config(self, rng: random.Random) -> None:
        """A checkpoint with a hostile config and index."""
        folder = self._root / "checkpoint"
        folder.mkdir(exist_ok=True)
        header = json.dumps(inputs.HEADER).encode()
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 80)
        (folder / "config.json").write_bytes(inputs.json_input(rng, (inputs.CONFIG,)))
        if rng.random() < 0.2:
            index = {"weight_map": dict.fromkeys(inputs.HEADER, "model.safetensors")}
            (folder / "model.safetensors.index.json").write_bytes(inputs.json_input(rng, (index,)))
        else:
            (folder / "model.safetensors.index.json").unlink(missing_ok=True)
        checkpoint = Checkpoint.open(folder)
        checkpoint.model_dump_json()
        str((checkpoint.parameters, checkpoint.stacks, checkpoint.config.parameters()))
        f"{(checkpoint.config.parameters() or 0) / 1e9:.3f}"

    def store(self, rng: random.Random) -> None:
        """A damaged store."""
        path = self._file("store.sqlite", inputs.binary_input(rng, self._store))
        for side in ("-wal", "-shm"):
            Path(f"{path}{side}").unlink(missing_ok=True)
        with Store.open(f"sqlite:///{path}", create=False, read_only=True) as store:
            store.runs()
            store.snapshot()
            results_of_run(store, self._run)
            find_result(store, "base")

    def import_(self, rng: random.Random) -> None:
        """A result file or card, taken into a store."""
        if rng.random() < 0.5:
            path = self._file(
                "results_2024-01-01T00-00-00.json",
                inputs.json_input(rng, (inputs.RESULTS, inputs.BOARD_V1, *_OTHER_TOOLS)),
            )
        else:
            path = self._file("card.md", inputs.text_input(rng, (inputs.CARD,)))
            show_card_plan(path, self._settings, sources=[], as_json=False)
            plan_card(path, self._settings, {})
        import_path(path, self._settings)

    def command(self, rng: random.Random) -> None:
        """A command with a file that is none, or is another than it should be."""
        path = self._odd_file(rng)
        words = rng.choice(
            (
                ["plan", path], ["run", path], ["build", path, "--out", str(self._root / "home" / "out")], ["import", path],
                ["reproduce", path, "--dry-run"], ["card", "base", "--update", path], ["eval", path, "--suite", "smoke"], ["plan", path, "--json"],
            )
        )  # fmt: skip
        sys.argv = ["mergeboard", *words]
        try:
            cli.main()
        except SystemExit as ended:
            if ended.code not in (0, 1, 2, None):
                raise AssertionError(f"exit code {ended.code}") from ended

    def _odd_file(self, rng: random.Random) -> str:
        """The path of a file of some kind."""
        suffix = rng.choice((".md", ".yaml", ".json", "", ".jsonl", ".safetensors"))
        path = self._root / f"odd{rng.choice(('', chr(27) + '[2J', chr(0x202E), 'é'))}{suffix}"
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        kind = rng.randrange(10)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            path.symlink_to(path)
        elif kind == 3:
            return rng.choice(
                ("/dev/zero", "/dev/null", "/proc/self/mem", "/", "", "x" * 5_000, "a/" * 500, "\udcff.yaml")
            )
        elif kind == 4:
            path.write_bytes(inputs.CARD.encode("utf-16"))
        elif kind == 5:
            path.touch()
            os.truncate(path, 3_000_000_000)
        elif kind == 6:
            path.write_bytes(rng.randbytes(3_000))
        elif kind == 7:
            path.touch()
        else:
            path.write_bytes(inputs.text_input(rng, (inputs.CARD, inputs.RECIPE, inputs.SWEEP)))
        return str(path)

    def address(self, rng: random.Random) -> None:
        """A page of the dashboard under a hostile address."""
        from streamlit.testing.v1 import AppTest

        def script(view: str) -> None:
            from dashboard import address, frame

            address.register({})
            address.link = lambda *_, **__: None
            frame._draw(address.View(view))

        view = rng.choice(("", "leaderboard", "compare", "layers", "claims", "job", "card"))
        app = AppTest.from_function(script, args=(view,), default_timeout=60)
        for name, value in inputs.query_input(rng).items():
            app.query_params[name] = value
        app.run()
        if app.exception:
            raise AssertionError(str([e.message for e in app.exception])[:300])


setattr(Readers, "import", Readers.import_)
