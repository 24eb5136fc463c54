"""What a body may use besides steps: time, chance, children, events, letters.

Each is an effect: journaled where it happens, and the same on every replay.
"""

from __future__ import annotations

import asyncio
import math
import os
import random as _random
import uuid as _uuid
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

import msgspec

from weft.core.boundary import place, require
from weft.core.budget import amounts as checked
from weft.core.codec import encode, encode_args, from_plain
from weft.core.errors import BadInput
from weft.core.label import PUBLIC, Label
from weft.core.schema import schema_of
from weft.core.sealed import as_type
from weft.core.workflow import Workflow
from weft.runtime import scan
from weft.runtime.beginning import Beginning
from weft.runtime.checkpoint import begin as begin_checkpoint
from weft.runtime.checkpoint import check
from weft.runtime.enforce import executing
from weft.runtime.inbox import Asked
from weft.runtime.leaving import end
from weft.runtime.pending import NOTHING, Pending
from weft.runtime.people import DEFAULT, terms_of
from weft.store.base import DONE

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_chance = _random.SystemRandom()
_draw = _chance.random
_urandom = os.urandom


class Current(msgspec.Struct, frozen=True):
    """The process whose body is running. `replaying`: its journal still has outcomes to deliver. `mark`: what it has
    seen carries this label, and so does all that it does."""

    id: str
    workflow: str
    parent: str | None
    replaying: bool
    mark: Label = PUBLIC


def current() -> Current:
    """Who am I? Only inside a body."""
    process = require("weft.current()")
    return Current(process.id, process.workflow, process.row.parent, not process.live, process.mark)


def now() -> datetime:
    """The time, in UTC. An effect."""
    process = require("weft.now()")
    seconds = process.immediate("now", "now", place(), NOTHING, lambda _: process.tick())
    return datetime.fromtimestamp(seconds, UTC)


def random() -> float:
    """A number drawn uniformly from [0, 1). An effect."""
    drawn: float = require("weft.random()").immediate("random", "random", place(), NOTHING, lambda _: _draw())
    return drawn


def uuid() -> _uuid.UUID:
    """A random UUID (version 4). An effect."""
    make = partial(_new_uuid)
    drawn: _uuid.UUID = require("weft.uuid()").immediate("uuid", "uuid", place(), NOTHING, make)
    return drawn


def _new_uuid(_: int) -> _uuid.UUID:
    return _uuid.UUID(bytes=_urandom(16), version=4)


async def sleep(seconds: float | timedelta) -> None:
    """Sleep durably: survives a restart and wakes on time, or at once if the time passed while nothing ran."""
    process = require("weft.sleep()")
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if not isinstance(seconds, int | float) or seconds != seconds or seconds == float("inf"):
        raise BadInput(f"weft.sleep({seconds!r}): give a number of seconds or a timedelta")
    alarm = partial(process.runtime.alarms.set, process)
    pending = process.issue(
        "sleep",
        "sleep",
        place(),
        encode_args((float(seconds),), {}, "sleep"),
        alarm,
        deadline=process.clock + seconds,
    )
    await process.outcome(pending)


@overload
async def ask(
    question: str,
    *,
    queue: str = ...,
    timeout: float | None = ...,
    default: Any = ...,
    escalate: tuple[float, str] | None = ...,
) -> str: ...
@overload
async def ask(
    question: str,
    type: type[T],
    *,
    queue: str = ...,
    timeout: float | None = ...,
    default: Any = ...,
    escalate: tuple[float, str] | None = ...,
) -> T: ...
async def ask(
    question: str, type: Any = str, *, queue: str = DEFAULT, timeout: float | None = None,
    default: Any = msgspec.UNSET, escalate: tuple[float, str] | None = None,
) -> Any:  # fmt: skip
    """Ask a person; the answer, as `type` (str, bool, Literal, a dataclass ...). The process waits durably, for days
    if need be; `weft inbox` shows the question, `weft answer` answers it.

    `queue`: who is asked. `timeout`: seconds; then `default` is the answer, or QuestionExpired is raised if there
    is none. `escalate`: after so many seconds the question goes to another queue: ``escalate=(3600, "lead")``.
    """
    process = require("weft.ask()")
    if not isinstance(question, str) or not question:
        raise BadInput(f"weft.ask({question!r}): the question is a non-empty text")
    _check_queue(queue)
    terms = terms_of(timeout, default, escalate)
    asked = Asked(text=question, schema=schema_of(type))
    told = None if default is msgspec.UNSET else default
    args = encode_args((question, asked.schema, queue, timeout, told), {}, "ask")

    def wait(pending: Pending) -> None:
        fits = partial(from_plain, annotation=type, root="answer")
        process.runtime.people.ask(process, pending, asked, terms, fits)

    return await process.outcome(process.issue("ask", queue, place(), args, wait))


