"""The child process seen from the program: start it, send an order, wait for the answer, know that it died.

`Child.ask` blocks; `weft.model.engine.local` calls it from one thread, so orders are carried out one after the other.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from weft.core.errors import BadInput, EngineUnfit, ModelCrashed, ModelUnavailable, OutOfCells
from weft.model.engine import abi, wire
from weft.model.engine.server import COMPLAINT, ENVIRONMENT, READY_SECONDS, ending, listen


class Child:
    """One child with one model."""

    def __init__(self, name: str, settings: wire.Settings) -> None:
        """Start it and wait until the model is loaded. Raises EngineUnfit if the library is not the one we know,
        ModelUnavailable, with the end of the child's log, if it does not become ready."""
        unfit = abi.fits()
        if unfit:
            raise EngineUnfit(unfit)
        if not Path(settings.path).is_file():
            raise ModelUnavailable(f"no model file at {settings.path}; fetch it again, or correct the path")
        self.name = name
        self._said: deque[str] = deque(maxlen=40)
        self._line, theirs = socket.socketpair()
        for each in (self._line, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "weft.model.engine.child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a ctrl-C on the terminal is for the program, which then ends its engine
                env={
                    **{name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                    "OMP_WAIT_POLICY": "passive",
                    "OMP_NUM_THREADS": str(settings.threads),
                },
            )
        assert self._popen.stderr is not None
        threading.Thread(target=listen, args=(self._popen.stderr, self._said), daemon=True).start()
        try:
            self.hello = self._greet(settings)
        except BaseException:
            self.close()
            raise

    def _greet(self, settings: wire.Settings) -> wire.Hello:
        try:
            wire.send(self._line, settings)
            if not select.select([self._line], [], [], READY_SECONDS)[0]:
                raise ModelUnavailable(
                    f"the engine of {self.name} was not ready after {READY_SECONDS:.0f} s{self._log()}; "
                    "try again when the machine is less busy"
                )
            kind, value = msgspec.msgpack.decode(wire.receive(self._line))
        except (EOFError, OSError):
            raise self._unable(settings, ending(self._popen.wait())) from None
        if kind == wire.UNFIT:
            raise EngineUnfit(value)
        if kind != wire.DONE:
            raise self._unable(settings, value)
        return msgspec.convert(value, wire.Hello)

    def _unable(self, settings: wire.Settings, why: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the engine of {self.name} could not start ({why}){self._log()}; if the model's file "
            f"{Path(settings.path).name} is damaged, delete it and it is fetched again"
        )

    @property
    def pid(self) -> int | None:
        """Its process id, or None when it does not run any more."""
        return self._popen.pid if self._popen.poll() is None else None

    def cpu(self) -> float:
        """Seconds of CPU that it took so far, all its threads. Linux only."""
        tasks = Path(f"/proc/{self._popen.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def ask(self, order: wire.Order) -> Any:
        """What the child answers. Raises ModelCrashed if it died, BadInput if it refused the order, OutOfCells."""
        try:
            wire.send(self._line, order)
            kind, value = msgspec.msgpack.decode(wire.receive(self._line))
        except (EOFError, OSError):
            self._popen.kill()  # it cannot be spoken with, dead or not
            how = ending(self._popen.wait())
            raise ModelCrashed(f"the engine of {self.name} died ({how}){self._log()}") from None
        if kind == wire.REFUSED:
            raise BadInput(f"the engine of {self.name} refused: {value}")
        if kind == wire.FULL:
            raise OutOfCells(f"the engine of {self.name} is full: {value}; close or trim sequences")
        return value

    def _log(self) -> str:
        last = [line for line in list(self._said)[-12:] if COMPLAINT.search(line)]
        return f"; its last words: {' | '.join(last[-3:])[:600]}" if last else ""

    def close(self) -> None:
        """End it: it holds nothing worth saving."""
        self._popen.kill()
        self._popen.wait()
        self._line.close()
