"""Runs migrations on the connection that `orchestrator.store.schema` hands over, inside its transaction."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from orchestrator.store.schema import compare_types
from orchestrator.store.tables import metadata


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """A new migration names SQLAlchemy's own types, never ours, which may change later."""
    if kind == "type" and hasattr(item, "impl_instance"):
        return f"sa.{item.impl_instance!r}"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=compare_types,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
