"""A long exact generation that survives the process it runs in, passage by passage.

    written = await write("smollm2-135m", "Once upon a time", limit=500, sampling=Sampling(0.8, seed=7))

Each passage, some 64 tokens, is a journaled step; so after a crash the replayed body knows what was written, and the
next passage goes on from there. It goes on exactly: the cells of what was written are restored from the bytes that were
saved after the last passage, or, if those are lost, computed again in the batches in which they were (see
`weft.model.engine.exact`). What comes out is what would have come out without the crash, on the same kind of machine.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import msgspec

from weft.core.crossing import crossing
from weft.core.errors import BadInput
from weft.core.step import primitive
from weft.model.engine import kept
from weft.model.engine.calibrate import Known, calibrated, machine
from weft.model.engine.exact import Exact, Generation
from weft.model.engine.local import LocalEngine
from weft.model.engine.opening import shared_engine
from weft.model.engine.protocol import Sampling
from weft.model.spec import Local, where
from weft.runtime.effects import charge

PASSAGE = 64
"""Tokens of a passage: what is computed again, at most, after a crash."""


class Asked(msgspec.Struct, frozen=True):
    """What is to be written."""

    prompt: str
    limit: int
    sampling: Sampling
    passage: int


class SoFar(msgspec.Struct, frozen=True):
    """What is written, and how it was computed."""

    tokens: list[int] = []
    done: bool = False
    known: Known | None = None
    """Which batches agreed on the machine that began it."""
    machine: str = ""
    """That machine, library and model; another rounds differently."""


class Written(msgspec.Struct, frozen=True):
    """The end. `exact`: all of it was computed on machines of one kind; else a passage may differ from what one machine
    alone had written. `finish`: "stop" by itself, or "length"."""

    text: str
    tokens: list[int]
    finish: str
    exact: bool


async def write(
    spec: str, prompt: str, *, limit: int = 256, sampling: Sampling = Sampling(), passage: int = PASSAGE
) -> Written:
    """Write on after `prompt`, at most `limit` tokens, by a model of the embedded engine. In a workflow's body it is
    journaled passage by passage. Raises BadInput for a model that is no local one, or numbers that make no sense."""
    if limit < 1 or passage < 1:
        raise BadInput(f"a passage and a text have a token or more: passage={passage}, limit={limit}")
    if not isinstance(where(spec), Local):
        raise BadInput(f"{spec!r} is no model of the embedded engine, and no other repeats itself exactly")
    asked, so_far, machines = Asked(prompt, limit, sampling, passage), SoFar(), set()
    while not so_far.done:
        so_far = await _passage(spec, asked, so_far)
        machines.add(so_far.machine)
    text = await _words(spec, so_far.tokens)
    return Written(text, so_far.tokens, "length" if len(so_far.tokens) >= limit else "stop", len(machines) == 1)


def _needs(spec: str, **_: object) -> Iterator[tuple[str, str]]:
    found = where(spec)
    yield "model.generate", found.resource
    if isinstance(found, Local) and found.file:
        yield "file.read", found.name


def _cost(spec: str, asked: Asked, so_far: SoFar) -> dict[str, float]:
    return {"tokens": asked.passage + 2 * _SLACK + (0 if so_far.tokens else len(asked.prompt.encode()) // 3 + 8)}


_SLACK = 16
"""A window may end this much after a passage."""


@primitive(name="generate.passage", role="generation", effect="pure", needs=_needs, cost=_cost)
async def _passage(spec: str, asked: Asked, so_far: SoFar) -> SoFar:
    desk = await _desk(spec)
    async with desk.places:
        generation, exact, begun = await desk.taken(asked, so_far)
        try:
            wanted = min(len(so_far.tokens) + asked.passage, asked.limit)
            async for _ in exact.follow(generation):
                if len(generation.tokens) >= wanted:
                    break
            after = msgspec.structs.replace(begun, tokens=generation.tokens, done=generation.done)
            await desk.put_back(asked, so_far, after, generation, exact)
        except BaseException:
            await exact.end(generation)
            raise
    charge(tokens=len(after.tokens) - len(so_far.tokens) + (0 if so_far.tokens else len(generation.prompt)))
    return after


@primitive(name="generate.words", effect="pure", needs=_needs)
async def _words(spec: str, tokens: list[int]) -> str:
    engine = (await _desk(spec)).engine
    return (await engine.detokenize(token for token in tokens if token not in engine.end)).decode("utf-8", "replace")


# --- what a process of the operating system has under way ------------------------------------------------------------


class _Desk:
    """One engine, and the generations that wait for their next passage."""

    def __init__(self, engine: LocalEngine, slots: int) -> None:
        self.engine = engine
        self.places = asyncio.Semaphore(slots)
        self._slots = slots
        self._calibrating = asyncio.Lock()
        self._idle: OrderedDict[str, tuple[Generation, Exact]] = OrderedDict()
        self._by_regime: dict[int | None, Exact] = {}

    async def taken(self, asked: Asked, so_far: SoFar) -> tuple[Generation, Exact, SoFar]:
        """The generation after `so_far`: the one that waits, or one that is begun again."""
        here = machine(self.engine)
        known = so_far.known if so_far.known is not None else await self._calibrated()
        begun = msgspec.structs.replace(so_far, known=known, machine=here)
        waiting = self._idle.pop(_key(asked, so_far), None)
        if waiting is not None:
            return (*waiting, begun)
        while len(self._idle) >= self._slots:
            await _end(self._idle.popitem(last=False)[1])
        exact = self._by_regime.setdefault(known.quick, Exact(self.engine, known=known))
        prompt = await self.engine.tokenize(asked.prompt)
        place = _file(asked, so_far) if so_far.machine == here else None
        saved = await asyncio.to_thread(kept.read, place) if place is not None else b""
        try:
            generation = await exact.begin(prompt, asked.limit, asked.sampling, written=so_far.tokens, saved=saved)
        except BadInput:
            if not saved:
                raise
            generation = await exact.begin(prompt, asked.limit, asked.sampling, written=so_far.tokens)
        return generation, exact, begun

    async def _calibrated(self) -> Known:
        async with self._calibrating:
            return await calibrated(self.engine)

    async def put_back(self, asked: Asked, before: SoFar, after: SoFar, generation: Generation, exact: Exact) -> None:
        """Let it wait for its next passage, its cells saved."""
        await asyncio.to_thread(kept.drop, _file(asked, before))
        if after.done:
            await exact.end(generation)
            return
        exact.rest(generation)
        await asyncio.to_thread(kept.keep, _file(asked, after), await exact.save(generation))
        key = _key(asked, after)
        if key in self._idle:  # another run writes the same
            await exact.end(generation)
            return
        self._idle[key] = (generation, exact)
        here = crossing()
        if here is not None:
            here.at_leave(lambda: self._left(key))

    async def _left(self, key: str) -> None:
        waiting = self._idle.pop(key, None)
        if waiting is not None:
            await _end(waiting)


async def _end(waiting: tuple[Generation, Exact]) -> None:
    generation, exact = waiting
    await exact.end(generation)


_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Desk]] = WeakKeyDictionary()


async def _desk(spec: str) -> _Desk:
    """This loop's desk for a model, whose engine is opened if there is none."""
    found = where(spec)
    if not isinstance(found, Local):
        raise BadInput(f"{spec!r} is no model of the embedded engine")
    path = await asyncio.to_thread(found.path)
    sequences = 2 * found.slots + 2
    engine = await shared_engine(
        path, name=found.name, cells=found.context * sequences, sequences=sequences, unified=False
    )
    desks = _desks.setdefault(asyncio.get_running_loop(), {})
    desk = desks.get(spec)
    if desk is None or desk.engine is not engine:
        desk = desks[spec] = _Desk(engine, found.slots)
    return desk


def _key(asked: Asked, so_far: SoFar) -> str:
    said = msgspec.msgpack.encode((asked, so_far.tokens, so_far.machine))
    return hashlib.blake2b(said, digest_size=16).hexdigest()


def _file(asked: Asked, so_far: SoFar) -> Path:
    return kept.place_of(_key(asked, so_far))
