"""Conversations that every provider takes, from such as went wrong: a run was cut off between a call and its result,
messages were deleted to save room, a program put them together by hand.

    messages, mended = repair(messages)

After it, instructions come first and the user opens; each call of the model has one result, in one message right after
it, under an id of its own; no message is empty; and turns alternate. What was sound comes back as it was, and `mended`
says in words what was not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from weft.core.content import Text, ToolCall, ToolResult
from weft.model.message import Message, Part, Reasoning, Refusal

INTERRUPTED = "The call was interrupted: there is no result, and whether it was carried out is not known."
_OPENING = "(The beginning of this conversation is not here.)"


class _Slot:
    """A call, and the result that belongs to it."""

    def __init__(self, turn: int, call: ToolCall, id: str) -> None:
        self.turn = turn
        self.call = call
        self.id = id
        self.result: ToolResult | None = None

    def answers(self) -> ToolResult:
        """The result under the call's id and name."""
        if self.result is None:
            return ToolResult.of(self.id, INTERRUPTED, name=self.call.name, error=True)
        name = self.result.name and self.call.name
        return msgspec.structs.replace(self.result, id=self.id, name=name)


class _Found:
    """A result as it stands in the conversation: which part of which message."""

    def __init__(self, turn: int, place: int, result: ToolResult) -> None:
        self.turn = turn
        self.place = place
        self.result = result
        self.slot: _Slot | None = None


