"""The gate: three candidates, policies, reasons and formats, over stored evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from evals.suite import Benchmark, load_suite
from orchestrator import cli
from orchestrator.cli.gate_run import gate_with_runs
from orchestrator.compare import Side
from orchestrator.compare.gate import GateVerdict, Outcome
from orchestrator.compare.gate_formats import GateFormat, render
from orchestrator.compare.gate_policy import Budget, Policy, Requirement, load_policy
from orchestrator.compare.gate_stored import gate_of_names, gate_of_sides
from orchestrator.compare.sides import sides_of_names
from orchestrator.errors import PolicyError, RunError
from orchestrator.store import Store
from tests.support.demo_stores import Maker, store_url
from tests.support.made_results import HOSTILE, Made

SMOKE = load_suite("smoke")
NAMES = [b.name for b in SMOKE.benchmarks]
BETTER = Made("better", ability=0.95, layer_path=(*range(30), 29))
EQUAL = Made("equal", restless=0.02, layer_path=(*range(30), 28))
WORSE = Made("worse", ability=0.15, layer_path=tuple(range(20)))
CANDIDATES = (Made("base"), BETTER, EQUAL, WORSE)
MAY_LOSE = Policy(suite="smoke", others=Requirement(may_lose=10))
MUST_GAIN = Policy(suite="smoke", others=Requirement(must_gain=0))


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of the three candidates, and a second one of four documents a subset."""
    home = tmp_path_factory.mktemp("gate")
    with Store.open(f"sqlite:///{home / 'store.sqlite'}") as store:
        Maker(store, home, SMOKE, n=200, name="whole").run(CANDIDATES)
        few = [
            replace(made, name=f"few-{made.name}" if number else "base")
            for number, made in enumerate(CANDIDATES)
        ]
        Maker(store, home, SMOKE, n=4, whole=False, seed=3, name="few").run(tuple(few))
    return home


@pytest.fixture
def open_store(made_home: Path) -> Store:
    return Store.open(f"sqlite:///{made_home / 'store.sqlite'}", create=False, read_only=True)


@pytest.mark.parametrize(
    ("candidate", "policy", "verdict"),
    [
        ("better", MAY_LOSE, GateVerdict.GO),
        ("equal", MAY_LOSE, GateVerdict.GO),
        ("worse", MAY_LOSE, GateVerdict.NO_GO),
        ("better", MUST_GAIN, GateVerdict.GO),
        ("equal", MUST_GAIN, GateVerdict.NO_GO),
        ("worse", MUST_GAIN, GateVerdict.NO_GO),
        ("few-equal", MAY_LOSE, GateVerdict.INCONCLUSIVE),
        ("few-equal", MUST_GAIN, GateVerdict.INCONCLUSIVE),
    ],
)
def test_three_candidates(
    made_home: Path, open_store: Store, candidate: str, policy: Policy, verdict: GateVerdict
) -> None:
    with open_store as store:
        report = gate_of_names(store, policy, candidate, "base", made_home)
    assert report.verdict is verdict, report.sentence
    assert report.exit_code == {"GO": 0, "NO-GO": 1, "INCONCLUSIVE": 3}[verdict]
    assert [r.benchmark for r in report.results] == NAMES
    assert report.n_candidates == 3  # of the run: this one may have been chosen among them
    for result in report.results:
        assert result.interval is not None
        assert result.delta_points is not None
        assert result.interval.low <= result.delta_points <= result.interval.high
        if result.outcome is Outcome.OPEN:
            assert "--limit" in str(result.remedy)


def test_the_average_and_advisory_requirements(made_home: Path, open_store: Store) -> None:
    first, second, *_ = NAMES
    policy = Policy(
        suite="smoke",
        benchmarks={first: Requirement(may_lose=10), second: Requirement(must_gain=0, critical=False)},
        average=Requirement(may_lose=5),
        correct_for_sweep=False,
    )
    with open_store as store:
        equal = gate_of_names(store, policy, "equal", "base", made_home)
        worse = gate_of_names(store, policy.model_copy(update={"benchmarks": {}}), "worse", "base", made_home)
    assert [r.benchmark for r in equal.results] == [first, second, None]
    assert [r.outcome for r in equal.results] == [Outcome.HELD, Outcome.BROKEN, Outcome.HELD]
    assert equal.verdict is GateVerdict.GO  # what is broken is advisory
    assert equal.n_candidates == 1
    assert worse.verdict is GateVerdict.NO_GO
    assert "Average" in worse.sentence


def test_a_looser_error_rate_and_margin_are_easier(made_home: Path, open_store: Store) -> None:
    with open_store as store:
        named = sides_of_names(store, "equal", "base", made_home)
    lows = []
    for rate in (0.001, 0.01, 0.05, 0.2):
        report = gate_of_sides(
            MAY_LOSE.model_copy(update={"error_rate": rate}), named.base, "equal", named.candidate
        )
        interval = report.results[0].interval
        assert interval is not None
        lows.append(interval.low)
    assert lows == sorted(lows)
    assert len(set(lows)) == 4


