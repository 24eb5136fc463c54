"""What was decided about a process's effects, read from its journal: `weft policy` and refusals print it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from weft.core.authority import line
from weft.core.capability import ACTIONS, Capability, Request, render
from weft.core.codec import decode, decode_plain
from weft.core.image import Image, decode_image
from weft.core.record import AnyRecord, Decision, Granted, Outcome, decode_records
from weft.runtime.protect import ACTION
from weft.runtime.rights import WATCHED, free_of, spent

if TYPE_CHECKING:
    from weft.store.base import ProcessRow, Store


class Judged(NamedTuple):
    """A kind of request that was decided: what was asked, the verdict (allow, ask: a person allowed it once, deny), the
    number of the capability that decided, the label of what must not go there, and how often."""

    action: str
    resource: str
    verdict: str
    by: int | None
    label: str
    times: int


Revoked = set[tuple[str, int]]


class Dossier:
    """What is known of one process: what it holds, what was decided."""

    def __init__(
        self, row: ProcessRow, id: str, image: Image | None, records: Sequence[AnyRecord], revoked: Revoked
    ) -> None:
        self.row = row
        self.id = id
        """Under which its capabilities are known: the process's, until a `weft.exec` narrowed them."""
        self.image = image
        self.records = records
        self.revoked = revoked
        granted = [msgspec.msgpack.decode(r.spec, type=Capability) for r in records if type(r) is Granted]
        self.given = () if image is None else image.capabilities
        """What it began with; what a person granted since comes after."""
        self.held = (*self.given, *granted)
        self.used = spent(records)

    @property
    def workspace(self) -> str:
        return self.image.workspace if self.image is not None else "/"

    @property
    def watched(self) -> bool:
        """Whether its steps' files, connections and programs were looked at."""
        free = free_of(self.held, self.id, set())
        return not all(action in free and self.held[free[action][0]].issuer == "all" for action in WATCHED)

    def text(self, capability: Capability) -> str:
        return render(capability, self.workspace)

    def ended(self, number: int, now: float) -> str:
        """Why a capability is worth nothing now: revoked, expired, used up; empty if it is not."""
        one = self.held[number]
        line = [*one.lineage, (self.id, number)]
        if gone := [f"{process}#{n}" for process, n in line if (process, n) in self.revoked]:
            return "revoked" if gone == [f"{self.id}#{number}"] else f"revoked as {gone[0]}"
        if one.expires is not None and one.expires <= now:
            return "expired"
        return "used up" if one.uses is not None and self.used[number] >= one.uses else ""

    # --- decisions -----------------------------------------------------------------------------------------

    def judged(self) -> Iterator[tuple[str, str, str, int | None, str]]:
        """(action, resource, verdict, number, label) of each decision. What a right allows on every resource is not
        written down as one, but stands in the effect's outcome."""
        noted = {(r.effect, r.action, r.resource) for r in self.records if type(r) is Decision}
        for record in self.records:
            if type(record) is Decision:
                kept = record.label if record.verdict == "deny" else ""
                yield record.action, record.resource, record.verdict, record.by, kept
            elif type(record) is Outcome and record.by:
                for action, resource in _done(record):
                    numbers = [n for n in record.by if n < len(self.held) and action in self.held[n].actions]
                    known = (record.effect, action, resource) in noted
                    if numbers and not known and not (record.kind == "step" and _primitive(record.name)):
                        yield action, resource, "allow", numbers[0], ""

    def last_refusal(self) -> Decision | None:
        """The last thing that it was refused."""
        return next((r for r in reversed(self.records) if type(r) is Decision and r.verdict == "deny"), None)

    def summary(self) -> list[Judged]:
        """Each kind of decision once: refusals first, then what a person allowed, then the rest."""
        order = {"deny": 0, "ask": 1, "allow": 2}
        counted = Counter(self.judged())
        found = [Judged(*kind, times) for kind, times in counted.items()]
        return sorted(found, key=lambda one: (order.get(one.verdict, 3), one.action, one.resource))

    def spec_for(self, one: Judged | Decision) -> str | None:
        """What would allow a refused request, if a right is all that it lacked."""
        if one.by is not None or one.label or "[secret" in one.resource or one.action not in ACTIONS:
            return None
        if self.image is None:
            return None
        return shlex.split(line(Request(one.action, one.resource), self.workspace))[1]

    def why(self, one: Judged) -> str:
        """Who decided so."""
        if one.label:
            spec = cleared(f"{one.label} ", Request(one.action, one.resource), self.workspace)
            return f"what it would take there is {one.label}; in [policy]: clear = [{spec!r}], or release it once"
        if one.by is None or one.by >= len(self.held):
            return "nothing allows it"
        capability = self.held[one.by]
        text = f"#{one.by} {self.text(capability)}"
        if one.verdict != "deny" or capability.effect == "deny":
            return text
        what = "asks a person" if capability.effect == "ask" else "counts uses"
        return f'{text} {what}, so it must be known before the step begins: @weft.step(needs="{one.action}:...")'


