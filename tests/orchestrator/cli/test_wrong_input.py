"""Wrong input, told from the user's side: the option, the file as what it is, and the command that takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.plan.sweep import load_sweep

RECIPE = """\
slices:
  - sources: [{{model: {source}, layer_range: [0, 3]}}]
  - sources: [{{model: {source}, layer_range: [1, 4]}}]
merge_method: passthrough
dtype: bfloat16
"""
SWEEP = "name: s\nbase: {base}\nrecipes: ['(1, 2)']\nsuites: [smoke]\nengines: [transformers]\n"


@pytest.fixture
def call(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def refused(call: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command that must be refused; its sentence."""

    def run(*words: str) -> str:
        code, out, err = call(*words)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        return err

    return run


class TestFiles:
    def test_a_sweep_that_is_not_there(self, refused: Callable[..., str], tmp_path: Path) -> None:
        assert f"There is no file none.yaml; looked in {tmp_path}" in refused("run", "none.yaml")
        Path("my-sweep.yaml").write_text(SWEEP.format(base="x"))
        assert "did you mean my-sweep.yaml?" in refused("run", "my-sweeps.yaml")
        assert "did you mean my-sweep.yaml?" in refused("plan", "my-sweeps.yaml")
        assert "for example my-sweep.yaml" in refused("run", ".")

    def test_a_recipe_where_a_sweep_is_needed(self, refused: Callable[..., str], tiny_llama: Path) -> None:
        Path("merge.yaml").write_text(RECIPE.format(source=tiny_llama))
        sentence = refused("run", "merge.yaml")
        assert "merge.yaml is a recipe, not a sweep" in sentence
        wrapped = sentence.partition("write ")[2].partition(" to my-sweep.yaml")[0]
        Path("my-sweep.yaml").write_text(wrapped)
        sweep = load_sweep(Path("my-sweep.yaml")).sweep
        assert (sweep.base, sweep.recipes[0].file) == (str(tiny_llama), "merge.yaml")
        for command in ("plan merge.yaml", "build merge.yaml --out DIR"):
            assert f"`mergeboard {command}`" in sentence

    def test_a_recipe_of_the_catalogue_where_a_sweep_is_needed(self, refused: Callable[..., str]) -> None:
        sentence = refused("run", "goliath-120b")
        assert '"recipes": [{"catalog": "goliath-120b"}]' in sentence
        assert "`mergeboard plan goliath-120b`" in sentence

    def test_a_card_where_a_sweep_is_needed(self, refused: Callable[..., str]) -> None:
        Path("README.md").write_text("---\nlicense: mit\n---\n# mine\n")
        sentence = refused("submit", "README.md", "--address", "auto")
        assert "`mergeboard plan README.md`" in sentence
        assert "`mergeboard reproduce README.md`" in sentence

    def test_a_broken_sweep_is_told_as_a_sweep(self, refused: Callable[..., str]) -> None:
        Path("s.yaml").write_text("name: s\nbase: x\nslices: []\nsuites: [smoke]\n")
        assert "s.yaml:3: slices" in refused("run", "s.yaml")


class TestOptions:
    @pytest.mark.parametrize(
        ("words", "option", "reason"),
        [
            ("eval {tiny} --suite smoke --layer-path (1,9) --engine transformers", "--layer-path", "4 layers"),
            ("eval {tiny} --suite smoke --layer-path nonsense", "--layer-path", "is not a layer path"),
            ("eval {tiny} --suite smoke --engine llama", "--engine", "is not one of 'vllm', 'transformers'"),
            ("eval {tiny} --suite smoke --dtype int4", "--dtype", "is not one of"),
            ("eval {tiny} --suite smoke --chat-template maybe", "--chat-template", "is not one of"),
            ("eval {tiny} --suite smoke --execution fast", "--execution", "is not one of"),
            ("eval {tiny} --suite smoke --limit 0", "--limit", "greater than or equal to 1"),
            ("eval {tiny}", "--suite", "Missing"),
            ("scan {tiny} --grid i=9 --engine transformers", "--grid", "i is at most 3"),
            ("scan {tiny} --path (1,99) --engine transformers", "--path", "4 layers"),
            ("scan {tiny} --path nonsense", "--path", "is not a layer path"),
            ("scan {tiny} --probes nosuch", "--probes", "arithmetic-easy-scored"),
            ("scan {tiny} --rank best", "--rank", "is not one of 'balanced_z', 'mean_delta'"),
            ("scan {tiny} --colours blue", "--colours", "is not one of"),
            ("scan {tiny} --confirm-suite nosuch", "--confirm-suite", "leaderboard-v2"),
            ("run s.yaml --adress x", "--address", "No such option"),
        ],
    )  # fmt: skip
    def test_an_option_is_named(
        self, refused: Callable[..., str], tiny_llama: Path, words: str, option: str, reason: str
    ) -> None:
        sentence = refused(*(word.format(tiny=tiny_llama) for word in words.split()))
        assert option in sentence
        assert reason in sentence
        assert not any(
            text in sentence for text in ("recipes.0", "engines.0", "suites.0", "mergeboard eval:4")
        )

    def test_two_spellings_of_one_path(self, refused: Callable[..., str], tiny_llama: Path) -> None:
        paths = ("--path", "(1, 2)", "--path", "layers:0-2,1-4")
        sentence = refused("scan", str(tiny_llama), *paths, "--engine", "transformers")
        assert "--path: two recipes are called '(1, 2)'" in sentence

    def test_a_command_that_does_not_exist(self, refused: Callable[..., str]) -> None:
        assert "Did you mean 'status'?" in refused("stat")
        assert "Did you mean 'list'?" in refused("suite", "lst")


class TestJson:
    @pytest.mark.parametrize(
        "words", ["run none.yaml", "status nosuch", "eval x --suite", "nosuch", "suite show nosuch"]
    )
    def test_an_error_is_json_on_stdout_and_a_sentence_on_stderr(
        self, call: Callable[..., tuple[int, str, str]], words: str
    ) -> None:
        code, out, err = call(*words.split(), "--json")
        error = json.loads(out)["error"]
        assert (code, error["exit_code"], error["kind"]) == (2, 2, "refused")
        assert error["message"] in err

    def test_without_the_option_stdout_stays_empty(self, call: Callable[..., tuple[int, str, str]]) -> None:
        assert call("status", "nosuch")[:2] == (2, "")

    def test_verbose_shows_where_an_error_comes_from(self, call: Callable[..., tuple[int, str, str]]) -> None:
        _, _, err = call("run", "none.yaml", "-v")
        assert "Traceback" in err
        assert err.splitlines()[-1].startswith("mergeboard: There is no file none.yaml")
