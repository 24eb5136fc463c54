"""The one place that every effect passes on its way out: is it allowed, asked for, paid for, and written down?

Most effects of a program are free: a capability allows their action on every resource, and nothing restricts it. The
others are *protected*: each request is decided on its resource; people are asked where a capability says so; limited
uses are set apart; budgets are reserved; all that is durable before the effect begins. In the moment it begins it is
decided once more, for meanwhile a right may have been revoked.

After a crash, what was set apart for an effect that had not begun is free again (`rights._spent`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from weft.core.authority import Decision as Verdict
from weft.core.capability import Request
from weft.core.errors import BadInput, BudgetExceeded, Denied, WeftError
from weft.core.record import Decision, Reserved, content_hash
from weft.core.resource import request
from weft.runtime.enforce import names
from weft.runtime.ledger import Bill
from weft.runtime.rights import Holder

if TYPE_CHECKING:
    from weft.runtime.execute import Execution
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process

ACTION = {
    "sleep": "clock.read", "now": "clock.read", "random": "chance.draw", "uuid": "chance.draw",
    "spawn": "process.spawn", "detach": "process.spawn", "publish": "event.publish", "send": "process.send",
    "ask": "human.ask", "signal": "process.signal", "exec": "process.exec", "step": "step.run",
}  # fmt: skip
"""What a kind of effect does; the others (waits for what others do, timers of the loop) are nobody's business."""


PAID = frozenset({"step", "spend"})
"""Kinds of effects that a budget pays for."""


def launch(process: Process, pending: Pending) -> None:
    """Begin an effect on the host, if it may."""
    holder = pending.holder or process.rights
    action = ACTION.get(pending.kind) if pending.kind != "step" else pending.action
    if action is not None and (by := holder.free.get(action)) is not None:
        pending.by = by
        action = None
    if (
        pending.is_unknown(process)
        or (action is None
        and not pending.needs
        and (process.account is None or pending.kind not in PAID))
    ):
        pending.launch(pending)
    else:
        Protected(process, pending, holder, action).prepare()


def check(process: Process, kind: str, name: str) -> tuple[int, ...]:
    """For effects whose outcome is known at once: the capabilities that allow it. Raises Denied."""
    action = ACTION.get(kind)
    holder = process.holder()
    if action is None:
        return ()
    by = holder.free.get(action)
    if by is None:
        asked = Request(action, name)
        verdict = holder.decide(asked)
        if verdict.verdict != "allow":
            note(process, process.issued, asked, verdict)
            raise holder.denied(asked, verdict)
        by = () if verdict.by is None else (verdict.by,)
    return by


def note(process: Process, effect: int, asked: Request, verdict: Verdict) -> None:
    """Write a decision down."""
    record = Decision(process.runtime.clock(), effect, *asked, verdict.verdict, verdict.by)
    process.runtime.append(process, record)


