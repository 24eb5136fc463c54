"""`weft run program.py --untrusted` as a user meets it: the tools that were named, the run's policy, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weft.agent.program.untrusted import named
from weft.cli.app import app
from weft.core.errors import BadInput
from weft.tool import builtin

pytest.importorskip("pydantic_monty", reason="programs run in the embedded Python of weft[sandbox]")
WEFT = (sys.executable, "-m", "weft")
READS = """
import asyncio
names = [line.split()[0] for line in (await list_files(".")).splitlines() if ".txt" in line]
texts = await asyncio.gather(*[read_file(name) for name in names])
print("read", len(texts))
{name: "workspace" in text for name, text in zip(names, texts)}
"""
OWN = """
from weft.tool import tool

@tool(approval=True)
async def double(n: int) -> int:
    '''Twice as much.'''
    with open("doubled", "a") as file:
        file.write(f"{n}\\n")
    return 2 * n
"""


def weft(*words: str) -> Any:
    """The command, in this process: it starts as any does, but for the time that its imports take."""
    done = CliRunner().invoke(app, [*words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_a_program_runs_with_the_tools_that_are_named(workspace: Path) -> None:
    program = write("program.py", READS)
    done = weft("run", program, "--untrusted", "--tool", "files:list_files", "--tool", "files:read_file")
    assert (done.exit_code, done.stdout) == (0, 'read 1\n{"a.txt": true}\n'), done.stderr
    done = weft("run", program, "--untrusted", "--tool", "files", "--json")
    result = json.loads(done.stdout)
    assert result["result"] == {"value": {"a.txt": True}, "printed": "read 1\n", "calls": 2}


def test_it_gets_inputs_and_nothing_else(workspace: Path) -> None:
    program = write("program.py", "async def main(n: int, word: str):\n    return word * n")
    done = weft("run", program, "--untrusted", "-i", "n=2", "-i", "word=ab")
    assert (done.exit_code, done.stdout) == (0, "abab\n"), done.stderr
    done = weft("run", program, "--untrusted", "-i", "n=2")
    assert done.exit_code == 0 or "word" in done.stderr
    program = write("escapes.py", "import os\nos.environ['HOME']")
    done = weft("run", program, "--untrusted")
    assert done.exit_code == 1
    assert "os.environ" in done.stderr


def test_the_policy_of_the_run_counts(workspace: Path) -> None:
    program = write("program.py", "await read_file('../outside/secret.txt')")
    done = weft("run", program, "--untrusted", "--tool", "files")
    assert done.exit_code == 1
    assert "not allowed" in done.stderr
    assert "the secret" not in done.stdout + done.stderr
    write("writes.py", "await write_file('new.txt', 'x')")
    assert weft("run", "writes.py", "--untrusted", "--tool", "files").exit_code == 1
    assert not Path("new.txt").exists()
    assert weft("run", "writes.py", "--untrusted", "--tool", "files", "--allow", "write:./new.txt").exit_code == 0
    assert Path("new.txt").read_text() == "x"
    denied = weft("run", "writes.py", "--untrusted", "--tool", "files", "-A", "--deny", "tool.call:write_file")
    assert denied.exit_code == 1


def test_it_waits_for_a_person_and_goes_on_in_another_process(workspace: Path) -> None:
    write("approved.py", OWN)
    program = write("program.py", "print('asks')\nlist(range(await double(4)))")
    with subprocess.Popen(
        [*WEFT, "run", program, "--untrusted", "--tool", "approved.py:double", "-A"], stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as begun:  # fmt: skip
        assert begun.stderr is not None
        while "wants to run" not in begun.stderr.readline():
            assert begun.poll() is None
        begun.kill()
        begun.stderr.read()
    assert not Path("doubled").exists()
    Path(program).write_text("1 / 0")  # what runs is what was begun
    (question,) = json.loads(weft("inbox", "--json").stdout)
    assert weft("answer", question["id"], "true").exit_code == 0
    run = question["id"].partition(":")[0]
    done = weft("resume", run, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["result"]["value"] == [*range(8)]
    assert Path("doubled").read_text() == "4\n"
    assert weft("resume", "--all").stdout.endswith("0 runs resumed\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["program.py", "--untrusted", "--tool", "filez"], "did you mean 'files'?"),
        (["program.py", "--untrusted", "--tool", "files:read"], "there is no tool 'read'"),
        (["program.py", "--untrusted", "--tool", "own.py:nothing"], "own.py has no tool or toolset 'nothing'"),
        (["program.py", "--untrusted", "--tool", "missing.py:it"], "could not be loaded"),
        (["program.py", "--untrusted", "--tool", "json:loads"], "has no tool or toolset 'loads'"),
        (["program.py", "--untrusted", "--model", "local"], "--model"),
        (["program.py", "--untrusted", "-i", "[1]"], "names with values"),
        (["missing.py", "--untrusted"], "could not be read"),
        (["program.py", "--tool", "files"], "--tool goes with --untrusted"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_begins(workspace: Path, words: list[str], told: str) -> None:
    write("program.py", "1")
    write("own.py", OWN)
    done = weft("run", *words)
    assert done.exit_code == 2, done.stderr
    assert told.replace(str(workspace), "") in done.stderr.replace(f"{workspace}/", "")
    assert len(done.stderr.splitlines()) == 1
    assert not Path(".weft").exists()


def test_bad_programs_fail_with_the_line(workspace: Path) -> None:
    for text, told in {
        "": "a text of Python", "x = (": "line 1", "await nothing()": "line 1: Name `nothing`", "1 / 0": "line 1",
    }.items():  # fmt: skip
        done = weft("run", write("program.py", text), "--untrusted")
        assert done.exit_code in (1, 2) and told in done.stderr, (text, done.stderr)
    Path("program.py").write_bytes(b"\xff\xfe")
    assert weft("run", "program.py", "--untrusted").exit_code == 2


def test_tools_by_their_names() -> None:
    assert named(["files", "files:read_file"]).names == builtin.FILES.names
    assert named(["git:git_log", "weft.tool.builtin:WEB"]).names == ("git_log", "fetch_url")
    assert len(named(["all"])) == len(builtin.ALL)
    assert len(named([])) == 0
    for name in ("", "nope", "files:", "json:", "no.such.module:x"):
        with pytest.raises(BadInput):
            named([name])
