"""Servers of other people as tools of an agent: of both revisions, over pipes and HTTP, and real published ones."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.leaks import processes
from weft.core.content import Blob, Text, ToolCall, Uri
from weft.core.errors import Denied
from weft.tool import Progress
from weft.tool.mcp import Question, Reply, Server, ServerFailed, ServerMisfit, ToolFailed, connect
from weft.tool.mcp.content import Argument, Prompt, Resource

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'weft[mcp]'")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process wall is of Linux")

SCRIPT = Path(__file__).parent / "servers" / "mcp_plain.py"
REVISIONS = ("2026-07-28", "2025-11-25")


@pytest.fixture(autouse=True)
def _no_server_left(workspace: Path) -> Iterator[None]:
    yield
    asyncio.run(connect.close())
    assert not processes("a job of a sandbox")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the plain server is, over HTTP."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), "--http"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def plain(**settings: Any) -> Server:
    given: dict[str, Any] = {"command": [sys.executable, str(SCRIPT)], "read": [str(SCRIPT)], **settings}
    return Server("plain", **given)


def over_http(url: str, **settings: Any) -> Server:
    return Server("plain", url=url, **settings)


async def in_workflow(work: Callable[[], Awaitable[Any]], place: Path, answers: list[Any] | None = None) -> Any:
    """What it gives, as the body of a workflow; questions to people are answered one after another."""

    @weft.workflow
    async def agent() -> Any:
        return await work()

    async with weft.Runtime(place / "journal.db", policy=weft.Policy(base="all")) as runtime:
        run = await runtime.start(agent)
        await answered(runtime, answers or [])
        return await run


async def answered(runtime: weft.Runtime, answers: list[Any]) -> None:
    """Answer one question after another."""
    seen: set[str] = set()
    for answer in answers:
        while not (asked := [one.id for one in await runtime.questions() if one.id not in seen]):
            await asyncio.sleep(0.01)
        seen.add(asked[0])
        await runtime.answer(asked[0], answer)


# --- both revisions, both transports ------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("transport", ["pipes", "http"])
def test_what_a_server_offers_is_used(
    revision: str, transport: str, workspace: Path, request: pytest.FixtureRequest
) -> None:
    if transport == "http":
        server = over_http(request.getfixturevalue("url"), revision=revision)
    else:
        server = plain(revision=revision)

    async def main() -> None:
        tools = await server.tools()
        assert list(tools.names) == sorted(tools.names) and {"add", "picture", "fail"} <= set(tools.names)
        assert tools["add"].spec.description == "Add two numbers."
        assert await tools["add"](a=2, b=3) == Reply(parts=(Text(content="5"),), structured={"sum": 5})
        shown = await tools.call(ToolCall(id="1", name="add", arguments={"a": 1}))
        assert (shown.id, shown.name, shown.text, shown.error) == ("1", "add", "1", False)
        wrong = await tools.call(ToolCall(id="2", name="add", arguments={"a": "one"}))
        assert wrong.error and "arguments.a" in wrong.text
        picture = await tools["picture"]()
        assert [type(part) for part in picture.parts] == [Blob, Blob, Uri, Blob, Text]
        assert [getattr(part, "mime_type", "") for part in picture.parts[:4]] == [
            "image/png", "audio/wav", "text/html", "application/pdf",
        ]  # fmt: skip
        failed = await tools.call(ToolCall(id="3", name="fail"))
        assert failed.error and failed.text == "the disk is full"
        with pytest.raises(ToolFailed, match="the disk is full"):
            await tools["fail"]()
        said: list[Progress] = []
        await tools.call(ToolCall(id="4", name="steps"), report=said.append)
        assert said == [Progress(step, 3, f"step {step}") for step in (1, 2, 3)]
        assert await server.resources() == [
            Resource(uri="memo:note", name="note", mime_type="text/plain"),
            Resource(uri="memo:{name}", name="notes", template=True),
        ]
        assert await server.read_resource("memo:x") == [Text(content="what memo:x holds")]
        assert await server.prompts() == [
            Prompt(name="ask", description="Asks.", arguments=(Argument(name="topic", required=True),))
        ]
        assert (await server.prompt("ask", topic="bees"))[0].parts == (Text(content="What of bees?"),)

    asyncio.run(main())


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_cancelled_call_is_cancelled_at_the_server(url: str, revision: str) -> None:
    async def main() -> None:
        tools = await over_http(url, revision=revision).tools()
        before = int((await tools["count"]()).text.split()[2])
        waiting = asyncio.create_task(tools["wait"]())
        await asyncio.sleep(1.0)  # until it is there
        waiting.cancel()
        await asyncio.wait([waiting])
        for _ in range(1000):
            if int((await tools["count"]()).text.split()[2]) == before + 1:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the server was not told")

    asyncio.run(main())


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_server_is_told_of_its_folders_and_tells_of_changes(revision: str, workspace: Path) -> None:
    here = workspace.resolve().as_uri()

    async def main() -> None:
        server = plain(revision=revision, read=[str(SCRIPT), "./"])
        tools = await server.tools()
        assert (await tools["where"]()).text == f"{SCRIPT.as_uri()} {here}"
        assert await server.changes() == 0
        await tools["grow"]()
        for _ in range(1000):
            if await server.changes():
                break
            await asyncio.sleep(0.02)
        assert await server.changes() == 1
        assert await server.approve() == ("a new tool 'grown': 'New.'",)
        assert "grown" in await server.tools()

    asyncio.run(main())


def test_one_connection_serves_many_calls_of_many_loops(url: str) -> None:
    tools = asyncio.run(over_http(url).tools())

    async def many(first: int) -> list[str]:
        replies = await asyncio.gather(*(tools["add"](a=number, b=1) for number in range(first, first + 20)))
        return [reply.text for reply in replies]

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda first: asyncio.run(many(first)), (0, 100, 200)))
    assert found == [[str(number + 1) for number in range(first, first + 20)] for first in (0, 100, 200)]


def test_a_server_of_another_revision_is_not_used(url: str) -> None:
    script = Path(__file__).parent / "servers" / "mcp_hostile.py"
    old = Server("old", command=[sys.executable, "-I", str(script)], read=[str(script)], revision=REVISIONS[0])  # type: ignore[arg-type]
    with pytest.raises(ServerMisfit, match="speaks revision 2025-11-25, not 2026-07-28"):
        asyncio.run(old.tools())


def test_a_call_that_becomes_a_task_is_followed_to_its_end(url: str) -> None:
    async def main() -> None:
        tools = await over_http(url).tools()
        said: list[Progress] = []
        shown = await tools.call(ToolCall(id="1", name="later"), report=said.append)
        assert shown.text == "asked 3 times" and [one.message for one in said] == ["at it", "at it"]

    asyncio.run(main())


# --- questions of a server ----------------------------------------------------------------------------------------


def test_a_person_answers_a_question_and_the_call_goes_on(url: str, workspace: Path) -> None:
    server = over_http(url)

    async def book() -> str:
        tools = await server.tools()
        return (await tools["book"]()).text

    answers: list[Any] = [{"name": "Ada", "class": "first"}, True]
    assert asyncio.run(in_workflow(book, workspace, answers)) == "Ada travels: accept"


def test_a_person_may_decline(url: str, workspace: Path) -> None:
    server = over_http(url)

    async def book() -> str:
        tools = await server.tools()
        return (await tools.call(ToolCall(id="1", name="book"))).text

    assert asyncio.run(in_workflow(book, workspace, [None])) == "nobody travels: decline"


def test_an_answer_may_come_after_the_end_of_the_process_that_asked(url: str, store: str) -> None:
    server = over_http(url)

    @weft.workflow
    async def agent() -> str:
        tools = await server.tools()
        return str((await tools["book"]()).text)

    async def ask() -> str:
        async with weft.Runtime(store, policy=weft.Policy(base="all")) as runtime:
            run = await runtime.start(agent)
            while not await runtime.questions():
                await asyncio.sleep(0.01)
            return run.id

    async def answer(id: str) -> str:
        async with weft.Runtime(store, policy=weft.Policy(base="all")) as runtime:
            run = await runtime.resume(id)
            await answered(runtime, [{"name": "Grace"}, False])
            return str(await run)

    id = asyncio.run(ask())
    asyncio.run(connect.close())
    assert asyncio.run(answer(id)) == "Grace travels: decline"


@pytest.mark.parametrize(("revision", "told"), [(REVISIONS[0], "Ada travels: accept"), (REVISIONS[1], "accept: {")])
def test_a_function_answers_in_either_revision(url: str, revision: str, told: str) -> None:
    asked: list[Question] = []

    def answer(question: Question) -> Any:
        asked.append(question)
        return {"name": "Ada"} if question.schema["properties"] else True

    tools = asyncio.run(over_http(url, revision=revision, answer=answer).tools())
    assert asyncio.run(tools["book"]()).text.startswith(told)
    assert asked[0].message == "Who travels?" and asked[0].schema["required"] == ["name"]


@pytest.mark.parametrize(("revision", "told"), [(REVISIONS[0], "nobody travels: cancel"), (REVISIONS[1], "cancel: ")])
def test_without_a_person_or_a_function_nobody_answers(url: str, revision: str, told: str) -> None:
    tools = asyncio.run(over_http(url, revision=revision).tools())
    assert asyncio.run(tools["book"]()).text.startswith(told)


# --- durable ------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
from pathlib import Path
import weft
from weft.tool.mcp import Server
server = Server("plain", command=[sys.executable, {script!r}], read=[{script!r}], effect="pure")

@weft.step
def hold() -> None:
    Path("held").touch()
    while Path("hold").exists():
        time.sleep(0.01)

@weft.workflow
async def agent() -> str:
    tools = await server.tools()
    first = await tools["count"]()
    await hold()
    return first.text + "; " + (await tools["count"]()).text
"""


