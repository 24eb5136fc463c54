"""Many generations in one batch: they queue, their prompts are read in chunks, and all draw a token in each step.

    batcher = Batcher(engine, Continuum(Reload(b=0.008)))
    turn = batcher.generate(Ask(prompt, most=64, program="agent-7", calls=tool_of))
    async for token in turn: ...

A conversation (`program`) keeps its cells from one turn to the next where there is room, so only what is new in its
prompt is computed. With `share`, what one program has in cells serves every other that begins alike: many agents with
the same instructions read them once. Which turns run, and what is kept, `Scheduler` decides and a policy orders; this
does it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.asked import Ask, Finish, Generation
from weft.model.engine.policies import Fcfs
from weft.model.engine.protocol import Engine, Feed, Sequence, Told
from weft.model.engine.scheduling import Scheduler
from weft.model.engine.turns import Admit, Alike, Counts, Evict, Plan, Preempt, Turn

_WORTH = 24
"""Tokens alike from which on a fork is worth its while."""


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
        at_once: int | None = None,
        share: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cells`: of the engine's, those that it may use (all). `slots`: sequences at once, at most as many as the
        engine has. `chunk`: tokens in a step. `store`: tokens whose cells may be saved in this process's memory when
        they are evicted. `patience`: seconds after which a waiting turn goes ahead of all others. `at_once`: turns that
        run together, at most. `share`: programs that begin alike share cells, which a unified engine can."""
        if cells is not None and cells > engine.cells:
            raise BadInput(f"the engine has {engine.cells} cells, not {cells}")
        self.engine = engine
        self.scheduler = Scheduler(
            cells or engine.cells, policy or Fcfs(), slots=slots, chunk=chunk, store=store, patience=patience,
            at_once=at_once, alike=self._alike if share else None,
        )  # fmt: skip
        self.steps = self.drawn = self.fed = self._read = 0
        self._reading = 0.0
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
        if self.busy(program):
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

    def release(self, program: str) -> None:
        """The program is over: it asks nothing more. Its cells stay for programs that begin as it did, until room
        is needed. One that has a turn under way is left as it is."""
        if not self.busy(program):
            self.scheduler.release(program)

    def reload(self, cells: int) -> float:
        """The seconds that so many tokens take to read, by what reading took so far."""
        return cells * self._reading / max(1, self._read)

    def busy(self, program: str) -> bool:
        """Whether a program has a turn under way."""
        return any(turn.program == program for turn in self._turns)

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
        began = self._clock()
        told = await self.engine.step([self._feed(turn, count) for turn, count in plan.feeds])
        count = sum(count for _, count in plan.feeds)
        if count >= _WORTH:
            self._reading, self._read = self._reading + self._clock() - began, self._read + count
        self.steps += 1
        self.fed += count
        await self._tell({turn: each for (turn, _), each in zip(plan.feeds, told, strict=True) if each.tokens}, plan)

    def _alike(self, turn: Turn) -> Alike | None:
        """Of the programs that have cells, the one that has most of what this turn begins with."""
        prompt = self._turns[turn].ask.prompt[:-1]  # one token must be read, for anything to be predicted
        least = turn.common + _WORTH
        best = None
        for other in self.scheduler.running:
            known = _common(self._turns[other].ask.prompt, prompt)
            ready = min(known, other.fed)
            if known >= least and (best is None or known > best.cells):
                soon = ready < known and other.pending > 1
                best = Alike(other.program, known if soon else ready, soon)
        for name in self.scheduler.held:
            known = _common(self._left.get(name, []), prompt) if name != turn.program else 0
            if known >= least and (best is None or known > best.cells):
                best = Alike(name, known)
        return best if best is not None and best.cells >= least else None

    async def _do(self, act: Evict | Preempt | Admit) -> None:
        if isinstance(act, Admit):
            sequence = self._sequences.get(act.turn.program)
            if act.donor:
                if sequence is not None:
                    await sequence.close()
                self._saved.pop(act.turn.program, None)
                self._sequences[act.turn.program] = await self._sequences[act.donor].fork(act.reuse)
                return
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
        ask = generation.ask
        allow = ask.rules.allow() if ask.rules is not None else None
        return Feed(sequence, tokens, "last", ask.sampling, allow, ask.likely, bias=ask.bias(generation.times))

    async def _tell(self, told: dict[Turn, Told], plan: Plan) -> None:
        now = self._clock()
        for turn in self.scheduler.fed(plan, now):
            generation, heard = self._turns[turn], told[turn]
            token, rules = heard.tokens[0], generation.ask.rules
            self.drawn += 1
            if token in generation.stop:
                await self._over(generation, "stop", now)
                continue
            generation.tokens.append(token)
            generation.times[token] += 1
            generation.likely += heard.likely
            generation._news.set()
            if rules is not None:
                rules.accept(token)
            if rules is not None and rules.ended:
                await self._over(generation, "stop", now)
            elif turn.drawn == turn.most:
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
        if tool is None and self.scheduler.alike is not None and not ask.last:
            self.scheduler.leave(turn, now)
            self._left[turn.program] = sequence.tokens
        elif self.scheduler.done(turn, now, tool):
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
    low, high = 0, min(len(one), len(other))
    while low < high:  # lists are compared quickly, element by element they are not
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
