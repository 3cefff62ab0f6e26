"""Sweep files: what is accepted, and the one sentence for what is not."""

from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.plan.sweep import load_sweep, parse_sweep

GOOD = """\
name: s
base: some/where
recipes:
  - "(3, 5)"
  - {name: twice, layer_path: "(0, 30)"}
  - {name: list, layer_path: [0, 1, 1, 2]}
  - grid: all
suites: [smoke, {suite: leaderboard-v2, limit: 20}]
engines: [transformers, {kind: vllm, dtype: float32}]
chat_template: off
"""


def parse(text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    return parse_sweep(data, origin="s.yaml", folder=Path("."))


def test_shorthands_are_parsed_at_the_edge() -> None:
    sweep = parse(GOOD).sweep
    assert sweep.recipes[0].layer_path == "(3, 5)"
    assert sweep.recipes[2].layer_path == (0, 1, 1, 2)
    assert sweep.suites[1].limit == 20
    assert sweep.engines[1].dtype == "float32"
    assert sweep.chat_template == "off"


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("name: s", "nmae: s"), 1, ["nmae", "did you mean `name`"]),
        (("limit: 20", "limti: 20"), 8, ["suites.1.limti", "did you mean `limit`"]),
        (("limit: 20", "limit: 0"), 8, ["suites.1.limit", "greater than or equal to 1"]),
        (("dtype: float32", "dtype: int3"), 9, ["engines.1.dtype"]),
        (("kind: vllm", "kind: vlm"), 9, ["engines.1.kind", "'vllm' or 'transformers'"]),
        (('layer_path: "(0, 30)"', 'layer_path: "(0; 30)"'), 5, ["recipes.1", "(0; 30)"]),
        (("  - grid: all", "  - {grid: all, name: x}"), 7, ["recipes.3", "leave `name` out"]),
        (("  - grid: all", "  - {grid: all, catalog: x}"), 7, ["recipes.3", "exactly one"]),
        (("chat_template: off", "chat_template: maybe"), 10, ["chat_template"]),
        (("name: s", 'name: "a\\0b"'), 1, ["name", "NUL (U+0000)"]),
        (("name: twice", 'name: "tw\\0ce"'), 5, ["recipes.1", "NUL (U+0000)"]),
        (("suites: [smoke, {suite: leaderboard-v2, limit: 20}]\n", ""), 1, ["suites", "required"]),
    ],
)
def test_an_error_names_file_line_and_field(change: tuple[str, str], line: int, words: list[str]) -> None:
    with pytest.raises(SweepError) as caught:
        parse(GOOD.replace(*change))
    message = str(caught.value)
    assert message.startswith(f"s.yaml:{line}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"# nothing\n",
        b"just text",
        b"- a\n- b\n",
        b"\x7fELF\x02\x01\x01\x00\xff\xfe",
        b"name: !!python/object/apply:os.system ['touch hacked']\n",
        b"name: !ruby/object:X {}\n",
        b"a: &a [*a]\n",
        b"name: x\nname: y\n",
        b"".join(
            [
                b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n",
                *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n".encode() for i in range(1, 9)),
            ]
        ),
        b"[" * 20_000,
    ],
)
def test_what_is_no_sweep_is_refused_in_one_sentence(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in" / "x.yaml"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(SweepError) as caught:
        load_sweep(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"none\.yaml cannot be read"):
        load_sweep(tmp_path / "none.yaml")
