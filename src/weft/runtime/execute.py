"""Carrying out steps on the host: when they may start, how often they are tried, and for how long.

A pure step starts at once. Any other starts when all that the body knew is durable, for only then will a crash
bring the body back to this same step with these same arguments.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.authority import Decision as Verdict
from weft.core.capability import Request
from weft.core.codec import encode
from weft.core.crossing import executing
from weft.core.errors import Denied, ExecutorLost, StepTimeout, UnknownOutcome
from weft.core.needs import Need
from weft.core.record import Attempt, Probed
from weft.core.resources import Resources, Usage
from weft.core.sealed import opened_args
from weft.core.step import Step
from weft.runtime import flow
from weft.runtime.admission import Ticket
from weft.runtime.commit import settle
from weft.runtime.ledger import price_of
from weft.runtime.midway import Inner, as_refused, closer, further, may, touched
from weft.runtime.pending import Pending
from weft.runtime.protect import note
from weft.runtime.tracing import traceparent_of

if TYPE_CHECKING:
    from weft.runtime.ends import Leaving
    from weft.runtime.probes.runs import Observing
    from weft.runtime.process import Process
    from weft.runtime.rights import Holder
    from weft.runtime.runtime import Runtime

_jitter = random.Random()


class Steps:
    """The executor of a runtime."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self.runtime = runtime
        self.context = contextvars.copy_context()
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="weft-step")
        self.running: dict[asyncio.Task[None], Execution] = {}
        self.draining = False
        """No step begins any more."""

    async def drain(self, grace: float) -> None:
        """Let the steps under way end, for up to `grace` seconds."""
        self.draining = True
        for execution in list(self.running.values()):
            if execution.idle:
                execution.cancel()  # whoever takes it over stands in line, or waits out the rest
        if self.running:
            await asyncio.wait(list(self.running), timeout=grace)
            await asyncio.sleep(0)  # their outcomes reach the bodies

    def close(self) -> list[asyncio.Task[None]]:
        tasks = list(self.running)
        for task in tasks:
            task.cancel()
        self.threads.shutdown(wait=False, cancel_futures=True)
        return tasks


