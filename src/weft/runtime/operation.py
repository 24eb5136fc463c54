"""One attempt of an operation on shared memory: what it reads, what it writes when it ends, and the commit.

    plan = await op.read("plan")
    op.write("plan", await revise(plan))

What was read is remembered with its version, and what is written stays here until the end; then all of it goes to the
store in one commit, which checks what the level promises (`weft.store.memory.decide`). Each look and the commit are
effects, so a replay sees what was seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import msgspec

from weft.core.boundary import place
from weft.core.codec import encode, encode_args
from weft.core.errors import BadInput, MemoryConflict, NoObject, PhantomTool
from weft.core.memory import TOOLS, check_name, operation_id
from weft.core.sealed import carry
from weft.core.step import steps
from weft.runtime.shared import Writing
from weft.runtime.turns import Turns, turning
from weft.store.memory import Commit, Seen, Written

if TYPE_CHECKING:
    from weft.runtime.memory import Attempts
    from weft.runtime.process import Process

T = TypeVar("T")
Merge = Callable[[Any, Any, Any], Any]
"""(what was read, what is to be written, what is there now) -> what is written instead; None where nothing is."""

_agents: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
"""Who a task is, if nobody says so: the number of its first operation."""


class Operation(Generic[T]):
    """One attempt of an operation. `id`: what it is known by once it is committed (`Memory.retract`)."""

    def __init__(
        self, attempts: Attempts[T], process: Process, where: str, attempt: int, hold: Sequence[str] = ()
    ) -> None:
        """`hold`: cells to hold while it is under way."""
        self.memory = attempts.memory
        self.level = attempts.level
        self.attempt = attempt
        self.id = ""
        self.at = 0
        """When it was committed, by the namespace's clock."""
        self._attempts = attempts
        self._process = process
        self._where = where
        self._number = 0
        """Of the effect that began it."""
        self._space = attempts.memory._space(process)
        self._reads: dict[str, Seen] = {}
        self._listed: dict[str, list[str]] = {}
        """Prefix -> names, as they were listed."""
        self._links: dict[str, tuple[str, ...]] = {}
        self._values: dict[str, Any] = {}
        """What was read, as it was; cells where nothing is are not there."""
        self._writes: dict[str, tuple[Any, tuple[str, ...], int | None]] = {}
        self._pinned: dict[str, Any] | None = None
        self._token: Token[Turns | None] | None = None
        self._hold = list(hold)
        self._over = False

    # --- reading and writing ------------------------------------------------------------------------------------

    async def read(self, name: str, default: Any = msgspec.UNSET) -> T:
        """What is in the cell: what this operation wrote, or else the newest version; read again, it is what it was.
        NoObject if nothing is there and no `default` is given."""
        cell = self._cell(name, "op.read")
        if cell in self._writes:
            found = self._writes[cell][0]
        else:
            await self._see(cell)
            found = self._values.get(cell, msgspec.UNSET)
        if found is msgspec.UNSET:
            if default is not msgspec.UNSET:
                return cast(T, default)
            raise NoObject(f"nothing is in {self._named(cell)}; write it first, or read it with a default")
        return self.memory.check(found)

    async def names(self, prefix: str = "") -> list[str]:
        """The names that begin with `prefix` and where something is, in order, with what this operation wrote and
        deleted. From L1 on the operation is refused if there are others when it commits."""
        if self._over or not isinstance(prefix, str) or "*" in prefix or "\0" in prefix or prefix.startswith("/"):
            raise BadInput(f"op.names({prefix!r}): give the beginning of a name, in an operation that is under way")
        if prefix not in self._listed:
            process = self._process
            args = encode_args((self._number, prefix), {}, "names")
            launch = partial(process.runtime.shared.names, process, namespace=self._space, prefix=prefix)
            name = f"{self.memory._shown}/{prefix}*"
            self._listed[prefix] = (await process.outcome(process.issue("memory.names", name, place(), args, launch)))[
                "names"
            ]
        start = len(self._space) + 1
        written = {cell[start:]: value is not msgspec.UNSET for cell, (value, *_) in self._writes.items()}
        kept = (name for name in self._listed[prefix] if written.get(name, True))
        return sorted({*kept, *(name for name, there in written.items() if there and name.startswith(prefix))})

    async def links(self, name: str) -> list[str]:
        """The names that the cell refers to."""
        cell, start = self._cell(name, "op.links"), len(self._space) + 1
        if cell in self._writes:
            found = self._writes[cell][1]
        else:
            await self._see(cell)
            found = self._links.get(cell, ())
        return [link[start:] for link in found]

    async def version(self, name: str) -> int:
        """The newest version of the cell, for `expect=`; 0 if there never was one."""
        cell = self._cell(name, "op.version")
        await self._see(cell)
        return self._reads[cell].version

    def write(self, name: str, value: T, *, links: tuple[str, ...] = (), expect: int | None = None) -> None:
        """Write the cell when the operation commits. `links`: cells that the value refers to. `expect`: refuse all of
        the operation, at any level, unless this is the newest version then (0: there is none)."""
        self._write(self._name(name, "op.write"), self.memory.check(value), tuple(links), expect)

    def delete(self, name: str, *, expect: int | None = None) -> None:
        """Leave nothing in the cell; its history stays."""
        self._write(self._name(name, "op.delete"), msgspec.UNSET, (), expect)

    def _write(self, name: str, value: Any, links: tuple[str, ...], expect: int | None) -> None:
        if expect is not None and (not isinstance(expect, int) or expect < 0):
            raise BadInput(f"expect={expect!r}: a version is a number of at least 0")
        linked = tuple(f"{self._space}/{check_name(link, 'links=')}" for link in links)
        self._writes[f"{self._space}/{name}"] = (value, linked, expect)

    def _name(self, name: str, what: str) -> str:
        if self._over:
            raise BadInput(f"{what}({name!r}): operation {self.id} is over")
        return check_name(name, what)

    def _cell(self, name: str, what: str) -> str:
        return f"{self._space}/{self._name(name, what)}"

    def _named(self, cell: str) -> str:
        """As rights and the journal name a cell."""
        return self.memory._shown + cell.removeprefix(self._space)

    async def _see(self, cell: str) -> None:
        if cell not in self._reads:
            seen = await self._fetch(cell)
            if cell not in self._reads:
                self._take(cell, seen)

    def _take(self, cell: str, seen: Mapping[str, Any]) -> None:
        self._reads[cell] = Seen(seen["version"], seen["operation"])
        self._links[cell] = tuple(seen["links"])
        if seen["there"]:
            self._values[cell] = seen["value"]
        else:
            self._values.pop(cell, None)

    async def _fetch(self, cell: str) -> Mapping[str, Any]:
        process = self._process
        args = encode_args((self._number,), {}, "read")
        launch = partial(process.runtime.shared.read, process, cell=cell)
        pending = process.issue("memory.read", self._named(cell), place(4), args, launch)
        found: Mapping[str, Any] = await process.outcome(pending)
        return found

    # --- tools ---------------------------------------------------------------------------------------------------

    async def tools(self) -> list[str]:
        """The names of the namespace's tools; at L4 as they were when the operation began."""
        return sorted(await self._registry(place()))

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a tool. At L4 the one that was there when the operation began, whatever has become of it. PhantomTool if
        there is none, or this program has another one."""
        where = place()
        entry = (await self._registry(where, name)).get(name)
        if entry is None:
            raise PhantomTool(f"{self.memory.namespace} has no tool {name!r} any more; plan anew, or use level L4")
        step = steps.get(entry["step"])
        if step is None:
            raise PhantomTool(f"tool {name!r} is the step {entry['step']}, which is not declared here; import its file")
        if self.level >= "L4" and step.signature != entry["signature"]:
            raise PhantomTool(
                f"tool {name!r} was pinned as {entry['step']} {entry['signature']}, and this program has "
                f"{step.signature}: plan anew with the new one"
            )
        return await step(*args, **kwargs)

    async def _registry(self, where: str, called: str = "") -> dict[str, Any]:
        """`called`: the tool that is about to be called, if one is."""
        if self._pinned is not None:
            return self._pinned
        process = self._process
        launch = partial(process.runtime.shared.tools, process, namespace=self._space)
        args = encode_args((self._number, called), {}, "tools")
        name = f"{self.memory._shown}/{TOOLS}*"
        found = await process.outcome(process.issue("memory.tools", name, where, args, launch))
        tools: dict[str, Any] = found["tools"]
        return tools

    # --- from its beginning to its end ---------------------------------------------------------------------------

    async def _begin(self) -> Operation[T]:
        process, attempts = self._process, self._attempts
        task = asyncio.current_task()
        assert task is not None
        agent = attempts.agent or _agents.setdefault(task, process.issued + 1)
        args = encode_args((self.level, self.attempt, agent), {}, "operation")
        known = partial(operation_id, process.id)
        self.id = process.immediate("memory.begin", self.memory._shown, self._where, args, known)
        number = self._number = process.issued
        if self._hold:
            launch = partial(
                process.runtime.shared.hold, process, operation=operation_id(process.id, number), cells=self._hold
            )
            data = encode_args(([self._named(cell) for cell in self._hold],), {}, "hold")
            await process.outcome(process.issue("memory.hold", self.memory._shown, self._where, data, launch))
        if self.level >= "L4":
            self._pinned = await self._registry(self._where)
        self._token = turning.set(Turns(number, strict=self.level >= "L3"))
        return self

    async def _end(self, good: bool) -> None:
        if self._token is not None:
            turning.reset(self._token)
        self._over = True
        if not good:
            self._give_up()
            return
        for _ in range(self._attempts.retries + 1):
            verdict = await self._commit()
            self.id = verdict["operation"]
            if verdict["at"]:
                self.at = verdict["at"]
                return
            stale = [f"{self._space}/{name}" for name in verdict["stale"]]
            if verdict["dead"] or self._attempts.merge is None or not all(c in self._writes for c in stale):
                break
            for cell in stale:
                await self._merge(cell, self._attempts.merge)
        self._give_up()
        raise MemoryConflict(self.id, self.level, [self._named(cell) for cell in stale], verdict["dead"])

    def _give_up(self) -> None:
        if self._hold and self._process.live:
            self._process.runtime.shared.let_go(operation_id(self._process.id, self._number))

    def _cells(self) -> list[str]:
        return sorted({*self._reads, *self._writes})

    async def _merge(self, cell: str, merge: Merge) -> None:
        base, (mine, links, _) = self._values.get(cell), self._writes[cell]
        seen = await self._fetch(cell)
        self._take(cell, seen)
        merged = merge(base, None if mine is msgspec.UNSET else mine, self._values.get(cell))
        self._writes[cell] = (self.memory.check(merged), links, seen["version"])

    async def _commit(self) -> Mapping[str, Any]:
        process = self._process
        shared, clean = process.runtime.shared, process.runtime.journal.clean
        commit = Commit(
            operation=operation_id(process.id, self._number), namespace=self._space, process=process.id,
            level=self.level, reads=dict(self._reads),
        )  # fmt: skip
        for prefix, names in self._listed.items():
            commit.listed[f"{self._space}/{prefix}"] = [f"{self._space}/{name}" for name in names]
        told: dict[str, Any] = {}
        start = len(self._space) + 1
        for cell, (value, links, expect) in self._writes.items():
            there = value is not msgspec.UNSET
            names = [link[start:] for link in links]
            told[cell[start:]] = [there, value if there else None, names, expect]
            data = carry(clean(encode(value, cell)), process.mark) if there else None
            commit.writes[cell] = Written(None if data is None else shared.kept(data, commit), links, expect)
        read = {cell[start:]: seen.version for cell, seen in self._reads.items()}
        args = encode_args((self._number, self.level, read, told, self._listed), {}, "commit")
        launch = partial(shared.commit, process, commit=commit)
        cells = [self._named(cell) for cell in self._writes]
        pending = Writing(process, "memory.commit", self.memory._shown, self._where, args, launch, cells)
        process.enlist(pending)
        return await _to_the_end(process, pending)


async def _to_the_end(process: Process, pending: Writing) -> Mapping[str, Any]:
    """The outcome of a commit, even if the task is cancelled meanwhile: it must be known whether it was let in."""
    cancelled: asyncio.CancelledError | None = None
    while not pending.future.done():
        try:
            await asyncio.shield(pending.future)
        except asyncio.CancelledError as error:
            if process.stopping or pending.future.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    found: Mapping[str, Any] = pending.future.result()
    return found
