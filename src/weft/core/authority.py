"""Authorities: the capabilities of one process, and what they say of a request.

Deny goes before approval (what a human allowed), approval before ask, ask before allow; what nobody allowed is denied.
Handing on concatenates patterns, and a capability matches only what all its patterns match: so a child never exceeds
its ancestors, whatever the patterns mean. After Agent libOS (arXiv 2606.03895): attenuation, deny dominates.
"""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import structs

from weft.core.capability import ACTIONS, Capability, Request, Verdict, actions_of, render
from weft.core.errors import BadInput
from weft.core.pattern import EVERYTHING, Kind, Matcher, Subject, compiled, cover, exact, overlap, subject
from weft.core.pattern.tree import Cut

Identity = tuple[str, int]
"""A capability: the process that holds it, and its number (its place in that process's list, from 0)."""

_NONE: Mapping[int, int] = MappingProxyType({})


class Decision(NamedTuple):
    """What an authority says of a request. `by`: the number of the capability that decided; `missing`: denied
    because none spoke of it."""

    verdict: Verdict
    by: int | None
    missing: bool


class Delegation(NamedTuple):
    """What another process gets. `taken`: uses that leave the holder, by its capability's number; `unmet`: those
    asked for of which nothing is held."""

    capabilities: list[Capability]
    taken: dict[int, int]
    unmet: list[Capability]


