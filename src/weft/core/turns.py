"""The turns of an agent, read from the journal of the process that it ran in.

A turn is a generation and the calls that were made of its answer. Of a value that lies outside the journal, its payload
must be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from weft.core.plain import decode_plain
from weft.core.progress import Made, Progress, Signs
from weft.core.record import AnyRecord, Blob, Outcome, Value

GENERATE, CALL = "generate", "tool_call_response"
"""The name of the step that is a generation; the type of what a call of a tool comes to."""


class Turn(msgspec.Struct, frozen=True):
    """One turn. `tokens`: of its prompt and its answer; `money`: US dollars, None where the price is not known;
    `seconds`: from when the model was asked to the last result of a call; `calls`: the names of what it called."""

    effect: int
    tokens: int
    money: float | None
    seconds: float
    calls: tuple[str, ...]
    signs: Signs


class _Draft:
    """A turn, as far as it was read."""

    def __init__(self, record: Outcome, reply: Mapping[str, Any]) -> None:
        self.effect = record.effect
        self.tokens = sum(counted_in(reply))
        self.money: float | None = reply.get("money")
        self.began, self.over = record.started or record.at, record.at
        self.made: list[Made] = []

    def turn(self, progress: Progress) -> Turn:
        names = tuple(one.name for one in self.made)
        return Turn(self.effect, self.tokens, self.money, self.over - self.began, names, progress.saw(self.made))


def counted_in(reply: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt and of the answer, as a reply in plain data tells them."""
    usage = reply.get("usage")
    return (usage.get("input", 0), usage.get("output", 0)) if isinstance(usage, Mapping) else (0, 0)


def ended_in(result: bytes) -> str:
    """How an agent ended (done, limit, refused), as the encoded result of its process tells; of others, that they are
    done."""
    answer = decode_plain(result, True) if result else None
    return str(answer.get("ended", "done")) if isinstance(answer, Mapping) else "done"


def large(records: Iterable[AnyRecord]) -> set[bytes]:
    """The payloads that `turns_of` needs of a journal."""
    steps = (one for one in records if type(one) is Outcome and one.kind in ("step", "child"))
    return {value.hash for one in steps for value in (one.args, one.value) if isinstance(value, Blob)}


def turns_of(records: Iterable[AnyRecord], payloads: Mapping[bytes, bytes] = {}) -> list[Turn]:
    """The turns of a journal, in their order. Generations that failed are none."""
    progress = Progress()
    return [draft.turn(progress) for draft in _drafts(records, payloads)]


def _drafts(records: Iterable[AnyRecord], payloads: Mapping[bytes, bytes]) -> Iterator[_Draft]:
    draft: _Draft | None = None
    for record in records:
        if type(record) is not Outcome or record.kind not in ("step", "child"):
            continue
        if record.name == GENERATE:
            if not record.ok:
                continue
            if draft is not None:
                yield draft
            draft = _Draft(record, _plain(record.value, payloads))
        elif draft is not None and (made := _made(record, payloads)) is not None:
            draft.made.append(made)
            draft.over = max(draft.over, record.at)
    if draft is not None:
        yield draft


def _made(record: Outcome, payloads: Mapping[bytes, bytes]) -> Made | None:
    """The call of a tool or a sub-agent; None for a step that is none."""
    value = _plain(record.value, payloads)
    if not record.ok and record.kind == "step" and record.role != "tool":
        return None
    if not record.ok:
        return Made(record.name, _plain(record.args, payloads), str(value), error=True)
    if record.kind == "child":
        return Made(record.name, _plain(record.args, payloads), str(value))
    if not isinstance(value, Mapping) or value.get("type") != CALL:
        return None
    text = "".join(str(part.get("content", "")) for part in value.get("response", ()))
    changes = record.impact not in ("", "none")
    return Made(record.name, _plain(record.args, payloads), text, bool(value.get("error")), changes)


def _plain(value: Value, payloads: Mapping[bytes, bytes]) -> Any:
    return decode_plain(payloads[value.hash] if isinstance(value, Blob) else value, True)
