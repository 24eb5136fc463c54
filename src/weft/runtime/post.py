"""Letters and events between processes, wherever they are executed.

Both are rows of the store, written in the transaction of the sender's record; the receiver is told when they are
durable. Other operating-system processes notice by `Store.changed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.core.capability import Request
from weft.core.codec import encode
from weft.core.errors import StoreError, UnknownRun, WeftError
from weft.core.label import PUBLIC, Label
from weft.core.sealed import carried, carry
from weft.runtime import flow
from weft.runtime.look import Look
from weft.store.base import FINISHED, Message, ProcessRow
from weft.store.handover import check_present

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime


class Post:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.watchers: dict[str, list[tuple[Process, Pending]]] = {}
        self._look = Look(runtime, self._see)

    # --- letters -----------------------------------------------------------------------------------------

    def put(self, to: str, box: str, value: Any, label: Label = PUBLIC) -> None:
        """Write a letter with this turn's records; tell the receiver once it is durable. `label`: what the sender
        carries."""
        journal = self.runtime.journal
        payload = carry(journal.clean(encode(value, f"letter to {box}")), label)
        journal.batch.messages.append(Message(0, to, box, payload))
        journal.when_durable(lambda: self.runtime.task(self.deliver(to)))
        self.runtime.kick()

    async def deliver(self, to: str) -> None:
        """Hand the letters in the store to process `to`, if it is ours."""
        try:
            if to in self.runtime.active:
                self._put(await self.runtime.store.inbox([to]))
            else:
                await self.runtime.recovery.revive([to])
        except StoreError as error:
            self.runtime.fault(error)

    def _put(self, letters: list[Message]) -> None:
        for letter in letters:
            process = self.runtime.active.get(letter.process)
            if process is not None:
                process.mail.put([letter])

    async def address(self, to: str) -> ProcessRow:
        """The row of process `to`, or of the one that goes on in its place. Raises UnknownRun unless it exists and has
        not ended, RunBusy if it is only being moved here."""
        row = await self.runtime.ends.present(to)
        check_present(row)
        if row.state in FINISHED:
            raise UnknownRun(f"run {to} has ended ({row.state}); nobody will receive a letter there")
        return row

    def send_from(self, process: Process, pending: Pending, *, to: str, box: str, value: Any, mark: Label) -> None:
        """A body's send: the letter leaves with the record of its outcome. `mark`: what the body had seen."""

        async def send() -> None:
            try:
                row = await self.address(to)
                content, asked = flow.value_of(pending), Request("process.send", to)
                flow.to_process(process, pending.number, content, pending.label, asked, row.tenant)
            except WeftError as error:
                process.arrive(pending, False, error)
            else:
                process.arrive(pending, True, None, lambda _: self.put(row.id, box, value, mark))

        self.runtime.task(send())

    # --- events ------------------------------------------------------------------------------------------

    def publish(self, process: Process, key: str, value: Any) -> None:
        journal = self.runtime.journal
        payload = carry(journal.clean(encode(value, f"event {key}")), process.mark)
        journal.batch.events.append((key, payload, process.id))
        journal.when_durable(lambda: self._published(key, payload))

    def _published(self, key: str, payload: bytes) -> None:
        self._tell(key, payload)
        self.look()  # some of those that wait are parked

    def watch(self, process: Process, pending: Pending) -> None:
        """Deliver the event that `pending` waits for: the one there is, or the next one."""
        self.watchers.setdefault(pending.name, []).append((process, pending))

        async def look() -> None:
            try:
                await self.runtime.journal.barrier()
                await self.runtime.store.follow(self.runtime.owner, [pending.name])
                for key, payload in (await self.runtime.store.events([pending.name])).items():
                    self._tell(key, payload)
            except StoreError as error:
                self.runtime.fault(error)

        self.runtime.task(look())

    def _tell(self, key: str, payload: bytes) -> None:
        for process, pending in self.watchers.pop(key, ()):
            value, label = carried(payload)
            pending.brings(label)
            process.arrive(pending, True, value)

    # --- from elsewhere ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Something may have come: letters and events for processes here, in memory or parked."""
        self._look.ask()

    async def _see(self) -> None:
        runtime = self.runtime
        if self.watchers:
            for key, payload in (await runtime.store.events(list(self.watchers))).items():
                self._tell(key, payload)
        called = await runtime.store.news(runtime.owner)
        active = [id for id in called if id in runtime.active]
        if active:
            self._put(await runtime.store.inbox(active))
        await runtime.recovery.revive([id for id in called if id not in runtime.active])
        await runtime.alarms.look()
