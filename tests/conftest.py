"""What every test may ask for: a real PostgreSQL server shared by the session, a fresh database, either store."""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

os.environ["WEFT_POLICY"] = "all"  # most tests are not about rights, and their steps do what they like

from tests.servers.postgres import Postgres, Unavailable
from weft.core.queue import queues

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.servers.page import Client, Elsewhere

settings.register_profile("random", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")  # a change fails by what it does, not by the day: search with --hypothesis-profile=random

SEE_ALL_JOBS = {
    "test_agent_programs", "test_escapes", "test_governor", "test_groups", "test_mcp_bad", "test_mcp_client",
    "test_sandbox", "test_tool_groups", "test_tool_output", "test_tool_python", "test_tool_sandbox", "test_tool_shell",
}  # fmt: skip
"""Files that look for sandboxed jobs on the whole machine, or start some."""
LONG = {"test_chaos", "test_workers"}


def pytest_sessionstart() -> None:
    """Compile Weft, and what tests start of their own, once: that is done many hundreds of times, and some machines say
    that no start is to keep what it has compiled. Heed ctrl-C: who is started in the background ignores it, and so does
    all that it starts, which tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    root = Path(__file__).parents[1]
    compileall.compile_dir(root / "src", quiet=2)
    compileall.compile_dir(root / "tests", quiet=2, rx=re.compile(r"/test_\w+\.py$"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `pytest -n 3`: a file's tests stay together, and so do those of files that would see each other's jobs."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0]).stem
            return "jobs" if file in SEE_ALL_JOBS else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first where there are several workers, so that all end at about one time."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: item.path.stem not in SEE_ALL_JOBS | LONG)


@pytest.fixture(autouse=True)
def _queues_of_this_test() -> Iterator[None]:
    """A queue that a test declares by the way limits none in the tests after it."""
    before = dict(queues)
    yield
    queues.clear()
    queues.update(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for each pytest-xdist worker, started when first asked for."""
    server = Postgres()
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database for this test alone."""
    postgres.start()  # a test before may have left it dead
    url = postgres.create()
    yield url
    postgres.start()
    postgres.drop(url.rpartition("/")[2])


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of an empty store for this test alone: a file, and then a database."""
    place: str = str(tmp_path / "journal.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return place


@pytest.fixture
def client(store: str) -> Iterator[Client]:
    """A client of the page, served for this test's store."""
    from tests.servers.page import page

    with page(store) as found:
        yield found


@pytest.fixture
def elsewhere(store: str) -> Iterator[Elsewhere]:
    """A runtime on this test's store, in another thread than the test's."""
    from tests.servers.page import Elsewhere

    found = Elsewhere(store)
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium without a window, for one file; skips where there is none. While it is there, an event loop of
    Playwright's runs in this thread, so runtimes of such a file live in others (`tests.servers.page.Elsewhere`)."""
    from tests.servers.browser import Unavailable, chromium

    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(chromium())
        except Unavailable as missing:
            pytest.skip(str(missing))


@pytest.fixture
def model_checker() -> None:
    """TLC, which the packages of the extra `test` bring; skips where it is not."""
    from verify import tlc

    try:
        tlc.find()
    except tlc.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of this test, under the default policy; beside it lies `outside`."""
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WEFT_OUTPUTS", str(tmp_path / "outputs"))
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("the secret")
    (inside / "a.txt").write_text("of the workspace")
    monkeypatch.chdir(inside)
    return inside


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process, mount, group or temporary file is left of what the test started."""
    from tests import leaks

    with leaks.none():
        yield
