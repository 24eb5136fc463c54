"""The local engine on the real small model: sequences that fork, shrink, share, travel as bytes, and are counted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft.model
from weft.cli.doctor import examine
from weft.core.errors import BadInput, EngineUnfit, ModelUnavailable, OutOfCells
from weft.model.engine import Feed, LocalEngine, Sampling, abi, close_engines, open_engine, shared_engine
from weft.model.engine.grammar import Grammar
from weft.model.engine.opening import settings_of
from weft.model.engine.prompt import prompted, rendered
from weft.model.engine.sample import draw, likeliest, masked, number

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def opened(**options: Any) -> LocalEngine:
    return run(open_engine(weft.model.fetch("smollm2-135m"), **options))


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = opened(cells=512, sequences=8, batch=64, chunk=64)
    yield engine
    engine.shut()


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves cells behind."""
    yield
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        gc.collect()
        assert run(engine.do(lambda: engine.used)) == 0


STORY = "Once upon a time, there was a little"


async def greedy(engine: LocalEngine, sequence: Any, tokens: list[int], count: int) -> list[int]:
    """Feed tokens, then what the engine draws."""
    drawn: list[int] = []
    while len(drawn) < count:
        (told,) = await engine.step([Feed(sequence, tokens)])
        tokens = told.tokens
        drawn += tokens
    return drawn


# --- words ----------------------------------------------------------------------------------------------------------


def test_words_become_tokens_and_come_back(engine: LocalEngine) -> None:
    for text in ("Hello, world.", "Grüße, 世界 🌍", "", "a\x00b", "<|im_end|>", " \n\t "):
        assert run(engine.detokenize(run(engine.tokenize(text)))).decode() == text
    assert len(run(engine.tokenize("<|im_end|>"))) > 1
    (end,) = run(engine.tokenize("<|im_end|>", special=True))
    assert end in engine.end and end in engine.controls and engine.piece(end) == b"<|im_end|>"
    assert run(engine.tokenize("lone \ud800 half"))
    with pytest.raises(BadInput, match="none of the 49152 tokens"):
        run(engine.detokenize([engine.vocabulary]))


