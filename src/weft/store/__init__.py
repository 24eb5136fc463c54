"""Where journals live. `open_store` finds the store for a path, a URL, or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from weft.core.errors import BadInput, StoreError
from weft.core.url import mask
from weft.store.base import Batch, Checkpoint, Message, ProcessRow, Question, Revocation, Segment, Store
from weft.store.ledger import Account, Charge, Refusal

__all__ = [
    "Account", "Batch", "Charge", "Checkpoint", "Message", "ProcessRow", "Question", "Refusal", "Revocation", "Segment",
    "Store", "open_store",
]  # fmt: skip

if TYPE_CHECKING:
    from weft.store.postgres import PostgresOptions

Durability = Literal["full", "process"]


def open_store(
    place: str | Path | None = None,
    durability: Durability = "full",
    options: PostgresOptions | None = None,
    *,
    create: bool = True,
) -> Store:
    """Open the store at `place`: a file's path, `sqlite:///path`, or `postgresql://user@host/database`; by default
    `$WEFT_STORE`, else `.weft/journal.db` here, in a folder that git ignores. What is missing is created; without
    `create`, a file that is missing is an error.

    `durability`: what is committed survives the death of the machine ("full") or of the process ("process").
    `options`: how a PostgreSQL server is used. Raises `StoreError` and its subclasses, which name the file and the fix.
    """
    if durability not in ("full", "process"):
        raise BadInput(f"durability is 'full' or 'process', not {durability!r}")
    place = place or os.environ.get("WEFT_STORE")
    if place and str(place).startswith(("postgresql://", "postgres://")):
        from weft.store.postgres import PostgresStore

        return PostgresStore(str(place), durability, options)
    path = _path(str(place)) if place else _default()
    if not create and not path.exists():
        raise StoreError(f"there is no journal {path}; check the path")
    from weft.store.sqlite import SQLiteStore  # sqlite3 is loaded only by who uses it

    return SQLiteStore(path, durability)


def _path(place: str) -> Path:
    scheme, separator, rest = place.partition("://")
    if separator and (scheme != "sqlite" or not rest.startswith("/")):
        raise StoreError(f"there is no store for {mask(place)!r}; write a file's path or postgresql://…")
    file = rest[1:] if separator else place
    if file in ("", ":memory:"):
        raise StoreError(f"{place!r} names no file, and a journal outlives its process; name a file")
    return Path(file).expanduser()


def _default() -> Path:
    folder = Path(".weft")
    try:
        folder.mkdir(exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise StoreError(
            f"{folder.absolute()} could not be made ({error}); name a file elsewhere with WEFT_STORE"
        ) from error
    return folder / "journal.db"