async def dossiers(store: Store, rows: Sequence[ProcessRow]) -> list[Dossier]:
    """What is known of each of these processes; one that narrowed its rights by `weft.exec` comes once for each."""
    revoked = {(one.process, one.number) for one in await store.revocations()}
    images: dict[bytes, Image | None] = {b"": None}
    records: dict[str, list[AnyRecord]] = {row.id: [] for row in rows}
    for segment in await store.segments([row.id for row in rows]):
        records[segment.process] += decode_records(segment.records)
    found = []
    for row in rows:
        for id, image, some in _phases(row, records[row.id]):
            if image not in images:
                images[image] = decode_image(await store.image(image))
            found.append(Dossier(row, id, images[image], some, revoked))
    return found


def _phases(row: ProcessRow, records: Sequence[AnyRecord]) -> list[tuple[str, bytes, list[AnyRecord]]]:
    """(name, image, records) for each time that the capabilities of a process were numbered."""
    found: list[tuple[str, bytes, list[AnyRecord]]] = [(row.id, row.image, [])]
    for record in records:
        found[-1][2].append(record)
        if type(record) is Outcome and record.kind == "exec" and record.ok and isinstance(record.value, bytes):
            image, id = decode(record.value)
            if id != found[-1][0]:
                found.append((id, image, []))
    return found


async def family(store: Store, row: ProcessRow, most: int = 1_000_000) -> list[Dossier]:
    """Of a process and of all below it, parents first, up to so many processes."""
    rows, at = [row], 0
    while at < len(rows) < most:
        rows += reversed(await store.rows(parent=rows[at].id, limit=most - len(rows)))
        at += 1
    return await dossiers(store, rows)


def depths(dossiers: Sequence[Dossier]) -> Mapping[str, int]:
    """How far each is below the first."""
    found: dict[str, int] = {}
    for one in dossiers:
        found[one.row.id] = found.get(one.row.parent or "", -1) + 1
    return found


def cleared(label: str, asked: Request, workspace: str) -> str:
    """The line of `clear` for what carries this label."""
    return label + shlex.split(line(asked, workspace))[1]


def _done(record: Outcome) -> Iterator[tuple[str, str]]:
    """What an effect did to which resource, in the words of a capability."""
    if record.kind == "memory.commit" and isinstance(record.args, bytes):
        plain = decode_plain(record.args)
        writes = (plain["*"] if isinstance(plain, dict) else plain)[3]
        yield from (("memory.write", f"{record.name}/{name}") for name in writes)
    elif record.kind == "memory.commit":
        yield "memory.write", f"{record.name}/**"
    elif record.kind == "memory.retract" and record.ok and isinstance(record.value, bytes):
        done = decode(record.value)
        yield from (("memory.write", f"{done['namespace']}/{name}") for name in done["restored"])
    else:
        yield ACTION.get(record.kind, ""), record.name


def _primitive(name: str) -> bool:
    """Whether a step of this name is Weft's own: one that needs what it says and nothing else."""
    from weft.core.codec import resolve
    from weft.core.errors import WeftError

    if not name.startswith("weft."):
        return False
    try:
        found: object = resolve(name)
    except WeftError:
        return False
    return getattr(found, "__weft__", "") == "primitive"
