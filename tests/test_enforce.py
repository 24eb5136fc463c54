"""Watched steps as their libraries use the interpreter: what is allowed works, what is not is refused with its line."""

from __future__ import annotations

import asyncio
import importlib
import linecache
import multiprocessing
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.errors import Denied
from weft.core.record import Decision
from weft.runtime import acts

pytestmark = pytest.mark.usefixtures("workspace")


work: dict[str, Callable[[], Any]] = {}
"""What the steps below do, by name."""


go = weft.Mailbox("enforce.go", str)


@weft.step
def act(name: str) -> Any:
    return work[name]()


@weft.step
async def act_async(name: str) -> Any:
    return await work[name]()


@weft.workflow(name="enforce.does")
async def does(name: str, later: bool) -> Any:
    return await (act_async if later else act)(name)


def does_this(workspace: Path, what: Callable[[], Any], **policy: Any) -> tuple[Any, list[tuple[str, str, str]]]:
    """What came of it (or what was raised), and what was decided in its middle."""
    work["it"] = what
    later = asyncio.iscoroutinefunction(what)

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, "it", later)
        try:
            result: Any = await run
        except Exception as error:
            result = error
        return result, await runtime.recovery.records(run.id)

    result, records = drive(str(workspace.parent / "journal.db"), use, policy=weft.Policy(**policy))
    return result, [(r.action, r.resource, r.verdict) for r in records if isinstance(r, Decision)]


def lines(error: BaseException) -> list[str]:
    """What a refusal says to allow, wherever it says so."""
    assert isinstance(error, BaseException), error
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert "allow it with: " in text, text
    words = shlex.split(text.partition("allow it with: ")[2].splitlines()[0].rstrip(")>]"))
    return [word for flag, word in pairwise(words) if flag == "--allow"]


def works_with_its_lines(workspace: Path, what: Callable[[], Any], expected: list[str] | None = None) -> Any:
    """It is refused; the lines of its refusals, one after the other, are what makes it work."""
    allow: list[str] = []
    for _ in range(8):
        found, _ = does_this(workspace, what, allow=tuple(allow))
        if not isinstance(found, BaseException):
            if expected is not None:
                assert allow == expected
            return found
        allow += lines(found)
    raise AssertionError(f"it never works: {found!r} with {allow}")


# --- files ----------------------------------------------------------------------------------------------------------


def tree(workspace: Path) -> Path:
    (workspace / "out" / "deep").mkdir(parents=True)
    for name in ("out/x", "out/deep/a.txt"):
        (workspace / name).write_text("x")
    return workspace / "out"


def test_a_tree_is_removed_below_open_folders(workspace: Path) -> None:
    out = tree(workspace)
    assert shutil.rmtree.avoids_symlink_attacks, "shutil works on open folders, though os.open is wrapped"
    found, _ = does_this(workspace, lambda: shutil.rmtree("out"))
    assert isinstance(found, Denied) and out.exists() and lines(found) == ["delete:./out/x"]
    found, decided = does_this(workspace, lambda: shutil.rmtree("out"), allow=("delete:./out",))
    assert found is None and not out.exists() and (workspace / "a.txt").exists()
    assert ("file.delete", str(out / "deep" / "a.txt"), "allow") in decided


def test_a_path_from_an_open_folder_is_that_folders(workspace: Path) -> None:
    def steal() -> str:
        handle = os.open("../outside", os.O_PATH | os.O_DIRECTORY)
        try:
            with os.fdopen(os.open("secret.txt", os.O_RDONLY, dir_fd=handle)) as file:
                return file.read()
        finally:
            os.close(handle)

    (workspace / "secret.txt").write_text("harmless")
    found, decided = does_this(workspace, steal)
    assert isinstance(found, Denied)
    assert decided == [("file.read", str(workspace.parent / "outside" / "secret.txt"), "deny")]
    again, _ = does_this(workspace, lambda: os.fdopen(os.open("/proc/self/cwd/../outside/secret.txt", 0)).read())
    assert isinstance(again, Denied)


def test_a_handle_that_reads_nothing_opens_no_way_around(workspace: Path) -> None:
    def steal() -> str:
        handle = os.open("../outside/secret.txt", os.O_PATH)
        return Path(f"/proc/self/fd/{handle}").read_text()

    assert isinstance(does_this(workspace, steal)[0], Denied)


