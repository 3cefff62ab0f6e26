"""What Ray on this machine must not show: its ports to other machines, the store's address to engines, its token to other users."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ray._private import ray_constants

LOOPBACK = "127.0.0.1"
_STORE = "MERGEBOARD_DATABASE_URL"
# Ray's own switch for "this machine alone" (its default outside of Linux): without it the loopback address is replaced by the
# machine's, and every port is open to all interfaces.
_CLUSTERS = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR


@contextmanager
def private_start() -> Iterator[None]:
    """While Ray is started here at `LOOPBACK`: its processes listen there alone and inherit no store address, and its token
    file is the user's alone.

    Engines load code and weights of others, and workers never open the store.
    """
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        keep_token_private(Path.home() / ".ray" / "auth_token")
    before = {name: os.environ.pop(name, None) for name in (_STORE, _CLUSTERS)}
    # Its processes read the variable; this one has read it already.
    os.environ[_CLUSTERS] = "0"
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        del os.environ[_CLUSTERS]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def keep_token_private(file: Path) -> None:
    """Make Ray's token file where there is none, readable by its owner alone; narrow the mode of one that is ours.

    Ray itself makes it with the mode that the umask leaves. What cannot be written is left to Ray, which says so.
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
