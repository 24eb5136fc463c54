"""The health endpoints, asked over HTTP, of a worker with a real store."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from weft.core.errors import BadInput, LeaseLost
from weft.runtime.runtime import Counters
from weft.store import Batch, ProcessRow, Store, open_store
from weft.store.base import QUEUED, WAITING, Stats
from weft.web.health import serve

Answer = tuple[int, dict[str, str], str]


class Worker:
    """A worker as the endpoints see it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counters = Counters(effects=12, replayed=3, lease_losses=1)
        self.active, self.steps, self.slots, self.replaying = 4, 2, 100, 7
        self.why: str | None = None

    def ready(self) -> str | None:
        return self.why

    async def ping(self) -> None:
        await self.store.alive("a worker")

    async def stats(self) -> Stats:
        return await self.store.stats()


class CutOff(Worker):
    """Its store is at the other end of a line on which nothing comes back."""

    def __init__(self, store: Store, line: socket.socket) -> None:
        super().__init__(store)
        self.line = line

    async def ping(self) -> None:
        await asyncio.get_running_loop().sock_recv(self.line, 1)

    async def stats(self) -> Stats:
        await self.ping()
        raise AssertionError("something came back")


class Replaced(Worker):
    """Others have taken it for dead."""

    async def ping(self) -> None:
        raise LeaseLost("runtime 7 was silent for too long")

    async def stats(self) -> Stats:
        raise LeaseLost("runtime 7 was silent for too long")


def get(address: str, accept: str = "*/*") -> Answer:
    request = urllib.request.Request(address, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, dict(response.headers), response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def figures(text: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def with_store(folder: Path, use: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = open_store(folder / "journal.db")
        try:
            await use(store)
        finally:
            await store.close()

    asyncio.run(main())


async def commit(store: Store, *rows: ProcessRow) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.commit(Batch(rows={row.id: row for row in rows}), lambda error: done.set_result(None))
    await done


def test_a_worker_that_lives_and_is_ready_says_so(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        async with serve(Worker(store)) as address:
            assert (await asyncio.to_thread(get, f"{address}/healthz"))[0] == 200
            status, _, body = await asyncio.to_thread(get, f"{address}/readyz")
            assert status == 200 and json.loads(body) == {"status": "ok", "worker": "ok", "store": "ok"}
            assert (await asyncio.to_thread(get, f"{address}/other"))[0] == 404

    with_store(tmp_path, use)


def test_a_worker_that_drains_is_alive_and_not_ready(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        worker = Worker(store)
        worker.why = "draining"
        async with serve(worker) as address:
            assert (await asyncio.to_thread(get, f"{address}/healthz"))[0] == 200
            status, _, body = await asyncio.to_thread(get, f"{address}/readyz")
            assert status == 503 and json.loads(body) == {"status": "not ready", "worker": "draining", "store": "ok"}

    with_store(tmp_path, use)


def test_a_store_that_does_not_answer_is_named_and_stops_no_figures_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.web.health.COUNT", 0.2)

    async def use(store: Store) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            async with serve(CutOff(store, ours)) as address:
                status, _, body = await asyncio.to_thread(get, f"{address}/readyz")
                assert status == 503
                assert json.loads(body)["store"] == "has not answered for 1 s"
                status, _, body = await asyncio.to_thread(get, f"{address}/metrics")
                found = figures(body)
                assert status == 200 and found[("weft_store_up",)] == 0 and found[("weft_effects_total",)] == 12
                assert not any(name[0].startswith("weft_queue") for name in found)
                assert (await asyncio.to_thread(get, f"{address}/healthz"))[0] == 200

    with_store(tmp_path, use)


def test_what_the_store_says_is_passed_on(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        async with serve(Replaced(store)) as address:
            status, _, body = await asyncio.to_thread(get, f"{address}/readyz")
            assert status == 503 and json.loads(body)["store"] == "runtime 7 was silent for too long"
            assert figures((await asyncio.to_thread(get, f"{address}/metrics"))[2])[("weft_store_up",)] == 0

    with_store(tmp_path, use)


def test_figures(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        worker = Worker(store)
        now = store.clock()
        waiting = [
            ProcessRow(id=f"q{n}", workflow="w", state=QUEUED, queue="mail", created=now - 60 * n) for n in (1, 2, 3)
        ]
        await commit(store, *waiting, ProcessRow(id="p", workflow="w", state=WAITING, created=now))
        async with serve(worker) as address:
            status, headers, body = await asyncio.to_thread(get, f"{address}/metrics")
            assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
            found = figures(body)
            assert 180 <= found.pop(("weft_queue_oldest_seconds", "mail")) < 240
            assert found == {
                ("weft_effects_total",): 12, ("weft_replayed_effects_total",): 3, ("weft_lease_losses_total",): 1,
                ("weft_replay_lag",): 7, ("weft_processes_active",): 4, ("weft_steps_running",): 2,
                ("weft_slots",): 100, ("weft_store_up",): 1, ("weft_queue_depth", "mail"): 3,
                ("weft_processes", "running"): 0, ("weft_processes", "waiting"): 1, ("weft_processes", "queued"): 3,
                ("weft_processes", "paused"): 0,
            }  # fmt: skip
            worker.counters.effects += 5
            again = figures((await asyncio.to_thread(get, f"{address}/metrics"))[2])
            assert again[("weft_effects_total",)] == 17
            modern = await asyncio.to_thread(get, f"{address}/metrics", "application/openmetrics-text; version=1.0.0")
            assert "openmetrics" in modern[1]["content-type"] and modern[2].endswith("# EOF\n")

    with_store(tmp_path, use)


def test_two_workers_of_one_interpreter_share_nothing(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        one, two = Worker(store), Worker(store)
        two.counters.effects = 99
        async with serve(one) as first, serve(two) as second:
            assert first != second
            answers = [await asyncio.to_thread(get, f"{address}/metrics") for address in (first, second)]
            assert [figures(body)[("weft_effects_total",)] for _, _, body in answers] == [12, 99]

    with_store(tmp_path, use)


def test_signals_stay_the_workers_and_the_port_is_free_again(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        async with serve(Worker(store)) as address:
            await asyncio.to_thread(get, f"{address}/healthz")
            assert {number: signal.getsignal(number) for number in kept} == kept
            port = int(address.rpartition(":")[2])
            with pytest.raises(BadInput, match=f"can't listen on 127.0.0.1 port {port}: .*choose another"):
                async with serve(Worker(store), port=port):
                    raise AssertionError("two on one port")
        async with serve(Worker(store), port=port) as address:
            assert (await asyncio.to_thread(get, f"{address}/healthz"))[0] == 200

    with_store(tmp_path, use)


def test_a_connection_that_is_kept_open_does_not_hold_the_worker_up(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        async with serve(Worker(store)) as address:
            host, _, port = address.removeprefix("http://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: worker\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert (await reader.read()).endswith(b'{"status":"ok"}')  # to its end: the server has closed it
        writer.close()

    with_store(tmp_path, use)


def test_the_body_may_end_at_once_and_by_an_error(tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        async with serve(Worker(store)):
            pass
        with pytest.raises(ZeroDivisionError):
            async with serve(Worker(store)):
                raise ZeroDivisionError

    with_store(tmp_path, use)


def test_without_the_extra_it_is_named() -> None:
    code = (
        "import sys\nsys.modules['uvicorn'] = None\n"
        "from weft.core.errors import MissingExtra\n"
        "try:\n    import weft.web.health\nexcept MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'weft[worker]'" in done.stdout