def test_a_symlink_that_is_removed_or_renamed_is_itself(workspace: Path) -> None:
    (workspace / "keep").write_text("x")
    (workspace / "out").mkdir()
    (workspace / "out" / "link").symlink_to("../keep")
    (workspace / "into").symlink_to("out/link")
    found, _ = does_this(workspace, lambda: os.remove("into"), allow=("delete:./out",))  # noqa: PTH107
    assert isinstance(found, Denied) and found.resource == str(workspace / "into")
    found, _ = does_this(workspace, lambda: os.remove("out/link"), allow=("delete:./out",))  # noqa: PTH107
    assert found is None and (workspace / "keep").exists()
    found, _ = does_this(workspace, lambda: os.rename("into", "x"), allow=("delete:./out", "write:./"))  # noqa: PTH104
    assert isinstance(found, Denied)


def test_what_is_moved_or_linked_must_be_readable(workspace: Path) -> None:
    (workspace / ".env").write_text("KEY=1")
    allow, deny = ("file:./",), ("read:./.env",)
    for move in (lambda: Path(".env").rename("x"), lambda: os.link(".env", "x"), lambda: shutil.move(".env", "x")):
        found, _ = does_this(workspace, move, allow=allow, deny=deny)
        assert isinstance(found, Denied) and not (workspace / "x").exists()


def test_a_folder_that_is_there_is_made_again(workspace: Path) -> None:
    (workspace / "here").mkdir()
    assert does_this(workspace, lambda: Path("here").mkdir(exist_ok=True)) == (None, [])
    assert does_this(workspace, lambda: os.makedirs("here", exist_ok=True)) == (None, [])  # noqa: PTH103
    assert isinstance(does_this(workspace, lambda: Path("there").mkdir())[0], Denied)


def test_a_database_is_a_file(workspace: Path) -> None:
    def use() -> list[Any]:
        with sqlite3.connect("x.db") as database:
            database.execute("create table if not exists t (x)")
            return database.execute("select * from t").fetchall()

    assert works_with_its_lines(workspace, use, ["write:./x.db"]) == []
    assert does_this(workspace, lambda: sqlite3.connect(":memory:").execute("select 1").fetchall()) == ([(1,)], [])
    found, _ = does_this(workspace, lambda: sqlite3.connect("file:x.db?mode=ro", uri=True).close())
    assert found is None
    (workspace.parent / "outside" / "y.db").touch()
    found, _ = does_this(workspace, lambda: sqlite3.connect("file:../outside/y.db?mode=ro", uri=True))
    assert isinstance(found, Denied) and found.action == "file.read"
    found, _ = does_this(workspace, lambda: sqlite3.connect("../outside/y.db"))
    assert lines(found) == [f"read,write:{workspace.parent}/outside/y.db"], "all of it in one line"


def test_temporary_files_are_allowed_by_their_folder(workspace: Path, tmp_path: Path) -> None:
    def use() -> str:
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w+", dir=folder) as file:
            file.write("x")
            Path(folder, "more").write_text("y")
            return folder

    before = tempfile.tempdir
    try:
        tempfile.tempdir = None  # as in a new interpreter
        folder = works_with_its_lines(workspace, use)
        found, _ = does_this(workspace, tempfile.mkstemp)
        assert lines(found) == [f"file:{tempfile.gettempdir()}"]
        assert tempfile.gettempdir() != str(workspace), "that a step may not write there is no reason to go elsewhere"
    finally:
        tempfile.tempdir = before
    assert not Path(folder).exists()


# --- what the interpreter needs -------------------------------------------------------------------------------------


