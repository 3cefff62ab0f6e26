"""Submits a sweep to a cluster as a Ray job, whose driver plans and runs it on the head."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from evals.engine import Frozen
from evals.errors import first_line
from orchestrator.errors import ClusterError, MergeboardError, SweepError, TokenError
from orchestrator.plan.suite_texts import write_suites
from orchestrator.plan.sweep import SweepFile
from orchestrator.settings import Settings
from orchestrator.store import Store, label_of

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SWEEP_NAME = "sweep.yaml"
RUN_MARK = "mergeboard-run: "
STORE_MARK = "mergeboard-store: "
WAIT_MARK = "mergeboard-waits: "
REFUSED_MARK = "mergeboard: "
_ENTRYPOINT = f"python -m orchestrator.run.driver {SWEEP_NAME}"
_POLL_S = 1.0
PATIENCE_S = 3600.0
"""Longest wait of a driver for a GPU node before the submission fails."""


class Submitted(Frozen):
    """A submitted run."""

    run_id: str = Field(description="Id of the run; it is in the store when `submit` returns.")
    job_id: str = Field(description="Ray's id of the job that drives it.")
    store: str = Field(description="URL of the run's store as its driver opened it, without password.")
    in_our_store: bool = Field(
        description="Whether it is this machine's store, so that `watch`, `status` and `cancel` work here."
    )


def submit(
    file: SweepFile,
    address: str,
    settings: Settings,
    *,
    wait_s: float = 600.0,
    say: Callable[[str], None] = lambda sentence: None,
) -> Submitted:
    """Send a sweep to a cluster and wait until it is planned and stored; the run continues without this process.

    `say` is called when the cluster has the sweep, and with what it waits for. Raises SweepError for files that
    cannot be sent, TokenError if the cluster rejects the token, ClusterError if it does not answer, refuses the
    plan, or uses another store than MERGEBOARD_DATABASE_URL.
    """
    folder = Path(tempfile.mkdtemp(prefix="mergeboard-submit-"))
    try:
        _pack(file, folder)
        client = _client(address)
        try:
            job_id: str = client.submit_job(
                entrypoint=_ENTRYPOINT,
                runtime_env={"working_dir": str(folder)},
                metadata={"sweep": file.sweep.name},
            )
        except (RuntimeError, ConnectionError, ValueError) as error:
            raise ClusterError(
                f"The cluster at {address} did not take the sweep ({_first(error)})."
            ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(
        f"The cluster has the sweep and plans it (Ray's job {job_id}); the run is in no store, and `status` does not list it, until that "
        "is done."
    )
    run_id, store = _wait_for_run(client, job_id, address, wait_s, say)
    is_in_our_store = _has_run(settings, run_id)
    if not is_in_our_store and os.environ.get("MERGEBOARD_DATABASE_URL"):
        with contextlib.suppress(RuntimeError, ConnectionError):
            client.stop_job(job_id)
        raise ClusterError(
            f"The cluster's driver opened the store {store}, and MERGEBOARD_DATABASE_URL names {label_of(settings.database_url)} "
            f"here, which has no run {run_id}; the driver was stopped. Set the same MERGEBOARD_DATABASE_URL on the head, or unset it here."
        )
    return Submitted(run_id=run_id, job_id=job_id, store=store, in_our_store=is_in_our_store)


def _has_run(settings: Settings, run_id: str) -> bool:
    """Whether this machine's store contains the run."""
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            store.run(run_id)
    except MergeboardError:
        return False
    return True


