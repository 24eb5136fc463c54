"""Trace context as the W3C writes it (Trace Context, level 2): `00-<trace>-<span>-01`.

A run's trace and spans are named by digests of what they are, so nothing is written down for them: who knows a run's id
knows the ids of all its spans, in every export and on every machine, and a run that is exported twice is the same.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from weft.core.errors import BadInput

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


class Caller(NamedTuple):
    """Who started a run: a span of a trace, both in lower-case hexadecimal digits (32 and 16)."""

    trace: str
    span: str


def trace_of(root: str) -> str:
    """The trace of a run that nobody called, by the id of its uppermost process."""
    return hashlib.blake2b(root.encode(), digest_size=16, person=b"weft trace").hexdigest()


def span_of(process: str, effect: int = 0) -> str:
    """The span of an effect of a process; 0: of the process itself."""
    return hashlib.blake2b(f"{process}:{effect}".encode(), digest_size=8, person=b"weft span").hexdigest()


def written(trace: str, span: str) -> str:
    """The header's value, sampled: whatever happens in a run is in its journal."""
    return f"00-{trace}-{span}-01"


def read(value: str) -> Caller:
    """What a header says. Raises BadInput for one that is none; `00-000…` names nothing."""
    found = _FORM.fullmatch(value.strip())
    if found is None:
        raise BadInput(
            f"{value[:80]!r} is no traceparent; it is written as 00-<32 digits>-<16 digits>-01 (hexadecimal)"
        )
    return Caller(found[1], found[2])


def told_by(value: object) -> str | None:
    """A header's value, if it is one: whoever sends another, or none, is told of no trace (Trace Context, 3.3)."""
    return value.strip() if isinstance(value, str) and _FORM.fullmatch(value.strip()) else None
