"""One execution of a workflow: its body, the effects it has issued, and the journal that decides what it sees.

The body runs on its own loop until nothing is ready. Then one outcome is delivered, and it runs again. While
the journal still has records, outcomes come from there (*replay*); after its end they come from the host, and
each is appended to the journal in the moment it is delivered. So the journal is the order of deliveries, and
running the body on it again is the same run.

Effects are numbered in the order the body issues them. A record names the number, kind, name and arguments of
its effect: the first that differs from what the code issues is a `Divergence`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from weft.core.codec import decode, decode_args, encode, encode_args
from weft.core.errors import WeftError
from weft.core.label import PUBLIC, Label
from weft.core.record import Cancel, Outcome, Patch
from weft.core.sealed import Labelled
from weft.core.step import Step
from weft.core.workflow import Workflow, find_workflow
from weft.runtime import flow
from weft.runtime.beginning import Beginning
from weft.runtime.children import Children
from weft.runtime.deadlock import deadlocked
from weft.runtime.divergence import diverged
from weft.runtime.execute import Execution
from weft.runtime.history import History
from weft.runtime.leaving import abort, end, finish
from weft.runtime.loop import BodyLoop, Timer, follow
from weft.runtime.mail import Mail
from weft.runtime.pending import NOTHING, Also, Launch, Pending, Stopped
from weft.runtime.protect import check, launch
from weft.runtime.replay import replay
from weft.runtime.rights import Holder, narrowed
from weft.runtime.signals import Signals
from weft.runtime.turns import turning
from weft.runtime.writing import Writing
from weft.store.base import FAILED, ProcessRow

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


class Process(Writing):
    """The boundary of one body. All methods run on the host's thread."""

    def __init__(self, runtime: Runtime, row: ProcessRow, begin: Beginning, length: int = 0) -> None:
        """`length`: records that its journal has. Its input and its image are in memory."""
        super().__init__(runtime, row, length)
        self.clock = begin.at
        self.loop = BodyLoop(self)
        self.main: asyncio.Task[Any] | None = None
        self._begin(begin)
        self.account: str | None = row.id if self.rights.image.budget is not None else self.rights.image.account
        """The process whose budget it spends first, if there is one."""
        self.live = False
        self.blobs: dict[bytes, bytes] = {}
        self.pending: dict[int, Pending] = {}
        self.busy = 0  # pending effects that can't be parked
        self.arrived: deque[tuple[Pending | None, bool, Any, Also | None]] = deque()
        self.mail: Mail = Mail(self)
        self.children = Children(self)
        self.signals = Signals(self)
        self.patches: dict[str, bool] = {}
        self.queued = False  # in the runtime's turn
        self.over = False
        self.stopping = False
        self.error: WeftError | None = None  # why the body had to be stopped
        self.leave: Callable[[], None] | None = None  # what comes when the body has been left by its own will
        self.idle_since = 0.0

    def _begin(self, begin: Beginning) -> None:
        assert isinstance(begin.input, bytes)
        self.workflow = begin.workflow
        self.input = begin.input
        self.issued = begin.number
        self.history = History(begin.records, self.runtime.journal.clean)
        self.rights: Holder = self.runtime.rights.holder(begin.holder, begin.image, begin.held)
        self.mark: Label = self.rights.image.mark
        """What the body has seen (`weft.runtime.flow`)."""
        self.rules = self.runtime.rights.rules(self.rights.image)

    # --- running the body ------------------------------------------------------------------------------

    def pump(self) -> None:
        """Deliver what has arrived, one at a time, letting the body come to rest after each."""
        if self.over:
            return
        with self.loop.running():
            if self.main is None:
                fresh = not self.row.started
                if fresh:
                    self.clock = self.row.started = self.runtime.clock()
                    self.runtime.put(self.row)
                self.main = self.loop.create_task(self._main())
                if self.arrived and fresh:
                    self.main.cancel()  # all that can come first is a cancellation: the body never begins
                self.loop.drain()
            if not self.live and not replay(self):
                return  # waits for a large payload, or was stopped
            while not self.main.done():
                if self.error is not None:
                    abort(self, self.error)
                    return
                if not self.arrived:
                    break
                self._deliver(*self.arrived.popleft())
                self.loop.drain()
            if self.main.done():
                finish(self)
            elif not self.pending:
                end(self, FAILED, encode(deadlocked(self)))
            elif self.signals.held:
                self.signals.rest()
        self.idle_since = self.runtime.clock()

    async def _main(self) -> Any:
        args, kwargs = decode_args(self.input)
        self.input = b""
        try:
            result = await find_workflow(self.workflow).fn(*args, **kwargs)
        except BaseException:
            if not self.stopping:
                await self.children.stop()
            raise
        await self.children.finish()
        return result

    # --- issuing effects ---------------------------------------------------------------------------------

    def issue(
        self, kind: str, name: str, place: str, args: bytes, launch: Launch, *, deadline: float | None = None,
        timer: Timer | None = None,
    ) -> Pending:  # fmt: skip
        """A new effect, launched at once if live; its `future` is the outcome (a timer has a callback instead)."""
        pending = Pending(kind, name, place, args, launch)
        pending.timer, pending.deadline = timer, deadline
        self.enlist(pending)
        return pending

    def enlist(self, pending: Pending) -> None:
        """Number an effect and launch it, or let the replay decide."""
        if self.stopping:
            raise Stopped
        self.issued = pending.number = self.issued + 1
        pending.issued = self.clock
        if pending.timer is None:
            pending.line = follow(pending.number)
        pending.future = asyncio.Future(loop=self.loop)  # type: ignore[arg-type]
        self.pending[pending.number] = pending
        self.busy += not pending.parkable
        pending.holder = narrowed.get()
        if self.mark is not PUBLIC:
            pending.laden().given |= self.mark
        if self.live and not self.signals.held:
            launch(self, pending)

    async def outcome(self, pending: Pending) -> Any:
        try:
            return await pending.future
        except asyncio.CancelledError:
            self.given_up(pending)
            raise

    def given_up(self, pending: Pending) -> None:
        """The wait for an effect ended in a cancellation: was it the wait that was cancelled?"""
        if pending.number in self.pending and pending.future.cancelled():
            self.drop(pending)

    async def step(
        self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: str, sealed: bool = False
    ) -> Any:
        data = encode_args(args, kwargs, step.name, step.names)
        history = self.history
        if history and not self.loop.ready:
            # Replaying, and this body's next delivery is this very effect's with nothing else to run before it:
            # going through the loop would come to the same.
            record = history.order[history.cursor]
            if (
                type(record) is Outcome
                and record.effect == self.issued + 1
                and type(record.value) is bytes
                and history.fits(record, "step", step.name, data)
                and not self.stopping
            ):
                self.issued += 1
                follow(self.issued)
                history.cursor += 1
                self.clock = record.at
                if record.label is not None:
                    self.mark |= record.label
                if record.turn and (turns := turning.get()) is not None:
                    turns.passed(record.turn)
                if record.ok:
                    return decode(record.value)
                raise decode(record.value)
        call = Execution(self, step, args, kwargs, place, data)
        if step.order != "none" and (turns := turning.get()) is not None:
            call.turn = turns.enter(step.order)
        if sealed:
            call.laden().sealed = True
        self.enlist(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self.given_up(call)
            raise

    def immediate(
        self,
        kind: str,
        name: str,
        place: str,
        args: bytes,
        make: Callable[[int], Any],
        also: Also | None = None,
        label: Label | None = None,
    ) -> Any:
        """An effect whose outcome is known at once: recorded at this point of the order, without a wait."""
        if self.stopping:
            raise Stopped
        self.issued = number = self.issued + 1
        line, issued = follow(number), self.clock
        record = self.history.next()
        if record is not None:
            if (
                type(record) is not Outcome
                or record.effect != number
                or not self.history.fits(record, kind, name, args)
            ):
                self.error = diverged(self, record, Pending(kind, name, place, args, _never))
                raise Stopped
            self.history.cursor += 1
            self.clock = record.at
            assert isinstance(record.value, bytes)
            if record.label is not None:
                self.mark |= record.label
            if not record.ok:
                raise decode(record.value)
            return decode(record.value)
        try:
            by = check(self, kind, name, args)
            value = make(number)
        except WeftError as error:
            self.record(number, kind, name, place, args, encode(error), False, issued=issued, line=line)
            raise
        data = self.runtime.journal.value(self.id, encode(value))
        self.record(number, kind, name, place, args, data, True, by=by, label=label, issued=issued, line=line)
        if label is not None:
            self.mark |= label
        if also is not None:
            also(value)
        return value

    def open(self, label: Label, place: str) -> None:
        """The body looks into a handle."""
        if not label.flows_to(self.mark):
            self.immediate("open", str(label), place, NOTHING, lambda _: None, label=label)

    def patched(self, id: str) -> bool:
        known = self.patches.get(id)
        if known is None:
            record = self.history.next()
            if record is not None:
                known = type(record) is Patch and record.id == id
                self.history.cursor += known
            elif any(number > self.issued for number in self.history.intents):
                known = False
            else:
                known = True
                self.append(Patch(self.tick(), id))
            self.patches[id] = known
        return known

    def holder(self) -> Holder:
        """The rights of the code that is running in the body now."""
        return narrowed.get() or self.rights

    def set_timer(self, timer: Timer) -> int:
        alarm = partial(self.runtime.alarms.set, self)
        return self.issue("timer", "timer", "", NOTHING, alarm, deadline=timer.deadline, timer=timer).number

    def drop_timer(self, number: int) -> None:
        pending = self.pending.get(number)
        if pending is not None:
            self.drop(pending)

    def drop(self, pending: Pending) -> None:
        """The body no longer waits for this effect: stop working on it."""
        self.forget(pending)
        if pending.turn is not None:
            pending.turn.over()
        if pending.host is not None:
            pending.host.cancel()
            pending.host = None
        if pending.bill is not None and not self.stopping:
            pending.bill.settle(begun=pending.started > 0)

    async def call(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: str,
        sealed: bool = False,
    ) -> Any:  # fmt: skip
        await self.pay({"children": 1}, place)
        return await self.children.join(self.children.spawn(workflow, args, kwargs, place, owned=True), place, sealed)

    async def pay(self, price: dict[str, float], place: str) -> None:
        """Charge the budget, if there is one, for something that is no step. Raises BudgetExceeded."""
        if self.account is not None:
            data = encode_args((), dict(sorted(price.items())), "spend")
            pending = Pending("spend", "spend", place, data, partial(_paid, self))
            pending.price = price
            self.enlist(pending)
            await self.outcome(pending)

    # --- another program ---------------------------------------------------------------------------------------

    def depart(self, then: Callable[[], None]) -> None:
        """The body is to be left: all its tasks are cancelled, and when they are over comes `then`."""
        self.leave = then
        assert self.main is not None
        self.main.cancel()

    def become(self, begin: Beginning) -> None:
        """Go on as another program, under the same name."""
        before = self.rights
        self._begin(begin)
        if before.id == self.rights.id:
            self.rights.inherit(before)
        self.patches = {}
        self.main = self.loop.create_task(self._main())
        self.loop.drain()
        self.runtime.wake(self)

    # --- outcomes ---------------------------------------------------------------------------------------------

    def arrive(self, pending: Pending | None, ok: bool, value: Any, also: Also | None = None) -> None:
        """Something became known on the host; `pending` None is a request to cancel the body."""
        self.arrived.append((pending, ok, value, also))
        self.runtime.wake(self)

    def _deliver(self, pending: Pending | None, ok: bool, value: Any, also: Also | None) -> None:
        if pending is None:
            assert self.main is not None
            self.append(Cancel(self.tick(), "cancelled", self._learn(value)))
            if also is not None:
                also(value)
            self.main.cancel()
            return
        if self.pending.get(pending.number) is not pending or pending.future.done():
            return  # the body gave it up meanwhile
        self.forget(pending)
        pending.host = None
        label = None
        if pending.load is not None:
            if pending.load.sealed and ok:
                value = Labelled(value, pending.full)
            else:
                label = self._learn(_told(pending))
        if pending.timer is None:
            try:
                data = encode(value, f"{pending.name}() result") if type(value) not in _ATOMS else encode(value)
            except Exception as error:
                data, ok = encode(error), False
                label = self._learn(_told(pending))
            clean = self.runtime.journal.clean(data)
            stored = self.runtime.journal.keep(self.id, clean)
            if clean is not data or type(value) not in _ATOMS:
                # What the body sees must be what it will see on replay: no aliases, no secrets, rebuilt errors.
                seen = decode(clean)
                if not ok and isinstance(value, BaseException) and isinstance(seen, BaseException):
                    seen.__traceback__ = value.__traceback__
                value = seen
        else:
            stored = _NONE
        self.record(
            pending.number, pending.kind, pending.name, pending.place, pending.args, stored, ok, pending.started,
            pending.attempts, pending.by, label, pending.impact,
            (0, 0) if pending.turn is None else pending.turn.said(), pending.usage, pending.role, pending.issued,
            pending.line, pending.spent,
        )  # fmt: skip
        if pending.turn is not None:
            self.runtime.journal.when_durable(pending.turn.over)
        if also is not None:
            also(value)
        if pending.bill is not None:
            pending.bill.settle(begun=pending.started > 0)
        self.resolve(pending, ok, value)

    def _learn(self, label: Label) -> Label | None:
        """The body sees what carries this; returns it if that is more than it has seen."""
        if label.flows_to(self.mark):
            return None
        self.mark |= label
        return label

    def released(self, payload: bytes) -> None:
        """A letter says that a value may go where its label may not."""
        flow.take(self, payload)

    def resolve(self, pending: Pending, ok: bool, value: Any) -> None:
        if pending.timer is not None:
            if pending.timer.live:
                self.loop.ready.append(pending.timer)
        elif not pending.future.done():
            if ok:
                pending.future.set_result(value)
            elif isinstance(value, StopIteration):  # a future refuses it
                pending.future.set_exception(RuntimeError(f"{pending.name} raised StopIteration"))
            else:
                pending.future.set_exception(value)

    def forget(self, pending: Pending) -> None:
        if self.pending.pop(pending.number, None) is not None:
            self.busy -= not pending.parkable

    def rests(self, pending: Pending, rests: bool) -> None:
        """Whether the process may leave memory while it waits for this effect."""
        if pending.parkable != rests and pending.number in self.pending:
            pending.parkable = rests
            self.busy += -1 if rests else 1

    def complain(self, context: dict[str, Any]) -> None:
        """asyncio's words about a task or future of this body that nobody looked at."""
        if self.live and not self.stopping:
            error = context.get("exception")
            self.runtime.log.error("%s %s: %s", self.workflow, self.id, context.get("message"), exc_info=error)


def _told(pending: Pending) -> Label:
    """What an outcome carries: of what the effect was given only that of which the outcome was made."""
    if pending.load is None:
        return PUBLIC
    return pending.full if pending.kind == "step" else pending.load.brought


def _paid(process: Process, pending: Pending) -> None:
    pending.started = process.runtime.clock()
    process.arrive(pending, True, None)


def _never(pending: Pending) -> None:
    raise AssertionError("an effect that is only described is never launched")


_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
_NONE = encode(None)
