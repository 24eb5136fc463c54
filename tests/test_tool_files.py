"""Files by primitives: what is authorised is what is opened, in one piece, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.errors import BadInput, Denied
from weft.core.record import Decision, Reserved
from weft.core.step import Primitive, Step
from weft.tool import files
from weft.tool.files import opening

pytestmark = pytest.mark.usefixtures("workspace")


@weft.workflow(name="files.does")
async def does(*calls: tuple[Any, ...]) -> list[Any]:
    """Each call in turn: its result, or what was raised."""
    found: list[Any] = []
    for name, *args in calls:
        try:
            found.append(await getattr(files, name)(*args))
        except Exception as error:
            found.append(error)
    return found


def run(workspace: Path, /, *calls: tuple[Any, ...], **policy: Any) -> list[Any]:
    place = str(workspace.parent / "journal.db")
    found: list[Any] = drive(place, lambda runtime: runtime.run(does, *calls), policy=weft.Policy(**policy))
    return found


def one(workspace: Path, /, *call: Any, **policy: Any) -> Any:
    return run(workspace, call, **policy)[0]


ALL = {"allow": ("file:./",)}
"""Read, write, delete: all of the workspace."""


# --- what they do ---------------------------------------------------------------------------------------------------


def test_files_are_written_read_listed_found_moved_and_deleted(workspace: Path) -> None:
    path = str(workspace / "out" / "deep" / "b.md")
    found = run(
        workspace,
        ("make_folder", "out/deep"),
        ("write_text", "out/deep/b.md", "one\r\ntwo é"),
        ("append_text", Path("out/deep/b.md"), "!"),
        ("read_text", "out/deep/b.md"),
        ("read_bytes", path),
        ("copy", "out/deep/b.md", "out/c.md"),
        ("move", "out/c.md", "out/d.md"),
        ("exists", "out/c.md"),
        ("find", "**/*.md"),
        ("find", "*.md", "out"),
        ("list", "out"),
        ("stat", "a.txt"),
        ("delete", "out/d.md"),
        ("delete", "out/d.md"),
        ("delete", "out"),
        ("stat", "out/d.md"),
        **ALL,
    )
    assert found[:4] == [str(workspace / "out" / "deep"), path, path, "one\r\ntwo é!"]
    assert found[4] == "one\r\ntwo é!".encode()
    assert found[7:10] == [False, ["out/d.md", "out/deep/b.md"], ["d.md"]]
    assert [(item.name, item.kind) for item in found[10]] == [("d.md", "file"), ("deep", "folder")]
    assert (found[11].name, found[11].kind, found[11].size) == ("a.txt", "file", 16)
    assert found[12:14] == [None, None]
    assert isinstance(found[14], OSError) and "not empty" in str(found[14])
    assert found[15] is None


def test_without_a_process_they_work_on_the_current_folder(workspace: Path) -> None:
    asyncio.run(files.write_text("b.txt", "x"))
    assert asyncio.run(files.read_text("b.txt")) == "x"
    assert asyncio.run(files.read_text(workspace.parent / "outside" / "secret.txt")) == "the secret"


def test_a_relative_path_means_the_workspace_and_not_the_current_folder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.parent / "outside")
    found = run(workspace, ("read_text", "a.txt"), ("read_text", "secret.txt"), workspace=str(workspace))
    assert found[0] == "of the workspace"
    assert isinstance(found[1], FileNotFoundError)


def test_errors_say_what_is_wrong(workspace: Path) -> None:
    (workspace / "binary").write_bytes(b"fine\xff\xfe")
    (workspace / "folder").mkdir()
    (workspace / "large").write_bytes(b"x" * 20_000)
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    found = run(
        workspace,
        ("read_text", "absent"), ("read_text", "folder"), ("read_text", "binary"), ("read_text", "a.txt", ),
        ("read_text", "pipe"), ("read_text", "socket"), ("write_text", "folder", "x"), ("write_text", "pipe", "x"),
        ("write_text", "absent/b.txt", "x"), ("list", "a.txt"), ("make_folder", "a.txt"), ("append_text", "pipe", "x"),
        ("write_text", "a.txt/b", "x"), ("write_text", "x.txt", b"bytes"), ("read_text", "n" * 300),
        **ALL,
    )  # fmt: skip
    kinds = [type(each) for each in found]
    assert kinds[:3] == [FileNotFoundError, IsADirectoryError, UnicodeDecodeError]
    assert "files.read_bytes" in str(found[2]) and "byte 4" in str(found[2])
    for each in (found[4], found[5], found[7], found[11]):
        assert isinstance(each, OSError) and "a pipe, a socket or a device" in str(each)
    assert kinds[6] is IsADirectoryError
    assert kinds[8] is FileNotFoundError and str(workspace / "absent") in str(found[8])
    assert kinds[9] is NotADirectoryError
    assert kinds[10] is FileExistsError
    assert kinds[12] is NotADirectoryError
    assert kinds[13] is BadInput and "write_bytes" in str(found[13])
    assert kinds[14] is BadInput
    assert (workspace / "a.txt").read_text() == "of the workspace"


def test_a_file_that_is_too_large_is_not_read(workspace: Path) -> None:
    with (workspace / "huge").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    began = time.process_time()
    error = one(workspace, "read_bytes", "huge")
    assert isinstance(error, OSError) and error.errno == errno.EFBIG and "limit=10000000" in str(error)
    assert time.process_time() - began < 5


def test_a_device_is_neither_read_nor_replaced(workspace: Path) -> None:
    found = run(workspace, ("read_text", "/dev/zero"), ("write_text", "/dev/null", "x"), allow=("file:/dev",))
    assert all(isinstance(each, OSError) and "device" in str(each) for each in found)
    assert Path("/dev/null").is_char_device()


# --- what they must not do ------------------------------------------------------------------------------------------


def test_by_default_the_workspace_is_read_and_nothing_else(workspace: Path) -> None:
    (workspace / "out").symlink_to("../outside")
    found = run(
        workspace,
        ("read_text", "a.txt"), ("read_text", "../outside/secret.txt"), ("read_text", "out/secret.txt"),
        ("list", "out"), ("write_text", "b.txt", "x"), ("append_text", "a.txt", "x"), ("delete", "a.txt"),
        ("move", "a.txt", "b.txt"), ("copy", "a.txt", "b.txt"), ("make_folder", "new"), ("read_text", "/etc/passwd"),
    )  # fmt: skip
    assert found[0] == "of the workspace"
    assert all(isinstance(each, Denied) for each in found[1:])
    assert [each.action for each in found[1:]] == [
        "file.read", "file.read", "file.read", "file.write", "file.write", "file.delete", "file.delete", "file.write",
        "file.write", "file.read",
    ]  # fmt: skip
    assert [path.name for path in workspace.iterdir()] == ["a.txt", "out"] or len(list(workspace.iterdir())) == 2
    assert (workspace / "a.txt").read_text() == "of the workspace"


def test_one_line_allows_all_that_a_call_needs(workspace: Path) -> None:
    error = one(workspace, "move", "a.txt", "../outside/b.txt", base="program")
    specs = shlex.split(error.fix)[4::2]
    assert one(workspace, "move", "a.txt", "../outside/b.txt", base="program", allow=tuple(specs)) == str(
        workspace.parent / "outside" / "b.txt"
    )


@pytest.mark.parametrize(
    "spelling",
    [".env", "./.env", "x/../.env", "link", "LINK/../.env", "//.env", "folder/link", "/proc/self/cwd/.env"],
)
def test_what_is_denied_is_denied_in_every_spelling(workspace: Path, spelling: str) -> None:
    (workspace / ".env").write_text("KEY=1")
    (workspace / "x").mkdir()
    (workspace / "LINK").mkdir()
    (workspace / "folder").mkdir()
    (workspace / "link").symlink_to(".env")
    (workspace / "folder" / "link").symlink_to("../link")
    path = f"{workspace}/{spelling}" if spelling.startswith("//") else spelling
    error = one(workspace, "read_text", path, deny=("read:./.env",), allow=("read:/",))
    assert isinstance(error, Denied) and error.resource == str(workspace / ".env")


@pytest.mark.parametrize(
    "name", ["secret\u00e9", "SECRET\u00c9", "secrete\u0301", "ｓｅｃｒｅｔé", "sec\u200bret\u00e9"]
)
def test_a_deny_sees_through_case_and_unicode(workspace: Path, name: str) -> None:
    (workspace / name).write_text("x")
    assert isinstance(one(workspace, "read_text", name, deny=("read:./secret\u00e9",)), Denied)


def test_a_name_with_a_star_is_a_name(workspace: Path) -> None:
    (workspace / "*").write_text("star")
    (workspace / "{path}").write_text("braces")
    found = run(workspace, ("read_text", "*"), ("read_text", "{path}"), ("read_text", "a.txt"), base="program",
                allow=("read:./[*]", "read:./{path}"))  # fmt: skip
    assert found[:2] == ["star", "braces"] and isinstance(found[2], Denied)


def test_find_leaves_out_what_may_not_be_read_and_follows_no_symlink(workspace: Path) -> None:
    for name in ("open/x.md", "closed/y.md", "open/deeper/z.md"):
        (workspace / name).parent.mkdir(exist_ok=True, parents=True)
        (workspace / name).write_text("x")
    (workspace / "open" / "out").symlink_to("../../outside")
    assert one(workspace, "find", "**/*.md", deny=("read:./closed",)) == ["open/deeper/z.md", "open/x.md"]
    assert one(workspace, "find", "**/*.txt") == ["a.txt"]
    error = one(workspace, "find", "**/*", ".")
    assert error == ["a.txt", "closed/y.md", "open/deeper/z.md", "open/out", "open/x.md"]


# --- races ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Something happens when all is decided and nothing is open yet."""

    def set(happens: Callable[[], Any]) -> None:
        for name in ("read_text", "write_text", "append_text", "delete", "move", "copy", "list_folder", "make_folder"):
            step = getattr(files, {"list_folder": "list"}.get(name, name))
            monkeypatch.setattr(step, "fn", _after(happens, step.fn))

    yield set


