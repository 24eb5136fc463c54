"""The one place that every effect passes on its way out: is it allowed, asked for, paid for, and written down?

Most effects of a program are free: a capability allows their action on every resource, and nothing restricts it. The
others are *protected*: each request is decided on its resource; people are asked where a capability says so; limited
uses are set apart; budgets are reserved; all that is durable before the effect begins. In the moment it begins it is
decided once more, for meanwhile a right may have been revoked.

After a crash, what was set apart for an effect that had not begun is free again (`rights._spent`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.core.authority import Decision as Verdict
from weft.core.authority import suggest
from weft.core.capability import Request
from weft.core.errors import BudgetExceeded, Denied
from weft.core.label import PUBLIC, Label
from weft.core.record import Decision, Reserved, content_hash
from weft.core.sealed import SEAL, held
from weft.runtime import flow
from weft.runtime.ledger import Bill
from weft.runtime.rights import Holder

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process

ACTION = {
    "sleep": "clock.read", "now": "clock.read", "random": "chance.draw", "uuid": "chance.draw",
    "spawn": "process.spawn", "detach": "process.spawn", "publish": "event.publish", "send": "process.send",
    "ask": "human.ask", "signal": "process.signal", "exec": "process.exec", "step": "step.run",
    "checkpoint": "checkpoint.create",
    "memory.read": "memory.read", "memory.names": "memory.read", "memory.tools": "memory.read",
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
        if (pending.load is None and process.rules is None) or not flow.concerns(process, pending, action):
            action = None
    if pending.is_unknown(process) or (
        action is None and not pending.needs and (process.account is None or pending.kind not in PAID)
    ):
        pending.launch(pending)
    else:
        Protected(process, pending, holder, action).prepare()


def check(process: Process, kind: str, name: str, args: bytes) -> tuple[int, ...]:
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
    if process.rules is not None:
        asked, value = Request(action, name), flow.digest(kind, name, "", args)
        label = process.mark | held(args)
        flow.passes(process, process.issued, value, label, asked, process.rules.clearance(asked))
    return by


def note(process: Process, effect: int, asked: Request, verdict: Verdict, label: str = "") -> None:
    """Write a decision down, without secrets. `label`: what went there, or would have gone."""
    resource = process.runtime.journal.redactor.redact_text(asked.resource)
    record = Decision(process.runtime.clock(), effect, asked.action, resource, verdict.verdict, verdict.by, label)
    process.runtime.append(process, record)


class Protected:
    """An effect that is not free, from the decision until it begins."""

    __slots__ = (
        "action", "epoch", "holder", "own", "pending", "process", "released", "requests", "sinks", "taken", "uses",
    )  # fmt: skip

    def __init__(self, process: Process, pending: Pending, holder: Holder, action: str | None) -> None:
        self.process = process
        self.pending = pending
        self.holder = holder
        self.action = action
        self.own = pending.by
        """What allows its own action, if that is free."""
        self.requests: list[Request] = []
        begun = process.history.intents.get(pending.number)
        self.uses = process.history.reserved.get(pending.number, ()) if begun is not None and begun.intent else ()
        """Those that are set apart for it; from before a crash, if it had begun."""
        self.sinks: Sequence[Request] = ()
        """Where a person must let it take what it carries."""
        self.taken: tuple[int, ...] = ()
        """Releases that it takes."""
        self.released: dict[Request, Label] = {}
        """What it may take where, by those."""
        self.epoch = -1
        """Of the rights when it was decided."""

    # --- prepare -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        runtime = self.process.runtime
        self.pending.protected = self
        self.pending.host = self
        try:
            self.requests = self._requests()
        except Exception as error:  # arguments that mean nothing, or do not fit
            self._refuse(error)
            return
        if runtime.rights.current():
            self._decide()
        else:
            parkable = self.pending.parkable
            self.process.rests(self.pending, False)  # in its middle, nothing would wake it
            runtime.task(self._ask_store(parkable))

    async def _ask_store(self, parkable: bool) -> None:
        """Others may have revoked something."""
        await self.process.runtime.rights.refresh()
        if self.pending.protected is self:
            self.process.rests(self.pending, parkable)
            self._decide()

    def _requests(self) -> list[Request]:
        pending = self.pending
        found = [] if self.action is None else [Request(self.action, pending.name)]
        if pending.needs:
            step: Any = pending
            found += self._needed(step.arguments())
        return found

    def _needed(self, arguments: Mapping[str, Any]) -> list[Request]:
        workspace = self.holder.image.workspace
        return [one for need in self.pending.needs for one in need.asked(arguments, workspace)]

    def _decide(self) -> None:
        process, holder = self.process, self.holder
        if self.pending.noted:  # it may have been asked about before this process left memory
            process.runtime.people.settled(process, self.pending)
        self.epoch = holder.rights.epoch
        verdicts = [holder.decide(asked, reserved=self.uses) for asked in self.requests]
        unlabelled = process.rules is None and self.pending.load is None
        if unlabelled and len(verdicts) == 1 and verdicts[0].verdict == "allow":
            self._allowed(self.requests[0], verdicts[0])  # the usual case: there is nothing to weigh
            return
        decided = list(zip(self.requests, verdicts, strict=True))
        asking = [asked for asked, verdict in decided if verdict.verdict == "ask" and not self.said_yes()]
        labels = flow.carries(self)
        for (asked, verdict), label in zip(decided, labels, strict=True):
            if asked not in asking:
                carried = "" if verdict.verdict == "deny" else flow.worth_saying(asked, label)
                note(process, self.pending.number, asked, verdict, carried)
        if refused := refusal(holder, decided):
            self._refuse(refused)
            return
        by = (v.by for v in verdicts if v.by is not None)
        self.pending.by = tuple(dict.fromkeys((*self.own, *by)))
        admitted = flow.admit(self, labels)
        self.sinks = admitted.asking
        if (kept := admitted.refused) is not None:
            note(process, self.pending.number, Request(kept.action, kept.resource), flow.DENIED, kept.label)
            self._refuse(kept)
        elif asking or self.sinks:
            process.runtime.people.approve(self, asking, self.sinks)
        else:
            self.taken = admitted.taken
            self._reserve()

    def _allowed(self, asked: Request, verdict: Verdict) -> None:
        note(self.process, self.pending.number, asked, verdict)
        by = verdict.by
        self.pending.by = self.own if by is None or by in self.own else (*self.own, by)
        self.sinks, self.taken = (), ()
        self._reserve()

    def said_yes(self) -> bool:
        """Whether a person has approved exactly this."""
        approved = self.process.history.approved.get(self.pending.number)
        return approved is not None and approved.verdict != "never" and approved.binding == self.binding()

    def approved(self) -> None:
        """A person has: decide again, for time has passed."""
        self._decide()

    def asks(self) -> bool:
        """Whether a person is to be asked, as things stand."""
        return bool(self.sinks) or any(self.holder.decide(asked).verdict == "ask" for asked in self.requests)

    def binding(self) -> bytes:
        """Digest of what would be done: by which code, with which arguments, to what (a link may lead elsewhere by
        the time that somebody answers)."""
        what = repr((self.pending.kind, self.pending.name, self.pending.version, self.requests))
        return content_hash(what.encode("utf-8", "surrogatepass") + self.pending.args)

    # --- reserve -------------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        process = self.process
        limited = self.holder.limited(self.pending.by) + self.taken
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
            if verdict.verdict == "deny" or (verdict.verdict == "ask" and not self.said_yes()):
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
        pending = self.pending
        if pending.load is not None:
            pending.load.brought = PUBLIC  # it will not begin
            if SEAL in pending.args and not self._tells():
                pending.load.given = PUBLIC
        self.process.arrive(pending, False, error)

    def _tells(self) -> bool:
        """Whether what it asked for, which an error names, depends on what its sealed arguments hold."""
        step: Any = self.pending
        if self.pending.kind != "step":
            return False
        try:
            closed = self._needed(step.step.arguments(*step.closed))
        except Exception:
            return True
        asked = self.requests[len(self.requests) - len(closed) :]
        return closed != asked or not self.requests or callable(step.step.cost)


def refusal(holder: Holder, decided: Iterable[tuple[Request, Verdict]]) -> Denied | None:
    """The error if any of these is denied: by whom, or all that would have to be allowed."""
    denied = [(asked, verdict) for asked, verdict in decided if verdict.verdict == "deny"]
    if not denied:
        return None
    error = holder.denied(*min(denied, key=lambda each: each[1].missing))
    missing = [asked for asked, verdict in denied if verdict.missing]
    if len(missing) > 1 and len(missing) == len(denied):
        words = " ".join(f"--allow {shlex.quote(spec)}" for spec in suggest(missing, holder.image.workspace))
        error = Denied(error.action, error.resource, error.why, f"allow it with: {words}")
    return error
