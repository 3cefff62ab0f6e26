"""Handing a sweep to a cluster: its files go there as a Ray job, whose driver plans and runs it on the head."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from orchestrator.errors import ClusterError, SweepError, TokenError
from orchestrator.jobs import Frozen
from orchestrator.sweep import SweepFile

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SWEEP_NAME = "sweep.yaml"
RUN_MARK = "mergeboard-run: "
REFUSED_MARK = "mergeboard: "
_ENTRYPOINT = f"python -m orchestrator.submitted {SWEEP_NAME}"
_POLL_S = 1.0


class Submitted(Frozen):
    """A run that is on its way on a cluster."""

    run_id: str = Field(
        description="The run; `mergeboard watch` and `cancel` take it where the store is seen."
    )
    job_id: str = Field(description="Ray's id of the job that drives it.")


def submit(file: SweepFile, address: str, *, wait_s: float = 600.0) -> Submitted:
    """Send a sweep to a cluster and wait until it is planned there; the run goes on without this process.

    Raises SweepError for what cannot travel, TokenError where the cluster turns us away, ClusterError where it does not answer
    or refuses the plan.
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
    return Submitted(run_id=_wait_for_run(client, job_id, address, wait_s), job_id=job_id)


def _pack(file: SweepFile, folder: Path) -> None:
    """The sweep and the recipes that it names by file; what only this machine has is refused."""
    base = file.sweep.base
    if not Path(base).is_absolute() and Path(base).expanduser().is_dir():
        raise SweepError(
            f"{file.origin}: base: {base} is a folder of this machine; give an absolute path that every node of the cluster sees, "
            "or the name of a published checkpoint."
        )
    (folder / SWEEP_NAME).write_text(file.text)
    home = Path(file.folder).resolve()
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
    """A client that shows the token of the environment (RAY_AUTH_TOKEN) with every request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.exceptions import AuthenticationError, RayError
        from ray.job_submission import JobSubmissionClient

        from orchestrator.executors.connection import ask_head
    logging.getLogger("ray").setLevel(logging.ERROR)
    ask_head(address)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise TokenError(address) from error
    except (RuntimeError, ConnectionError, ValueError, OSError, RayError) as error:
        raise ClusterError(
            f"Ray at {address} takes no jobs ({_first(error)}); give the head's address (HOST:6379, or http://HOST:8265), and its token "
            "in RAY_AUTH_TOKEN."
        ) from error


def _wait_for_run(client: Any, job_id: str, address: str, wait_s: float) -> str:
    """The id of the run as its driver prints it; ClusterError with the driver's own sentence where it refused."""
    end = time.monotonic() + wait_s
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
            if line.startswith(RUN_MARK):
                return line.removeprefix(RUN_MARK).strip()
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
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
