"""What a journal holds: one record per thing that became known to a run, in the order it reached the program.

Records are msgpack arrays (`array_like`): compact, and open to new fields at the end. A value is codec bytes,
or a `Blob` that names a payload stored once by content hash.
"""

from __future__ import annotations

import hashlib

import msgspec

from weft.core.label import Label
from weft.core.resources import Usage

BLOB_OVER = 16 * 1024
"""Values larger than this many bytes are stored once, by content hash."""


class Blob(msgspec.Struct, array_like=True, frozen=True):
    hash: bytes
    size: int


Value = bytes | Blob


_MARK = b"\xc1"  # a byte that no msgpack begins with


def length_of(records: bytes) -> int:
    """How many records these encoded ones are; the first 5 bytes will do."""
    match records[0]:
        case 0xDC:
            return int.from_bytes(records[1:3], "big")
        case 0xDD:
            return int.from_bytes(records[1:5], "big")
        case head:
            return head & 0x0F


def to_column(value: Value) -> bytes:
    """A value as a process row holds it: the bytes themselves, or the name of a payload."""
    return _MARK + msgspec.msgpack.encode(value) if isinstance(value, Blob) else value


def from_column(data: bytes) -> Value:
    return msgspec.msgpack.decode(data[1:], type=Blob) if data[:1] == _MARK else data


def content_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def hashed(data: bytes) -> Value:
    """`data`, or its name if it is large."""
    return data if len(data) <= BLOB_OVER else Blob(content_hash(data), len(data))


class Record(msgspec.Struct, array_like=True, tag_field="t", kw_only=False):
    """Base of all records. `at`: when it was appended, seconds since the epoch, never decreasing within a run."""

    at: float


class Outcome(Record, tag="o"):
    """An effect's result reached the program."""

    effect: int
    """Number of the effect, in the order the body issued them, from 1."""
    kind: str
    """step, sleep, timer, spawn, child, publish, event, send, receive, now, random, uuid."""
    name: str
    place: str
    """`file:line` of the body that issued it."""
    args: Value
    value: Value
    ok: bool = True
    """False: `value` is an encoded exception."""
    started: float = 0.0
    attempts: int = 1
    by: tuple[int, ...] = ()
    """Numbers of the capabilities of this process that allowed or refused it."""
    label: Label | None = None
    """What the program carries from here on besides what it carried before; None: nothing more."""
    impact: str = ""
    """What a step leaves behind outside (`weft.core.step.Impact`); empty for other kinds."""
    operation: int = 0
    """Of a step: number of the effect that began the operation on shared memory that it is part of."""
    turn: int = 0
    """Place of its effects among those of the operation, in the order in which they took place, from 1."""
    usage: Usage | None = None
    """Of a step: what the commands that it started took of the machine; None: it started none in a group."""
    role: str = ""
    """Of a step, what it is for who reads the run: tool, generation, or nothing more (`Step.role`)."""
    issued: float = 0.0
    """When the body issued it, by the body's clock: `at` of the last outcome that the body had seen by then."""
    line: tuple[int, ...] = ()
    """The line of control that issued it, an asyncio task of the body: its number in the order in which they were
    started (the body itself is 1), after those of the tasks around it. Empty: not told, as in journals of an older
    Weft and for timers."""
    after: int = 0
    """Number of the effect that was issued before it in the same line; of the first in a line: the last one that
    whoever started the line had issued by then. 0: none."""
    begun: float | None = None
    """Of the first effect in a line that the body started: when it did that, by its clock."""
    spent: dict[str, float] | None = None
    """Of a step: what it said that it spent (`weft.charge`), by kind; None: it said nothing."""


class Started(Record, tag="s"):
    """An effect is in flight: written before an at-most-once step starts, and for any that takes long."""

    effect: int
    kind: str
    name: str
    place: str
    args: Value
    intent: bool = False
    """True if this was durable before the effect began."""
    impact: str = ""
    role: str = ""
    issued: float = 0.0
    line: tuple[int, ...] = ()
    after: int = 0
    begun: float | None = None
    """These as in Outcome."""


class Attempt(Record, tag="a"):
    """An attempt of a step failed and will be repeated at `again` (seconds since the epoch)."""

    effect: int
    name: str
    attempt: int
    error: Value
    again: float


class Decision(Record, tag="d"):
    """What was decided about a request: one that was refused, or made in the middle of a step."""

    effect: int
    action: str
    resource: str
    verdict: str
    """allow, ask or deny."""
    by: int | None = None
    """Number of the capability that decided; None: there was none."""
    label: str = ""
    """What it would have carried out, where that is why it was refused; what it did carry, where that was allowed."""


class Reserved(Record, tag="r"):
    """Uses of limited capabilities, and releases, that were set apart for an effect before it began."""

    effect: int
    uses: tuple[int, ...]
    """Number of each capability, once for a use; -1 for the first release of the process, -2 for the second ..."""


class Granted(Record, tag="g"):
    """The process holds one more capability, by the word of a person."""

    spec: bytes
    """The capability, encoded."""


class Approved(Record, tag="y"):
    """A person decided about an effect. `binding`: digest of the arguments and the code that were shown."""

    effect: int
    binding: bytes
    verdict: str
    """once, always or never."""
    who: str = ""


class Released(Record, tag="l"):
    """One value may go once where its label may not: by the word of a person, or of the host's code."""

    value: bytes
    """Digest of what would be done: by which code, with which arguments."""
    action: str
    resource: str
    label: str
    """The most that it may carry."""
    who: str = ""


class Probed(Record, tag="b"):
    """What a probe saw of an attempt of a step: an observation, which no replay asks for."""

    effect: int
    name: str
    """The step's."""
    attempt: int
    probe: str
    """As it was asked for."""
    value: Value
    """A table: `columns`, `rows`, `of` (a file or module), `left_out` (rows), `note`."""


class Cancel(Record, tag="c"):
    """Cancellation reached the body."""

    reason: str = ""
    label: Label | None = None
    """As in `Outcome`."""


class Patch(Record, tag="p"):
    """The body chose the new side of `patched(id)`."""

    id: str


class Fork(Record, tag="f"):
    """Everything before this came from another run; `checked` False: its input was changed. `replaced`: effect
    whose outcome was given by hand."""

    origin: str
    checked: bool = True
    replaced: int = 0


class End(Record, tag="e"):
    """The body is over. `state`: done, failed, cancelled."""

    state: str
    value: Value


Aside = Started | Attempt | Decision | Reserved | Granted | Approved | Released | Probed
"""Records that are no part of the order in which outcomes reached the program."""
AnyRecord = Outcome | Aside | Cancel | Patch | Fork | End

encode_records = msgspec.msgpack.Encoder().encode
decode_records = msgspec.msgpack.Decoder(list[AnyRecord]).decode
