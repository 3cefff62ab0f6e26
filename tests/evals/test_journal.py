"""The journal: nothing that was written is lost or mixed up, whatever happens to the writer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evals.engine import GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from evals.errors import JournalError
from evals.journal import Journal, request_digest

WRITER = """
import sys
from pathlib import Path
from evals.engine import ScoreResult
from evals.journal import Journal
with Journal(Path(sys.argv[1]), "job") as journal:
    for i in range(10_000_000):
        journal.put(f"{i:032x}", ScoreResult(logprobs=(-float(i),), is_greedy=(False,)))
        print(i, flush=True)
"""


def score(value: float) -> ScoreResult:
    return ScoreResult(logprobs=(value, -1.5), is_greedy=(True, False))


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    answers = {
        "a" * 32: score(-0.1 - 0.2),
        "b" * 32: score(float("-inf")),
        "c" * 32: GenerateResult(
            text='Two lines\nand "quotes", \u2028 an emoji \U0001f600', n_tokens=9, finish_reason="stop"
        ),
        "d" * 32: GenerateResult(text="a lone surrogate \ud83d", n_tokens=1, finish_reason="length"),
    }
    with Journal(tmp_path, "job") as journal:
        for digest, answer in answers.items():
            journal.put(digest, answer)
            assert journal.get(digest) == answer
    with Journal(tmp_path, "job") as again:
        assert {digest: again.get(digest) for digest in answers} == answers
        assert again.n_replayable == 4
        assert again.get("e" * 32) is None


def test_only_a_writer_leaves_a_file_and_an_answer_is_written_once(tmp_path: Path) -> None:
    with Journal(tmp_path, "job") as journal:
        assert list(tmp_path.iterdir()) == []
        journal.put("a" * 32, score(-1.0))
        (file,) = tmp_path.iterdir()
        size = file.stat().st_size
        journal.put("a" * 32, score(-1.0))
        assert file.stat().st_size == size


def test_several_writers_share_a_folder(tmp_path: Path) -> None:
    with Journal(tmp_path, "job") as one, Journal(tmp_path, "job") as two:
        one.put("a" * 32, score(-1.0))
        two.put("b" * 32, score(-2.0))
    with Journal(tmp_path, "job") as third:
        assert third.get("a" * 32) == score(-1.0)
        assert third.get("b" * 32) == score(-2.0)


def test_another_jobs_journal_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path, "job one") as journal:
        journal.put("a" * 32, score(-1.0))
    with pytest.raises(
        JournalError, match=r"belongs to another job \(job one.*not to job two; choose another"
    ):
        Journal(tmp_path, "job two")


def test_any_cut_leaves_the_whole_records_before_it(tmp_path: Path) -> None:
    with Journal(tmp_path, "job") as journal:
        for i in range(5):
            journal.put(f"{i:032x}", score(float(-i)))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with Journal(tmp_path, "job") as journal:
            lines = whole[:length].count(b"\n")
            assert journal.n_replayable == max(lines - 1, 0)
            for i in range(journal.n_replayable):
                assert journal.get(f"{i:032x}") == score(float(-i))


def test_a_flipped_byte_costs_one_record(tmp_path: Path) -> None:
    with Journal(tmp_path, "job") as journal:
        for i in range(5):
            journal.put(f"{i:032x}", score(float(-i)))
    (file,) = tmp_path.iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"-1.0", b"-9.0")
    file.write_bytes(b"".join(lines))
    with Journal(tmp_path, "job") as journal:
        assert journal.n_replayable == 4
        assert journal.get(f"{1:032x}") is None


def test_a_torn_tail_of_one_writer_does_not_reach_the_next(tmp_path: Path) -> None:
    with Journal(tmp_path, "job") as journal:
        journal.put("a" * 32, score(-1.0))
    (file,) = tmp_path.iterdir()
    with file.open("ab") as stream:
        stream.write(b"0123")
    with Journal(tmp_path, "job") as journal:
        journal.put("b" * 32, score(-2.0))
    with Journal(tmp_path, "job") as journal:
        assert journal.n_replayable == 2


def test_kill_9_loses_nothing_that_was_put(tmp_path: Path) -> None:
    rng = random.Random(1)
    said = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
            rest = [int(line) for line in writer.stdout.read().split("\n")[:-1] if line]
        said = max([said, 0, *rest])
        with Journal(tmp_path, "job") as journal:
            assert all(journal.get(f"{i:032x}") is not None for i in range(said + 1))
            assert journal.n_replayable >= said + 1


def test_digests_tell_requests_apart() -> None:
    requests = [
        ScoreRequest(context=(1, 2), continuations=((3,), (4,))),
        ScoreRequest(context=(1, 2), continuations=((4,), (3,))),
        ScoreRequest(context=(1, 2), continuations=((3, 4),)),
        ScoreRequest(context=(1, 2, 3), continuations=((4,),)),
        ScoreRequest(context=(1,), continuations=((2, 3), (4,))),
        GenerateRequest(prompt=(1, 2), max_new_tokens=3),
        GenerateRequest(prompt=(1, 2), max_new_tokens=4),
        GenerateRequest(prompt=(1, 2), max_new_tokens=3, stop=("a",)),
        GenerateRequest(prompt=(1, 2), max_new_tokens=3, stop=("a", "b")),
        GenerateRequest(prompt=(1, 2, 3), max_new_tokens=3),
    ]
    assert len({request_digest(r) for r in requests}) == len(requests)
    assert request_digest(requests[0]) == request_digest(requests[0].model_copy())
