"""Streams and subtasks of a model as effects: what a workflow sees is journaled, and goes on after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
import weft.model
from weft.core.errors import BadInput
from weft.model import Model
from weft.model.engine import close_engines, open_engine, weights
from weft.model.engine.protocol import Sampling
from weft.model.engine.streams import Stream, Streams
from weft.model.engine.subtasks import Limits, Solved, Tool, solve
from weft.model.streams import Column, Rows, sessions

pytest.importorskip("gguf", reason="writing a model file needs the extra `torch`")

COLUMNS = [
    Column("user", "User:"),
    Column("answer", "Answer:", writes=True, rights=("tool:look",), temperature=0.9, seed=3),
    Column("thought", "Thought:", writes=True, temperature=0.9, seed=4),
]
LIMITS = Limits(words=6, tasks=6, depth=2)
NUMBERS = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf")


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    close_engines()


@pytest.fixture
def spec(toy_file: Path) -> str:
    return f"{toy_file}?slots=2&context=512"


@weft.step
def die_once(marker: str) -> None:
    """Ends this process of the operating system, the first time."""
    if marker and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@weft.workflow(name="streams.talk")
async def talk(spec: str, marker: str = "") -> list[Rows]:
    seen = []
    async with Model(spec).streams(COLUMNS, "A talk.\n") as grid:
        grid.say("user", "What is it?")
        async for rows in grid.rows(24, look=6):
            seen.append(rows)
            if len(seen) == 2:
                await die_once(marker)
                grid.say("user", "Stop.")
    return seen


@weft.workflow(name="subtasks.work")
async def work(spec: str, marker: str = "") -> tuple[str, int, list[int]]:
    asked: list[int] = []

    async def double(arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(arguments["n"])
        if len(asked) == 2:
            await die_once(marker)
        return {"twice": 2 * arguments["n"]}

    solved = await Model(spec).subtasks(
        "Do it.", [Tool("double", NUMBERS, double)], limits=LIMITS, temperature=1.2, seed=SEED
    )
    return solved.text, solved.drawn, asked


SEED = 1
DIES = """
import weft
from tests.test_model_streams import talk, work
with weft.grant(*{rights!r}):
    weft.run({name}.options(id="killed"), {spec!r}, {marker!r})
"""


@pytest.mark.parametrize("name", ["talk", "work"])
def test_after_kill_9_it_goes_on_as_it_would_have(spec: str, toy_file: Path, workspace: Path, name: str) -> None:
    marker = workspace / "died"
    rights = (f"model:local/{toy_file.name}", f"read:{toy_file}", f"write:{marker}", f"read:{marker}")
    with weft.grant(*rights):
        expected = weft.run({"talk": talk, "work": work}[name], spec)
    code = DIES.format(rights=rights, name=name, spec=spec, marker=str(marker))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL and marker.exists(), done.stderr

    async def resumed() -> Any:
        async with weft.Runtime() as runtime:
            return await (await runtime.resume("killed")).result()

    assert asyncio.run(resumed()) == expected
    if name == "work":
        assert len(expected[2]) >= 2  # it died in the middle of the text, not before it


def test_a_grid_says_what_the_streams_of_the_engine_say(spec: str, toy_file: Path) -> None:
    async def both() -> None:
        seen: list[Rows] = []
        async with Model(spec).streams(COLUMNS, "A talk.\n") as grid:
            grid.say("user", "What is it?")
            async for rows in grid.rows(20, look=7):
                seen.append(rows)
                key = grid._key
        assert key not in sessions and [len(each.rows) for each in seen] == [7, 7, 6]
        engine = await open_engine(toy_file, cells=1024, sequences=32)
        streams = [
            Stream(
                each.name, await engine.tokenize(each.open), each.writes, (), Sampling(each.temperature, seed=each.seed)
            )
            for each in COLUMNS
        ]
        same = await Streams.open(engine, streams, await engine.tokenize("A talk.\n"))
        await same.say("user", "What is it?")
        assert [row.tokens async for row in same.rows(20)] == [row for each in seen for row in each.rows]
        assert "".join(each.texts["answer"] for each in seen) == (await same.text("answer")).rstrip("\ufffd")
        await engine.close()

    asyncio.run(both())


def test_subtasks_are_those_of_the_engine(spec: str, toy_file: Path) -> None:
    async def double(arguments: dict[str, Any]) -> Any:
        if arguments["n"] == 2:
            raise ValueError("too much")
        return {"twice": 2}

    async def both() -> tuple[Solved, Solved]:
        tools = [Tool("double", NUMBERS, double)]
        one = await Model(spec).subtasks("Do it.", tools, limits=LIMITS, temperature=1.2, seed=SEED)
        engine = await open_engine(toy_file, cells=1024, sequences=32)
        prompt = await engine.tokenize("Do it.")
        same = await solve(engine, prompt, tools, limits=LIMITS, sampling=Sampling(1.2, seed=SEED))
        await engine.close()
        return one, same

    one, same = asyncio.run(both())
    assert one.text == same.text and one.calls == same.calls >= 2 and one.drawn == same.drawn


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ([], "at least one"),
        ([Column("a", "x"), Column("a", "y")], "different names"),
        ([Column("a", "")], "has no opening"),
        ([Column("a", "x", rights=("tool:x",))], "has no rights"),
    ],
    ids=["none", "twice", "empty", "rights"],
)
def test_streams_that_make_no_sense_are_refused(spec: str, columns: list[Column], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Model(spec).streams(columns)


def test_what_has_no_streams_or_subtasks_says_so(spec: str) -> None:
    hosted = Model("openai:gpt-5")
    with pytest.raises(BadInput, match="no other has streams"):
        hosted.streams(COLUMNS)
    with pytest.raises(BadInput, match="no other has subtasks"):
        asyncio.run(hosted.subtasks("x"))

    async def said() -> None:
        async with Model(spec).streams(COLUMNS) as grid:
            for name in ("answer", "nobody"):
                with pytest.raises(BadInput, match=r"no stream .* that is read"):
                    grid.say(name, "x")
            with pytest.raises(BadInput, match="1 or more"):
                await anext(grid.rows(0))
        with pytest.raises(BadInput, match="same name"):
            await Model(spec).subtasks("x", [Tool("a", NUMBERS, lambda _: asyncio.sleep(0))] * 2)

    asyncio.run(said())
    with pytest.raises(BadInput, match="async with"):
        asyncio.run(anext(Model(spec).streams(COLUMNS).rows(1)))
