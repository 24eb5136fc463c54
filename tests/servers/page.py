"""The page on loopback, in a thread of its own, and a client that speaks HTTP to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import weft
from weft.store import open_store
from weft.web.page.actions import OwnHands
from weft.web.page.safety import Access
from weft.web.page.serve import beside

CHANGE = {"X-Weft": "1", "Content-Type": "application/json"}


class Event:
    def __init__(self, lines: list[str]) -> None:
        fields = dict(line.partition(": ")[::2] for line in lines)
        self.id, self.name = fields.get("id", ""), fields["event"]
        self.data: Any = json.loads(fields["data"])

    def __repr__(self) -> str:
        return f"{self.name} {self.id} {self.data}"


class Client:
    """`headers` go with every request."""

    def __init__(self, address: str, **headers: str) -> None:
        self.address = address
        self.host = address.removeprefix("http://")
        self.headers = headers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in {**self.headers, **headers}.items()}
        connection.request(method, path, sent, named)
        response = connection.getresponse()
        found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        connection.close()
        return found

    def get(self, path: str, **headers: str) -> Any:
        """The JSON at a path; with `status` in an error."""
        status, _, body = self.ask("GET", path, **headers)
        return _told(status, body)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        status, _, data = self.ask("POST", path, {} if body is None else body, **{**CHANGE, **headers})
        return _told(status, data)

    @contextlib.contextmanager
    def events(self, path: str, last: str = "") -> Iterator[Iterator[Event]]:
        """The events of a stream, until the block ends or the server ends it."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        connection.request("GET", path, headers={**self.headers, **({"Last-Event-ID": last} if last else {})})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("content-type", "").startswith("text/event-stream")
        try:
            yield _events(response)
        finally:
            connection.close()
            response.close()


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    lines: list[str] = []
    while line := response.readline():
        text = line.decode().rstrip("\n")
        if text and not text.startswith(":"):
            lines.append(text)
        elif lines:
            yield Event(lines)
            lines = []


def _told(status: int, body: bytes) -> Any:
    found = json.loads(body) if body else None
    return {**found, "status": status} if status >= 400 else found


@contextlib.contextmanager
def page(place: str, access: Access | None = None) -> Iterator[Client]:
    """The page of the store at `place`, with a runtime of its own."""
    begun, over = threading.Event(), threading.Event()
    found: list[Any] = []

    async def main() -> None:
        shown = access or Access.at("127.0.0.1")
        async with beside(lambda: open_store(place), shown, OwnHands(place), "127.0.0.1", 0, "tester") as address:
            found.append(address)
            begun.set()
            await asyncio.to_thread(over.wait)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            found.append(error)
            begun.set()
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(30)
    assert isinstance(found[0], str), found[0]
    try:
        yield Client(found[0])
    finally:
        over.set()
        thread.join(30)


class Elsewhere:
    """A runtime in another thread that executes runs until told otherwise."""

    def __init__(self, place: str, policy: weft.Policy | None = None) -> None:
        self.place = place
        self.policy = policy
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.runtime = self(self._open())

    async def _open(self) -> weft.Runtime:
        return await weft.Runtime(self.place, policy=self.policy).__aenter__()

    def __call__(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def start(self, workflow: Any, *args: Any) -> str:
        """Begin a run; its id."""
        id: str = self(self.runtime.start(workflow, *args)).id
        self(self.runtime.journal.barrier())
        return id

    def close(self) -> None:
        self(self.runtime.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as that is something."""
    for _ in range(400):
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")
