"""What was done outside since a checkpoint was made, by its origin and all below it: what a fork or a restored run will
do once more, and nobody takes back.

A journal says of each step what it leaves behind (`Outcome.impact`). Of a step that was in flight when its process
died, or is now, nobody knows.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from weft.core.codec import decode
from weft.core.errors import BudgetExceeded, Denied, UnknownOutcome
from weft.core.record import AnyRecord, Outcome, Started, Value, decode_records
from weft.runtime.cut import decode_cut
from weft.store.base import Checkpoint, ProcessRow, Store

if TYPE_CHECKING:
    from weft.runtime.process import Process

PAGE = 200
Class = Literal["irreversible", "reversible", "repeatable", "unknown"]
CLASSES: tuple[Class, ...] = get_args(Class)


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """One effect on the world outside. `of`: irreversible; reversible (it can be undone); repeatable (doing it again
    changes nothing more); unknown (it may have happened). `at`: when its outcome was known, or it was begun, in seconds
    since the epoch. `ok`: whether it succeeded; None: not known."""

    of: Class
    process: str
    workflow: str
    effect: int
    kind: str
    name: str
    place: str
    at: float
    ok: bool | None
    args: Value


async def effects_since(
    store: Store, checkpoint: Checkpoint, active: Mapping[str, Process] | None = None
) -> list[Touch]:
    """See `Runtime.effects_since`. `active`: processes in memory, whose steps in flight the store may not know of."""
    lengths = {place.id: place.length for place in decode_cut(checkpoint.body).places}
    rows = (await store.subtree(checkpoint.process)).rows
    found: list[Touch] = []
    ids = list(rows)
    for at in range(0, len(ids), PAGE):
        journals: dict[str, list[AnyRecord]] = {id: [] for id in ids[at : at + PAGE]}
        for segment in await store.segments(list(journals)):
            journals[segment.process] += decode_records(segment.records)
        for id, records in journals.items():
            live = None if active is None else active.get(id)
            found += _touches(rows[id], records, lengths.get(id, 0), rows.keys(), live)
    return sorted(found, key=lambda one: one.at)


def _touches(
    row: ProcessRow, records: Sequence[AnyRecord], length: int, within: Container[str], live: Process | None
) -> Iterator[Touch]:
    begun = {record.effect: record for record in records if type(record) is Started}
    ended = {record.effect for record in records if type(record) is Outcome}
    for record in records[length:]:
        if type(record) is Outcome and (of := _class(record, begun, within)) is not None:
            ok = None if of == "unknown" else record.ok
            yield _touch(row, record, of, ok)
    for effect, started in begun.items():
        if effect not in ended and started.kind == "step" and started.impact != "none":
            yield _touch(row, started, "unknown", None)
    for pending in () if live is None else live.pending.values():
        if pending.kind == "step" and pending.started and pending.impact != "none" and pending.number not in begun:
            yield Touch(
                of="unknown", process=row.id, workflow=row.workflow, effect=pending.number, kind="step",
                name=pending.name, place=pending.place, at=pending.started, ok=None, args=pending.args,
            )  # fmt: skip


def _touch(row: ProcessRow, record: Outcome | Started, of: Class, ok: bool | None) -> Touch:
    return Touch(
        of=of, process=row.id, workflow=row.workflow, effect=record.effect, kind=record.kind, name=record.name,
        place=record.place, at=record.at, ok=ok, args=record.args,
    )  # fmt: skip


def _class(record: Outcome, begun: Mapping[int, Started], within: Container[str]) -> Class | None:
    """None: nothing of it is left outside. `within`: processes of the subtree, whose mail is no effect outside."""
    if record.kind == "send":
        return None if isinstance(record.args, bytes) and _raw(record.args)[0] in within else "irreversible"
    if record.kind == "publish":
        return "repeatable"
    if record.kind != "step" or record.impact == "none":
        return None
    error = None if record.ok or not isinstance(record.value, bytes) else decode(record.value)
    if isinstance(error, UnknownOutcome):
        return "unknown"
    if not record.started:  # it did not begin since its process was taken in, but perhaps before
        refused = isinstance(error, Denied | BudgetExceeded)
        return "unknown" if record.effect in begun and not refused else None
    return record.impact if record.impact in CLASSES else "unknown"


_raw = msgspec.msgpack.Decoder().decode
