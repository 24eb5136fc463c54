"""A cut through a process and all below it: what the store has of them at one moment.

The store at the end of any transaction is what a crash there would have left, so whoever goes on from a cut goes on as
after a crash. Journals are not in it, only their lengths.
"""

from __future__ import annotations

import msgspec

from weft.store.base import Batch, Message, ProcessRow, Question
from weft.store.ledger import Account


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one process stood. `length`: records that its journal had."""

    id: str
    state: str
    length: int
    started: float = 0.0
    wake_at: float | None = None


class Cut(msgspec.Struct, frozen=True, omit_defaults=True):
    """`places`: the uppermost process first. Letters that were not received, events that they had published, what the
    parked ones waited for, open questions, and the accounts that bounded them."""

    places: list[Place]
    letters: list[Message] = []
    events: list[tuple[str, bytes, str]] = []
    waits: dict[str, list[str]] = {}
    questions: list[Question] = []
    accounts: list[Account] = []


encode_cut = msgspec.msgpack.Encoder().encode
decode_cut = msgspec.msgpack.Decoder(Cut).decode


def cut_through(found: Batch) -> Cut:
    """`found`: what `Store.subtree` gave."""
    return Cut(
        places=[_place(row) for row in found.rows.values()],
        letters=found.messages,
        events=found.events,
        waits=found.waits,
        questions=list(found.questions.values()),
        accounts=list(found.accounts.values()),
    )


def _place(row: ProcessRow) -> Place:
    return Place(row.id, row.state, row.length, row.started, row.wake_at)
