"""`weft chat` as a person has it: a real terminal, real signals, and a pipe."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terminal import WEFT, Terminal

PROGRAM = '''
import asyncio
from weft.agent import Agent
from weft.model import script
from weft.tool import ToolCall, tool


@tool(effect="pure")
async def look(word: str) -> str:
    """Look a word up."""
    return f"{word}: found\\nmore\\nmore"


@tool(approval=True)
async def send(to: str) -> str:
    """Send a letter."""
    return f"sent to {to}"


@tool
async def stuck() -> str:
    """Never comes back."""
    await asyncio.Event().wait()


def model(request):
    *_, last = request.messages
    if last.results:
        return f"So: {last.results[0].text.splitlines()[0]}"
    words = "".join(part.content for part in last.parts).split()
    match words:
        case ["look", word]:
            return ToolCall(id="1", name="look", arguments={"word": word})
        case ["send", to]:
            return ToolCall(id="2", name="send", arguments={"to": to})
        case ["hang"]:
            return ToolCall(id="3", name="stuck", arguments={})
        case ["fail"]:
            from weft.core.errors import ModelError
            return ModelError("out of order")
    return f"You said {len(request.messages)}: {last.text}"


helper = Agent(script(model, name="chat"), name="helper", tools=[look, send, stuck])
'''
ALLOW = ["--allow", "tool:*", "--allow", "model:**"]


class Screen:
    """A chat on a pseudo-terminal."""

    def __init__(self, terminal: Terminal, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [WEFT, "chat", *words], cwd=terminal.folder, stdin=slave, stdout=slave, stderr=slave,
            env={**terminal.environment, "TERM": "dumb", "COLUMNS": "200"}, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.text = ""
        self.seen = 0

    def until(self, words: str, seconds: float = 40) -> str:
        """What came until these words did, after those that were waited for last."""
        deadline = time.monotonic() + seconds
        while (at := self.text.find(words, self.seen)) < 0:
            assert time.monotonic() < deadline, f"{words!r} did not come; it said\n{self.text}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode().replace("\r", "")
                except OSError:
                    raise AssertionError(f"it ended before {words!r}:\n{self.text}") from None
        came, self.seen = self.text[self.seen : at], at + len(words)
        return came

    def type(self, line: str) -> None:
        os.write(self.master, f"{line}\n".encode())

    def interrupt(self) -> None:
        self.child.send_signal(signal.SIGINT)

    def left(self) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + 30
        while self.child.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode()
                except OSError:
                    break
        return self.child.wait(60)

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)

    @property
    def run(self) -> str:
        found = re.search(r"chat (\w+);", self.text)
        assert found is not None, self.text
        return found[1]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, PROGRAM)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def screen(here: Terminal) -> Iterator[Screen]:
    screen = Screen(here, "shop.py:helper", *ALLOW)
    try:
        yield screen
    finally:
        screen.close()


def test_a_chat_shows_words_calls_and_results_and_asks_before_what_a_person_approves(screen: Screen) -> None:
    screen.until("> ")
    screen.type("look owls")
    screen.until("· look {'word': 'owls'}")
    screen.until("owls: found (and 2 more lines)")
    screen.until("So: owls: found")
    screen.type("send ann")
    screen.until('send wants to run with {"to":"ann"}. Allow it?')
    screen.type("y")
    screen.until("So: sent to ann")
    screen.type("send bob")
    screen.until("Allow it?")
    screen.type("n")
    screen.until("So: not allowed")
    screen.type("fail")
    screen.until("(out of order)")
    screen.type("/what")
    screen.until("there is no /what")
    screen.type("/quit")
    assert screen.left() == 0


def test_ctrl_c_stops_the_agent_and_twice_leaves(screen: Screen) -> None:
    screen.until("> ")
    screen.type("hang")
    screen.until("· stuck")
    screen.interrupt()
    screen.until("(stopped)")
    screen.type("hello")
    screen.until("You said")
    screen.until("> ")
    screen.type("hang")
    screen.until("· stuck")
    screen.type("no, look at this")  # heard at once
    screen.until("You said")
    screen.until("> ")
    screen.interrupt()
    screen.until("again leaves")
    screen.interrupt()
    assert screen.left() == 130 and f"weft chat --resume {screen.run}" in screen.text


def test_a_chat_that_is_killed_goes_on_with_what_was_said(here: Terminal, screen: Screen) -> None:
    screen.until("> ")
    screen.type("first words")
    screen.until("You said 1: first words")
    screen.until("> ")
    screen.child.kill()
    screen.child.wait()
    again = Screen(here, "--resume", screen.run)
    try:
        again.until("> first words")
        again.until("You said 1: first words")
        again.until("> ")
        again.type("second")
        again.until("You said 3: second")
        again.until("> ")
        again.type("/history")
        again.until("user: first words")
        again.until("assistant: You said 3: second")
        again.type("/undo")
        again.until("(undone)")
        again.type("third")
        again.until("You said 3: third")
        again.until("> ")
        again.type("/cost")
        again.until("turns")
        again.type("\x04")
    finally:
        again.close()


def test_lines_of_a_pipe_are_said_one_after_the_other(here: Terminal) -> None:
    done = subprocess.run(
        [WEFT, "chat", "shop.py:helper", *ALLOW], cwd=here.folder, env=here.environment, timeout=60,
        input="one\nlook owls\nsend ann\nyes\nlast", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = ("You said 1: one", "So: owls", "So: sent to ann", "You said 11: last")
    places = [done.stdout.index(words) for words in said]
    assert places == sorted(places) and "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("words", "complaint", "code"),
    [
        (["nowhere.py"], "there is no file", 2),
        (["shop.py:nobody"], "it has helper", 2),
        (["--resume", "zzz"], "zzz", 3),
        (["shop.py", "--resume", "zzz"], "name no other", 2),
        (["--model", "nowhere:x"], "nowhere", 2),
    ],
)
def test_what_it_can_not_chat_with(here: Terminal, words: list[str], complaint: str, code: int) -> None:
    assert complaint in here("chat", *words, code=code)
