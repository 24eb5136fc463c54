"""`with weft.grant(...)`: more rights for what a script starts, fewer for a part of a workflow's body.

In a body both must agree: the process on what it holds (so uses, revocations and what people said count as they do
outside), and the block on what it lets through. A right is known by its number in the process, whatever the block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from weft.core.authority import Authority, Decision, line
from weft.core.boundary import boundary
from weft.core.capability import Capability, Request, parse
from weft.core.errors import BadInput, Denied
from weft.core.pattern import EVERYTHING
from weft.runtime.policy import Policy
from weft.runtime.rights import WATCHED, By, Holder, free_of, granted, narrowed


@contextlib.contextmanager
def grant(*specs: str) -> Iterator[None]:
    """Rights for what is started within: ``with weft.grant("read:./docs", "net:api.github.com:443"): weft.run(...)``.

    In a script it adds to the policy of the runs started in the block. In a workflow's body it only narrows: effects
    and children of the block may do what the process may do and `specs` say. Raises BadInput for a spec that is wrong.
    """
    process = boundary()
    if process is None:
        Policy(allow=specs)
        token = granted.set((*granted.get(), *specs))
        try:
            yield
        finally:
            granted.reset(token)
        return
    held: Holder = narrowed.get() or process.rights
    left = narrowed.set(narrow(held, specs, process.clock))
    try:
        yield
    finally:
        narrowed.reset(left)


def narrow(held: Holder, specs: Iterable[str], now: float) -> Narrowed:
    """Of these rights, what `specs` leave. `now`: the body's time, which is the same on replay."""
    wanted = [parse(spec, workspace=held.image.workspace, issuer=held.id, now=now) for spec in specs]
    if limited := next((one for one in wanted if one.uses is not None), None):
        raise BadInput(
            f"weft.grant(...) in a body can't count uses (of {', '.join(limited.actions)}), for a replay would count "
            f"anew; give them to a child: child.options(rights=[...])"
        )
    if isinstance(held, Narrowed):
        return Narrowed(held.whole, _meet(held.specs, wanted))
    return Narrowed(held, wanted)


class Narrowed(Holder):
    """What a block leaves of the rights of a process."""

    __slots__ = ("_filter", "specs", "whole")

    def __init__(self, whole: Holder, specs: Sequence[Capability]) -> None:
        self.whole = whole
        self.specs = tuple(specs)
        self._filter = Authority(whole.id, specs)
        self.rights, self.id, self.hash, self.image = whole.rights, whole.id, whole.hash, whole.image
        self.temporary = whole.temporary or any(one.expires is not None for one in specs)

    @property
    def authority(self) -> Authority:  # type: ignore[override]
        return self.whole.authority

    @property
    def watched(self) -> bool:
        return self.whole.watched or not all(action in self.free for action in WATCHED)

    @property
    def free(self) -> Mapping[str, By]:
        through = free_of(self.specs, self.id, set())
        return {action: by for action, by in self.whole.free.items() if action in through}

    def decide(self, request: Request, reserved: Sequence[int] = ()) -> Decision:
        found = self.whole.decide(request, reserved)
        through = self._filter.decide(request, now=self.rights.runtime.clock())
        if found.verdict == "deny" or through.verdict == "allow":
            return found
        if through.verdict == "ask" and found.by is not None and self.authority.capabilities[found.by].approval:
            return found
        return Decision(through.verdict, None, through.missing)

    def hand_on(self, wanted: Sequence[Capability] | None) -> tuple[list[Capability], By]:
        return self.whole.hand_on(self.specs if wanted is None else _meet(self.specs, wanted))

    def denied(self, request: Request, decision: Decision) -> Denied:
        if decision.by is not None or self.whole.decide(request).verdict == "deny":
            return self.whole.denied(request, decision)
        spec = line(request, self.image.workspace).removeprefix("--allow ")
        return Denied(
            *request, "the `with weft.grant(...)` around it lets only other things through", f"add {spec} there"
        )


def _meet(first: Sequence[Capability], second: Sequence[Capability]) -> list[Capability]:
    """What both let through; what either asks for or denies stays so."""
    met = [one for one in (*first, *second) if one.effect != "allow"]
    for one in first:
        for other in second:
            actions = tuple(action for action in one.actions if action in other.actions)
            if actions and one.effect == other.effect == "allow":
                met.append(_both(one, other, actions))
    return met


def _both(one: Capability, other: Capability, actions: tuple[str, ...]) -> Capability:
    patterns = dict.fromkeys(pattern for pattern in (*one.patterns, *other.patterns) if pattern != EVERYTHING)
    ends = [end for end in (one.expires, other.expires) if end is not None]
    return replace(
        one,
        actions=actions,
        patterns=tuple(patterns) or (EVERYTHING,),
        depth=min(one.depth, other.depth),
        expires=min(ends, default=None),
        uses=other.uses,
    )
