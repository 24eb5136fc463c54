"""What is said between a program and the child process that has the model: frames of msgpack on a socket.

A frame is four bytes of length, then one value. Each order gets one answer: (0, what it gave), (1, why it was refused)
or (2, why it did not fit). The first order is `Settings`, and its answer a `Hello`, or (3, why the library is none that
we know).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec

from weft.model.engine.protocol import Sampling, Want

DONE, REFUSED, FULL, UNFIT = 0, 1, 2, 3


class Settings(msgspec.Struct, frozen=True):
    """How to open a model."""

    path: str
    cells: int
    sequences: int
    unified: bool
    """All sequences in one buffer, so that they can share cells; else each has its own."""
    batch: int
    """The most tokens in one call of the library."""
    chunk: int
    """The most tokens that are computed together."""
    kind: str
    """The type that keys and values are kept in."""
    threads: int


class Hello(msgspec.Struct, frozen=True):
    """What the child says of the model that it opened."""

    description: str
    cells: int
    room: int
    """The most tokens in one sequence."""
    vocabulary: int
    begin: int | None
    template: str
    bos: str
    eos: str
    """How chat templates write the tokens that begin and end a text; empty if there is none."""


class Words(msgspec.Struct, frozen=True):
    """What the tokens are."""

    pieces: list[bytes]
    ends: list[int]
    controls: list[int]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A feed: see `weft.model.engine.protocol.Feed`."""

    sequence: int
    start: int
    tokens: list[int]
    want: Want
    sample: Sampling | None
    allow: bytes | None
    likely: int
    logits: bool
    bias: dict[int, float] | None = None


class Step(msgspec.Struct, frozen=True, tag=True):
    parts: list[Part]


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    text: bytes
    special: bool


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Asks for `Words`."""


class Remove(msgspec.Struct, frozen=True, tag=True):
    sequence: int
    start: int
    end: int


class Copy(msgspec.Struct, frozen=True, tag=True):
    """Cells of one sequence to several others."""

    source: int
    targets: list[int]
    start: int
    end: int


class Publish(msgspec.Struct, frozen=True, tag=True):
    """The source's own cell at its last position to others."""

    source: int
    row: int
    targets: list[int]


class Cut(msgspec.Struct, frozen=True, tag=True):
    """Drop a span, and move up what follows."""

    sequence: int
    start: int
    end: int


class Save(msgspec.Struct, frozen=True, tag=True):
    sequence: int


class Load(msgspec.Struct, frozen=True, tag=True):
    sequence: int
    state: bytes


Order = Step | Tokenize | Tell | Remove | Copy | Publish | Cut | Save | Load


def send(line: socket.socket, value: Any) -> None:
    """Write one frame."""
    body = msgspec.msgpack.encode(value)
    line.sendall(struct.pack("<I", len(body)))
    line.sendall(body)


def receive(line: socket.socket) -> bytearray:
    """Read one frame. Raises EOFError when the other side is gone."""
    (length,) = struct.unpack("<I", _exactly(line, 4))
    return _exactly(line, length)


def _exactly(line: socket.socket, length: int) -> bytearray:
    found = bytearray(length)
    view = memoryview(found)
    while view:
        count = line.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return found
