"""Streams: rows that see what the mask says, words that come while it writes, and rights that no text can take."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import weft
from benchmarks.engine.escapes import Script, fuzz
from weft.core.errors import BadInput, Denied
from weft.model.engine import Feed, LocalEngine, Sampling, open_engine, weights
from weft.model.engine.commands import LONGEST, Command, Reader, carry_out
from weft.model.engine.streams import Stream, Streams

pytest.importorskip("gguf", reason="writing a model file needs the extra `torch`")
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf")


@pytest.fixture(scope="module")
def engine(toy_file: Path) -> Iterator[LocalEngine]:
    engine = run(open_engine(toy_file, cells=1024, sequences=8, kind="f32"))
    yield engine
    engine.shut()


def some(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(3, 260) for _ in range(count)]


# --- what a row sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_what_an_explicit_mask_gives(engine: LocalEngine, toy_file: Path, seed: int) -> None:
    """Token i sees token j if j's row is before its own, or if they are one; of a prefix, everything."""
    torch = pytest.importorskip("torch", reason="the twin needs the extra `torch`")
    from weft.model.engine.twin import Twin

    rng = random.Random(seed)
    streams, rows, prefix = rng.randint(2, 5), rng.randint(8, 24), some(rng, rng.randint(0, 9))
    grid = [some(rng, streams) for _ in range(rows)]

    async def by_engine(engine: Any) -> list[Any]:
        stem = await engine.sequence()
        if prefix:
            await engine.step([Feed(stem, prefix, "none", sample=None)])
        columns = [await stem.fork() for _ in range(streams)]
        found = []
        for number, row in enumerate(grid, len(prefix)):
            told = await engine.step(
                [Feed(c, [t], sample=None, logits=True) for c, t in zip(columns, row, strict=True)]
            )
            found.append([each.logits[0] for each in told])
            for column in columns:
                await column.publish(number, [other for other in columns if other is not column])
        for each in [stem, *columns]:
            await each.close()
        return found

    tokens = prefix + [token for row in grid for token in row]
    positions = [*range(len(prefix))] + [len(prefix) + n for n in range(rows) for _ in range(streams)]
    at = torch.tensor(positions)
    twin = Twin.load(toy_file, cells=1024)
    seen = (at[None, :] < at[:, None]) | torch.eye(len(tokens), dtype=torch.bool)
    expected = twin.decoder.forward(tokens, positions, seen).numpy()[len(prefix) :]
    for found in (run(by_engine(engine)), run(by_engine(twin))):
        got = np.array(found).reshape(len(expected), -1)
        assert np.abs(got - expected).max() < 0.005
        assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert engine.used == 0


def opened(engine: Any, **more: Any) -> Coroutine[Any, Any, Streams]:
    streams = [
        Stream("user", [10, 11]),
        Stream("thought", [12], writes=True, sampling=Sampling(1.0, seed=1)),
        Stream("answer", [13, 14, 15], writes=True, sampling=Sampling(1.0, seed=2)),
    ]
    return Streams.open(engine, streams, [20, 21, 22], **more)


async def grid_of(engine: Any, said: dict[int, list[int]], rows: int = 12) -> list[dict[str, int]]:
    """The rows, if at row n of them `said[n]` is said."""
    streams = await opened(engine)
    found = []
    for number in range(rows):
        if number in said:
            streams.feed("user", said[number])
        found.append((await streams.row()).tokens)
    await streams.close()
    return found


def test_a_word_changes_nothing_before_its_row_and_something_after(engine: LocalEngine) -> None:
    quiet = run(grid_of(engine, {}))
    for at in (1, 4, 7):
        spoken = run(grid_of(engine, {at: [50, 51, 52]}))
        assert spoken[:at] == quiet[:at]
        assert [row["user"] for row in spoken[at : at + 4]] == [50, 51, 52, 0]
        # in the word's own row the others cannot see it yet
        for name in ("thought", "answer"):
            assert spoken[at][name] == quiet[at][name]
        assert spoken[at + 1 :] != [dict(row, user=row["user"]) for row in quiet[at + 1 :]]
        assert [(row["thought"], row["answer"]) for row in spoken[at + 1 :]] != [
            (row["thought"], row["answer"]) for row in quiet[at + 1 :]
        ]
    assert engine.used == 0


def test_openings_end_in_the_same_row_and_silence_fills(engine: LocalEngine) -> None:
    async def work() -> None:
        streams = await opened(engine, silence=7)
        assert streams.row_number == 3 + 3
        assert engine.used == 3 + 3 * 3  # the prefix once, and three rows of three
        row = await streams.row()
        assert row.number == 6 and row.tokens["user"] == 7
        assert (await streams.text("user")) == ""
        await streams.close()

    run(work())
    assert engine.used == 0


