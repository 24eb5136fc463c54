"""The engine against what the twin said once: streams and splices are checked also where torch is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import twin_says
from weft.model.engine import LocalEngine, open_engine, weights

pytest.importorskip("gguf", reason="writing a model file needs the extra `torch` or `test`")
CLOSE = 0.005
"""Largest difference of logits, which spread by 6 about their mean."""


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.toy(tmp_path_factory.mktemp("model") / "toy.gguf")


@pytest.fixture(scope="module")
def engine(toy_file: Path) -> Iterator[LocalEngine]:
    engine = asyncio.run(open_engine(toy_file, cells=256, sequences=8, kind="f32"))
    yield engine
    engine.shut()


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    with np.load(twin_says.FILE) as file:
        return dict(file)


def test_rows_of_streams_are_what_the_twin_s_mask_gave(engine: LocalEngine, said: dict[str, Any]) -> None:
    found = asyncio.run(twin_says.rows(engine))
    assert np.abs(found - said["rows"]).max() < CLOSE
    assert (found.argmax(1) == said["rows"].argmax(1)).all()
    assert engine.used == 0


def test_splices_are_what_the_twin_gave(engine: LocalEngine, said: dict[str, Any]) -> None:
    again = asyncio.run(twin_says.spliced(engine, "reencode"))
    moved = asyncio.run(twin_says.spliced(engine, "shift"))
    assert np.abs(again - said["reencode"]).max() < CLOSE
    assert np.abs(moved - said["shift"]).max() < CLOSE
    assert np.abs(moved - said["reencode"]).max() > 10 * CLOSE  # the moved cells remember the middle
    assert engine.used == 0


def test_the_record_is_what_the_twin_says_now(toy_file: Path, said: dict[str, Any]) -> None:
    pytest.importorskip("torch", reason="the twin needs the extra `torch`")
    now = twin_says.recorded(toy_file)
    assert now.keys() == said.keys()
    for name, logits in now.items():
        assert np.abs(logits - said[name]).max() < 1e-3, f"{name}: run `python -m tests.twin_says`"
