"""What generations say while they say it, from the journals of those who read their streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from weft.core.codec import decode_plain
from weft.core.record import AnyRecord, Outcome, Started
from weft.web.page.effect import words

GENERATES, HEARD = "generate", "generate.events"


class Words:
    """The streams of a run and all below it. `generations`: by key of the stream, the effect that it is of."""

    def __init__(self) -> None:
        self.generations: dict[str, str] = {}

    def heard(self, records: Sequence[tuple[str, AnyRecord]]) -> Iterator[dict[str, Any]]:
        """What these records tell of words."""
        for process, record in records:
            if isinstance(record, Outcome | Started) and record.name == GENERATES and (key := words(record.args)):
                self.generations[key] = f"{process}:{record.effect}"
        for _, record in records:
            if isinstance(record, Outcome) and record.name == HEARD and record.ok and isinstance(record.value, bytes):
                args, batch = decode_plain(record.args), decode_plain(record.value)  # type: ignore[arg-type]
                if isinstance(args, list) and isinstance(batch, dict):
                    yield from self._told(str(args[0]), batch)

    def _told(self, key: str, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """One look of a stream's reader, as clients have it: words of one kind together."""
        pieces: list[dict[str, Any]] = []
        restarted = False
        for event in batch.get("events", ()):
            kind = event.get("event") if isinstance(event, dict) else None
            if kind == "restarted":
                pieces, restarted = [], True
            elif kind in ("text", "reasoning", "refusal"):
                reasoning = kind == "reasoning"
                if not pieces or pieces[-1]["reasoning"] != reasoning:
                    pieces.append({"text": "", "reasoning": reasoning})
                pieces[-1]["text"] += event["text"]
        done = bool(batch.get("end"))
        if done or restarted:
            pieces = pieces or [{"text": "", "reasoning": False}]
        for at, piece in enumerate(pieces):
            yield {
                "id": self.generations.get(key), "stream": key, **piece, "restarted": restarted and at == 0,
                "done": done and at == len(pieces) - 1,
            }  # fmt: skip