def repair(messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
    """The messages in a form that every dialect can send, and what was mended, in words."""
    if _sound(messages):
        return [*messages], []
    mended: list[str] = []
    slots = _slots(messages, mended)
    found = [
        _Found(turn, place, part)
        for turn, message in enumerate(messages)
        for place, part in enumerate(message.parts)
        if isinstance(part, ToolResult)
    ]
    _pair(slots, found, mended)
    turns = [*_rebuilt(messages, slots, found, mended)]
    turns = [*_joined(_opened(_system_first(turns, mended), mended), mended)]
    if turns != list(messages) and not mended:
        mended.append("results stood apart, or in another order than their calls")
    return turns, mended


def _sound(messages: Sequence[Message]) -> bool:
    """Whether there is nothing to mend: most conversations are so, and are looked at in each of their turns."""
    taken: set[str] = set()
    waiting: tuple[ToolCall, ...] = ()
    role, name = "", ""
    for message in messages:
        if (message.role, message.name) == (role, name) or not message.parts:
            return False
        if message.role == "tool":
            if message.name or not _answered(waiting, message.parts):
                return False
            waiting = ()
        elif waiting or not _in_place(message, role):
            return False
        elif message.role == "assistant":
            waiting = message.calls
            ids = {call.id for call in waiting}
            if len(ids) < len(waiting) or "" in ids or not taken.isdisjoint(ids):
                return False
            taken |= ids
        role, name = message.role, message.name
    return not waiting


def _answered(calls: Sequence[ToolCall], results: Sequence[Part]) -> bool:
    """Whether these are the results of these calls, in their order."""
    return len(calls) == len(results) and all(
        isinstance(result, ToolResult) and result.id == call.id and result.name in ("", call.name)
        for call, result in zip(calls, results, strict=True)
    )


def _in_place(message: Message, before: str) -> bool:
    """Whether it may come after a message of that role ("": it is the first), and may hold what it holds."""
    kinds = {type(part) for part in message.parts}
    if any(_blank(part) for part in message.parts) or ToolResult in kinds:
        return False
    if message.role == "assistant":
        return before not in ("", "system") and kinds != {Reasoning}
    return not kinds & {ToolCall, Reasoning, Refusal} and (message.role == "user" or before in ("", "system"))


def _slots(messages: Sequence[Message], mended: list[str]) -> list[_Slot]:
    """The model's calls, each with an id that no other has."""
    slots: list[_Slot] = []
    taken: set[str] = set()
    given = {part.id for message in messages for part in message.parts if isinstance(part, ToolCall)}
    for turn, message in enumerate(messages):
        for part in message.parts if message.role == "assistant" else ():
            if not isinstance(part, ToolCall):
                continue
            id = part.id
            if not id or id in taken:
                stem = f"{part.id or 'call'}_"
                id = next(f"{stem}{n}" for n in itertools.count(2) if f"{stem}{n}" not in given | taken)
            if id != part.id:
                mended.append(f"the call {part.name} had the id {part.id!r}, which is not its own: it is {id!r} now")
            taken.add(id)
            slots.append(_Slot(turn, part, id))
    return slots


def _pair(slots: list[_Slot], found: list[_Found], mended: list[str]) -> None:
    """Give each call its result: the one with its id that comes after it, or before; else one with another id that
    stands where its result should."""
    same: dict[str, list[_Slot]] = defaultdict(list)
    for slot in slots:
        same[slot.call.id].append(slot)
    for later in (True, False):
        for result in found:
            fits = [slot for slot in same.get(result.result.id, ()) if slot.result is None]
            fits = [slot for slot in fits if (slot.turn < result.turn) is later]
            if result.slot is None and fits:
                nearest = min(fits, key=lambda slot: abs(slot.turn - result.turn)).turn
                _take(next(slot for slot in fits if slot.turn == nearest), result)
    for result in found:
        if result.slot is not None:
            continue
        before = [slot.turn for slot in slots if slot.turn < result.turn]
        fits = [slot for slot in slots if slot.result is None and slot.turn == max(before, default=-1)]
        named = [slot for slot in fits if slot.call.name == result.result.name]
        choice = named or (fits if len(fits) == 1 and not result.result.name else [])
        if choice:
            _take(choice[0], result)
            mended.append(f"a result had the id {result.result.id!r} instead of {choice[0].id!r}, its call's")


def _take(slot: _Slot, found: _Found) -> None:
    slot.result, found.slot = found.result, slot


def _rebuilt(
    messages: Sequence[Message], slots: list[_Slot], found: list[_Found], mended: list[str]
) -> Iterator[Message]:
    """The messages one by one: after each of the model's the results of its calls, all others without theirs."""
    orphans: dict[int, set[int]] = defaultdict(set)
    for each in found:
        if each.slot is None:
            orphans[each.turn].add(each.place)
    calls: dict[int, list[_Slot]] = defaultdict(list)
    for slot in slots:
        calls[slot.turn].append(slot)
    for turn, message in enumerate(messages):
        mine = calls.get(turn, [])
        parts = [*_kept(message, iter(mine), orphans.get(turn, set()), mended)]
        role: Any = "user" if message.role == "tool" else message.role
        if message.role == "tool" and parts and not all(isinstance(part, ToolResult) for part in message.parts):
            mended.append("what stood among results is the user's now")
        if role == "assistant" and parts and all(isinstance(part, Reasoning) for part in parts):
            mended.append("a thought that led to nothing is left out")
            continue
        if parts:
            yield Message(role, tuple(parts), message.name)
        elif message.role != "tool" or not message.parts:
            mended.append(f"an empty message of role {message.role} is left out")
        if mine:
            for slot in mine:
                if slot.result is None:
                    mended.append(f"the call {slot.call.name} ({slot.id}) had no result: now one says so")
                elif slot.result.name not in ("", slot.call.name):
                    mended.append(f"the result of {slot.id} had the name of another tool, {slot.result.name}")
            yield Message("tool", tuple(slot.answers() for slot in mine))


def _kept(message: Message, slots: Iterator[_Slot], orphans: set[int], mended: list[str]) -> Iterator[Part]:
    """The parts of a message, without results and with its calls under their own ids."""
    for place, part in enumerate(message.parts):
        match part:
            case ToolCall() if message.role == "assistant":
                own = next(slots).id
                yield part if part.id == own else msgspec.structs.replace(part, id=own)
            case ToolCall():
                mended.append(f"a call of {part.name} that was not the model's is left out")
            case ToolResult() if place in orphans:
                mended.append(f"the result {part.id!r} answers no call: it is told by the user now")
                yield Text(content=f"Result of {part.name or 'a tool'}, called before:\n")
                yield from (piece for piece in part.response if not _blank(piece))
            case ToolResult():
                if message.role != "tool":
                    mended.append(f"the result {part.id!r} stood in a message of role {message.role}")
            case Text() | Refusal() | Reasoning() if _blank(part):
                mended.append("a blank text is left out")
            case Reasoning() if message.role != "assistant":
                mended.append(f"a thought in a message of role {message.role} is left out")
            case Refusal(content=words) if message.role != "assistant":
                mended.append(f"a refusal in a message of role {message.role} is a text now")
                yield Text(content=words)
            case _:
                yield part


def _blank(part: Any) -> bool:
    """Whether it holds nothing; some providers refuse such."""
    if isinstance(part, Reasoning):
        return not part.content and not part.signature
    return isinstance(part, Text | Refusal) and not part.content.strip()


def _system_first(messages: list[Message], mended: list[str]) -> list[Message]:
    ordered = sorted(messages, key=lambda message: message.role != "system")
    if ordered != messages:
        mended.append("instructions in the middle stand at the beginning now")
    return ordered


def _opened(messages: list[Message], mended: list[str]) -> list[Message]:
    first = next((at for at, message in enumerate(messages) if message.role != "system"), None)
    if first is None or messages[first].role == "user":
        return messages
    mended.append("the user did not open the conversation: a word of theirs stands there now")
    return [*messages[:first], Message("user", (Text(content=_OPENING),)), *messages[first:]]


def _joined(messages: list[Message], mended: list[str]) -> Iterator[Message]:
    """Without two messages of one speaker after each other."""
    last: Message | None = None
    for message in messages:
        if last is not None and (last.role, last.name) == (message.role, message.name):
            mended.append(f"two messages of role {last.role} after each other are one now")
            last = Message(last.role, last.parts + message.parts, last.name)
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last
