"""The engine's process is killed, at any moment: the program goes on, with the same sequences."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import weft.model
from weft.core.errors import BadInput, ModelCrashed
from weft.model.engine import Feed, LocalEngine, open_engine

T = TypeVar("T")
STORY = "Once upon a time, there was a little"


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = run(open_engine(weft.model.fetch("smollm2-135m"), cells=256, sequences=8, batch=256, chunk=256))
    yield engine
    engine.shut()


def kill(engine: LocalEngine, how: int = signal.SIGKILL) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, how)


async def far(sequence: Any, tokens: list[int]) -> Any:
    """The logits after these tokens."""
    (told,) = await sequence.engine.step([Feed(sequence, tokens, logits=True)])
    return told.logits[0]


async def ahead(*sequences: Any) -> list[Any]:
    """The logits after a token more, which is not kept."""
    found = []
    for sequence in sequences:
        fork = await sequence.fork()
        found.append(await far(fork, [30]))
        await fork.close()
    return found


def near(one: Any, other: Any) -> bool:
    """Nearly the same: computed in another order."""
    return float(np.corrcoef(one, other)[0, 1]) > 0.99


def test_sequences_are_made_again_and_what_was_asked_is_answered(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, tokens, "none", None)])
        one, two = await trunk.fork(), await trunk.fork(5)
        await engine.step([Feed(one, [8180], "none", None), Feed(two, [33, 34], "none", None)])
        same = await ahead(trunk, one, two)
        used, crashes, remade = engine.used, engine.crashes, engine.remade
        for how in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV):
            kill(engine, how)
            again = await ahead(trunk, one, two)
            assert all(near(a, b) for a, b in zip(same, again, strict=True))
        assert engine.crashes == crashes + 3
        assert engine.remade == remade + 3 * (len(tokens) + 3)  # a shared prefix is computed once
        assert engine.used == used
        assert trunk.tokens == tokens and one.tokens == [*tokens, 8180] and two.tokens == [*tokens[:5], 33, 34]

    run(steps())


def test_a_saved_sequence_goes_on_with_the_very_bits(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence()
        tokens = await engine.tokenize(STORY)
        for token in tokens:  # one at a time: computed again all at once, other bits would come of it
            await engine.step([Feed(sequence, [token], "none", None)])
        fork = await sequence.fork()
        await sequence.save()
        before = await far(sequence, [30])
        await sequence.trim(len(tokens))
        remade = engine.remade
        kill(engine)
        assert np.array_equal(await far(sequence, [30]), before)
        assert np.array_equal(await far(fork, [30]), before)  # it shared all of it
        assert engine.remade == remade
        kill(engine)
        await sequence.trim(len(tokens))
        assert np.array_equal(await far(sequence, [30]), before)
        other = await engine.sequence()
        await other.restore(await fork.save())
        kill(engine)
        assert near(await far(other, [31]), await far(fork, [31]))
        await fork.trim(3)
        kill(engine)
        assert fork.tokens == tokens[:3] and np.isfinite(await far(fork, [30])).all()

    run(steps())


def test_a_fork_of_a_saved_one_keeps_sharing_what_it_shared(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        first, later = await engine.sequence(), await engine.sequence()
        await engine.step([Feed(first, tokens, "none", None)])
        await first.save()
        await later.restore(await first.save())  # the same words, in cells of its own
        branch = await first.fork(4)
        await engine.step([Feed(branch, [40, 41, 42], "none", None)])
        await branch.save()
        twig = await branch.fork()
        await engine.step([Feed(twig, [50], "none", None), Feed(branch, [60], "none", None)])
        texts = [each.tokens for each in (first, later, branch, twig)]
        wanted = await ahead(first, later, branch, twig)
        for _ in range(2):
            kill(engine)
            found = await ahead(first, later, branch, twig)
            assert all(near(a, b) for a, b in zip(wanted, found, strict=True))
        assert [each.tokens for each in (first, later, branch, twig)] == texts
        await engine.step([Feed(first, [7] * (engine.cells - engine.used), "none", None)])  # as many as the books say
        assert engine.used == engine.cells

    run(steps())


@pytest.mark.parametrize("kept", [True, False])
def test_streams_are_woven_again(engine: LocalEngine, kept: bool) -> None:
    async def steps() -> None:
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, [5, 6, 7], "none", None)])
        streams = [await trunk.fork() for _ in range(3)]
        if not kept:
            await trunk.close()
        for row in range(3, 7):
            await engine.step([Feed(s, [100 * n + row], "none", None) for n, s in enumerate(streams, 1)])
            for stream in streams:
                await stream.publish(row, [other for other in streams if other is not stream])
        texts = [stream.tokens for stream in streams]
        before = await ahead(*streams)
        used = engine.used
        kill(engine)
        after = await ahead(*streams)
        assert all(near(a, b) for a, b in zip(before, after, strict=True))
        assert [stream.tokens for stream in streams] == texts
        assert engine.used == used
        row = 7
        await engine.step([Feed(s, [100 * n + row], "none", None) for n, s in enumerate(streams, 1)])
        await streams[0].publish(row, streams[1:])
        if not kept:
            return
        kill(engine)
        rest = await engine.sequence()
        await engine.step([Feed(rest, [7] * (engine.cells - engine.used), "none", None)])  # as many as the books say

    run(steps())


def test_killed_at_any_moment_nothing_is_lost(engine: LocalEngine) -> None:
    """A thread kills the child again and again while sequences grow, fork, shrink and close."""
    done = threading.Event()
    dice = random.Random(8)

    def murder() -> None:
        while not done.wait(dice.uniform(0.5, 3.0)):
            pid = engine.pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

    async def live(n: int) -> None:
        sequence, have = await engine.sequence(), []
        for step in range(6):
            new = [200 + n, 300 + step]
            await engine.step([Feed(sequence, new, "none", None)])
            have += new
            if step == 2:
                fork = await sequence.fork(3)
                await sequence.close()
                sequence, have = fork, have[:3]
            assert sequence.tokens == have
        await sequence.trim(2)
        assert sequence.tokens == have[:2] and sequence.length == 2

    async def lives() -> None:
        await asyncio.gather(*map(live, range(3)))

    killer = threading.Thread(target=murder)
    killer.start()
    crashes = engine.crashes
    try:
        for _ in range(20):
            run(lives())
            if engine.crashes > crashes + 1:
                break
    finally:
        done.set()
        killer.join()
    assert engine.crashes > crashes


def test_an_order_that_kills_every_child_is_given_up(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from weft.model.engine.process import Child

    real = Child.ask

    def deadly(child: Child, order: Any) -> Any:
        if type(order).__name__ == "Tokenize":
            os.kill(child.pid or 0, signal.SIGABRT)
        return real(child, order)

    monkeypatch.setattr(Child, "ask", deadly)
    with pytest.raises(ModelCrashed, match="SIGABRT"):
        run(engine.tokenize("x"))
    monkeypatch.undo()
    assert run(engine.tokenize("x"))


def test_closing_ends_the_child_and_what_is_asked_afterwards_is_refused() -> None:
    engine = run(open_engine(weft.model.fetch("smollm2-135m"), cells=256, sequences=2))
    child = engine.pid
    assert child is not None
    run(engine.close())
    run(engine.close())
    assert not runs(child) and engine.pid is None
    with pytest.raises(BadInput, match="was closed"):
        run(engine.sequence())


PARENT = """
import asyncio, time, weft.model as m
from weft.model.engine import open_engine
engine = asyncio.run(open_engine(m.fetch("smollm2-135m"), cells=256, sequences=2))
print(engine.pid, flush=True)
time.sleep(60)
"""


def test_the_child_leaves_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert runs(child)
        parent.kill()
    deadline = time.monotonic() + 30
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(child)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