def test_what_the_interpreter_needs_is_nobodys_business(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub" / "mine_to_import.py").write_text("import colorsys, wave\nX = 1\ndef f():\n    return 1 / 0\n")

    def use() -> Any:
        import locale
        import mimetypes
        import ssl
        import traceback
        import zoneinfo

        sys.path.insert(0, str(workspace / "sub"))
        try:
            module = importlib.import_module("mine_to_import")
        finally:
            sys.path.remove(str(workspace / "sub"))
        try:
            module.f()
        except ZeroDivisionError:
            text = traceback.format_exc()
        zone = zoneinfo.ZoneInfo("Europe/Berlin").key
        mimetypes.init()
        ssl.create_default_context()
        locale.getlocale()
        subprocess.list2cmdline(["x"])
        os.urandom(1)
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            nowhere.write("x")
        importlib.metadata.version("msgspec")
        return module.X, zone, "return 1 / 0" in text

    import importlib.metadata

    found, decided = does_this(workspace, use, base="program")
    assert found == (1, "Europe/Berlin", True)
    assert decided == []
    assert (workspace / "sub" / "__pycache__").exists() or sys.dont_write_bytecode


def test_the_import_system_is_no_way_around(workspace: Path) -> None:
    secret = str(workspace.parent / "outside" / "secret.txt")
    (workspace / "reads_secret.py").write_text(f"text = open({secret!r}).read()\n")

    def imports() -> Any:
        sys.path.insert(0, str(workspace))
        try:
            return importlib.import_module("reads_secret").text
        finally:
            sys.path.remove(str(workspace))

    from importlib.machinery import SourceFileLoader

    assert isinstance(does_this(workspace, imports)[0], Denied)
    assert isinstance(does_this(workspace, lambda: SourceFileLoader("x", secret).get_data(secret))[0], Denied)
    assert does_this(workspace, lambda: linecache.getline(secret, 1))[0] == ""
    fake = compile(f"open({secret!r}).read()", "<frozen importlib._bootstrap_external>", "eval")
    assert isinstance(does_this(workspace, lambda: eval(fake))[0], Denied)


def test_what_a_library_swallows_is_told_when_the_step_fails(workspace: Path) -> None:
    def swallows() -> None:
        try:
            Path("out.txt").write_text("x")
        except OSError:
            raise RuntimeError("no place to write") from None

    found, decided = does_this(workspace, swallows)
    assert isinstance(found, RuntimeError) and lines(found) == ["write:./out.txt"]
    assert decided == [("file.write", str(workspace / "out.txt"), "deny")]


# --- threads --------------------------------------------------------------------------------------------------------


def test_threads_are_watched_as_the_step_that_starts_them(workspace: Path) -> None:
    def in_thread() -> list[str]:
        found: list[str] = []

        class Reader(threading.Thread):
            def run(self) -> None:
                for path in ("a.txt", "../outside/secret.txt"):
                    try:
                        found.append(Path(path).read_text())
                    except Denied as error:
                        found.append(error.action)

        for thread in (Reader(), threading.Thread(target=Reader().run)):
            thread.start()
            thread.join()
        return found

    def in_pool() -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return [*pool.map(lambda path: Path(path).read_text(), ("a.txt", "../outside/secret.txt"))]

    async def beside() -> str:
        return await asyncio.to_thread(Path("../outside/secret.txt").read_text)

    assert does_this(workspace, in_thread)[0] == ["of the workspace", "file.read"] * 2
    assert isinstance(does_this(workspace, in_pool)[0], Denied)
    assert isinstance(does_this(workspace, beside)[0], Denied)


def test_a_pool_that_a_step_has_filled_works_for_others_as_before(workspace: Path) -> None:
    secret = workspace.parent / "outside" / "secret.txt"
    with ThreadPoolExecutor(1) as pool:
        assert does_this(workspace, lambda: pool.submit(Path("a.txt").read_text).result())[0] == "of the workspace"
        assert pool.submit(secret.read_text).result() == "the secret"


def test_after_a_step_its_loop_is_as_free_as_before(workspace: Path) -> None:
    """The runtime goes on in the context that a step leaves behind; its own work is watched by nobody."""

    @weft.step(retries=weft.Retry(attempts=3, delay=0.0), queue=weft.Queue("one", concurrency=1))
    async def fails(number: int) -> None:
        raise ValueError(number)

    @weft.workflow(name="enforce.many")
    async def many() -> int:
        return len(await asyncio.gather(*(fails(number) for number in range(20)), return_exceptions=True))

    place = str(workspace.parent / "journal.db")
    assert drive(place, lambda runtime: runtime.run(many), policy=weft.Policy()) == 20


# --- programs -------------------------------------------------------------------------------------------------------


def test_a_program_is_the_one_that_will_run(workspace: Path) -> None:
    for folder in ("sub", "bin"):
        (workspace / folder).mkdir()
        (workspace / folder / "git").write_text("#!/bin/sh\necho trapped\n")
        (workspace / folder / "git").chmod(0o755)
    environment = {"PATH": f"{workspace}/bin:/bin"}

    def run(*argv: str, **options: Any) -> Callable[[], str]:
        return lambda: subprocess.run(argv, capture_output=True, text=True, check=True, **options).stdout

    allow = ("shell:git **", "shell:./git")
    assert "version" in does_this(workspace, run("git", "--version"), allow=allow)[0]
    assert isinstance(does_this(workspace, run("./git", cwd="sub"), allow=allow)[0], Denied)
    assert isinstance(does_this(workspace, run("git", env=environment), allow=allow)[0], Denied)
    assert isinstance(does_this(workspace, run("git", executable="bin/git"), allow=allow)[0], Denied)
    assert works_with_its_lines(workspace, run("./git", cwd="sub"), ["shell:" + str(workspace / "sub" / "git")])
    assert isinstance(does_this(workspace, lambda: os.system("true"), allow=allow)[0], Denied)


def test_commands_of_asyncio_are_watched(workspace: Path) -> None:
    async def runs() -> bytes:
        process = await asyncio.create_subprocess_exec("echo", "hi", stdout=subprocess.PIPE)
        return (await process.communicate())[0]

    assert works_with_its_lines(workspace, runs, ["shell:echo hi"]) == b"hi\n"


def test_signals_go_to_itself_and_its_children(workspace: Path) -> None:
    def own() -> int:
        child = subprocess.Popen(["sleep", "60"])
        child.kill()
        os.kill(os.getpid(), 0)
        return child.wait()

    assert does_this(workspace, own, allow=("shell:sleep *",))[0] == -9
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        stranger = int(other.stdout.readline())
        found, _ = does_this(workspace, lambda: os.kill(stranger, 15))
        assert isinstance(found, Denied) and lines(found) == [f"shell:kill -15 -- {stranger}"]
        assert does_this(workspace, lambda: os.kill(stranger, 15), allow=("shell:kill **",))[0] is None
        other.kill()


def test_who_loses_a_right_is_watched_from_then_on(workspace: Path) -> None:
    work["it"] = Path("../outside/secret.txt").read_text

    @weft.workflow(name="enforce.loses")
    async def loses() -> list[Any]:
        found: list[Any] = [await act("it")]
        await go.receive()
        try:
            found.append(await act("it"))
        except Denied as error:
            found.append(error.action)
        return found

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(loses)
        image = await runtime.rights.image((await runtime.row(run.id)).image)
        number = next(n for n, one in enumerate(image.capabilities) if "file.read" in one.actions)
        await asyncio.sleep(0.2)
        await runtime.rights.revoke(run.id, number, "me")
        await runtime.send(run.id, "enforce.go", "on")
        return await run

    policy = weft.Policy(base="all", allow=("step:**",))
    found = drive(str(workspace.parent / "journal.db"), use, policy=policy)
    assert found == ["the secret", "file.read"]


def in_child(queue: Any) -> None:
    try:
        queue.put(Path("../outside/secret.txt").read_text())
    except Denied as error:
        queue.put(error.action)


def test_forked_children_are_watched_and_new_interpreters_need_to_be_allowed(workspace: Path) -> None:
    def forked() -> Any:
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=in_child, args=(queue,))
        process.start()
        found = queue.get()
        process.join()
        return found

    def spawned() -> int | None:
        process = multiprocessing.get_context("spawn").Process(target=len, args=("",))
        process.start()
        process.join()
        return process.exitcode

    assert does_this(workspace, forked)[0] == "file.read"
    found, _ = does_this(workspace, spawned)
    assert isinstance(found, Denied) and lines(found) == [f"shell:{sys.executable} **"]


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names under `.example` lead here, as far as the C library goes."""
    from weft.runtime import enforce

    enforce.prepare()
    wrapped: Any = socket.getaddrinfo
    real = wrapped.__weft__

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.endswith(".example"):
            sys.audit("socket.getaddrinfo", host, port, 0, 0, 0)
            host = "127.0.0.1"
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", enforce._marked(enforce._getaddrinfo, resolve))
    acts.names.clear()


def plain(host: str, port: int) -> Callable[[], Any]:
    def use() -> bytes:
        with socket.create_connection((host, port), timeout=5) as line:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: line.recv(100), b""))[-5:]

    return use


def by_urllib(host: str, port: int) -> Callable[[], Any]:
    return lambda: urllib.request.urlopen(f"http://{host}:{port}/", timeout=5).read()


def by_asyncio(host: str, port: int) -> Callable[[], Any]:
    async def use() -> bytes:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        try:
            return (await reader.read())[-5:]
        finally:
            writer.close()

    return use


def by_httpx(host: str, port: int) -> Callable[[], Any]:
    async def use() -> bytes:
        httpx2 = pytest.importorskip("httpx2")
        async with httpx2.AsyncClient() as client:
            body: bytes = (await client.get(f"http://{host}:{port}/")).content
            return body

    return use


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize("library", [plain, by_urllib, by_asyncio, by_httpx])
def test_a_host_by_name_needs_one_line(workspace: Path, port: int, library: Any) -> None:
    assert works_with_its_lines(workspace, library("a.example", port), [f"net:a.example:{port}"]) == b"hello"
    acts.names.clear()
    found, _ = does_this(workspace, library("b.example", port), allow=("net:a.example",))
    assert isinstance(found, Exception) and lines(found) == [f"net:b.example:{port}"]
    found, _ = does_this(workspace, library("a.example", port), allow=("net:a.example",), deny=("net:10.0.0.0/8",))
    assert found == b"hello"
    found, _ = does_this(workspace, library("a.example", port), allow=("net:a.example",), deny=("net:127.0.0.0/8",))
    assert isinstance(found, Exception) and "denies it" in "".join([str(found), *getattr(found, "__notes__", [])])


@pytest.mark.usefixtures("hosts")
def test_a_look_up_without_a_port_is_one_for_a_host_that_is_allowed(workspace: Path) -> None:
    def look_up(host: str) -> Callable[[], Any]:
        return lambda: socket.getaddrinfo(host, None)[0][4][0]

    assert does_this(workspace, look_up("a.example"), allow=("net:a.example:8080",))[0] == "127.0.0.1"
    found, _ = does_this(workspace, look_up("stolen-data.example"), allow=("net:a.example:8080",))
    assert isinstance(found, Denied)
    assert does_this(workspace, socket.getfqdn)[1] == [], "its own name is no secret"


def test_what_the_c_library_takes_for_an_address_is_decided_on_as_one(workspace: Path, port: int) -> None:
    def use() -> None:
        with socket.socket() as line:
            line.connect(("127.1", port))

    assert does_this(workspace, use, allow=("net:*",))[0] is None
    assert isinstance(does_this(workspace, use, allow=("net:*",), deny=("net:127.0.0.0/8",))[0], Denied)


def test_names_that_were_looked_up_are_kept_within_bounds() -> None:
    before = dict(acts.names)
    try:
        for number in range(acts.MOST_NAMES + 10):
            acts.remember("x.example", [(0, 0, 0, "", (f"10.0.{number // 256}.{number % 256}", 0))])
            acts.remember("kept.example", [(0, 0, 0, "", ("10.255.0.1", 0))])
        assert len(acts.names) == acts.MOST_NAMES
        assert acts.names["10.255.0.1"] == {"kept.example"}
    finally:
        acts.names.clear()
        acts.names.update(before)


def test_a_socket_of_this_machine_is_a_file(workspace: Path) -> None:
    def connect(address: str) -> Callable[[], None]:
        def use() -> None:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(address)

        return use

    with socket.socket(socket.AF_UNIX) as here, socket.socket(socket.AF_UNIX) as nowhere:
        here.bind("here.sock")
        here.listen()
        nowhere.bind("\0weft-test-socket")
        nowhere.listen()
        assert works_with_its_lines(workspace, connect("here.sock"), ["write:./here.sock"]) is None
        found, _ = does_this(workspace, connect("\0weft-test-socket"))
        assert isinstance(found, Denied) and found.resource == "/@weft-test-socket"
        assert does_this(workspace, connect("\0weft-test-socket"), allow=("write:/@weft-test-socket",))[0] is None


def test_to_listen_needs_the_address(workspace: Path) -> None:
    def listen() -> None:
        socket.create_server(("", 0)).close()

    assert works_with_its_lines(workspace, listen, ["net:0.0.0.0:0"]) is None
    left, right = socket.socketpair()
    with left, right:
        assert does_this(workspace, lambda: left.send(b"x"))[0] == 1
