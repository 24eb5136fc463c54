"""Many generations in one batch say what each says alone, whatever the policy, the room, and who leaves early."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.engines import HashEngine, alone
from weft.core.errors import BadInput, ModelCrashed, OutOfCells
from weft.model.engine.batching import Ask, Batcher
from weft.model.engine.policies import ByProgram, Continuum, Fcfs, Fixed, Reload
from weft.model.engine.protocol import Sampling


def prompt(seed: int, length: int) -> list[int]:
    return [*random.Random(seed).randbytes(length)]


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def test_each_says_what_it_says_alone_and_all_share_the_steps() -> None:
    async def main() -> None:
        engine = HashEngine(cells=2000)
        prompts = [prompt(n, 5 + 7 * n) for n in range(8)]
        expected = [await alone(each, 20) for each in prompts]
        async with Batcher(engine, chunk=16) as batcher:
            asks = [Ask(prompt=each, most=20, stop=frozenset()) for each in prompts]
            told = await asyncio.gather(*(batcher.generate(ask).whole() for ask in asks))
        assert told == expected
        assert engine.widest == 8
        assert engine.steps <= 20 + sum(map(len, prompts)) // 8
        assert not engine.sequences

    run(main())


def test_tokens_come_as_they_are_drawn() -> None:
    async def main() -> None:
        engine = HashEngine()
        async with Batcher(engine) as batcher:
            turn = batcher.generate(Ask(prompt=[1, 2, 3], most=30, stop=frozenset()))
            steps = []
            async for token in turn:
                steps.append((engine.steps, token))
            assert [token for _, token in steps] == turn.tokens == await alone([1, 2, 3], 30)
            assert [step for step, _ in steps][:10] == [*range(1, 11)]
            assert turn.finish == "length"

    run(main())


def test_a_stop_token_ends_it_and_is_not_told() -> None:
    async def main() -> None:
        told = await alone([5, 6], 10)
        async with Batcher(HashEngine()) as batcher:
            turn = batcher.generate(Ask(prompt=[5, 6], most=10, stop=frozenset({told[4]})))
            assert await turn.whole() == told[: told.index(told[4])]
            assert turn.finish == "stop"

    run(main())


def test_the_next_turn_of_a_conversation_reads_only_what_is_new() -> None:
    async def main() -> None:
        engine = HashEngine()
        async with Batcher(engine, Fixed(60.0)) as batcher:
            first = prompt(1, 100)
            said = await batcher.generate(Ask(prompt=first, most=10, program="a", stop=frozenset())).whole()
            computed = engine.computed
            assert computed == 109
            second = [*first, *said, *prompt(2, 20)]
            again = await batcher.generate(Ask(prompt=second, most=5, program="a", stop=frozenset())).whole()
            assert again == await alone(second, 5)
            assert engine.computed - computed == 1 + 20 + 4  # the last drawn, what is new, and the answer
            other = [*first[:50], *prompt(3, 10)]  # an earlier place, from where it goes on otherwise
            computed = engine.computed
            assert await batcher.generate(Ask(prompt=other, most=1, program="a", stop=frozenset())).whole() == (
                await alone(other, 1)
            )
            assert engine.computed - computed == 10
            metrics = batcher.metrics()
            assert (metrics.held, metrics.pinned, metrics.waiting, metrics.running) == (1, 1, 0, 0)
            assert metrics.hits == 1.0 and metrics.used == engine.used == 60
            batcher.forget("a")
            await batcher.generate(Ask(prompt=[1], most=1)).whole()
            assert engine.used == 0

    run(main())


def test_the_same_prompt_again_computes_one_token_for_its_answer() -> None:
    async def main() -> None:
        engine = HashEngine()
        async with Batcher(engine) as batcher:
            one = await batcher.generate(Ask(prompt=[9] * 50, most=3, program="a")).whole()
            computed = engine.computed
            assert await batcher.generate(Ask(prompt=[9] * 50, most=3, program="a")).whole() == one
            assert engine.computed - computed == 3

    run(main())


def conversation(engine: HashEngine, batcher: Batcher, seed: int) -> Callable[[], Any]:
    """A program of a few turns with tools that take no time; its text, and what it would be alone."""

    async def talk() -> tuple[list[int], list[int]]:
        dice = random.Random(seed)
        text, expected = prompt(seed, dice.randint(1, 20)), None
        expected = [*text]
        rounds = dice.randint(1, 4)
        for number in range(rounds):
            most = dice.randint(1, 8)
            sampling = Sampling(temperature=dice.choice([0.0, 1.0]), seed=seed)
            ask = Ask(
                prompt=text,
                most=most,
                program=f"p{seed}",
                sampling=sampling,
                stop=frozenset(),
                last=number == rounds - 1,
                calls=lambda tokens: "look",
                priority=dice.randint(0, 1),
            )
            text = text + await batcher.generate(ask).whole() + prompt(seed + 1000 * number, 3)
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(0)
            new = await alone(expected, most, sampling)
            expected = expected + new + prompt(seed + 1000 * number, 3)
        return text, expected

    return talk


@given(
    seed=some.integers(0, 10**6),
    cells=some.integers(80, 200),
    store=some.sampled_from([0, 60]),
    chunk=some.sampled_from([1, 7, 64]),
    policy=some.sampled_from([Fcfs, ByProgram, lambda: Fixed(0.01), lambda: Continuum(Reload(b=0.1), cold=2)]),
    slots=some.sampled_from([2, 6]),
)
@settings(max_examples=40, deadline=None)
def test_no_policy_and_no_lack_of_room_changes_a_word(
    seed: int, cells: int, store: int, chunk: int, policy: Any, slots: int
) -> None:
    async def main() -> None:
        engine = HashEngine(cells=cells, most=slots)
        async with Batcher(engine, policy(), slots=slots, chunk=chunk, store=store, patience=1.0) as batcher:
            talks = [conversation(engine, batcher, seed + number)() for number in range(7)]
            for text, expected in await asyncio.wait_for(asyncio.gather(*talks), 60):
                assert text == expected
            assert not engine.sequences and batcher.metrics().used == 0

    run(main())


def test_who_leaves_gives_its_room_back_and_disturbs_nobody() -> None:
    async def main() -> None:
        engine = HashEngine(cells=300)
        async with Batcher(engine) as batcher:
            stays = batcher.generate(Ask(prompt=prompt(1, 50), most=60, stop=frozenset()))
            leaves = batcher.generate(Ask(prompt=prompt(2, 50), most=60, stop=frozenset()))
            waits = batcher.generate(Ask(prompt=prompt(3, 250), most=40, stop=frozenset()))
            seen = 0
            async for _ in leaves:
                seen += 1
                if seen == 5:
                    leaves.cancel()
                    waits.cancel()
            assert (leaves.finish, waits.finish) == ("cancelled", "cancelled")
            assert 5 <= len(leaves.tokens) <= 7 and waits.tokens == []
            assert await stays.whole() == await alone(prompt(1, 50), 60, Sampling())
            assert engine.used == 0
            stays.cancel()  # nothing is left to cancel
            assert stays.finish == "length"

    run(main())


def test_a_cancelled_turn_leaves_its_program_where_it_was() -> None:
    async def main() -> None:
        engine = HashEngine(cells=400)
        async with Batcher(engine, store=300) as batcher:
            text = prompt(1, 60)
            turn = batcher.generate(Ask(prompt=text, most=50, program="a", stop=frozenset()))
            async for _ in turn:
                if len(turn.tokens) == 3:
                    turn.cancel()
            await batcher.generate(Ask(prompt=prompt(2, 380), most=2)).whole()  # which takes its room
            other = [*text[:30], *prompt(3, 30)]
            told = await batcher.generate(Ask(prompt=other, most=5, program="a", stop=frozenset())).whole()
            assert told == await alone(other, 5, Sampling())
            assert batcher.metrics().counts.loaded == 30

    run(main())


def test_a_refused_step_is_told_to_those_in_it_and_the_next_goes_well() -> None:
    async def main() -> None:
        engine = HashEngine(fails=[ModelCrashed("it died")])
        async with Batcher(engine) as batcher:
            with pytest.raises(ModelCrashed, match="it died"):
                await batcher.generate(Ask(prompt=[1, 2], most=5, program="a")).whole()
            assert await batcher.generate(Ask(prompt=[1, 2], most=1, program="a")).whole() == await alone([1, 2], 1)
            assert len(engine.sequences) == 1

    run(main())


def test_a_callers_own_error_is_its_own() -> None:
    async def main() -> None:
        def calls(tokens: list[int]) -> str:
            raise LookupError("no such tool")

        async with Batcher(HashEngine()) as batcher:
            bad = batcher.generate(Ask(prompt=[1], most=3, program="a", calls=calls))
            good = batcher.generate(Ask(prompt=[2], most=9, stop=frozenset()))
            with pytest.raises(LookupError):
                await bad.whole()
            assert len(await good.whole()) == 9

    run(main())


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> None:
        engine = HashEngine()
        batcher = Batcher(engine)
        turn = batcher.generate(Ask(prompt=[1], most=10**6, stop=frozenset()))
        async for _ in turn:
            break
        await batcher.close()
        assert turn.finish == "cancelled" and not engine.sequences
        with pytest.raises(BadInput, match="closed"):
            batcher.generate(Ask(prompt=[1]))

    run(main())


def test_bad_asks_are_refused_at_once() -> None:
    async def main() -> None:
        engine = HashEngine(cells=100)
        with pytest.raises(BadInput, match="has 100 cells"):
            Batcher(engine, cells=101)
        async with Batcher(engine) as batcher:
            for bad in ([], [257], [-1]):
                with pytest.raises(BadInput):
                    batcher.generate(Ask(prompt=bad))
            with pytest.raises(BadInput):
                batcher.generate(Ask(prompt=[1], most=0))
            with pytest.raises(OutOfCells, match="do not fit in 100 cells"):
                batcher.generate(Ask(prompt=[1] * 90, most=11))
            turn = batcher.generate(Ask(prompt=[1], most=5, program="a"))
            with pytest.raises(BadInput, match="under way"):
                batcher.generate(Ask(prompt=[1], most=5, program="a"))
            with pytest.raises(BadInput, match="under way"):
                batcher.forget("a")
            await turn.whole()

    run(main())


def test_a_grammar_holds_what_is_drawn() -> None:
    class Digits:
        ended = False

        def __init__(self) -> None:
            self.seen: list[int] = []

        def allow(self) -> bytes:
            mask = bytearray(33)
            for digit in b"0123456789":
                mask[digit // 8] |= 1 << digit % 8
            return bytes(mask)

        def accept(self, token: int) -> None:
            self.seen.append(token)

    async def main() -> None:
        rules = Digits()
        async with Batcher(HashEngine()) as batcher:
            told = await batcher.generate(Ask(prompt=[65], most=12, rules=rules)).whole()
        assert bytes(told).isdigit() and rules.seen == told

    run(main())
