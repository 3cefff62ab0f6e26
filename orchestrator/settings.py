"""Settings of this process, read from the environment once.

| variable               | what it is                                                        |
| ---------------------- | ----------------------------------------------------------------- |
| MERGEBOARD_HOME        | root of artifacts, journals, samples and model copies             |
| MERGEBOARD_DATABASE_URL| the store; SQLite under MERGEBOARD_HOME by default                |
| MERGEBOARD_DATASETS    | a mirror of the hub's data sets, laid out as the hub's            |
| HF_TOKEN               | for gated repositories; never written down anywhere               |
| RAY_ADDRESS            | the cluster; one is started on this machine where there is none   |
| MERGEBOARD_MERGE_MEMORY_GIB | memory for the earlier stages of a live merge, a quarter of a node's by default; and, in each |
|                        | worker, for what following merges need again, an eighth by default |
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from pydantic import Field

from evals.engine import Frozen
from orchestrator.errors import MergeboardError


class Settings(Frozen):
    """Paths and addresses of this process; the module's table lists the variables."""

    home: Path = Field(description="Root of all files of this installation; the same on every node.")
    database_url: str = Field(description="SQLAlchemy URL of the store.")
    datasets: Path | None = Field(description="Mirror of the hub's data sets, or null for the hub itself.")
    ray_address: str | None = Field(description="Ray cluster to use, or null to start one on this machine.")
    merge_memory_bytes: int | None = Field(
        default=None,
        description="Memory for the results of earlier stages of a live merge, and in each worker for what following merges need "
        "again, in bytes; null is a share of a node's.",
    )

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment variables; MergeboardError if one is invalid."""
        home = Path(
            os.environ.get("MERGEBOARD_HOME") or platformdirs.user_data_path("mergeboard")
        ).expanduser()
        home = home.absolute()
        mirror = os.environ.get("MERGEBOARD_DATASETS")
        if mirror and not Path(mirror).is_dir():
            raise MergeboardError(
                f"MERGEBOARD_DATASETS names {mirror}, which is not a folder; "
                "point it at a mirror of the hub's data sets, or unset it to use the hub."
            )
        return cls(
            home=home,
            database_url=os.environ.get("MERGEBOARD_DATABASE_URL") or f"sqlite:///{home / 'store.sqlite'}",
            datasets=Path(mirror).absolute() if mirror else None,
            ray_address=os.environ.get("RAY_ADDRESS") or None,
            merge_memory_bytes=_merge_memory(os.environ.get("MERGEBOARD_MERGE_MEMORY_GIB")),
        )

    @property
    def artifacts(self) -> Path:
        """Content-addressed checkpoints of builds."""
        return self.home / "artifacts"

    @property
    def journals(self) -> Path:
        """Request journals, one folder per evaluation job."""
        return self.home / "journals"

    @property
    def samples(self) -> Path:
        """Parquet files of samples, one per evaluation job."""
        return self.home / "samples"

    @property
    def logs(self) -> Path:
        """Logs of attempts, one per attempt."""
        return self.home / "logs"


def _merge_memory(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return int(float(text) * (1 << 30))
    except (ValueError, OverflowError):
        raise MergeboardError(
            f"MERGEBOARD_MERGE_MEMORY_GIB is {text[:40]!r}, which is no number of GiB; set it to a number such as 16, or unset it."
        ) from None


class WorkerContext(Frozen):
    """Settings of the installation that a worker needs."""

    home: str = Field(description="MERGEBOARD_HOME, the same on every node.")
    datasets: str | None = Field(description="Mirror of the hub's data sets, or null.")
    merge_memory_bytes: int | None = Field(
        default=None,
        description="Memory for what following merges need again; null is a share of the node's.",
    )

    @property
    def home_path(self) -> Path:
        """Home as a path."""
        return Path(self.home)
