"""Owned children: a parent ends after them, its cancellation reaches them, and their failure reaches it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from weft.core.capability import Request
from weft.core.codec import encode_args
from weft.core.errors import Cancelled
from weft.core.sealed import held
from weft.core.workflow import Workflow
from weft.runtime import flow, scan
from weft.runtime.mail import CANCEL_BOX
from weft.runtime.pending import NOTHING

if TYPE_CHECKING:
    from weft.runtime.process import Process
    from weft.store.base import ProcessRow


class Children:
    """Those of one process that were spawned and not yet seen to end."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.open: dict[str, None] = {}  # in the order of their spawning
        self.told: set[str] = set()  # to stop

    def spawn(
        self, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: str, *, owned: bool
    ) -> str:
        """Start a process; its row is written with the record of this effect. Returns its id."""
        scan.check(workflow.fn)
        workflow.bind(args, kwargs)
        process, runtime = self.process, self.process.runtime
        data = runtime.journal.clean(encode_args(args, kwargs, workflow.name, workflow.names))
        rows: list[ProcessRow] = []

        def make(number: int) -> str:
            if workflow.tenant:
                value, label = flow.digest(kind, workflow.name, "", data), process.mark | held(data)
                flow.to_process(process, number, value, label, Request("process.spawn", workflow.name), workflow.tenant)
            rows.append(runtime.starting.new_row(workflow, data, parent=process))
            return rows[0].id

        kind = "spawn" if owned else "detach"
        id: str = process.immediate(
            kind, workflow.name, place, data, make, lambda _: runtime.starting.begin(rows[0], data)
        )
        if owned:
            self.open[id] = None
        return id

    async def join(self, child: str, place: str = "", sealed: bool = False) -> Any:
        """A child's result (`sealed`: as a handle); its failure is raised here. Cancelling the wait cancels the
        child."""
        process = self.process
        data = encode_args((child,), {}, "child")
        pending = process.issue("child", child, place, data, lambda p: process.runtime.ends.join(process, p, child))
        if sealed:
            pending.laden().sealed = True
        try:
            result = await process.outcome(pending)
        except asyncio.CancelledError:
            if pending.future.cancelled() and not process.stopping:
                self.cancel(child)
                raise  # it is still open: the parent waits for its end before its own
            self.open.pop(child, None)
            raise
        except BaseException:
            self.open.pop(child, None)
            raise
        self.open.pop(child, None)
        return result

    def cancel(self, child: str) -> None:
        if child in self.told:
            return
        self.told.add(child)
        process = self.process
        process.immediate("cancel", child, "", NOTHING, lambda _: None, lambda _: self._ask(child))

    def _ask(self, child: str) -> None:
        """It is to stop, or what goes on in its place."""
        process, runtime = self.process, self.process.runtime
        runtime.post.put(runtime.ends.known_heir(child), CANCEL_BOX, None, process.mark)

    async def finish(self) -> None:
        """The parent is done: wait for the rest, and fail with the first of them that fails."""
        while self.open:
            child = next(iter(self.open))
            try:
                await self.join(child)
            except Cancelled:
                if child not in self.told:
                    raise

    async def stop(self) -> None:
        """The parent has failed or was cancelled: so are they, and it waits for them."""
        for child in list(self.open):
            self.cancel(child)
        for child in list(self.open):
            try:
                await self.join(child)
            except Exception as error:  # the parent's own failure is the one to tell
                self.process.runtime.log.debug("child %s of failed %s: %s", child, self.process.id, error)