def test_what_is_missing_and_what_must_not_be_compared_is_inconclusive_with_a_remedy(
    made_home: Path, open_store: Store
) -> None:
    with open_store as store:
        named = sides_of_names(store, "better", "base", made_home)
    first = NAMES[0]
    without = [s for s in named.candidate if s.measurement.result.benchmark != first]
    report = gate_of_sides(MAY_LOSE, named.base, "better", without)
    assert report.verdict is GateVerdict.INCONCLUSIVE
    assert report.results[0].outcome is Outcome.NOT_COMPARED
    assert "the candidate has not been evaluated" in report.sentence
    assert f"mergeboard eval CHECKPOINT --suite smoke --benchmark {first}" in str(report.results[0].remedy)
    unfit = [Side(s.measurement, s.samples, unfit="its samples are gone") for s in named.candidate]
    refused = gate_of_sides(MAY_LOSE, named.base, "better", unfit)
    assert refused.verdict is GateVerdict.INCONCLUSIVE
    assert "its samples are gone" in refused.sentence
    # A requirement that is broken decides, whatever is missing.
    with Store.open(f"sqlite:///{made_home / 'store.sqlite'}", create=False, read_only=True) as store:
        worse = sides_of_names(store, "worse", "base", made_home)
    some = [s for s in worse.candidate if s.measurement.result.benchmark != first]
    assert gate_of_sides(MAY_LOSE, worse.base, "worse", some).verdict is GateVerdict.NO_GO
    # The average of fewer benchmarks is not the average.
    mean = Policy(suite="smoke", average=Requirement(may_lose=5))
    assert "needs all" in gate_of_sides(mean, named.base, "better", without).sentence


def test_without_samples_the_scores_are_tested_as_if_on_different_documents(
    made_home: Path, open_store: Store
) -> None:
    with open_store as store:
        named = sides_of_names(store, "worse", "base", made_home)
    bare = [[Side(s.measurement) for s in side] for side in (named.base, named.candidate)]
    report = gate_of_sides(MAY_LOSE, bare[0], "worse", bare[1])
    assert report.verdict is GateVerdict.NO_GO


class Fake:
    """Evaluations of two checkpoints that are read from a store."""

    def __init__(self, base: tuple[Side, ...], candidate: tuple[Side, ...], missing: dict[str, int]) -> None:
        self.stored = {"B": base, "C": candidate}
        self.numbers = missing
        self.asked: list[tuple[str, str]] = []

    def missing(self, checkpoint: str, suite: str, benchmark: Benchmark) -> int:
        return self.numbers.get(benchmark.name, 100)

    def sides(self, checkpoint: str, suite: str, benchmark: Benchmark) -> list[Side]:
        name = benchmark.name
        self.asked.append((checkpoint, name))
        return [s for s in self.stored[checkpoint] if s.measurement.result.benchmark == name]


def test_run_evaluates_what_is_missing_until_it_is_decided(made_home: Path, open_store: Store) -> None:
    with open_store as store:
        good, bad = (sides_of_names(store, name, "base", made_home) for name in ("better", "worse"))
    fewest = NAMES[2]
    whole = Fake(good.base, good.candidate, {fewest: 5})
    assert gate_with_runs(MAY_LOSE, "C", "B", whole).verdict is GateVerdict.GO
    assert whole.asked[:2] == [("B", fewest), ("C", fewest)]
    assert len(whole.asked) == 2 * len(NAMES)
    stopped = Fake(bad.base, bad.candidate, {fewest: 5})
    assert gate_with_runs(MAY_LOSE, "C", "B", stopped).verdict is GateVerdict.NO_GO
    assert len(stopped.asked) < 2 * len(NAMES)


def test_a_budget_that_ends_first_is_inconclusive(made_home: Path, open_store: Store) -> None:
    with open_store as store:
        good = sides_of_names(store, "better", "base", made_home)
    by_questions = MAY_LOSE.model_copy(update={"budget": Budget(questions=450)})
    fake = Fake(good.base, good.candidate, {})
    report = gate_with_runs(by_questions, "C", "B", fake)
    assert (report.verdict, report.exit_code) == (GateVerdict.INCONCLUSIVE, 3)
    assert len(fake.asked) == 4  # two benchmarks of 200 questions
    assert "600 questions are needed so far, the policy allows 450" in report.sentence
    times = iter([0.0, 1.0, 61.0])
    by_time = MAY_LOSE.model_copy(update={"budget": Budget(seconds=60)})
    late = gate_with_runs(by_time, "C", "B", Fake(good.base, good.candidate, {}), clock=lambda: next(times))
    assert late.exit_code == 3
    assert "61 s have passed" in late.sentence
    # What is stored costs nothing.
    stored = Fake(good.base, good.candidate, dict.fromkeys(NAMES, 0))
    broke = MAY_LOSE.model_copy(update={"budget": Budget(questions=0, seconds=0)})
    assert gate_with_runs(broke, "C", "B", stored).verdict is GateVerdict.GO


