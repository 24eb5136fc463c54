"""Exact generations: the same tokens whatever the batch, the order of arrival, a crash, or a second life."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wobbly import Wobbly
from weft.core.errors import BadInput, ModelError
from weft.model.engine import Engine, Feed, Sampling, open_engine
from weft.model.engine.calibrate import Known, calibrate
from weft.model.engine.exact import Exact, Generation, Shape
from weft.model.engine.ledger import Ledger

T = TypeVar("T")
PROMPTS = [[1 + (7 * n + k * k) % 90 for k in range(3 + n % 4)] for n in range(6)]
AGREE = Known(rows=[[1, 2, 3, 4]], chunks=[[1], [2]], slots=True)


def up_to_four(shape: tuple[int, ...]) -> Any:
    """A machine on which up to four rows are computed alike."""
    return "few" if len(shape) <= 4 and all(size == 1 for size in shape) else shape


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def played(
    exact: Exact, arrivals: list[int], limit: int = 40, asked: Iterable[bool] = (), kill: int = -1
) -> list[list[int]]:
    """The tokens of PROMPTS, each begun at its turn."""
    wanted = list(asked) or [True] * len(arrivals)
    begun: dict[int, Generation] = {}
    turn = 0
    while len(begun) < len(arrivals) or not all(each.done for each in begun.values()):
        for n, arrival in enumerate(arrivals):
            if arrival == turn:
                begun[n] = await exact.begin(PROMPTS[n], limit, Sampling(1.0, seed=n), wanted[n])
        if turn == kill:
            os.kill(exact.engine.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        await exact.turn()
        turn += 1
        assert turn < 2000
    for each in begun.values():
        await exact.end(each)
    await exact.close()
    return [begun[n].tokens for n in range(len(arrivals))]


TOGETHER = [0] * len(PROMPTS)
ONE_BY_ONE = [n * 90 for n in range(len(PROMPTS))]


# --- what is settled ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 9), st.integers(1, 40), st.sets(st.integers(0, 60)), st.integers(0, 30), st.randoms())
def test_rollback_arithmetic_is_that_of_an_oracle(
    window: int, limit: int, wrong: set[int], end: int, rng: random.Random
) -> None:
    """True tokens count up from `end` to 0; the quick path draws nonsense at the places `wrong`, each once."""
    true = [*range(end, 0, -1), 0][:limit] or [0]
    ledger = Ledger(window, limit, end={0})
    ledger.first(true[0])
    rolled_back = expected = 0
    left = set(wrong)
    while not ledger.done:
        while not ledger.due:
            place = len(ledger.tokens)
            right = place < len(true) and ledger.tokens == true[:place] and place not in left
            left.discard(place)
            ledger.draw(true[place] if right else 1000 + rng.randrange(9))
        first_wrong = next((n for n, (a, b) in enumerate(zip(ledger.tokens, true, strict=False)) if a != b), None)
        first_wrong = len(true) if first_wrong is None and len(ledger.tokens) > len(true) else first_wrong
        if first_wrong is not None:
            expected += len(ledger.tokens) - first_wrong
        inputs = ledger.inputs
        assert 1 <= len(inputs) <= window and ledger.begin % window == 0
        truth = [true[n + 1] if n + 1 < len(true) else 77 for n in range(ledger.begin, ledger.begin + window)]
        before = ledger.settled
        rolled_back += ledger.judge(truth)
        assert ledger.tokens[: ledger.settled] == true[: ledger.settled]
        assert ledger.settled > before or ledger.done
    assert ledger.tokens == true
    assert rolled_back == expected


def test_a_verification_that_contradicts_an_earlier_one_is_an_error() -> None:
    ledger = Ledger(4, 10)
    ledger.tokens, ledger.settled = [5, 6, 7, 8], 3
    with pytest.raises(ModelError, match="same batch twice"):
        ledger.judge([6, 99, 8, 9])


@pytest.mark.parametrize(("window", "limit"), [(1, 5), (0, 5), (4, 0)])
def test_a_ledger_of_nothing_is_refused(window: int, limit: int) -> None:
    with pytest.raises(BadInput, match="2 tokens or more"):
        Ledger(window, limit)


# --- the same tokens ------------------------------------------------------------------------------------------------


def test_without_it_the_batch_shows() -> None:
    plain = [False] * len(PROMPTS)
    together = run(played(Exact(Wobbly()), TOGETHER, asked=plain))
    assert together != run(played(Exact(Wobbly()), ONE_BY_ONE, asked=plain))


ARRIVALS = st.lists(st.integers(0, 60), min_size=len(PROMPTS), max_size=len(PROMPTS))


@settings(max_examples=25, deadline=None)
@given(ARRIVALS, st.sampled_from([(1, 8), (1, 16), (2, 5), (4, 8)]), st.sets(st.integers(0, 150), max_size=3))
def test_verified_tokens_are_the_same_under_any_schedule_and_crash(
    arrivals: list[int], shape: tuple[int, int], crash_at: set[int]
) -> None:
    expected = run(played(Exact(Wobbly(), Shape(*shape)), ONE_BY_ONE))
    engine = Wobbly(crash_at=crash_at)
    exact = Exact(engine, Shape(*shape))
    assert run(played(exact, arrivals)) == expected
    assert not engine.alive
    assert exact.counts.rolled_back > 0


@settings(max_examples=40, deadline=None)
@given(ARRIVALS, st.sets(st.integers(0, 150), max_size=3), st.lists(st.booleans(), min_size=6, max_size=6))
def test_in_batches_that_agree_nothing_is_verified(arrivals: list[int], crash_at: set[int], asked: list[bool]) -> None:
    expected = run(played(Exact(Wobbly(up_to_four), known=AGREE), ONE_BY_ONE))
    engine = Wobbly(up_to_four, crash_at=crash_at)
    exact = Exact(engine, known=AGREE)
    found = run(played(exact, arrivals, asked=asked))
    assert [one for one, exactly in zip(found, asked, strict=True) if exactly] == [
        one for one, exactly in zip(expected, asked, strict=True) if exactly
    ]
    assert exact.counts.verifications == exact.counts.rolled_back == 0


def test_neighbours_that_did_not_ask_pay_nothing() -> None:
    alone, asked = Exact(Wobbly()), [False] * 3
    run(played(alone, [0, 0, 0], asked=asked))
    assert alone.counts.verifications == alone.counts.dummies == alone.counts.drawn == 0
    beside = Exact(Wobbly(lambda _: None))
    without = run(played(Exact(Wobbly(lambda _: None)), [0, 0], asked=[False, False]))
    assert run(played(beside, [0, 0, 0], asked=[False, False, True]))[:2] == without
    verified = beside.counts.windows
    assert verified == beside.counts.verifications <= 40 // 15 + 1


def test_dummies_fill_the_fixed_shape() -> None:
    engine = Wobbly()
    run(played(Exact(engine, Shape(4, 8)), [0, 3]))
    verifying = [shape for shape in engine.shapes if len(shape) == 4]
    assert verifying and set(verifying) == {(8, 8, 8, 8)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 39), st.booleans(), st.booleans(), st.integers(0, 39))
def test_a_second_life_goes_on_where_the_first_ended(cut: int, agree: bool, keep: bool, older: int) -> None:
    """From the settled tokens alone, or with cells that were saved then, or before."""

    def machine() -> Exact:
        return Exact(Wobbly(up_to_four), Shape(2, 8), AGREE if agree else None)

    async def lives() -> tuple[list[int], list[int], int]:
        whole = await machine().generate(PROMPTS[0], 40, Sampling(1.0, seed=3))
        first, saved = machine(), b""
        begun = await first.begin(PROMPTS[0], 40, Sampling(1.0, seed=3))
        for turn in range(cut):
            await first.turn()
            if keep and (turn <= older or not saved):
                saved = await first.save(begun)
        second = machine()
        again = await second.begin(PROMPTS[0], 40, Sampling(1.0, seed=3), written=begun.tokens, saved=saved)
        while not again.done:
            await second.turn()
        return whole, again.tokens, second.counts.rebuilt

    whole, again, _ = run(lives())
    assert again == whole


def test_saved_cells_save_work_and_those_of_another_are_refused() -> None:
    async def work() -> tuple[int, int]:
        first = Exact(Wobbly(), Shape(1, 8))
        begun = await first.begin(PROMPTS[1], 40, Sampling(1.0, seed=4))
        while len(begun.tokens) < 30 and not begun.done:
            await first.turn()
        assert not begun.done
        saved, rebuilt = await first.save(begun), []
        for cells in (b"", saved):
            second = Exact(Wobbly(), Shape(1, 8))
            again = await second.begin(PROMPTS[1], 40, Sampling(1.0, seed=4), written=begun.tokens, saved=cells)
            await second.turn()
            assert not again.stale
            rebuilt.append(second.counts.rebuilt)
        with pytest.raises(BadInput, match="another generation"):
            await second.begin(PROMPTS[2], 40, saved=saved)
        return rebuilt[0], rebuilt[1]

    without, with_cells = run(work())
    assert with_cells < 8 < 30 < without


def test_whoever_waits_works_for_all() -> None:
    async def work() -> list[list[int]]:
        exact = Exact(Wobbly(), Shape(2, 8))
        tasks = [exact.generate(prompt, 40, Sampling(1.0, seed=n)) for n, prompt in enumerate(PROMPTS)]
        found = await asyncio.gather(*tasks)
        assert not exact.engine.alive or {each.label for each in exact.engine.alive} == {"dummy"}  # type: ignore[attr-defined]
        await exact.close()
        return list(found)

    assert run(work()) == run(played(Exact(Wobbly(), Shape(2, 8)), ONE_BY_ONE))


def test_one_who_leaves_takes_its_cells() -> None:
    async def work() -> None:
        engine = Wobbly()
        exact = Exact(engine)
        task = asyncio.create_task(exact.generate(PROMPTS[0], 5000))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not engine.alive
        assert len(await exact.generate(PROMPTS[0], 3)) == 3

    run(work())


@pytest.mark.parametrize(
    ("prompt", "limit", "match"),
    [([], 5, "no tokens"), ([1], 0, "1 or more"), ([1] * 90, 20, "do not fit a sequence of 100")],
)
def test_a_generation_that_cannot_be_is_refused(prompt: list[int], limit: int, match: str) -> None:
    engine = Wobbly(cells=100)
    with pytest.raises(BadInput, match=match):
        run(Exact(engine).begin(prompt, limit))
    assert not engine.alive


def test_a_shape_that_cannot_be_is_refused() -> None:
    for shape in (Shape(0, 16), Shape(1, 1)):
        with pytest.raises(BadInput, match="a group has 1 window"):
            Exact(Wobbly(), shape)


# --- calibration ----------------------------------------------------------------------------------------------------


def test_calibration_finds_the_classes() -> None:
    found = run(calibrate(Wobbly(up_to_four)))
    assert found.rows == [[1, 2, 3, 4], [8]] and found.quick == 4 and not found.invariant
    found = run(calibrate(Wobbly(lambda _: None)))
    assert found.rows == [[1, 2, 3, 4, 8]] and found.quick == 8 and found.invariant and found.slots
    assert run(calibrate(Wobbly())).quick is None


def test_a_class_with_a_gap_is_used_up_to_the_gap() -> None:
    assert Known([[1, 2, 8], [4]], [], True).quick == 2
    assert Known([[1, 4], [2, 8]], [], True).quick is None
    assert Known([[1], [2, 3, 4]], [], True).quick is None


def test_an_engine_that_contradicts_itself_is_none_to_be_exact_on() -> None:
    count = iter(range(10_000))
    with pytest.raises(ModelError, match="different results"):
        run(calibrate(Wobbly(lambda _: next(count))))


@pytest.mark.parametrize("wrong", [{"rows": ()}, {"rows": (0, 1)}, {"chunks": ()}, {"window": 1}, {"group": 0}])
def test_calibration_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="sizes are 1 or more"):
        run(calibrate(Wobbly(), **wrong))


# --- on llama.cpp ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf", reason="writing a model file needs the extra `torch`")
    from weft.model.engine.weights import toy

    return toy(tmp_path_factory.mktemp("model") / "toy.gguf", "bf16")


def test_on_the_engine_with_a_killed_child(toy_file: Path) -> None:
    """Bit for bit: the logits after the last token agree too."""

    async def work() -> None:
        engine = await open_engine(toy_file, cells=128 * 10, sequences=10, unified=False)
        known = await calibrate(engine)
        assert known.slots and sum(map(len, known.rows)) == 5
        for allowed in (None, known):
            together = await played(Exact(engine, known=allowed), TOGETHER, 24)
            mixed = await played(Exact(engine, known=allowed), [0, 9, 4, 21, 2, 2], 24)
            crashes = engine.crashes
            killed = await played(Exact(engine, known=allowed), [0, 9, 4, 21, 2, 2], 24, kill=17)
            assert together == mixed == killed
            assert engine.crashes == crashes + 1
        await engine.close()

    run(work())


def test_the_order_of_feeds_leaves_no_trace(toy_file: Path) -> None:
    """With a buffer for each sequence, llama.cpp computes sequences out of order in parts, which round differently."""

    async def main() -> None:
        engine = await open_engine(toy_file, cells=128, sequences=4, unified=False)
        try:
            sequences = [await engine.sequence() for _ in range(4)]
            await engine.step([Feed(each, [3 + n, 9], "none", None) for n, each in enumerate(sequences)])
            told = []
            for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
                feeds = [Feed(sequences[n], [20 + n], sample=None, logits=True) for n in order]
                heard = dict(zip(order, await engine.step(feeds), strict=True))
                told.append([heard[n].logits.tobytes() for n in range(4)])
                for each in sequences:
                    await each.trim(2)
            assert told[0] == told[1] and len(set(told[0])) == 4
        finally:
            await engine.close()

    asyncio.run(main())


def test_saved_cells_of_the_engine_resume_bit_for_bit(toy_file: Path) -> None:
    async def last(engine: Engine, exact: Exact, generation: Generation) -> bytes:
        while not generation.done:
            await exact.turn()
        feed = Feed(generation.sequence, generation.tokens[-1:], sample=None, logits=True)
        await generation.sequence.trim(len(PROMPTS[0]) + len(generation.tokens) - 1)
        (told,) = await engine.step([feed])
        logits: bytes = told.logits.tobytes()
        return logits

    async def work() -> None:
        engine = await open_engine(toy_file, cells=128 * 4, sequences=4, unified=False)
        exact = Exact(engine)
        whole = await exact.begin(PROMPTS[0], 41, Sampling(1.0))
        expected = await last(engine, exact, whole)
        first = await exact.begin(PROMPTS[0], 41, Sampling(1.0))
        while len(first.tokens) < 17:
            await exact.turn()
        saved, written = await exact.save(first), first.tokens
        await exact.end(first)
        for cells in (saved, b""):
            again = await exact.begin(PROMPTS[0], 41, Sampling(1.0), written=written, saved=cells)
            assert await last(engine, exact, again) == expected and again.tokens == whole.tokens
        await engine.close()

    run(work())
