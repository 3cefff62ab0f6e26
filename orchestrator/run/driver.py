"""The driver of a submitted sweep, on the head of the cluster: `python -m orchestrator.run.driver sweep.yaml`.

The sweep's files are copied to MERGEBOARD_HOME, so that the run can be resumed without the Ray job.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from evals.engine import digest_of
from evals.errors import EvaluationError
from orchestrator.cluster.submit import REFUSED_MARK, RUN_MARK, STORE_MARK, WAIT_MARK
from orchestrator.errors import MergeboardError
from orchestrator.plan.suite_texts import read_suites
from orchestrator.plan.sweep import load_sweep
from orchestrator.run.progress import RunProgress
from orchestrator.run.run import cluster_for, execute, gpus_of, plan_for, register
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.errors import RecipeError


class Lines:
    """Reporter that prints a line whenever a job has finished; the lines form the log of the Ray job."""

    def __init__(self) -> None:
        self._ran = -1
        self._notes_told = 0

    def update(self, progress: RunProgress) -> None:
        """Called about twice a second."""
        for note in progress.notes[self._notes_told :]:
            sys.stdout.write(f"{note}\n")
        self._notes_told = len(progress.notes)
        if progress.ran != self._ran:
            self._ran = progress.ran
            counts = ", ".join(
                f"{number} {state.value}" for state, number in progress.counts.items() if number
            )
            sys.stdout.write(f"{progress.elapsed_s:.0f} s: {counts}\n")
            sys.stdout.flush()


def keep(sweep: Path, home: Path) -> Path:
    """Copy the sweep's folder to MERGEBOARD_HOME/sweeps/DIGEST; returns the path of the sweep file there."""
    files = sorted(path for path in sweep.parent.rglob("*") if path.is_file())
    folder = home / "sweeps" / digest_of([[str(p.relative_to(sweep.parent)), p.read_text()] for p in files])
    shutil.copytree(sweep.parent, folder, dirs_exist_ok=True)
    return folder / sweep.name


def _say(sentence: str) -> None:
    """Print a message for the process that submitted the sweep and waits for its run."""
    sys.stdout.write(f"{WAIT_MARK}{sentence}\n")
    sys.stdout.flush()


def main() -> int:
    """Plan the sweep, print the run's id, and execute it; returns the exit code."""
    settings = Settings.from_environment()
    try:
        sweep = keep(Path(sys.argv[1]).resolve(), settings.home)
        file = load_sweep(sweep)
        cluster = cluster_for(settings, None, gpus=gpus_of(file.sweep), say=_say)
        plan = plan_for(file, settings, cluster, suites=read_suites(sweep.parent))
        with Store.open(settings.database_url) as store:
            run_id = register(store, plan)
            sys.stdout.write(f"{STORE_MARK}{store.label}\n{RUN_MARK}{run_id}\n")
            sys.stdout.flush()
        summary = execute(plan, settings, Lines(), cluster=cluster)
    except (MergeboardError, RecipeError, EvaluationError) as error:
        sys.stdout.write(f"{REFUSED_MARK}{error}\n")
        return 2
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