def test_a_call_is_made_once_whatever_happens_to_this_process(workspace: Path) -> None:
    script = workspace / "plain_of_this_test.py"
    script.write_bytes(SCRIPT.read_bytes())
    (workspace / "prog.py").write_text(PROGRAM.format(script=str(script)))
    (workspace / "hold").touch()
    words = [sys.executable, "-m", "weft", "run", "prog.py", "--key", "k", "--policy", "all"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (workspace / "held").exists():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not processes(script.name), "the server outlived its Weft"
    (workspace / "hold").unlink()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.strip().strip('"') == "1 calls, 0 cancelled; 1 calls, 0 cancelled"  # each by another server


# --- HTTP: rights, secrets, redirects -----------------------------------------------------------------------------


def test_a_server_over_http_needs_the_right_to_its_host(url: str, workspace: Path) -> None:
    server = over_http(url)

    @weft.workflow
    async def agent() -> int:
        return len(await server.tools())

    async def main(*allow: str, deny: tuple[str, ...] = ()) -> int:
        async with weft.Runtime(workspace / "journal.db", policy=weft.Policy(allow=allow, deny=deny)) as runtime:
            return await runtime.run(agent)

    port = url.split(":")[2].partition("/")[0]
    with pytest.raises(Denied, match=f"127.0.0.1:{port}"):
        asyncio.run(main())
    assert asyncio.run(main(f"net:127.0.0.1:{port}")) > 5


def test_an_address_that_is_denied_is_not_reached_by_another_name(url: str, workspace: Path) -> None:
    server = over_http(url.replace("127.0.0.1", "localhost"))

    @weft.workflow
    async def agent() -> int:
        return len(await server.tools())

    async def main() -> int:
        policy = weft.Policy(allow=("net:localhost",), deny=("net:127.0.0.0/8", "net:[::1]"))
        async with weft.Runtime(workspace / "journal.db", policy=policy) as runtime:
            return await runtime.run(agent)

    with pytest.raises(Denied):
        asyncio.run(main())


class Wire:
    """An HTTP server that answers every request in one way, and keeps what it was asked."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.seen: list[dict[str, str]] = []
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                wire.seen.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_DELETE = do_POST

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/mcp"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, {"content-type": "text/plain"}, b"no"),
        (200, {"content-type": "application/json"}, b"{"),
        (200, {"content-type": "text/html"}, b"<html>"),
        (307, {"location": "http://127.0.0.1:1/elsewhere"}, b""),
        (200, {"content-type": "text/event-stream"}, b"data: nonsense\n\n"),
    ],
)
def test_a_web_server_that_is_no_mcp_server(status: int, headers: dict[str, str], body: bytes) -> None:
    wire = Wire(status, headers, body)
    try:
        with pytest.raises(weft.WeftError, match="plain"):
            asyncio.run(over_http(wire.url, timeout=3, start=3).tools())
    finally:
        wire.close()


def test_a_host_that_does_not_answer_is_said_so() -> None:
    with pytest.raises(ServerFailed, match="plain"):
        asyncio.run(over_http("http://127.0.0.1:9/mcp").tools())
    with pytest.raises(ServerFailed, match="has no address"):
        asyncio.run(over_http("http://no-such-host.invalid/mcp").tools())


def test_secrets_go_in_headers_and_are_not_shown(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
    monkeypatch.setenv("MCP_KEY", "the-key-of-the-server")
    error = {"code": -32001, "message": "bad key the-key-of-the-server"}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    wire = Wire(500, {"content-type": "application/json"}, body)
    try:
        headers = {"Authorization": ("Bearer ", weft.secret("MCP_KEY"))}
        with pytest.raises(weft.WeftError) as failed:
            asyncio.run(over_http(wire.url, headers=headers, timeout=3, start=3).tools())
        assert "the-key-of" not in str(failed.value)
        assert wire.seen and {seen["authorization"] for seen in wire.seen} == {"Bearer the-key-of-the-server"}
    finally:
        wire.close()


# --- published servers --------------------------------------------------------------------------------------------

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "weft-tests"
PUBLISHED = ("mcp-server-time", "mcp-server-git", "mcp-server-fetch")
OLDER = ("mcp-server-sqlite", "mcp<2")
"""Works with the SDK of its time only."""


def installed(place: Path, packages: tuple[str, ...]) -> Path:
    """The programs of these packages, in an environment of their own that outlives the tests."""
    done = place / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        words = [str(place / "bin" / "pip"), "install", "--quiet", *packages]
        made = subprocess.run(words, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"the published servers can't be had from the registry: {made.stderr[-200:]}")
        done.write_text(" ".join(packages))
    return place / "bin"


@pytest.fixture(scope="session")
def published() -> Path:
    return installed(CACHE / "mcp-servers", PUBLISHED)


@pytest.fixture(scope="session")
def older() -> Path:
    return installed(CACHE / "mcp-servers-1", OLDER)


def test_the_published_time_server(published: Path) -> None:
    async def main() -> None:
        server = Server("time", command=[str(published / "mcp-server-time"), "--local-timezone", "UTC"])
        tools = await server.tools()
        assert tools.names == ("convert_time", "get_current_time")
        told = await tools["convert_time"](source_timezone="UTC", time="12:00", target_timezone="Asia/Kolkata")
        assert "17:30" in told.text
        wrong = await tools.call(ToolCall(id="1", name="get_current_time", arguments={"timezone": "Mars/Olympus"}))
        assert wrong.error and "Mars" in wrong.text

    asyncio.run(main())


def test_the_published_git_server(published: Path, workspace: Path) -> None:
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "First"],
    ):
        subprocess.run(["git", *words], cwd=workspace, check=True)

    async def main() -> None:
        trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
        server = Server("git", command=[str(published / "mcp-server-git")], read=["./"], env=trusted)
        tools = await server.tools()
        assert {"git_log", "git_status", "git_commit"} <= set(tools.names)
        log = await tools["git_log"](repo_path=str(workspace))
        assert "First" in log.text
        with pytest.raises((ToolFailed, ServerFailed)):  # it only reads
            await tools["git_create_branch"](repo_path=str(workspace), branch_name="new")
        await server.close()

    asyncio.run(main())
    branches = subprocess.run(["git", "branch"], cwd=workspace, capture_output=True, text=True, check=True).stdout
    assert "new" not in branches


def test_the_published_fetch_server(published: Path) -> None:
    page = Wire(200, {"content-type": "text/html"}, b"<html><body><p>Bees dance.</p></body></html>")
    url = page.url.replace("/mcp", "/bees")

    async def main(network: bool) -> Any:
        command = [str(published / "mcp-server-fetch"), "--ignore-robots-txt", "--allow-private-ips"]
        tools = await Server("fetch", command=command, network=network).tools()
        return await tools.call(ToolCall(id="1", name="fetch", arguments={"url": url, "raw": True}))

    try:
        assert "Bees dance." in asyncio.run(main(network=True)).text
        assert asyncio.run(main(network=False)).error
    finally:
        page.close()


def test_the_published_sqlite_server(older: Path, workspace: Path) -> None:
    (workspace / "data").mkdir()

    async def main() -> None:
        path = workspace / "data" / "bees.db"
        command = [str(older / "mcp-server-sqlite"), "--db-path", str(path)]
        tools = await Server("sqlite", command=command, write=["data"]).tools()
        await tools["create_table"](query="CREATE TABLE bees (name TEXT)")
        await tools["write_query"](query="INSERT INTO bees VALUES ('Maja')")
        assert "Maja" in (await tools["read_query"](query="SELECT * FROM bees")).text
        assert path.exists()

    asyncio.run(main())


def test_the_published_filesystem_server(workspace: Path) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    place = CACHE / "node"
    script = place / "node_modules" / "@modelcontextprotocol" / "server-filesystem" / "dist" / "index.js"
    if not script.exists():
        words = [npm, "install", "--silent", "--prefix", str(place), "@modelcontextprotocol/server-filesystem"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the published server can't be had from the registry: {done.stderr[-200:]}")

    async def main() -> None:
        server = Server(
            "files", command=[node, str(script), str(workspace)], read=[str(place)], write=["./"], limits={"pids": 64}
        )
        tools = await server.tools()
        await tools["write_file"](path=str(workspace / "new.txt"), content="written")
        assert (workspace / "new.txt").read_text() == "written"
        outside = workspace.parent / "outside" / "secret.txt"
        refused = await tools.call(ToolCall(id="1", name="read_text_file", arguments={"path": str(outside)}))
        assert refused.error and "the secret" not in refused.text

    asyncio.run(main())
