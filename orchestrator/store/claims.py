"""External results: imported runs, model cards, their claims, and reproductions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, TypeAdapter

from evals.claims.records import CardCheck, Claim, Verdict, VerdictKind
from orchestrator.errors import RunError
from orchestrator.store.base import StorePart
from orchestrator.store.claim_records import (
    CardRecord,
    CardSummary,
    ImportedResultRecord,
    ImportedRunRecord,
    ReproductionRecord,
)
from orchestrator.store.database import clock
from orchestrator.store.rows import AnyRow, Row, among
from orchestrator.store.tables import cards, claims, imported_results, imports, reproductions, verdicts

_CHECKS: TypeAdapter[tuple[CardCheck, ...]] = TypeAdapter(tuple[CardCheck, ...])
_NOTES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
NO_SUITE = ""
"""Value of the column `suite` of a claim about a benchmark that no suite has."""
_SPEC = {"facts", "ignored", "problems"}


class Claims(StorePart):
    """Methods of the store for external results."""

    def put_import(self, run: ImportedRunRecord, results: Sequence[ImportedResultRecord]) -> None:
        """Store an imported run with its benchmarks; replaces an earlier import of the same file."""
        children = [_result_row(run.id, position, result) for position, result in enumerate(results)]

        def work(connection: sa.Connection) -> None:
            row = run.model_dump(exclude={*_SPEC, "format"}) | {
                "format": run.format.value,
                "spec": run.model_dump_json(include=_SPEC),
                "imported_at": clock(connection),
            }
            _replace(connection, imports, row)
            _replace_children(connection, imported_results.c.import_id, run.id, children)

        self._database.write(work)

    def imports(self, *, limit: int = 200) -> tuple[ImportedRunRecord, ...]:
        """Imported runs, the newest first."""
        query = sa.select(imports).order_by(imports.c.imported_at.desc(), imports.c.id).limit(limit)
        return self._database.read(lambda c: tuple(_import_record(row) for row in c.execute(query)))

    def find_imports(self, text: str) -> tuple[ImportedRunRecord, ...]:
        """Imported runs by id (or a prefix of at least four digits), checkpoint or file, the newest first."""
        fits = [imports.c.id == text, imports.c.checkpoint == text, imports.c.source == text]
        if len(text) >= 4 and text.isalnum():
            fits.append(imports.c.id.startswith(text, autoescape=True))
        query = sa.select(imports).where(sa.or_(*fits)).order_by(imports.c.imported_at.desc(), imports.c.id)
        return self._database.read(lambda c: tuple(_import_record(row) for row in c.execute(query)))

    def imported_results(self, import_ids: Iterable[str]) -> dict[str, tuple[ImportedResultRecord, ...]]:
        """The benchmarks of the given imported runs, in the suites' order."""
        ids = list(import_ids)

        def work(connection: sa.Connection) -> dict[str, tuple[ImportedResultRecord, ...]]:
            query = sa.select(imported_results).where(among(connection, imported_results.c.import_id, ids))
            by_id: dict[str, list[ImportedResultRecord]] = {}
            for row in connection.execute(query.order_by(imported_results.c.position)):
                by_id.setdefault(row.import_id, []).append(ImportedResultRecord.model_validate_json(row.spec))
            return {import_id: tuple(results) for import_id, results in by_id.items()}

        return self._database.read(work)

    def remove_import(self, import_id: str) -> tuple[str, ...]:
        """Delete an imported run; returns the samples files, relative to MERGEBOARD_HOME, that no other import uses."""

        def work(connection: sa.Connection) -> tuple[str, ...]:
            path, owner = imported_results.c.samples_path, imported_results.c.import_id
            paths = sa.select(path).where(owner == import_id, path.is_not(None)).distinct()
            own = set(connection.scalars(paths))
            shared = sa.select(path).where(owner != import_id, among(connection, path, sorted(own)))
            kept = set(connection.scalars(shared)) if own else set()
            connection.execute(sa.delete(imported_results).where(owner == import_id))
            connection.execute(sa.delete(imports).where(imports.c.id == import_id))
            return tuple(sorted(own - kept))

        return self._database.write(work)

    def put_card(self, card: CardRecord) -> None:
        """Store a card with its claims; replaces an earlier import of the same card."""
        children = [_claim_row(card.id, position, claim) for position, claim in enumerate(card.claims)]

        def work(connection: sa.Connection) -> None:
            row = card.model_dump(include={"id", "source", "name", "checkpoint"}) | {
                "text": card.text.replace("\0", "\ufffd"),
                "checks": _CHECKS.dump_json(card.checks).decode(),
                "notes": _NOTES.dump_json(card.notes).decode(),
                "imported_at": clock(connection),
            }
            _replace(connection, cards, row)
            _replace_children(connection, claims.c.card_id, card.id, children)

        self._database.write(work)

    def card(self, card_id: str) -> CardRecord:
        """A card by its id; RunError if there is none."""

        def work(connection: sa.Connection) -> CardRecord:
            row = connection.execute(sa.select(cards).where(cards.c.id == card_id)).first()
            if row is None:
                raise RunError(
                    f"There is no card {card_id} in the store; take it in with `mergeboard import`."
                )
            specs = sa.select(claims.c.spec).where(claims.c.card_id == card_id).order_by(claims.c.position)
            return CardRecord(
                **{name: getattr(row, name) for name in ("id", "source", "name", "checkpoint", "text")},
                imported_at=row.imported_at,
                checks=_CHECKS.validate_json(row.checks),
                notes=_NOTES.validate_json(row.notes),
                claims=tuple(Claim.model_validate_json(spec) for spec in connection.scalars(specs)),
            )

        return self._database.read(work)

    def cards(self, *, limit: int = 200) -> tuple[CardSummary, ...]:
        """Cards, the newest first, with the verdicts of their last reproduction."""
        query = sa.select(*(cards.c[n] for n in ("id", "source", "name", "checkpoint", "imported_at")))
        query = query.order_by(cards.c.imported_at.desc(), cards.c.id).limit(limit)

        def work(connection: sa.Connection) -> tuple[CardSummary, ...]:
            rows = connection.execute(query).all()
            ids = [row.id for row in rows]
            n_claims = _counts(connection, claims.c.card_id, ids)
            last = _last_reproductions(connection, ids)
            ended = _verdict_counts(connection, [reproduction.id for reproduction in last.values()])
            return tuple(
                CardSummary(
                    **row._mapping,
                    n_claims=n_claims.get(row.id, 0),
                    reproduced_at=last[row.id].made_at if row.id in last else None,
                    verdicts=ended.get(last[row.id].id, {}) if row.id in last else {},
                )
                for row in rows
            )

        return self._database.read(work)

    def put_reproduction(self, reproduction: ReproductionRecord) -> None:
        """Store a reproduction with its verdicts; its card and run must exist."""
        rows = [_verdict_row(reproduction.id, i, verdict) for i, verdict in enumerate(reproduction.verdicts)]

        def work(connection: sa.Connection) -> None:
            row = reproduction.model_dump(include={"id", "card_id", "run_id", "candidate"}) | {
                "made_at": clock(connection),
                "checks": _CHECKS.dump_json(reproduction.checks).decode(),
                "notes": _NOTES.dump_json(reproduction.notes).decode(),
            }
            _replace(connection, reproductions, row)
            _replace_children(connection, verdicts.c.reproduction_id, reproduction.id, rows)

        self._database.write(work)

    def reproductions(self, card_id: str) -> tuple[ReproductionRecord, ...]:
        """Every reproduction of a card with its verdicts, the newest first."""
        query = sa.select(reproductions).where(reproductions.c.card_id == card_id)
        query = query.order_by(reproductions.c.made_at.desc(), reproductions.c.id.desc())

        def work(connection: sa.Connection) -> tuple[ReproductionRecord, ...]:
            rows = connection.execute(query).all()
            specs = sa.select(verdicts.c.reproduction_id, verdicts.c.spec).order_by(verdicts.c.position)
            specs = specs.where(among(connection, verdicts.c.reproduction_id, [row.id for row in rows]))
            by_id: dict[str, list[Verdict]] = {}
            for row in connection.execute(specs):
                by_id.setdefault(row.reproduction_id, []).append(Verdict.model_validate_json(row.spec))
            return tuple(_reproduction_record(row, by_id.get(row.id, [])) for row in rows)

        return self._database.read(work)


