"""Run a command: an argument vector, no shell unless the vector names one.

    done = await shell.run(["pytest", "-q"], timeout=300)         # needs shell:pytest -q
    if done.code: print(done.stderr)

The command is found on Weft's own PATH (a relative path means the workspace) and gets that PATH and little else of the
environment. It runs in a resource group: it and all that it started end with it, with its time, with the step, or with
Weft, and what it took is in the step's outcome. What it does while it runs is its own affair: allow only commands that
you trust with what they can reach, and run others with `weft.tool.sandbox`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from weft.core.crossing import authorised, closer, crossing, traceparent, workspace
from weft.core.errors import BadInput, StepTimeout
from weft.core.pattern import shell_resource
from weft.core.pattern.launch import base
from weft.core.pattern.shell import split
from weft.core.resources import Paused, Resources, resources_of
from weft.core.secret import Secret
from weft.core.step import primitive
from weft.runtime.governor import Group, grouped, limit_error
from weft.tool.files import opening
from weft.tool.output import Collector

LIMIT = 1_000_000
"""Bytes that are kept of each of the two outputs if nothing else is said."""
WHOLE = 64_000_000
"""Bytes that are kept on disk of an output that is longer than that."""
GRACE = 2.0
"""Seconds between the request to end and the end."""
DRAIN = 0.5
"""Seconds that are waited for the end of the output of what the command left running."""
KEPT = ("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""Variables of the environment that a command gets, besides PATH, LC_* and those that say where certificates lie."""


@dataclass(frozen=True)
class Completed:
    """What came of a command. `code` is its exit status; below 0 the number of the signal that ended it. `cut`: bytes
    of output that were left out; then `stdout_ref` and `stderr_ref` name the whole (`weft.tool.output`). `paused`: it
    waited for long, because the machine had no memory for it."""

    code: int
    stdout: str
    stderr: str
    cut: int = 0
    stdout_ref: str | None = None
    stderr_ref: str | None = None
    paused: Paused | None = None


def _words(argv: Any) -> list[str]:
    if isinstance(argv, str | bytes) or not all(isinstance(word, str | Path) for word in argv):
        words = shlex.split(argv) if isinstance(argv, str) and argv.count("'") % 2 == 0 else ["git", "status"]
        raise BadInput(f"shell.run({argv!r}): give a list of texts, such as {words!r}; no shell reads it")
    if not argv:
        raise BadInput("shell.run([]): the list is empty; give a command and its arguments")
    return [str(word) for word in argv]


def _needs(
    argv: Any, folder: str | Path | None = None, env: Mapping[str, str | Secret] | None = None, **_: Any
) -> Iterator[tuple[str, Any]]:
    words = _words(argv)
    if env:
        # What `env NAME=VALUE command` may do, this may do, and nothing else.
        words = ["env", *(f"{name}={value}" for name, value in env.items()), *words]
    yield "shell.run", words
    if folder is not None:
        yield "file.read", str(folder)
    for value in (env or {}).values():
        if isinstance(value, Secret):
            yield "secret.open", value.name


@primitive(name="shell.run", effect="at_most_once", needs=_needs)
async def run(
    argv: Sequence[str | Path],
    *,
    input: str | bytes | None = None,
    timeout: float = 60.0,  # noqa: ASYNC109 (it travels with the request)
    env: Mapping[str, str | Secret] | None = None,
    folder: str | Path | None = None,
    limit: int = LIMIT,
    resources: Mapping[str, Any] | Resources | None = None,
) -> Completed:
    """Run a command and wait for it, for up to `timeout` seconds (without those in which it was paused for want of
    memory); then it is ended and StepTimeout raised.

    `input` is its standard input. `env` are variables that it gets besides a few of Weft's (a `weft.secret` is opened
    for it); with them it needs the right to run `env NAME=VALUE command`. `folder` is where it runs: the workspace, or
    one that may be read. Of each output at most `limit` bytes are kept, the first and the last. `resources` is what it
    may take (`{"memory": "512M"}`): no more than the step's own `limits`; if neither says anything, what its like took
    tells how much memory it will need, and no more than that is kept for it.

    Commands change things: one is never run twice; say ``shell.run.options(effect="idempotent")(...)`` of one that may
    be. Raises Denied, FileNotFoundError for a command that is not there, OverMemory, OverPids, OverDisk and OverTime.
    """
    words = _authorised(_words(argv), env)
    if input:
        _look_into(words, input)
    place = workspace() if folder is None else authorised("file.read", folder)
    program, environment = _program(words[0]), _environment(env or {})
    if (trace := await traceparent()) is not None:
        environment.setdefault("TRACEPARENT", trace)
    asked = resources_of(resources) or Resources()
    async with grouped(asked, "shell", argv=words) as group:
        running = _Running(limit, group)
        with opening.folder("file.read", place) as handle:
            transport = await _started(
                asyncio.get_running_loop().subprocess_exec(
                    lambda: running,
                    *group.enter,
                    program,
                    *words[1:],
                    stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                    cwd=opening.path_of(handle, place),
                    env=environment,
                    start_new_session=True,
                )
            )
        try:
            done = await running.ended(input, timeout)
        finally:
            transport.close()
    if error := limit_error(group):
        raise error
    if done is None:
        raise StepTimeout(
            f"{shlex.join(words)[:200]} did not finish within {timeout:g} s and was ended; give it a longer timeout. "
            f"Its last words: {running.stderr.last() or running.stdout.last()!r}"
        )
    return replace(done, paused=group.usage().paused)