def _after(happens: Callable[[], Any], fn: Any) -> Any:
    import functools

    @functools.wraps(fn)
    def late(*args: Any, **kwargs: Any) -> Any:
        happens()
        return fn(*args, **kwargs)

    return late


@pytest.mark.parametrize("part", ["folder", "file"])
@pytest.mark.parametrize(
    "call",
    [
        ("read_text", "sub/f.txt"), ("write_text", "sub/f.txt", "stolen"), ("append_text", "sub/f.txt", "stolen"),
        ("delete", "sub/f.txt"), ("move", "sub/f.txt", "got.txt"), ("copy", "sub/f.txt", "got.txt"),
        ("move", "a.txt", "sub/f.txt"), ("copy", "a.txt", "sub/f.txt"), ("list", "sub"), ("make_folder", "sub/new"),
    ],
)  # fmt: skip
def test_a_symlink_that_takes_the_place_of_a_part_is_refused(
    workspace: Path, between: Callable[[Callable[[], Any]], None], call: tuple[str, ...], part: str
) -> None:
    """The window between decision and act, at its widest."""
    outside = workspace.parent / "outside"
    (outside / "f.txt").write_text("private")
    (workspace / "sub").mkdir()
    (workspace / "sub" / "f.txt").write_text("harmless")

    def swap() -> None:
        if part == "folder":
            (workspace / "sub").rename(workspace / "was")
            (workspace / "sub").symlink_to("../outside")
        else:
            (workspace / "sub" / "f.txt").unlink()
            (workspace / "sub" / "f.txt").symlink_to("../../outside/f.txt")

    between(swap)
    found = one(workspace, *call, **ALL)
    assert (outside / "f.txt").read_text() == "private"
    assert sorted(path.name for path in outside.iterdir()) == ["f.txt", "secret.txt"]
    got = workspace / "got.txt"
    assert not got.exists() or got.read_text() != "private"
    if part == "folder" or call[0] in ("read_text", "write_text", "append_text", "copy"):
        assert isinstance(found, Denied) and "changed after it was allowed" in str(found)


