"""A hub on this machine: enough of its protocol for huggingface_hub to find, describe and download checkpoints and data
sets, and to open pull requests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


@dataclass
class Commit:
    """A commit that the hub received."""

    repository: str
    create_pr: bool
    parent: str | None
    title: str
    files: dict[str, str] = field(default_factory=dict)


class HubServer:
    """Serves directories as repositories `org/name` at one commit; gated ones and commits need the token `hf_good`."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.sent_bytes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running() -> Iterator[HubServer]:
    server = HubServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        path, _, query = unquote(self.path).partition("?")
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"POST {path}")
        call = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)", path)
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif call and call[1] not in self.hub.repositories:
            self._error(404, "RepoNotFound", body=True)
        elif call and self.headers.get("Authorization") != "Bearer hf_good":
            self._send(403, b'{"error": "Forbidden"}', {"Content-Type": "application/json"}, body=True)
        elif call and call[2] == "preupload":
            paths = [item["path"] for item in json.loads(data)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for p in paths]
            self._json({"files": modes})
        elif call:
            self._commit(call[1], data, create_pr="create_pr=1" in query)
        else:
            self._error(404, "EntryNotFound", body=True)

    def _commit(self, repository: str, data: bytes, *, create_pr: bool) -> None:
        lines = [json.loads(line) for line in data.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]).decode()
            for line in lines
            if line["key"] == "file"
        }
        commit = Commit(repository, create_pr, header.get("parentCommit"), header["summary"], files)
        self.hub.commits.append(commit)
        url = f"{self.hub.endpoint}/{repository}"
        pr_url = f"{url}/discussions/{len(self.hub.commits)}"
        answer = {"commitUrl": f"{url}/commit/{COMMIT}", "commitOid": COMMIT, "hookOutput": ""}
        self._json({**answer, "pullRequestUrl": pr_url} if create_pr else answer)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            self._api(api[1], api[2], api[3], body)
        elif file:
            self._file(file[1], file[2], file[3], body)
        else:
            self._error(404, "EntryNotFound", body)

    def _api(self, repo: str, what: str | None, revision: str | None, body: bool) -> None:
        if self._refused(repo, revision, files=what == "tree", body=body):
            return
        if what == "tree":
            value: object = [
                {"type": "file", "path": name, "size": p.stat().st_size, "oid": _sha1(p)}
                for name, p in self._files(repo)
            ]
        else:
            value = {
                "id": repo,
                "modelId": repo,
                "sha": COMMIT,
                "siblings": [
                    {"rfilename": name, "size": p.stat().st_size, "blobId": _sha1(p)}
                    for name, p in (self._files(repo) if self.path.startswith("/api/datasets/") else ())
                ],
                "tags": [],
                "private": False,
            }
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def _files(self, repo: str) -> list[tuple[str, Path]]:
        root = self.hub.repositories[repo]
        return sorted((p.relative_to(root).as_posix(), p) for p in root.rglob("*") if p.is_file())

    def _file(self, repo: str, revision: str, name: str, body: bool) -> None:
        if self._refused(repo, revision, files=True, body=body):
            return
        path = self.hub.repositories[repo] / name
        if not path.is_file():
            self._error(404, "EntryNotFound", body)
            return
        data = path.read_bytes()
        headers = {"ETag": f'"{_sha1(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked and body:
            start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            self._send(206, data[start : end + 1], headers, body)
        else:
            self._send(200, data, headers, body)

    def _refused(self, repo: str, revision: str | None, *, files: bool, body: bool) -> bool:
        if repo not in self.hub.repositories:
            self._error(404 if self.headers.get("Authorization") else 401, "RepoNotFound", body)
        elif revision not in (None, "main", COMMIT):
            self._error(404, "RevisionNotFound", body)
        elif files and repo in self.hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
            self._error(403, "GatedRepo", body)
        else:
            return False
        return True

    def _error(self, status: int, code: str, body: bool) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.hub.sent_bytes += len(data)
            self.wfile.write(data)


def _sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
