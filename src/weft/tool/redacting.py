"""Secrets in a stream: what is kept of an output on disk holds none, whatever pieces it came in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from weft.core.secret import SHORTEST_DECLARED, Redactor


@cache
def redactor() -> Redactor:
    """The one of this interpreter; it learns of secrets as they are declared and revealed."""
    return Redactor()


class Redacting:
    """A stream without secrets: each piece that is given comes back without them, the last bytes with the next one."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> bytes:
        """What is known not to be in the middle of a secret."""
        known = redactor().known
        if not known:
            rest, self._rest = self._rest, b""
            return rest + data
        data = self._rest + data
        end = max(0, len(data) - len(known[0]) + 1)
        for begin, after in _places(data, known):
            if begin < end < after:
                end = after
        self._rest = data[end:]
        return redactor().redact_raw(data[:end])

    def rest(self) -> bytes:
        """What was held back, at the end of the stream."""
        rest, self._rest = self._rest, b""
        return redactor().redact_raw(rest)


def _places(data: bytes, known: list[bytes]) -> Iterator[tuple[int, int]]:
    """Where secrets stand around the end of these bytes, from left to right."""
    start = max(0, len(data) - 2 * len(known[0]))
    found = []
    for form in known:
        at = data.find(form, start)
        while at >= 0:
            found.append((at, at + len(form)))
            at = data.find(form, at + 1)
    yield from sorted(found)


def without_halves(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """The two sides of a cut, without what may be a part of a secret that stood across it."""
    for form in redactor().known:
        for size in range(len(form) - 1, SHORTEST_DECLARED - 1, -1):
            if head.endswith(form[:size]):
                head = head[:-size]
            if tail.startswith(form[-size:]):
                tail = tail[size:]
    return head, tail
