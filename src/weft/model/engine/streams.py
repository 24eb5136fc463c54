"""Streams that run side by side: one reads while another writes (Multi-Stream LLMs, arXiv 2605.12460).

    streams = await Streams.open(engine, [Stream("user", user), Stream("answer", answer, writes=True)], prefix)
    await streams.say("user", "Tell me a story about")        # read from the next rows on, a token a row
    async for row in streams.rows(100):
        print(row.tokens["answer"])
        if tired: await streams.say("user", "Stop, please.")  # while it writes

The output is a grid. Each pass computes one row, a token of every stream: the next word that was said in a stream that
is read, the drawn token in one that writes, *silence* in one that has nothing. All tokens of a row have the row's
position. A token sees its own stream so far and the others' rows before its own; those of its own row it does not see.

Rights belong to the stream. A command counts only as tokens that were drawn in a stream that writes, is read from that
stream alone, and may do what that stream's `rights` say (`weft.model.engine.commands`). Words that are read, whatever
they look like, are words: they are never taken for control tokens, and no command is looked for in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence, Sized
from typing import Literal, NamedTuple, Protocol

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.commands import Command, Reader, held
from weft.model.engine.protocol import Engine, Feed, Sampling
from weft.model.engine.protocol import Sequence as Cells

Source = Literal["given", "drawn", "silence"]
"""Where a token of a row is from: said or an opening, drawn by the model, or nothing to say."""


class Stream(msgspec.Struct, frozen=True):
    """One column of the grid. `open`: the tokens that it begins with, at least one."""

    name: str
    open: list[int]
    writes: bool = False
    """Whether the model writes it; else it is read."""
    rights: tuple[str, ...] = ()
    """What its commands may do, as capabilities: `tool:search`, `net:example.com:443`. None: nothing."""
    sampling: Sampling = Sampling()


class Row(NamedTuple):
    """What one pass computed."""

    number: int
    """Its position: that of every token in it."""
    tokens: dict[str, int]
    commands: list[Command]
    """Commands that ended with this row."""


class State(msgspec.Struct, frozen=True):
    """How a stream stands after a row."""

    given: list[int]
    """Said, and not read yet."""
    drawn: int | None
    """What the model says next."""
    written: list[int]
    """What it has said."""


class _Column:
    """A stream under way."""

    def __init__(self, stream: Stream, cells: Cells, opening: list[int]) -> None:
        self.stream = stream
        self.cells = cells
        self.given = deque(opening)
        """Tokens from outside: its opening, or words to be read."""
        self.drawn: int | None = None
        """What the model says next."""
        self.written: list[int] = []
        self.reader = Reader(stream.name) if stream.writes else None

    def take(self, silence: int) -> tuple[int, Source]:
        """Its token for a row, and where it is from."""
        if self.given:
            return self.given.popleft(), "given"
        token, self.drawn = self.drawn, None
        return (silence, "silence") if token is None else (token, "drawn")

    def goes_on(self, token: int, source: Source, end: Collection[int]) -> bool:
        """Whether the model is to say what follows this token."""
        if not self.stream.writes or self.given or source == "silence":
            return False
        return source == "given" or token not in end


class Streams:
    """Rows over the streams of one engine, which must be `unified`, so that streams can see each other's cells."""

    def __init__(self, engine: Engine, columns: list[_Column], silence: int, start: int) -> None:
        """Use `open`."""
        self.engine = engine
        self.silence = silence
        self.row_number = start
        """The position of the next row."""
        self._columns = {column.stream.name: column for column in columns}

    @classmethod
    async def open(
        cls, engine: Engine, streams: Sequence[Stream], prefix: Iterable[int] = (), silence: int | None = None
    ) -> Streams:
        """Begin streams after a common `prefix`. Their openings are the first rows; shorter ones begin with silence, so
        that all end in the same row. `silence`: the token that fills a column with nothing to say (None: the first that
        ends a generation). Raises BadInput for streams that make no sense, OutOfCells."""
        check(streams, "one token or more")
        for stream in streams:
            held(stream.rights)
        quiet = min(engine.end) if silence is None else silence
        stem = await engine.sequence("prefix")
        common = list(prefix)
        try:
            if common:
                await engine.step([Feed(stem, common, want="none", sample=None)])
            height = max(len(stream.open) for stream in streams)
            columns = [
                _Column(stream, await stem.fork(), [quiet] * (height - len(stream.open)) + stream.open)
                for stream in streams
            ]
        finally:
            await stem.close()
        for column in columns:
            column.cells.label = column.stream.name
        made = cls(engine, columns, quiet, len(common))
        for _ in range(height):
            await made.row()
        return made

    async def say(self, name: str, words: str) -> None:
        """Words to be read, from the next row on. They are words only: no control token can be said."""
        self.feed(name, await self.engine.tokenize(words))

    def feed(self, name: str, tokens: Iterable[int]) -> None:
        """Tokens to be read. Raises BadInput for a stream that the model writes."""
        column = self._column(name)
        if column.stream.writes:
            raise BadInput(f"the model writes the stream {name!r}; words are said in one that it reads")
        given = list(tokens)
        wrong = [token for token in given if not 0 <= token < self.engine.vocabulary]
        if wrong:
            raise BadInput(f"{wrong[0]} is none of the {self.engine.vocabulary} tokens of this model")
        column.given.extend(given)

    def begin(self, name: str, tokens: Iterable[int]) -> None:
        """Let a stream that has ended write again, after these tokens."""
        column, given = self._column(name), list(tokens)
        if not column.stream.writes or not given:
            raise BadInput(f"only a stream that the model writes begins again, after one token or more: {name!r}")
        column.given.extend(given)

    def _column(self, name: str) -> _Column:
        if name not in self._columns:
            raise BadInput(f"there is no stream {name!r}; there are {', '.join(self._columns)}")
        return self._columns[name]

    @property
    def idle(self) -> bool:
        """Whether nothing is left to read or to write."""
        return not any(column.given or column.drawn is not None for column in self._columns.values())

    async def rows(self, limit: int) -> AsyncIterator[Row]:
        """The next rows, at most `limit`, until nothing is left to read or to write."""
        for _ in range(limit):
            if self.idle:
                return
            yield await self.row()

    async def row(self) -> Row:
        """Compute the next row."""
        columns = list(self._columns.values())
        taken = [column.take(self.silence) for column in columns]
        feeds = [
            Feed(
                column.cells,
                [token],
                "last" if column.goes_on(token, source, self.engine.end) else "none",
                column.stream.sampling,
            )
            for column, (token, source) in zip(columns, taken, strict=True)
        ]
        told = await self.engine.step(feeds)
        await self._publish(columns)
        commands: list[Command] = []
        for column, (token, source), heard in zip(columns, taken, told, strict=True):
            column.drawn = heard.tokens[0] if heard.tokens else None
            if source == "drawn" and column.reader is not None:
                column.written.append(token)
                commands += column.reader.read(await self.engine.detokenize([token]))
        self.row_number += 1
        tokens = {column.stream.name: token for column, (token, _) in zip(columns, taken, strict=True)}
        return Row(self.row_number - 1, tokens, commands)

    @property
    def state(self) -> dict[str, State]:
        """How each stream stands after its last row: with the rows, all that is needed to go on elsewhere."""
        return {name: State([*column.given], column.drawn, [*column.written]) for name, column in self._columns.items()}

    async def repeat(self, rows: Iterable[dict[str, int]], state: dict[str, State]) -> None:
        """Compute rows that were computed before, and stand as then. What was drawn is not drawn again."""
        for tokens in rows:
            columns = list(self._columns.values())
            feeds = [Feed(column.cells, [tokens[column.stream.name]], "none", None) for column in columns]
            await self.engine.step(feeds)
            await self._publish(columns)
            self.row_number += 1
        for name, before in state.items():
            column = self._column(name)
            column.given, column.drawn, column.written = deque(before.given), before.drawn, [*before.written]
            if column.reader is not None:
                column.reader = Reader(name)
                column.reader.read(await self.engine.detokenize(before.written))

    async def _publish(self, columns: list[_Column]) -> None:
        for column in columns:
            others = [other.cells for other in columns if other is not column]
            if others:
                await column.cells.publish(self.row_number, others)

    async def text(self, name: str) -> str:
        """What the model wrote in a stream."""
        return (await self.engine.detokenize(self._column(name).written)).decode("utf-8", "replace")

    async def close(self) -> None:
        for column in self._columns.values():
            await column.cells.close()


class Declared(Protocol):
    """What is said of a stream, with an opening in tokens or in words."""

    @property
    def name(self) -> str: ...
    @property
    def open(self) -> Sized: ...
    @property
    def writes(self) -> bool: ...
    @property
    def rights(self) -> Collection[str]: ...


def check(streams: Sequence[Declared], opening: str) -> None:
    """Raises BadInput for streams without names of their own, without an `opening`, or read and yet with rights."""
    names = [stream.name for stream in streams]
    if not streams or len(set(names)) < len(names):
        raise BadInput(f"streams have different names, and there is at least one: {names}")
    for stream in streams:
        if not stream.open:
            raise BadInput(f"the stream {stream.name!r} has no opening; give it {opening}")
        if stream.rights and not stream.writes:
            raise BadInput(f"the stream {stream.name!r} is read: what is said in it is no command, and has no rights")
