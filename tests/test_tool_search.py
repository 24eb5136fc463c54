"""Search: what lines match, in which files of those that may be read, and no more time or text than was asked for."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from weft.core.errors import BadInput, Denied
from weft.tool import files, matching
from weft.tool.files import searching
from weft.tool.matching import Found, Look, searched

pytestmark = pytest.mark.usefixtures("workspace")


@weft.workflow(name="search.does")
async def does(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return await files.search(*args, **kwargs)
    except Exception as error:
        return error


def run(workspace: Path, args: tuple[Any, ...], kwargs: dict[str, Any], **policy: Any) -> Any:
    place = str(workspace.parent / "journal.db")
    return drive(place, lambda runtime: runtime.run(does, args, kwargs), policy=weft.Policy(**policy))


def look(*args: Any, **kwargs: Any) -> Found:
    return files.search.fn(*args, **kwargs)


def lay(workspace: Path, tree: dict[str, str | bytes]) -> None:
    for name, content in tree.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def places(found: Found) -> list[str]:
    return [f"{one.path}:{one.line}" for one in found.matches]


TREE: dict[str, str | bytes] = {
    "src/b.py": "import os\n\ndef total(x):\n    return x\n",
    "src/a.py": "total = 1\r\nTOTAL = 2\r\n",
    "src/deep/er/c.py": "x = total(1)",
    "src/a.txt": "a total loss\n",
    "build/out.py": "total\n",
    ".hidden/x.py": "total\n",
    "src/.env": "total\n",
    ".gitignore": "build/\n*.log\n!keep.log\n",
    "src/run.log": "total\n",
    "src/keep.log": "total\n",
    "src/binary": b"total\0",
}


# --- what it finds --------------------------------------------------------------------------------------------------


def test_it_finds_lines_in_the_order_of_paths(workspace: Path) -> None:
    lay(workspace, TREE)
    found = run(workspace, (r"\btotal\b",), {})
    assert places(found) == [
        "src/a.py:1", "src/a.txt:1", "src/b.py:3", "src/deep/er/c.py:1", "src/keep.log:1",
    ]  # fmt: skip
    assert (found.files, found.left_out, found.stopped) == (6, {"binary": 1}, None)
    assert found.matches[3].column == 5 and found.matches[0].text == "total = 1"
    assert "src/b.py\n3: def total(x):\n" in found.shown and "1 binary" in found.shown


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"glob": "*.py"}, ["src/a.py:1", "src/b.py:3", "src/deep/er/c.py:1"]),
        ({"glob": ["*.py", "!b.*"]}, ["src/a.py:1", "src/deep/er/c.py:1"]),
        ({"glob": "/src/*.py"}, ["src/a.py:1", "src/b.py:3"]),
        ({"glob": "deep/"}, ["src/deep/er/c.py:1"]),
        ({"glob": "!src/deep"}, ["src/a.py:1", "src/a.txt:1", "src/b.py:3", "src/keep.log:1"]),
        ({"folder": "src/deep"}, ["er/c.py:1"]),
        ({"folder": "src/a.txt"}, ["a.txt:1"]),
        ({"folder": "build"}, ["out.py:1"]),
        ({"glob": "*.py", "case": False}, ["src/a.py:1", "src/a.py:2", "src/b.py:3", "src/deep/er/c.py:1"]),
        ({"literal": True, "pattern": "total("}, ["src/b.py:3", "src/deep/er/c.py:1"]),
        ({"literal": True, "pattern": "TOTAL(", "case": False}, ["src/b.py:3", "src/deep/er/c.py:1"]),
        ({"glob": "*.log", "everything": True}, ["src/keep.log:1", "src/run.log:1"]),
        ({"glob": "*x.py", "everything": True}, [".hidden/x.py:1"]),
        ({"limit": 2}, ["src/a.py:1", "src/a.txt:1"]),
        ({"pattern": "^$"}, ["src/b.py:2"]),
        ({"pattern": "é|x$", "glob": "b.py"}, ["src/b.py:4"]),
    ],
)
def test_it_looks_where_and_for_what_it_is_told(workspace: Path, kwargs: dict[str, Any], expected: list[str]) -> None:
    lay(workspace, TREE)
    found = look(**{"pattern": "total", **kwargs})
    assert places(found) == expected
    assert found.stopped == ("matches" if kwargs.get("limit") else None)


def test_rules_above_the_folder_count_up_to_the_workspace(workspace: Path) -> None:
    lay(workspace, {**TREE, "src/deep/.gitignore": "/er\n"})
    (workspace.parent / ".gitignore").write_text("*\n")
    assert places(look("total", "src", glob="*.log")) == ["keep.log:1"]
    assert places(look("total", "src/deep")) == []


@pytest.mark.parametrize("piece", [8, 64, 1 << 22])
def test_context_is_what_stands_around_whatever_the_pieces(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(matching, "_PIECE", piece)
    lines = [f"line {n}" for n in range(1, 41)]
    lay(workspace, {"n.txt": "\n".join(lines), "m.txt": "line 40\n"})
    found = look(r"line (1|20|39|40)$", glob="?.txt", context=2)
    assert places(found) == ["m.txt:1", "n.txt:1", "n.txt:20", "n.txt:39", "n.txt:40"]
    for one in found.matches[1:]:
        assert one.before == lines[max(0, one.line - 3) : one.line - 1]
        assert one.after == lines[one.line : one.line + 2]
    assert "18- line 18\n19- line 19\n20: line 20\n21- line 21" in found.shown


def test_a_long_line_is_told_around_its_match(workspace: Path) -> None:
    lay(workspace, {"min.js": "a" * 100_000 + "needle" + "b" * 100_000, "e.txt": "red \x1b[31mneedle\x1b]0;title\x07"})
    first, second = look("needle").matches
    assert second.path == "min.js" and second.column == 100_001 and "needle" in second.text and len(second.text) < 600
    assert first.text == "red \x1b[31mneedle\x1b]0;title\x07"
    assert "1: red needle\n" in look("needle").shown and "\x1b" not in look("needle").shown


# --- what it may not ------------------------------------------------------------------------------------------------


def test_it_looks_only_where_the_process_may_read(workspace: Path) -> None:
    lay(workspace, {**TREE, "secret/x.py": "total\n", "src/key.py": "total\n"})
    (workspace / "link").symlink_to("../outside")
    (workspace / "link.txt").symlink_to("../outside/secret.txt")
    found = run(workspace, ("total|secret",), {}, deny=("read:./secret", "read:./src/key.py"))
    assert found.left_out == {"binary": 1, "denied": 2} and len(found.matches) == 5
    assert all("secret" not in one.text for one in found.matches)
    assert isinstance(run(workspace, ("secret", "../outside"), {}), Denied)
    assert isinstance(run(workspace, ("total",), {}, base="program"), Denied)
    rules = run(workspace, ("total",), {"glob": "*.log"}, deny=("read:./.gitignore",))
    assert places(rules) == ["src/keep.log:1", "src/run.log:1"]  # rules that it may not read tell it nothing


def test_its_own_journal_is_not_searched(workspace: Path) -> None:
    place = workspace / "j.db"
    found = drive(
        str(place), lambda runtime: runtime.run(does, ("SQLite format",), {"everything": True}),
        policy=weft.Policy(),
    )  # fmt: skip
    assert found.matches == [] and found.left_out["denied"] >= 1


def test_a_symlink_that_takes_the_place_of_a_part_is_not_followed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(workspace, {"sub/f.txt": "harmless\n", "sub/g.txt": "harmless\n", "z/f.txt": "harmless\n"})
    real, outside = os.scandir, workspace.parent / "outside"
    (outside / "f.txt").write_text("private\n")

    def late(handle: Any) -> Any:
        found = [*real(handle)]
        names = {item.name for item in found}
        if "z" in names:
            (workspace / "z").rename(workspace / "was")
            (workspace / "z").symlink_to("../outside")
        if "g.txt" in names:
            (workspace / "sub" / "f.txt").unlink()
            (workspace / "sub" / "f.txt").symlink_to("../../outside/f.txt")
        return _Closing(iter(found))

    monkeypatch.setattr(searching.os, "scandir", late)
    found = look("harmless|private|secret")
    assert places(found) == ["sub/g.txt:1"] and found.left_out == {"unreadable": 2}


class _Closing:
    def __init__(self, items: Iterator[Any]) -> None:
        self.items = items

    def __enter__(self) -> Iterator[Any]:
        return self.items

    def __exit__(self, *_: object) -> None:
        pass


def test_odd_files_and_names_are_passed_over(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    with (workspace / "huge").open("wb") as file:
        file.truncate(1 << 40)
    (workspace / os.fsdecode(b"\xff.txt")).write_text("needle\n")
    lay(workspace, {"-e.txt": "needle\n", "a\nb.txt": "needle\n", "\x1b[2J.txt": "needle\n", "latin.txt": b"n\xe9edle"})
    deep = workspace
    for _ in range(100):
        deep /= "d"
        deep.mkdir()
    (deep / "f.txt").write_text("needle\n")
    found = run(workspace, ("needle",), {})
    assert [one.path for one in found.matches] == ["\x1b[2J.txt", "-e.txt", "a\nb.txt"]
    assert found.left_out == {"too large": 1, "too deep": 1, "unreadable": 1}
    assert "\x1b" not in found.shown and "a?b.txt" in found.shown


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*a){30}$"])
def test_a_catastrophic_expression_ends_with_its_time(workspace: Path, pattern: str) -> None:
    lay(workspace, {"a.py": "aaa\n", "b.py": "a" * 60 + "b\n"})
    began = time.monotonic()
    found = look(pattern, seconds=0.7)
    assert found.stopped == "seconds" and "seconds" in found.shown
    assert time.monotonic() - began < 40, "it would take for ever"


def test_a_step_that_searches_lets_others_run(workspace: Path) -> None:
    """A primitive that takes long, called by an async step, does not hold up the loop that all steps share."""
    lay(workspace, {"b.py": "a" * 60 + "b\n"})

    beats, over = [0], asyncio.Event()

    @weft.step(needs=("read:{folder}",))
    async def looks(folder: str) -> tuple[str | None, int]:
        before = beats[0]
        found = await files.search(r"(a+)+$", folder, seconds=1)
        over.set()
        return found.stopped, beats[0] - before

    @weft.step
    async def ticks() -> None:
        while not over.is_set():
            await asyncio.sleep(0.05)
            beats[0] += 1

    @weft.workflow(name="search.beside")
    async def beside() -> Any:
        return (await asyncio.gather(looks("."), ticks()))[0]

    place = str(workspace.parent / "journal.db")
    found = drive(place, lambda runtime: runtime.run(beside), policy=weft.Policy())
    assert found[0] == "seconds" and found[1] >= 4, "in a second others had twenty turns"


def test_time_is_over_while_nothing_is_found_too(workspace: Path) -> None:
    lay(workspace, {f"{n}/x": "" for n in range(300)})
    assert look("x", glob="*.none", seconds=0.01).stopped == "seconds"


def test_what_is_told_has_a_limit_of_bytes(workspace: Path) -> None:
    lay(workspace, {"a.txt": "\n".join("x" * 490 for _ in range(2000))})
    found = look("x", limit=2000, context=3)
    assert found.stopped == "bytes"
    assert sum(len(one.text) + sum(map(len, one.before + one.after)) for one in found.matches) <= matching.BYTES
    assert len(look("x", limit=2000).matches) == 408


def test_exactly_as_many_as_the_limit_is_complete(workspace: Path) -> None:
    lay(workspace, {"a.txt": "x\nx\n", "b.txt": "x\n"})
    assert look("x", limit=3, glob="?.txt").stopped is None
    assert look("x", limit=2, glob="?.txt").stopped == "matches"


def test_nothing_is_left_when_its_weft_is_killed(workspace: Path) -> None:
    """The process that matches ends though nobody is left to end it, and though it never comes back."""
    lay(workspace, {"b.py": "a" * 60 + "b\n"})
    code = "from weft.tool import files; print('go', flush=True); files.search.fn('(a+)+$', seconds=1)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    weft = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert weft.stdout is not None and weft.stdout.readline() == b"go\n"
    worker = 0
    while not worker:
        children = Path(f"/proc/{weft.pid}/task/{weft.pid}/children").read_text().split()
        worker = int(children[0]) if children else 0
    weft.send_signal(signal.SIGKILL)
    weft.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break  # nobody here waits for it
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        (("(",), {}, "no regular expression"),
        (("*",), {}, "literal"),
        (("a{99999999999}",), {}, "no regular expression"),
        (("(" * 5000 + ")" * 5000,), {}, "no regular expression"),
        (("",), {}, "give a regular expression"),
        ((5,), {}, "give a regular expression"),
        (("x" * 10_001,), {}, "at most"),
        (("a\nb",), {}, "one by one"),
        (("x",), {"limit": 0}, "limit=0"),
        (("x",), {"context": -1}, "context=-1"),
        (("x",), {"seconds": float("nan")}, "seconds=nan"),
        (("x",), {"seconds": "1"}, "seconds='1'"),
        (("x",), {"glob": ""}, "glob=''"),
        (("x",), {"glob": ["*.py", 5]}, "glob=5"),
        (("x",), {"glob": "[z-a]"}, "glob="),
        (("x",), {"glob": "#x"}, "glob="),
    ],
)
def test_what_can_not_be_meant_is_refused(
    workspace: Path, args: tuple[Any, ...], kwargs: dict[str, Any], why: str
) -> None:
    error = run(workspace, args, kwargs)
    assert isinstance(error, BadInput) and why in str(error)


def test_a_folder_that_is_none_is_an_error(workspace: Path) -> None:
    assert isinstance(run(workspace, ("x", "absent"), {}), FileNotFoundError)
    os.mkfifo(workspace / "pipe")
    assert "a pipe" in str(run(workspace, ("x", "pipe"), {}))


# --- against others -------------------------------------------------------------------------------------------------

NAME = st.text(st.sampled_from("ab.*"), min_size=1, max_size=3).filter(lambda name: set(name) != {"."} and name != "a.")
PART = st.text(st.sampled_from("ab.*?[]!-\\ "), min_size=1, max_size=4) | st.sampled_from(["**", "*", "a", "b", "a*"])
RULE = st.builds(
    lambda no, begin, parts, end: no + begin + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]), st.sampled_from(["", "/"]), st.lists(PART, min_size=1, max_size=3),
    st.sampled_from(["", "/", " ", "\\ "]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.lists(NAME, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8),
    st.lists(RULE, min_size=1, max_size=4), st.lists(RULE, max_size=2),
)  # fmt: skip
def test_it_leaves_out_what_git_leaves_out(
    tmp_path_factory: pytest.TempPathFactory, paths: set[tuple[str, ...]], top: list[str], below: list[str]
) -> None:
    if any(_differs(rule) for rule in (*top, *below)):
        return
    root = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for parts in sorted(paths):
        place = root.joinpath(*parts)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("needle\n")
        except OSError:
            continue  # a file where a folder would be
    (root / ".gitignore").write_text("\n".join(top))
    if below and (root / "a").is_dir():
        (root / "a" / ".gitignore").write_text("\n".join(below))
    listed = subprocess.run(
        ["git", "-C", str(root), "-c", "core.excludesFile=/dev/null", "ls-files", "-oz", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    expected = {path for path in listed.split("\0") if path and not re.search(r"(?:\A|/)\.", path)}
    assert {one.path for one in look("needle", root).matches} == expected


def _differs(rule: str) -> bool:
    """Where our globs are not git's on purpose: broken brackets, and backslashes before what needs none."""
    return bool(re.search(r"\\(?![*? ])|\[(?![^\]/!-]+\])", rule))


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab\n\ré\u2028"), max_size=40), st.sampled_from(["a", "b$", "^a", "é", "a?b", "a.*b"]))
def test_it_finds_what_a_simple_loop_finds(tmp_path_factory: pytest.TempPathFactory, text: str, pattern: str) -> None:
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_bytes(text.encode())
    lines = text.split("\n")
    expected = [n for n, line in enumerate(lines, 1) if re.search(pattern, line.removesuffix("\r"))]
    with path.open("rb") as file:
        assert [one.line for one in searched(Look(pattern), iter([("t", file)])).matches] == expected