class _Entry:
    """One capability as one action sees it: its identity, its matchers, what ends it."""

    __slots__ = ("approval", "expires", "identities", "matchers", "number", "uses", "verdict")

    def __init__(
        self, number: int, capability: Capability, identities: tuple[Identity, ...], matchers: tuple[Matcher, ...]
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
        if revoked:
            for identity in self.identities:
                if identity in revoked:
                    return False
        return True

    def allows(self, what: Subject) -> bool:
        """Whether all its patterns match exactly."""
        for matcher in self.matchers:  # noqa: SIM110  (all(...) takes twice the time)
            if not matcher.allows(what):
                return False
        return True

    def catches(self, what: Subject) -> bool:
        """Whether all its patterns match in any spelling."""
        return all(matcher.catches(what) for matcher in self.matchers)


class _Rows:
    """Entries filed under a key of theirs, each row in the order of numbers."""

    __slots__ = ("cuts", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, list[_Entry]] = {}
        self.cuts: set[Cut] = set()

    def put(self, entry: _Entry, key: str, cut: Cut | None) -> None:
        """File it."""
        self.rows.setdefault(key, []).append(entry)
        if cut is not None:
            self.cuts.add(cut)

    def find(self, keys: list[str]) -> list[list[_Entry]]:
        """The rows under these keys."""
        rows = self.rows
        return [rows[key] for key in keys if key in rows]


class _Shelf:
    """The capabilities that speak of one action, filed by what their patterns begin with."""

    __slots__ = ("all_blocks", "allows", "blocks", "limited")

    def __init__(self) -> None:
        self.blocks, self.allows, self.limited = _Rows(), _Rows(), _Rows()
        self.all_blocks: list[_Entry] = []

    def put(self, entry: _Entry) -> None:
        """File it under its narrowest pattern: the one with the longest beginning."""
        if entry.verdict != "allow":
            chosen = max(entry.matchers, key=lambda matcher: len(matcher.wide_key))
            self.blocks.put(entry, chosen.wide_key, chosen.wide_key_cut)
            self.all_blocks.append(entry)
            return
        chosen = max(entry.matchers, key=lambda matcher: len(matcher.key))
        (self.allows if entry.uses is None else self.limited).put(entry, chosen.key, chosen.key_cut)

    def block(self, what: Subject, now: float, revoked: Container[Identity]) -> _Entry | None:
        """The first deny that lives and matches, else the first ask."""
        if what.everywhere:
            rows = [self.all_blocks]
        else:
            rows = self.blocks.find(what.wide_keys)
            if self.blocks.cuts:
                rows += self.blocks.find(what.wide_cut(self.blocks.cuts))
        denies: _Entry | None = None
        asks: _Entry | None = None
        for row in rows:
            for entry in row:
                best = denies if entry.verdict == "deny" else asks
                if best is not None and best.number <= entry.number:
                    continue
                if entry.lives(now, revoked, _NONE) and entry.catches(what):
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
            if not shelf.rows:
                continue
            rows = shelf.find(what.keys)
            if shelf.cuts:
                rows += shelf.find(what.cut(shelf.cuts))
            best: _Entry | None = None
            for row in rows:
                for entry in row:
                    if best is not None and best.number <= entry.number:
                        break
                    if (entry.approval or not approved) and entry.lives(now, revoked, used) and entry.allows(what):
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
        self.counts = any(one.uses is not None for one in self.capabilities)
        """Whether any may be used only so often."""
        self._shelves: dict[str, _Shelf] = {}

    def _shelf(self, action: str) -> _Shelf:
        """The index for an action, made when it is first needed: most processes do a few kinds of things."""
        shelf, kind = _Shelf(), ACTIONS[action]
        for number, capability in enumerate(self.capabilities):
            if action in capability.actions:
                matchers = tuple([compiled(kind, pattern) for pattern in capability.patterns])
                shelf.put(_Entry(number, capability, self._identities(number, capability), matchers))
        self._shelves[action] = shelf
        return shelf

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
        kind = ACTIONS.get(request.action)
        what = None if kind is None else subject(kind, request.resource)
        if what is None:
            return _MISSING
        shelf = self._shelves.get(request.action) or self._shelf(request.action)
        block = shelf.block(what, now, revoked) if shelf.all_blocks else None
        if block is not None and block.verdict == "deny":
            return Decision("deny", block.number, False)
        allow = shelf.allow(what, now, revoked, used, approved=block is not None)
        if allow is not None:
            return Decision("allow", allow.number, False)
        return _MISSING if block is None else Decision("ask", block.number, False)

    def delegate(
        self,
        specs: Sequence[Capability] | None,
        to: str,
        *,
        now: float,
        revoked: Container[Identity] = (),
        used: Mapping[int, int] = _NONE,
    ) -> Delegation:
        """What process `to` gets: of all that may be handed on (None), or of `specs`, narrowed to what is held here.
        Denies and asks always come along. Counted uses are moved, not copied: take `taken` from this process.
        Raises BadInput if `to` is this process."""
        if to == self.process:
            raise BadInput(f"process {to} cannot hand capabilities on to itself")
        given, held = [], []
        taken: dict[int, int] = {}
        for number, capability in enumerate(self.capabilities):
            if not self.lives(number, now, revoked, used):
                continue
            if capability.effect != "allow":
                given.append(self._handed(number, capability))
            elif capability.depth > 0:
                held.append(number)
        if specs is None:
            for number in held:
                left = self._left(number, used, taken)
                if left is not None:
                    taken[number] = left
                given.append(self._handed(number, self.capabilities[number], uses=left))
            return Delegation(given, taken, [])
        unmet = []
        for spec in specs:
            if spec.effect != "allow":
                given.append(structs.replace(spec, lineage=(), uses=None))
            elif carried := self._carry(spec, held, used, taken):
                given += carried
            else:
                unmet.append(spec)
        return Delegation(given, taken, unmet)

    def _carry(
        self, spec: Capability, held: Sequence[int], used: Mapping[int, int], taken: dict[int, int]
    ) -> list[Capability]:
        """The capabilities that carry a spec, one for each held one that overlaps with it. Its uses are dealt out
        among them: first to those that cover all of it, then to those without a limit."""
        carriers = [number for number in held if _overlap(self.capabilities[number], spec)]
        covers = {number for number in carriers if _covers(self.capabilities[number], spec)}
        carriers.sort(key=lambda number: (number not in covers, self.capabilities[number].uses is not None, number))
        given = []
        wanted, satisfied = spec.uses, False
        for number in carriers:
            holder, left = self.capabilities[number], self._left(number, used, taken)
            if wanted == 0 or left == 0 or (satisfied and left is not None):
                continue
            uses = wanted if left is None else left if wanted is None else min(left, wanted)
            if left is not None and uses is not None:
                taken[number] = taken.get(number, 0) + uses
            wanted = wanted if wanted is None or uses is None else wanted - uses
            satisfied = satisfied or (left is None and number in covers)
            given.append(
                self._handed(
                    number,
                    holder,
                    uses=uses,
                    actions=tuple(action for action in holder.actions if action in spec.actions),
                    patterns=_both(holder.patterns, spec.patterns),
                    depth=min(holder.depth - 1, spec.depth),
                    expires=min((each for each in (holder.expires, spec.expires) if each is not None), default=None),
                    note=spec.note or holder.note,
                )
            )
        return given

    def _handed(self, number: int, capability: Capability, **changes: Any) -> Capability:
        """The capability as it is handed on, one level down (a deny or ask goes down without end)."""
        lineage = (*capability.lineage, (self.process, number))
        depth = capability.depth - 1 if capability.effect == "allow" else capability.depth
        return structs.replace(capability, **{"lineage": lineage, "depth": depth, **changes})

    def _left(self, number: int, used: Mapping[int, int], taken: Mapping[int, int]) -> int | None:
        uses = self.capabilities[number].uses
        return None if uses is None else max(0, uses - used.get(number, 0) - taken.get(number, 0))

    def lives(
        self, number: int, now: float, revoked: Container[Identity] = (), used: Mapping[int, int] = _NONE
    ) -> bool:
        """Whether a capability is neither expired, nor revoked here or above, nor used up."""
        capability = self.capabilities[number]
        return _Entry(number, capability, self._identities(number, capability), ()).lives(now, revoked, used)

    def lapsed(self, request: Request) -> int | None:
        """The number of a capability that would allow the request, had it not expired, been revoked or used up."""
        decision = self.decide(request, now=float("-inf"))
        return decision.by if decision.verdict == "allow" else None

    def limited(self, number: int) -> int | None:
        """How many uses the capability was granted; None: no limit, nothing to reserve."""
        return self.capabilities[number].uses


_MISSING = Decision("deny", None, True)


def _overlap(held: Capability, spec: Capability) -> bool:
    """Whether something may match both."""
    kinds = {ACTIONS[action] for action in held.actions if action in spec.actions}
    return any(all(overlap(kind, one, two) for one in held.patterns for two in spec.patterns) for kind in kinds)


def _covers(held: Capability, spec: Capability) -> bool:
    """Whether all that the spec allows is surely allowed by what is held."""
    return set(held.actions).issuperset(spec.actions) and all(
        any(cover(ACTIONS[action], one, two) for two in spec.patterns)
        for action in spec.actions
        for one in held.patterns
    )


def _both(held: tuple[str, ...], spec: tuple[str, ...]) -> tuple[str, ...]:
    """The patterns of a capability that matches what both match."""
    together = tuple(dict.fromkeys(pattern for pattern in (*held, *spec) if pattern != EVERYTHING))
    return together or (EVERYTHING,)


def suggest(requests: Iterable[Request], workspace: Path | str) -> list[str]:
    """The narrowest specs that allow exactly these requests: paths, hosts with ports, commands word for word.
    Actions on the same file are put together; paths below `workspace` are relative to it."""
    actions: dict[tuple[Kind, str], set[str]] = {}
    for request in requests:
        kind = ACTIONS[request.action]
        pattern = exact(kind, request.resource)
        actions.setdefault((kind, pattern), set()).add(request.action)
    order = list(ACTIONS)
    rows = sorted(actions.items(), key=lambda row: (min(map(order.index, row[1])), row[0]))
    return [
        render(Capability(actions=actions_of(sorted(names), ""), patterns=(pattern,)), workspace)
        for (_, pattern), names in rows
    ]


def line(request: Request, workspace: Path | str) -> str:
    """The words to add to a command line to allow one request, quoted for a shell: `--allow read:./docs/a.md`."""
    return f"--allow {shlex.quote(suggest([request], workspace)[0])}"
