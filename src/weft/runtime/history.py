"""What the journal of a process says already: the outcomes to deliver again, and what was under way.

A record names the number, kind, name and arguments of its effect; `fits` compares them with what the code issues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from weft.core.record import AnyRecord, Approved, Aside, Attempt, Blob, Fork, Outcome, Reserved, Started, content_hash


class History:
    """The records of one process up to where it goes live, with a cursor for the replay."""

    def __init__(self, records: Sequence[AnyRecord], clean: Callable[[bytes], bytes]) -> None:
        self.intents = {r.effect: r for r in records if type(r) is Started}
        self.tried = {r.effect: r for r in records if type(r) is Attempt}
        self.order: list[AnyRecord] = [r for r in records if not isinstance(r, Aside)]
        """Those that reached the body, in that order."""
        self.approved = {r.effect: r for r in records if type(r) is Approved}
        self.reserved = {r.effect: r.uses for r in records if type(r) is Reserved}
        self.cursor = 0
        self.forks = deque(r for r in self.order if type(r) is Fork)  # those the replay has not passed
        self.replaced = {fork.replaced for fork in self.forks}
        self._clean = clean

    def __bool__(self) -> bool:
        """Whether there is something left to go through."""
        return self.cursor < len(self.order)

    def left(self) -> int:
        return len(self.order) - self.cursor

    def next(self) -> AnyRecord | None:
        """The next record that the body has not been through; None where the journal ends."""
        while self.cursor < len(self.order):
            record = self.order[self.cursor]
            if type(record) is not Fork:
                return record
            self.pass_fork()
        return None

    def pass_fork(self) -> None:
        self.cursor += 1
        self.forks.popleft()

    def forget(self) -> None:
        """The body stands where the journal ends."""
        self.order = []
        self.cursor = 0

    def fits(self, record: Outcome | Started, kind: str, name: str, args: bytes) -> bool:
        if record.kind != kind or record.name != name:
            return False
        if record.args == args or record.effect in self.replaced:
            return True
        if any(not fork.checked for fork in self.forks):
            return True  # before a fork with another input, which shows in the arguments
        args = self._clean(args)
        if isinstance(record.args, Blob):
            return record.args.hash == content_hash(args)
        return record.args == args