def test_formats_hold_hostile_names(made_home: Path, open_store: Store) -> None:
    with open_store as store:
        report = gate_of_names(store, MAY_LOSE, "few-worse", "base", made_home)
    report = report.model_copy(update={"candidate": HOSTILE})
    data = json.loads(render(report, GateFormat.JSON))
    assert data["exit_code"] == report.exit_code
    assert len(data["results"]) == len(NAMES)
    suite = ElementTree.fromstring(render(report, GateFormat.JUNIT))
    assert suite.get("tests") == str(len(NAMES))
    assert len(suite.findall("testcase")) == len(NAMES)
    wrong = sum(len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error", "skipped"))
    assert wrong == sum(r.outcome is not Outcome.HELD for r in report.results)
    markdown, text = render(report, GateFormat.MARKDOWN), render(report, GateFormat.TEXT)
    assert "<script>" not in markdown.replace("\\<", "")
    assert all("\x1b" not in t and "\x00" not in t for t in (markdown, text))
    assert report.verdict in text


POLICY = "suite: smoke\nothers: {may_lose: 10}\n"


@pytest.fixture
def run(
    made_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; its exit code, stdout and stderr."""
    monkeypatch.setenv("MERGEBOARD_HOME", str(made_home))
    monkeypatch.delenv("MERGEBOARD_DATABASE_URL", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return int(ended.value.code or 0), output.out, output.err

    return call


def test_the_command(tmp_path: Path, made_home: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    policy = tmp_path / "gate.yaml"
    policy.write_text(POLICY)
    for candidate, code in (("better", 0), ("equal", 0), ("worse", 1), ("few-equal", 3)):
        found, out, _ = run("gate", candidate, "--base", "base", "--policy", str(policy))
        assert found == code, out
        assert {0: "GO: all", 1: "NO-GO: ", 3: "INCONCLUSIVE: "}[code] in out
    file = tmp_path / "gate.xml"
    assert run("gate", "worse", "--policy", str(policy), "--format", "junit", "--out", str(file))[:2] == (
        1,
        "NO-GO\n",
    )
    assert ElementTree.parse(file).getroot().tag == "testsuite"
    assert json.loads(run("gate", "better", "--policy", str(policy), "--json")[1])["verdict"] == "GO"
    for words, sentence in (
        (("gate", "nobody", "--policy", str(policy)), "There are no scores of nobody"),
        (("gate", "better", "--policy", str(tmp_path / "none.yaml")), "none.yaml cannot be read"),
        (("gate", "better", "--policy", str(policy), "--format", "pdf"), "pdf"),
    ):
        code, _, error = run(*words)
        assert code == 2
        assert sentence in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("suite: smoke\n", "no requirement is critical"),
        ("suite: smoke\nothers: {may_lose: 1, critical: false}\n", "no requirement is critical"),
        ("suite: smoke\nbenchmarks:\n  bbh: {may_lose: 1, must_gain: 2}\n", "3: benchmarks.bbh: give either"),
        ("suite: smoke\nbenchmarks:\n  bbh: {may_loose: 1}\n", "no such field"),
        ("suite: smoke\nothers: {may_lose: 0}\n", "greater than 0"),
        ("suite: smoke\nothers: {may_lose: 1}\nerror_rate: 0.9\n", "less than or equal"),
        ("- 1\n", "holds no policy"),
        ("suite: [\n", "gate.yaml"),
    ],
)
def test_policies_that_make_no_sense_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=sentence) as caught:
        load_policy(path)
    assert "gate.yaml" in str(caught.value)


def test_a_benchmark_that_the_suite_does_not_have_is_bad_input(made_home: Path, open_store: Store) -> None:
    policy = Policy(suite="smoke", benchmarks={"bhb": Requirement(may_lose=1)})
    with open_store as store, pytest.raises(PolicyError, match=r"no such benchmark; it has .*bbh"):
        gate_of_names(store, policy, "better", "base", made_home)
    with pytest.raises(PolicyError, match="no suite 'nothing' to run"):
        gate_with_runs(policy.model_copy(update={"suite": "nothing"}), "C", "B", Fake((), (), {}))


def test_names_are_found_as_compare_finds_them(made_home: Path, open_store: Store) -> None:
    with open_store as store, pytest.raises(RunError, match="There are no scores of nobody"):
        gate_of_names(store, MAY_LOSE, "better", "nobody", made_home)
    assert store_url(made_home).startswith("sqlite")
