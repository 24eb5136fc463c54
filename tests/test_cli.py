"""The command line as a user meets it: real processes, real signals, exit codes, one sentence for an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.programs import until_dead

WEFT = str(Path(sys.executable).parent / "weft")
PROGRAM = """
import asyncio, os, time
from dataclasses import dataclass
import weft

box = weft.Mailbox("answers", int)

@dataclass
class Point:
    x: int
    y: int = 0

@weft.step
async def log(word: str) -> str:
    with open("log", "a") as file:
        file.write(word + "\\n")
    return word

@weft.step
def sits() -> None:
    open("sitting", "w").close()
    time.sleep(30)

@weft.workflow
async def add(point: Point, times: int = 1) -> Point:
    await log(f"add {point.x}")
    return Point(point.x + times, point.y)

@weft.workflow
async def fails(why: str) -> None:
    await log("before")
    raise ValueError(why)

@weft.workflow
async def waits() -> int:
    await log("first")
    return await box.receive()

@weft.workflow
async def slow(count: int = 30) -> int:
    for i in range(count):
        await log(str(i))
        await asyncio.sleep(0.05)
    return count

@weft.workflow
async def stuck() -> None:
    await sits()

@weft.workflow
async def tells() -> str:
    return await log(os.environ["DEMO_API_TOKEN"])
"""


class Shell:
    """A folder with a program, and the words `weft` said there. `store`: WEFT_STORE, if that is set."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(PROGRAM)
        ours = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        self.environment = {**ours, "WEFT_POLICY": "all"}  # these programs write where they like
        self.store = store or str(folder / ".weft" / "journal.db")
        if store is not None:
            self.environment["WEFT_STORE"] = store

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run `weft`, check its exit code, return what it printed on stdout (or stderr if it failed)."""
        done = subprocess.run(
            [WEFT, *words], cwd=self.folder, capture_output=True, text=True, timeout=60, env=self.environment
        )
        assert done.returncode == code, done.stdout + done.stderr
        if code not in (0, 130):
            lines = [line for line in done.stderr.splitlines() if not line.startswith("run ")]
            assert done.stdout == "" and "Traceback" not in done.stderr, done.stderr
            if lines and lines[0].startswith("weft: "):
                assert len(lines) == 1, "one sentence"
            return done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def begin(self, workflow: str, until: str = "log") -> tuple[subprocess.Popen[str], str]:
        """Start a run in the background: the process, and the run's id once the file `until` is there."""
        child = subprocess.Popen(
            [WEFT, "run", f"shop.py:{workflow}"], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.environment, start_new_session=True,
        )  # fmt: skip
        assert child.stderr is not None
        id = child.stderr.readline().split()[1]
        deadline = time.time() + 60
        while not (self.folder / until).exists():
            assert time.time() < deadline
            time.sleep(0.01)
        return child, id

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split("\n")[:-1]


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    """With the store that is used if nobody names one."""
    return Shell(tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def weft_(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """The same, and then with a server."""
    return Shell(tmp_path, request.getfixturevalue("postgres_url") if request.param == "postgres" else None)


def test_run_takes_its_input_in_every_way(here: Shell) -> None:
    (here.folder / "in.json").write_text('{"point": {"x": 5}, "times": 2}')
    for words in (
        ["--input", '{"point": {"x": 5}, "times": 2}'],
        ["--input", "@in.json"],
        ["-i", 'point={"x": 5}', "-i", "times=2"],
        ["-i", '{"point": {"x": 5}}', "-i", "times=2"],
    ):
        ended = here.json("run", "shop.py:add", *words)
        assert ended["result"] == {"x": 7, "y": 0} and ended["state"] == "done"
    shown = here.json("show", ended["run"])
    assert shown["input"] and [r["record"] for r in shown["journal"]] == ["outcome", "end"]
    assert here.json("ps")[0]["id"] == ended["run"]
    assert "shop.add" in here("ps") and "add 5" in here("show", ended["run"][6:])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "none.py"], "no file none.py"),
        (["run", "shop.py"], "say which"),
        (["run", "shop.py:ad"], "did you mean add?"),
        (["run", "broken.py"], "broken.py:2"),
        (["run", "empty.py"], "declares no workflow"),
        (["run", "shop.py:add"], "point"),
        (["run", "shop.py:add", "-i", 'point={"x": "many"}'], "x"),
        (["run", "shop.py:add", "-i", "pint=1"], "pint"),
        (["run", "shop.py:add", "-i", "nonsense"], "neither JSON nor key=value"),
        (["run", "shop.py:add", "-i", "@absent.json"], "absent.json"),
        (["run", "shop.py:waits", "--model", "x"], "takes no model"),
        (["gc", "--older-than", "soon"], "30d"),
        (["resume"], "--all"),
    ],
)
def test_bad_input_is_explained_with_code_2(here: Shell, words: list[str], says: str) -> None:
    (here.folder / "broken.py").write_text("x = 1\ndef (:\n")
    (here.folder / "empty.py").write_text("")
    assert says in here(*words, code=2)


def test_a_failed_run_is_code_1_and_can_be_forked(weft_: Shell) -> None:
    said = weft_("run", "shop.py:fails", "-i", "why=no reason", code=1)
    assert "ValueError: no reason" in said and "weft show" in said
    run = weft_.json("ps")[0]["id"]
    assert weft_.json("ps", "--state", "failed")[0]["error"]["message"] == "no reason"
    assert "ValueError" in weft_("resume", run, code=1)
    assert "because" in weft_("fork", run, "--at", "1", "-i", "why=because", code=1)
    assert weft_.log() == ["before", "before"]
    assert "no effect 9" in weft_("fork", run, "--at", "9", code=2)


