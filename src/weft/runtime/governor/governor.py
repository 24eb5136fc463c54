"""The governor: one thread that looks at all calls of this process and at what the machine has left.

It ends a call that is over a limit. When memory runs short it pauses calls, those of low priority first and among
equals the youngest, and lets them go on when there is room again; it kills only when all of them wait, or one has
waited too long. It may die at any moment: what it paused sleeps in groups that a watchdog knows (`standby`).
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from itertools import count

from weft.core.errors import BadInput
from weft.core.resources import Resources, Usage
from weft.runtime.governor import cgroup1, cgroup2, lend
from weft.runtime.governor.backend import Kind, choose
from weft.runtime.governor.group import Call, Counted
from weft.runtime.governor.lend import Claim
from weft.runtime.governor.machine import Machine
from weft.runtime.governor.place import places
from weft.runtime.governor.polling import Polled
from weft.runtime.governor.posted import Board
from weft.runtime.governor.standby import Standby
from weft.runtime.governor.watchdog import owner, reap, remove

log = logging.getLogger("weft")

PATIENCE = 2.0
"""Seconds for which all may wait before one is killed."""
LONGEST = 600.0
"""Seconds for which one may wait."""
LOOK, CLOSE_LOOK = 0.05, 0.005
"""Seconds between two looks, and when memory is short."""
_numbers = count(1)


class Governor:
    """`pool`: bytes that all its calls together may use; None: what the machine has. `kind`: the back-end; None: the
    best of this machine."""

    def __init__(self, pool: int | None = None, kind: Kind | None = None, *, patience: float = PATIENCE) -> None:
        self.kind = choose(kind)
        self.pool = pool
        self.patience = patience
        self.groups: dict[str, Counted] = {}
        self._where = places()
        self._machine = Machine(self._where)
        self._standby = Standby(self._where.roots)
        self._board = Board()
        self._process = os.getpid()
        self._owner = owner(self._process)
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stuck: float | None = None
        self._short = False
        self._pool = ""
        if pool is not None and pool < 2**20:
            raise BadInput(f"Governor(pool={pool}): bytes, at least a megabyte")
        reap(self._where.roots)

    # --- calls ------------------------------------------------------------------------------------------------

    def open(
        self,
        resources: Resources,
        name: str = "call",
        priority: int = 0,
        took: Callable[[Usage], None] | None = None,
        call: Call = Call(),
    ) -> Counted:
        """A new group; `took` is told at its end what it took; `call` is what it is for. Raises OSError if none can be
        made any more (then something else on the machine has changed)."""
        with self._lock:
            if self._closed:
                raise BadInput("this governor is closed")
            self._standby.ensure()
            group = self._make(self._name(name), resources, priority)
            self.groups[group.name] = group
            group.left = self._left
            group.took = took
            group.call = call
            if self.pool is not None or self._short or resources.on_limit == "pause":
                self._lend()
            if self._short or len(self.groups) == 1:
                self._wake.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="weft-governor", daemon=True)
                self._thread.start()
            return group

    def close(self) -> None:
        """End all that is left of its calls."""
        with self._lock:
            if self._closed or self._process != os.getpid():
                return
            self._closed = True
            self._wake.notify()
        for group in list(self.groups.values()):
            with contextlib.suppress(RuntimeError):
                group.close()
        if self._pool:
            remove([os.path.join(directory, self._pool) for directory in self._roots()])
        self._standby.dismiss()

    @property
    def watchdog(self) -> int | None:
        """Its process, if one is there."""
        return self._standby.pid

    def _left(self, name: str) -> None:
        with self._lock:
            self.groups.pop(name, None)
            if not self.groups:
                self._board.clear()

    def _name(self, name: str) -> str:
        return f"{self._owner}{next(_numbers)}-{re.sub(r'[^A-Za-z0-9_.]', '_', name)[:40]}"

    def _roots(self) -> list[str]:
        if self.kind == "cgroup1":
            return sorted(set(self._where.v1.values()))
        return [self._where.v2] if self.kind == "cgroup2" and self._where.v2 else []

    def _make(self, name: str, resources: Resources, priority: int) -> Counted:
        if self.pool is not None and not self._pool:
            self._pool = self._name("pool")
            for directory in self._roots():
                os.mkdir(os.path.join(directory, self._pool))
            if self.kind == "cgroup1":
                cgroup1.limit_pool(self._where, self._pool, self.pool)
            elif self.kind == "cgroup2":
                cgroup2.limit_pool(self._where, self._pool, self.pool)
        if self.kind == "cgroup1":
            return cgroup1.V1(name, resources, priority, self._where, self._pool)
        if self.kind == "cgroup2":
            return cgroup2.V2(name, resources, priority, self._where, self._pool)
        return Polled(name, resources, priority)

    # --- looking ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # for those who may: what spins must not keep it from its work
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)
        while True:
            with self._lock:
                while not self.groups and not self._closed:
                    self._wake.wait()
                if not self._closed:
                    self._wake.wait(CLOSE_LOOK if self._short else LOOK)
                if self._closed:
                    return
            try:
                self.look()
            except Exception:
                log.exception("a look at the calls failed; the next may not")

    def look(self) -> None:
        """Measure all calls, end those that are over a limit, and share out what memory there is."""
        for group in list(self.groups.values()):
            if not group.closed:
                group.sample()
                group.note_pause()
                self._judge(group)
        with self._lock:
            self._lend()
            if self.groups:
                self._board.post(self.groups.values())
        self._standby.ensure()

    def _judge(self, group: Counted) -> None:
        now = time.monotonic()
        why = group.over()
        if why is not None:
            group.end(why)
        elif group.resources.seconds is not None and now - group.began - group.paused(now) > group.resources.seconds:
            group.end("seconds")

    # --- memory -----------------------------------------------------------------------------------------------

    def _lend(self) -> None:
        claims = [
            Claim(g.name, g.memory(), g.resources.memory, g.priority, g.began, g.resources.on_limit == "pause")
            for g in self.groups.values()
            if not g.closed and not (g.most_pids and g.empty())  # nothing is kept for one that has ended
        ]
        room = self._machine.room()
        if self.pool is not None:
            margin = max(2 * 2**20, self.pool // 50)
            room = min(room, self.pool - margin - sum(one.used for one in claims))
        ceilings = lend.share(room, claims)
        self._short = False
        for one in claims:
            self._give(self.groups[one.key], one, ceilings[one.key])
            self.groups[one.key].seen = one.used
        self._kill_last(claims)

    def _give(self, group: Counted, one: Claim, ceiling: int | None) -> None:
        """Let it use as much as this; shortly before it would pass that, pause it."""
        enough = ceiling is None or (one.promised is not None and ceiling >= one.promised)
        if not enough:
            self._short = True
        if ceiling is None or (enough and not one.lend):
            group.net(one.promised)
            if group.held:
                group.hold(False)
            return
        step = 2**20
        if enough or group.ceiling is None or abs(ceiling - group.ceiling) >= step:
            group.net(ceiling)
        grows = max(0, one.used - group.seen)  # in a look's time, and will in the next one
        before = min(max(ceiling // 20, 2 * step), 16 * step) + grows
        if one.used >= ceiling - before:
            self._short = True
            if not group.held:
                group.hold(True)
        elif group.held and one.used < ceiling - 2 * before:
            group.hold(False)

    def _kill_last(self, claims: list[Claim]) -> None:
        """Only when none gets on, or one has waited too long."""
        now = time.monotonic()
        ranked = lend.order(claims)
        held = [one for one in ranked if self.groups[one.key].held]
        for one in held:
            if now - self.groups[one.key].held_since > LONGEST:
                self.groups[one.key].end("memory")
        if not held or any(self._gets_on(one) for one in ranked):
            self._stuck = None
            return
        self._stuck = self._stuck or now
        if now - self._stuck > self.patience:
            greedy = [one for one in held if one.promised is not None and one.used > one.promised]
            self.groups[(greedy or held)[-1].key].end("memory")
            self._stuck = None

    def _gets_on(self, one: Claim) -> bool:
        group = self.groups[one.key]
        return not group.held and not group.empty()


_default: Governor | None = None
_making = threading.Lock()


def governor() -> Governor:
    """The governor of this process, over what the machine has."""
    global _default
    with _making:
        if _default is None or _default._process != os.getpid() or _default._closed:
            _default = Governor()
            atexit.register(_default.close)
        return _default
