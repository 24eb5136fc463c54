"""A step that blocks the host's loop stops every run of this process: say which one it is."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.runtime.runtime import Runtime

BLOCKED = 1.0
"""Seconds without a turn of the loop before a warning."""


class Watch:
    """A thread that looks at the loop's pulse."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.pulse = monotonic()
        self.thread_id = threading.get_ident()
        self.ended = threading.Event()
        self._beat()
        threading.Thread(target=self._look, name="weft-watch", daemon=True).start()

    def _beat(self) -> None:
        self.pulse = monotonic()
        self.timer = self.runtime.host.call_later(BLOCKED / 4, self._beat)

    def close(self) -> None:
        self.timer.cancel()
        self.ended.set()

    def _look(self) -> None:
        warned = 0.0
        while not self.ended.wait(BLOCKED / 2):
            pulse = self.pulse
            if monotonic() - pulse < BLOCKED or pulse == warned:
                continue
            warned = pulse
            task = asyncio.current_task(self.runtime.host)
            frame = sys._current_frames().get(self.thread_id)
            where = "".join(traceback.format_stack(frame, limit=4)) if frame else ""
            self.runtime.log.warning(
                "step %s blocks the event loop for more than %g s, and with it every run of this process; make it a "
                "plain `def` step (it then runs in a thread) or await instead. It is here:\n%s",
                task.get_name() if task else "(a workflow's body)",
                BLOCKED,
                where,
            )
