"""Run identifiers: 16 characters, sortable by time, safe in file names and URLs."""

from __future__ import annotations

import os
from time import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
LENGTH = 16
_urandom = os.urandom


def new_id(now: float | None = None) -> str:
    """9 characters of milliseconds since the epoch and 7 random ones (35 bits)."""
    milliseconds = int((time() if now is None else now) * 1000)
    number = (milliseconds << 35) | (int.from_bytes(_urandom(5), "big") >> 5)
    characters = []
    for _ in range(LENGTH):
        characters.append(ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(characters))
