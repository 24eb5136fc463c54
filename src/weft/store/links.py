"""The chain of a journal: where it begins, and what is wrong with one that was tampered with.

A journal's first link takes in what its process is (workflow, input, rights ...), each later one a segment and the
link before. So whoever edits, removes or reorders a record, or gives a run another input, must make every later link
anew; with a key (`$WEFT_AUDIT_KEY`), which is in no store, nobody can who does not know it. Without a key a forger who
recomputes the whole chain, and the end of a run that is not over, are beyond what links can tell.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import msgspec

from weft.core.chain import link, start
from weft.core.record import End, decode_records, to_column
from weft.store.base import FINISHED, MOVED, ProcessRow, Segment

KEY = "WEFT_AUDIT_KEY"
"""The environment's variable that holds the key."""
_encode = msgspec.msgpack.Encoder().encode


def audit_key() -> bytes:
    """The key of this environment, as 32 bytes; empty if there is none."""
    given = os.environ.get(KEY, "")
    return hashlib.blake2b(given.encode(), digest_size=32).digest() if given else b""


def origin(row: ProcessRow, key: bytes) -> bytes:
    """The link before the first segment of this process."""
    what = (row.workflow, row.version, row.parent, row.forked, row.key, row.created, row.input, row.image)
    return link(start(row.id, key), row.id, 0, _encode(what), key)


def flaw(row: ProcessRow, segments: Sequence[Segment], key: bytes) -> str | None:
    """What is wrong with a journal, its segments in order; None if it is as it was written."""
    previous, length = origin(row, key), 0
    for segment in segments:
        if segment.first != length:
            return f"records {length} to {segment.first - 1} are missing or out of order"
        if not segment.chain:
            return f"record {length} and those after it have no links: an older Weft wrote them, or they were removed"
        if link(previous, row.id, segment.first, segment.records, key) != segment.chain:
            what = "an earlier one, or what the run is (its input, its rights)," if length else "what the run is"
            return f"record {length} is not what was written, or {what} was changed, or the key is another one"
        previous = segment.chain
        try:
            length += len(decode_records(segment.records))
        except msgspec.MsgspecError as error:
            return f"record {length} can't be read: {error}"
    return _end(row, segments, length)


def _end(row: ProcessRow, segments: Sequence[Segment], length: int) -> str | None:
    """What the row says of the end, against what the journal says."""
    if row.state not in FINISHED:
        return f"records after {length} are missing: the run had {row.length}" if row.length > length else None
    if row.state == MOVED:
        return None
    last = decode_records(segments[-1].records)[-1] if segments else None
    if not isinstance(last, End):
        return f"records after {length} are missing: the run is {row.state}, and its end is not there"
    told = row.result if row.result is not None else row.error
    if last.state != row.state or told != to_column(last.value):
        return f"its row says {row.state} with another result than its journal, which says {last.state}"
    return None
