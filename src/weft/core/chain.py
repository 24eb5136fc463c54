"""The links of a journal: each segment's hash takes in the one before, so that no record can be edited, dropped or
moved without every later link telling it."""

from __future__ import annotations

import hashlib

SIZE = 16
_NAME = b"weft-journal"  # the same bytes hashed for another purpose give another hash


def start(process: str, key: bytes = b"") -> bytes:
    """What the first link of `process` is made from."""
    return hashlib.blake2b(process.encode(), digest_size=SIZE, key=key, person=_NAME).digest()


def link(previous: bytes, process: str, first: int, records: bytes, key: bytes = b"") -> bytes:
    """The link of the segment of `process` whose first record has number `first`. `key`: at most 64 bytes; who does
    not know it can check nothing, and make no false link either."""
    chain = hashlib.blake2b(digest_size=SIZE, key=key, person=_NAME)
    for part in (previous, process.encode(), first.to_bytes(8, "big"), records):
        chain.update(len(part).to_bytes(8, "big"))  # no two lists of parts give the same bytes
        chain.update(part)
    return chain.digest()
