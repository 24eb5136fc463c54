"""Weft's own tools for agents: each does what its words say, within the rights of its run, and says what to do next."""

from __future__ import annotations

import asyncio
import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.content import Blob, ToolCall, ToolResult
from weft.runtime.sandbox import choose
from weft.tool import builtin
from weft.tool.toolset import Toolset

pytestmark = pytest.mark.usefixtures("workspace")
FREE = {"allow": ("file:./",)}


@weft.workflow(name="builtin.calls")
async def calls(*given: ToolCall) -> list[ToolResult]:
    return [await builtin.ALL.call(one) for one in given]


def run(workspace: Path, *given: tuple[str, dict[str, Any]], **policy: Any) -> list[ToolResult]:
    place = str(workspace.parent / "journal.db")
    made = [ToolCall(id=str(n), name=name, arguments=arguments) for n, (name, arguments) in enumerate(given)]
    found: list[ToolResult] = drive(place, lambda runtime: runtime.run(calls, *made), policy=weft.Policy(**policy))
    return found


def one(workspace: Path, name: str, /, *, policy: dict[str, Any] = FREE, **arguments: Any) -> ToolResult:
    return run(workspace, (name, arguments), **policy)[0]


def seen(result: ToolResult) -> str:
    return re.findall(r"digest (\w+)\]", result.text)[-1]


def test_every_tool_says_what_it_does_and_what_it_takes() -> None:
    assert len(builtin.ALL) == 15
    for spec in builtin.ALL.specs:
        assert spec.description
        assert re.fullmatch(r"[a-z_]{1,64}", spec.name)
        if len(spec.schema["properties"]) > 1:
            told = [name for name, part in spec.schema["properties"].items() if not part.get("description")]
            assert set(told) <= {"folder"}, spec.name
    assert isinstance(builtin.FILES, Toolset)
    assert {one.name for one in builtin.ALL if one.effect == "pure"} >= {"read_file", "git_log", "search_files"}


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_read_and_edited(workspace: Path) -> None:
    written, read = run(
        workspace,
        ("write_file", {"path": "app.py", "text": "port = 80\nhost = 'a'\n"}),
        ("read_file", {"path": "app.py", "start": 2, "lines": "1"}),
        **FREE,
    )
    assert written.text.startswith("[written; digest ")
    assert read.text.startswith("2\thost = 'a'\n[lines 2 to 2, of 2")
    assert seen(read) == seen(written)
    edited, again, stale = run(
        workspace,
        ("edit_file", {"path": "app.py", "old": "80", "new": "8080", "seen": seen(read)}),
        ("edit_file", {"path": "app.py", "old": "nowhere", "new": "x", "seen": seen(read)}),
        ("write_file", {"path": "app.py", "text": "", "seen": seen(read)}),
        **FREE,
    )
    assert "-port = 80\n+port = 8080" in edited.text
    assert (again.error, stale.error) == (True, True)
    assert "changed since it was read" in again.text
    assert (workspace / "app.py").read_text() == "port = 8080\nhost = 'a'\n"
    missed = one(workspace, "edit_file", path="app.py", old="nowhere", new="x", seen=seen(edited))
    assert missed.error
    assert "is not in it" in missed.text