def test_unknown_runs_are_code_3(weft_: Shell) -> None:
    weft_("run", "shop.py:add", "-i", 'point={"x":1}')
    weft_("run", "shop.py:add", "-i", 'point={"x":1}')
    assert "no run 'zzz'" in weft_("show", "zzz", code=3)
    assert "several" in weft_("show", "1", code=3)


def test_stores_that_cannot_be_used_are_code_4(here: Shell) -> None:
    (here.folder / "junk.db").write_text("this is not a journal, whatever it is called" * 100)
    assert "junk.db" in here("ps", "--store", "junk.db", code=4)
    assert "does not answer" in here("ps", "--store", "postgresql://nowhere/x", code=4)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_runs_go_on(weft_: Shell, how: signal.Signals) -> None:
    child, id = weft_.begin("slow")
    while len(weft_.log()) < 3:
        time.sleep(0.01)
    child.send_signal(how)
    _, said = child.communicate(timeout=60)
    if how != signal.SIGKILL:
        assert child.returncode == 130 and f"weft resume {id}" in said
    until_dead(weft_.store)
    assert weft_.json("ps")[0]["state"] == "interrupted"
    assert weft_.json("resume", id[4:])["result"] == 30
    log = weft_.log()
    assert sorted(set(log), key=int) == [str(i) for i in range(30)] and len(log) <= 31


def test_a_step_in_a_thread_does_not_keep_an_interrupted_command(here: Shell) -> None:
    child, _ = here.begin("stuck", "sitting")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130


def test_a_run_elsewhere_can_be_looked_at_sent_to_and_cancelled(weft_: Shell) -> None:
    child, id = weft_.begin("waits")
    assert weft_.json("show", id)["state"] in ("running", "waiting")
    assert "another process" in weft_("resume", id, code=3)
    assert "mailbox 'answers'" in weft_("send", id, "answers", '"no number"', code=2)
    assert "not JSON" in weft_("send", id, "answers", "{", code=2)
    assert weft_.json("send", id, "answers", "42")["sent"] is True
    out, _ = child.communicate(timeout=60)
    assert out.strip() == "42" and child.returncode == 0
    assert "has ended" in weft_("send", id, "answers", "1", code=3)
    (weft_.folder / "log").unlink()
    child, id = weft_.begin("waits")
    assert weft_.json("cancel", id)["state"] == "cancelled"
    _, said = child.communicate(timeout=60)
    assert child.returncode == 1 and "cancelled" in said


def test_resume_all_export_and_gc(weft_: Shell) -> None:
    for _ in range(2):
        child, id = weft_.begin("slow")
        child.kill()
        child.communicate()
        (weft_.folder / "log").unlink()
    until_dead(weft_.store)
    assert len(weft_.json("resume", "--all")) == 2
    lines = [json.loads(line) for line in weft_("export", id).splitlines()]
    assert lines[0]["record"] == "process" and lines[-1]["record"] == "end" and len(lines) >= 62
    weft_("export", id, "-o", "run.jsonl")
    assert (weft_.folder / "run.jsonl").read_text().count("\n") == len(lines)
    assert len(weft_.json("gc", "--older-than", "0s", "--dry-run")["runs"]) == 2
    assert weft_.json("gc", "--older-than", "0s")["deleted"] == 2 and weft_.json("ps") == []
    assert weft_.json("gc", "--older-than", "30d")["deleted"] == 0


def test_a_key_starts_one_run_only(weft_: Shell) -> None:
    first = weft_.json("run", "shop.py:add", "-i", 'point={"x":1}', "--key", "k")
    assert weft_.json("run", "shop.py:add", "-i", 'point={"x":1}', "--key", "k")["run"] == first["run"]
    assert "another key" in weft_("run", "shop.py:add", "-i", 'point={"x":2}', "--key", "k", code=1)
    assert weft_.log() == ["add 1"]


def test_secrets_are_not_shown(weft_: Shell) -> None:
    weft_.environment["DEMO_API_TOKEN"] = "tok-0123456789abcdef"
    out = weft_("run", "shop.py:tells")
    run = weft_.json("ps")[0]["id"]
    for text in (out, weft_("show", run), weft_("export", run)):
        assert "tok-0123456789abcdef" not in text and "[secret:DEMO_API_TOKEN]" in text


def test_doctor_help_and_completion(weft_: Shell) -> None:
    findings = {finding["what"]: finding for finding in weft_.json("doctor")}
    assert findings["python"]["ok"] and findings["fsync"]["ok"] and "smollm2-135m" in findings
    assert ("server" in findings) == ("commits" in findings) == ("://" in weft_.store)
    if "server" in findings:
        assert findings["server"]["ok"] and "PostgreSQL 1" in findings["server"]["found"]
        findings = {finding["what"]: finding for finding in weft_.json("doctor", "--store", "postgres://u:pw@0:1/x")}
        assert not findings["server"]["ok"] and "u:***@0:1" in findings["server"]["found"]
    assert "resume" in weft_("--help")
    weft_.environment["_WEFT_COMPLETE"] = "source_bash"
    assert "complete" in weft_()