def _check_queue(queue: Any) -> None:
    if not isinstance(queue, str) or not queue:
        raise BadInput(f"weft.ask(queue={queue!r}): a queue of questions is a non-empty text")


async def spend(**amounts: float) -> None:
    """Charge the budget for something that is no step: ``await weft.spend(turns=1)``. Raises BudgetExceeded, and then
    nothing is spent. Without a budget it costs nothing."""
    await require("weft.spend()").pay(checked(dict(amounts)), place())


def charge(**amounts: float) -> None:
    """Inside a step: what it did spend, in place of the most that it might: ``weft.charge(tokens=812, money=0.004)``.
    May be said more than once; the sum counts, for the budget and for the amounts of the step's queue. Without either
    it does nothing."""
    execution = executing.get()
    spent = checked(dict(amounts))
    if execution is not None:
        execution.charge(spent)


def hold_back(seconds: float) -> None:
    """Inside a step with a queue: for so many seconds the queue lets nobody in, over all runtimes of the store, as when
    a provider says 429 with `Retry-After`. Those already in go on; a longer pause is not shortened. Then fail, and let
    `retries` stand in line again. Without a queue, and on Ray, it does nothing. Raises BadInput."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise BadInput(f"weft.hold_back({seconds!r}): give a number of seconds >= 0")
    execution = executing.get()
    if execution is not None:
        execution.hold_back(float(seconds))


def patched(id: str) -> bool:
    """True in runs that begin (or get here) with this code, False in runs that passed this point before it.

    Guard a change with it: ``if weft.patched("2026-11-new-prompt"): new() else: old()``.
    """
    answer: bool = require("weft.patched()").patched(id)
    return answer


class Child(Generic[R]):
    """An owned child process. Await it for its result; its parent does not end before it does."""

    def __init__(self, process: Any, id: str) -> None:
        self._process = process
        self.id = id
        self._join: asyncio.Task[R] | None = None

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self) -> R:
        """The child's result, or its failure. May be asked for more than once."""
        if self._join is None:
            self._join = self._process.loop.create_task(self._process.children.join(self.id, place()))
        return await self._join

    async def cancel(self) -> None:
        """Ask the child to stop; awaiting it then raises `Cancelled`."""
        self._process.children.cancel(self.id)

    def __repr__(self) -> str:
        return f"<child {self.id}>"


