"""All that belongs to a process as one number: the same in whatever store it lies, and whoever owns it.

The number covers its row, its records, its letters in their order, what it waits for, its questions, what bounds it,
and its payloads by their content hashes; `Payloads` tells whether a store really holds the contents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from weft.core.errors import StoreCorrupt
from weft.core.record import AnyRecord, Blob, content_hash, decode_records, from_column
from weft.store.base import ARRIVING, Batch, Checkpoint, Message, ProcessRow, Question, Revocation, Segment, Store
from weft.store.handover import arrival, arrived
from weft.store.ledger import Account, Charge

_pack = msgspec.msgpack.encode


class Content(msgspec.Struct):
    """One process, as a store holds it. For one that is arriving, `row` is what it will be."""

    row: ProcessRow
    state: str
    """Of the row in the store."""
    token: str = ""
    """Of the copy that is bringing it."""
    segments: list[Segment] = []
    letters: list[Message] = []
    waits: list[str] = []
    events: list[tuple[str, bytes, str]] = []
    questions: list[Question] = []
    revocations: list[Revocation] = []
    checkpoints: list[Checkpoint] = []
    account: Account | None = None
    charges: list[Charge] = []
    payloads: list[bytes] = []
    """Hashes of those it needs, sorted."""
    fault: str = ""
    """What is wrong with it."""
    digest: bytes = b""

    @property
    def bounds(self) -> bool:
        """Whether it has a say in what other processes may do."""
        return bool(self.account or self.revocations or any(not charge.settled for charge in self.charges))


def contents(batch: Batch) -> dict[str, Content]:
    """The processes of what `Store.about` gave, by id."""
    found = {id: _begun(row) for id, row in batch.rows.items()}
    for segment in batch.segments:
        found[segment.process].segments.append(segment)
    for letter in batch.messages:
        found[letter.process].letters.append(letter)
    for event in batch.events:
        found[event[2]].events.append(event)
    for id, keys in batch.waits.items():
        found[id].waits = sorted(keys)
    for question in batch.questions.values():
        found[question.process].questions.append(question)
    for charge in batch.charges.values():
        found[charge.process].charges.append(charge)
    for revocation in batch.revocations:
        if revocation.process in found:  # else it is a deleted ancestor's
            found[revocation.process].revocations.append(revocation)
    for checkpoint in batch.checkpoints.values():
        found[checkpoint.process].checkpoints.append(checkpoint)
    for id, account in batch.accounts.items():
        if id in found:
            found[id].account = account
    _finish(found, batch.references)
    return found


class Payloads:
    """Those of one store. Each is looked at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sound: dict[bytes, bool] = {}

    async def has(self, hashes: Iterable[bytes]) -> bool:
        """Whether the store has all of these, with the contents that they are named by."""
        return all([await self._has(hash) for hash in hashes])

    async def _has(self, hash: bytes) -> bool:
        if hash not in self._sound:
            try:
                self._sound[hash] = content_hash(await self.store.payload(hash)) == hash
            except StoreCorrupt:
                self._sound[hash] = False
        return self._sound[hash]


def _begun(row: ProcessRow) -> Content:
    return Content(arrived(row), row.state, arrival(row).token if row.state == ARRIVING else "")


def _finish(found: dict[str, Content], references: Iterable[tuple[str, bytes]]) -> None:
    needed: dict[str, set[bytes]] = {id: set() for id in found}
    for id, hash in references:
        needed[id].add(hash)
    for id, content in found.items():
        try:
            needed[id].update(_named(content))
        except (msgspec.MsgspecError, StoreCorrupt) as error:
            content.fault = str(error)
        content.payloads = sorted(needed[id])
        content.digest = _digest(content)


def _digest(content: Content) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    parts = (
        astuple(replace(content.row, owner=None)),
        content.payloads,
        [(letter.box, letter.payload) for letter in content.letters],
        content.waits,
        sorted(astuple(question) for question in content.questions),
        sorted((one.number, one.at, one.by) for one in content.revocations),
        sorted(astuple(checkpoint) for checkpoint in content.checkpoints),
        None if content.account is None else _balances(content.account),
        sorted((one.key, one.account, sorted(one.amounts.items()), one.settled) for one in content.charges),
        len(content.segments),
    )
    total.update(_pack(parts))
    for segment in content.segments:
        total.update(_pack((segment.first, segment.chain, len(segment.records))))
        total.update(segment.records)
    return total.digest()


def _balances(account: Account) -> tuple[Any, ...]:
    sums = ({kind: amount for kind, amount in each.items() if amount} for each in (account.spent, account.reserved))
    return (account.parent, sorted(account.limits.items()), *(sorted(each.items()) for each in sums))


def _named(content: Content) -> set[bytes]:
    """The payloads that its row and its records name. Raises for a journal that can't be read or has a hole."""
    row = content.row
    named = _hashes(from_column(column) for column in (row.input, row.result, row.error) if column)
    count = 0
    for segment in content.segments:
        if segment.first != count:
            raise StoreCorrupt(f"records from number {count} on are missing")
        records = decode_records(segment.records)
        count += len(records)
        named.update(*map(_in_record, records))
    if count < row.length:
        raise StoreCorrupt(f"it has {count} records of {row.length}")
    return named


def _in_record(record: AnyRecord) -> set[bytes]:
    return _hashes(getattr(record, name) for name in record.__struct_fields__)


def _hashes(values: Iterable[Any]) -> set[bytes]:
    return {value.hash for value in values if type(value) is Blob}
