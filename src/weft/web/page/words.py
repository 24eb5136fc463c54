"""What generations say while they say it, from the journals of those who read their streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from weft.core.codec import decode, decode_args, decode_plain
from weft.core.errors import WeftError
from weft.core.record import AnyRecord, Outcome, Started
from weft.model.channel import Batch
from weft.model.event import ReasoningDelta, RefusalDelta, Restarted, TextDelta

GENERATES, HEARD = "generate", "generate.events"
STREAMS = frozenset({GENERATES, HEARD})
"""Names of the steps that tell of words."""


class Words:
    """The streams of a run and all below it."""

    def __init__(self) -> None:
        self.generations: dict[str, str] = {}
        """By key of a stream, the effect that it is of."""

    def heard(self, records: Sequence[tuple[str, AnyRecord]]) -> Iterator[dict[str, Any]]:
        """What these records tell of words."""
        for process, record in records:
            if isinstance(record, Outcome | Started) and record.name == GENERATES and (key := _key(record.args)):
                self.generations[key] = f"{process}:{record.effect}"
        for _, record in records:
            if isinstance(record, Outcome) and record.name == HEARD and record.ok and isinstance(record.value, bytes):
                try:
                    batch = decode(record.value)
                except WeftError:  # another step of this name, or of another Weft
                    continue
                if isinstance(batch, Batch) and isinstance(record.args, bytes):
                    yield from self._told(str(decode_args(record.args)[0][0]), batch)

    def _told(self, key: str, batch: Batch) -> Iterator[dict[str, Any]]:
        """One look of a stream's reader, as clients have it: words of one kind together."""
        pieces: list[dict[str, Any]] = []
        restarted = False
        for event in batch.events:
            if isinstance(event, Restarted):
                pieces, restarted = [], True
            elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
                reasoning = isinstance(event, ReasoningDelta)
                if not pieces or pieces[-1]["reasoning"] != reasoning:
                    pieces.append({"text": "", "reasoning": reasoning})
                pieces[-1]["text"] += event.text
        if not pieces and (batch.end or restarted):
            pieces = [{"text": "", "reasoning": False}]
        for at, piece in enumerate(pieces):
            yield {
                "id": self.generations.get(key), "stream": key, **piece, "restarted": restarted and at == 0,
                "done": batch.end and at == len(pieces) - 1,
            }  # fmt: skip


def _key(args: Any) -> str:
    """The key of the stream that a generation tells what it says; empty if there is none."""
    plain = decode_plain(args) if isinstance(args, bytes) else None
    found = plain.get("*", ()) if isinstance(plain, dict) else plain
    return found[2] if isinstance(found, list) and len(found) > 2 and isinstance(found[2], str) else ""
