"""The attacks of the escape suite by a user without rights, as a program of its own: each against each wall of
processes, beside a neighbour. Says what broke through as JSON; started by `test_escapes` as the user nobody."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import attacks, leaks
from tests.test_escapes import ALL, CODE, OF_PROCESSES, VERDICTS, Machine
from weft.core.resources import Resources
from weft.runtime.sandbox import Job, Session, disk, run

STOPPED = attacks.READING | attacks.CONNECTING | attacks.WRITING | attacks.ACTING
AT_ONCE = 2


async def broken(machine: Machine, name: str) -> list[str]:
    """What got through one wall, or was not contained."""
    wall, found = ALL[name], []

    async def attack(what: str, text: str, **resources: Any) -> None:
        job = Job(
            python=machine.program(text), env={"MARK": machine.mark}, copy=[machine.workspace], cwd=machine.workspace,
            resources=Resources(**{"seconds": 30, **resources}),
        )  # fmt: skip
        done = await run(wall, job)
        done.drop()
        if b"ESCAPED" in done.stdout.data or (what in STOPPED and what not in attacks.WRITING and done.status == 0):
            found.append(f"{name}: {what}: {done.stdout.text[:200]}")
        _, error = VERDICTS.get(what, ({}, None))
        if error is not None and not isinstance(done.error(), error):
            found.append(f"{name}: {what}: ended by {done.limit}, not by {error.__name__}")
        try:
            machine.unharmed()
        except AssertionError as harm:
            found.append(f"{name}: {what}: {str(harm)[:200]}")

    async with await Session.open(wall, Job(argv=["/bin/sh"], env={"MARK": machine.mark})) as neighbour:
        await neighbour.run("echo 'the secret of a neighbour' >$TMPDIR/kept; sleep 1000 & echo $! >$TMPDIR/pid")
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(what: str, text: str) -> None:
            async with gate:
                await attack(what, text)

        await asyncio.gather(*(one(what, text) for what, text in (STOPPED | attacks.STAYING).items()))
        for what, text in attacks.TAKING.items():
            await attack(what, text, **VERDICTS[what][0])
        reply = await neighbour.run("cat $TMPDIR/kept; kill -0 $(cat $TMPDIR/pid) && echo lives")
        if reply.stdout.text != "the secret of a neighbour\nlives\n":
            found.append(f"{name}: the neighbour: {reply.stdout.text}{reply.stderr.text}")
    if leaks.processes(machine.mark):
        found.append(f"{name}: processes are left")
    return found


def main() -> None:
    os.environ["TOKEN"] = CODE
    disk.FILES = 10_000
    there = [name for name in OF_PROCESSES if ALL[name].available().ok]
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="weft-nobody-") as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder), f"mark-{os.getpid()}-nobody")
        try:
            for name in there:
                with leaks.none():
                    found += asyncio.run(broken(machine, name))
        finally:
            machine.close()
    json.dump({"user": os.geteuid(), "walls": there, "broken": found}, sys.stdout)


if __name__ == "__main__":
    main()
