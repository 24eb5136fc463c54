"""The twin in torch and llama.cpp read the same file, do the same things to sequences, and say the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.core.errors import BadInput, MissingExtra, ModelUnavailable, OutOfCells
from weft.model.engine import Feed, LocalEngine, Sampling, open_engine, weights

torch = pytest.importorskip("torch", reason="the twin needs the extra `torch`")

from weft.model.engine.twin import Twin  # noqa: E402
from weft.model.engine.vocabulary import Vocabulary  # noqa: E402

CLOSE = 0.005
"""Largest difference of logits, which spread by 6 about their mean, between the engines."""


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf")


@pytest.fixture
def twin(toy_file: Path) -> Twin:
    return Twin.load(toy_file, cells=600)


@pytest.fixture(scope="module")
def engine(toy_file: Path) -> Iterator[LocalEngine]:
    engine = asyncio.run(open_engine(toy_file, cells=600, sequences=8, kind="f32"))
    yield engine
    engine.shut()


async def logits(engine: Any, sequence: Any, tokens: list[int]) -> Any:
    (told,) = await engine.step([Feed(sequence, tokens, want="all", sample=None, logits=True)])
    return told.logits


def some(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, 260) for _ in range(count)]


# --- the same as llama.cpp ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_engines_agree_after_any_operations(engine: LocalEngine, twin: Twin, seed: int) -> None:
    """Fed, forked, trimmed, spliced both ways, saved and restored: the same logits, cells, tokens and positions."""
    rng = random.Random(seed)

    async def work() -> None:
        pairs = [(await engine.sequence(), await twin.sequence())]
        moved = False
        for _ in range(40):
            mine, theirs = pair = rng.choice(pairs)
            length = mine.length
            action = rng.choice(["feed", "feed", "fork", "trim", "reencode", "shift", "save", "close"])
            if action == "feed" or not length:
                tokens = some(rng, rng.randint(1, 12))
                a, b = await logits(engine, mine, tokens), await logits(twin, theirs, tokens)
                assert np.abs(a - b).max() < CLOSE
            elif action == "fork" and len(pairs) < 6:
                upto = rng.choice([None, rng.randint(0, length)])
                pairs.append((await mine.fork(upto), await theirs.fork(upto)))
            elif action == "trim":
                start = rng.randint(0, length)
                for each in pair:
                    await each.trim(start)
            elif action in ("reencode", "shift"):
                start = rng.randint(0, length)
                end = rng.randint(start, min(length, start + 8))
                assert await mine.splice(start, end, action) == await theirs.splice(start, end, action)  # type: ignore[arg-type]
            elif action == "save":
                for each in pair:
                    saved = await each.save()
                    await each.trim(0)
                    await each.restore(saved)
            elif action == "close" and len(pairs) > 1:
                pairs.remove(pair)
                for each in pair:
                    await each.close()
            moved |= action == "shift"
            # to move cells that are shared, llama.cpp copies the whole sequence, the twin what is moved
            assert twin.used <= engine.used if moved else twin.used == engine.used
            for one, other in pairs:
                assert (one.tokens, one.positions, one.length) == (other.tokens, other.positions, other.length)
        for pair in pairs:
            for each in pair:
                await each.close()
        assert engine.used == twin.used == 0

    asyncio.run(work())


def test_both_draw_the_same_tokens(engine: LocalEngine, twin: Twin) -> None:
    async def drawn(where: Any, sampling: Sampling, allow: bytes | None) -> list[int]:
        sequence = await where.sequence()
        tokens, found = [80, 81, 82, 83], []
        for _ in range(12):
            (told,) = await where.step([Feed(sequence, tokens, sample=sampling, allow=allow, likely=3)])
            assert len(told.likely[0]) == 3 and told.logits is None
            tokens = told.tokens
            found += tokens
        await sequence.close()
        return found

    only = bytes([0, 0xF0]) + bytes(31)
    for sampling in (Sampling(), Sampling(0.9, seed=4), Sampling(1.2, top_k=20, top_p=0.9, seed=5)):
        for allow in (None, only):
            mine = asyncio.run(drawn(engine, sampling, allow))
            assert mine == asyncio.run(drawn(twin, sampling, allow))
            assert allow is None or set(mine) <= {12, 13, 14, 15}


def test_texts_become_the_same_tokens(engine: LocalEngine, twin: Twin) -> None:
    async def work() -> None:
        for text in (
            "Hello the tree, 123!",
            "",
            "Grüße 世界 🌍\n\n  x",
            "<|im_end|>",
            "a<|im_start|>user\nb",
            "\udc80",
        ):
            for special in (False, True):
                tokens = await twin.tokenize(text, special)
                assert tokens == await engine.tokenize(text, special)
                assert await twin.detokenize(tokens) == await engine.detokenize(tokens)
        assert twin.end == engine.end and twin.vocabulary == engine.vocabulary
        with pytest.raises(BadInput, match="none of the 260 tokens"):
            await twin.detokenize([260])

    asyncio.run(work())


# --- the same as its own definition ---------------------------------------------------------------------------------


def test_cells_give_what_a_mask_over_everything_gives(twin: Twin) -> None:
    rng = random.Random(1)
    tokens = some(rng, 40)
    seen = torch.ones(40, 40, dtype=torch.bool).tril()
    whole = twin.decoder.forward(tokens, list(range(40)), seen).numpy()

    async def work() -> None:
        sequence = await twin.sequence()
        first = await logits(twin, sequence, tokens[:17])
        fork = await sequence.fork()
        rest = await logits(twin, fork, tokens[17:])
        assert np.abs(np.concatenate([first, rest]) - whole).max() < 1e-3

    asyncio.run(work())


def test_a_shift_turns_keys_and_leaves_what_they_had_seen(twin: Twin) -> None:
    """The kept tokens stand at new positions, but were computed when the cut ones could be seen."""
    tokens, last = some(random.Random(2), 20), 99

    async def work() -> None:
        moved, fresh = await twin.sequence(), await twin.sequence()
        other = await moved.fork()
        await logits(twin, moved, tokens)
        keeper = await moved.fork()
        assert await moved.splice(5, 9, "shift") == 0
        assert moved.positions == list(range(16)) and moved.tokens == tokens[:5] + tokens[9:]
        after = await logits(twin, moved, [last])
        exact = await logits(twin, fresh, [*moved.tokens])
        assert np.abs(after - exact[-1:]).max() > 0.01
        await logits(twin, other, tokens)
        assert np.abs(await logits(twin, keeper, [last]) - await logits(twin, other, [last])).max() < 1e-3

    asyncio.run(work())


def test_what_is_restored_is_bit_for_bit_the_same(twin: Twin) -> None:
    async def work() -> None:
        sequence, other = await twin.sequence(), await twin.sequence()
        await logits(twin, sequence, some(random.Random(3), 30))
        saved = await sequence.save()
        await other.restore(saved)
        assert (await logits(twin, other, [77])).tobytes() == (await logits(twin, sequence, [77])).tobytes()
        for wrong in (b"", b"nothing", saved[:-5], saved[:20]):
            with pytest.raises(BadInput, match="saved sequence"):
                await other.restore(wrong)
        assert other.length == 31

    asyncio.run(work())


def test_gradients_pass_through_the_definition(twin: Twin) -> None:
    twin.decoder.weights["output_norm.weight"].requires_grad_()
    seen = torch.ones(3, 3, dtype=torch.bool).tril()
    twin.decoder.forward([5, 6, 7], [0, 1, 2], seen)[-1, 8].backward()
    assert twin.decoder.weights["output_norm.weight"].grad.abs().sum() > 0


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feed", "match"),
    [
        ({"tokens": []}, "no tokens"),
        ({"tokens": [260]}, "none of the 260 tokens"),
        ({"tokens": [-1]}, "none of the 260 tokens"),
        ({"tokens": [5], "allow": b"\xff"}, "`allow` has 8 bits"),
        ({"tokens": [5], "want": "some"}, "must be 'none', 'last' or 'all'"),
    ],
)
def test_a_feed_that_makes_no_sense_is_refused(twin: Twin, feed: dict[str, Any], match: str) -> None:
    async def work() -> None:
        sequence = await twin.sequence()
        with pytest.raises(BadInput, match=match):
            await twin.step([Feed(sequence, **feed)])
        assert sequence.length == twin.used == 0

    asyncio.run(work())


def test_sequences_that_make_no_sense_are_refused(twin: Twin, toy_file: Path) -> None:
    async def work() -> None:
        sequence = await twin.sequence("mine")
        await logits(twin, sequence, [5, 6, 7])
        with pytest.raises(BadInput, match="feeds a sequence twice"):
            await twin.step([Feed(sequence, [1]), Feed(sequence, [2])])
        with pytest.raises(BadInput, match="another engine"):
            await Twin.load(toy_file).step([Feed(sequence, [1])])
        for wrong in (sequence.trim(4), sequence.fork(4), sequence.splice(2, 4), sequence.splice(2, 1)):
            with pytest.raises(BadInput, match="no range of a sequence of 3"):
                await wrong
        with pytest.raises(BadInput, match="'reencode' or 'shift'"):
            await sequence.splice(0, 1, "drop")  # type: ignore[arg-type]
        with pytest.raises(BadInput, match="last own token"):
            await sequence.publish(1, [])
        with pytest.raises(OutOfCells, match="600"):
            await twin.step([Feed(sequence, [9] * 598)])
        await sequence.close()
        await sequence.close()
        with pytest.raises(BadInput, match="'mine' was closed"):
            await sequence.trim(0)
        assert twin.used == 0

    asyncio.run(work())
    with pytest.raises(BadInput, match="holds nothing"):
        Twin.load(toy_file, cells=0)
    with pytest.raises(BadInput, match="not in 'int8'"):
        Twin.load(toy_file, dtype="int8")


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_conversion_is_whole_hashed_and_made_once(
    toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path / "models"))
    plain = weights.read(toy_file)
    for kind, step in (("f32", 0.0), ("f16", 2**-11), ("bf16", 2**-8)):
        path = weights.convert(str(toy_file), kind)  # type: ignore[arg-type]
        import hashlib

        assert weights.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
        made = path.stat().st_mtime_ns
        assert weights.convert(str(toy_file), kind).stat().st_mtime_ns == made  # type: ignore[arg-type]
        again = weights.read(path)
        assert again.shape == plain.shape and again.tokens == plain.tokens
        for name, array in plain.arrays.items():
            scale = 0.0 if array.ndim < 2 else step
            assert (np.abs(again.arrays[name] - array) <= scale * np.abs(array) + 1e-7 * bool(scale)).all()
        path.write_bytes(b"cut short")
        assert weights.read(weights.convert(str(toy_file), kind)).shape == plain.shape  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_conversion_that_cannot_be_is_refused(
    toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path))
    with pytest.raises(BadInput, match="no type 'q2'"):
        weights.convert(str(toy_file), "q2")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no model named"):
        weights.convert("nobody", "f32")
    with pytest.raises(ModelUnavailable, match="no model file"):
        weights.convert(str(tmp_path / "none.gguf"), "f32")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelUnavailable, match="no model file that can be read"):
        weights.convert(str(bad), "f32")
    with pytest.raises(SystemExit, match="usage"):
        weights.main([])
    with pytest.raises(SystemExit, match="no type"):
        weights.main([str(toy_file), "q2"])
    with pytest.raises(BadInput, match="no decoder has the shape"):
        weights.toy(tmp_path / "toy.gguf", shape=weights.Shape(
            layers=1, width=10, heads=3, kv_heads=1, inner=8, vocabulary=260, context=8
        ))  # fmt: skip


def test_a_vocabulary_of_another_kind_is_refused(toy_file: Path) -> None:
    import msgspec

    tokens = msgspec.structs.replace(weights.read(toy_file).tokens, pre="martian")
    with pytest.raises(BadInput, match="'martian'"):
        Vocabulary(tokens)


def test_without_the_extra_it_says_which(toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r"weft\[torch\]"):
        weights.read(toy_file)
