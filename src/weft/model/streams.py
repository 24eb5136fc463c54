"""Streams side by side, of a model of the embedded engine: one is read while another is written.

    async with model.streams([Column("user", "User:"), Column("answer", "Answer:", writes=True)]) as grid:
        grid.say("user", "What is a weft?")
        async for rows in grid.rows(200):
            print(rows.texts["answer"], end="")

Each look at some rows is one effect, journaled with the tokens of all its rows; what is said travels with the next. The
sequences live in this process of the operating system. When it dies, the replayed body knows the rows that it saw, and
they are computed again, not drawn again. The method is in `weft.model.engine.streams`.
"""

from __future__ import annotations

import codecs
import itertools
import weakref
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec

from weft.core.boundary import boundary
from weft.core.errors import BadInput
from weft.core.step import primitive
from weft.model.engine.commands import Command
from weft.model.engine.protocol import Sampling
from weft.model.engine.streams import Row, State, Stream, Streams, check
from weft.model.spec import Local, where
from weft.model.threads import engine_of
from weft.runtime.effects import charge, uuid

LOOK = 8
"""Rows of one effect, unless said otherwise."""


class Column(msgspec.Struct, frozen=True):
    """One stream: `open` is the text that it begins with; see `weft.model.engine.streams.Stream`."""

    name: str
    open: str
    writes: bool = False
    rights: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0


class Opened(msgspec.Struct, frozen=True):
    """What a grid began with."""

    prefix: str
    columns: tuple[Column, ...]


class Rows(msgspec.Struct, frozen=True):
    """Some rows that were computed."""

    rows: list[dict[str, int]]
    """The token of each stream, row by row."""
    texts: dict[str, str]
    """What the model wrote in them, stream by stream."""
    commands: list[Command]
    """The commands that ended in them."""
    state: dict[str, State]
    idle: bool
    """Whether nothing is left to read or to write."""


class _Session:
    """A grid as this process knows it: what its body has seen, and the sequences, if they are here."""

    def __init__(self) -> None:
        self.seen: list[Rows] = []
        self.live: Streams | None = None
        self.number = 0
        """How many looks the sequences have behind them."""


sessions: dict[str, _Session] = {}
"""The grids of this interpreter, by key."""


def _needs(spec: str, **_: object) -> Iterator[tuple[str, str]]:
    found = where(spec)
    yield "model.generate", found.resource
    if isinstance(found, Local) and found.file:
        yield "file.read", found.name


def _cost(
    spec: str, key: str, number: int, opened: Opened, said: list[tuple[str, str]], count: int
) -> dict[str, float]:
    begin = 0 if number else len(opened.prefix.encode()) // 3 + 8
    return {"tokens": begin + count * len(opened.columns)}


@primitive(name="streams", role="generation", effect="pure", needs=_needs, cost=_cost)
async def look(spec: str, key: str, number: int, opened: Opened, said: list[tuple[str, str]], count: int) -> Rows:
    """The next rows of a grid, at most `count`: look number `number` at it, after these words were said. `Grid.rows`
    calls it. Raises EngineUnfit, OutOfCells, ModelCrashed."""
    found = where(spec)
    if not isinstance(found, Local):
        raise BadInput(f"the model {spec!r} is none of the embedded engine, and no other has streams")
    session = sessions.setdefault(key, _Session())
    if session.live is None or session.number != number:
        session.live = await _made(found, opened, session.seen[:number])
    live = session.live
    session.number = -1  # what is cut off on the way is begun anew
    for name, words in said:
        await live.say(name, words)
    before = {name: len(state.written) for name, state in live.state.items()}
    rows = [row async for row in live.rows(count)]
    session.number = number + 1
    charge(tokens=len(rows) * len(opened.columns), money=0)
    return await _told(live, opened, rows, before)


async def _told(live: Streams, opened: Opened, rows: list[Row], before: dict[str, int]) -> Rows:
    state, texts = live.state, {}
    for column in opened.columns:
        if column.writes:
            written, old = state[column.name].written, before[column.name]
            texts[column.name] = (await _text(live, written))[len(await _text(live, written[:old])) :]
    commands = [command for row in rows for command in row.commands]
    return Rows([row.tokens for row in rows], texts, commands, state, live.idle)


async def _text(live: Streams, tokens: list[int]) -> str:
    """Their text, without a character at its end that is not whole yet."""
    words = await live.engine.detokenize(token for token in tokens if token not in live.engine.end)
    return codecs.getincrementaldecoder("utf-8")("replace").decode(words)


async def _made(found: Local, opened: Opened, seen: list[Rows]) -> Streams:
    engine = await engine_of(found)
    begin = [] if engine.hello.begin is None else [engine.hello.begin]
    streams = [
        Stream(
            column.name, await engine.tokenize(column.open, special=True), column.writes, column.rights,
            Sampling(column.temperature, seed=column.seed),
        )
        for column in opened.columns
    ]  # fmt: skip
    live = await Streams.open(engine, streams, begin + await engine.tokenize(opened.prefix, special=True))
    if seen:
        await live.repeat([row for each in seen for row in each.rows], seen[-1].state)
    return live


_numbers = itertools.count()


class Grid:
    """Streams under way; use `Model.streams`."""

    def __init__(self, spec: str, opened: Opened, step: Any) -> None:
        self.spec, self.opened = spec, opened
        self.idle = False
        """Whether nothing is left to read or to write."""
        self._step = step
        self._said: list[tuple[str, str]] = []
        self._key = ""
        self._session = _Session()

    async def __aenter__(self) -> Grid:
        # Outside a workflow nothing is journaled, and any key does that no other grid has.
        self._key = f"{next(_numbers)}" if boundary() is None else str(uuid())
        self._session = sessions.setdefault(self._key, self._session)
        weakref.finalize(self, sessions.pop, self._key, None)
        return self

    async def __aexit__(self, *_: object) -> None:
        sessions.pop(self._key, None)
        self._session.live = None  # sequences that nobody holds give their cells back

    def say(self, name: str, words: str) -> None:
        """Words to be read in a stream, from the next row that is computed on. Raises BadInput for a stream that is not
        there, or that the model writes."""
        column = next((each for each in self.opened.columns if each.name == name), None)
        if column is None or column.writes:
            raise BadInput(f"there is no stream {name!r} that is read; words are said in one of those")
        self._said.append((name, words))
        self.idle = False

    async def rows(self, limit: int, look: int = LOOK) -> AsyncGenerator[Rows]:
        """The next rows, at most `limit`, some `look` at once, until nothing is left to read or to write."""
        if limit < 1 or look < 1:
            raise BadInput(f"rows are computed 1 or more at a time, not {limit} and {look}")
        if not self._key:
            raise BadInput("streams are begun by `async with model.streams(...) as grid`")
        while limit > 0 and not self.idle:
            said, self._said = self._said, []
            seen = self._session.seen
            rows: Rows = await self._step(self.spec, self._key, len(seen), self.opened, said, min(look, limit))
            seen.append(rows)
            self.idle = rows.idle and not self._said
            limit -= look
            yield rows


def opened_of(columns: Sequence[Column], prefix: str) -> Opened:
    """What a grid begins with. Raises BadInput for streams without names of their own, or without an opening."""
    check(columns, "some text")
    return Opened(prefix, tuple(columns))
