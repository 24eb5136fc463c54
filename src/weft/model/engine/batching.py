"""Many generations in one batch: they queue, their prompts are read in chunks, and all draw a token in each step.

    batcher = Batcher(engine, Continuum(Reload(b=0.008)))
    turn = batcher.generate(Ask(prompt, most=64, program="agent-7", calls=tool_of))
    async for token in turn: ...

A conversation (`program`) keeps its cells from one turn to the next where there is room, so only what is new in its
prompt is computed. Which turns run, and what is kept, `Scheduler` decides and a policy orders; this does it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Literal, Protocol

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.policies import Fcfs
from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence
from weft.model.engine.scheduling import Scheduler
from weft.model.engine.turns import Admit, Counts, Evict, Plan, Preempt, Turn

Finish = Literal["stop", "length", "cancelled"]


class Rules(Protocol):
    """What holds a generation to a grammar (`weft.model.engine.grammar.Grammar`)."""

    def allow(self) -> bytes: ...
    def accept(self, token: int) -> None: ...


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One turn: the whole prompt, also what the program said before."""

    prompt: list[int]
    most: int = 256
    """How many tokens it may draw."""
    program: str = ""
    """Whose turn it is; empty: a program of this turn only."""
    sampling: Sampling = Sampling()
    stop: frozenset[int] | None = None
    """The tokens that end it, themselves not told; None: the engine's."""
    priority: int = 0
    last: bool = False
    """The program will ask nothing more: what it holds is given back."""
    calls: Callable[[list[int]], str | None] | None = None
    """Reads what was drawn: the tool that the program now waits for, "" if unknown, None if the program is over."""
    rules: Rules | None = None


class Generation:
    """The tokens of a turn, as they are drawn: iterate it, or await `whole()`."""

    def __init__(self, batcher: Batcher, ask: Ask, turn: Turn, stop: frozenset[int]) -> None:
        self.ask = ask
        self.turn = turn
        self.stop = stop
        self.tokens: list[int] = []
        """What was drawn so far."""
        self.finish: Finish | None = None
        self._batcher = batcher
        self._over: Exception | None = None
        self._news = asyncio.Event()

    async def whole(self) -> list[int]:
        """All its tokens. Raises what the engine raised."""
        async for _ in self:
            pass
        return self.tokens

    async def __aiter__(self) -> AsyncIterator[int]:
        read = 0
        while True:
            while read < len(self.tokens):
                read += 1
                yield self.tokens[read - 1]
            if self.finish is not None:
                return
            if self._over is not None:
                raise self._over
            self._news.clear()
            await self._news.wait()

    def cancel(self) -> None:
        """Draw no more. What was drawn stays; a turn that is over is left as it is."""
        self._batcher._cancel(self)

    def _end(self, how: Finish | Exception) -> None:
        if isinstance(how, Exception):
            self._over = how
        else:
            self.finish = how
        self._news.set()

    @property
    def over(self) -> bool:
        return self.finish is not None or self._over is not None


class Metrics(msgspec.Struct, frozen=True):
    """How a batcher is doing."""

    waiting: int
    running: int
    held: int
    """Programs that make no turn and whose cells are kept."""
    pinned: int
    """Of these, which will not be evicted for now."""
    used: int
    cells: int
    steps: int
    drawn: int
    fed: int
    """Tokens computed, of prompts and drawn."""
    hits: float
    """The share of tokens known from before that were found in cells."""
    counts: Counts