async def spawn(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Child[R]:
    """Start a child and go on. It is owned: cancelling the parent cancels it, and its failure fails the parent."""
    process, where = require("weft.spawn()"), place()
    await process.pay({"children": 1}, where)
    return Child(process, process.children.spawn(_workflow(workflow), args, kwargs, where, owned=True))


async def detach(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> str:
    """Start a process that goes its own way; returns its id."""
    process, where = require("weft.detach()"), place()
    await process.pay({"children": 1}, where)
    id: str = process.children.spawn(_workflow(workflow), args, kwargs, where, owned=False)
    return id


def _workflow(workflow: Any) -> Any:
    if not isinstance(workflow, Workflow):
        raise BadInput(f"{workflow!r} is not a workflow; mark the function with @weft.workflow")
    return workflow


async def exec(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> NoReturn:
    """Go on as another program: the body is left (what it has open is cancelled, and its children end first), and
    `workflow` runs in its place, under the same id, in the same journal, with the same budget. What came before is not
    run again on replay, so a process that is to live for ever begins anew this way now and then.

    The rights are those it has, or what ``workflow.options(rights=[...])`` leaves of them.
    """
    process = require("weft.exec()")
    new = _workflow(workflow)
    scan.check(new.fn)
    new.bind(args, kwargs)
    data = process.runtime.journal.clean(encode_args(args, kwargs, new.name, new.names))
    image, holder = process.immediate(
        "exec", new.name, place(), data, lambda number: process.runtime.rights.of_exec(process, new, number)
    )
    begin = Beginning(new.name, data, image, holder, number=process.issued, at=process.clock)
    process.depart(partial(process.become, begin))
    raise asyncio.CancelledError


def exit(result: Any = None) -> NoReturn:
    """End the process, from anywhere in the body, as if the workflow had returned `result`. What the body has open is
    cancelled first, and so are its children."""
    process = require("weft.exit()")
    data = encode(result, f"{process.workflow}() result")
    process.depart(partial(end, process, DONE, data))
    raise asyncio.CancelledError


async def checkpoint(name: str = "", *, note: str = "") -> str:
    """Remember this process and all below it as they are now; returns the checkpoint's id, the same on every replay.
    Who goes on from it later (`Runtime.fork_checkpoint`, `weft checkpoint restore`) goes on behind this line."""
    process = require("weft.checkpoint()")
    words = check(name, note)
    begin = partial(begin_checkpoint, process, words)
    made: str = await process.outcome(
        process.issue("checkpoint", name, place(), encode_args(words, {}, "checkpoint"), begin)
    )
    return made


async def publish(key: str, value: Any) -> None:
    """Publish `value` under `key` to whoever waits for it, now or later; the last value published counts."""
    process = require("weft.publish()")
    _check_key("publish", key)
    args = encode_args((key, value), {}, "publish")
    process.immediate(
        "publish",
        key,
        place(),
        args,
        lambda _: None,
        lambda _: process.runtime.post.publish(process, key, value),
    )


async def wait_for(key: str) -> Any:
    """The value published under `key`; waits until there is one."""
    process = require("weft.wait_for()")
    _check_key("wait_for", key)
    watch = partial(process.runtime.post.watch, process)
    return await process.outcome(process.issue("event", key, place(), NOTHING, watch))


def _check_key(what: str, key: Any) -> None:
    if not isinstance(key, str) or not key:
        raise BadInput(f"weft.{what}({key!r}): a key is a non-empty string")


mailboxes: dict[str, Mailbox[Any]] = {}
"""Every mailbox declared in this interpreter, by name."""


class Mailbox(Generic[T]):
    """Letters of one type to a process, received in order, each exactly once. Declare it at module level."""

    @overload
    def __init__(self: Mailbox[Any], name: str) -> None: ...
    @overload
    def __init__(self, name: str, type: type[T]) -> None: ...
    def __init__(self, name: str, type: Any = Any) -> None:
        if not name or name.startswith("weft."):
            raise BadInput(f"Mailbox({name!r}): give a name that does not begin with 'weft.'")
        self.name = name
        self.type = type
        mailboxes[name] = self

    async def receive(self) -> T:
        """The next letter; waits for one. Raises BadInput if it is not of the box's type."""
        process = require("Mailbox.receive()")
        pending = process.issue("receive", self.name, place(), NOTHING, lambda p: process.mail.receive(self.name, p))
        return self.check(await process.outcome(pending))

    async def send(self, process: str, value: T) -> None:
        """Send to the process with this id; UnknownRun if there is none."""
        mine = require("Mailbox.send()")
        self.check(value)
        args = encode_args((process, value), {}, "send")
        deliver = partial(mine.runtime.post.send_from, mine, to=process, box=self.name, value=value, mark=mine.mark)
        await mine.outcome(mine.issue("send", self.name, place(), args, deliver))

    def check(self, value: Any) -> T:
        """`value` as this box's type: itself, or converted from JSON-like data. A handle passes as it is."""
        return cast(T, as_type(value, self.type, f"mailbox {self.name!r} takes"))
