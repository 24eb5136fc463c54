"""The shared store: journals on a PostgreSQL server, for any number of runtimes on any number of machines."""

from __future__ import annotations

from weft.store.postgres.server import PostgresOptions
from weft.store.postgres.store import PostgresStore

__all__ = ["PostgresOptions", "PostgresStore"]
