"""Where a process begins: with its workflow and input, or with what it became by `weft.exec`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weft.core.codec import decode
from weft.core.record import AnyRecord, Outcome, Value, from_column
from weft.store.base import ProcessRow


class Beginning(NamedTuple):
    """A program to run, and what is known of it. `records`: those since it began."""

    workflow: str
    input: Value
    """Its encoded arguments."""
    image: bytes
    holder: str
    """Under which name its capabilities are known: the process's, until it narrowed them and numbered them anew."""
    records: Sequence[AnyRecord] = ()
    held: Sequence[AnyRecord] = ()
    """Records since its capabilities were numbered."""
    number: int = 0
    """Of the effect by which it began: those of its own come after."""
    at: float = 0.0
    """When it began, by the body's clock."""


def beginning(row: ProcessRow, records: Sequence[AnyRecord]) -> Beginning:
    """The last one: what came before a `weft.exec` is not run again."""
    found = Beginning(row.workflow, from_column(row.input), row.image, row.id, records, records, at=row.started)
    for at, record in enumerate(records):
        if type(record) is Outcome and record.kind == "exec" and record.ok:
            assert isinstance(record.value, bytes)
            image, holder = decode(record.value)
            rest = records[at + 1 :]
            held = found.held if holder == found.holder else rest
            found = Beginning(record.name, record.args, image, holder, rest, held, record.effect, record.at)
    return found