def _pack(file: SweepFile, folder: Path) -> None:
    """Copy the sweep, its recipe files and the definitions of its suites to `folder`.

    SweepError for paths that only this machine has.
    """
    home = Path(file.folder).resolve()
    checkpoints = [("base", file.sweep.base, Path.cwd())]
    checkpoints += [("checkpoint", e.checkpoint, home) for e in file.sweep.recipes if e.checkpoint]
    for field, name, place in checkpoints:
        if not Path(name).is_absolute() and (place / Path(name).expanduser()).is_dir():
            raise SweepError(
                f"{file.origin}: {field}: {name} is a folder of this machine; give an absolute path that every node of the cluster sees, "
                "or the name of a published checkpoint."
            )
    (folder / SWEEP_NAME).write_text(file.text)
    write_suites(file, folder)
    for entry in file.sweep.recipes:
        if entry.file is None:
            continue
        source = (home / entry.file).resolve()
        if not source.is_relative_to(home) or not source.is_file():
            raise SweepError(
                f"{file.origin}: {entry.file} is not a file below the sweep's folder; put it beside the sweep to submit it."
            )
        target = folder / source.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _client(address: str) -> JobSubmissionClient:
    """A client that sends the token of the environment (RAY_AUTH_TOKEN) with every request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.exceptions import AuthenticationError, RayError
        from ray.job_submission import JobSubmissionClient

        from orchestrator.cluster.address import AddressForm, parse_address
        from orchestrator.cluster.connect import ask_head, send_token
    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = parse_address(address)
    if cluster.form is AddressForm.HEAD:
        ask_head(cluster.text)
    else:
        # The cluster never connects to a submitter, so sending a token that is not required is harmless.
        send_token()
    try:
        # Ray's client prefers RAY_ADDRESS of the environment to its argument.
        with _environment("RAY_API_SERVER_ADDRESS", cluster.text):
            return JobSubmissionClient(cluster.text)
    except AuthenticationError as error:
        raise TokenError(address) from error
    except (RuntimeError, ConnectionError, ValueError, OSError, RayError) as error:
        if "authentication" in str(error).lower():
            raise TokenError(address) from error
        raise ClusterError(
            f"Ray at {address} takes no jobs ({_first(error)}); give the head's address (HOST:6379) or its dashboard's "
            "(http://HOST:8265), and its token in RAY_AUTH_TOKEN."
        ) from error


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable within the context."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _wait_for_run(
    client: Any, job_id: str, address: str, wait_s: float, say: Callable[[str], None]
) -> tuple[str, str]:
    """Run id and store from the driver's output; ClusterError with the driver's message if it refused.

    A driver that reports what it waits for, such as a GPU node, gets more time.
    """
    end = time.monotonic() + wait_s
    reported: list[str] = []
    store = "unknown"
    while True:
        try:
            status = client.get_job_status(job_id)
            lines: list[str] = client.get_job_logs(job_id).splitlines()
        except (RuntimeError, ConnectionError) as error:
            raise ClusterError(
                f"The cluster at {address} took the sweep and does not answer any more ({_first(error)}); it is Ray's job {job_id}: "
                f"`ray job logs {job_id} --address {address}`."
            ) from error
        for line in lines:
            if line.startswith(STORE_MARK):
                store = line.removeprefix(STORE_MARK).strip()
            elif line.startswith(RUN_MARK):
                return line.removeprefix(RUN_MARK).strip(), store
        waits = [line.removeprefix(WAIT_MARK) for line in lines if line.startswith(WAIT_MARK)]
        for sentence in waits[len(reported) :]:
            say(sentence)
            end = time.monotonic() + max(wait_s, PATIENCE_S)
        reported = waits
        if status.is_terminal():
            sentences = [line.removeprefix(REFUSED_MARK) for line in lines if line.startswith(REFUSED_MARK)]
            reason = (
                sentences[-1] if sentences else " ".join(lines[-3:]) or client.get_job_info(job_id).message
            )
            raise ClusterError(f"The cluster refused the sweep: {reason}")
        if time.monotonic() > end:
            raise ClusterError(
                f"The sweep was not planned within {wait_s:.0f} s; it is Ray's job {job_id}: `ray job logs {job_id} --address {address}`."
            )
        time.sleep(_POLL_S)


def _first(error: Exception) -> str:
    return first_line(error)