class Protected:
    """An effect that is not free, from the decision until it begins."""

    def __init__(self, process: Process, pending: Pending, holder: Holder, action: str | None) -> None:
        self.process = process
        self.pending = pending
        self.holder = holder
        self.action = action
        self.requests: list[Request] = []
        begun = process.history.intents.get(pending.number)
        self.uses = process.history.reserved.get(pending.number, ()) if begun is not None and begun.intent else ()
        """Those that are set apart for it; from before a crash, if it had begun."""
        self.epoch = -1
        """Of the rights when it was decided."""

    # --- prepare -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        runtime = self.process.runtime
        self.pending.protected = self
        self.pending.host = self
        try:
            self.requests = self._requests()
        except WeftError as error:
            self._refuse(error)
            return
        if runtime.rights.current():
            self._decide()
        else:
            runtime.task(self._ask_store())

    async def _ask_store(self) -> None:
        """Others may have revoked something."""
        await self.process.runtime.rights.refresh()
        if self.pending.protected is self:
            self._decide()

    def _requests(self) -> list[Request]:
        pending = self.pending
        found = [] if self.action is None else [Request(self.action, pending.name)]
        if pending.needs:
            step: Any = pending
            arguments = step.arguments()
            workspace = self.holder.image.workspace
            found += [request(need.action, need.resource(arguments), workspace) for need in pending.needs]
        return found

    def _decide(self) -> None:
        process, holder = self.process, self.holder
        self.epoch = holder.rights.epoch
        verdicts = [holder.decide(asked, reserved=self.uses) for asked in self.requests]
        asking = []
        for asked, verdict in zip(self.requests, verdicts, strict=True):
            if verdict.verdict == "ask" and not self._said_yes():
                asking.append(asked)
                continue
            note(process, self.pending.number, asked, verdict)
            if verdict.verdict == "deny":
                self._refuse(holder.denied(asked, verdict))
                return
        self.pending.by = tuple(dict.fromkeys(v.by for v in verdicts if v.by is not None))
        if asking:
            process.runtime.people.approve(self, asking)
        else:
            self._reserve()

    def _said_yes(self) -> bool:
        """Whether a person has approved exactly this."""
        approved = self.process.history.approved.get(self.pending.number)
        return approved is not None and approved.verdict != "never" and approved.binding == self.binding()

    def approved(self) -> None:
        """A person has: decide again, for time has passed."""
        self._decide()

    def binding(self) -> bytes:
        """Digest of what would be done: by which code, with which arguments, to what."""
        code = repr((self.pending.kind, self.pending.name, self.pending.version))
        return content_hash(code.encode() + self.pending.args)

    # --- reserve -------------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        process = self.process
        limited = self.holder.limited(self.pending.by)
        if limited and limited != self.uses:
            self.uses = limited
            process.rights.used.update(limited)
            process.runtime.append(process, Reserved(process.runtime.clock(), self.pending.number, limited))
        if process.account is not None and self.pending.kind in PAID:
            bill = self.pending.bill = Bill(process, self.pending, self.pending.price)
            bill.reserve(self._reserved)
        else:
            self.go()

    def _reserved(self, refused: BudgetExceeded | None) -> None:
        if self.pending.protected is not self:
            if self.pending.bill is not None:
                self.pending.bill.settle(begun=False)  # given up meanwhile
        elif refused is not None:
            self.release()
            self._refuse(refused)
        else:
            self.go()

    def go(self) -> None:
        """All is prepared."""
        self.pending.host = None
        self.pending.launch(self.pending)

    # --- act, settle ------------------------------------------------------------------------------------------

    def recheck(self) -> None:
        """In the moment it begins. Raises Denied."""
        if self.epoch == self.holder.rights.epoch and not self.holder.temporary:
            return  # nothing that could say otherwise has changed
        for asked in self.requests:
            verdict = self.holder.decide(asked, reserved=self.uses)
            if verdict.verdict == "deny" or (verdict.verdict == "ask" and not self._said_yes()):
                note(self.process, self.pending.number, asked, verdict)
                raise self.holder.denied(asked, verdict)

    def release(self) -> None:
        """It will not begin: what was set apart for it is free again."""
        if self.uses:
            self.process.rights.used.subtract(self.uses)
            self.process.runtime.append(self.process, Reserved(self.process.runtime.clock(), self.pending.number, ()))
            self.uses = ()

    def cancel(self) -> None:
        """The body gave it up before it began."""
        self.pending.protected = None
        self.release()

    def _refuse(self, error: Exception) -> None:
        self.process.arrive(self.pending, False, error)


def touched(execution: Execution, action: str, said: str) -> Denied | None:
    """What a watched step does in its middle: None, or why it must not. In any thread; writes nothing."""
    holder = execution.holder or execution.process.rights
    try:
        asked = _said(action, said)
    except BadInput as error:
        return Denied(action, said, str(error))
    if execution.protected is not None and asked in execution.protected.requests:
        return None  # it said so, and was allowed to
    verdict = holder.decide(asked)
    execution.seen[action, said] = (asked, verdict)
    if verdict.verdict == "deny":
        return holder.denied(asked, verdict)
    if verdict.verdict == "ask":
        return Denied(*asked, f"a person is to be asked{_LATE}", _declare(asked))
    if verdict.by is not None and holder.limited((verdict.by,)):
        return Denied(*asked, f"it may be done only so often{_LATE}", _declare(asked))
    return None


_LATE = ", so it must be known before the step begins"


def _said(action: str, said: str) -> Request:
    """Relative paths are those of the interpreter's folder; an address may have been reached by a name."""
    known: Iterable[str] = ()
    if action == "net.connect":
        known = sorted(names.get(said.rpartition(":")[0].strip("[]"), ()))
    return request(action, said, os.getcwd(), known)


def _declare(asked: Request) -> str:
    return f'declare it: @weft.step(needs="{asked.action}:...") with the step\'s own arguments, or call a tool of Weft'
