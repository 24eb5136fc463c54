"""Queues: at most so many at once, at most so many starts or so much in a while, the most urgent first.

Who is let in is decided in the store, for all runtimes that share it (`Store.admit`). Here is what one runtime has
in line: its own processes, its steps, and how much room there is for processes that wait for any worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.core.queue import Queue
from weft.runtime.look import Look
from weft.store.base import ProcessRow, Want

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime


class Ticket:
    """A step's place in a queue. `release` gives it back, whether it was admitted yet or not."""

    __slots__ = ("begun", "gate", "live", "then", "took", "want")

    def __init__(self, gate: Gate, want: Want, then: Callable[[], None]) -> None:
        self.gate = gate
        self.want = want
        self.then = then
        self.live = True
        self.begun = False
        self.took: dict[str, float] = {}
        """What the step says that it took really, by kind."""

    @property
    def waits(self) -> bool:
        """It has not been let in."""
        return self.live and self.want.ticket in self.gate.tickets

    def charge(self, spent: Mapping[str, float]) -> None:
        """The step says what it took, in place of what it was to take."""
        for kind in spent.keys() & self.want.amounts.keys():
            self.took[kind] = self.took.get(kind, 0.0) + spent[kind]

    def release(self) -> None:
        if self.live:
            self.live = False
            self.gate.released(self)


class Gate:
    """One queue, as this runtime sees it."""

    def __init__(self, runtime: Runtime, queue: Queue) -> None:
        self.runtime = runtime
        self.queue = queue
        self.tickets: dict[str, Ticket] = {}
        """Those that wait."""
        self.wants: list[Want] = []
        """Those of them that the store does not know yet."""
        self.processes: dict[str, Callable[[ProcessRow], None]] = {}
        """Processes of this runtime that wait, and what to do when they are let in."""
        self._look = Look(runtime, self._see)
        self._anew = False
        self._pausing = 0
        """Pauses that are being written: who was told of one must not slip in before the store knows it."""
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, id: str, tenant: str, priority: int, cost: Mapping[str, float], then: Callable[[], None]) -> Ticket:
        """Call `then` when the step is let in. `cost`: the most that it may take, by kind."""
        want = Want(id, tenant, priority, {kind: cost.get(kind, 0.0) for kind in self.queue.amounts})
        ticket = self.tickets[id] = Ticket(self, want, then)
        self.wants.append(want)
        self.poke()
        return ticket

    def queue_up(self, id: str, then: Callable[[ProcessRow], None]) -> None:
        """Call `then` when process `id` of this runtime, whose row is being written, is let in."""
        self.processes[id] = then
        self.runtime.journal.when_durable(self.poke)

    def released(self, ticket: Ticket) -> None:
        id = ticket.want.ticket
        self.tickets.pop(id, None)
        self.wants = [want for want in self.wants if want.ticket != id]
        self.leave(id, ticket.took if ticket.begun else None)

    def free(self) -> None:
        """A place becomes free with what is written next."""
        self.runtime.journal.when_durable(self.poke)
        self.runtime.kick()

    def leave(self, ticket: str, took: Mapping[str, float] | None) -> None:
        """The same for a step's place. `took`: of the amounts, as far as it said; None: it never began."""
        batch = self.runtime.journal.batch
        batch.released[ticket] = self.queue.name
        if self.queue.amounts and (took or took is None):
            batch.took[ticket] = dict(took or {})
        self.free()

    def pause(self, seconds: float) -> None:
        """Nobody is let in for so long, from when this is written on. For any thread."""
        if asyncio._get_running_loop() is not self.runtime.host:
            self.runtime.host.call_soon_threadsafe(self.pause, seconds)
            return
        journal = self.runtime.journal
        pauses = journal.batch.pauses
        pauses[self.queue.name] = max(seconds, pauses.get(self.queue.name, 0.0))
        self._pausing += 1
        journal.when_durable(self._paused)
        self.runtime.kick()

    def _paused(self) -> None:
        self._pausing -= 1
        self.poke()

    def poke(self) -> None:
        """Somebody may be let in."""
        if not self._waited_for() or self.runtime.closing:
            return
        self._look.ask()

    def ask_anew(self) -> None:
        """The store may have let in some of ours, and its answer got lost: name them all once more."""
        self._anew = True
        self.poke()

    def _waited_for(self) -> bool:
        return bool(self.tickets or self.processes or self.runtime.room(self.queue.name))

    async def _see(self) -> None:
        if self._pausing:
            return  # comes again when they are written
        runtime = self.runtime
        wants, self.wants = self.wants, []
        if self._anew:  # no other answer is on its way
            self._anew = False
            wants = [ticket.want for ticket in self.tickets.values()]
        room = runtime.room(self.queue.name)
        with runtime.recovery.reading() as left:
            admission = await runtime.store.admit(runtime.owner, self.queue, wants, room)
            for id in admission.tickets:
                ticket = self.tickets.pop(id, None)
                if ticket is None:
                    self.leave(id, None)  # given up meanwhile
                else:
                    self._begin(ticket)
            for row in admission.rows:
                if not self.let_in(row) and row.id not in runtime.active:
                    await runtime.recovery.take([row], left)
        if admission.again is not None:
            self._later(admission.again)

    def _begin(self, ticket: Ticket) -> None:
        worker = self.runtime.worker
        if worker is not None and worker.begins(ticket.want.ticket.rsplit(":", 2)[0]):
            self.runtime.journal.when_durable(ticket.then)
        else:
            ticket.then()

    def let_in(self, row: ProcessRow) -> bool:
        """Let a process begin that the store has admitted; False if it was not in line here."""
        then = self.processes.pop(row.id, None)
        if then is not None:
            then(row)
        return then is not None

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()  # what was taken really may be less than was said, so it may be sooner
        self._timer = self.runtime.host.call_later(max(seconds, 0.001), self._time)

    def _time(self) -> None:
        self._timer = None
        self.poke()


class Gates:
    """All queues of a runtime, by name; two declarations of one name must agree."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.gates: dict[str, Gate] = {}

    def __getitem__(self, queue: Queue) -> Gate:
        gate = self.gates.get(queue.name)
        if gate is None:
            gate = self.gates[queue.name] = Gate(self.runtime, queue)
        elif not gate.queue.limited:
            gate.queue = queue
        elif gate.queue != queue and queue.limited:
            raise BadInput(f"queue {queue.name!r} is declared twice, as {gate.queue} and {queue}; declare it once")
        return gate

    def poke(self) -> None:
        for gate in self.gates.values():
            gate.poke()

    def ask_anew(self) -> None:
        for gate in self.gates.values():
            gate.ask_anew()