def _replace(connection: sa.Connection, table: sa.Table, row: Row) -> None:
    """Insert a row, or update the one with the same id; rows that refer to it are kept."""
    changed = connection.execute(sa.update(table).where(table.c.id == row["id"]).values(**row)).rowcount
    if not changed:
        connection.execute(sa.insert(table).values(**row))


def _replace_children(
    connection: sa.Connection, parent: sa.Column[Any], value: str, rows: Sequence[Row]
) -> None:
    connection.execute(sa.delete(parent.table).where(parent == value))
    if rows:
        connection.execute(sa.insert(parent.table), list(rows))


def _result_row(import_id: str, position: int, result: ImportedResultRecord) -> Row:
    score = result.measurement.result
    return {
        "import_id": import_id,
        "position": position,
        **result.model_dump(include={"suite", "benchmark_digest", "samples_path", "samples_sha256"}),
        **score.model_dump(include={"benchmark", "raw", "normalized", "n"}),
        "spec": _json(result),
    }


def _claim_row(card_id: str, position: int, claim: Claim) -> Row:
    columns = claim.model_dump(include={"benchmark", "value"})
    return {
        "card_id": card_id,
        "position": position,
        "suite": claim.suite or NO_SUITE,
        **columns,
        "spec": _json(claim),
    }


