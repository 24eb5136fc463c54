"""Edits and overwrites of files that were read: of nothing else, whoever else writes, dies or plays tricks."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from weft.core.errors import BadInput, Denied
from weft.tool import files
from weft.tool.files import Edit, NoMatch, NotRead, diff, opening, swapping
from weft.tool.files.diff import Span
from weft.tool.paging import Pass, digest_of

pytestmark = pytest.mark.usefixtures("workspace")

ALL = {"allow": ("file:./",)}
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # the code under test


@weft.workflow(name="edit.does")
async def does(*calls: tuple[str, tuple[Any, ...], dict[str, Any]]) -> list[Any]:
    """Each call in turn: its result, or what was raised. `seen="it"` is the digest that the last one told."""
    found: list[Any] = []
    digest = ""
    for name, args, kwargs in calls:
        try:
            if kwargs.get("seen") == "it":
                kwargs["seen"] = digest
            found.append(await getattr(files, name)(*args, **kwargs))
            digest = getattr(found[-1], "digest", digest)
        except Exception as error:
            found.append(error)
    return found


def call(name: str, *args: Any, **kwargs: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return name, args, kwargs


def run(workspace: Path, *calls: Any, **policy: Any) -> list[Any]:
    place = str(workspace.parent / "journal.db")
    found: list[Any] = drive(place, lambda runtime: runtime.run(does, *calls), policy=weft.Policy(**(policy or ALL)))
    return found


def after_read(workspace: Path, *calls: Any, **policy: Any) -> list[Any]:
    return run(workspace, call("read", "a.txt"), *calls, **policy)[1:]


def only(workspace: Path, *names: str) -> bool:
    """Nothing else lies in the workspace."""
    return sorted(path.name for path in workspace.iterdir()) == sorted(names)


# --- what they do ---------------------------------------------------------------------------------------------------


def test_what_was_read_is_edited_and_edited_again(workspace: Path) -> None:
    (workspace / "a.txt").write_text("one\ntwo\nthree\n")
    (workspace / "a.txt").chmod(0o640)
    done, again, page = after_read(
        workspace,
        call("edit", "a.txt", "two", "2", seen="it"),
        call("edit_all", "a.txt", [Edit("three", "3"), Edit("one", "1")], seen="it"),
        call("read", "a.txt"),
    )
    assert (workspace / "a.txt").read_text() == "1\n2\n3\n" == page.text
    assert done.diff == "--- a.txt\n+++ a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    assert (done.places, again.places, again.path) == (1, 2, str(workspace / "a.txt"))
    assert page.digest == again.digest == digest_of(b"1\n2\n3\n")
    assert (workspace / "a.txt").stat().st_mode & 0o777 == 0o640
    assert only(workspace, "a.txt")


def test_a_page_tells_lines_and_the_digest_of_the_whole(workspace: Path) -> None:
    text = "".join(f"line {n}\n" for n in range(1, 1001)) + "last\x1b[31m"
    (workspace / "a.txt").write_text(text)
    first, middle, end, none = run(
        workspace,
        call("read", "a.txt", 1, 2), call("read", "a.txt", 500, 1), call("read", "a.txt", 1000),
        call("read", "a.txt", 5000),
    )  # fmt: skip
    assert (first.text, first.start, first.end, first.lines) == ("line 1\nline 2\n", 1, 2, 1001)
    assert {page.digest for page in (first, middle, end, none)} == {digest_of(text.encode())}
    assert middle.text == "line 500\n"
    assert end.text == "line 1000\nlast\x1b[31m" and "last\n[" in end.shown and "\x1b" not in end.shown
    assert first.shown.splitlines()[1:] == [
        "2\tline 2",
        f"[lines 1 to 2, of 1001 lines, {len(text)} bytes; digest {first.digest}]",
    ]
    assert (none.text, none.end) == ("", 4999)


def test_a_file_is_begun_only_where_there_is_none_and_overwritten_only_when_read(workspace: Path) -> None:
    found = run(
        workspace,
        call("write", "new.txt", "one"),
        call("write", "new.txt", "two", seen="it"),
        call("write", "new.txt", "three"),
        call("write", "a.txt", "three"),
        call("write", "gone.txt", "x", seen="0" * 32),
        call("write", "absent/new.txt", "x"),
        call("write", "new.txt", b"x"),
        call("write", "new.txt", "\ud800", seen="it"),
        call("write", "new.txt", "two"),
    )
    assert (workspace / "new.txt").read_text() == "two"
    assert (workspace / "a.txt").read_text() == "of the workspace"
    assert [type(each) for each in found[2:]] == [
        NotRead, NotRead, NotRead, FileNotFoundError, BadInput, BadInput, files.Edited,
    ]  # fmt: skip
    assert "files.read" in str(found[2]) and str(workspace / "new.txt") in str(found[2])
    assert only(workspace, "a.txt", "new.txt")


# --- what they refuse -----------------------------------------------------------------------------------------------


def test_a_file_that_changed_since_it_was_read_is_left_alone(workspace: Path) -> None:
    @weft.step
    async def somebody_else() -> None:
        (workspace / "a.txt").write_text("of somebody else")

    @weft.workflow(name="edit.late")
    async def late() -> list[Any]:
        page = await files.read("a.txt")
        await somebody_else()
        found: list[Any] = []
        for change in (
            lambda: files.edit("a.txt", "of", "by", seen=page.digest),
            lambda: files.write("a.txt", "mine", seen=page.digest),
            lambda: files.edit("a.txt", "of", "by", seen=""),
        ):
            try:
                found.append(await change())
            except weft.WeftError as error:
                found.append(error)
        return found

    policy = weft.Policy(allow=("file:./", "step:**"))
    found = drive(str(workspace.parent / "journal.db"), lambda runtime: runtime.run(late), policy=policy)
    assert [type(each) for each in found] == [NotRead, NotRead, BadInput]
    assert "read it again" in str(found[0]) and "files.read" in str(found[2])
    assert (workspace / "a.txt").read_text() == "of somebody else"


def test_what_does_not_fit_is_said_in_words_and_changes_nothing(workspace: Path) -> None:
    text = "def f():\n    return 1\n\ndef g():\n    return 1\n"
    (workspace / "a.txt").write_text(text)
    found = after_read(
        workspace,
        call("edit", "a.txt", "return 1", "return 2", seen="it"),
        call("edit", "a.txt", "return 3", "return 2", seen="it"),
        call("edit", "a.txt", "def g():\n  return 1", "", seen="it"),
        call("edit", "a.txt", "return 1", "return 2", seen="it", count=3),
        call("edit", "a.txt", "def", "def", seen="it"),
        call("edit", "a.txt", "", "x", seen="it"),
        call("edit", "a.txt", "def", "x", seen="it", count=0),
        call("edit_all", "a.txt", [Edit("def f", "def h"), Edit("f():", "h():")], seen="it"),
        call("edit_all", "a.txt", [Edit("def g", "def h"), Edit("absent", "h():")], seen="it"),
        call("edit_all", "a.txt", [Edit("def f", "def "), Edit("():\n    return 1\n\n", "f():\n    return 1\n\n")],
             seen="it"),
        call("edit_all", "a.txt", [], seen="it"),
        call("edit_all", "a.txt", ["text"], seen="it"),
        call("edit", "a.txt", "def f", "\ud800", seen="it"),
        call("edit", "absent.txt", "x", "y", seen="it"),
        call("edit", ".", "x", "y", seen="it"),
    )  # fmt: skip
    assert [type(each) for each in found] == [
        NoMatch, NoMatch, NoMatch, NoMatch, BadInput, BadInput, BadInput, NoMatch, NoMatch, BadInput, BadInput,
        BadInput, BadInput, FileNotFoundError, IsADirectoryError,
    ]  # fmt: skip
    assert [each.found for each in found[:4]] == [2, 0, 0, 2]
    assert "2 times (line 2, 5), not 1" in str(found[0]) and "count=2" in str(found[0])
    assert "line 4 is like it but for spaces" in str(found[2])
    assert "overlap" in str(found[7]) and "changes nothing" in str(found[4]) and "change nothing" in str(found[9])
    assert (workspace / "a.txt").read_text() == text


def test_line_ends_are_kept_and_a_wrong_one_is_named(workspace: Path) -> None:
    (workspace / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    wrong, right = after_read(
        workspace,
        call("edit", "a.txt", "one\ntwo", "x", seen="it"), call("edit", "a.txt", "one\r\ntwo", "1\r\n2", seen="it"),
    )  # fmt: skip
    assert isinstance(wrong, NoMatch) and r"\r\n" in str(wrong)
    assert (workspace / "a.txt").read_bytes() == b"1\r\n2\r\n" and right.places == 1


def test_what_is_no_text_too_large_or_no_file_is_refused(workspace: Path) -> None:
    (workspace / "binary").write_bytes(b"\xff\xfe" * 100)
    with (workspace / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with (workspace / "large").open("wb") as file:
        file.truncate(11_000_000)
    os.mkfifo(workspace / "pipe")
    found = run(
        workspace,
        call("read", "binary"), call("read", "huge"), call("read", "pipe"), call("read", "a.txt", 0),
        call("edit", "binary", "x", "y", seen=digest_of(b"\xff\xfe" * 100)),
        call("edit", "large", "x", "y", seen="0"), call("edit", "pipe", "x", "y", seen="0"),
        call("write", "b.txt", "x" * 10_000_001), call("write", "pipe", "x"), call("write", "pipe", "x", seen="0"),
    )  # fmt: skip
    assert [type(each) for each in found[3:5]] == [BadInput, UnicodeDecodeError]
    assert type(found[0]) is UnicodeDecodeError and "files.read_bytes" in str(found[0])
    assert [found[n].errno for n in (1, 5, 7)] == [errno.EFBIG] * 3
    for n in (2, 6, 8, 9):
        assert isinstance(found[n], OSError) and "a pipe" in str(found[n])


def test_without_the_right_to_write_nothing_is_changed(workspace: Path) -> None:
    found = after_read(workspace, call("edit", "a.txt", "of", "by", seen="it"), call("write", "b.txt", "x"), base="all",
                       deny=("write:./",))  # fmt: skip
    assert all(isinstance(each, Denied) and each.action == "file.write" for each in found)
    (blind,) = run(workspace, call("edit", "../outside/secret.txt", "the", "a", seen=digest_of(b"the secret")), **ALL)
    assert isinstance(blind, Denied) and blind.action == "file.read"
    assert (workspace / "a.txt").read_text() == "of the workspace" and only(workspace, "a.txt")


@pytest.mark.parametrize("name", ["a\nb.txt", "-rf", "*", "{path}", "a\x1b[2Jb", "é\u202e.txt"])
def test_odd_names_are_names(workspace: Path, name: str) -> None:
    (workspace / name).write_text("before\n")
    page, done = run(workspace, call("read", name), call("edit", name, "before", "after", seen="it"))
    assert (workspace / name).read_text() == "after\n"
    assert page.text == "before\n" and len(done.diff.splitlines()) == 5 and "\x1b" not in done.diff


# --- others who write -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["exchange", "rename"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's exchange, and where there is none."""
    if request.param == "rename":
        monkeypatch.setattr(swapping, "_renameat2", lambda: None)
    elif swapping._renameat2() is None:
        pytest.skip("this system can't exchange two files in one act")
    return str(request.param)


