"""WebAssembly's binary form: a module taken apart as far as probes need it, and put together again.

`Module(data)` keeps every section as its bytes and reads types, imports, bodies and names from them. Nothing is
renumbered: what is added (types, globals, tables, exports) is added at the end of its index space.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from weft.core.errors import BadInput
from weft.runtime.probes.opcodes import IMMEDIATES

TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, GLOBALS, EXPORTS, START, CODE, TAGS = 1, 2, 3, 4, 5, 6, 7, 8, 10, 13
_ORDER = {number: place for place, number in enumerate((1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11))}
I32, I64 = 0x7F, 0x7E


def unsigned(value: int) -> bytes:
    """`value` as LEB128."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def signed(value: int) -> bytes:
    """`value` as signed LEB128."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        done = value == (-1 if low & 0x40 else 0)
        out.append(low if done else low | 0x80)
        if done:
            return bytes(out)


class Reader:
    """Reads the parts of the binary form from `data`, from `at` on."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        return self._leb128()[0]

    def whole(self) -> int:
        value, bits = self._leb128()
        return value - (1 << bits) if value >> (bits - 1) else value

    def _leb128(self) -> tuple[int, int]:
        """A number without a sign, and how many bits it was written in."""
        value = bits = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << bits
            bits += 7
            if not byte & 0x80:
                return value, bits
            if bits > 70:
                raise IndexError("a number is too long")

    def name(self) -> str:
        return self.take(self.number()).decode("utf-8", "replace")

    def value_type(self) -> bytes:
        begun = self.at
        if self.byte() in (0x63, 0x64):
            self.whole()
        return self.data[begun : self.at]

    def block_type(self) -> bytes:
        begun = self.at
        first = self.data[self.at]
        if first in (0x63, 0x64):
            return self.value_type()
        self.whole()
        return self.data[begun : self.at]

    def limits(self) -> tuple[int, int]:
        flags, least = self.byte(), self.number()
        if flags & 1:
            self.number()
        if flags & 8:
            self.number()
        return flags, least


@dataclass(slots=True)
class Instruction:
    """`offset` is in bytes from the begin of the body, its local declarations included; `values` are the immediates."""

    offset: int
    code: int
    raw: bytes
    values: list[Any]


@dataclass(slots=True)
class Function:
    """A function with a body: `index` in the index space of functions, its parameters' and its own locals' types."""

    index: int
    params: list[bytes]
    results: list[bytes]
    locals: list[bytes]
    declared: bytes
    instructions: list[Instruction] = field(default_factory=list)


