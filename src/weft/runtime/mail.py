"""A process's mailbox: letters wait in the store until the body receives them, each exactly once.

A letter leaves the store in the transaction that records its delivery; a receive that was cancelled in the
meantime puts it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from weft.core.codec import decode
from weft.core.sealed import carried

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process
    from weft.store.base import Message

CANCEL_BOX = "weft.cancel"
SIGNAL_BOX = "weft.signal"
RELEASE_BOX = "weft.release"
ANSWERS = "weft.answer:"
"""Before the number of the effect that asked."""


class Mail:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.seen: set[int] = set()
        self.letters: dict[str, deque[Message]] = {}
        self.receivers: dict[str, deque[Pending]] = {}
        self.listeners: dict[str, Callable[[Message], None]] = {}

    def put(self, letters: list[Message]) -> None:
        """Letters found in the store, oldest first; known ones are passed over."""
        for letter in letters:
            if letter.id in self.seen:
                continue
            self.seen.add(letter.id)
            if letter.box == CANCEL_BOX:
                _, label = carried(letter.payload)
                self.process.arrive(None, False, label, partial(self._take, letter.id))
            elif letter.box == SIGNAL_BOX:
                self._take(letter.id, None)
                self.process.signals.take(decode(letter.payload))
            elif letter.box == RELEASE_BOX:
                self._take(letter.id, None)
                self.process.released(letter.payload)
            else:
                self.letters.setdefault(letter.box, deque()).append(letter)
                self._hear(letter.box)
                self.match(letter.box)

    def listen(self, box: str, hear: Callable[[Message], None]) -> None:
        """Call `hear` with each letter to this box, until `deafen`. It writes down that the letter was taken."""
        self.listeners[box] = hear
        self._hear(box)

    def deafen(self, box: str) -> None:
        self.listeners.pop(box, None)

    def _hear(self, box: str) -> None:
        letters = self.letters.get(box)
        while letters and box in self.listeners:
            self.listeners[box](letters.popleft())

    def drop_stale(self) -> None:
        """Throw away answers to what the body asks no more: they would wake it again and again."""
        for box, letters in self.letters.items():
            if letters and box.startswith(ANSWERS) and int(box.removeprefix(ANSWERS)) not in self.process.pending:
                self.process.runtime.journal.batch.taken.extend(letter.id for letter in letters)
                letters.clear()

    def receive(self, box: str, pending: Pending) -> None:
        waiting = self.receivers.setdefault(box, deque())
        waiting.append(pending)
        pending.host = Waiting(waiting, pending)
        self.match(box)

    def match(self, box: str) -> None:
        letters, receivers = self.letters.get(box), self.receivers.get(box)
        while letters and receivers:
            letter, pending = letters.popleft(), receivers.popleft()
            pending.host = Matched(self, letter)
            value, label = carried(letter.payload)
            pending.brings(label)
            self.process.arrive(pending, True, value, partial(self._take, letter.id))

    def _take(self, id: int, _: Any) -> None:
        self.process.runtime.journal.batch.taken.append(id)


class Waiting:
    """A receive in line; giving up leaves the line."""

    def __init__(self, line: deque[Any], item: Any) -> None:
        self.line = line
        self.item = item

    def cancel(self) -> None:
        if self.item in self.line:
            self.line.remove(self.item)


class Matched:
    """A receive that has its letter, not delivered yet; giving up puts the letter back."""

    def __init__(self, mail: Mail, letter: Message) -> None:
        self.mail = mail
        self.letter = letter

    def cancel(self) -> None:
        self.mail.letters[self.letter.box].appendleft(self.letter)
        self.mail.match(self.letter.box)