def test_many_who_edit_one_file_lose_nothing(workspace: Path, way: str) -> None:
    """Each reads, edits, and reads again when it came too late, from threads of several operating-system threads."""
    path = workspace / "a.txt"
    path.write_text("0\n")

    async def adder(n: int) -> int:
        late = 0
        for turn in range(10):
            while True:
                page = files.read.fn(str(path))
                try:
                    await files.edit(str(path), page.text, f"{page.text}{n}.{turn}\n", seen=page.digest)
                    break
                except NotRead:
                    late += 1
        return late

    threads = [threading.Thread(target=lambda n=n: asyncio.run(adder(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_text().split()
    assert sorted(lines) == sorted(["0", *(f"{n}.{turn}" for n in range(4) for turn in range(10))])
    assert only(workspace, "a.txt")


def test_processes_that_share_a_file_lose_nothing(workspace: Path) -> None:
    """Children of one run, each of which reads again when it came too late."""

    @weft.workflow(name="edit.adds")
    async def adds(name: str) -> int:
        late = 0
        for turn in range(4):
            while True:
                page = await files.read("a.txt")
                try:
                    await files.edit("a.txt", "end\n", f"{name}{turn}\nend\n", seen=page.digest)
                    break
                except NotRead:
                    late += 1
        return late

    @weft.workflow(name="edit.shares")
    async def shares() -> list[int]:
        return list(await asyncio.gather(*(adds(name) for name in "abcd")))

    (workspace / "a.txt").write_text("end\n")
    drive(str(workspace.parent / "journal.db"), lambda runtime: runtime.run(shares), policy=weft.Policy(**ALL))
    lines = (workspace / "a.txt").read_text().split()
    assert sorted(lines) == sorted(["end", *(f"{name}{turn}" for name in "abcd" for turn in range(4))])
    assert only(workspace, "a.txt")


def between(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """Something happens when all was looked at, and the new file is about to get its name."""
    real = opening.New.named

    def named(self: opening.New) -> str:
        passing = real(self)
        happens()
        return passing

    monkeypatch.setattr(opening.New, "named", named)


@pytest.mark.parametrize("kind", ["in place", "renamed", "deleted", "link", "folder"])
def test_a_writer_who_asks_nobody_keeps_what_it_wrote(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    path, other = workspace / "a.txt", workspace.parent / "other"

    def write() -> None:
        if kind == "in place":
            path.write_text("theirs")
            return
        path.unlink()
        if kind == "renamed":
            other.write_text("theirs")
            other.rename(path)
        elif kind == "link":
            path.symlink_to("../outside/secret.txt")
        elif kind == "folder":
            path.mkdir()

    between(monkeypatch, write)
    with pytest.raises(NotRead):
        swapping.swap(str(path), digest_of(b"of the workspace"), b"ours")
    assert (workspace.parent / "outside" / "secret.txt").read_text() == "the secret"
    if kind in ("in place", "renamed"):
        assert path.read_text() == "theirs"
    assert path.is_symlink() == (kind == "link") and path.is_dir() == (kind == "folder")
    assert only(workspace, *([] if kind == "deleted" else ["a.txt"]))


def test_one_who_begins_the_same_file_first_keeps_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    between(monkeypatch, lambda: (workspace / "b.txt").write_text("theirs"))
    with pytest.raises(NotRead, match="meanwhile"):
        swapping.swap(str(workspace / "b.txt"), None, b"ours")
    assert (workspace / "b.txt").read_text() == "theirs" and only(workspace, "a.txt", "b.txt")


def test_a_third_who_writes_while_an_exchange_is_undone_keeps_it(workspace: Path) -> None:
    """Exchange, somebody renames a file onto ours, exchange back."""
    if swapping._renameat2() is None:
        pytest.skip("this system can't exchange two files in one act")
    (workspace / "passing").write_text("theirs, older")
    ours, folder = workspace / "a.txt", os.open(workspace, os.O_RDONLY)
    real = swapping._swapped

    def late(*args: Any) -> bool:
        swapping._swapped = real
        (workspace / "third").write_text("newest")
        (workspace / "third").rename(ours)
        return real(*args)

    swapping._swapped = late
    try:
        swapping._back(folder, "passing", "a.txt", str(ours))
    finally:
        swapping._swapped = real
        os.close(folder)
    assert ours.read_text() == "newest"


def test_a_folder_that_another_program_keeps_locked_is_an_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(swapping, "PATIENCE", 0.05)
    handle = os.open(workspace, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="locked") as caught:
            swapping.swap(str(workspace / "b.txt"), None, b"x")
    finally:
        os.close(handle)
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("part", ["folder", "file"])
@pytest.mark.parametrize("step", ["read", "plan_edit", "apply_edit", "write"])
def test_a_symlink_that_takes_the_place_of_a_part_is_refused(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, step: str, part: str
) -> None:
    outside = workspace.parent / "outside"
    (outside / "f.txt").write_text("harmless")
    (workspace / "sub").mkdir()
    (workspace / "sub" / "f.txt").write_text("harmless")
    primitive = getattr(files, step)
    real = primitive.fn

    def late(*args: Any, **kwargs: Any) -> Any:
        if part == "folder":
            (workspace / "sub").rename(workspace / "was")
            (workspace / "sub").symlink_to("../outside")
        else:
            (workspace / "sub" / "f.txt").unlink()
            (workspace / "sub" / "f.txt").symlink_to("../../outside/f.txt")
        return real(*args, **kwargs)

    late.__wrapped__ = real  # type: ignore[attr-defined]
    monkeypatch.setattr(primitive, "fn", late)
    seen = digest_of(b"harmless")
    calls = {
        "read": call("read", "sub/f.txt"),
        "write": call("write", "sub/f.txt", "stolen", seen=seen),
    }
    (found,) = run(workspace, calls.get(step, call("edit", "sub/f.txt", "harmless", "stolen", seen=seen)))
    assert isinstance(found, Denied) and "changed after it was allowed" in str(found)
    assert (outside / "f.txt").read_text() == "harmless"


# --- crashes, forks -------------------------------------------------------------------------------------------------

KILLED = """
import asyncio, os, sys
import weft
from weft.tool import files
from weft.tool.files import editing

place, when = sys.argv[1:]
if when != "again":
    real = editing.swap
    def swap(*args):
        if when == "before": os.kill(os.getpid(), 9)
        real(*args)
        os.kill(os.getpid(), 9)
    editing.swap = swap

@weft.workflow(name="edits")
async def edits(way):
    page = await files.read("a.txt")
    if way == "edit":
        done = await files.edit("a.txt", "x", "xx", seen=page.digest)
    else:
        done = await files.write("a.txt", "xx", seen=page.digest)
    done = await files.edit("a.txt", "xx", "xxx", seen=done.digest)
    return (await files.read("a.txt")).text

async def main():
    async with weft.Runtime(place, policy=weft.Policy(allow=("file:./",))) as runtime:
        run = (await runtime.resume_all())[0] if when == "again" else await runtime.start(edits, os.environ["WAY"])
        print(await run)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["edit", "write"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_in_the_middle_of_an_edit_it_is_made_once(workspace: Path, when: str, kind: str) -> None:
    program, place = workspace.parent / "edits.py", str(workspace.parent / "journal.db")
    program.write_text(KILLED)
    (workspace / "a.txt").write_text("x")

    def perform(when: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), place, when]
        return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | {"WAY": kind}, timeout=60)

    assert perform(when).returncode == -9
    assert (workspace / "a.txt").read_text() == ("x" if when == "before" else "xx")
    done = perform("again")
    assert done.stdout == "xxx\n", done.stderr
    assert only(workspace, "a.txt")


def test_a_fork_knows_what_was_read_and_not_what_was_done_since(workspace: Path) -> None:
    """It has read the file as it was; who it was forked from has changed it since."""

    async def use(runtime: weft.Runtime) -> Any:
        first = await runtime.start(does, call("read", "a.txt"), call("edit", "a.txt", "of", "by", seen="it"))
        await first
        fork = await runtime.fork(first.id, at=2)
        return await fork

    found = drive(str(workspace.parent / "journal.db"), use, policy=weft.Policy(**ALL))
    assert isinstance(found[1], NotRead)
    assert (workspace / "a.txt").read_text() == "by the workspace"


# --- for all texts --------------------------------------------------------------------------------------------------

LETTERS = st.text(st.sampled_from("ab\n\r\0é "), max_size=12)


def by_hand(text: str, told: str) -> str:
    """What `patch` would make of a unified diff."""
    lines = [part + "\n" for part in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    if not lines[-1]:
        lines.pop()
    out, at = [], 0
    rows = [row + "\n" for row in told.split("\n")[2:-1]]
    for n, row in enumerate(rows):
        if row.startswith("\\"):
            continue
        if n + 1 < len(rows) and rows[n + 1].startswith("\\"):
            row = row[:-1]
        if row.startswith("@@"):
            begin, count = row.split()[1][1:].split(",")
            first = int(begin) - (count != "0")
            out += lines[at:first]
            at = first
            continue
        if row[0] in " -":
            assert lines[at] == row[1:]
            at += 1
        if row[0] in " +":
            out.append(row[1:])
    return "".join(out + lines[at:])


@settings(max_examples=400, deadline=None)
@given(st.lists(LETTERS.filter(bool) | st.just("line\n" * 9), min_size=1, max_size=9), st.data())
def test_a_diff_says_what_was_replaced(pieces: list[str], data: st.DataObject) -> None:
    text, spans = "", []
    for piece in pieces:
        if data.draw(st.booleans()):
            spans.append(Span(len(text), len(text) + len(piece), data.draw(LETTERS)))
        text += piece
    if spans:
        told = diff.unified(text, spans, "a.txt")
        assert by_hand(text, told) == diff.applied(text, spans)


@settings(max_examples=300, deadline=None)
@given(LETTERS, LETTERS, LETTERS, st.integers(1, 3))
def test_an_edit_replaces_all_or_nothing(text: str, old: str, new: str, count: int) -> None:
    path = Path("h.txt")
    path.write_text(text, newline="")
    path.write_bytes(text.encode())
    seen = digest_of(text.encode())
    try:
        done = asyncio.run(files.edit(path, old, new, seen=seen, count=count))
    except BadInput:
        assert path.read_bytes() == text.encode()
        assert not old or old == new or text.count(old) != count or text.replace(old, new) == text
    else:
        assert path.read_bytes().decode() == text.replace(old, new)
        assert done.digest == digest_of(path.read_bytes()) != seen and text.count(old) == count == done.places


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60).map(lambda data: data.replace(b"\x07", b"\n")), st.integers(1, 6), st.integers(1, 6),
       st.integers(1, 40))  # fmt: skip
def test_a_page_is_the_lines_that_were_asked_for(data: bytes, start: int, lines: int, most: int) -> None:
    import io

    wanted = Pass(start, lines, most)
    page = wanted.over(io.BytesIO(data)).page("")
    every = [line + b"\n" for line in data.split(b"\n")]
    every[-1] = every[-1][:-1]
    every = every if every[-1] else every[:-1]
    asked = b"".join(every[start - 1 : start - 1 + lines])
    assert page.lines == len(every) and page.size == len(data) and page.digest == digest_of(data)
    kept = bytes(wanted.kept)
    assert asked.startswith(kept) and len(kept) <= most
    if len(asked) <= most:
        assert kept == asked and not page.partial
    if not page.partial:
        assert page.end - page.start + 1 == len(kept.split(b"\n")) - (kept.endswith(b"\n") or not kept)