class Batcher:
    """Drives an engine for many generations at once, in the event loop that it is first used in. Close it."""

    def __init__(
        self,
        engine: Engine,
        policy: Fcfs | None = None,
        *,
        cells: int | None = None,
        slots: int = 16,
        chunk: int = 256,
        store: int = 0,
        patience: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cells`: of the engine's, those that it may use (all). `slots`: sequences at once, at most as many as the
        engine has. `chunk`: tokens in a step. `store`: tokens whose cells may be saved in this process's memory when
        they are evicted. `patience`: seconds after which a waiting turn goes ahead of all others."""
        if cells is not None and cells > engine.cells:
            raise BadInput(f"the engine has {engine.cells} cells, not {cells}")
        self.engine = engine
        self.scheduler = Scheduler(
            cells or engine.cells, policy or Fcfs(), slots=slots, chunk=chunk, store=store, patience=patience
        )
        self.steps = self.drawn = self.fed = 0
        self._clock = clock
        self._turns: dict[Turn, Generation] = {}
        self._sequences: dict[str, Sequence] = {}
        self._saved: dict[str, bytes] = {}
        self._left: dict[str, list[int]] = {}
        """The tokens that a program had in its cells when its turn ended."""
        self._cancelled: list[Generation] = []
        self._forgotten: list[str] = []
        self._names = itertools.count(1)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    # --- for callers --------------------------------------------------------------------------------

    def generate(self, ask: Ask) -> Generation:
        """Queue a turn. Raises BadInput for a prompt that is none, OutOfCells for one that can never fit."""
        if self._closed:
            raise BadInput("the batcher was closed; open another")
        bad = next((token for token in ask.prompt if not 0 <= token < self.engine.vocabulary), None)
        if bad is not None:
            raise BadInput(f"{bad} is none of the {self.engine.vocabulary} tokens of the model")
        program = ask.program or f"#{next(self._names)}"
        common = _common(self._left.get(program, []), ask.prompt)
        last = ask.last or not ask.program
        turn = Turn(program, len(ask.prompt), common=common, most=ask.most, priority=ask.priority, last=last)
        self.scheduler.arrive(turn, self._clock())
        generation = Generation(self, ask, turn, self.engine.end if ask.stop is None else ask.stop)
        self._turns[turn] = generation
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        self._wake.set()
        return generation

    def calls(self, program: str, tool: str) -> float:
        """Tell which tool a program waits for now, where its turn could not tell (`Ask.calls`). Returns for how many
        seconds its cells are pinned. Raises BadInput for a program without a turn that ended."""
        return self.scheduler.calls(program, tool, self._clock())

    def forget(self, program: str) -> None:
        """The program is over: its cells are given back before the next step. A turn under way ends it itself."""
        if any(turn.program == program for turn in self._turns):
            raise BadInput(f"program {program!r} has a turn under way; cancel it, or ask it with last=True")
        self._forgotten.append(program)
        self._wake.set()

    def metrics(self) -> Metrics:
        scheduler = self.scheduler
        return Metrics(
            waiting=len(scheduler.waiting), running=len(scheduler.running), held=len(scheduler.held),
            pinned=sum(scheduler.pinned(name) for name in scheduler.held), used=scheduler.used, cells=scheduler.cells,
            steps=self.steps, drawn=self.drawn, fed=self.fed, hits=scheduler.counts.hits, counts=scheduler.counts,
        )  # fmt: skip

    async def close(self) -> None:
        """Cancel what is under way, and give all cells back. The engine stays open."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for generation in self._turns.values():
            generation._end("cancelled")
        self._turns.clear()
        for sequence in self._sequences.values():
            await sequence.close()
        self._sequences.clear()

    async def __aenter__(self) -> Batcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- the loop -------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            await self._tidy()
            if not self._turns:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._step()
            except Exception as error:  # whatever it is, those who wait must hear of it
                await self._fail(error)

    async def _step(self) -> None:
        plan = self.scheduler.plan(self._clock())
        for act in plan.acts:
            await self._do(act)
        for name in [name for name in self._saved if not self.scheduler.stored(name)]:
            del self._saved[name]
        for name in [name for name in self._left if not self.scheduler.knows(name)]:
            del self._left[name]
        told = await self.engine.step([self._feed(turn, count) for turn, count in plan.feeds])
        self.steps += 1
        self.fed += sum(count for _, count in plan.feeds)
        await self._tell(plan, [each.tokens for each in told])

    async def _do(self, act: Evict | Preempt | Admit) -> None:
        if isinstance(act, Admit):
            sequence = self._sequences.get(act.turn.program)
            if sequence is None:
                sequence = self._sequences[act.turn.program] = await self.engine.sequence(act.turn.program)
                if act.stored:
                    await sequence.restore(self._saved.pop(act.turn.program))
            sequence.unpin()
            if sequence.length > act.reuse:
                await sequence.trim(act.reuse)
            return
        name = act.program if isinstance(act, Evict) else act.turn.program
        sequence = self._sequences.pop(name)
        if isinstance(act, Preempt):
            self._left[name] = sequence.tokens
        if act.store:
            self._saved[name] = await sequence.save()
        await sequence.close()

    def _feed(self, turn: Turn, count: int) -> Feed:
        generation = self._turns[turn]
        end = turn.fed + count
        tokens = generation.ask.prompt[turn.fed : end]
        tokens += generation.tokens[max(0, turn.fed - turn.prompt) : max(0, end - turn.prompt)]
        sequence = self._sequences[turn.program]
        if count < turn.pending:
            return Feed(sequence, tokens, "none", None)
        rules = generation.ask.rules
        return Feed(sequence, tokens, "last", generation.ask.sampling, rules.allow() if rules is not None else None)

    async def _tell(self, plan: Plan, told: list[list[int]]) -> None:
        now = self._clock()
        tokens = {turn: drawn[0] for (turn, _), drawn in zip(plan.feeds, told, strict=True) if drawn}
        for turn in self.scheduler.fed(plan, now):
            generation, token = self._turns[turn], tokens[turn]
            self.drawn += 1
            if token in generation.stop:
                await self._over(generation, "stop", now)
                continue
            generation.tokens.append(token)
            generation._news.set()
            if generation.ask.rules is not None:
                generation.ask.rules.accept(token)
            if turn.drawn == turn.most:
                await self._over(generation, "length", now)

    async def _over(self, generation: Generation, finish: Finish, now: float) -> None:
        ask, turn = generation.ask, generation.turn
        try:
            tool = None if turn.last else "" if ask.calls is None else ask.calls(generation.tokens)
        except Exception as error:  # the caller's own code
            await self._give_up(generation, error)
            return
        del self._turns[turn]
        sequence = self._sequences[turn.program]
        if self.scheduler.done(turn, now, tool):
            self._left[turn.program] = sequence.tokens
            pin = self.scheduler.held[turn.program].until
            if pin > now and pin < math.inf:
                sequence.pin(pin - now)
        else:
            await self._drop(turn.program)
        generation._end(finish)

    # --- endings ----------------------------------------------------------------------------------------

    def _cancel(self, generation: Generation) -> None:
        if not generation.over:
            self._cancelled.append(generation)
            self._wake.set()

    async def _tidy(self) -> None:
        """Between steps: what was cancelled and forgotten since."""
        cancelled, self._cancelled = self._cancelled, []
        for generation in cancelled:
            if not generation.over:
                await self._give_up(generation, "cancelled")
        forgotten, self._forgotten = self._forgotten, []
        for program in forgotten:
            self.scheduler.forget(program)
            await self._drop(program)

    async def _give_up(self, generation: Generation, how: Finish | Exception) -> None:
        turn = generation.turn
        del self._turns[turn]
        self.scheduler.cancel(turn, self._clock())
        if turn.last or isinstance(how, Exception):
            self.scheduler.forget(turn.program)
            await self._drop(turn.program)
        elif turn.program in self._sequences:
            self._left[turn.program] = self._sequences[turn.program].tokens
        generation._end(how)

    async def _fail(self, error: Exception) -> None:
        """A step was refused: its turns fail, those that wait may yet go well."""
        for turn in [*(self.scheduler.running or self.scheduler.waiting)]:
            await self._give_up(self._turns[turn], error)
        for name in [name for name in self._sequences if name not in self.scheduler.held]:
            await self._drop(name)  # the step was to evict it, and did not come to it

    async def _drop(self, program: str) -> None:
        self._left.pop(program, None)
        self._saved.pop(program, None)
        sequence = self._sequences.pop(program, None)
        if sequence is not None:
            await sequence.close()


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens they begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
