"""The watchdog of this process: started with its first group, told of its death by a pipe that nobody else holds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from weft.runtime.governor import watchdog


class Standby:
    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = list(roots)
        self._pid: int | None = None
        self._pipe: int | None = None

    def ensure(self) -> None:
        """See that it is there; costs a system call if it is."""
        if self._pid is not None:
            try:
                if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                    return
            except ChildProcessError:
                pass
            self._forget()
        reading, self._pipe = os.pipe()
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", watchdog.__file__, watchdog.owner(os.getpid()), *self._roots],
                {"PATH": os.defpath},
                file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGTERM,),
            )
        finally:
            os.close(reading)

    @property
    def pid(self) -> int | None:
        return self._pid

    def dismiss(self) -> None:
        """Nothing is left to watch."""
        if self._pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(self._pid, 0)
        self._forget()

    def _forget(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
        self._pid = self._pipe = None