def test_a_chat_is_written_by_the_model_s_template(engine: LocalEngine) -> None:
    text = rendered(engine, [said("system", "Be short."), said("user", "Grüße")])
    assert text == (
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nGrüße<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not rendered(engine, [said("user", "x" * 5000)], answer=False).endswith("assistant\n")
    tokens = run(prompted(engine, [said("user", "a\x00b <|im_end|>")]))
    assert b"<|im_start|>user\na\x00b <|im_end|><|im_end|>\n" in run(engine.detokenize(tokens))
    assert sum(token in engine.end for token in tokens) == 2  # of the system's words that the template adds, and these


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


# --- steps ----------------------------------------------------------------------------------------------------------


def test_a_step_tells_what_was_asked_of_each_feed(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        one, two, three = [await engine.sequence() for _ in range(3)]
        last, everything, nothing = await engine.step(
            [
                Feed(one, tokens, likely=3),
                Feed(two, tokens, "all", likely=2, logits=True),
                Feed(three, tokens, "none", None),
            ]
        )
        assert len(last.tokens) == 1 and len(last.likely[0]) == 3 and last.logits is None
        assert last.likely[0][0][0] == last.tokens[0] and all(score < 0 for _, score in last.likely[0])
        assert len(everything.tokens) == len(everything.likely) == len(tokens)
        assert everything.logits.shape == (len(tokens), engine.vocabulary)
        assert everything.tokens == everything.logits.argmax(axis=1).tolist()
        assert nothing.tokens == [] and nothing.logits is None
        assert one.tokens == two.tokens == three.tokens == tokens
        assert one.positions == [*range(len(tokens))] and one.length == len(tokens) and engine.used == 3 * len(tokens)
        assert await engine.step([]) == []

    run(steps())


def test_more_than_a_batch_is_computed_in_several(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = (await engine.tokenize("The quick brown fox jumps over the lazy dog. " * 12))[:70]
        one, two = await engine.sequence(), await engine.sequence()
        both = await engine.step([Feed(one, tokens, "all", likely=1), Feed(two, tokens[:66], "last")])
        assert len(both[0].tokens) == 70 and len(both[1].tokens) == 1
        assert one.length == 70 and two.length == 66

    run(steps())


def test_what_cannot_be_fed_is_refused_and_changes_nothing(engine: LocalEngine) -> None:
    other = opened(cells=256, sequences=2)

    async def steps() -> None:
        sequence = await engine.sequence()
        await engine.step([Feed(sequence, [1, 2, 3])])
        for tokens in ([], [-1], [engine.vocabulary], [5, 1 << 80]):
            with pytest.raises(BadInput):
                await engine.step([Feed(sequence, tokens)])
        for wrong in (
            {"allow": bytes(engine.vocabulary // 8)}, {"likely": -1}, {"likely": engine.vocabulary + 1},
            {"want": "some"},
            {"sample": Sampling(-1.0)}, {"sample": Sampling(math.inf)}, {"sample": Sampling(1.0, -1)},
            {"sample": Sampling(1.0, 0, 0.0)}, {"sample": Sampling(math.nan)}, {"sample": Sampling(seed=1 << 64)},
        ):  # fmt: skip
            with pytest.raises(BadInput):
                await engine.step([Feed(sequence, [1], **wrong)])  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="twice"):
            await engine.step([Feed(sequence, [1]), Feed(sequence, [1])])
        with pytest.raises(BadInput, match="has a bit for each"):
            await engine.step([Feed(sequence, [1], allow=b"\xff")])
        foreign = await other.sequence()
        with pytest.raises(BadInput, match="none of"):
            await engine.step([Feed(foreign, [1])])
        closed = await engine.sequence()
        await closed.close()
        await closed.close()
        with pytest.raises(BadInput, match="closed"):
            await engine.step([Feed(closed, [1])])
        with pytest.raises(OutOfCells):
            await engine.step([Feed(sequence, [7] * 600)])
        assert sequence.tokens == [1, 2, 3] and engine.used == 3 and engine.crashes == 0
        await engine.step([Feed(sequence, [4])])
        await other.close()
        with pytest.raises(BadInput, match="was closed"):
            await other.tokenize("x")

    run(steps())


def test_one_token_does_not_know_what_is_decoded_beside_it(engine: LocalEngine) -> None:
    """The weights of this file are such that co-batched decoding gives the same bits; see also test_exact."""

    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        alone, beside = await engine.sequence(), await engine.sequence()
        for each in (alone, beside):
            await engine.step([Feed(each, tokens, "none", None)])
        others = [await engine.sequence() for _ in range(4)]
        (one,) = await engine.step([Feed(alone, [8180], logits=True)])
        many = await engine.step([Feed(beside, [8180], logits=True), *[Feed(each, [33]) for each in others]])
        assert np.array_equal(one.logits, many[0].logits)

    run(steps())


# --- cells ----------------------------------------------------------------------------------------------------------


def test_forks_share_their_prefix_and_write_what_they_would_alone(engine: LocalEngine) -> None:
    async def steps() -> None:
        prefix = await engine.tokenize(STORY)
        trunk = await engine.sequence("trunk")
        await engine.step([Feed(trunk, prefix, "none", None)])
        forks = [await trunk.fork() for _ in range(3)]
        assert engine.used == len(prefix) and all(fork.parent is trunk for fork in forks)
        heads = [await engine.tokenize(head) for head in (" girl", " dog who", " house in the")]
        feeds, wrote = heads, [[], [], []]
        for _ in range(8):
            told = await engine.step([Feed(f, tokens) for f, tokens in zip(forks, feeds, strict=True)])
            feeds = [heard.tokens for heard in told]
            for text, tokens in zip(wrote, feeds, strict=True):
                text += tokens
        assert engine.used == len(prefix) + sum(map(len, heads)) + 3 * 7
        for fork in forks:
            await fork.close()
        for head, text in zip(heads, wrote, strict=True):
            alone = await trunk.fork()
            assert await greedy(engine, alone, head, 8) == text
        part = await trunk.fork(4)
        assert part.tokens == prefix[:4]
        for wrong in (-1, len(prefix) + 1):
            with pytest.raises(BadInput, match="cannot fork"):
                await trunk.fork(wrong)

    run(steps())


def test_a_trim_takes_back_what_was_fed(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        sequence = await engine.sequence()
        await engine.step([Feed(sequence, tokens, "none", None)])
        first = await greedy(engine, sequence, [8180], 6)
        await sequence.trim(len(tokens))
        await greedy(engine, sequence, [99, 100], 3)
        await sequence.trim(len(tokens))
        assert await greedy(engine, sequence, [8180], 6) == first
        await sequence.trim(0)
        assert sequence.length == 0 and engine.used == 0
        with pytest.raises(BadInput, match="cannot trim"):
            await sequence.trim(1)

    run(steps())


def test_a_splice_drops_the_middle(engine: LocalEngine) -> None:
    async def steps() -> None:
        a, b, c = [await engine.tokenize(text) for text in ("My name is Tom.", " It rains today.", " I live in Rome.")]
        whole = await engine.sequence()
        await engine.step([Feed(whole, a + b + c, "none", None)])
        twin = await whole.fork()
        assert await whole.splice(len(a), len(a + b)) == len(c)
        assert whole.tokens == a + c and whole.length == len(a + c)
        assert await twin.splice(len(a), len(a + b), "shift") == 0
        assert twin.tokens == a + c and twin.positions == whole.positions
        plain = await engine.sequence()
        await engine.step([Feed(plain, a, "none", None)])
        await engine.step([Feed(plain, c, "none", None)])
        one, two, near = await engine.step([Feed(each, [30], logits=True) for each in (whole, plain, twin)])
        assert np.array_equal(one.logits, two.logits)
        assert np.corrcoef(one.logits[0], near.logits[0])[0, 1] > 0.95
        assert not np.array_equal(one.logits, near.logits)
        for wrong in ((-1, 2), (3, 2), (0, 99)):
            with pytest.raises(BadInput, match="cannot splice"):
                await whole.splice(*wrong)
        with pytest.raises(BadInput, match="by 'reencode' or 'shift'"):
            await whole.splice(0, 1, "guess")  # type: ignore[arg-type]

    run(steps())


def test_a_shift_does_not_move_cells_that_others_share(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize("One two three four five six seven eight nine ten")
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, tokens, "none", None)])
        before = await trunk.fork()
        fork = await trunk.fork()
        await fork.splice(2, 5, "shift")
        again, first = await engine.step([Feed(trunk, [30], logits=True), Feed(before, [30], logits=True)])
        assert np.array_equal(again.logits, first.logits)
        assert engine.used == len(tokens) + 2 + len(tokens) - 3

    run(steps())


def test_a_saved_sequence_goes_on_bit_for_bit_in_another(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence("story")
        await greedy(engine, sequence, await engine.tokenize(STORY), 3)
        saved = await sequence.save()
        (one,) = await engine.step([Feed(sequence, [30], logits=True)])
        other = await engine.sequence()
        await engine.step([Feed(other, [1, 2, 3], "none", None)])
        await other.restore(saved)
        assert other.length == sequence.length - 1
        (two,) = await engine.step([Feed(other, [30], logits=True)])
        assert np.array_equal(one.logits, two.logits) and other.tokens == sequence.tokens
        empty = await engine.sequence()
        await other.restore(await empty.save())
        assert other.tokens == []
        for wrong in (b"", b"nonsense", saved[:-1], saved[:-1] + b"\x00", saved.replace(b"story", b"glory")):
            with pytest.raises(BadInput, match="no saved sequence"):
                await other.restore(wrong)

    run(steps())


def test_a_saved_sequence_travels_to_another_engine_of_the_same_kind_only(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence()
        await engine.step([Feed(sequence, await engine.tokenize(STORY), "none", None)])
        saved = await sequence.save()
        (one,) = await engine.step([Feed(sequence, [30], logits=True)])
        larger = await open_engine(weft.model.fetch("smollm2-135m"), cells=1024, sequences=3)
        other = await open_engine(weft.model.fetch("smollm2-135m"), cells=256, sequences=2, kind="q8_0")
        try:
            there = await larger.sequence()
            await there.restore(saved)
            (two,) = await larger.step([Feed(there, [30], logits=True)])
            assert np.array_equal(one.logits, two.logits)
            nowhere = await other.sequence()
            with pytest.raises(BadInput, match="other settings"):
                await nowhere.restore(saved)
        finally:
            await larger.close()
            await other.close()

    run(steps())


def test_published_rows_are_seen_from_the_next_row_on(engine: LocalEngine) -> None:
    async def grid(rows: list[list[int]]) -> list[Any]:
        streams = [await engine.sequence() for _ in rows[0]]
        told = []
        for n, row in enumerate(rows):
            told += [await engine.step([Feed(s, [t], logits=True) for s, t in zip(streams, row, strict=True)])]
            for stream in streams:
                await stream.publish(n, [other for other in streams if other is not stream])
        assert streams[0].length == len(rows) and sorted(streams[0].tokens) == sorted(
            token for row in rows for token in row
        )
        assert engine.used == len(rows) * len(rows[0])
        await streams[0].trim(1)  # a row can be taken back, in one of them
        assert streams[0].length == 1
        for stream in streams:
            await stream.close()
        assert engine.used == 0
        return told

    async def steps() -> None:
        rows = [[1000 + 7 * r + c for c in range(3)] for r in range(6)]
        one = await grid(rows)
        rows[3][2] = 4242
        two = await grid(rows)
        for n in range(6):
            same = [np.array_equal(a.logits, b.logits) for a, b in zip(one[n], two[n], strict=True)]
            assert same == ([True] * 3 if n < 3 else [True, True, False] if n == 3 else [False] * 3)

    run(steps())


def test_what_is_no_row_is_not_published(engine: LocalEngine) -> None:
    async def steps() -> None:
        one, two, empty = [await engine.sequence() for _ in range(3)]
        await engine.step([Feed(one, [1, 2, 3]), Feed(two, [4, 5, 6])])
        await one.publish(2, [two])
        await one.publish(2, [two])  # twice is once
        assert two.tokens == [4, 5, 6, 3] and engine.used == 6
        for row, to in ((0, [two]), (3, [two]), (-1, [two]), (2, [one]), (2, [empty])):
            with pytest.raises(BadInput):
                await one.publish(row, to)
        with pytest.raises(BadInput, match="published rows cannot be spliced"):
            await two.splice(0, 1)

    run(steps())


def test_a_published_grid_can_be_saved_and_forked(engine: LocalEngine) -> None:
    async def steps() -> None:
        one, two = await engine.sequence(), await engine.sequence()
        for row in range(3):
            await engine.step([Feed(one, [50 + row]), Feed(two, [90 + row])])
            await one.publish(row, [two])
        saved, fork = await two.save(), await two.fork()
        back = await engine.sequence()
        await back.restore(saved)
        assert back.tokens == two.tokens == fork.tokens and back.positions == two.positions == [0, 0, 1, 1, 2, 2]
        told = await engine.step([Feed(each, [30], logits=True) for each in (two, fork, back)])
        assert all(np.array_equal(told[0].logits, each.logits) for each in told)

    run(steps())


def test_sequences_nobody_holds_give_their_cells_back(engine: LocalEngine) -> None:
    async def steps() -> None:
        for _ in range(20):  # more than the engine holds at once
            sequence = await engine.sequence()
            await engine.step([Feed(sequence, [1, 2, 3])])
        kept = [await engine.sequence() for _ in range(7)]
        with pytest.raises(OutOfCells, match="holds 8 sequences"):
            await engine.sequence()
        assert engine.used == 3 and len(kept) == 7

    run(steps())


def test_pins_are_for_a_time(engine: LocalEngine) -> None:
    async def steps() -> None:
        sequence = await engine.sequence("a")
        assert not sequence.pinned and sequence.label == "a"
        sequence.pin(100)
        assert sequence.pinned
        sequence.unpin()
        sequence.label = "b"
        assert not sequence.pinned and sequence.label == "b" and "b" in repr(sequence)
        for wrong in (-1.0, math.nan):
            with pytest.raises(BadInput):
                sequence.pin(wrong)

    run(steps())


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["new", "fork", "trim", "reencode", "shift", "close", "feed", "save", "restore"]),
        st.integers(0, 1 << 30),
        st.integers(0, 1 << 30),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def small() -> Iterator[tuple[LocalEngine, list[bytes]]]:
    """An engine, and saved sequences of 64, 32, ... 1 tokens to fill it with."""
    engine = opened(cells=256, sequences=20, batch=256, chunk=256)

    async def pieces() -> list[bytes]:
        sequence, saved = await engine.sequence(), []
        await engine.step([Feed(sequence, [7] * 64, "none", None)])
        for size in (64, 32, 16, 8, 4, 2, 1):
            await sequence.trim(size)
            saved.append(await sequence.save())
        return saved

    yield engine, run(pieces())
    engine.shut()


@settings(max_examples=25, deadline=None)
@given(acts=ACTS)
def test_whatever_is_done_the_books_are_right(
    small: tuple[LocalEngine, list[bytes]], acts: list[tuple[str, int, int]]
) -> None:
    """Each sequence has the tokens that it should, and just as many more fit as the books say."""
    engine, pieces = small

    async def steps() -> None:
        have: list[tuple[Any, list[int]]] = []
        kept: tuple[bytes, list[int]] | None = None
        for act, a, b in acts:
            if act == "new" or not have:
                if len(have) < 7:
                    have.append((await engine.sequence(), []))
                continue
            at = a % len(have)
            sequence, tokens = have[at]
            start = b % (len(tokens) + 1)
            end = start + (a + b) % (len(tokens) - start + 1)
            match act:
                case "fork" if len(have) < 7:
                    have.append((await sequence.fork(start), tokens[:start]))
                case "trim":
                    await sequence.trim(start)
                    del tokens[start:]
                case "reencode" | "shift":
                    await sequence.splice(start, end, act)
                    del tokens[start:end]
                case "close":
                    await sequence.close()
                    del have[at]
                case "feed":
                    new = [300 + (a + n) % 999 for n in range(1 + b % 6)]
                    await engine.step([Feed(sequence, new, "none", None)])
                    tokens += new
                case "save":
                    kept = (await sequence.save(), list(tokens))
                case "restore" if kept:
                    await sequence.restore(kept[0])
                    tokens[:] = kept[1]
        for sequence, tokens in have:
            assert sequence.tokens == tokens and sequence.positions == [*range(len(tokens))]
        full = await fill(engine, pieces)
        assert engine.used == engine.cells and engine.crashes == 0
        with pytest.raises(OutOfCells):
            await engine.step([Feed(full[-1], [7], "none", None)])
        for each in [*full, *[sequence for sequence, _ in have]]:
            await each.close()
        assert engine.used == 0

    run(steps())


GRID = st.lists(
    st.tuples(
        st.sampled_from(["row", "publish", "publish", "trim", "fork", "close"]), st.integers(0, 99), st.integers(0, 99)
    ),
    max_size=30,
)


@settings(max_examples=20, deadline=None)
@given(acts=GRID)
def test_whatever_is_published_the_books_are_right(
    small: tuple[LocalEngine, list[bytes]], acts: list[tuple[str, int, int]]
) -> None:
    engine, pieces = small

    async def steps() -> None:
        streams = [await engine.sequence() for _ in range(3)]
        for act, a, b in acts:
            one, two = streams[a % len(streams)], streams[b % len(streams)]
            match act:
                case "row":
                    await engine.step([Feed(stream, [500 + a], "none", None) for stream in streams])
                case "publish":
                    with contextlib.suppress(BadInput):  # no row of its own, or none that fits there
                        await one.publish(one.length - 1, [two])
                        assert one.length == two.length
                case "trim":
                    await one.trim(min(b, one.length))
                case "fork" if len(streams) < 6:
                    streams.append(await one.fork())
                case "close" if len(streams) > 2:
                    await one.close()
                    streams.remove(one)
        full = await fill(engine, pieces)
        assert engine.used == engine.cells and engine.crashes == 0
        for each in [*full, *streams]:
            await each.close()
        assert engine.used == 0

    run(steps())


async def fill(engine: LocalEngine, pieces: list[bytes]) -> list[Any]:
    """Use all cells that the books call free."""
    full = []
    for n, piece in enumerate(pieces):
        for _ in range((engine.cells - engine.used) >> (6 - n)):
            full.append(await engine.sequence())
            await full[-1].restore(piece)
    return full or [await engine.sequence()]


def test_an_engine_with_a_buffer_for_each_sequence() -> None:
    engine = opened(cells=1024, sequences=4, unified=False, batch=64, chunk=64)

    async def steps() -> None:
        assert engine.room == 256 and engine.cells == 1024
        one = await engine.sequence()
        tokens = await engine.tokenize(STORY)
        await engine.step([Feed(one, tokens, "none", None)])
        two = await one.fork(5)
        assert engine.used == len(tokens) + 5 and two.tokens == tokens[:5]
        await engine.step([Feed(two, tokens[5:], "none", None)])
        told = await engine.step([Feed(one, [8180]), Feed(two, [8180])])
        assert told[0].tokens == told[1].tokens
        with pytest.raises(BadInput, match="unified"):
            await one.publish(len(tokens), [two])
        with pytest.raises(OutOfCells):
            await engine.step([Feed(two, [7] * 256)])
        saved = await one.save()
        back = await engine.sequence()
        await back.restore(saved)
        both = await engine.step([Feed(one, [30], logits=True), Feed(back, [30], logits=True)])
        assert np.array_equal(both[0].logits, both[1].logits)

    run(steps())
    engine.shut()


# --- drawing --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1 << 70), st.integers(0, 1 << 40))
def test_a_number_is_between_0_and_1_and_always_the_same(seed: int, position: int) -> None:
    assert 0 <= number(seed, position) == number(seed, position) < 1


def test_draws_follow_the_probabilities() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    drawn = [draw(row, Sampling(temperature=1.0, seed=3), n) for n in range(4000)]
    assert [abs(drawn.count(t) / 4000 - p) < 0.03 for t, p in enumerate((0.5, 0.3, 0.15, 0.05))] == [True] * 4
    assert {draw(row, Sampling(temperature=1.0, top_k=2), n) for n in range(200)} == {0, 1}
    assert {draw(row, Sampling(temperature=1.0, top_p=0.6), n) for n in range(200)} == {0, 1}
    assert {draw(row, Sampling(temperature=9.0), n) for n in range(200)} == {0, 1, 2, 3}
    assert {draw(row, Sampling(), n) for n in range(9)} == {0}
    assert {draw(row, Sampling(temperature=1.0), n, bytes([0b1100])) for n in range(200)} == {2, 3}
    assert draw(row, Sampling(), 0, bytes([0b1000])) == 3
    assert [token for token, _ in likeliest(row, 9)] == [0, 1, 2, 3]
    assert [(t, round(math.exp(p), 2)) for t, p in likeliest(row, 2, bytes([0b1010]))] == [(1, 0.86), (3, 0.14)]
    assert masked(row, None) is row


def test_a_draw_depends_on_the_seed_and_the_position_only(engine: LocalEngine) -> None:
    async def steps() -> None:
        tokens = await engine.tokenize(STORY)
        trunk = await engine.sequence()
        await engine.step([Feed(trunk, tokens[:-1], "none", None)])
        texts = []
        for seed in (1, 1, 2):
            sequence, feed, text = await trunk.fork(), tokens[-1:], []
            for _ in range(10):
                (told,) = await engine.step([Feed(sequence, feed, sample=Sampling(1.0, seed=seed))])
                feed = told.tokens
                text += feed
            texts.append(text)
        assert texts[0] == texts[1] != texts[2]

    run(steps())


# --- grammars -------------------------------------------------------------------------------------------------------


def held_to(engine: LocalEngine, prompt: str, grammar: Grammar, most: int = 60) -> bytes:
    async def steps() -> bytes:
        sequence, feed, text = await engine.sequence(), await engine.tokenize(prompt, special=True), []
        while not grammar.ended and len(text) < most:
            (told,) = await engine.step([Feed(sequence, feed, allow=grammar.allow())])
            feed = told.tokens
            grammar.accept(feed[0])
            text += [t for t in feed if t not in engine.end]
        return await engine.detokenize(text)

    return run(steps())


def test_a_generation_keeps_to_a_schema(engine: LocalEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    prompt = rendered(engine, [said("user", "A person, as JSON.")])
    person = json.loads(held_to(engine, prompt, Grammar(engine, schema=schema)))
    assert isinstance(person["name"], str) and isinstance(person["age"], int)


def test_a_generation_keeps_to_a_pattern_and_can_be_taken_back(engine: LocalEngine) -> None:
    assert held_to(engine, "The year is ", Grammar(engine, regex="[0-9]{4} (AD|BC)")).decode()[4:] in (" AD", " BC")
    assert held_to(engine, "x", Grammar(engine, lark='start: "yes" | "no"')) in (b"yes", b"no")
    grammar = Grammar(engine, regex="ab?c")
    (a, b, c) = [run(engine.tokenize(letter))[0] for letter in "abc"]
    before = grammar.allow()
    grammar.accept(a)
    twin = grammar.copy()
    grammar.accept(b)
    grammar.accept(c)
    assert grammar.whole and not twin.whole
    grammar.rollback(3)
    assert grammar.allow() == before
    twin.accept(c)
    assert twin.whole
    with pytest.raises(BadInput, match="does not fit"):
        grammar.accept(c)


def test_no_grammar_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(BadInput, match="one of schema, regex and lark"):
        Grammar(engine)
    with pytest.raises(BadInput, match="one of schema, regex and lark"):
        Grammar(engine, regex="a", lark="b")
    for wrong in ({"regex": "("}, {"lark": "start: nowhere"}, {"schema": {"type": "nothing"}}):
        with pytest.raises(BadInput, match="cannot be enforced"):
            Grammar(engine, **wrong)  # type: ignore[arg-type]


# --- opening --------------------------------------------------------------------------------------------------------


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"sequences": 0}, {"sequences": 129}, {"cells": 3}, {"batch": 8}, {"chunk": 0}, {"chunk": 513},
        {"kind": "f8"}, {"cells": 1 << 30},
    ):  # fmt: skip
        usual: dict[str, Any] = {"cells": 512, "sequences": 8, "unified": True, "batch": 512, "chunk": 512}
        with pytest.raises(BadInput):
            settings_of("x.gguf", **{**usual, "kind": "f16", **wrong})


def test_what_is_no_model_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no model file"):
        run(open_engine(tmp_path / "nothing.gguf"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\x00" * 100)
    with pytest.raises(ModelUnavailable, match=r"no model that llama\.cpp can load"):
        run(open_engine(tmp_path / "broken.gguf"))


def test_another_release_of_the_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "VERSION", "2020.1.1")
    with pytest.raises(EngineUnfit, match="known of 2020"):
        opened()
    with pytest.raises(EngineUnfit):
        abi.library()
    found = next(each for each in examine(None) if each.what == "local engine")
    assert not found.ok and "2020.1.1" in found.found and "only its server is used" in found.fix


def test_structures_that_are_not_those_we_know_are_found_out() -> None:
    real = abi.library()
    context = real.llama_context_default_params()
    context.n_ubatch = 7
    fake = SimpleNamespace(
        llama_model_default_params=real.llama_model_default_params, llama_context_default_params=lambda: context
    )
    with pytest.raises(EngineUnfit, match=r"ContextParams\.n_ubatch is 7, not 512"):
        abi.check(fake)
    with pytest.raises(EngineUnfit, match="has no llama_"):
        abi.declared(SimpleNamespace())


def test_a_process_shares_one_engine_until_it_is_closed() -> None:
    async def steps() -> None:
        path = weft.model.fetch("smollm2-135m")
        one, two = await asyncio.gather(*[shared_engine(path, cells=256, sequences=2) for _ in range(2)])
        assert one is two and one.pid
        await asyncio.to_thread(close_engines)
        assert one.closed and one.pid is None

    run(steps())