def test_races_won_and_lost_at_random_never_leak(workspace: Path) -> None:
    """A thief swaps a folder for a symlink as fast as it can; what is read is never what lies outside."""
    outside = workspace.parent / "outside"
    (outside / "f.txt").write_text("private")
    (workspace / "sub").mkdir()
    (workspace / "sub" / "f.txt").write_text("harmless")
    (workspace / "trap").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            try:
                for name, other in (("sub", "aside"), ("trap", "sub"), ("sub", "trap"), ("aside", "sub")):
                    Path(name).rename(other)
            except OSError:
                continue

    thief = threading.Thread(target=swap)
    thief.start()
    try:
        calls = [("read_text", "sub/f.txt"), ("write_text", "sub/f.txt", "harmless"), ("list", "sub")] * 150
        found = run(workspace, *calls, **ALL)
    finally:
        stop.set()
        thief.join()
    assert (outside / "f.txt").read_text() == "private"
    assert "private" not in found
    assert "harmless" in found
    for each in found:
        if isinstance(each, list):
            assert [item.name for item in each if item.name == "secret.txt"] == []


def test_hard_links_keep_what_they_had(workspace: Path) -> None:
    outside = workspace.parent / "outside" / "linked.txt"
    outside.write_text("before")
    for name in ("w", "p", "m", "c"):
        os.link(outside, workspace / name)
    run(
        workspace, ("write_text", "w", "x"), ("append_text", "p", "x"), ("copy", "a.txt", "c"), ("move", "a.txt", "m"),
        **ALL,
    )  # fmt: skip
    assert outside.read_text() == "before"
    assert [(workspace / name).read_text() for name in "wpcm"] == ["x", "beforex", *["of the workspace"] * 2]


