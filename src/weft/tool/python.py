"""Run Python that a model wrote, in a sandbox: files go in as data and come out as data, and nothing else does.

    done = await python.run("print(sum(map(int, open('numbers.txt'))))", files={"numbers.txt": text})
    if done.code: print(done.stderr)

The program sees its files, this Python with its packages, and no network, no workspace, no secrets. So it needs no
right: what it computes is as free as what it was given. Read what it needs with `files.read_text`, write what it made
with `files.write_text`."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from weft.core.crossing import crossing
from weft.core.errors import BadInput
from weft.core.resources import Paused, Resources
from weft.core.step import primitive
from weft.runtime.sandbox import Finished, Job, Streams, choose
from weft.runtime.sandbox import run as sandboxed
from weft.tool.output import adopt

LIMIT = 100_000
"""Bytes that are kept of each of the two outputs if nothing else is said."""
LARGEST = 10_000_000
"""Bytes of all the files that may come back."""
DEFAULT = Resources(memory="1G", pids=64, seconds=60, disk="500M")


@dataclass(frozen=True)
class Ran:
    """What came of a program. `code`: its exit status; below 0 the number of the signal that ended it. `files`: what it
    made or changed, by path. `stdout_ref`, `stderr_ref` name the whole of an output that was cut
    (`weft.tool.output`). `paused`: it waited for long, because the machine had no memory for it."""

    code: int
    stdout: str
    stderr: str
    files: dict[str, bytes] = field(default_factory=dict)
    stdout_ref: str | None = None
    stderr_ref: str | None = None
    paused: Paused | None = None


@primitive(name="python.run", effect="pure", needs=())
async def run(
    program: str,
    *,
    files: Mapping[str, str | bytes] | None = None,
    input: str | bytes = "",
    seconds: float | None = None,
    limit: int = LIMIT,
) -> Ran:
    """Run a program in the process wall and wait for its end. `files` lie in its current folder, by relative path;
    `input` is its standard input; of each output at most `limit` bytes are kept, the first and the last.

    The limits of the step that calls it count (else 1 GB, 64 processes, 60 s, 500 MB written). Raises OverTime,
    OverMemory, OverPids, OverDisk for a limit that ended it, BadInput for paths that lead out of its folder or
    results above 10 MB, and SandboxMissing where the machine has no wall."""
    here = crossing()
    resources = (here.resources if here is not None else None) or DEFAULT
    if seconds is not None:
        resources = msgspec.structs.replace(resources, seconds=seconds)
    with tempfile.TemporaryDirectory(prefix="weft-python-") as name:
        folder = await asyncio.to_thread(_lay_out, name, files or {})
        job = Job(
            python=program,
            copy=[folder],
            cwd=folder,
            stdin=input.encode() if isinstance(input, str) else input,
            streams=Streams(keep=limit),
            resources=resources,
        )
        done = await sandboxed(choose("process"), job)
        try:
            done.check()
            await asyncio.to_thread(done.take)
            made = await asyncio.to_thread(lambda: dict(_made(done, folder)))
            out, err = [await asyncio.to_thread(adopt, one, limit=limit) for one in (done.stdout, done.stderr)]
        finally:
            await asyncio.to_thread(done.drop)
    code = -done.signal if done.signal else done.status or 0
    return Ran(code, out.shown, err.shown, made, out.ref, err.ref, done.usage.paused)


def _lay_out(name: str, files: Mapping[str, str | bytes]) -> Path:
    folder = Path(name).resolve()
    for path, content in files.items():
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not PurePosixPath(path).parts:
            raise BadInput(f"python.run(files={{{path!r}: ...}}): give paths below the program's folder")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def _made(done: Finished, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files that are new or changed. Links lead nowhere from here, and are left out."""
    total = 0
    for change in done.changes:
        if change.kind == "removed":
            continue
        kind = change.path.lstat()
        if not stat.S_ISREG(kind.st_mode):
            continue
        total += kind.st_size
        if total > LARGEST:
            raise BadInput(f"the program's files are larger than {LARGEST} bytes: write less, or print the result")
        with os.fdopen(os.open(change.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            yield str(change.path.relative_to(folder)), file.read()
