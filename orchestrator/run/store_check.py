"""`mergeboard db check`: verifies a store, the samples files that it refers to, and the artifacts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import Field

from evals.engine import Frozen
from evals.errors import SamplesError
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import SchemaError, StoreError, StoreLost
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.artifact import ArtifactStore
from recipes.errors import RecipeError

_BATCH = 200
MOST_FAULTS = 10_000
"""Most faults that are listed: with the wrong MERGEBOARD_HOME every evaluation has one."""

Show = Callable[[str, int, int], None]
"""Progress callback: what is checked, the number checked, and the total."""


class CheckedPart(StrEnum):
    """Part of the installation that has a fault."""

    SCHEMA = "schema"
    RECORD = "record"
    SAMPLES = "samples"
    ARTIFACT = "artifact"


class StoreFault(Frozen):
    """One fault."""

    part: CheckedPart = Field(description="Part that has the fault.")
    message: str = Field(description="What is wrong, where, and the next step, in one line.")


@dataclass
class Checked:
    """Numbers and faults of a check so far."""

    samples: int = 0
    artifacts: int = 0
    faults: list[StoreFault] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, for `--json`."""
        return {
            "samples": self.samples,
            "artifacts": self.artifacts,
            "faults": [fault.model_dump(mode="json") for fault in self.faults],
        }


def check_store(settings: Settings, checked: Checked, show: Show) -> Iterator[StoreFault]:
    """Check everything; yields each fault and appends it to `checked`, at most MOST_FAULTS.

    Samples files are hashed completely; an artifact's file only if its size, times or inode have changed since
    the build. Evicted artifacts are no fault: they are rebuilt when needed. Raises StoreError if the store is
    missing or cannot be reached.
    """
    for fault in itertools.islice(_faults(settings, checked, show), MOST_FAULTS):
        checked.faults.append(fault)
        yield fault


def _faults(settings: Settings, checked: Checked, show: Show) -> Iterator[StoreFault]:
    try:
        with Store.open(settings.database_url, create=False, read_only=True) as store:
            yield from (
                StoreFault(part=CheckedPart.SCHEMA, message=_line(text)) for text in store.schema_faults()
            )
            yield from _samples(store, settings, checked, show)
    except SchemaError as error:
        yield StoreFault(part=CheckedPart.SCHEMA, message=_line(str(error)))
    yield from _artifacts(ArtifactStore(settings.artifacts), checked, show)


def _samples(store: Store, settings: Settings, checked: Checked, show: Show) -> Iterator[StoreFault]:
    digests = store.evaluated()
    for start in range(0, len(digests), _BATCH):
        batch = digests[start : start + _BATCH]
        try:
            evaluations = store.evaluations(batch)
        except StoreLost:
            raise
        except StoreError as error:
            yield StoreFault(
                part=CheckedPart.RECORD, message=_line(f"jobs {batch[0]} to {batch[-1]}: {error}")
            )
            continue
        for digest, evaluation in evaluations.items():
            checked.samples += 1
            show("samples", checked.samples, len(digests))
            try:
                stored_samples(digest, evaluation, settings.home).check()
            except SamplesError as error:
                yield StoreFault(part=CheckedPart.SAMPLES, message=_line(str(error)))


def _artifacts(artifacts: ArtifactStore, checked: Checked, show: Show) -> Iterator[StoreFault]:
    digests = artifacts.digests()
    for digest in digests:
        checked.artifacts += 1
        show("artifacts", checked.artifacts, len(digests))
        artifact = artifacts.read(digest)
        if artifact is None:
            path = artifacts.root / digest
            if path.exists():  # else evicted meanwhile
                yield StoreFault(
                    part=CheckedPart.ARTIFACT,
                    message=f"{path} is no whole artifact: files are missing, cut short, or its manifest is damaged; delete it "
                    "and build the recipe again.",
                )
            continue
        try:
            artifacts.require_intact(artifact)
        except (RecipeError, OSError) as error:
            yield StoreFault(part=CheckedPart.ARTIFACT, message=_line(str(error)))


def _line(text: str) -> str:
    return " ".join(text.split())
