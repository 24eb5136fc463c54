"""A shell in a wall that stays from one step of a process to the next: its folder, its variables, its jobs, its copy of
the workspace.

It lives with its process in this runtime. After a crash, or where another runtime goes on with the process, the next
`say` begins a new one, and says so (`fresh`): what a shell held is no part of the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from weft.core.crossing import crossing
from weft.core.errors import BadInput
from weft.core.label import PUBLIC, Label
from weft.core.resources import Paused, Resources
from weft.core.step import primitive
from weft.runtime.governor import Call, Group, governor, limit_error, opened
from weft.runtime.sandbox import Job, Reply, Session, Streams, choose
from weft.tool.output import Excerpt, adopt
from weft.tool.sandbox import place
from weft.tool.sandbox.command import LIMIT
from weft.tool.sandbox.place import Changed

Key = tuple[str, str]
"""A process and the name of one of its shells."""


@dataclass(frozen=True)
class Said:
    """What came of one command. `fresh`: it was the first of its shell, which is new. `paused`: it waited for long,
    because the machine had no memory for it. `stdout_ref`, `stderr_ref` name the whole of an output that was cut
    (`weft.tool.output`)."""

    code: int
    stdout: str
    stderr: str
    fresh: bool = False
    paused: Paused | None = None
    stdout_ref: str | None = None
    stderr_ref: str | None = None


@dataclass
class _Shell:
    copy: list[str]
    read: list[str]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    label: Label = PUBLIC
    """What it may hold carries this: what it was told, and what it could read."""
    session: Session | None = None
    group: Group | None = None


_shells: dict[Key, _Shell] = {}


def _say_needs(
    text: str, copy: Sequence[Any] = (".",), read: Sequence[Any] = (), **_: Any
) -> Iterator[tuple[str, Any]]:
    return place.needs(["sh", "-c", str(text)], None, (*copy, *read))


@primitive(name="sandbox.say", effect="pure", needs=_say_needs)
async def say(
    text: str,
    *,
    session: str = "main",
    copy: Sequence[str | Path] = (".",),
    read: Sequence[str | Path] = (),
    seconds: float = 60.0,
    limit: int = LIMIT,
    resources: Mapping[str, Any] | Resources | None = None,
) -> Said:
    """Run a command in a shell of this process, begun with its first one, and wait for its end. It needs the right to
    run `sh -c TEXT` in a sandbox. The shell works on copies of the folders of `copy`, made when it began, and sees
    those of `read` as they are; `resources` are those of the shell with all its commands, `seconds` of this one.

    Raises OverTime if it takes longer, OverMemory, OverPids and OverDisk for the other limits, and EOFError if the
    shell ended with it (as `exit` does): then the next command begins a new one."""
    here = crossing()
    key = (here.run if here is not None else "", session)
    sees = place.real_places(copy), place.real_places(read)
    while True:
        shell = _shells.setdefault(key, _Shell(*sees))
        if (shell.copy, shell.read) != sees:
            raise BadInput(f"the shell {session!r} sees other folders: end it with sandbox.leave, or name another")
        async with shell.turn:
            if _shells.get(key) is shell:  # else it ended while this waited for its turn
                return await _said(key, shell, text, seconds, limit, place.limits(resources))


async def _said(key: Key, shell: _Shell, text: str, seconds: float, limit: int, resources: Resources) -> Said:
    here = crossing()
    fresh = shell.session is None
    if here is not None:
        here.brings(shell.label)
    try:
        if fresh:
            if here is not None:
                here.at_leave(partial(_end, key, shell))
            await _begin(shell, key[1], resources)
        assert shell.session is not None and shell.group is not None
        if here is not None:
            shell.label |= here.full
        before = await asyncio.to_thread(shell.group.usage)
        reply = await shell.session.run(text, seconds, streams=Streams(keep=limit))
        out, err = await asyncio.to_thread(_adopted, reply, limit)
        took = (await asyncio.to_thread(shell.group.usage)).since(before)
        if over := limit_error(shell.group):
            raise over  # the kernel ended what ran in it, and the governor is about to end all of it
    except EOFError:
        over = limit_error(shell.group) if shell.group is not None else None
        await _end(key, shell)
        if over is not None:
            raise over from None
        raise
    except BaseException:
        await _end(key, shell)
        raise
    if here is not None:
        here.took(took)
    return Said(reply.status, out.shown, err.shown, fresh, took.paused, out.ref, err.ref)


def _adopted(reply: Reply, limit: int) -> list[Excerpt]:
    try:
        return [adopt(one, limit=limit) for one in (reply.stdout, reply.stderr)]
    finally:
        reply.drop()


async def _begin(shell: _Shell, name: str, limits: Resources) -> None:
    here = crossing()
    limits = msgspec.structs.replace(limits, seconds=None)
    what = Call(here.run, here.number, f"shell {name}") if here is not None else Call(command=f"shell {name}")
    priority = here.priority if here is not None else 0
    shell.group = await opened(lambda: governor().open(limits, "session", priority, None, what))
    where = next(iter([*shell.copy, *shell.read]), None)
    job = Job(
        argv=[place.shell()],
        copy=shell.copy,
        read=shell.read,
        cwd=where,
        env=place.environment(None),
        sees=place.seen(),
        resources=limits,
    )
    shell.session = await Session.open(choose("process"), job, shell.group)


def _leave_needs(session: str = "main", write: Sequence[Any] = (), **_: Any) -> Iterator[tuple[str, Any]]:
    for path in write:
        yield "file.read", str(path)
        yield "file.write", str(path)


@primitive(name="sandbox.leave", effect="at_most_once", needs=_leave_needs)
async def leave(session: str = "main", *, write: Sequence[str | Path] = ()) -> list[Changed]:
    """End a shell of this process, with all that it started, and carry what it changed in the folders of `write` over,
    which must be among those that it copied. Raises Denied and ChangedMeanwhile as `sandbox.apply` does, and BadInput
    if there is no such shell (any more)."""
    here = crossing()
    key = (here.run if here is not None else "", session)
    shell = _shells.get(key)
    if shell is None or shell.session is None:
        raise BadInput(f"there is no shell {session!r}: it ended, or nobody has said anything to it yet")
    if here is not None:
        here.brings(shell.label)
    wanted = place.real_places(write)
    for path in wanted:
        if not any(Path(path).is_relative_to(copied) for copied in shell.copy):
            raise BadInput(f"the shell {session!r} has no copy of {path}: begin it with copy=[...]")
    async with shell.turn:
        try:
            done = await shell.session.close()
            return await asyncio.to_thread(place.carry_over, done, wanted) if wanted else []
        finally:
            await _end(key, shell)


async def _end(key: Key, shell: _Shell) -> None:
    """End it with all that is left of it; may be done again."""
    if _shells.get(key) is shell:
        del _shells[key]
    session, shell.session = shell.session, None
    group, shell.group = shell.group, None
    try:
        if session is not None:
            done = await session.close()
            await asyncio.to_thread(done.drop)
    finally:
        if group is not None:
            await asyncio.to_thread(group.close)
