"""How commands end: failed jobs, Ctrl-C and SIGTERM, and runs by the beginning of their ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.cli.ending import Ended, ExitCode
from orchestrator.cli.interrupts import interruptible
from orchestrator.plan.plan import Plan
from orchestrator.run import run as runs
from orchestrator.run.scheduler import RunSummary
from orchestrator.settings import Settings
from orchestrator.store import Store

SWEEP = "name: s\nbase: {base}\nrecipes: ['(1, 2)']\nsuites: [{{suite: smoke, benchmarks: [gpqa]}}]\nengines: [transformers]\n"


@pytest.fixture
def call(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mergeboard", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def sweep(tmp_path: Path, tiny_llama: Path) -> str:
    file = tmp_path / "s.yaml"
    file.write_text(SWEEP.format(base=tiny_llama))
    return str(file)


def registered(plan: Plan, settings: Settings) -> str:
    with Store.open(settings.database_url) as store:
        return runs.register(store, plan)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose last job fails, without an engine."""

    def execute(plan: Plan, settings: Settings, reporter: object, **options: Any) -> RunSummary:
        digest = list(plan.jobs)[-1]
        run_id = registered(plan, settings)
        failed = {digest: "The GPU burnt down.\nMore."}
        return RunSummary(run_id=run_id, done=1, cached=0, failed=failed, blocked=0, duration_s=1.0)

    monkeypatch.setattr(runs, "execute", execute)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is interrupted as soon as it is in the store."""

    def execute(plan: Plan, settings: Settings, reporter: object, **options: Any) -> RunSummary:
        registered(plan, settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "execute", execute)


@pytest.mark.usefixtures("failing")
class TestFailedJobs:
    def test_they_end_with_exit_code_1_and_their_names(
        self, call: Callable[..., tuple[int, str, str]], sweep: str
    ) -> None:
        code, out, err = call("run", sweep)
        assert code == ExitCode.FAILED
        assert "the first is (1, 2): smoke gpqa: The GPU burnt down." in err
        assert "Run s-" in out

    def test_they_are_in_the_one_json_document(
        self, call: Callable[..., tuple[int, str, str]], sweep: str
    ) -> None:
        code, out, _ = call("run", sweep, "--json")
        data = json.loads(out)
        assert (code, data["error"]["exit_code"], data["error"]["kind"]) == (1, 1, "failed")
        assert data["summary"]["failed"]

    def test_quiet_says_nothing_but_the_error(
        self, call: Callable[..., tuple[int, str, str]], sweep: str
    ) -> None:
        _, _, err = call("run", sweep, "--quiet")
        assert [line for line in err.splitlines() if line][:-1] == []

    def test_verbose_shows_digests_first(self, call: Callable[..., tuple[int, str, str]], sweep: str) -> None:
        _, _, err = call("run", sweep, "-v")
        assert "digests" in err
        assert "weights" in err


@pytest.mark.usefixtures("stopping")
def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(
    call: Callable[..., tuple[int, str, str]], sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call("run", sweep, "--json")
    assert code == ExitCode.INTERRUPTED
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert "0 of 2 jobs of run s-" in err
    command = err.strip().partition("Go on with: mergeboard ")[2].split()
    assert command[0] == "resume"
    # The command that was printed is one that works, with the id's beginning as well.
    resumed = call(command[0], command[1][:4])
    assert resumed[0] == ExitCode.INTERRUPTED
    assert f"mergeboard resume {command[1]}" in resumed[2]


def test_an_interruption_before_the_run_begins(
    call: Callable[..., tuple[int, str, str]], sweep: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    def plan_for(*values: object, **options: object) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "plan_for", plan_for)
    code, _, err = call("run", sweep)
    assert code == ExitCode.INTERRUPTED
    assert f"nothing was written. Start again with: mergeboard run {sweep}" in err
    assert not (home / "store.sqlite").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_a_block_with_its_sentence(number: signal.Signals) -> None:
    # Tests that a shell starts in the background inherit an ignored SIGINT.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with interruptible(lambda: "It is kept."):
            os.kill(os.getpid(), number)
            signal.pause()

    try:
        with pytest.raises(Ended, match="kept") as caught:
            work()
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert caught.value.code is ExitCode.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("stopping")
def test_watch_ends_with_a_sentence_and_leaves_the_run_alone(
    call: Callable[..., tuple[int, str, str]], sweep: str, number: signal.Signals
) -> None:
    call("run", sweep)
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom orchestrator.cli import main; main()"
    words = [sys.executable, "-c", program, "watch", "s-", "--period", "0.2"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()  # it is in the loop now
        watching.send_signal(number)
        _, err = watching.communicate(timeout=60)
    assert watching.returncode == ExitCode.INTERRUPTED
    assert "Stopped watching; run s-" in err
    assert "Traceback" not in err


def test_runs_by_the_beginning_of_their_ids(
    call: Callable[..., tuple[int, str, str]], sweep: str, failing: None, tmp_path: Path
) -> None:
    call("run", sweep)
    other = tmp_path / "t.yaml"
    other.write_text(Path(sweep).read_text().replace("name: s\n", "name: s2\n"))
    call("run", str(other))
    code, out, _ = call("status", "s2", "--json")
    assert (code, json.loads(out)["name"]) == (0, "s2")
    for words in (
        ["status", "s"],
        ["cancel", "s"],
        ["resume", "s"],
        ["compare", "--run", "s"],
        ["watch", "s"],
    ):
        code, _, err = call(*words)
        assert code == 2
        assert "Several runs begin with 's': s2-" in err
    assert "no run 'x'" in call("export", "--out", str(tmp_path / "o"), "--run", "x")[2]
    code, out, _ = call("cancel", "s2", "--json")
    assert (code, json.loads(out)["state"]) == (0, "cancelled")