def _verdict_row(reproduction_id: str, position: int, verdict: Verdict) -> Row:
    columns = verdict.model_dump(include={"kind", "reason", "measured", "difference_points"})
    return {"reproduction_id": reproduction_id, "position": position, **columns, "spec": _json(verdict)}


def _json(record: BaseModel) -> str:
    return record.model_dump_json()


def _import_record(row: AnyRow) -> ImportedRunRecord:
    spec = TypeAdapter(dict[str, Any]).validate_json(row.spec)
    names = ("id", "source", "checkpoint", "revision", "format", "measured_at", "imported_at")
    return ImportedRunRecord.model_validate({**{name: getattr(row, name) for name in names}, **spec})


def _reproduction_record(row: AnyRow, verdict_records: Sequence[Verdict]) -> ReproductionRecord:
    return ReproductionRecord(
        **{name: getattr(row, name) for name in ("id", "card_id", "run_id", "candidate", "made_at")},
        checks=_CHECKS.validate_json(row.checks),
        notes=_NOTES.validate_json(row.notes),
        verdicts=tuple(verdict_records),
    )


def _counts(connection: sa.Connection, key: sa.Column[Any], values: Sequence[str]) -> dict[str, int]:
    query = sa.select(key, sa.func.count()).where(among(connection, key, values)).group_by(key)
    return {row[0]: row[1] for row in connection.execute(query)}


def _last_reproductions(connection: sa.Connection, card_ids: Sequence[str]) -> dict[str, AnyRow]:
    query = sa.select(reproductions.c.id, reproductions.c.card_id, reproductions.c.made_at)
    query = query.where(among(connection, reproductions.c.card_id, card_ids))
    ordered = query.order_by(reproductions.c.made_at, reproductions.c.id)
    return {row.card_id: row for row in connection.execute(ordered)}


def _verdict_counts(
    connection: sa.Connection, reproduction_ids: Sequence[str]
) -> dict[str, dict[VerdictKind, int]]:
    key, kind = verdicts.c.reproduction_id, verdicts.c.kind
    query = sa.select(key, kind, sa.func.count()).where(among(connection, key, reproduction_ids))
    counts: dict[str, dict[VerdictKind, int]] = {}
    for row in connection.execute(query.group_by(key, kind)):
        counts.setdefault(row[0], dict.fromkeys(VerdictKind, 0))[VerdictKind(row[1])] = row[2]
    return counts