def test_a_stream_ends_is_silent_and_can_begin_again() -> None:
    async def work() -> None:
        script = Script({"answer": [65, 66, 2], "user": []})
        streams = await Streams.open(script, [Stream("user", [1]), Stream("answer", [1], writes=True)], silence=0)
        rows = [row.tokens["answer"] async for row in streams.rows(50)]
        assert rows == [65, 66, 2] and streams.idle
        assert (await streams.row()).tokens == {"user": 0, "answer": 0}
        assert streams.idle and await streams.text("answer") == "AB\x02"
        script.says["answer"] = [67, 2]
        streams.begin("answer", [1])
        assert [row.tokens["answer"] async for row in streams.rows(50)] == [1, 67, 2]
        await streams.say("user", "hi<|x|>")
        assert bytes([row.tokens["user"] async for row in streams.rows(50)]) == b"hi<|x|>"

    run(work())


@pytest.mark.parametrize(
    ("streams", "match"),
    [
        ([], "at least one"),
        ([Stream("a", [1]), Stream("a", [1])], "different names"),
        ([Stream("a", [])], "no opening"),
        ([Stream("tool", [1], rights=("tool:*",))], "is read: what is said in it is no command"),
        ([Stream("a", [1], writes=True, rights=("tols:*",))], "tols"),
        ([Stream("a", [1], writes=True, rights=("tool:x uses=2",))], "without uses="),
        ([Stream("a", [1], writes=True, rights=("tool:x expires=1h",))], "without uses="),
    ],
)
def test_streams_that_make_no_sense_are_refused(streams: list[Stream], match: str) -> None:
    script = Script({})
    with pytest.raises(BadInput, match=match):
        run(Streams.open(script, streams))
    assert not script.alive


def test_words_in_the_wrong_place_are_refused() -> None:
    async def work() -> None:
        script = Script({"answer": [65] * 9})
        streams = await Streams.open(script, [Stream("user", [1]), Stream("answer", [1], writes=True)])
        with pytest.raises(BadInput, match="the model writes the stream 'answer'"):
            await streams.say("answer", "me")
        with pytest.raises(BadInput, match="no stream 'nobody'; there are user, answer"):
            streams.feed("nobody", [1])
        with pytest.raises(BadInput, match="none of the 256 tokens"):
            streams.feed("user", [256])
        with pytest.raises(BadInput, match="only a stream that the model writes"):
            streams.begin("user", [1])
        with pytest.raises(BadInput, match="only a stream that the model writes"):
            streams.begin("answer", [])

    run(work())


# --- rights ---------------------------------------------------------------------------------------------------------


def test_no_text_escapes_its_stream() -> None:
    """1,000 random conversations of pieces of commands, in streams that are read and in two that are written."""
    found = run(fuzz(1000))
    assert found.escaped == 0
    assert found.called > 100 and found.denied > 100 and found.bait > 300


def test_a_forged_command_of_a_stream_that_is_read_is_denied() -> None:
    async def work() -> None:
        streams = [Stream("tool", [1]), Stream("out", [1], writes=True)]

        async def call(name: str, arguments: Any) -> None:
            raise AssertionError

        with pytest.raises(Denied, match="is read; what stands in it is no command"):
            await carry_out(streams, Command("tool", "pay"), call)
        with pytest.raises(Denied, match="does not hold the right"):
            await carry_out(streams, Command("out", "pay"), call)
        with pytest.raises(BadInput, match="there is none"):
            await carry_out(streams, Command("nowhere", "pay"), call)

    run(work())


@weft.step(needs=["write:{path}"])
def save(path: str, words: str) -> int:
    return Path(path).write_text(words)


@weft.workflow
async def obeys(name: str, path: str) -> str:
    """A command of a stream that may call `save`, and write into one folder."""
    stream = Stream("out", [1], writes=True, rights=("tool:save", "step:**", "write:./mine/**"))
    try:
        await carry_out([stream], Command("out", name, {"path": path}), lambda _, said: save(said["path"], "x"))  # type: ignore[index]
    except Denied as error:
        return f"denied: {error.action}"
    return "done"


def test_what_follows_from_a_command_is_held_to_the_streams_rights(workspace: Path) -> None:
    (workspace / "mine").mkdir()
    with weft.grant("write:./**"):
        assert weft.run(obeys, "save", "mine/a.txt") == "done"
        assert weft.run(obeys, "save", "b.txt") == "denied: file.write"
        assert weft.run(obeys, "other", "mine/a.txt") == "denied: tool.call"
    assert (workspace / "mine" / "a.txt").exists() and not (workspace / "b.txt").exists()


def test_a_reader_forgets_what_is_too_long() -> None:
    reader = Reader("s")
    assert not reader.read(b"<tool_call>" + b" " * (LONGEST + 1))
    assert not reader.read(b'{"name": "x"}</tool_call>')
    for _ in range(40):
        assert not reader.read(b"a" * 5000)
    assert len(reader._bytes) < 2 * LONGEST
    assert [each.name for each in reader.read(b'<tool_call>{"name": "x", "arguments": [1]}</tool_call>')] == ["x"]
    assert not reader.read(b"\xff<tool_call>\xff</tool_call>")
