"""A file that is there whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from weft.core.whole import write_whole


def test_content_mode_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kept.json"
    before = os.umask(0o077)
    try:
        write_whole(path, b"one", mode=0o644)
        write_whole(path, b"two", mode=0o644, durable=True)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    write_whole(path, b"three")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*path.parent.iterdir()] == [path]


def test_a_place_that_cannot_be_written_keeps_what_was_there(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_whole(taken, b"x")
    assert [*tmp_path.iterdir()] == [taken]
    with pytest.raises(OSError):
        write_whole(taken / "inside" / ("n" * 300), b"x")
    assert [*(taken / "inside").iterdir()] == []


def _write(path: Path, letter: bytes) -> None:
    for _ in range(100):
        write_whole(path, letter * 10_000)


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    write_whole(path, b"a" * 10_000)
    writers = [
        multiprocessing.get_context("spawn").Process(target=_write, args=(path, letter)) for letter in (b"b", b"c")
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = path.read_bytes()
        assert len(found) == 10_000 and len(set(found)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [*tmp_path.iterdir()] == [path]