def test_a_symlink_inside_is_followed_when_written_and_itself_when_deleted(workspace: Path) -> None:
    (workspace / "link").symlink_to("a.txt")
    (workspace / "out").symlink_to("../outside/secret.txt")
    found = run(workspace, ("write_text", "link", "new"), ("delete", "link"), ("delete", "out"), ("move", "out", "b"),
                **ALL)  # fmt: skip
    assert found[:3] == [str(workspace / "a.txt"), None, None]
    assert (workspace / "a.txt").read_text() == "new"
    assert (workspace.parent / "outside" / "secret.txt").exists()
    assert sorted(path.name for path in workspace.iterdir()) == ["a.txt"]


def test_permissions_stay_and_the_umask_counts(workspace: Path) -> None:
    (workspace / "a.txt").chmod(0o640)
    before = os.umask(0o027)
    try:
        run(workspace, ("write_text", "a.txt", "x"), ("write_text", "new", "x"), **ALL)
    finally:
        os.umask(before)
    assert [(workspace / name).stat().st_mode & 0o777 for name in ("a.txt", "new")] == [0o640, 0o640]


@pytest.mark.parametrize("kind", ["named", "unnamed for ever"])
def test_on_other_file_systems_files_are_replaced_all_the_same(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def no_link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, "not here")

    if kind == "named":
        monkeypatch.setattr(opening, "_UNNAMED", 0)
    else:
        monkeypatch.setattr(os, "link", no_link)

    def fails(file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    opening.replace(str(workspace / "b.txt"), lambda file: file.write(b"whole"))
    with pytest.raises(OSError, match="the disk is full"):
        opening.replace(str(workspace / "b.txt"), fails)
    assert (workspace / "b.txt").read_text() == "whole"
    assert len(list(workspace.iterdir())) == 2


# --- in the journal -------------------------------------------------------------------------------------------------


def test_decisions_stand_in_the_journal(workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ("read_text", "a.txt"), ("write_text", "b.txt", "x"), ("make_folder", "n/m"))
        await run
        return await runtime.recovery.records(run.id)

    records = drive(str(workspace.parent / "journal.db"), use, policy=weft.Policy(allow=("write:./n",)))
    seen = [(r.action, Path(r.resource).name, r.verdict) for r in records if isinstance(r, Decision)]
    assert seen == [
        ("file.read", "a.txt", "allow"), ("file.write", "b.txt", "deny"), ("file.write", "m", "allow"),
        ("file.write", "n", "allow"),
    ]  # fmt: skip


def test_a_step_may_call_them_and_is_decided_about_as_itself(workspace: Path) -> None:
    @weft.step
    async def by_itself(path: str) -> str:
        await files.write_text(path, "by a step")
        return await files.read_text(path)

    @weft.workflow(name="files.within")
    async def within() -> list[Any]:
        found: list[Any] = []
        for path in ("b.txt", "../outside/b.txt"):
            try:
                found.append(await by_itself(path))
            except Denied as error:
                found.append(error.fix)
        return found

    policy = weft.Policy(allow=("write:./b.txt",))
    found = drive(str(workspace.parent / "journal.db"), lambda runtime: runtime.run(within), policy=policy)
    assert found == ["by a step", "allow it with: --allow write:" + str(workspace.parent / "outside" / "b.txt")]


def test_a_primitive_can_neither_be_sent_away_nor_be_told_to_need_less() -> None:
    with pytest.raises(BadInput, match="on this machine"):
        files.read_text.options(executor="ray")
    with pytest.raises(BadInput, match="no option"):
        files.read_text.options(needs=())


def test_arguments_that_do_not_fit_are_an_error_of_the_call(workspace: Path) -> None:
    @weft.workflow(name="files.unfit")
    async def unfit() -> list[str]:
        found = []
        for kwargs in ({}, {"path": "a.txt", "wrong": 1}, {"path": "a\0b"}):
            try:
                await files.read_text(**kwargs)  # type: ignore[call-arg,arg-type]
            except (TypeError, BadInput) as error:
                found.append(type(error).__name__)
        return found

    place = str(workspace.parent / "journal.db")
    assert drive(place, lambda runtime: runtime.run(unfit)) == ["TypeError", "TypeError", "BadInput"]


def test_all_primitives_say_what_they_need() -> None:
    from weft.model import generate
    from weft.tool import git, http, shell

    found = [each for module in (files, git, http, shell) for each in vars(module).values() if isinstance(each, Step)]
    assert len(found) >= 17
    assert all(isinstance(each, Primitive) and each.needs for each in [*found, generate])


# --- crashes --------------------------------------------------------------------------------------------------------

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the code under test
KILLED = """
import asyncio, os, sys
import weft
from weft.tool import files

@weft.workflow(name="killed")
async def killed(n: int) -> list[str]:
    found = []
    for number in range(n):
        try:
            await files.write_text("out.txt", str(number) * 200_000)
            await files.append_text("log.txt", f"{number}\\n")
            found.append("ok")
        except weft.WeftError as error:
            found.append(type(error).__name__)
    return found

async def main(place):
    async with weft.Runtime(place, policy=weft.Policy(allow=("write:./out.txt uses=3", "write:./log.txt uses=3"))) as runtime:
        runs = await runtime.resume_all()
        run = runs[0] if runs else await runtime.start(killed.options(key="once"), 5)  # it may have ended in time
        await runtime.journal.barrier()
        print("begun", flush=True)
        print(await run, flush=True)

asyncio.run(main(sys.argv[1]))
"""  # noqa: E501


@pytest.mark.parametrize("delay", [0.0, 0.004, 0.012, 0.03])
def test_killed_in_the_middle_no_use_is_doubled_and_no_file_is_half(workspace: Path, delay: float) -> None:
    program, place = workspace.parent / "killed.py", str(workspace.parent / "journal.db")
    program.write_text(KILLED)

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, str(program), place]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)

    first = start()
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    time.sleep(delay)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = start()
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0, said
    outcomes = eval(said.splitlines()[-1])
    log = (workspace / "log.txt").read_text() if (workspace / "log.txt").exists() else ""
    assert len(outcomes) == 5
    # at most once: a line that may be there already is not written again, and its use counts as taken
    assert len(log.splitlines()) == len(set(log.splitlines())) <= 3
    assert outcomes.count("ok") + outcomes.count("UnknownOutcome") <= 3
    text = (workspace / "out.txt").read_text()
    assert len(text) == 200_000 and len(set(text)) == 1
    assert {path.name for path in workspace.iterdir()} <= {"a.txt", "out.txt", "log.txt"}


