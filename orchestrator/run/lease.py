"""Takes the lease of a run, which makes this process its driver."""

from __future__ import annotations

import time

from orchestrator.errors import RunError
from orchestrator.store import Store
from orchestrator.store.owners import host_of, is_local, new_owner, owner_is_gone
from orchestrator.store.records import RunLease


def take_lease(store: Store, run_id: str) -> RunLease:
    """Become the run's driver, at once if the last one died on this machine; RunError if one is alive."""
    owner = new_owner()
    first_expiry = store.run(run_id).lease_expires_at
    while True:
        record = store.run(run_id)
        dead = record.owner if record.owner is not None and owner_is_gone(record.owner) else None
        lease = store.take_lease(run_id, owner, instead_of=dead, reopen=True)
        if lease is not None:
            return lease
        if record.owner is not None and (is_local(record.owner) or record.lease_expires_at != first_expiry):
            process = record.owner.rsplit(":", 2)[1]
            raise RunError(
                f"Run {run_id} is driven by process {process} on {host_of(record.owner)}; `mergeboard watch {run_id}` shows it and "
                f"`mergeboard cancel {run_id}` stops it."
            )
        time.sleep(0.5)