class Module:
    """A module from its bytes. Raises BadInput where the bytes are no module that is understood here."""

    def __init__(self, data: bytes) -> None:
        if data[:8] != b"\0asm\x01\0\0\0":
            raise BadInput("this is no WebAssembly module (it doesn't begin with its magic number and version 1)")
        self.sections: list[tuple[int, bytes]] = []
        self.types: list[tuple[list[bytes], list[bytes]] | None] = []
        self.counts = {"functions": 0, "tables": 0, "memories": 0, "globals": 0}
        self.imported = 0
        self.functions: list[Function] = []
        self.names: dict[int, str] = {}
        self.locals: dict[int, dict[int, str]] = {}
        self.exports: dict[str, tuple[int, int]] = {}
        self.memories: list[tuple[int, int]] = []
        reader = Reader(data, 8)
        try:
            while reader.at < len(data):
                number = reader.byte()
                self.sections.append((number, reader.take(reader.number())))
            self._read()
        except (IndexError, KeyError, struct.error) as error:
            raise BadInput(f"the module can't be decoded near byte {reader.at}: {error!r}") from error

    def section(self, number: int) -> bytes | None:
        return next((content for found, content in self.sections if found == number), None)

    def name(self, function: int) -> str:
        """The function's name from the name section in quotes, or its number."""
        return f'"{self.names[function]}"' if function in self.names else f"#{function}"

    def find(self, name: str) -> Function:
        """The function of this name, export or "#number". Raises BadInput if there is none with a body."""
        index = next((index for index, found in self.names.items() if found == name), None)
        if index is None and name in self.exports and self.exports[name][0] == 0:
            index = self.exports[name][1]
        if index is None and re.fullmatch(r"#?\d+", name):
            index = int(name.removeprefix("#"))
        found = next((function for function in self.functions if function.index == index), None)
        if found is None:
            raise BadInput(f"the module has no function {name!r} with a body")
        return found

    def arities(self, block: bytes) -> tuple[int, int]:
        """How many values a block of this type takes and gives."""
        if block == b"\x40":
            return 0, 0
        if block[0] in (0x63, 0x64) or (known := Reader(block).whole()) < 0:
            return 0, 1
        params, results = self.types[known] or ([], [])
        return len(params), len(results)

    def _read(self) -> None:
        self._read_types()
        self._read_imports()
        signatures = self._numbers(FUNCTIONS)
        self.counts["functions"] += len(signatures)
        for number, key in ((TABLES, "tables"), (GLOBALS, "globals")):
            content = self.section(number)
            self.counts[key] += Reader(content).number() if content else 0
        if content := self.section(MEMORIES):
            reader = Reader(content)
            self.memories += [reader.limits() for _ in range(reader.number())]
        self.counts["memories"] = len(self.memories)
        if content := self.section(EXPORTS):
            reader = Reader(content)
            for _ in range(reader.number()):
                name, kind = reader.name(), reader.byte()
                self.exports[name] = (kind, reader.number())
        if content := self.section(CODE):
            reader = Reader(content)
            for place in range(reader.number()):
                body = reader.take(reader.number())
                self.functions.append(self._function(self.imported + place, signatures[place], body))
        self._read_names()

    def _numbers(self, number: int) -> list[int]:
        reader = Reader(self.section(number) or b"\0")
        return [reader.number() for _ in range(reader.number())]

    def _read_types(self) -> None:
        reader = Reader(self.section(TYPES) or b"\0")
        for _ in range(reader.number()):
            many = 1
            if reader.data[reader.at] == 0x4E:
                reader.byte()
                many = reader.number()
            for _ in range(many):
                self.types.append(_type(reader))

    def _read_imports(self) -> None:
        reader = Reader(self.section(IMPORTS) or b"\0")
        for _ in range(reader.number()):
            reader.name(), reader.name()
            kind = reader.byte()
            if kind == 0:
                reader.number()
                self.imported += 1
            elif kind == 1:
                reader.value_type(), reader.limits()
                self.counts["tables"] += 1
            elif kind == 2:
                self.memories.append(reader.limits())
            elif kind == 3:
                reader.value_type(), reader.byte()
                self.counts["globals"] += 1
            else:
                reader.byte(), reader.number()
        self.counts["functions"] = self.imported

    def _function(self, index: int, signature: int, body: bytes) -> Function:
        known = self.types[signature]
        if known is None:
            raise BadInput(f"function {index} has type {signature}, which is no function type")
        reader = Reader(body)
        own: list[bytes] = []
        for _ in range(reader.number()):
            count, kind = reader.number(), reader.value_type()
            if len(own) + count > 50_000:
                raise BadInput(f"function {index} declares more locals than the 50,000 that are read")
            own += [kind] * count
        function = Function(index, known[0], known[1], own, body[: reader.at])
        while reader.at < len(body):
            function.instructions.append(_instruction(reader))
        return function

    def _read_names(self) -> None:
        for number, content in self.sections:
            reader = Reader(content)
            if number == 0 and reader.name() == "name":
                while reader.at < len(content):
                    part, size = reader.byte(), reader.number()
                    inside = Reader(reader.take(size))
                    if part == 1:
                        self.names = _named(inside)
                    elif part == 2:
                        self.locals = {inside.number(): _named(inside) for _ in range(inside.number())}

    def encode(self, added: dict[int, list[bytes]], bodies: Iterable[bytes], drop: Iterable[int] = ()) -> bytes:
        """The module with these bodies and with `added` entries at the end of the named sections."""
        sections = [(number, content) for number, content in self.sections if number not in drop]
        bodies = list(bodies)
        for number, entries in added.items():
            if not entries:
                continue
            place = next((n for n, (found, _) in enumerate(sections) if found == number), None)
            if place is None:
                place = next(
                    (n for n, (found, _) in enumerate(sections) if found and _ORDER[found] > _ORDER[number]),
                    len(sections),
                )
                sections.insert(place, (number, b"\0"))
            reader = Reader(sections[place][1])
            count = reader.number() + len(entries)
            sections[place] = (number, unsigned(count) + sections[place][1][reader.at :] + b"".join(entries))
        out = bytearray(b"\0asm\x01\0\0\0")
        for number, content in sections:
            if number == CODE:
                content = unsigned(len(bodies)) + b"".join(unsigned(len(body)) + body for body in bodies)
            out += bytes((number,)) + unsigned(len(content)) + content
        return bytes(out)


def _named(reader: Reader) -> dict[int, str]:
    return {reader.number(): reader.name() for _ in range(reader.number())}


def _type(reader: Reader) -> tuple[list[bytes], list[bytes]] | None:
    kind = reader.byte()
    if kind in (0x4F, 0x50):
        for _ in range(reader.number()):
            reader.number()
        kind = reader.byte()
    if kind == 0x60:
        return (
            [reader.value_type() for _ in range(reader.number())],
            [reader.value_type() for _ in range(reader.number())],
        )
    for _ in range(reader.number() if kind == 0x5F else 1):
        reader.value_type(), reader.byte()
    return None


def _instruction(reader: Reader) -> Instruction:
    offset = reader.at
    code = reader.byte()
    if 0xFB <= code <= 0xFE:
        code = code * 0x1000 + reader.number()
    if code not in IMMEDIATES:
        raise BadInput(f"instruction {code:#x} at byte {offset} of a function is not known here")
    values = [_immediate(reader, kind) for kind in IMMEDIATES[code]]
    return Instruction(offset, code, reader.data[offset : reader.at], values)


def _immediate(reader: Reader, kind: str) -> Any:
    if kind == "b":
        return reader.block_type()
    if kind in "iIh":
        return reader.whole()
    if kind == "L":
        return [reader.number() for _ in range(reader.number() + 1)]
    if kind == "m":
        flags = reader.number()
        memory = reader.number() if flags & 0x40 else 0
        return flags & 0x3F, memory, reader.number()
    if kind == "n":
        return reader.byte()
    if kind in "48V":
        return int.from_bytes(reader.take({"4": 4, "8": 8, "V": 16}[kind]), "little")
    if kind == "x":
        return [reader.value_type() for _ in range(reader.number())]
    if kind == "c":
        return [_caught(reader) for _ in range(reader.number())]
    if kind == "k":
        return reader.byte(), reader.number(), reader.whole(), reader.whole()
    return reader.number()


def _caught(reader: Reader) -> tuple[int, int | None, int]:
    kind = reader.byte()
    return kind, reader.number() if kind < 2 else None, reader.number()
