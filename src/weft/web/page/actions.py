"""A hand on the runs: answer, cancel, resume, signal, send, fork. All of it goes through a runtime, as a command's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from weft.cli.look import find_run, states_of
from weft.core.codec import bind_plain
from weft.core.errors import BadInput, StoreUnreachable
from weft.core.workflow import find_workflow
from weft.runtime.effects import mailboxes
from weft.runtime.inbox import find
from weft.runtime.runtime import Runtime
from weft.runtime.signals import SIGNALS
from weft.store.base import FINISHED, ProcessRow, Store
from weft.web.page.answer import read_object

T = TypeVar("T")

HEARD = 2.0
"""Seconds that are waited for a run to do as it was told."""
LOOK = 0.05


class Hands(Protocol):
    """Those of the page: whoever has a runtime."""

    async def do(self, work: Callable[[Runtime], Awaitable[T]]) -> T:
        """What `work` makes of the runtime."""

    async def close(self) -> None: ...


class OwnHands:
    """A runtime of the page's own, opened when it is first needed. It executes what is resumed and forked from here."""

    def __init__(self, place: str | None) -> None:
        self.place = place
        self._runtime: Runtime | None = None
        self._opening = asyncio.Lock()

    async def do(self, work: Callable[[Runtime], Awaitable[T]]) -> T:
        async with self._opening:
            if self._runtime is not None and (self._runtime.journal.broken or self._runtime.closing):
                await self.close()
            if self._runtime is None:
                runtime = Runtime(self.place)
                await runtime.__aenter__()
                self._runtime = runtime
        return await work(self._runtime)

    async def close(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.close()


class OthersHands:
    """The runtime of a worker, on the event loop of its own thread. `runtime` gives it, None while there is none."""

    def __init__(self, runtime: Callable[[], Runtime | None], loop: asyncio.AbstractEventLoop) -> None:
        self.runtime = runtime
        self.loop = loop

    async def do(self, work: Callable[[Runtime], Awaitable[T]]) -> T:
        runtime = self.runtime()
        if runtime is None:
            raise StoreUnreachable("the worker has no store now; try again when it is ready")

        async def there() -> T:
            return await work(runtime)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self.loop))

    async def close(self) -> None:
        """The worker closes its own."""


class Actions:
    """What may be done; `who` answers questions if nobody says."""

    def __init__(self, store: Store, hands: Hands, who: str) -> None:
        self.store = store
        self.hands = hands
        self.who = who

    async def answer(self, request: Request) -> dict[str, Any]:
        question = await find(self.store, request.path_params["id"])
        given = await read_object(request)
        who = _text(given, "who", self.who)
        if "value" in given:
            value = question.check(given["value"])
        elif isinstance(given.get("text"), str):
            value = question.read(given["text"])
        else:
            raise BadInput(f"give value or text: the question takes {question.takes}")
        await self.hands.do(lambda runtime: runtime.answer(question.id, value, who=who))
        return {"id": question.id, **await self._state(question.run)}

    async def cancel(self, request: Request) -> dict[str, Any]:
        row = await self._row(request)
        if row.state not in FINISHED:
            await asyncio.to_thread(declare, row)
            await self.hands.do(lambda runtime: runtime.cancel(row.id))
            await self._until(row.id, FINISHED)
        return await self._state(row.id)

    async def resume(self, request: Request) -> dict[str, Any]:
        row = await self._row(request)
        force = bool((await read_object(request)).get("force", False))
        if row.state == "paused" and row.queue is not None:
            await self.hands.do(lambda runtime: runtime.signal(row.id, "resume"))  # the workers' affair
        else:
            await asyncio.to_thread(declare, row)
            await self.hands.do(lambda runtime: runtime.resume(row.id, force=force))
        return await self._state(row.id)

    async def signal(self, request: Request) -> dict[str, Any]:
        row = await self._row(request)
        given = await read_object(request)
        what, tree = given.get("what"), bool(given.get("tree", False))
        if what not in SIGNALS:
            raise BadInput(f"what={what!r} is no signal; there are {', '.join(SIGNALS)}")
        if row.state not in FINISHED and what != "resume":
            await asyncio.to_thread(declare, row)
        await self.hands.do(lambda runtime: runtime.signal(row.id, what, tree=tree))
        if what != "resume":
            await self._until(row.id, (*FINISHED, "paused"))
        return await self._state(row.id)

    async def send(self, request: Request) -> dict[str, Any]:
        row = await self._row(request)
        given = await read_object(request)
        box = _text(given, "box")
        if "value" not in given:
            raise BadInput("give value: the letter")
        letter = given["value"]
        await asyncio.to_thread(declare, row)
        if box in mailboxes:
            letter = mailboxes[box].check(letter)
        await self.hands.do(lambda runtime: runtime.send(row.id, box, letter))
        return {"run": row.id, "box": box}

    async def fork(self, request: Request) -> dict[str, Any]:
        row = await self._row(request)
        given = await read_object(request)
        at = given.get("at")
        if not isinstance(at, int) or isinstance(at, bool) or at < 1:
            raise BadInput(f"at={at!r} is no number of an effect")
        await asyncio.to_thread(declare, row)
        bound = _bound(row.workflow, given["input"]) if "input" in given else None
        value = given.get("value", ...)

        async def work(runtime: Runtime) -> str:
            return (await runtime.fork(row.id, at=at, input=bound, value=value)).id

        return {"run": await self.hands.do(work)}

    async def _row(self, request: Request) -> ProcessRow:
        return await find_run(self.store, request.path_params["run"])

    async def _state(self, id: str) -> dict[str, Any]:
        row = await find_run(self.store, id)
        return {"run": id, "state": (await states_of(self.store, [row]))[0]}

    async def _until(self, id: str, states: tuple[str, ...]) -> None:
        """Until the run is in one of these states, or for a little while."""
        for _ in range(round(HEARD / LOOK)):
            if (await find_run(self.store, id)).state in states:
                return
            await asyncio.sleep(LOOK)


def declare(row: ProcessRow) -> None:
    """Load the file that declares a run's workflow, unless that is done. Raises BadInput if it can't be loaded."""
    from weft.cli import host

    host.declare(row, None)


def _bound(name: str, plain: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for a workflow: by name, or as a run's input shows them: a list, or an object of `*` and `**`."""
    workflow = find_workflow(name)
    positional, named = plain, {}
    if isinstance(plain, dict) and plain.keys() == {"*", "**"}:
        positional, named = plain["*"], plain["**"]
    if isinstance(positional, list) and isinstance(named, dict) and len(positional) <= len(workflow.names):
        plain = {**dict(zip(workflow.names, positional, strict=False)), **named}
    return bind_plain(workflow.fn, plain or None)


def _text(given: dict[str, Any], name: str, usual: str = "") -> str:
    found = given.get(name, usual)
    if not isinstance(found, str) or not found:
        raise BadInput(f"give {name}: a text")
    return found
