"""Workers of one store, each an operating-system process, and a program that is written for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import weft
from weft.cli.load import load
from weft.store.base import ProcessRow

ROOT = Path(__file__).parents[1]


class Crew:
    """Workers of one store. `log`: what their steps wrote down."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.log = folder / "log"
        self.log.touch()
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []

    def program(self, text: str, version: str = "one") -> Any:
        """A module of this test alone, which the workers load too. Versions of it are files of one name."""
        folder = self.folder / version
        folder.mkdir()
        file = folder / f"{self.folder.name}.py"
        file.write_text(_PREFIX.format(log=str(self.log)) + textwrap.dedent(text))
        return load(str(file)) if version == "one" else file

    def hire(self, program: Any, queues: str = "default", **options: object) -> subprocess.Popen[bytes]:
        given = {"store": self.url, "queues": queues, "heartbeat": 0.5, **options}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        with (self.folder / f"worker{len(self.workers)}").open("wb") as output:
            self.workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "weft", "worker", str(getattr(program, "__file__", program)), *words],
                    cwd=self.folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                    stdout=output,
                    stderr=output,
                )
            )
        return self.workers[-1]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def words(self) -> str:
        """What the workers said."""
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("worker*")))

    def run(self, use: Callable[[weft.Runtime], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with weft.Runtime(self.url) as runtime:
                return await use(runtime)

        return asyncio.run(main())

    async def until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not within {seconds:g} s\n{self.words()}"
            await asyncio.sleep(0.05)

    async def row(self, runtime: weft.Runtime, id: str) -> ProcessRow:
        row = await runtime.store.row(id)
        assert row is not None
        return row


@contextmanager
def hired(url: str, folder: Path) -> Iterator[Crew]:
    """A crew, of whom nobody is left at the end."""
    crew = Crew(url, folder)
    try:
        yield crew
    finally:
        for worker in crew.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


_PREFIX = """
import asyncio, os, signal, time
import weft

def mark(word):
    descriptor = os.open({log!r}, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{{word}}\\n".encode())
    os.close(descriptor)
"""
