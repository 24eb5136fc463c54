"""One command in a wall: `run`, whose changes are told and forgotten, and `apply`, whose changes are carried over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.core.crossing import workspace
from weft.core.pattern import real_path
from weft.core.resources import Paused, Resources
from weft.core.secret import Secret
from weft.core.step import primitive
from weft.runtime.sandbox import Finished, Job, Streams, choose
from weft.runtime.sandbox import run as sandboxed
from weft.tool.output import adopt
from weft.tool.sandbox import place
from weft.tool.sandbox.place import Changed

LIMIT = 100_000
"""Bytes that are kept of each of the two outputs if nothing else is said."""


@dataclass(frozen=True)
class Ran:
    """What came of a command. `code`: its exit status; below 0 the number of the signal that ended it. `changes`: what
    it did to its copies, the first 1000 (`changed`: how many there are). `paused`: it waited for long, because the
    machine had no memory for it. `stdout_ref`, `stderr_ref` name the whole of an output that was cut
    (`weft.tool.output`)."""

    code: int
    stdout: str
    stderr: str
    changes: list[Changed] = field(default_factory=list)
    changed: int = 0
    paused: Paused | None = None
    stdout_ref: str | None = None
    stderr_ref: str | None = None


def _run_needs(
    argv: Any, copy: Sequence[Any] = (".",), read: Sequence[Any] = (), env: Mapping[str, Any] | None = None, **_: Any
) -> Iterator[tuple[str, Any]]:
    return place.needs(place.words_of(argv, "sandbox.run"), env, (*copy, *read))


@primitive(name="sandbox.run", effect="pure", needs=_run_needs)
async def run(
    argv: Sequence[str | Path],
    *,
    copy: Sequence[str | Path] = (".",),
    read: Sequence[str | Path] = (),
    folder: str | Path | None = None,
    input: str | bytes = "",
    env: Mapping[str, str | Secret] | None = None,
    seconds: float | None = None,
    limit: int = LIMIT,
    resources: Mapping[str, Any] | Resources | None = None,
) -> Ran:
    """Run a command in the process wall and wait for its end. It works on copies of the folders of `copy` and sees
    those of `read` as they are; its changes are told, and forgotten.

    `folder`: where it runs (else in the first of its folders). `env`: all of its environment besides PATH, HOME and
    TMPDIR. Of each output at most `limit` bytes are kept, the first and the last. `seconds` and `resources` are what it
    may take: no more than the step's own `limits`, else 1 GB, 128 processes, 60 s, 1 GB written.

    Raises Denied, OverTime, OverMemory, OverPids and OverDisk for a limit that ended it, BadInput for folders that
    are none, SandboxMissing where the machine has no wall. A command that is not there has the code 127."""
    job = _job(argv, copy, read, folder, input, env, limit, place.limits(resources, seconds))
    done = await sandboxed(choose("process"), job)
    try:
        done.check()
        return await _ran(done, limit, place.changes_of(done))
    finally:
        await asyncio.to_thread(done.drop)


def _apply_needs(
    argv: Any, write: Sequence[Any] = (".",), read: Sequence[Any] = (), env: Mapping[str, Any] | None = None, **_: Any
) -> Iterator[tuple[str, Any]]:
    return place.needs(place.words_of(argv, "sandbox.apply"), env, read, write)


@primitive(name="sandbox.apply", effect="at_most_once", needs=_apply_needs)
async def apply(
    argv: Sequence[str | Path],
    *,
    write: Sequence[str | Path] = (".",),
    read: Sequence[str | Path] = (),
    folder: str | Path | None = None,
    input: str | bytes = "",
    env: Mapping[str, str | Secret] | None = None,
    seconds: float | None = None,
    limit: int = LIMIT,
    resources: Mapping[str, Any] | Resources | None = None,
) -> Ran:
    """Run a command as `run` does, on copies of the folders of `write`, and carry its changes over, whatever its code.

    Each changed path must be one that may be written (or deleted), and that nobody else has changed meanwhile: else
    Denied or ChangedMeanwhile is raised, and nothing is carried over; likewise if a limit ended it."""
    job = _job(argv, write, read, folder, input, env, limit, place.limits(resources, seconds))
    done = await sandboxed(choose("process"), job)
    try:
        done.check()
        changes = await asyncio.to_thread(place.carry_over, done, [str(path) for path in job.copy])
        return await _ran(done, limit, changes)
    finally:
        await asyncio.to_thread(done.drop)


def _job(
    argv: Any, copy: Sequence[str | Path], read: Sequence[str | Path], folder: str | Path | None, input: str | bytes,
    env: Mapping[str, str | Secret] | None, limit: int, resources: Resources,
) -> Job:  # fmt: skip
    copies, reads = place.real_places(copy), place.real_places(read)
    where = next(iter([*copies, *reads]), None) if folder is None else real_path(str(folder), workspace())
    words = place.words_of(argv, "sandbox.run")
    return Job(
        argv=words if where is None else place.within(words, where),
        copy=copies,
        read=reads,
        cwd=where,
        env=place.environment(env),
        sees=place.seen(),
        stdin=input.encode() if isinstance(input, str) else input,
        streams=Streams(keep=limit),
        resources=resources,
    )


async def _ran(done: Finished, limit: int, changes: list[Changed]) -> Ran:
    code = -done.signal if done.signal else done.status or 0
    out, err = [await asyncio.to_thread(adopt, one, limit=limit) for one in (done.stdout, done.stderr)]
    return Ran(code, out.shown, err.shown, changes, len(done.changes), done.usage.paused, out.ref, err.ref)
