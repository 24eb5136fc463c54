"""Audit: is every journal as it was written, and who decided what by which right?

A decision stands in the journal of the process that it was about: `Outcome.by` for effects that a right allows on every
resource, `Decision` for the others. The lineage of the deciding capability is in the image of the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from weft.core.capability import Capability
from weft.core.errors import StoreCorrupt
from weft.core.image import Image, decode_image, image_hash
from weft.core.record import AnyRecord, Approved, Decision, Granted, Outcome, decode_records
from weft.store.base import ProcessRow, Segment, Store
from weft.store.links import audit_key, flaw

PAGE = 200
"""Journals read at once."""


class Flaw(NamedTuple):
    """A journal that is not what was written."""

    process: str
    what: str


class Judgement(NamedTuple):
    """One decision. `by`: `RUN#number` of each capability in the lineage of the one that decided, the first first."""

    process: str
    effect: int
    at: float
    action: str
    resource: str
    verdict: str
    by: tuple[str, ...]
    issuer: str


async def verify(store: Store, ids: Sequence[str] | None = None) -> AsyncIterator[tuple[int, list[Flaw]]]:
    """Check journals: those of `ids`, or all. Yields after each page how many were checked and what is wrong."""
    key = audit_key()
    async for rows in _pages(store, ids):
        segments: dict[str, list[Segment]] = {row.id: [] for row in rows}
        for segment in await store.segments(list(segments)):
            segments[segment.process].append(segment)
        flaws = [Flaw(row.id, what) for row in rows if (what := flaw(row, segments[row.id], key)) is not None]
        for row in rows:
            if row.image and (what := await _image_flaw(store, row)) is not None:
                flaws.append(Flaw(row.id, what))
        yield len(rows), flaws


async def _pages(store: Store, ids: Sequence[str] | None) -> AsyncIterator[list[ProcessRow]]:
    if ids is not None:
        for at in range(0, len(ids), PAGE):
            found = [await store.row(id) for id in ids[at : at + PAGE]]
            yield [row for row in found if row is not None]
        return
    async for batch in store.everything():
        rows = list(batch.rows.values())
        for at in range(0, len(rows), PAGE):
            yield rows[at : at + PAGE]


async def _image_flaw(store: Store, row: ProcessRow) -> str | None:
    try:
        data = await store.image(row.image)
    except StoreCorrupt as error:  # a store that does not answer says nothing of the journal
        return f"its image can't be read: {error}"
    return None if image_hash(data) == row.image else "its image, which says what rights it began with, was changed"


async def judgements(store: Store, id: str) -> list[Judgement]:
    """All that was decided about the effects of a process, in the order in which it was written down."""
    row = await store.row(id)
    if row is None:
        return []
    image = decode_image(await store.image(row.image)) if row.image else None
    records = [r for segment in await store.segments([id]) for r in decode_records(segment.records)]
    return list(_judged(id, image, records))


def _judged(id: str, image: Image | None, records: Sequence[AnyRecord]) -> list[Judgement]:
    held: list[Capability] = list(image.capabilities) if image is not None else []
    found = []
    for record in records:
        if type(record) is Granted:
            held.append(msgspec.msgpack.decode(record.spec, type=Capability))
        elif type(record) is Decision:
            by, issuer = _lineage(id, held, record.by)
            found.append(
                Judgement(id, record.effect, record.at, record.action, record.resource, record.verdict, by, issuer)
            )
        elif type(record) is Approved:
            found.append(Judgement(id, record.effect, record.at, "approval", "", record.verdict, (), record.who))
        elif type(record) is Outcome and record.by:
            by, issuer = _lineage(id, held, record.by[0])
            found.append(Judgement(id, record.effect, record.at, record.kind, record.name, "allow", by, issuer))
    return found


def _lineage(id: str, held: Sequence[Capability], number: int | None) -> tuple[tuple[str, ...], str]:
    if number is None or number >= len(held):
        return (), ""
    one = held[number]
    return tuple(f"{process}#{n}" for process, n in (*one.lineage, (id, number))), one.issuer
