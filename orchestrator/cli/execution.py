"""What `run`, `eval` and `resume` share: plan, execute with progress on stderr, print the results."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.ending import Ended, ExitCode, failure_of
from orchestrator.cli.interrupts import interruptible, same_command
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.plan.capacity import ClusterFacts
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.sweep import SweepFile


@dataclass
class Execution:
    """One plan on its way: where it runs, what is shown, and which run it has become."""

    settings: Settings
    address: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    run_id: str | None = None

    def of_sweep(self, file: SweepFile, *, whole: bool = False) -> None:
        """Plan a sweep for the cluster that the run will have, and run it; with `whole` nothing stops early."""
        from orchestrator.cluster import disconnect
        from orchestrator.run.run import cluster_for, gpus_of, plan_for

        with interruptible(self._stopped):
            cluster = cluster_for(self.settings, self.address, gpus=gpus_of(file.sweep))
            try:
                plan = plan_for(file, self.settings, cluster, whole=whole)
            except BaseException:
                disconnect()
                raise
            self._execute(plan, cluster)

    def of_run(self, run_id: str, *, whole: bool = False) -> None:
        """Go on with a run that is in the store; with `whole`, run what stopped early in it to its end, as another run."""
        from orchestrator.run.run import stored_plan

        self.run_id = run_id
        with interruptible(self._stopped):
            self._execute(stored_plan(run_id, self.settings, whole=whole), None)

    def _execute(self, plan: Plan, cluster: ClusterFacts | None) -> None:
        from orchestrator.cli.plan_view import show_notes, show_tables
        from orchestrator.cli.progress import TerminalReporter
        from orchestrator.cli.results_view import show_results
        from orchestrator.display.text_safety import Terminal
        from orchestrator.run.run import execute, run_id_of
        from orchestrator.run.scheduler import job_labels

        console = Terminal(stderr=True)
        self.run_id = run_id_of(plan)
        if self.verbose:
            show_tables(plan, self.settings, console, digests=True)
        if not self.quiet:
            show_notes(plan, console)
        with TerminalReporter(console, quiet=self.quiet) as reporter:
            summary = execute(plan, self.settings, reporter, address=self.address, cluster=cluster)
        failure = failure_of(summary, job_labels(plan))
        show_results(summary, plan, self.settings, as_json=self.as_json, failure=failure)
        if failure is not None:
            raise Ended(failure, ExitCode.FAILED, told=True)

    def _stopped(self) -> str:
        """What is kept of the run, and the command that goes on with it."""
        done = self._done()
        if done is None or self.run_id is None:
            return f"Stopped before the run began; nothing was written. Start again with: {same_command()}"
        address = f" --address {shlex.quote(self.address)}" if self.address else ""
        return (
            f"Stopped. {done[0]} of {done[1]} jobs of run {self.run_id} are finished and kept, and so are the answers of unfinished "
            f"ones. Go on with: mergeboard resume {self.run_id}{address}"
        )

    def _done(self) -> tuple[int, int] | None:
        """Finished jobs and all jobs of the run; None where the store does not have the run."""
        from orchestrator.errors import RunError, StoreError
        from orchestrator.store import Store

        if self.run_id is None:
            return None
        try:
            with Store.open(self.settings.database_url, create=False, read_only=True) as store:
                progress = store.progress(store.run(self.run_id).id)
        except (RunError, StoreError):
            return None
        return progress.done, progress.total