class Execution(Pending):
    """One step being carried out: the effect as its body sees it, and the work on the host."""

    __slots__ = (
        "announced", "call", "closed", "dead", "idle", "probes", "process", "refused", "seen", "spent", "step", "task",
        "ticket", "usage", "watched",
    )  # fmt: skip

    def __init__(
        self, process: Process, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: str,
        data: bytes,
    ) -> None:  # fmt: skip
        super().__init__("step", step.name, place, data, _launch)
        self.process = process
        self.step = step
        self.call = self.closed = (args, kwargs)
        """Its arguments, and those that the body gave it: with handles still closed."""
        if self.load is not None:
            self.call = opened_args(data)
        if process.account is not None:
            self.price = price_of(self)
        self.usage = None
        self.spent = None
        self.dead = False
        self.announced = False
        """It is written down that it begins."""
        self.idle = False
        """It waits for its turn, or for its next attempt."""
        self.watched = False
        self.seen: dict[Request, Verdict] = {}
        """What it was seen to do, and what was decided about that."""
        self.refused: Denied | None = None
        """What it was seen to do first of all that it must not."""
        self.probes: Observing | None = None
        """What sees the attempt that is under way, if anything does."""
        self.task: asyncio.Task[None] | None = None
        self.ticket: Ticket | None = None

    @property
    def action(self) -> str | None:  # type: ignore[override]
        return self.step.action

    @property
    def needs(self) -> tuple[Need, ...]:  # type: ignore[override]
        return self.step.needs

    @property
    def version(self) -> str:  # type: ignore[override]
        return self.step.version

    @property
    def unseen(self) -> bool:  # type: ignore[override]
        return self.step.executor is not None

    @property
    def impact(self) -> str:  # type: ignore[override]
        return self.step.impact

    @property
    def role(self) -> str:  # type: ignore[override]
        return self.step.role

    def arguments(self) -> dict[str, Any]:
        """By name, defaults too."""
        return self.step.arguments(*self.call)

    def begin(self) -> None:
        """Start now, or when everything the body knows is durable."""
        self.host = self
        step, process = self.step, self.process
        self.announced = self._intended(process)
        if self.is_unknown(process):
            self.unknown()
        elif step.effect == "pure" and not process.row.strikes and not self._limited_rights():
            self.start()
        else:
            if step.queue is None or self.protected is not None:
                self._announce()  # else when its turn has come: who dies in line is known not to have begun
            process.runtime.journal.when_durable(self.start)

    def _announce(self) -> bool:
        """Write down that it begins, where that must be known after a crash. False if it needs no word more."""
        careful = self.step.effect == "at_most_once" or self.process.row.strikes > 0 or self.protected is not None
        if self.announced or not careful:
            return False
        self.announced = True
        self.process.note(self, intent=True)
        return True

    def _intended(self, process: Process) -> bool:
        """Whether its start was written down before."""
        before = process.history.intents.get(self.number)
        return before is not None and before.intent

    def is_unknown(self, process: Process) -> bool:
        return self.step.effect == "at_most_once" and self._intended(process)

    def _limited_rights(self) -> bool:
        """Whether it takes a use of a right: that must be on disk before it begins."""
        return self.protected is not None and bool(self.protected.uses)

    def start(self) -> None:
        """Start, as soon as it is its turn among the steps of its operation."""
        if self.turn is None or self.turn.order == "staged":
            self._start()
        else:
            self.turn.when(self._start)

    def _start(self) -> None:
        steps = self.process.runtime.steps
        if self.dead or steps.draining:
            return
        work = self._run() if self.step.plain and self.step.is_async else self._run_with_care()
        task = asyncio.Task(work, loop=steps.runtime.host, name=self.step.name, context=steps.context.copy())
        self.task = task
        steps.running[task] = self

    def cancel(self) -> None:
        self.dead = True
        if self.task is not None:
            self.task.cancel()
        elif self.protected is not None:
            self.protected.release()

    def act(self) -> None:
        """It begins now, in this context. Raises Denied if it may not any more."""
        if self.protected is not None:
            self.protected.recheck()
        self._note_seen()  # in the attempt before
        if (probes := self.process.runtime.probes) is not None:
            self.probes = probes.of_attempt(self.attempts)
        self.started = self.process.runtime.clock()
        if self.ticket is not None:
            self.ticket.begun = True
        labelled = self.load is not None or self.process.rules is not None
        self.watched = self.step.watched and self.step.executor is None and (self.rights.watched or labelled)
        executing.set(self)

    # --- as it looks from its middle (`weft.core.crossing`), in any thread ------------------------------------

    @property
    def rights(self) -> Holder:
        return self.holder or self.process.rights

    @property
    def workspace(self) -> str:
        return self.rights.image.workspace

    @property
    def run(self) -> str:
        return self.process.id

    @property
    def requests(self) -> Sequence[Request]:
        return () if self.protected is None else self.protected.requests

    @property
    def again(self) -> bool:
        before = self.process.history.intents.get(self.number)
        return self.attempts > 1 or (before is not None and before.intent)

    @property
    def resources(self) -> Resources | None:
        return self.step.limits

    @property
    def priority(self) -> int:
        return self.process.row.priority

    def took(self, usage: Usage) -> None:
        self.usage = usage if self.usage is None else self.usage.and_then(usage)

    def charge(self, spent: Mapping[str, float]) -> None:
        before = self.spent or {}
        self.spent = before | {kind: before.get(kind, 0) + amount for kind, amount in spent.items()}
        if self.bill is not None:
            self.bill.charge(spent)
        if self.ticket is not None:
            self.ticket.charge(spent)

    def hold_back(self, seconds: float) -> None:
        if self.ticket is not None:
            self.ticket.gate.pause(seconds)

    async def traceparent(self) -> str:
        return await traceparent_of(self.process, self.number)

    def at_leave(self, do: Leaving) -> None:
        self.process.runtime.ends.at_leave(self.process.id, do)

    def further(self, asked: Request, instead: str) -> None:
        further(self, asked, instead)

    def closer(self, asked: Request, instead: str) -> None:
        closer(self, asked, instead)

    def may(self, asked: Request) -> bool:
        return may(self, asked)

    def within(self, needs: Sequence[Need], arguments: Mapping[str, Any]) -> Inner:
        return Inner(self, needs, arguments)

    def touch(self, asked: Sequence[Request], fix: str = "") -> None:
        """It is about to do this. Raises Denied (`fix`: what to do, where that is known better)."""
        refused = touched(self, asked)
        if refused is not None:
            if fix and type(refused) is Denied and refused.fix:
                refused = Denied(refused.action, refused.resource, refused.why, fix)
            self.refused = self.refused or refused
            raise refused

    # --- its end ------------------------------------------------------------------------------------------------

    def _note_seen(self) -> None:
        if self.seen and not self.dead:
            seen, self.seen = self.seen, {}
            took = {} if self.load is None else self.load.took
            for asked, verdict in list(seen.items()):  # a thread that it left behind may go on
                note(self.process, self.number, asked, as_refused(self, verdict), took.get(asked, ""))
        if self.load is not None and not self.dead:
            kept, self.load.kept = self.load.kept, {}
            for asked, label in list(kept.items()):
                note(self.process, self.number, asked, flow.DENIED, label)

    def _note_probed(self) -> None:
        probes, self.probes = self.probes, None
        if probes is None or self.dead:
            return
        process, journal = self.process, self.process.runtime.journal
        for probe, figures in probes.figures():
            value = journal.value(process.id, encode(msgspec.to_builtins(figures)))
            process.append(Probed(process.runtime.clock(), self.number, self.step.name, probes.attempt, probe, value))

    def _function(self) -> Any:
        """What is called."""
        return self.step.fn if self.probes is None else self.probes.copy_of(self.step.fn)

    async def _run(self) -> None:
        try:
            self.act()
            value = await self._function()(*self.call[0], **self.call[1])
        except BaseException as error:
            self._failed(error)
        else:
            self._done(value)

    def _done(self, value: Any) -> None:
        executing.set(None)
        self.process.runtime.steps.running.pop(self.task, None)  # type: ignore[arg-type]
        if not self.dead:
            self._note_seen()
            self._note_probed()
            self._took_place()
            self.process.arrive(self, True, value)

    def _took_place(self) -> None:
        if self.turn is not None and self.turn.order == "ordered":
            self.turn.note()

    def _failed(self, error: BaseException) -> None:
        executing.set(None)
        self.process.runtime.steps.running.pop(self.task, None)  # type: ignore[arg-type]
        if self.dead or isinstance(error, GeneratorExit | KeyboardInterrupt):
            if not isinstance(error, asyncio.CancelledError):
                return
            raise error
        if isinstance(error, SystemExit):
            error = RuntimeError(f"step {self.step.name} called sys.exit({error.code!r})")
        elif isinstance(error, asyncio.CancelledError):
            error = RuntimeError(f"step {self.step.name} was cancelled from inside")
        if self.refused is not None and str(self.refused) not in str(error):
            error.add_note(f"Before that, {self.refused}")  # whoever caught it took it for something else
        self._note_seen()
        self._note_probed()
        self._took_place()
        self.process.arrive(self, False, error)

    # --- retries, time limits, queues, threads -----------------------------------------------------------

    async def _run_with_care(self) -> None:
        retry = self.step.retries
        try:
            self.attempts = await self._catch_up()
            while True:
                try:
                    value = await self._attempt()
                    break
                except Exception as error:
                    if isinstance(error, ExecutorLost) and self.step.effect == "at_most_once":
                        raise
                    if retry is None or self.attempts >= retry.attempts or not isinstance(error, retry.on):
                        raise
                    asked = getattr(error, "retry_after", None) or 0.0  # a provider says when to come back
                    wait = max(retry.wait(self.attempts, _jitter.random()), asked)
                    self._note_attempt(error, wait)
                    await self._idly(asyncio.sleep(wait))
                    self.attempts += 1
        except ExecutorLost as lost:
            if self.step.effect == "at_most_once" and not self.dead:
                self.process.runtime.steps.running.pop(self.task, None)  # type: ignore[arg-type]
                self.unknown(str(lost))
            else:
                self._failed(lost)
        except BaseException as error:
            self._failed(error)
        else:
            self._done(value)

    async def _catch_up(self) -> int:
        """The number of the attempt to make: a restart goes on counting, and waits what was left to wait."""
        tried = self.process.history.tried.get(self.number)
        if tried is None:
            return 1
        await self._idly(asyncio.sleep(max(0.0, tried.again - self.process.runtime.clock())))
        return tried.attempt + 1

    async def _idly(self, wait: Awaitable[None]) -> None:
        self.idle = True
        await wait
        self.idle = False

    def _note_attempt(self, error: Exception, wait: float) -> None:
        self._note_probed()
        process = self.process
        now = process.runtime.clock()
        value = self.process.runtime.journal.value(process.id, encode(error))
        record = Attempt(now, self.number, self.name, self.attempts, value, now + wait)
        self.process.runtime.append(process, record)
        self.process.runtime.kick()

    async def _attempt(self) -> Any:
        host = self.process.runtime.host
        if self.step.queue is not None:
            admitted: asyncio.Future[None] = host.create_future()
            gate = self.process.runtime.gates[self.step.queue]
            place = f"{self.process.id}:{self.number}:{self.attempts}"
            tenant = self.process.row.tenant
            cost = self._cost() if gate.queue.amounts else {}
            self.ticket = gate.enter(place, tenant, self.step.priority, cost, partial(settle, admitted, None))
            try:
                await self._idly(admitted)
                if self._announce():
                    await self.process.runtime.journal.barrier()
                return await self._limited()
            finally:
                self.ticket.release()
        return await self._limited()

    def _cost(self) -> Mapping[str, float]:
        """The most that it may take, by kind."""
        if not self.price:
            self.price = price_of(self)
        return self.price

    async def _limited(self) -> Any:
        self.act()
        try:
            return await self._in_time()
        finally:
            executing.set(None)

    async def _in_time(self) -> Any:
        if self.step.executor is not None:
            from weft.runtime.ray import carry_out

            return await carry_out(self)
        timeout = self.step.timeout
        if timeout is None:
            return await self._call()
        try:
            async with asyncio.timeout(timeout) as limit:
                return await self._call()
        except TimeoutError:
            if not limit.expired():
                raise
            raise self.late() from None

    def late(self) -> StepTimeout:
        return StepTimeout(
            f"step {self.step.name} did not finish within {self.step.timeout:g} s (attempt {self.attempts}); "
            f"raise its timeout or give it retries"
        )

    async def _call(self) -> Any:
        step = self.step
        if step.is_async:
            return await self._function()(*self.call[0], **self.call[1])
        context = contextvars.copy_context()
        call = partial(context.run, partial(self._function(), *self.call[0], **self.call[1]))
        return await self.process.runtime.host.run_in_executor(self.process.runtime.steps.threads, call)

    # --- at most once ------------------------------------------------------------------------------------

    def unknown(self, why: str = "the process died") -> None:
        """Whoever ran it died while this was in flight: whether it happened, nobody knows."""
        step, process = self.step, self.process
        if step.on_unknown == "done":
            process.arrive(self, True, None)
        elif step.on_unknown == "ask":
            process.mail.receive(f"unknown:{step.name}", self)
        else:
            process.arrive(
                self,
                False,
                UnknownOutcome(
                    f"step {step.name} ({self.place}) was in flight when {why}; it is declared "
                    f"at_most_once, so it is not run again: find out whether it happened, then continue with "
                    f"weft fork {process.id} --at {self.number} --value RESULT"
                ),
            )


def _launch(pending: Any) -> None:
    pending.begin()
