"""Authorities: the capabilities of one process, and what they say of a request.

Deny goes before approval (what a human allowed), approval before ask, ask before allow; what nobody allowed is denied.
Handing on concatenates patterns, and a capability matches only what all its patterns match: so a child never exceeds
its ancestors, whatever the patterns mean. After Agent libOS (arXiv 2606.03895): attenuation, deny dominates.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from weft.core.capability import ACTIONS, Capability, Request, Verdict
from weft.core.pattern import Subject, compiled, subject

Identity = tuple[str, int]
"""A capability: the process that holds it, and its number (its place in that process's list, from 0)."""

_NONE: Mapping[int, int] = MappingProxyType({})


class Decision(NamedTuple):
    """What an authority says of a request. `by`: the number of the capability that decided; `missing`: denied
    because none spoke of it."""

    verdict: Verdict
    by: int | None
    missing: bool


class _Entry:
    """One capability as one action sees it: its identity, its matchers, what ends it."""

    __slots__ = ("approval", "expires", "identities", "matchers", "number", "uses", "verdict")

    def __init__(
        self, number: int, capability: Capability, identities: tuple[Identity, ...], matchers: tuple[Any, ...]
    ):
        self.number = number
        self.verdict = capability.effect
        self.approval = capability.approval
        self.expires = capability.expires
        self.uses = capability.uses if capability.effect == "allow" else None
        self.identities = identities
        self.matchers = matchers

    def lives(self, now: float, revoked: Container[Identity], used: Mapping[int, int]) -> bool:
        """Whether it is neither expired, nor revoked here or above, nor used up."""
        if self.expires is not None and self.expires <= now:
            return False
        if self.uses is not None and used.get(self.number, 0) >= self.uses:
            return False
        return not revoked or not any(identity in revoked for identity in self.identities)


class _Shelf:
    """The capabilities that speak of one action, filed by what their patterns begin with."""

    __slots__ = ("allows", "blocking", "blocks", "limited")

    def __init__(self) -> None:
        self.blocks: dict[str, list[_Entry]] = {}
        self.blocking: list[_Entry] = []
        self.allows: dict[str, list[_Entry]] = {}
        self.limited: dict[str, list[_Entry]] = {}

    def put(self, entry: _Entry) -> None:
        """File it under its narrowest pattern: the one with the longest beginning."""
        if entry.verdict != "allow":
            key = max((matcher.wide_key for matcher in entry.matchers), key=len)
            self.blocks.setdefault(key, []).append(entry)
            self.blocking.append(entry)
            return
        shelf = self.allows if entry.uses is None else self.limited
        shelf.setdefault(max((matcher.key for matcher in entry.matchers), key=len), []).append(entry)

    def block(self, what: Subject, now: float, revoked: Container[Identity]) -> _Entry | None:
        """The first deny that lives and matches, else the first ask."""
        rows = (
            [self.blocking] if what.everywhere else [self.blocks[key] for key in what.wide_keys if key in self.blocks]
        )
        denies: _Entry | None = None
        asks: _Entry | None = None
        for row in rows:
            for entry in row:
                best = denies if entry.verdict == "deny" else asks
                if best is not None and best.number < entry.number:
                    continue
                if entry.lives(now, revoked, _NONE) and all(matcher.catches(what) for matcher in entry.matchers):
                    if entry.verdict == "deny":
                        denies = entry
                    else:
                        asks = entry
        return denies or asks

    def allow(
        self, what: Subject, now: float, revoked: Container[Identity], used: Mapping[int, int], approved: bool
    ) -> _Entry | None:
        """The first allow that lives and matches (`approved`: by a human); one without a limit of uses goes first."""
        for shelf in (self.allows, self.limited):
            best: _Entry | None = None
            for key in what.keys if shelf else ():
                for entry in shelf.get(key, ()):
                    if best is not None and best.number < entry.number:
                        break
                    if (
                        (entry.approval or not approved)
                        and entry.lives(now, revoked, used)
                        and all(matcher.allows(what) for matcher in entry.matchers)
                    ):
                        best = entry
                        break
            if best is not None:
                return best
        return None


class Authority:
    """What `process` may do: immutable; a grant makes a new one. Thread-safe."""

    def __init__(self, process: str, capabilities: Sequence[Capability]) -> None:
        self.process = process
        self.capabilities = tuple(capabilities)
        self._shelves: dict[str, _Shelf] = {}
        for number, capability in enumerate(self.capabilities):
            self._file(number, capability)

    def _file(self, number: int, capability: Capability) -> None:
        identities = self._identities(number, capability)
        for kind in {ACTIONS[action] for action in capability.actions}:
            matchers = tuple(compiled(kind, pattern) for pattern in capability.patterns)
            entry = _Entry(number, capability, identities, matchers)
            for action in capability.actions:
                if ACTIONS[action] == kind:
                    self._shelves.setdefault(action, _Shelf()).put(entry)

    def _identities(self, number: int, capability: Capability) -> tuple[Identity, ...]:
        """Those of which any, revoked, ends it: an allow ends with any it was handed on from; a deny or ask only with
        the first one, or revoking it in the middle would let a child exceed its ancestors."""
        own = (self.process, number)
        if capability.effect == "allow":
            return (*capability.lineage, own)
        return capability.lineage[:1] or (own,)

    def decide(
        self,
        request: Request,
        *,
        now: float,
        revoked: Container[Identity] = (),
        used: Mapping[int, int] = _NONE,
    ) -> Decision:
        """Whether the request is allowed. `now`: seconds since the epoch; `revoked`: (process, number) of all revoked
        capabilities, whosever; `used`: uses taken so far, by number."""
        shelf = self._shelves.get(request.action)
        what = subject(ACTIONS[request.action], request.resource) if shelf is not None else None
        if shelf is None or what is None:
            return _MISSING
        block = shelf.block(what, now, revoked) if shelf.blocking else None
        if block is not None and block.verdict == "deny":
            return Decision("deny", block.number, False)
        allow = shelf.allow(what, now, revoked, used, approved=block is not None)
        if allow is not None:
            return Decision("allow", allow.number, False)
        return _MISSING if block is None else Decision("ask", block.number, False)

    def limited(self, number: int) -> int | None:
        """How many uses the capability was granted; None: no limit, nothing to reserve."""
        return self.capabilities[number].uses


_MISSING = Decision("deny", None, True)
