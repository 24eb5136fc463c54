"""A sequence as bytes: its tokens, positions, and the state of its cells, sealed by a hash.

The library takes a state at its word, and ends the process at one that it cannot read; so what is not, byte for byte,
what an engine with the same model and settings gave is refused before it gets there.
"""

from __future__ import annotations

import hashlib

import msgspec

from weft.core.errors import BadInput

_MAGIC = b"weft-kv1"


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """What was saved."""

    kind: str
    """The model and the way that cells are kept."""
    label: str
    tokens: list[int]
    positions: list[int]
    state: bytes


def pack(saved: Saved) -> bytes:
    body = msgspec.msgpack.encode(saved)
    return _MAGIC + hashlib.blake2b(body, digest_size=16).digest() + body


def unpack(data: bytes, kind: str) -> Saved:
    """What was packed. Raises BadInput for anything else, or for another kind of engine."""
    head = len(_MAGIC) + 16
    if (
        data[: len(_MAGIC)] != _MAGIC
        or hashlib.blake2b(data[head:], digest_size=16).digest() != data[len(_MAGIC) : head]
    ):
        raise BadInput("these bytes are no saved sequence, or were changed since; save it again")
    saved = msgspec.msgpack.decode(data[head:], type=Saved)
    if saved.kind != kind:
        raise BadInput(
            "this sequence was saved by an engine with another model or other settings; open it as it was then"
        )
    return saved
