"""Shared memory, from the runtime's side: what bodies ask of it in one turn goes to the store in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from weft.core.capability import Request
from weft.core.errors import BadInput, StoreCorrupt, StoreError, WeftError
from weft.core.label import PUBLIC
from weft.core.memory import TOOLS, Level
from weft.core.needs import Computed
from weft.core.record import Blob, Value, hashed
from weft.core.sealed import carried
from weft.runtime import flow
from weft.runtime.look import Look
from weft.runtime.pending import Launch, Pending
from weft.store.memory import Commit, Hold, Object, Verdict, is_listed, namespace_of

if TYPE_CHECKING:
    from weft.core.needs import Need
    from weft.runtime.process import Process
    from weft.runtime.runtime import Runtime

PAGE = 1000
"""Tools of a namespace read at once."""
MOST = 10_000
"""Names that can be listed at once."""
HOLD = 60.0
"""Seconds for which an operation may hold cells."""
SOON = (0.005, 0.1)
"""Seconds after which one that is kept waiting asks again: at first, and at most."""


class Shared:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._reads: list[tuple[str, Callable[[int, Object], None]]] = []
        self._commits: list[tuple[Commit, Callable[[Verdict], None]]] = []
        self._look = Look(runtime, self._see, runtime.journal.fail)

    async def _see(self) -> None:
        commits, self._commits = self._commits, []
        reads, self._reads = self._reads, []
        store = self.runtime.store
        if commits:
            verdicts = await store.operate([commit for commit, _ in commits])
            for (_, then), verdict in zip(commits, verdicts, strict=True):
                then(verdict)
        wanted: dict[str, list[str]] = {}
        for cell, _ in reads:
            wanted.setdefault(namespace_of(cell), []).append(cell)
        for namespace, cells in wanted.items():
            names = list(dict.fromkeys(cells))
            seen = await store.look(namespace, names)
            found = dict(zip(names, seen.objects, strict=True))
            for cell, hear in reads:
                if cell in found:
                    hear(seen.at, found[cell])

    def _answer(self, process: Process, pending: Pending, work: Awaitable[Any]) -> None:
        """Deliver what comes of `work`, or why nothing does. What is wrong with the store itself is no outcome."""

        async def deliver() -> None:
            try:
                value = await work
            except WeftError as error:
                if isinstance(error, StoreError) and not isinstance(error, StoreCorrupt):
                    self.runtime.journal.fail(error)
                else:
                    process.arrive(pending, False, error)
            else:
                process.arrive(pending, True, value)

        self.runtime.task(deliver())

    # --- what an effect begins with, on the host ---------------------------------------------------------------

    def read(self, process: Process, pending: Pending, cell: str) -> None:
        """Deliver the newest version of a cell."""

        def hear(at: int, found: Object) -> None:
            if isinstance(found.value, Blob):
                self._answer(process, pending, fetched(at, found, found.value))
                return
            try:
                seen = self._seen(process, pending, at, found, found.value)
            except WeftError as error:
                process.arrive(pending, False, error)
            else:
                process.arrive(pending, True, seen)

        async def fetched(at: int, found: Object, blob: Blob) -> dict[str, Any]:
            return self._seen(process, pending, at, found, await self.runtime.store.payload(blob.hash))

        pending.started = self.runtime.clock()
        self._reads.append((cell, hear))
        self._look.ask()

    def _seen(
        self, process: Process, pending: Pending, at: int, found: Object, data: bytes | None
    ) -> dict[str, Any]:  # fmt: skip
        """What a read delivers. Raises ReleaseNeeded for what is another tenant's, and what its decoding raises."""
        value, label = (None, PUBLIC) if data is None else carried(data)
        if process.row.tenant and label is not PUBLIC:
            asked = Request("memory.read", pending.name)
            flow.to_process(process, pending.number, flow.value_of(pending), label, asked, process.row.tenant)
        pending.brings(label)
        seen = {"value": value, "there": data is not None, "version": found.version, "at": at}
        return {**seen, "operation": found.operation, "links": list(found.links)}

    def commit(self, process: Process, pending: Pending, commit: Commit) -> None:
        """Commit once all that the body knows is durable: if this process dies, it comes back to the same commit."""

        waits = 0

        def decided(verdict: Verdict) -> None:
            nonlocal waits
            if verdict.held:
                self.runtime.host.call_later(min(SOON[0] * 2**waits, SOON[1]), start)
                waits += 1
                return
            told = {
                "at": verdict.at,
                "versions": {cell.partition("/")[2]: version for cell, version in verdict.versions.items()},
                "stale": [cell.partition("/")[2] for cell in verdict.stale],
                "dead": verdict.dead,
                "operation": commit.operation,
            }
            process.arrive(pending, True, told)

        def start() -> None:
            if process.pending.get(pending.number) is pending:
                pending.started = commit.now = self.runtime.clock()
                self._commits.append((commit, decided))
                self._look.ask()

        self.runtime.journal.when_durable(start)

    def hold(self, process: Process, pending: Pending, operation: str, cells: list[str]) -> None:
        """Deliver when the operation holds these cells."""
        hold = Hold(
            operation=operation, namespace=namespace_of(cells[0]), cells=cells, until=self.runtime.clock() + HOLD
        )

        async def stand_in_line() -> None:
            wait = SOON[0]
            while process.pending.get(pending.number) is pending and not await self.runtime.store.hold(hold):
                await asyncio.sleep(wait)
                wait = min(2 * wait, SOON[1])

        self._answer(process, pending, stand_in_line())

    def let_go(self, operation: str) -> None:
        """It is given up, and holds nothing any more."""
        self.runtime.task(self.runtime.store.let_go(operation))

    def written(self, process: Process, pending: Pending) -> None:
        """Deliver the namespace of the operation that `pending` names, and the cells that it wrote; None if there is no
        such operation."""

        async def looked_up() -> tuple[str, list[str]] | None:
            known = await self.runtime.store.operations([pending.name])
            cells = await self.runtime.store.written(pending.name) if known else []
            return (known[0].namespace, [cell.partition("/")[2] for cell in cells]) if known else None

        self._answer(process, pending, looked_up())

    def retract(self, process: Process, pending: Pending, level: Level, namespace: str) -> None:
        """Retract the operation that `pending` names. `namespace`: as the journal names it."""

        async def retracted() -> dict[str, Any]:
            done = await self.runtime.store.retract(pending.name, level)
            assert done is not None  # it was looked for before
            restored = {cell.partition("/")[2]: version for cell, version in done.restored.items()}
            return {"at": done.at, "operations": done.operations, "namespace": namespace, "restored": restored}

        self.runtime.journal.when_durable(lambda: self._answer(process, pending, retracted()))

    def names(self, process: Process, pending: Pending, namespace: str, prefix: str) -> None:
        """Deliver the names of the cells that begin with `prefix` and are not deleted."""

        async def listed() -> dict[str, Any]:
            seen = await self.runtime.store.under(namespace, prefix, limit=MOST)
            if len(seen.objects) >= MOST:
                raise BadInput(f"more than {MOST:,} names begin with {prefix!r}; list with a longer prefix")
            names = [one.cell.partition("/")[2] for one in seen.objects if is_listed(one.cell)]
            return {"at": seen.at, "names": names}

        self._answer(process, pending, listed())

    def tools(self, process: Process, pending: Pending, namespace: str) -> None:
        """Deliver all tools of a namespace, as they are at one moment."""

        async def offered() -> dict[str, Any]:
            seen = await self.runtime.store.under(namespace, TOOLS, limit=PAGE)
            found: dict[str, Any] = {}
            for one in seen.objects:
                assert isinstance(one.value, bytes)
                value, label = carried(one.value)
                pending.brings(label)
                found[one.cell.partition(f"/{TOOLS}")[2]] = value
            return {"at": seen.at, "tools": found}

        self._answer(process, pending, offered())

    def kept(self, data: bytes, commit: Commit) -> Value:
        """A value as a cell holds it: by content hash if it is large."""
        found = hashed(data)
        if isinstance(found, Blob):
            commit.payloads[found.hash] = data
        return found


class Writing(Pending):
    """An effect that writes these cells."""

    __slots__ = ("cells", "process")

    def __init__(
        self, process: Process, kind: str, name: str, place: str, args: bytes, launch: Launch, cells: list[str]
    ) -> None:
        super().__init__(kind, name, place, args, launch)
        self.process = process
        self.cells = cells

    @property
    def needs(self) -> tuple[Need, ...]:  # type: ignore[override]
        holder, rules = self.holder or self.process.rights, self.process.rules
        free = holder.free.get("memory.write")
        if free is not None and (rules is None or not rules.speaks_of("memory.write")):
            self.by = free
            return ()
        return (Computed("", "", tell=lambda: [("memory.write", cell) for cell in self.cells]),)

    def arguments(self) -> dict[str, Any]:
        return {}