def _authorised(words: list[str], env: Mapping[str, Any] | None) -> list[str]:
    """The vector as it was decided about: a relative path to a program is the workspace's."""
    if "/" not in words[0]:
        return words
    here = crossing()
    for request in here.requests if here is not None and not env else ():
        if request.action == "shell.run":
            return [*split(request.resource)]
    return [*split(shell_resource(words, workspace()))]


def _look_into(words: Sequence[str], input: str | bytes) -> None:
    """What is denied as an argument of a program that reads code is denied as its input."""
    if any(_INTERPRETER.fullmatch(base(word)) for word in words):
        text = input if isinstance(input, str) else input.decode("utf-8", "replace")
        line = shlex.join([*words, text.replace("\0", " ")])
        closer("shell.run", line, "give it as an argument instead, so that it is known before the step begins")


_INTERPRETER = re.compile(
    r"(?:ba|da|z|k|c|tc|fi|mk)?sh|busybox|xargs|parallel|at|batch|ssh|su|(?:python|pypy|perl|ruby|node|deno|bun|php|lua|"
    r"tclsh|expect|osascript|pwsh|rscript|julia|guile)[\d.]*"
)
"""Programs that take their standard input for commands."""


def _program(command: str) -> str:
    """Where the command lies: on Weft's PATH, of which only absolute folders count."""
    if "/" in command:
        return command
    folders = [folder for folder in os.get_exec_path() if folder.startswith("/")]
    found = shutil.which(command, path=os.pathsep.join(folders))
    if found is None:
        raise FileNotFoundError(2, "there is no such command on the PATH; install it, or give its path", command)
    return found


def _environment(given: Mapping[str, str | Secret]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith("LC_") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
    }
    kept["PATH"] = os.environ.get("PATH", os.defpath)
    return kept | {name: value.reveal() if isinstance(value, Secret) else str(value) for name, value in given.items()}


async def _started(
    start: Coroutine[Any, Any, tuple[asyncio.SubprocessTransport, asyncio.SubprocessProtocol]],
) -> asyncio.SubprocessTransport:
    """The command, started. asyncio's own start may wait for ever if it is cancelled in its middle."""
    starting = asyncio.ensure_future(start)
    try:
        return (await asyncio.shield(starting))[0]
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            (await starting)[0].close()
        raise


# --- while it runs --------------------------------------------------------------------------------------------------


class _Running(asyncio.SubprocessProtocol):
    """A command under way."""

    def __init__(self, limit: int, group: Group) -> None:
        self.stdout, self.stderr = Collector(limit, WHOLE), Collector(limit, WHOLE)
        self.group = group
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        """Nobody holds its outputs any more."""
        self._open = {1, 2}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.transport = transport
        self.session = transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.stdout if fd == 1 else self.stderr).add(data)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open:
            self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()

    async def ended(self, input: str | bytes | None, seconds: float) -> Completed | None:
        """Give it its input and wait for its end; None if that took too long. What it left running ends with it, and
        it if nobody waits."""
        stdin = self.transport.get_pipe_transport(0)
        if isinstance(stdin, asyncio.WriteTransport):
            stdin.write(input.encode() if isinstance(input, str) else input or b"")
            stdin.close()
        try:
            in_time = await self._in_time(seconds)
            if in_time:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.silent.wait(), DRAIN)
        finally:
            if not self.exited.is_set():
                await self._stop()
            self._signal(signal.SIGKILL)
        code = self.transport.get_returncode()
        assert code is not None
        out, err = await asyncio.to_thread(lambda: (self.stdout.done(), self.stderr.done()))
        done = Completed(code, out.text, err.text, out.left_out + err.left_out, out.ref, err.ref)
        return done if in_time else None

    async def _in_time(self, seconds: float) -> bool:
        """Whether it ended before it had run for so long, not counting its pauses."""
        began = monotonic()
        while (left := seconds + self.group.usage().paused_seconds - (monotonic() - began)) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), left)
                return True
        return False

    async def _stop(self) -> None:
        """Ask it to end, and then end it."""
        self._signal(signal.SIGTERM)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), GRACE)
        finally:
            if not self.exited.is_set():
                self._signal(signal.SIGKILL)
                await asyncio.to_thread(self.group.kill)
                await self.exited.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.session, number)
