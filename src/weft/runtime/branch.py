"""A fork of a process and all below it, in the making: everything is read and renamed, then written at once.

Its processes have new ids, so the old ones are replaced wherever they stand, in arguments as in payloads: on replay the
bodies see their own. What is approved or released once, and orders from outside (pause, kill), stay with the origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from weft.core.capability import Capability
from weft.core.codec import decode, encode
from weft.core.errors import RunBusy, UnknownCheckpoint
from weft.core.image import encode_image, image_hash
from weft.core.record import (
    AnyRecord,
    Approved,
    Blob,
    Fork,
    Granted,
    Outcome,
    Released,
    Started,
    Value,
    content_hash,
    from_column,
    to_column,
)
from weft.core.rename import Names, fresh
from weft.runtime.cut import Cut, Place
from weft.runtime.heritage import Heritage, inherited
from weft.runtime.mail import RELEASE_BOX, SIGNAL_BOX
from weft.runtime.people import box
from weft.store.base import ARRIVING, ENDED, FINISHED, MOVED, QUEUED, RUNNING, WAITING, Batch, Checkpoint, ProcessRow
from weft.store.handover import gone

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

PAGE = 200
"""Journals read at once."""


class Branch:
    def __init__(self, runtime: Runtime, checkpoint: Checkpoint, cut: Cut) -> None:
        self.runtime = runtime
        self.checkpoint = checkpoint
        self.cut = cut
        self.names = Names(fresh(place.id for place in cut.places))
        self.root = self.names.new[checkpoint.process]
        self.heritage = Heritage(self.names, checkpoint.process, cut.accounts)
        self.rows: dict[str, ProcessRow] = {}
        self._journals: dict[str, list[AnyRecord]] = {}
        self._batch = Batch()
        self._payloads: dict[bytes, Blob] = {}
        """Large values that were read: old hash -> as the fork has it."""

    async def read(self) -> None:
        """Everything but what others may be changing. Raises UnknownCheckpoint if something of it was deleted."""
        store = self.runtime.store
        for at in range(0, len(self.cut.places), PAGE):
            places = self.cut.places[at : at + PAGE]
            ids = [place.id for place in places]
            rows = {row.id: row for row in await store.rows(ids=ids, limit=len(ids))}
            journals: dict[str, list[Any]] = {id: [] for id in ids}
            for segment in await store.segments(ids):
                journals[segment.process].append(segment)
            for place in places:
                row = self._present(rows.get(place.id), place)
                records = self.runtime.recovery.decoded(place.id, journals[place.id])
                await self._process(place, row, records)
                await asyncio.sleep(0)  # others want their turn
        await self._mail()

    def write(self, parent: str | None = None) -> None:
        """Put all of it into what is written next. `parent`: whose child its uppermost process is, if it is one."""
        now, journal = self.runtime.clock(), self.runtime.journal
        self.rows[self.root].parent = parent
        for id, row in self.rows.items():
            row.created = row.updated = now
            journal.opened(row)
            for number, record in enumerate(self._journals[id]):
                journal.append(id, number, record)
            journal.row(row)
            self.runtime.recovery.gone(id)
        ours, open = self._batch, journal.batch
        open.payloads |= ours.payloads
        open.images |= ours.images
        open.references |= ours.references
        open.messages += ours.messages
        open.events += ours.events
        open.waits |= ours.waits
        open.questions |= ours.questions
        open.accounts |= self.heritage.opened
        self.runtime.kick()

    # --- processes ---------------------------------------------------------------------------------------

    def _present(self, row: ProcessRow | None, place: Place) -> ProcessRow:
        if row is None:
            raise UnknownCheckpoint(f"run {place.id}, which is part of checkpoint {self.checkpoint.id}, was deleted")
        if MOVED in (row.state, place.state):
            raise gone(row)
        if ARRIVING in (row.state, place.state):
            raise RunBusy(f"run {row.id} is being moved here; fork checkpoint {self.checkpoint.id} when it is there")
        return row

    async def _process(self, place: Place, row: ProcessRow, records: list[AnyRecord]) -> None:
        id = self.names.new[row.id]
        over = place.state in FINISHED
        image = await self.runtime.rights.image(row.image)
        new = self.heritage.uppermost(image) if id == self.root else self.heritage.image(image, row.id)
        data = encode_image(new)
        self._batch.images[image_hash(data)] = data
        journal = [record async for record in self._journal(row, len(image.capabilities), records[: place.length])]
        if id == self.root and self.checkpoint.effect:
            made = (r for r in records[place.length :] if type(r) is Outcome and r.effect == self.checkpoint.effect)
            journal += [await self._renamed(record, id) for record in made]
        if journal and not over:
            journal.append(Fork(max(self.runtime.clock(), journal[-1].at), row.id))
        self._journals[id] = journal
        columns = {name: await self._column(getattr(row, name), id) for name in ("input", "result", "error")}
        if not over:
            columns |= {"result": None, "error": None}
        self.rows[id] = replace(
            row, id=id, parent=None if row.parent is None else self.names.exactly(row.parent),
            forked=f"{row.id}@{self.checkpoint.id}", key=None, state=self._state(place, row), started=place.started,
            wake_at=place.wake_at, owner=None, strikes=0, length=len(journal), image=image_hash(data), **columns,
        )  # fmt: skip

    def _state(self, place: Place, row: ProcessRow) -> str:
        if place.state in (RUNNING, WAITING) and row.queue is not None:
            return QUEUED  # its queue has to let it in, beside its origin
        return place.state

    async def _column(self, column: bytes | None, process: str) -> bytes | None:
        return to_column(await self._value(from_column(column), process)) if column is not None else None

    # --- journals ----------------------------------------------------------------------------------------

    async def _journal(self, row: ProcessRow, held: int, records: Sequence[AnyRecord]) -> AsyncIterator[AnyRecord]:
        """The records as the fork has them. `held`: how many capabilities it began with."""
        id, holder, granted = self.names.new[row.id], row.id, 0
        done = {record.effect for record in records if type(record) is Outcome}
        for record in records:
            if type(record) is Approved and record.effect not in done:
                continue  # what was allowed once is not allowed twice
            if type(record) is Released:
                yield replace(record, value=b"")  # it keeps its number, and is for nothing here
            elif type(record) is Granted:
                one = inherited(_capability(record.spec), holder, held + granted, self.names)
                granted += 1
                yield replace(record, spec=msgspec.msgpack.encode(one))
            elif type(record) is Outcome and record.kind == "exec" and record.ok:
                hash, now = decode(record.value)  # type: ignore[arg-type]
                image = await self.runtime.rights.image(hash, carried=True)
                if now != holder:
                    holder, held, granted = now, len(image.capabilities), 0
                carried = self._carried(encode_image(self.heritage.image(image, now)), id)
                value = encode((carried, self.names.exactly(now)))
                yield replace(await self._renamed(record, id), value=value)
            else:
                yield await self._renamed(record, id)

    def _carried(self, image: bytes, process: str) -> bytes:
        hash = content_hash(image)
        self._batch.payloads[hash] = image
        self._batch.references.add((process, hash))
        return hash

    async def _renamed(self, record: AnyRecord, process: str) -> AnyRecord:
        changes: dict[str, Any] = {}
        for field in ("args", "value", "error"):
            before = getattr(record, field, None)
            if before is not None and (after := await self._value(before, process)) is not before:
                changes[field] = after
        for field in ("name", "resource", "reason"):
            word: str = getattr(record, field, "")
            if (text := self.names.text(word)) is not word:
                changes[field] = text
        if self.names.chosen and isinstance(record, Outcome | Started):
            changes |= self._chosen(record)
        return replace(record, **changes) if changes else record

    def _chosen(self, record: Outcome | Started) -> dict[str, Any]:
        """Where an id must stand that a program chose itself."""
        match record:
            case Outcome(kind="spawn" | "detach", ok=True, value=bytes(value)):
                return {"value": encode(self.names.exactly(decode(value)))}
            case Outcome(kind="child") | Started(kind="child"):
                id = self.names.exactly(record.name)
                return {"name": id, "args": _encode([id])}
            case Outcome(kind="cancel"):
                return {"name": self.names.exactly(record.name)}
            case Outcome(kind="send", args=bytes(args)) | Started(kind="send", args=bytes(args)):
                to, letter = _decode(args)
                return {"args": _encode([self.names.exactly(to), letter])} if to in self.names.chosen else {}
        return {}

    async def _value(self, value: Value, process: str) -> Value:
        if isinstance(value, bytes):
            return self.names.data(value)
        known = self._payloads.get(value.hash)
        if known is None:
            data = await self.runtime.store.payload(value.hash)
            changed = self.names.data(data)
            known = value if changed is data else Blob(content_hash(changed), len(changed))
            if changed is not data:
                self._batch.payloads[known.hash] = changed
            self._payloads[value.hash] = known
        self._batch.references.add((process, known.hash))
        return value if known == value else known

    # --- what is between processes -----------------------------------------------------------------------

    async def _mail(self) -> None:
        cut, names = self.cut, self.names
        approvals = {(q.process, box(int(q.id.rpartition(":")[2]))) for q in cut.questions if q.kind != "question"}
        for letter in cut.letters:
            if letter.box not in (SIGNAL_BOX, RELEASE_BOX) and (letter.process, letter.box) not in approvals:
                new = replace(letter, id=0, process=names.new[letter.process], payload=names.data(letter.payload))
                self._batch.messages.append(new)
        for question in cut.questions:
            process = names.new[question.process]
            id = f"{process}:{question.id.rpartition(':')[2]}"
            self._batch.questions[id] = replace(question, id=id, process=process, body=names.data(question.body))
        for id, keys in cut.waits.items():
            if self.rows[names.new[id]].state == WAITING:
                self._batch.waits[names.new[id]] = [self._key(key) for key in keys]
        self._batch.events = [event async for event in self._events()]

    def _key(self, key: str) -> str:
        return ENDED + self.names.exactly(key.removeprefix(ENDED)) if key.startswith(ENDED) else self.names.text(key)

    async def _events(self) -> AsyncIterator[tuple[str, bytes, str]]:
        """Those with an id in their key are the fork's own; the others it shares, unless they are gone."""
        there = await self.runtime.store.events([key for key, _, _ in self.cut.events])
        for key, value, process in self.cut.events:
            new = self.names.text(key)
            if new != key or key not in there:
                yield new, self.names.data(value), self.names.new[process]


_capability = msgspec.msgpack.Decoder(Capability).decode
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode
