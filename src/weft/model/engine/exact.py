"""Generations that come out the same, token for token, whatever else the engine does at the time.

    exact = Exact(engine, known=await calibrate(engine))
    tokens = await exact.generate(prompt, limit=100, sampling=Sampling(temperature=0.8, seed=7))

Batches of different size round differently, so who shares a batch changes what a model says. Two ways out of it:

* where `calibrate` found that batches up to some size agree bit for bit, those generations that ask for it are decoded
  in batches of these sizes only, and each token is final when it is drawn;
* else what was drawn is provisional until a batch of fixed shape has verified it (`weft.model.engine.ledger`).

Under a grammar each place has another set of tokens, which no fixed window knows; such a generation is drawn in batches
of its own, one token at a time, where the second way would be needed.

A generation that did not ask (`deterministic=False`) is never verified, and shares batches as it comes. Prompts of
those that ask are computed alone; draws depend on seed and position. The engine must keep a buffer for each sequence
(`unified=False`), so that the order of cells can't be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from weft.core.errors import BadInput
from weft.model.engine.asked import Rules
from weft.model.engine.calibrate import Known
from weft.model.engine.ledger import Ledger
from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence, Told

CHUNK = 256
"""How many tokens of a prompt are computed at once."""
_DUMMY = 0


class Shape(msgspec.Struct, frozen=True):
    """The batch that verifies: `group` windows of `window` tokens. A group of 1 needs no dummies, and is as quick where
    one window fills the processor. More than 1 relies on an engine that computes a batch in one part, which llama.cpp
    does only for sequences with consecutive numbers."""

    group: int = 1
    window: int = 16


class Counts(msgspec.Struct):
    """What it took."""

    steps: int = 0
    """Batches that drew tokens."""
    drawn: int = 0
    """Tokens of generations that asked to be exact, as often as they were drawn."""
    verifications: int = 0
    windows: int = 0
    rolled_back: int = 0
    """Tokens that were drawn and thrown away."""
    dummies: int = 0
    """Tokens that were computed to fill a batch."""
    rebuilt: int = 0
    """Tokens that were computed again after a crash of the engine, or to resume."""


class Generation:
    """One that is under way; `Exact` works on it."""

    def __init__(
        self,
        sequence: Sequence,
        prompt: list[int],
        sampling: Sampling,
        ledger: Ledger,
        exact: bool,
        crashes: int,
        rules: Rules | None,
    ) -> None:
        self.sequence = sequence
        self.prompt = prompt
        self.sampling = sampling
        self.ledger = ledger
        self.exact = exact
        self.rules = rules
        self.stale = True
        """Whether its cells are to be computed."""
        self.sound = 0
        """How many of those that are there are as they should be, if it is stale."""
        self.crashes = crashes
        """How often the engine had died when it was last worked on."""

    @property
    def tokens(self) -> list[int]:
        """Those that are final."""
        return self.ledger.tokens[: self.ledger.settled]

    @property
    def done(self) -> bool:
        return self.ledger.done

    def allow(self) -> bytes | None:
        return self.rules.allow() if self.rules is not None else None

    def took(self, token: int) -> None:
        """A token is final that was drawn under the rules."""
        if self.rules is not None and token not in self.ledger.end:
            self.rules.accept(token)
            if self.rules.ended:
                self.ledger.limit = len(self.ledger.tokens)


class Exact:
    """Decodes generations together on one engine. Whoever waits for one works for all."""

    def __init__(self, engine: Engine, shape: Shape | None = None, known: Known | None = None) -> None:
        self.engine = engine
        self.shape = shape or Shape()
        if self.shape.group < 1 or self.shape.window < 2:
            raise BadInput(f"{self.shape}: a group has 1 window or more, a window 2 tokens or more")
        self.quick = known.quick if known is not None else None
        """Up to which size batches agree bit for bit; None: verify."""
        self.counts = Counts()
        self._running: list[Generation] = []
        self._dummies: list[Sequence] = []
        self._turn = asyncio.Lock()

    async def begin(
        self,
        prompt: list[int],
        limit: int,
        sampling: Sampling = Sampling(),
        deterministic: bool = True,
        written: list[int] | None = None,
        saved: bytes = b"",
        rules: Rules | None = None,
    ) -> Generation:
        """Begin a generation of at most `limit` tokens. `written`: what is settled of it already, by an earlier life;
        `saved`: its cells, as `save` gave them, which is quicker than to compute them anew and comes to the same.
        Raises BadInput for a prompt without tokens or a limit that does not fit."""
        if not prompt:
            raise BadInput("the prompt has no tokens; give it at least one")
        room = getattr(self.engine, "room", self.engine.cells)
        if len(prompt) + limit + self.shape.window > room:
            raise BadInput(
                f"a prompt of {len(prompt)} tokens, {limit} new ones and a window of {self.shape.window} do not fit a "
                f"sequence of {room}; shorten them, or open the engine with more cells"
            )
        ledger = Ledger(self.shape.window, limit, self.engine.end)
        generation = Generation(
            await self.engine.sequence(), list(prompt), sampling, ledger, deterministic, self._crashes, rules
        )
        if written:
            ledger.tokens, ledger.settled = list(written), len(written)
            for token in written:
                generation.took(token)
        try:
            if saved:
                await self._restore(generation, saved)
        except BaseException:
            await generation.sequence.close()
            raise
        self.wake(generation)
        return generation

    async def generate(
        self, prompt: list[int], limit: int, sampling: Sampling = Sampling(), deterministic: bool = True
    ) -> list[int]:
        """The tokens that follow the prompt, up to and with one that ends the generation."""
        generation = await self.begin(prompt, limit, sampling, deterministic)
        try:
            return [token async for tokens in self.follow(generation) for token in tokens]
        finally:
            await self.end(generation)

    async def follow(self, generation: Generation) -> AsyncIterator[list[int]]:
        """The final tokens, as they come."""
        told = 0
        self.wake(generation)
        while True:
            tokens = generation.tokens[told:]
            told += len(tokens)
            if tokens:
                yield tokens
            if generation.done:
                return
            async with self._turn:
                if len(generation.tokens) == told and not generation.done:
                    await self.turn()

    def rest(self, generation: Generation) -> None:
        """Don't work on it until somebody follows it again. Its cells stay."""
        if generation in self._running:
            self._running.remove(generation)
            generation.crashes = self._crashes

    def wake(self, generation: Generation) -> None:
        """Work on it again."""
        if generation not in self._running and not generation.done:
            if generation.crashes != self._crashes:
                generation.stale, generation.sound = True, 0
            self._running.append(generation)

    async def end(self, generation: Generation) -> None:
        """Give its cells back, done or not."""
        if generation in self._running:
            self._running.remove(generation)
        await generation.sequence.close()

    async def save(self, generation: Generation) -> bytes:
        """The cells of a generation, for `begin`."""
        async with self._turn:
            return await generation.sequence.save()

    async def close(self) -> None:
        """End all; the engine stays."""
        for generation in list(self._running):
            await self.end(generation)
        for dummy in self._dummies:
            await dummy.close()
        self._dummies = []

    # --- one turn ---------------------------------------------------------------------------------------------------

    async def turn(self) -> None:
        """Get every generation on by a token, and verify what is due."""
        for generation in [each for each in self._running if each.exact and each.stale]:
            await self._build(generation)
        exact = [each for each in self._running if each.exact and not each.stale and self._can_draw(each)]
        plain = [each for each in self._running if not each.exact]
        if self.quick is None:
            for each in [each for each in exact if self._final(each)]:
                await self._draw([each])
            await self._draw([each for each in exact if not self._final(each)] + plain)
        elif exact:
            new = [each for each in plain if each.stale]
            rows = exact + [each for each in plain if not each.stale]
            for begin in range(0, len(rows), self.quick):
                await self._draw(rows[begin : begin + self.quick])
            await self._draw(new)
        else:
            await self._draw(plain)
        await self._verify()
        self._running = [each for each in self._running if not each.done]

    def _final(self, generation: Generation) -> bool:
        """Whether what is drawn of it needs no verification: it is drawn in batches that agree, or in its own."""
        return self.quick is not None or generation.rules is not None

    def _can_draw(self, generation: Generation) -> bool:
        ledger = generation.ledger
        return not (ledger.ended if self._final(generation) else ledger.due)

    async def _draw(self, generations: list[Generation]) -> None:
        if not generations:
            return
        feeds = [
            Feed(
                each.sequence,
                each.prompt if each.stale else each.ledger.tokens[-1:],
                sample=each.sampling,
                allow=each.allow(),
            )
            for each in generations
        ]
        told = await self._step(feeds)
        self.counts.steps += 1
        for each, heard in zip(generations, told, strict=True):
            if each.exact and each.stale:
                continue  # the engine crashed meanwhile
            each.ledger.draw(heard.tokens[0])
            each.stale = False
            if not each.exact or self._final(each):
                each.ledger.settle()
                each.took(heard.tokens[0])
            self.counts.drawn += each.exact

    async def _verify(self) -> None:
        while self.quick is None:
            verified = [each for each in self._running if each.exact and not self._final(each)]
            unsettled = [each for each in verified if not each.stale and not each.done]
            group = sorted(unsettled, key=lambda each: not each.ledger.due)[: self.shape.group]
            if not group or not group[0].ledger.due:
                return
            told = await self._windows([(each, each.ledger.begin, each.ledger.inputs) for each in group])
            for each, heard in zip(group, told, strict=True):
                if each.stale:
                    continue
                self.counts.windows += 1
                self.counts.rolled_back += each.ledger.judge(heard.tokens)
                await each.sequence.trim(len(each.prompt) + each.ledger.settled - 1)

    async def _windows(self, wanted: list[tuple[Generation, int, list[int]]]) -> list[Told]:
        """Compute a group of windows, each from its place on, in the fixed shape."""
        size = self.shape.window
        feeds = []
        for each, begin, inputs in wanted:
            await each.sequence.trim(len(each.prompt) + begin)
            padded = inputs + [_DUMMY] * (size - len(inputs))
            feeds.append(Feed(each.sequence, padded, want="all", sample=each.sampling))
        self.counts.verifications += 1
        return await self._step(feeds, self.shape.group - len(feeds), size)

    async def _step(self, feeds: list[Feed], dummies: int = 0, size: int = 1) -> list[Told]:
        """A batch, filled up by dummies. If the engine died on the way, it has made all cells again, in batches of
        other shapes: those of exact generations are stale then."""
        crashes = self._crashes
        filling = await self._fill(dummies)
        told = await self.engine.step(
            feeds + [Feed(each, [_DUMMY] * size, want="none", sample=None) for each in filling]
        )
        self.counts.dummies += size * len(filling)
        for each in filling:
            await each.trim(0)
        if self._crashes != crashes:
            for generation in [each for each in self._running if each.exact]:
                generation.stale, generation.sound = True, 0
        return told[: len(feeds)]

    @property
    def _crashes(self) -> int:
        return getattr(self.engine, "crashes", 0)

    async def _fill(self, count: int) -> list[Sequence]:
        while len(self._dummies) < count:
            self._dummies.append(await self.engine.sequence("dummy"))
        return self._dummies[: max(count, 0)]

    # --- cells as they would have been ------------------------------------------------------------------------------

    async def _restore(self, generation: Generation, saved: bytes) -> None:
        """Take saved cells, as far as they are those of this generation and final."""
        sequence, ledger = generation.sequence, generation.ledger
        await sequence.restore(saved)
        wanted, found = generation.prompt + ledger.tokens, sequence.tokens
        same = next((n for n, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(found))
        if same < min(len(generation.prompt), len(found)):
            raise BadInput("the saved cells are of another generation")
        final = max(ledger.settled - 1, 0) if self._final(generation) else ledger.begin
        generation.sound = min(same, len(generation.prompt) + final)

    async def _build(self, generation: Generation) -> None:
        """Compute the cells that are missing, in the batches in which they would have been computed."""
        ledger, prompt, sequence = generation.ledger, generation.prompt, generation.sequence
        del ledger.tokens[ledger.settled :]
        sound = generation.sound if generation.sound >= len(prompt) else 0
        await sequence.trim(sound)
        generation.stale, generation.sound = False, 0
        again = ledger.settled > 0
        if not sound:
            heard = Told()
            for begin in range(0, len(prompt), CHUNK):
                chunk = prompt[begin : begin + CHUNK]
                (heard,) = await self._step(
                    [Feed(sequence, chunk, sample=generation.sampling, allow=generation.allow())]
                )
            if not again and not generation.stale:
                ledger.first(heard.tokens[0])
                generation.took(heard.tokens[0])
                self.counts.drawn += 1
        if again:
            self.counts.rebuilt += len(prompt) + ledger.settled - 1 - sound
            await (self._rebuild_tokens if self._final(generation) else self._rebuild_windows)(generation)

    async def _rebuild_windows(self, generation: Generation) -> None:
        ledger, start = generation.ledger, generation.sequence.length - len(generation.prompt)
        size = self.shape.window
        for begin in range(start // size * size, ledger.begin, size):
            await self._windows([(generation, begin, ledger.tokens[begin : begin + size])])
        await generation.sequence.trim(len(generation.prompt) + ledger.begin)
        rest = ledger.tokens[ledger.begin : ledger.settled - 1]
        if rest:  # provisional, until their window is verified again
            await self._step([Feed(generation.sequence, rest, want="none", sample=None)])

    async def _rebuild_tokens(self, generation: Generation) -> None:
        start = generation.sequence.length - len(generation.prompt)
        for token in generation.ledger.tokens[start : generation.ledger.settled - 1]:
            await self._step([Feed(generation.sequence, [token], want="none", sample=None)])
