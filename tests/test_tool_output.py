"""Long outputs: what is shown, what is kept, and that no output takes the memory or the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from tests.programs import drive
from weft.core.errors import BadInput
from weft.runtime.sandbox import Output
from weft.runtime.sandbox.scratch import home
from weft.tool import output
from weft.tool.output import Collector, Excerpt, OutputGone

NAME = re.compile("[0-9a-f]{32}")


@pytest.fixture(autouse=True)
def kept(workspace: Path) -> Path:
    """Where outputs are kept for this test."""
    return workspace.parent / "outputs"


def collected(data: bytes, limit: int = 1000, piece: int = 7919, **options: Any) -> Excerpt:
    collector = Collector(limit, **options)
    for at in range(0, len(data), piece):
        collector.add(data[at : at + piece])
    return collector.done()


LINES = "".join(f"line {n}\n" for n in range(1, 10_001))


# --- what is shown, and what is kept --------------------------------------------------------------------------------


def test_a_short_output_is_shown_whole_and_kept_nowhere(kept: Path) -> None:
    told = collected(b"a\x1b[31mred\x1b[0m\r\n" + "é".encode())
    assert told == Excerpt("a\x1b[31mred\x1b[0m\r\né", size=17)
    assert told.shown == "ared\r\né"
    assert not kept.exists()


def test_of_a_long_one_both_ends_are_shown_and_the_whole_is_read_and_searched(kept: Path) -> None:
    told = collected(LINES.encode())
    assert told.head.startswith("line 1\n") and told.tail.endswith("line 10000\n") and len(told.text) < 1200
    assert told.ref is not None and (kept / told.ref).read_text() == LINES
    found = re.search(
        r"\n\[\.\.\. ([\d,]+) bytes, lines (\d+) to ([\d,]+) of 10,000, left out; output\.read", told.shown
    )
    assert found is not None
    first, last = int(found[2]), int(found[3].replace(",", ""))
    assert told.head.endswith(f"line {first - 1}\n") and told.tail.startswith(f"line {last + 1}\n")
    assert int(found[1].replace(",", "")) == told.left_out == len(LINES) - len(told.head) - len(told.tail)
    page = output.read.fn(told.ref, first, 3)
    assert page.text == f"line {first}\nline {first + 1}\nline {first + 2}\n" and page.lines == 10_000
    hits = output.search.fn(told.ref, r"line 50\d0$", context=1)
    assert [one.line for one in hits.matches] == list(range(5000, 5091, 10))
    assert hits.matches[0].before == ["line 4999"]


def test_escapes_are_kept_and_not_shown(kept: Path) -> None:
    noise = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m\x08\x9b5n progress 1%\rprogress 2%\n"
    told = collected(noise.encode() * 1000)
    page = output.read.fn(told.ref or "", 1, 2)
    assert page.text == noise * 2
    for shown in (told.shown, page.shown, output.search.fn(told.ref or "", "red").shown):
        assert "owned" not in shown and "red progress 1%\nprogress 2%" in shown
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert (kept / (told.ref or "")).read_bytes().decode() == noise * 1000


def test_a_tool_of_ones_own_keeps_what_it_says_at_length(workspace: Path, kept: Path) -> None:
    """And a crash, a replay or a fork reads it again by its ref."""

    @weft.step(needs=())
    async def report() -> Excerpt:
        return await output.keep(LINES, limit=500)

    @weft.workflow(name="output.reads")
    async def reads() -> list[Any]:
        told = await report()
        assert told.ref is not None
        page = await output.read(told.ref, 9_999)
        found = await output.search(told.ref, "line 77$", literal=False)
        return [told.shown, page.text, [one.line for one in found.matches]]

    async def use(runtime: weft.Runtime) -> Any:
        first = await runtime.start(reads)
        return await first, await (await runtime.fork(first.id, at=2))

    place = str(workspace.parent / "journal.db")
    found, again = drive(place, use, policy=weft.Policy(base="program"))
    assert found == again
    assert len(found[0]) < 700 and found[1:] == ["line 9999\nline 10000\n", [77]]


def test_a_step_under_narrow_rights_keeps_its_output_and_reads_no_other_file(workspace: Path, kept: Path) -> None:
    spool = home() / "out" / "spool"
    spool.write_bytes(b"xxxx")

    @weft.step
    async def collects() -> list[Excerpt]:
        (given_up := Collector(10)).add(b"x" * 100)
        given_up.drop()
        cut = Output(data=b"xx", size=4, truncated=True, cut=(1, 3), whole=workspace / "a.txt")
        with pytest.raises(BadInput, match="no output of a sandbox"):
            output.adopt(cut)
        return [collected(LINES.encode()), output.adopt(replace(cut, whole=spool), limit=2)]

    @weft.workflow(name="output.narrow")
    async def narrow() -> list[Excerpt]:
        return await collects()

    place = str(workspace.parent / "journal.db")
    found = drive(place, lambda runtime: runtime.run(narrow), policy=weft.Policy(base="program"))
    spool.unlink()
    assert {one.ref for one in found} == {path.name for path in kept.iterdir()} and len(found) == 2


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_no_secret_is_kept_nor_half_of_one_shown(kept: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setenv("OUTPUT_TEST_TOKEN", "s3cret-of-the-test-é")
    weft.secret("output-token", "OUTPUT_TEST_TOKEN")
    line = "s3cret-of-the-test-é again s3cret-of-the-test-és3cret-of-the-test-é\n"
    told = collected(line.encode() * 200, piece=piece)
    assert told.ref is not None
    text = (kept / told.ref).read_text()
    assert text == line.replace("s3cret-of-the-test-é", "[secret:output-token]") * 200
    for cut in range(300):  # wherever the ends are cut
        head, tail = "x" * cut + "s3cret-of-the-test-é", "y" * 2000 + "s3cret-of-the-test-é" + "z" * cut
        told = collected((head + tail).encode(), limit=400, piece=1 << 20)
        for half in ("s3cret-of-the-test-é", "s3cret-of", "-test-é"):
            shown = told.text.replace("s3cret-of-the-test-é", "")
            assert half not in shown


def test_the_same_output_is_kept_once_and_by_this_user_alone(kept: Path) -> None:
    first, second = collected(LINES.encode()), collected(LINES.encode(), limit=500, piece=100)
    assert first.ref == second.ref
    assert [path.name for path in kept.iterdir()] == [first.ref]
    assert kept.stat().st_mode & 0o077 == 0 and (kept / str(first.ref)).stat().st_mode & 0o777 == 0o400


def test_what_a_sandbox_has_put_out_is_adopted(workspace: Path, kept: Path) -> None:
    data = LINES.encode()
    spool = home() / "out"
    (spool / "whole").write_bytes(data)
    (spool / "part").write_bytes(data[:50_000])
    cut = {"data": data[:2000] + data[-2000:], "size": len(data), "truncated": True, "cut": (2000, len(data) - 2000)}
    whole = output.adopt(Output(whole=spool / "whole", **cut), limit=1000)
    part = output.adopt(Output(whole=spool / "part", **cut), limit=1000)
    (spool / "whole").unlink()
    (spool / "part").unlink()
    none = output.adopt(Output(**cut), limit=1000)
    short = output.adopt(Output(data=data, size=len(data)), limit=1000)
    assert whole == short == collected(data) and whole.ref is not None
    assert part.tail == whole.tail and (kept / str(part.ref)).read_bytes() == data[:50_000]
    assert "up to 48.8 kB" in part.note and none.ref is None and "could not be kept" in none.note
    assert none.size == part.size == len(data) and none.head == whole.head


# --- limits and faults ----------------------------------------------------------------------------------------------


def test_much_output_takes_little_memory_and_the_disk_has_a_limit(kept: Path) -> None:
    code = (
        "import resource\nfrom weft.tool.output import Collector\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "collector, piece = Collector(whole=100 << 20), b'x' * 65535 + b'\\n'\n"
        "collector.add(piece)\nbefore = peak()\n"
        "for _ in range(4096): collector.add(piece)\n"
        "told = collector.done()\n"
        "print(peak() - before, told.size, told.ref, told.left_out, 'up to 100 MB' in told.note)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    grown, size, ref, left_out, said = done.stdout.split()
    assert int(grown) < 20 and int(size) == 4097 << 16 and said == "True", done
    assert (kept / ref).stat().st_size == 100 << 20
    assert int(left_out) == int(size) - 30_000 or int(left_out) > int(size) - 31_000


def test_the_oldest_make_room(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ALL", 250_000)
    refs = []
    for n in range(4):
        refs.append(str(collected((str(n) * 100_000).encode()).ref))
        os.utime(kept / refs[-1], (n + 1, n + 1))
    (kept / "of somebody else").write_text("x")
    (kept / ".new-dead").write_text("x")
    os.utime(kept / ".new-dead", (1, 1))
    last = collected(b"z" * 100_000).ref
    assert {path.name for path in kept.iterdir()} == {refs[3], last, "of somebody else"}
    with pytest.raises(OutputGone, match="make room"):
        output.read.fn(refs[0])


def test_what_can_not_be_kept_is_shown_all_the_same(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write_text("a file")
    told = collected(LINES.encode())
    assert told.ref is None and "could not be kept: File exists" in told.note and told.size == len(LINES)
    kept.unlink()
    kept.mkdir()
    kept.chmod(0o777)
    told = collected(LINES.encode())
    assert told.ref is None and "others may change it" in told.note and list(kept.iterdir()) == []
    kept.rmdir()
    for when in ("write", "close"):
        collector = Collector(1000)
        collector.add(LINES.encode()[:5000])
        assert collector._file is not None
        monkeypatch.setattr(collector, "_file", _Full(collector._file, when))
        collector.add(LINES.encode()[5000:])
        told = collector.done()
        assert told.ref is None and "No space left" in told.note and told.tail.endswith("line 10000\n")
        assert list(kept.iterdir()) == []


class _Full:
    """A file on a disk that is full: that is known when it is written to, or when it is closed."""

    def __init__(self, file: Any, when: str) -> None:
        self.file = file
        self.name = file.name
        self.when = when

    def write(self, data: bytes) -> None:
        if self.when == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.file.close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_one_that_is_given_up_leaves_nothing(kept: Path) -> None:
    collector = Collector(10)
    collector.add(b"x" * 1000)
    assert len(list(kept.iterdir())) == 1
    collector.drop()
    collector.drop()
    assert list(kept.iterdir()) == []
    assert collected(b"").text == ""


def test_a_damaged_one_is_not_read(kept: Path) -> None:
    told = collected(LINES.encode())
    (kept / str(told.ref)).chmod(0o600)
    (kept / str(told.ref)).write_text(LINES.replace("line 5000", "line 6000"))
    with pytest.raises(OutputGone, match="damaged"):
        output.read.fn(told.ref)


def test_many_at_a_time_keep_theirs(kept: Path) -> None:
    refs: list[str | None] = []
    threads = [
        threading.Thread(target=lambda n=n: refs.append(collected(f"{n % 3}".encode() * 50_000, piece=997).ref))
        for n in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in kept.iterdir()} == set(refs) and len(set(refs)) == 3


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["", "../../etc/passwd", "0" * 31, "0" * 33, "G" * 32, "a" * 32 + "\n", 5, None])
def test_what_is_no_ref_is_refused(ref: Any) -> None:
    with pytest.raises(BadInput, match="no ref"):
        asyncio.run(output.read(ref))
    with pytest.raises(BadInput, match="no ref"):
        asyncio.run(output.search(ref, "x"))


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(OutputGone, match="do again"):
        asyncio.run(output.read("0" * 32))
    with pytest.raises(BadInput, match="text or bytes"):
        asyncio.run(output.keep(5))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="limit=0"):
        asyncio.run(output.keep("x", limit=0))
    ref = collected(LINES.encode()).ref or ""
    with pytest.raises(BadInput, match="start=0"):
        asyncio.run(output.read(ref, 0))
    with pytest.raises(BadInput, match="regular expression"):
        asyncio.run(output.search(ref, "("))


# --- for all outputs ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=8) | st.text(st.sampled_from("é\n語 a\x1b"), max_size=12).map(str.encode), max_size=30),
    st.integers(1, 60),
)  # fmt: skip
def test_the_two_ends_are_ends_of_the_whole(pieces: list[bytes], limit: int) -> None:
    data = b"".join(pieces)
    collector = Collector(limit)
    for piece in pieces:
        collector.add(piece)
    told = collector.done()
    assert told.size == len(data)
    if len(data) <= limit:
        assert told.text == data.decode("utf-8", "replace") and told.ref is None
        return
    assert told.ref is not None and NAME.fullmatch(told.ref)
    assert (output.folder() / told.ref).read_bytes() == data
    for head in range(limit // 2 + 1):
        tail = len(data) - head - told.left_out
        begin, end = data[:head].decode("utf-8", "replace"), data[len(data) - tail :].decode("utf-8", "replace")
        if 0 <= tail <= limit and (begin, end) == (told.head, told.tail):
            break
    else:
        raise AssertionError(told)
    text = data.decode("utf-8", "replace")
    if "\ufffd" not in text:
        assert text.startswith(told.head) and text.endswith(told.tail)
