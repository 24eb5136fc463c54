"""The embedded store: journals in one SQLite file, for any number of runtimes on one machine."""

from __future__ import annotations

from weft.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
