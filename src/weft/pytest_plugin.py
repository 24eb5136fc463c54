"""The pytest plugin of Weft: tests that ask models, without models.

    def test_weather(cassette):                # or @pytest.mark.cassette, without the argument
        assert "rain" in asyncio.run(model.chat("Will it rain?")).text

`pytest --record=once` asks the providers and writes `cassettes/MODULE/TEST.jsonl` beside the test; after that the test
runs on what is written there. While a cassette plays, connections are refused but to this machine. What a test that
fails has recorded is not kept. Nothing of Weft's is imported before a test asks for it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from weft.model.cassette import Cassette

_recorded = pytest.StashKey[dict[Path, str]]()
"""Which test recorded which file."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("weft").addoption(
        "--record",
        choices=("none", "once", "all"),
        default="none",
        help="Weft's cassettes: play them (none), record those that are missing (once), or all anew (all).",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cassette(name): the test runs on its cassette, or on the one of this name (see --record)."
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    names = item.fixturenames if isinstance(item, pytest.Function) and item.get_closest_marker("cassette") else None
    if names is not None and "cassette" not in names:
        names.insert(0, "cassette")


@pytest.fixture
def cassette(request: pytest.FixtureRequest) -> Iterator[Cassette]:
    """This test's cassette, in use: what goes to model providers is recorded or played, as `--record` says."""
    from weft.model.cassette import Cassette

    used = Cassette(_path(request), request.config.getoption("--record"))
    if used.recording:
        _claim(request, used.path)
    failed = request.session.testsfailed
    with used:
        if used.recording:
            yield used
        else:
            with _offline(used.path):
                yield used
        if request.session.testsfailed > failed:
            used.forget()


def _path(request: pytest.FixtureRequest) -> Path:
    """`cassettes/MODULE/TEST.jsonl` beside the test, or `cassettes/NAME.jsonl`."""
    folder = request.path.parent / "cassettes"
    marker = request.node.get_closest_marker("cassette")
    if marker is not None and (marker.args or marker.kwargs):
        name = marker.kwargs.get("name", *marker.args[:1])
        if not isinstance(name, str) or not name or len(marker.args) + len(marker.kwargs) > 1:
            raise pytest.UsageError("@pytest.mark.cassette takes one name, as a text, or nothing")
        return folder / f"{name.removesuffix('.jsonl')}.jsonl"
    parts = [request.cls.__name__, request.node.name] if request.cls else [request.node.name]
    return folder / request.path.stem / f"{_file_name('.'.join(parts))}.jsonl"


def _file_name(name: str) -> str:
    """The name as every file system takes it; if it must be changed, with a mark by which it stays unique."""
    plain = re.sub(r"[^\w.\[\]-]+", "-", name)[:120]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _claim(request: pytest.FixtureRequest, path: Path) -> None:
    """Only one test records a file: the next one's recording would take its place."""
    owner = request.config.stash.setdefault(_recorded, {}).setdefault(path, request.node.nodeid)
    if owner != request.node.nodeid:
        raise pytest.UsageError(f"{path} was recorded by {owner} just now; give this test a cassette of its own")


# --- no network -----------------------------------------------------------------------------------------------------


@contextmanager
def _offline(path: Path) -> Iterator[None]:
    """No connections but to this machine."""
    from weft.model.cassette import NotRecorded

    def refuse(where: str) -> NoReturn:
        raise NotRecorded(
            f"a connection to {where} was tried while the cassette {path} plays, when there is no network; what does "
            "not go through Weft's model client must be replaced in the test"
        )

    def checked(real: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _here(str(address[0])):
                refuse(f"{address[0]}:{address[1]}")
            return real(self, address)

        return connect

    def lookup(host: Any, *args: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and _address(name) is None and not _here(name):
            refuse(name)
        return find(host, *args, **more)

    find = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", checked(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", lookup)
        yield


def _here(host: str) -> bool:
    """Whether an address or a name is this machine's."""
    address = _address(host)
    if address is None:
        return host in ("localhost", "localhost.localdomain", "")
    return address.is_loopback or address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
