"""Time travel: the part of a history that a fork keeps."""

from __future__ import annotations

from typing import Any

from weft.core.codec import encode
from weft.core.errors import BadInput
from weft.core.record import AnyRecord, Aside, End, Fork, Outcome, Started
from weft.store.base import ProcessRow


def forked(
    origin: ProcessRow, records: list[AnyRecord], at: int, *, checked: bool, value: Any, now: float
) -> list[AnyRecord]:
    """All that reached the body before the outcome of effect `at`, then a Fork record, then `value` if given."""
    kept: list[AnyRecord] = []
    chosen: Outcome | Started | None = None
    highest = 0
    for record in records:
        if isinstance(record, Outcome | Started):
            highest = max(highest, record.effect)
            if record.effect == at:
                chosen = record
                if isinstance(record, Outcome):
                    break
                continue
        if isinstance(record, End):
            break
        if not isinstance(record, Aside):
            kept.append(record)
    if at < 1 or (chosen is None and at > highest + 1):
        raise BadInput(f"run {origin.id} has no effect {at}: it has {highest}; `weft show {origin.id}` numbers them")
    if value is not ... and chosen is None:
        raise BadInput(f"effect {at} of run {origin.id} was never made, so its outcome can't be replaced")
    kept.append(Fork(now, origin.id, checked, at if value is not ... else 0))
    if value is not ... and chosen is not None:
        kept.append(
            Outcome(
                max(now, chosen.at),
                chosen.effect,
                chosen.kind,
                chosen.name,
                chosen.place,
                chosen.args,
                encode(value),
            )
        )
    return kept