def perform(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *words]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def test_a_move_that_was_done_before_a_crash_counts_as_done(workspace: Path) -> None:
    """kill -9 after the file has moved and before anybody wrote that down."""
    program, place = workspace.parent / "moved.py", str(workspace.parent / "journal.db")
    program.write_text(
        """
import asyncio, os, sys
import weft
from weft.tool import files
from weft.tool.files import opening

if sys.argv[2] == "start":
    real = opening.move
    opening.move = lambda *args: (real(*args), os.kill(os.getpid(), 9))

@weft.workflow(name="moves")
async def moves():
    await files.move("a.txt", "b.txt")
    try:
        return await files.move("c.txt", "b.txt")
    except FileNotFoundError:
        return "there is no c.txt"

async def main():
    async with weft.Runtime(sys.argv[1], policy=weft.Policy(allow=("file:./",))) as runtime:
        run = await runtime.start(moves) if sys.argv[2] == "start" else (await runtime.resume_all())[0]
        print(await run)

asyncio.run(main())
"""
    )
    first = perform(program, place, "start")
    assert first.returncode == -9, first.stderr
    second = perform(program, place, "again")
    assert second.stdout == "there is no c.txt\n", second.stderr
    assert (workspace / "b.txt").read_text() == "of the workspace"


def test_a_right_to_one_use_is_taken_once(workspace: Path) -> None:
    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, ("write_text", "b.txt", "1"), ("write_text", "b.txt", "2"))
        return await run, await runtime.recovery.records(run.id)

    policy = weft.Policy(allow=("write:./b.txt uses=1",))
    found, records = drive(str(workspace.parent / "journal.db"), use, policy=policy)
    assert found[0] == str(workspace / "b.txt") and isinstance(found[1], Denied)
    assert (workspace / "b.txt").read_text() == "1"
    assert [bool(record.uses) for record in records if isinstance(record, Reserved)] == [True]


def test_a_reader_of_a_file_that_is_replaced_all_the_time_gets_the_old_or_the_new(workspace: Path) -> None:
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            opening.replace(str(workspace / "a.txt"), lambda file: file.write(b"of the workspace"))

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        assert {files.read_text.fn("a.txt") for _ in range(2000)} == {"of the workspace"}
    finally:
        stop.set()
        writer.join()
