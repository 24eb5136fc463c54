"""A long exact generation is journaled passage by passage, and goes on after kill -9 as if nothing had been."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft
from weft.core.errors import BadInput, Denied
from weft.model.engine import Sampling, close_engines, weights
from weft.model.passages import Written, write

pytest.importorskip("gguf", reason="writing a model file needs the extra `torch`")


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf", "bf16")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path / "models"))
    yield tmp_path / "models"
    close_engines()


def spec(file: Path) -> str:
    return f"{file}?slots=2&context=256"


@weft.workflow
async def author(spec: str) -> Written:
    """Writes three texts at once."""
    texts = [write(spec, f"text {n}", limit=70, sampling=Sampling(0.9, seed=n), passage=16) for n in range(3)]
    return (await asyncio.gather(*texts))[1]


DIES = """
import os, signal, sys, threading, weft
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_passages import author

def watch():
    while not list(Path(os.environ["WEFT_MODELS"], "cells").glob("*.kv")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
with weft.grant(*{rights!r}):
    weft.run(author.options(id={id!r}), {spec!r})
"""


def rights(file: Path) -> tuple[str, str]:
    return f"model:local/{file.name}", f"read:{file}"


def test_a_killed_author_writes_what_it_would_have_written(toy_file: Path, workspace: Path) -> None:
    with weft.grant(*rights(toy_file)):
        expected = weft.run(author, spec(toy_file))
    assert expected.exact and 0 < len(expected.tokens) <= 70 and expected.finish in ("stop", "length")
    for keep in (True, False):
        code = DIES.format(
            tests=str(Path(__file__).parent), rights=rights(toy_file), id=f"run{keep}", spec=spec(toy_file)
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert _cells()
        if not keep:
            for cells in _cells():
                cells.unlink()

        async def resumed(id: str) -> Written:
            async with weft.Runtime() as runtime:
                written: Written = await (await runtime.resume(id)).result()
                return written

        assert asyncio.run(resumed(f"run{keep}")) == expected


def _cells() -> list[Path]:
    return list((Path(os.environ["WEFT_MODELS"]) / "cells").glob("*"))


def test_outside_of_a_process_it_writes_the_same_whatever_the_passages(toy_file: Path) -> None:
    async def work() -> list[Written]:
        texts = [write(spec(toy_file), "a b", limit=50, sampling=Sampling(0.9), passage=n) for n in (1, 7, 64, 7)]
        return list(await asyncio.gather(*texts))

    found = asyncio.run(work())
    assert all(each == found[0] for each in found)
    assert not _cells()  # nothing is kept of what is done


def test_cells_that_were_damaged_are_computed_again(toy_file: Path) -> None:
    from weft.model import passages

    async def work() -> tuple[list[int], list[int]]:
        asked = passages.Asked("hello", 60, Sampling(0.9), 20)
        first = await passages._passage(spec(toy_file), asked, passages.SoFar())
        whole = await write(spec(toy_file), "hello", limit=60, sampling=Sampling(0.9), passage=20)
        passages._desks.clear()
        for cells in _cells():
            cells.write_bytes(cells.read_bytes()[:-9] + b"nonsense!")
        so_far = first
        while not so_far.done:
            so_far = await passages._passage(spec(toy_file), asked, so_far)
        return whole.tokens, so_far.tokens

    whole, again = asyncio.run(work())
    assert whole == again


def test_what_makes_no_sense_is_refused(toy_file: Path) -> None:
    with pytest.raises(BadInput, match="a token or more"):
        asyncio.run(write(spec(toy_file), "a", limit=0))
    with pytest.raises(BadInput, match="a token or more"):
        asyncio.run(write(spec(toy_file), "a", passage=0))
    with pytest.raises(BadInput, match="no model of the embedded engine"):
        asyncio.run(write("openai:gpt-5", "a"))
    with pytest.raises(BadInput, match="no tokens"):
        asyncio.run(write(spec(toy_file), ""))


def test_it_needs_the_right_to_the_file(toy_file: Path, workspace: Path) -> None:
    with pytest.raises(Denied, match=r"file\.read"):
        weft.run(author, spec(toy_file))
