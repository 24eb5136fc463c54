"""What a step does in its middle, and whether it may: as it looks to a watched step, and to a primitive of Weft that a
step calls by itself.

It is too late then to ask a person, or to count a use: what would need either is refused, and the refusal says how to
declare it. A decision is written down when the step's attempt is over (`weft.runtime.execute`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.core.authority import Decision as Verdict
from weft.core.capability import Request
from weft.core.errors import Denied
from weft.core.label import Label
from weft.core.needs import Need
from weft.core.pattern import compiled
from weft.runtime import flow
from weft.runtime.protect import refusal

if TYPE_CHECKING:
    from weft.runtime.execute import Execution

_LATE = ", so it must be known before the step begins"


def touched(execution: Execution, asked: Sequence[Request]) -> Denied | None:
    """What a watched step does in its middle: None, or why it must not. In any thread; writes nothing."""
    unknown = [one for one in asked if one not in execution.requests]
    return _decided(execution, unknown, _declare(asked[0])) or flow.touch(execution, asked)


def further(execution: Execution, asked: Request, instead: str) -> None:
    """See `Crossing.further`."""
    refused: Denied | None = None
    if asked not in execution.requests:
        refused = _decided(execution, [asked], instead)
    if refused := refused or flow.touch(execution, [asked]):
        raise refused


def may(execution: Execution, asked: Request) -> bool:
    """See `Crossing.may`."""
    verdict = execution.rights.decide(asked)
    allowed = verdict.verdict == "allow" and verdict.by is not None and not execution.rights.limited((verdict.by,))
    if allowed:
        flow.learn(execution, asked)
    else:
        execution.seen[asked] = verdict
    return allowed


def closer(execution: Execution, asked: Request, instead: str) -> None:
    """See `Crossing.closer`."""
    protected = execution.protected
    holder = execution.rights
    flow.learn(execution, asked)
    verdict = holder.decide(asked, reserved=() if protected is None else protected.uses)
    approved = protected is not None and protected.said_yes()
    if verdict.missing or (verdict.verdict == "ask" and approved):
        return
    execution.seen[asked] = verdict
    if verdict.verdict == "deny":
        raise holder.denied(asked, verdict)
    if verdict.verdict == "ask":
        raise Denied(*asked, f"a person is to be asked{_LATE}", instead)


def _decided(execution: Execution, asked: Sequence[Request], instead: str) -> Denied | None:
    holder = execution.rights
    decided = [(one, execution.seen.get(one) or holder.decide(one)) for one in asked]
    execution.seen.update(decided)
    if refused := refusal(holder, decided):
        return refused
    for one, verdict in decided:
        if verdict.verdict == "ask":
            return Denied(*one, f"a person is to be asked{_LATE}", instead)
        if verdict.by is not None and holder.limited((verdict.by,)):
            return Denied(*one, f"it may be done only so often{_LATE}", instead)
    return None


def as_refused(execution: Execution, verdict: Verdict) -> Verdict:
    """What is written down of a decision in the middle of a step: too late to ask, or to count a use, is a refusal."""
    by = () if verdict.by is None else (verdict.by,)
    uses = () if execution.protected is None else execution.protected.uses
    late = verdict.verdict == "ask" or any(number not in uses for number in execution.rights.limited(by))
    return verdict._replace(verdict="deny") if late else verdict


def looked_up(execution: Execution, resource: str) -> list[Request]:
    """What a look-up of a host's addresses asks for, which says no port: a connection to one that may be allowed."""
    host = resource.rpartition(":")[0]
    held = execution.rights.authority.capabilities
    patterns = {each for one in held if "net.connect" in one.actions and one.effect == "allow" for each in one.patterns}
    ports = sorted({getattr(compiled("net", pattern), "first", 443) for pattern in patterns})
    for port in ports:
        asked = Request("net.connect", f"{host}:{port}")
        if execution.rights.decide(asked).verdict == "allow":
            return [asked]
    return [Request("net.connect", f"{host}:443")]


def _declare(asked: Request) -> str:
    """What to do so that a step's act is known before it begins."""
    return f'declare it: @weft.step(needs="{asked.action}:...") with the step\'s own arguments, or call a tool of Weft'


class Inner:
    """A primitive that a step called by itself: a crossing in the name of that step."""

    watched = False

    def __init__(self, outer: Execution, needs: Sequence[Need], arguments: Mapping[str, Any]) -> None:
        self.outer = outer
        self.run = outer.run
        self.number = outer.number
        self.workspace = outer.workspace
        self.attempts = outer.attempts
        self.again = outer.again
        self.probes = outer.probes
        self.charge = outer.charge
        self.hold_back = outer.hold_back
        self.resources = outer.resources
        self.priority = outer.priority
        self.took = outer.took
        self.traceparent = outer.traceparent
        self.at_leave = outer.at_leave
        self.brings = outer.brings
        self.requests = [one for need in needs for one in need.asked(arguments, self.workspace)]
        if self.requests and (refused := touched(outer, self.requests)):
            raise refused

    @property
    def full(self) -> Label:
        """See `Crossing.full`."""
        return self.outer.full

    def further(self, asked: Request, instead: str) -> None:
        """See `Crossing.further`."""
        further(self.outer, asked, instead)

    def closer(self, asked: Request, instead: str) -> None:
        """See `Crossing.closer`."""
        closer(self.outer, asked, instead)

    def may(self, asked: Request) -> bool:
        """See `Crossing.may`."""
        return may(self.outer, asked)

    def within(self, needs: Sequence[Need], arguments: Mapping[str, Any]) -> Inner:
        """See `Crossing.within`."""
        return Inner(self.outer, needs, arguments)
