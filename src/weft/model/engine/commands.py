"""Commands in what a model writes, and whether the stream that they stand in may give them.

    <tool_call>{"name": "search", "arguments": {"query": "weft"}}</tool_call>

A `Reader` reads one stream. It is fed the tokens that the model drew there and nothing else, so text that was read from
elsewhere can neither be a command nor complete one. What a command may do is a matter of the stream it stands in: its
rights are checked when it is carried out, and within a workflow everything that follows from it is held to them.

    await carry_out(declared, command, call)      # Denied, or what call(name, arguments) gives
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from weft.core.authority import Authority
from weft.core.boundary import boundary
from weft.core.capability import Capability, Request, parse
from weft.core.errors import BadInput, Denied
from weft.runtime.narrow import grant

if TYPE_CHECKING:
    from weft.model.engine.streams import Stream

T = TypeVar("T")
_BEGIN, _END = b"<tool_call>", b"</tool_call>"
LONGEST = 1 << 16
"""Bytes of a command. A longer one is none."""


class Command(msgspec.Struct, frozen=True):
    """A tool that the model wants called. `arguments`: the text itself where the model wrote no JSON object."""

    stream: str
    name: str
    arguments: dict[str, Any] | str = {}


class Reader:
    """Finds the commands of one stream, as its bytes come."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self._bytes = b""

    def read(self, more: bytes) -> list[Command]:
        """The commands that end within `more`."""
        self._bytes += more
        found: list[Command] = []
        while (end := self._bytes.find(_END)) >= 0:
            text, self._bytes = self._bytes[:end], self._bytes[end + len(_END) :]
            _, begun, body = text.rpartition(_BEGIN)
            if begun and len(body) <= LONGEST:
                found += _command(self.stream, body)
        if len(self._bytes) > LONGEST + len(_BEGIN) + len(_END):
            begin = self._bytes.rfind(_BEGIN)
            keep = len(self._bytes) - begin <= LONGEST if begin >= 0 else False
            self._bytes = self._bytes[begin:] if keep else self._bytes[-len(_BEGIN) :]
        return found


def _command(stream: str, body: bytes) -> Iterable[Command]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if isinstance(said, dict) and isinstance(said.get("name"), str) and said["name"]:
        arguments = said.get("arguments", {})
        yield Command(stream, said["name"], arguments if isinstance(arguments, dict) else str(arguments))


def held(rights: Iterable[str]) -> Authority:
    """What these rights allow. Raises BadInput for one that is wrong."""
    return Authority("stream", [_right(spec) for spec in rights])


def _right(spec: str) -> Capability:
    right = parse(spec, workspace=os.path.realpath(os.curdir), issuer="stream", now=0.0)
    if right.uses is not None or right.expires is not None:
        raise BadInput(
            f"{spec!r}: the rights of a stream last as long as it does; give them without uses= and expires="
        )
    return right


def authorise(streams: Iterable[Stream], command: Command) -> tuple[str, ...]:
    """The rights that a command has: those of its stream. Raises Denied for one that they do not allow."""
    stream = next((each for each in streams if each.name == command.stream), None)
    if stream is None:
        raise BadInput(f"the command {command.name!r} is of a stream {command.stream!r}, and there is none")
    where = f"the stream {stream.name!r}"
    if not stream.writes:
        raise Denied("tool.call", command.name, f"{where} is read; what stands in it is no command")
    if held(stream.rights).decide(Request("tool.call", command.name), now=0.0).verdict != "allow":
        fix = f"give it the right: Stream({stream.name!r}, ..., rights=({f'tool:{command.name}'!r},))"
        raise Denied("tool.call", command.name, f"{where} does not hold the right to it", fix)
    return stream.rights


async def carry_out(
    streams: Iterable[Stream], command: Command, call: Callable[[str, dict[str, Any] | str], Awaitable[T]]
) -> T:
    """`call` the tool of a command, with no more rights than its stream has. Raises Denied."""
    rights = authorise(streams, command)
    with grant(*rights) if boundary() is not None else nullcontext():
        return await call(command.name, command.arguments)
