"""llama.cpp's own HTTP server in a child process, so that a crash in C is an error and not the end of the program.

A `LlamaServer` starts its child when first asked for its address, and anew when the child has died since. All callers
in one operating-system process share one server per model; it ends with the interpreter, or at `close_servers()`.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, NamedTuple

from weft.core.errors import MissingExtra, ModelCrashed, ModelUnavailable

READY_SECONDS = 120.0
COMPLAINT = re.compile(r"assert|abort|terminate|error|failed|cannot|no such", re.IGNORECASE)
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")


class Address(NamedTuple):
    """Where a model server listens, and the key it wants ("" for none)."""

    url: str
    key: str


class LlamaServer:
    """One model file served by one child process: `slots` generations at once, `context` tokens for each."""

    def __init__(self, name: str, path: Path, slots: int, context: int) -> None:
        self.name = name
        self.path = path
        self.slots = slots
        self.context = context
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._address = Address("", "")
        self._said: deque[str] = deque(maxlen=40)

    @property
    def pid(self) -> int | None:
        """The child's process id, or None when none is running."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def address(self) -> Address:
        """Where the child listens, started first if none is running. Blocks until it is ready.

        Raises ModelUnavailable, with the end of the child's log, if it does not become ready."""
        with self._lock:
            if self.pid is None:
                self._start()
            return self._address

    def _start(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra("local models need the extra `local`: pip install 'weft[local]'")
        if not self.path.is_file():
            raise ModelUnavailable(f"no model file at {self.path}; fetch it again, or correct the path")
        self._bury()
        key = secrets.token_urlsafe(24)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "weft.model.engine.server_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a ctrl-C on the terminal is for the program, which then ends its engine
            env={
                **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "OMP_WAIT_POLICY": "passive",
            },
        )
        assert child.stdin and child.stdout and child.stderr
        self._child = child
        threading.Thread(target=listen, args=(child.stderr, self._said), daemon=True).start()
        settings = {
            "path": str(self.path),
            "key": key,
            "slots": self.slots,
            "context": self.context,
            "parent": os.getpid(),
        }
        try:
            child.stdin.write(json.dumps(settings).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; _ready says how
        self._address = Address(self._ready(child, child.stdout), key)

    def _ready(self, child: subprocess.Popen[bytes], answers: IO[bytes]) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while not select.select([answers], [], [], 0.2)[0]:
            if time.monotonic() > deadline:
                child.kill()
                child.wait()
                raise ModelUnavailable(
                    f"the engine of {self.name} was not ready after {READY_SECONDS:.0f} s{self._log()}; "
                    "try again when the machine is less busy"
                )
        line = answers.readline()
        if line:
            address: str = json.loads(line)["address"]
            return address
        code = child.wait()
        raise ModelUnavailable(
            f"the engine of {self.name} could not start ({ending(code)}){self._log()}; if the model's file "
            f"{self.path.name} is damaged, delete it and it is fetched again"
        )

    def crashed(self) -> ModelCrashed | None:
        """Why a connection to the child broke, if the child is dead (waits up to 2 s to know)."""
        child = self._child
        if child is None:
            return ModelCrashed(f"the engine of {self.name} was closed during a generation; call again to restart it")
        try:
            code = child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return None
        return ModelCrashed(
            f"the engine of {self.name} died during a generation ({ending(code)}){self._log()}; "
            "call again: the next generation starts a new one"
        )

    def _log(self) -> str:
        last = [line for line in list(self._said)[-8:] if COMPLAINT.search(line)]
        return f"; its last words: {' | '.join(last[-3:])[:600]}" if last else ""

    def _bury(self) -> None:
        child, self._child = self._child, None
        self._said.clear()
        if child is not None:
            child.kill()  # it holds nothing worth saving
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()

    def close(self) -> None:
        """End the child, if one runs."""
        with self._lock:
            self._bury()


def listen(stderr: IO[bytes], said: deque[str]) -> None:
    with stderr:
        for line in stderr:
            said.append(line.decode("utf-8", "replace").strip())


def ending(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


_servers: dict[tuple[Path, int, int], LlamaServer] = {}
_servers_lock = threading.Lock()


def shared_server(name: str, path: Path, slots: int, context: int) -> LlamaServer:
    """This process's engine for the file, made (not started) when first asked for."""
    with _servers_lock:
        return _servers.setdefault((path, slots, context), LlamaServer(name, path, slots, context))


def close_servers() -> None:
    """End every engine of this process. A later call starts what it needs."""
    with _servers_lock:
        for engine in _servers.values():
            engine.close()


def _forget() -> None:
    """In a forked process: the engines belong to the parent."""
    global _servers_lock
    _servers.clear()
    _servers_lock = threading.Lock()


atexit.register(close_servers)
os.register_at_fork(after_in_child=_forget)
