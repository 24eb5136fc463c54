"""Sealed values: a handle that a body can hold, store and pass on, but not look into.

A step that is given one gets what is in it. A body that wants to see it opens it, and has seen it from then on.

Stored, a handle carries its label and a mark, by which bytes that hold one are told from those that hold none.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec.msgpack import Ext

from weft.core.boundary import boundary, place
from weft.core.errors import BadInput
from weft.core.label import PUBLIC, Label, Sensitivity, join
from weft.core.pack import PACKERS, decode_packed, decode_with, encode_plain, register
from weft.core.plain import from_plain

T = TypeVar("T")

LABELLED, CARRIED = 50, 51
SEAL = b"weft:sealed"
"""In the bytes of every stored handle."""


class Labelled(Generic[T]):
    """A value that carries a label, closed. Equal only to itself, shown without its content. Make one with
    `weft.label`, or call a step or workflow by its `sealed`."""

    __slots__ = ("_value", "label")
    _value: T
    label: Label

    def __init__(self, value: T, label: Label) -> None:
        if isinstance(value, Labelled):
            label |= value.label
            value = value._value
        self._value = value
        self.label = label

    def open(self) -> T:
        """The value. In a workflow's body it is an effect: from here on the process carries the label, and so does all
        that it does. Outside, it is only a look."""
        process = boundary()
        if process is not None:
            process.open(self.label, place())
        return self._value

    def __repr__(self) -> str:
        return f"<labelled {self.label}>"

    def __copy__(self) -> Labelled[T]:
        return self

    def __deepcopy__(self, memo: Any) -> Labelled[T]:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} can't be pickled: it stays closed; give it to a step, or open it")


def label(value: T, sensitivity: Sensitivity = "confidential", tenants: Iterable[str] = ()) -> Labelled[T]:
    """`value` with a label, closed. In a body the label is at least what the process carries already."""
    process = boundary()
    seen = PUBLIC if process is None else process.mark
    return Labelled(value, Label(sensitivity, tuple(tenants) if not isinstance(tenants, str) else (tenants,)) | seen)


async def closed(work: Awaitable[Any]) -> Labelled[Any]:
    """The result of what was called to give a handle, be it an outcome that was put in by hand (`weft fork`)."""
    value = await work
    return value if isinstance(value, Labelled) else Labelled(value, PUBLIC)


class Carried(NamedTuple):
    """What travels between processes: a value, and the label of the process that it came from."""

    value: Any
    label: Label


# --- stored ---------------------------------------------------------------------------------------------------------


class _Opening(threading.local):
    """`labels`: those of the handles met so far, while handles are read as what is in them."""

    labels: list[Label] | None = None


_opening = _Opening()


def _unpack(content: Any) -> Any:
    _, sensitivity, tenants, value = content
    label = Label(sensitivity, tuple(tenants))
    if _opening.labels is None:
        return Labelled(value, label)
    _opening.labels.append(label)
    return value


def _pack(packing: Any, value: Labelled[Any]) -> Ext:
    content = packing.pack(value._value)
    found: Ext = packing.ext(LABELLED, [SEAL, value.label.sensitivity, list(value.label.tenants), content])
    return found


PACKERS[Labelled] = _pack
register(LABELLED, "labelled", _unpack, lambda content: f"<labelled {Label(content[1], tuple(content[2]))}>")
register(CARRIED, "carried", lambda c: Carried(c[2], Label(c[0], tuple(c[1]))), lambda c: c[2])


def opened(data: bytes) -> tuple[Any, Label]:
    """The value that was encoded, with all handles in it opened, and what they carried together."""
    outer, _opening.labels = _opening.labels, []
    try:
        return decode_with(decode_packed, data), join(_opening.labels)
    finally:
        _opening.labels = outer


def opened_args(data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Encoded arguments with all handles in them opened."""
    call, _ = opened(data)
    return (tuple(call), {}) if type(call) is list else (tuple(call["*"]), call["**"])


def held(data: bytes) -> Label:
    """What the handles in an encoded value carry together."""
    return opened(data)[1] if SEAL in data else PUBLIC


def carry(data: bytes, label: Label) -> bytes:
    """An encoded value as it travels to another process."""
    if label is PUBLIC:
        return data
    return encode_plain(Ext(CARRIED, encode_plain([label.sensitivity, label.tenants, msgspec.Raw(data)])))


def carried(data: bytes) -> Carried:
    """What came from another process."""
    found = decode_with(decode_packed, data)
    return found if type(found) is Carried else Carried(found, PUBLIC)


def label_of(data: bytes) -> Label | None:
    """The label of what came from another process, if it carries one. Nothing of the value itself is decoded."""
    outer = msgspec.msgpack.decode(data)
    if type(outer) is not Ext or outer.code != CARRIED:
        return None
    sensitivity, tenants, _ = msgspec.msgpack.decode(outer.data, type=tuple[str, list[str], msgspec.Raw])
    return Label(sensitivity, tuple(tenants))  # type: ignore[arg-type]


def as_type(value: Any, annotation: Any, what: str) -> Any:
    """`value` as this type: itself, or converted from JSON-like data; a handle passes as it is. Raises BadInput, which
    begins with `what` takes such values."""
    if annotation is Any or isinstance(value, Labelled):
        return value
    if isinstance(annotation, type) and isinstance(value, annotation):
        return value
    try:
        return from_plain(value, annotation)
    except BadInput as error:
        raise BadInput(f"{what} {annotation!r}: {error}") from None