def test_files_are_listed_found_and_searched(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub" / "b.py").write_text("one = 1\nTWO = 2\n")
    results = run(
        workspace,
        ("list_files", {}),
        ("list_files", {"folder": "sub"}),
        ("find_files", {"pattern": "**/*.py"}),
        ("find_files", {"pattern": "*.md"}),
        ("search_files", {"pattern": "two", "ignore_case": True, "glob": "*.py", "context": 1}),
        ("search_files", {"pattern": "("}),
        ("search_files", {"pattern": "(", "literal": True}),
        ("read_file", {"path": "nowhere"}),
    )
    texts = [one.text for one in results]
    assert texts[:4] == ["a.txt  16\nsub/", "b.py  16", "sub/b.py", "[no file fits]"]
    assert texts[4].startswith("sub/b.py\n1- one = 1\n2: TWO = 2\n[1 lines match")
    assert results[5].error
    assert texts[6].startswith("[0 lines match")
    assert texts[7].startswith("FileNotFoundError")


def test_what_a_run_may_not_do_its_agent_may_not(workspace: Path) -> None:
    results = run(
        workspace,
        ("read_file", {"path": "../outside/secret.txt"}),
        ("write_file", {"path": "x", "text": "x"}),
        ("run_command", {"command": "touch x"}),
        ("fetch_url", {"url": "http://127.0.0.1:9/"}),
        ("search_files", {"pattern": "secret", "folder": ".."}),
    )
    assert all(one.error and one.text.startswith("not allowed: ") for one in results)
    assert not (workspace / "x").exists()
    denied = one(workspace, "read_file", path="a.txt", policy={"deny": ("tool:read_file",)})
    assert "tool.call of 'read_file' is denied" in denied.text


def test_a_policy_may_ask_about_what_a_tool_needs(workspace: Path) -> None:
    policy = {"ask": ("shell:touch *",), "approvals": weft.Approvals(timeout=0.05, otherwise="once")}
    assert (
        one(workspace, "run_command", command="touch made", policy=policy).text == "[it said nothing, and ended well]"
    )
    assert (workspace / "made").exists()


def test_a_step_may_use_them_in_its_own_name(workspace: Path) -> None:
    @weft.step
    async def helps(path: str) -> str:
        return await builtin.read_file(path)

    @weft.workflow
    async def program(path: str) -> str:
        return await helps(path)

    place = str(workspace.parent / "journal.db")
    policy = weft.Policy()
    found = drive(place, lambda runtime: runtime.run(program, "a.txt"), policy=policy)
    assert found.startswith("1\tof the workspace")
    with pytest.raises(weft.errors.Denied):
        drive(place, lambda runtime: runtime.run(program, "../outside/secret.txt"), policy=policy)


# --- commands, the web, git -------------------------------------------------------------------------------------------


def test_a_command_tells_what_it_said_and_how_it_ended(workspace: Path) -> None:
    policy = {"allow": ("shell:**",)}
    results = run(
        workspace,
        ("run_command", {"command": "cat a.txt"}),
        ("run_command", {"command": "sh -c 'echo out; echo err >&2; exit 3'"}),
        ("run_command", {"command": "sleep 5", "seconds": 0.05}),
        ("run_command", {"command": "cat 'a.txt"}),
        ("run_command", {"command": " "}),
        ("run_command", {"command": "no-such-program"}),
        **policy,
    )
    assert results[0].text == "of the workspace"
    assert results[1].text == "out\n[errors]\nerr\n[exit status 3]"
    assert [one.error for one in results] == [False, False, True, True, True, True]
    assert "did not finish within 0.05 s" in results[2].text
    assert "No closing quotation" in results[3].text


def test_a_shell_in_a_sandbox_stays_and_says_when_it_is_a_new_one(workspace: Path) -> None:
    try:
        choose("process")
    except weft.errors.WeftError as error:
        pytest.skip(str(error))
    new = "[a new shell, on a new copy of the workspace]\n"
    results = run(
        workspace,
        ("sandbox_shell", {"command": "mkdir made; cd made; echo kept >x"}),
        ("sandbox_shell", {"command": "cat x ../a.txt; exit 3"}),
        ("sandbox_shell", {"command": "cat ../outside/secret.txt; ls"}),
        allow=("sandbox:**",),
    )
    assert results[0].text == f"{new}[it said nothing, and ended well]"
    assert results[1].error and "session ended" in results[1].text
    assert results[2].text.startswith(new) and "secret.txt: No such file" in results[2].text
    assert not (workspace / "made").exists()
    refused = run(workspace, ("sandbox_shell", {"command": "ls"}))[0]
    assert refused.error and "sandbox.run" in refused.text


def test_a_program_runs_in_its_own_walls(workspace: Path) -> None:
    try:
        choose("process")
    except weft.errors.WeftError as error:
        pytest.skip(str(error))
    program = "print(sum(range(5))); open('made.txt', 'w').write('x'); open('/etc/shadow')"
    result = one(workspace, "run_python", program=program, policy={})
    assert result.text.startswith("10\n[errors]\n")
    assert result.text.endswith("[exit status 1]\n[it made files: made.txt]")


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body, kind = {"/": (b"<p>hi</p>", "text/html; charset=utf-8"), "/dot": (b"\x89PNG", "image/png")}.get(
            self.path, (b"gone", "text/plain")
        )
        self.send_response(404 if kind == "text/plain" else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_gives_its_text_or_its_picture(workspace: Path, site: str) -> None:
    pytest.importorskip("httpx2")
    page, dot, gone, none = run(
        workspace,
        *(("fetch_url", {"url": url}) for url in (f"{site}/", f"{site}/dot", f"{site}/x", "example.org")),
        allow=("net:127.0.0.1:*",),
    )
    assert page.text == "<p>hi</p>"
    assert isinstance(dot.response[0], Blob)
    assert gone.text == f"[status 404 of {site}/x]\ngone"
    assert none.error


def test_a_repository_tells_its_history(workspace: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=Ann", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=workspace, check=True, capture_output=True)

    git("init", "-q")
    git("add", "a.txt")
    git("commit", "-q", "-m", "First words")
    (workspace / "a.txt").write_text("otherwise")
    log, status, diff, other = run(
        workspace, ("git_log", {}), ("git_status", {}), ("git_diff", {"paths": ["a.txt"]}), ("git_log", {"since": "x"})
    )
    assert re.fullmatch(r"[0-9a-f]{12} \d{4}-\d\d-\d\d Ann: First words \[1 files, \+1 -0\]", log.text)
    assert status.text == " M a.txt"
    assert "-of the workspace" in diff.text
    assert other.error


def test_more_of_a_long_result_is_read_and_searched(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_OUTPUTS", str(workspace.parent / "outputs"))
    (workspace / "many.txt").write_text("".join(f"line {n}\n" for n in range(20_000)))
    policy = {"allow": ("shell:cat *",)}
    shown = one(workspace, "run_command", command="cat many.txt", policy=policy).text
    ref = re.findall(r"output\.read\('(\w+)'", shown)[0]
    more, found, none = run(
        workspace,
        ("read_output", {"ref": ref, "start": 9_000, "lines": 1}),
        ("search_output", {"ref": ref, "pattern": "line 777$"}),
        ("read_output", {"ref": "0" * 32}),
    )
    assert more.text.startswith("9000\tline 8999")
    assert "778: line 777" in found.text
    assert none.error


def test_outside_of_a_run_they_simply_work(workspace: Path) -> None:
    assert asyncio.run(builtin.list_files()) == "a.txt  16"
