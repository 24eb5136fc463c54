"""`weft top`: what runs now, and what its commands take, seen from another process."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.groups import HOLD, left, wait_until
from tests.terminal import WEFT, Terminal
from weft.core.resources import Resources
from weft.runtime.governor import Call, Governor, Kind, posted
from weft.runtime.governor.backend import offered
from weft.runtime.governor.place import places

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="groups are Linux's"),
    pytest.mark.usefixtures("nothing_left"),
]
MB = 2**20

SHOP = f"""
import sys
import weft
from weft.tool import shell

@weft.workflow
async def work() -> int:
    code = {"import time; kept = b'x' * 60_000_000; print('up', flush=True); time.sleep(60)"!r}
    await weft.sleep(0)
    return (await shell.run([sys.executable, "-c", code], timeout=100)).code
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    terminal = Terminal(tmp_path, SHOP)
    yield terminal
    terminal.close()


def until_called(terminal: Terminal) -> Any:
    """What `weft top` says as soon as the command holds its memory."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = terminal.json("top")
        if found["runs"] and any(call["memory"] > 50 * MB for call in found["runs"][0]["calls"]):
            return found
    raise AssertionError(found)


def test_a_run_is_shown_with_its_effect_and_what_its_command_takes(terminal: Terminal) -> None:
    child, run = terminal.begin("run", "shop.py", "--allow", "shell:**")
    found = until_called(terminal)
    (one,) = found["runs"]
    assert one["run"] == run and one["state"] == "running" and one["workflow"].endswith("work")
    (effect,) = one["effects"]
    (call,) = one["calls"]
    assert effect["name"] == "shell.run" and effect["number"] == call["number"]
    assert call["usage"]["memory_peak"] >= call["memory"] > 50 * MB and call["paused"] is False
    assert call["usage"]["cpu_seconds"] > 0 and call["pid"] == child.pid and "time.sleep" in call["command"]
    plain = terminal("top", "--once")
    assert run in plain and f"#{effect['number']} shell.run" in plain and "runs" in plain and "\x1b" not in plain
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not left(child.pid), "its command has ended")
    assert terminal.json("top") == {"runs": [], "others": []}, "nothing of the dead is shown"
    assert "nothing runs" in terminal("top")


@pytest.mark.parametrize("kind", offered(places()))
def test_calls_outside_of_the_store_and_paused_ones_are_shown(terminal: Terminal, kind: Kind) -> None:
    governor = Governor(kind=kind)
    try:
        group = governor.open(Resources(memory="200M"), "held", call=Call(command="a command"))
        process = subprocess.Popen(
            [*group.enter, sys.executable, "-c", HOLD, "40", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline() == b"has it\n"
        group.freeze()
        shown = terminal("top", "--once")
        assert "a command" in shown and "paused" in shown and "of 200 MB" in shown
        (call,) = posted.calls()
        assert call.paused and call.usage.paused_seconds > 0 and 35 * MB < call.memory < 80 * MB
        group.thaw()
        process.communicate()
        group.close()
        assert posted.calls() == []
    finally:
        governor.close()


def test_nothing_is_written_while_nobody_looks(terminal: Terminal) -> None:
    governor = Governor()
    group = governor.open(Resources())
    time.sleep(0.3)
    assert not posted.folder().exists()
    posted.watch()
    wait_until(posted.calls, "it is posted")
    old = time.time() - 2 * posted.YOUNG
    os.utime(posted.folder() / "watched", (old, old))
    wait_until(lambda: not list(posted.folder().glob("*.json")), "it posts no more")
    group.close()
    governor.close()


def test_on_a_terminal_it_is_drawn_again_until_interrupted(terminal: Terminal) -> None:
    child, run = terminal.begin("run", "shop.py", "--allow", "shell:**")
    until_called(terminal)
    own, theirs = pty.openpty()
    size = {"COLUMNS": "160", "LINES": "40", "TERM": "xterm"}
    top = subprocess.Popen(
        [WEFT, "top", "--every", "0.2"], cwd=terminal.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env=terminal.environment | size, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 30
    while seen.count(run.encode()) < 3 and time.monotonic() < deadline:
        if select.select([own], [], [], 0.2)[0]:
            seen += os.read(own, 65536)
    assert seen.count(run.encode()) >= 3, seen
    top.send_signal(signal.SIGINT)
    while top.poll() is None and time.monotonic() < deadline:
        if select.select([own], [], [], 0.2)[0]:
            try:
                seen += os.read(own, 65536)
            except OSError:
                break
    assert top.wait(60) == 0 and b"Traceback" not in seen
    os.close(own)
    child.kill()
    child.wait()


def test_a_folder_of_somebody_else_is_not_used(terminal: Terminal) -> None:
    place = posted.folder()
    place.mkdir()
    place.chmod(0o777)
    (place / "watched").touch()
    assert "only this user can change" in terminal("top", "--once", code=2)
    with pytest.raises(PermissionError):
        posted.watch()
    governor = Governor()
    group = governor.open(Resources())
    time.sleep(0.3)
    assert not list(place.glob("*.json")), "nor does a governor write there"
    group.close()
    governor.close()


def test_files_that_are_none_are_passed_over(terminal: Terminal) -> None:
    posted.watch()
    mine = f"{os.getpid()}-{posted.started(os.getpid())}"
    (posted.folder() / f"{mine}.json").write_text("no json")
    (posted.folder() / "1-1.json").write_text(json.dumps([]))
    assert posted.calls() == []
    assert not (posted.folder() / "1-1.json").exists(), "its owner is dead"


def test_bad_words_are_refused(terminal: Terminal) -> None:
    terminal("top", "--every", "0", code=2)
    terminal("top", "--every", "soon", code=2)
    terminal("top", "--once", "--store", "nosuch://x", code=4)
