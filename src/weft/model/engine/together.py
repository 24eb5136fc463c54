"""One engine for many drivers: steps that are asked for at the same time become one batch.

    engine = Together(engine)
    await asyncio.gather(solve(engine, one), solve(engine, other))

Each driver (a tree of subtasks, threads, a row of streams) steps as if it were alone. What is asked for while a step is
computed goes into the next. A batch that does not fit is done part by part, so that only who asks too much is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.protocol import Engine, Feed, Sequence, Told


class Together:
    """An engine whose concurrent steps are joined. Sequences are the engine's own."""

    def __init__(self, engine: Engine, most: int = 512) -> None:
        """`most`: the most tokens in a joined batch; one step that is larger goes alone."""
        self._engine = engine
        self._most = most
        self._asked: list[tuple[list[Feed], asyncio.Future[list[Told]]]] = []
        self._task: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def cells(self) -> int:
        return self._engine.cells

    @property
    def used(self) -> int:
        return self._engine.used

    @property
    def vocabulary(self) -> int:
        return self._engine.vocabulary

    @property
    def end(self) -> frozenset[int]:
        return self._engine.end

    async def tokenize(self, text: str, special: bool = False) -> list[int]:
        return await self._engine.tokenize(text, special)

    async def detokenize(self, tokens: Iterable[int]) -> bytes:
        return await self._engine.detokenize(tokens)

    async def sequence(self, label: str = "") -> Sequence:
        return await self._engine.sequence(label)

    async def close(self) -> None:
        await self._engine.close()

    async def step(self, feeds: list[Feed]) -> list[Told]:
        told: asyncio.Future[list[Told]] = asyncio.get_running_loop().create_future()
        self._asked.append((feeds, told))
        if self._task is None:
            self._task = asyncio.create_task(self._serve())
        return await told

    async def _serve(self) -> None:
        try:
            await asyncio.sleep(0)  # who is ready to ask, asks
            while self._asked:
                batch = self._batch()
                try:
                    await self._step(batch)
                except BaseException as error:
                    for _, told in batch:
                        _raise(told, error)
                    if not isinstance(error, Exception):
                        raise
                await asyncio.sleep(0)
        finally:
            self._task = None

    def _batch(self) -> list[tuple[list[Feed], asyncio.Future[list[Told]]]]:
        """Those who asked first, as many as go together."""
        batch: list[tuple[list[Feed], asyncio.Future[list[Told]]]] = []
        tokens, seen = 0, set[int]()
        while self._asked:
            feeds, told = self._asked[0]
            size = sum(len(feed.tokens) for feed in feeds)
            mine = {id(feed.sequence) for feed in feeds}
            if batch and (tokens + size > self._most or seen & mine):
                break
            self._asked.pop(0)
            if not told.cancelled():
                batch.append((feeds, told))
                tokens, seen = tokens + size, seen | mine
        return batch

    async def _step(self, batch: list[tuple[list[Feed], asyncio.Future[list[Told]]]]) -> None:
        try:
            answers = await self._engine.step([feed for feeds, _ in batch for feed in feeds])
        except (OutOfCells, BadInput) as error:
            if len(batch) == 1:
                _raise(batch[0][1], error)
                return
            for one in batch:
                await self._step([one])
            return
        for feeds, told in batch:
            mine, answers = answers[: len(feeds)], answers[len(feeds) :]
            if not told.done():
                told.set_result(mine)


def _raise(told: asyncio.Future[list[Told]], error: BaseException) -> None:
    if not told.done():
        told.set_exception(error) if isinstance(error, Exception) else told.cancel()
