"""Starts Ray privately: ports on loopback only, no store address for engines, a token file of mode 600."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray._private import ray_constants

LOOPBACK = "127.0.0.1"
_STORE = "MERGEBOARD_DATABASE_URL"
# Ray's switch for multi-node clusters. If it is on (default on Linux), Ray replaces the loopback address by the
# machine's address and opens every port on all interfaces.
_CLUSTERS = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


@contextmanager
def private_start() -> Iterator[None]:
    """Context for starting Ray at `LOOPBACK`: its processes listen only there and do not inherit the store's
    address, and its token file is readable only by the user.

    Engines load third-party code and weights, and workers never open the store.
    """
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        keep_token_private(Path.home() / ".ray" / "auth_token")
    before = {name: os.environ.pop(name, None) for name in (_STORE, _CLUSTERS)}
    # Ray's processes read the variable; this process has already read it into `ray_constants`.
    os.environ[_CLUSTERS] = "0"
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        del os.environ[_CLUSTERS]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def keep_token_private(file: Path) -> None:
    """Create Ray's token file with mode 600 if it is missing; restrict an existing file of this user.

    Ray itself creates it with the umask's mode. Errors are ignored: Ray reports them.
    """
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if file.stat().st_uid == os.geteuid() and file.stat().st_mode & 0o077:
                file.chmod(0o600)
            return
        with os.fdopen(descriptor, "w") as opened:
            opened.write(secrets.token_hex(32))
