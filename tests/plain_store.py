"""A store as its protocol reads, in dicts and lists, without speed or disk: what the real ones are held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from weft.core.queue import Queue
from weft.store.base import (
    CLAIMABLE,
    ENDED,
    FINISHED,
    MAX_STRIKES,
    QUEUED,
    RUNNING,
    SUSPECT,
    UNFINISHED,
    WAITING,
    Batch,
    ProcessRow,
    Want,
)
from weft.store.postgres.commit import CHANGING


class Refused(Exception):
    """A batch that no store may apply."""


class Waiter(NamedTuple):
    name: str
    owner: str | None
    """None: nobody alive."""
    tenant: str
    priority: int
    order: float
    tokens: float | None = None
    """How many it says that it will take."""


@dataclass
class Portion:
    """Of the tokens that a queue limits."""

    ticket: str
    queue: str
    tokens: float
    taken: bool = False


@dataclass
class Ticket:
    queue: str
    tenant: str
    priority: int
    owner: str
    since: float
    admitted: bool = False


def in_turn(
    queue: Queue, waiting: Sequence[Waiter], holders: Mapping[str, int], started: int, served: Mapping[str, float],
    taken: float = 0.0,
) -> list[Waiter]:  # fmt: skip
    """Whom the queue lets in, one after the other, each time by a look at all that wait."""
    left, held, last = list(waiting), Counter(holders), dict(served)
    chosen: list[Waiter] = []

    def turn(one: Waiter) -> tuple[object, ...]:
        tenants = [other for other in left if (other.tenant, other.priority) == (one.tenant, one.priority)]
        first = min(other.order for other in tenants)
        return -one.priority, held[one.tenant], last.get(one.tenant, 0.0), first, one.tenant, one.order

    while left:
        if queue.concurrency is not None and held.total() >= queue.concurrency:
            break
        if queue.rate is not None and started + len(chosen) >= queue.rate[0]:
            break
        one = min(left, key=turn)
        if one.tokens is not None:
            limit = queue.amounts["tokens"][0]
            if taken + one.tokens > limit and (taken or one.tokens <= limit):
                break
            taken += one.tokens
        left.remove(one)
        chosen.append(one)
        held[one.tenant] += 1
        last[one.tenant] = 1e12 + len(chosen)  # later than all before
    return chosen


@dataclass
class PlainStore:
    rows: dict[str, ProcessRow] = field(default_factory=dict)
    """In order of arrival."""
    segments: dict[tuple[str, int], bytes] = field(default_factory=dict)
    payloads: dict[bytes, bytes] = field(default_factory=dict)
    references: set[tuple[str, bytes]] = field(default_factory=set)
    letters: list[tuple[str, str, bytes]] = field(default_factory=list)
    events: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    waits: dict[str, set[str]] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    """By queue: all its starts, since no window ends during a test."""
    portions: list[Portion] = field(default_factory=list)
    served: dict[tuple[str, str], int] = field(default_factory=dict)
    """(queue, tenant) -> a number that grows with each who is let in."""
    owners: dict[str, dict[str, str]] = field(default_factory=dict)

    # --- writing ----------------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        firsts = [(segment.process, segment.first) for segment in batch.segments]
        if len({*firsts}) < len(firsts) or self.segments.keys() & {*firsts}:
            raise Refused
        for row in batch.rows.values():
            if row.id not in self.rows and self.by_key(row.key) is not None:
                raise Refused
        self.payloads = batch.payloads | self.payloads
        self.references |= batch.references
        for row in batch.rows.values():
            changes = {name: getattr(row, name) for name in CHANGING}
            self.rows[row.id] = replace(self.rows.get(row.id, row), **changes)
        self.segments |= {(s.process, s.first): s.records for s in batch.segments}
        self.letters += [(m.process, m.box, m.payload) for m in batch.messages]
        self.events |= {key: (value, process) for key, value, process in batch.events}
        for process, keys in batch.waits.items():
            self.waits.pop(process, None)
            if keys:
                self.waits[process] = set(keys)
        for ticket in batch.released:
            self.tickets.pop(ticket, None)
        for ticket, took in batch.took.items():
            for portion in [one for one in self.portions if one.ticket == ticket]:
                if took:
                    portion.tokens = took["tokens"]
                else:
                    self.portions.remove(portion)

    def by_key(self, key: str | None) -> ProcessRow | None:
        return next((row for row in self.rows.values() if key is not None and row.key == key), None)

    def insert(self, row: ProcessRow) -> ProcessRow | None:
        taken = self.by_key(row.key)
        if taken is None:
            self.rows[row.id] = row
        return taken

    def delete(self, ids: Sequence[str]) -> int:
        doomed = {id for id in ids if id in self.rows and self.rows[id].state in FINISHED}
        needed = {hash for process, hash in self.references if process not in doomed}
        dropped = {hash for process, hash in self.references if process in doomed} - needed
        self.payloads = {hash: data for hash, data in self.payloads.items() if hash not in dropped}
        self.references = {pair for pair in self.references if pair[0] not in doomed}
        self.rows = {id: row for id, row in self.rows.items() if id not in doomed}
        self.segments = {at: records for at, records in self.segments.items() if at[0] not in doomed}
        self.letters = [letter for letter in self.letters if letter[0] not in doomed]
        self.events = {key: event for key, event in self.events.items() if event[1] not in doomed}
        self.waits = {process: keys for process, keys in self.waits.items() if process not in doomed}
        return len(doomed)

    # --- who executes what ------------------------------------------------------------------------------

    def die(self, owner: str) -> None:
        del self.owners[owner]
        self.tickets = {name: ticket for name, ticket in self.tickets.items() if ticket.owner != owner}

    def claim(
        self, owner: str, ids: Sequence[str] | None, states: Sequence[str], queues: Sequence[str] | None,
        but: Sequence[str],
    ) -> list[ProcessRow]:  # fmt: skip
        open = CLAIMABLE if ids is None else UNFINISHED
        living = {(name, version) for programs in self.owners.values() for name, version in programs.items()}
        mine = self.owners[owner]
        taken = []
        for row in self.rows.values():
            if row.state not in open or row.state not in states or row.owner in self.owners or row.id in but:
                continue
            if ids is not None and row.id not in ids:
                continue
            if queues is not None:
                fits = not row.started or mine.get(row.workflow) == row.version
                better = (row.workflow, row.version) in living and not fits
                if row.queue not in (None, *queues) or row.workflow not in mine or better:
                    continue
                if row.strikes >= MAX_STRIKES:
                    continue
            row.strikes += row.owner is not None and row.state == RUNNING
            row.owner = owner
            taken.append(replace(row))
            row.strikes -= queues is not None and row.state == RUNNING and row.strikes >= SUSPECT
        return taken

    def admit(self, owner: str, queue: Queue, wants: Sequence[Want], room: int, now: float) -> tuple[list[str], ...]:
        """(ids, tickets)"""
        for want in wants:
            known = self.tickets.get(want.ticket)
            since = known.since if known is not None and known.owner == owner else now
            if known is None:
                self.tickets[want.ticket] = Ticket(queue.name, want.tenant, want.priority, owner, since)
            else:
                known.owner, known.since, known.admitted = owner, since, False
            self.portions = [one for one in self.portions if one.ticket != want.ticket or one.taken]
            self.portions += [Portion(want.ticket, queue.name, tokens) for tokens in want.amounts.values()]
        waiting = self._line(owner, queue, room > 0)
        chosen = in_turn(
            queue, waiting, self._holders(queue), self.started[queue.name],
            {tenant: at for (name, tenant), at in self.served.items() if name == queue.name},
            sum(one.tokens for one in self.portions if one.queue == queue.name and one.taken),
        )  # fmt: skip
        mine = []
        for one in chosen:
            if one.owner == owner or (one.owner is None and room > 0):
                mine.append(one)
                room -= one.owner is None
        for one in mine:
            self.started[queue.name] += queue.rate is not None
            if any(other.tenant for other in waiting):
                self.served[queue.name, one.tenant] = 1 + max(self.served.values(), default=0)
            if one.name in self.tickets:
                self.tickets[one.name].admitted = True
                for portion in self.portions:
                    portion.taken |= portion.ticket == one.name
            else:
                row = self.rows[one.name]
                row.state, row.owner, row.wake_at = RUNNING, owner, None
        names = [one.name for one in mine]
        return [n for n in names if n not in self.tickets], [n for n in names if n in self.tickets]

    def _line(self, owner: str, queue: Queue, room: bool) -> list[Waiter]:
        line = []
        for row in self.rows.values():
            if row.queue == queue.name and row.state == QUEUED:
                living = row.owner if row.owner in self.owners else None
                if living is not None or (room and row.workflow in self.owners[owner]):
                    line.append(Waiter(row.id, living, row.tenant, row.priority, row.created))
        for name, ticket in self.tickets.items():
            if ticket.queue == queue.name and not ticket.admitted:
                said = [one.tokens for one in self.portions if one.ticket == name and not one.taken]
                tokens = said[0] if said else None
                line.append(Waiter(name, ticket.owner, ticket.tenant, ticket.priority, ticket.since, tokens))
        return line

    def _holders(self, queue: Queue) -> dict[str, int]:
        if queue.concurrency is None:
            return {}
        held = [t.tenant for t in self.tickets.values() if t.queue == queue.name and t.admitted]
        for row in self.rows.values():
            left_alone = row.owner is None and row.strikes >= MAX_STRIKES
            if row.queue == queue.name and row.state in (RUNNING, WAITING) and not left_alone:
                held.append(row.tenant)
        return Counter(held)

    def due(self, owner: str, now: float, limit: int) -> list[ProcessRow]:
        asleep = [row for row in self._sleepers(owner) if (row.wake_at or 0) <= now][:limit]
        for row in asleep:
            row.state, row.wake_at = RUNNING, None
            self.waits.pop(row.id, None)
        return asleep

    def _sleepers(self, owner: str) -> list[ProcessRow]:
        found = [r for r in self.rows.values() if r.state == WAITING and r.owner == owner and r.wake_at is not None]
        return sorted(found, key=lambda row: row.wake_at or 0)

    # --- reading ----------------------------------------------------------------------------------------

    def next_wake(self, owner: str) -> float | None:
        return next((row.wake_at for row in self._sleepers(owner)), None)

    def owned(self, owner: str) -> list[str]:
        return sorted(r.id for r in self.rows.values() if r.owner == owner and r.state in (RUNNING, QUEUED))

    def news(self, owner: str) -> list[str]:
        ended = {ENDED + row.id for row in self.rows.values() if row.state in FINISHED}
        found = {process for process, _, _ in self.letters}
        mine = {row.id for row in self.rows.values() if row.owner == owner and row.state in CLAIMABLE}
        for id in mine:
            if self.rows[id].state == WAITING and self.waits.get(id, set()) & (ended | self.events.keys()):
                found.add(id)
        return sorted(found & mine)

    def depths(self) -> dict[str, int]:
        waiting = [row.queue for row in self.rows.values() if row.state == QUEUED and row.queue is not None]
        return dict(Counter([*waiting, *(t.queue for t in self.tickets.values() if not t.admitted)]))
