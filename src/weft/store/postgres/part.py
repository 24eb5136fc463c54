"""Parts of the one statement that a batch becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Part(NamedTuple):
    types: tuple[str, ...]
    """Of its arrays, one parameter each."""
    sql: str
    """`{0}`, `{1}` … are the parameters."""
    before: str = ""
    """What comes before it in the WITH, and ends with a comma."""


def insert(table: str, columns: str, types: str, conflict: str = "") -> Part:
    names = tuple(types.split())
    arrays = ", ".join(f"{{{n}}}::{name}[]" for n, name in enumerate(names))
    return Part(names, f"INSERT INTO weft.{table} ({columns}) SELECT a.* FROM fence, unnest({arrays}) AS a {conflict}")


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width
