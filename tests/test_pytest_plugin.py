"""The pytest plugin, in pytest runs of their own: cassettes beside the tests, recorded when asked for, no network."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.servers.providers import KEY, Providers, Turn

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
ASK = """
import asyncio, pytest, weft

def ask(text="Will it rain?"):
    return asyncio.run(weft.model.open("{base}", "m").chat(text)).text
"""


@pytest.fixture
def server() -> Iterator[Providers]:
    with Providers(Turn(text=["Yes."])) as server:
        yield server


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the plugin is here once, installed or not
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "weft.pytest_plugin", "-q", "--strict-markers", *args)


def test_a_test_is_recorded_once_and_then_played(pytester: pytest.Pytester, server: Providers) -> None:
    pytester.makepyfile(
        test_it=ASK.format(base=server.base("openai"))
        + """
def test_ask(cassette):
    assert ask() == "Yes."

class TestGroup:
    @pytest.mark.parametrize("text", ["Will it rain?", "a/b"])
    def test_ask(self, cassette, text):
        assert ask(text) == "Yes."

@pytest.mark.cassette
def test_marked():
    assert ask() == "Yes."

@pytest.mark.cassette("weather")
def test_named():
    assert ask() == "Yes."
"""
    )
    run(pytester, "--record=once").assert_outcomes(passed=5)
    folder = pytester.path / "cassettes"
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jsonl"))
    assert [name.partition("-")[0] for name in found] == [
        "test_it/TestGroup.test_ask[Will",
        "test_it/TestGroup.test_ask[a",
        "test_it/test_ask.jsonl",
        "test_it/test_marked.jsonl",
        "weather.jsonl",
    ]
    server.turns = [Turn(text=["No."])]
    run(pytester).assert_outcomes(passed=5)
    run(pytester, "--record=once").assert_outcomes(passed=5)
    assert len(server.requests) == 5
    run(pytester, "--record=all").assert_outcomes(failed=5)
    assert len(server.requests) == 10
    run(pytester).assert_outcomes(passed=5)  # what failing tests recorded was not kept


def test_without_recording_nothing_is_asked(pytester: pytest.Pytester, server: Providers) -> None:
    pytester.makepyfile(
        ASK.format(base=server.base("openai"))
        + """
def test_ask(cassette):
    ask()
"""
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*NotRecorded: there is no cassette *test_ask.jsonl*--record=once*"])
    assert server.requests == []


def test_there_is_no_network_while_a_cassette_plays(pytester: pytest.Pytester, server: Providers) -> None:
    pytester.makepyfile(
        f"""
import asyncio, socket, urllib.request
import pytest
from weft.model.cassette import NotRecorded

def test_refused(cassette):
    with pytest.raises(NotRecorded, match="192.0.2.1:80 was tried while the cassette"):
        socket.create_connection(("192.0.2.1", 80), timeout=5)
    with pytest.raises(NotRecorded, match="a connection to host.invalid"):
        urllib.request.urlopen("http://host.invalid/")
    with pytest.raises(NotRecorded, match="198.51.100.1:443"):
        asyncio.run(asyncio.open_connection("198.51.100.1", 443))

def test_this_machine_is_reached(cassette):
    for host in ("127.0.0.1", "localhost"):
        urllib.request.urlopen(f"http://{{host}}:{server.port}/-/requests").close()

def test_other_tests_are_let_alone():
    assert socket.getaddrinfo.__module__ == "socket"
    assert "connect" not in vars(socket.socket)
"""
    )
    run(pytester).assert_outcomes(passed=3)


def test_one_file_is_recorded_by_one_test(pytester: pytest.Pytester, server: Providers) -> None:
    pytester.makepyfile(
        ASK.format(base=server.base("openai"))
        + """
@pytest.mark.cassette("shared")
def test_one():
    ask()

@pytest.mark.cassette(name="shared")
def test_two():
    ask()
"""
    )
    result = run(pytester, "--record=all")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*shared.jsonl was recorded by *::test_one just now*"])
    run(pytester).assert_outcomes(passed=2)


def test_bad_options_and_markers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest

@pytest.mark.cassette(3)
def test_number(): ...

@pytest.mark.cassette("a", "b")
def test_two(): ...

@pytest.mark.cassette(record="all")
def test_other(): ...
"""
    )
    result = run(pytester)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*takes one name*"] * 3)
    assert "invalid choice: 'always'" in run(pytester, "--record=always").stderr.str()


def test_a_broken_cassette_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_ask(cassette): ...")
    (pytester.path / "cassettes/test_it").mkdir(parents=True)
    (pytester.path / "cassettes/test_it/test_ask.jsonl").write_text('{"line": "cassette"')
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_ask.jsonl, line 1: *record it anew*"])


def test_it_is_installed_with_weft_and_light() -> None:
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]["weft"]
    assert hasattr(import_module(entry), "pytest_addoption")
    light = (
        f"import sys, {entry}; print([m for m in ('httpx2', 'msgspec', 'weft.model', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert "httpx2" not in done.stdout and "weft.model" not in done.stdout
