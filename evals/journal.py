"""The request journal: stores every answer of an engine at once, so that a resumed job computes nothing twice.

A journal is a folder that belongs to one job. Each writer appends to its own file, and readers read all files, so that one or
several other workers can resume a job at any time. A record is one line: checksum, then JSON. Lines whose checksum does not
match (truncated by a crash) and unknown records are skipped. Records reach the operating system at once (`kill -9` loses only
the answers in flight) and the disk at least every `SYNC_EVERY_S` seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from evals.engine import GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from evals.errors import JournalError

FORMAT = 1
SYNC_EVERY_S = 2.0

Request = ScoreRequest | GenerateRequest
Result = ScoreResult | GenerateResult


def request_digest(request: Request) -> str:
    """First 32 hex digits of a sha256 over a request's tokens and limits."""
    digest = hashlib.sha256()
    if isinstance(request, ScoreRequest):
        digest.update(b"score")
        for tokens in (request.context, *request.continuations):
            digest.update(len(tokens).to_bytes(4, "little"))
            digest.update(array("q", tokens).tobytes())
    else:
        digest.update(b"generate")
        digest.update(array("q", request.prompt).tobytes())
        digest.update(json.dumps([request.max_new_tokens, *request.stop]).encode())
        if request.sampling is not None:
            digest.update(request.sampling.model_dump_json().encode())
    return digest.hexdigest()[:32]


class Journal:
    """The answers of one job; a context manager that closes this writer's file."""

    def __init__(self, folder: Path, identity: str, *, durable: bool = True) -> None:
        """`identity` names the job; JournalError if the folder holds another job's answers.

        Without `durable` nothing is flushed to the disk: for answers that are cheap to compute again after a power failure.
        """
        self._durable = durable
        self.folder = folder
        self.identity = identity
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.journal"
        self._answers: dict[str, Result] = {}
        self._read: dict[Path, int] = {}
        self._fd: int | None = None
        self._synced_at = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()
        self.n_replayable = len(self._answers)

    def __enter__(self) -> Journal:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file of this writer."""
        self.close()

    def get(self, digest: str) -> Result | None:
        """The stored answer to the request with this digest; None if there is none."""
        return self._answers.get(digest)

    def put(self, digest: str, result: Result) -> None:
        """Append an answer."""
        if digest in self._answers:
            return
        self._write({"k": digest, **_encode(result)})
        self._answers[digest] = result
        now = time.monotonic()
        if now - self._synced_at >= SYNC_EVERY_S:
            self.sync()

    def refresh(self) -> int:
        """Read what other writers have appended; returns the number of new answers."""
        before = len(self._answers)
        for path in sorted(self.folder.glob("*.journal")):
            if path.name != self._name and path.stat().st_size > self._read.get(path, 0):
                self._read_new_records(path)
        return len(self._answers) - before

    def sync(self) -> None:
        """Flush the file to the disk."""
        if self._fd is not None and self._durable:
            os.fsync(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Flush and close the file of this writer."""
        if self._fd is not None:
            self.sync()
            os.close(self._fd)
            self._fd = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._fd is None:
            self._fd = os.open(
                self.folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644
            )
            self._synced_at = time.monotonic()
            self._append({"format": FORMAT, "job": self.identity})
        self._append(record)

    def _append(self, record: dict[str, Any]) -> None:
        assert self._fd is not None
        line = _encode_line(record)
        while line:
            line = line[os.write(self._fd, line) :]

    def _read_new_records(self, path: Path) -> None:
        begin = self._read.get(path, 0)
        for end, record in _records(path, begin):
            if self._read.get(path, 0) == 0:
                self._check_head(path, record)
            else:
                result = _decode(record)
                if result is not None:
                    self._answers.setdefault(record["k"], result)
            self._read[path] = end

    def _check_head(self, path: Path, head: dict[str, Any]) -> None:
        if head.get("format") != FORMAT or head.get("job") != self.identity:
            raise JournalError(
                f"Journal {path} belongs to another job ({head.get('job')}, format {head.get('format')}), not to "
                f"{self.identity}; choose another journal folder, or delete this one to compute its answers again."
            )


def _encode_line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _records(path: Path, begin: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Valid records from offset `begin`, each with its end offset; none if the first line of the file is invalid."""
    end = begin
    with path.open("rb") as file:
        file.seek(begin)
        for line in file:
            end += len(line)
            if not line.endswith(b"\n") or line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:-1]):
                if end == len(line):
                    return
                continue
            yield end, json.loads(line[9:-1].decode("utf-8", "surrogatepass"))


def _encode(result: Result) -> dict[str, Any]:
    if isinstance(result, ScoreResult):
        return {"l": result.logprobs, "g": [int(g) for g in result.is_greedy]}
    return {"t": result.text, "n": result.n_tokens, "f": result.finish_reason}


def _decode(record: dict[str, Any]) -> Result | None:
    if "l" in record:
        return ScoreResult(logprobs=tuple(record["l"]), is_greedy=tuple(bool(g) for g in record["g"]))
    if "t" in record:
        return GenerateResult(text=record["t"], n_tokens=record["n"], finish_reason=record["f"])
    return None
