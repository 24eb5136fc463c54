"""`weft signal` and `weft ps --tree`, as a person uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import weft


@weft.step
async def one(n: int) -> int:
    return n


@weft.workflow
async def leaf(n: int) -> int:
    return await one(n)


@weft.workflow
async def family() -> int:
    return await leaf(1) + await leaf(2)


@weft.workflow
async def sleepy() -> None:
    await weft.sleep(3600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fam.py").write_text(PROGRAM)
    return tmp_path


def weft(folder: Path, store: str, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "weft", *words, "--store", store]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_tree_shows_who_started_whom(folder: Path, store: str) -> None:
    weft(folder, store, "run", "fam.py:family")
    [root] = json.loads(weft(folder, store, "ps", "--tree", "--json"))
    assert [child["workflow"] for child in root["children"]] == ["fam.leaf", "fam.leaf"]
    lines = weft(folder, store, "ps", "--tree").splitlines()
    assert lines[0].startswith(root["id"])
    assert all(child["id"] in line for child, line in zip(root["children"], lines[1:], strict=True))


def state(folder: Path, store: str, id: str) -> Any:
    return next(row["state"] for row in json.loads(weft(folder, store, "ps", "--json")) if row["id"] == id)


def test_a_run_is_paused_let_go_on_and_killed(folder: Path, store: str) -> None:
    id = weft(folder, store, "submit", "fam.py:sleepy").strip()
    assert "paused" in weft(folder, store, "signal", id, "pause")
    assert state(folder, store, id) == "paused"
    assert "0 runs resumed" in weft(folder, store, "resume", "--all")
    weft(folder, store, "signal", id[-6:], "resume")
    assert state(folder, store, id) != "paused"
    assert json.loads(weft(folder, store, "signal", id, "kill", "--json"))["state"] == "killed"
    assert state(folder, store, id) == "killed"


def test_a_run_of_another_process_hears_its_signal(folder: Path, store: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "weft", "run", "fam.py:sleepy", "--store", store], cwd=folder, stderr=subprocess.PIPE,
        env={**os.environ},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (rows := json.loads(weft(folder, store, "ps", "--json"))) or rows[0]["state"] != "waiting":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "killed" in weft(folder, store, "signal", rows[0]["id"], "kill")
        assert running.wait(20) != 0
    finally:
        running.kill()
        running.communicate()


def test_what_is_no_signal_is_refused(folder: Path, store: str) -> None:
    id = weft(folder, store, "submit", "fam.py:sleepy").strip()
    assert "there are pause, resume, kill" in weft(folder, store, "signal", id, "stop", code=2)
