"""A prompt as a view of a conversation: all of its messages, but for *folds*, ranges in whose place others are shown.

    window.folds.append(Fold("s1", begin=3, start=3, end=9, shown=(call, conclusion)))
    prompt = window.shown(messages)          # messages[:3] + (call, conclusion) + messages[9:]

Folds may lie in one another; the outermost are seen. What a fold stands for is read again by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from weft.core.content import Text, ToolCall, ToolResult
from weft.core.errors import BadInput
from weft.model.dialect.gather import text_of
from weft.model.message import Message

LEFT_OUT = "What your last calls returned is left out here: what may still be spent does not cover it."
PAGE = 8_000
"""Characters of what was folded that are recalled at once."""


class Fold(msgspec.Struct, frozen=True):
    """Messages `start` to before `end`, in whose place `shown` stands. It is about those from `begin` on: earlier than
    `start` where the first of them lie in another fold."""

    id: str
    begin: int
    start: int
    end: int
    shown: tuple[Message, ...]


class Branch(msgspec.Struct, frozen=True):
    """A subtask that is open: `begin` is the message in which the model began it by `call`, `answer` the one with the
    results of that."""

    id: str
    goal: str
    begin: int
    answer: int
    call: ToolCall


class Window:
    """That of one conversation."""

    def __init__(self) -> None:
        self.folds: list[Fold] = []
        self.open: list[Branch] = []
        """The subtasks that are under way, the innermost last."""
        self.begun = 0
        """Subtasks, ever."""
        self.read = 0
        """Messages that were looked at for subtasks."""
        self.most: int | None = None
        """Tokens above which a prompt was refused."""
        self.rate = 1.0
        """Tokens that the model counts for each that is estimated."""
        self.news: list[Fold] = []
        """Compactions that nobody was told of yet."""
        self.short: dict[int, Message] = {}
        """Messages that are shown otherwise than they are: with repeats in results counted."""
        self.wholes: dict[str, str] = {}
        """What is shown in short there, by the id that recalls it."""
        self.looked = 0
        """Messages that were looked at for repeats."""
        self._undone = 0
        self._warned: set[str] = set()
        self._ours: dict[int, Message] = {}
        self._came: list[tuple[int, str, ToolResult]] = []

    # --- the view ---------------------------------------------------------------------------------------------------

    def shown(self, messages: Sequence[Message], end: int | None = None) -> list[Message]:
        """What the model sees of them, or of those before `end`, which is in no fold."""
        end = len(messages) if end is None else end
        return _folded(self.seen(messages), 0, end, outermost(one for one in self.folds if one.end <= end))

    def seen(self, messages: Sequence[Message]) -> Sequence[Message]:
        """All of them, those in short that are shown so."""
        return [self.short.get(at, one) for at, one in enumerate(messages)] if self.short else messages

    @property
    def gone(self) -> int:
        """How often something that was shown was taken out."""
        return len(self.folds) + self._undone

    def recalled(self, messages: Sequence[Message], id: str, page: int, size: int = PAGE) -> str:
        """A page of what a fold or a result in short stands for, in words; folds in it are shown as they were. Raises
        BadInput."""
        text = self.wholes[id] if id in self.wholes else self._unfolded(messages, id)
        pages = max(1, -(-len(text) // size))
        if not 1 <= page <= pages:
            raise BadInput(f"page={page}: {id} has pages 1 to {pages}")
        part = text[(page - 1) * size : page * size]
        return part if pages == 1 else f"[{id}, page {page} of {pages}]\n{part}"

    def _unfolded(self, messages: Sequence[Message], id: str) -> str:
        fold = next((one for one in self.folds if one.id == id), None)
        if fold is None:
            known = ", ".join([*[one.id for one in self.folds[-20:]], *[*self.wholes][-20:]])
            raise BadInput(
                f"there is no {id!r} to recall; {f'there is {known}' if known else 'nothing is left out yet'}"
            )
        inside = [one for one in self.folds if one is not fold and fold.begin <= one.start and one.end <= fold.end]
        return rendered(_folded(messages, fold.begin, fold.end, outermost(inside)))

    def undone(self, length: int) -> None:
        """The conversation is only so many messages long again. Subtasks are read anew."""
        self._undone += 1 + len(self.folds)  # `gone` only grows
        self.short = {at: one for at, one in self.short.items() if at < length}
        self.looked = min(self.looked, length)
        self.folds = [one for one in self.folds if one.id.startswith("c") and one.end <= length]
        self.open, self.begun, self.read = [], 0, 0
        self._came = [one for one in self._came if one[0] <= length]

    # --- who said it ------------------------------------------------------------------------------------------------

    def ours(self, message: Message) -> Message:
        """This message is in the user's place, but no person's."""
        self._ours[id(message)] = message
        return message

    def persons(self, message: Message) -> bool:
        """Whether a person said it."""
        return message.role == "user" and id(message) not in self._ours

    def came(self, length: int, handle: str, result: ToolResult) -> None:
        """A result was told later than its call, when the conversation was so many messages long."""
        self._came.append((length, handle, result))

    def came_with(self, at: int) -> list[ToolResult]:
        """The late results that this message, or the one after it, tells."""
        return [result for length, _, result in self._came if length in (at + 1, at + 2)]

    def outlasting(self, messages: Sequence[Message], start: int, end: int) -> Iterator[Message]:
        """What of these messages matters to who does not see them: what people said, and late results of other calls
        than theirs."""
        yield from (message for message in messages[start:end] if self.persons(message))
        own = {call.id for message in messages[start:end] for call in message.calls}
        for length, handle, result in self._came:
            if start <= length <= end and result.id not in own:
                yield self.ours(Message("user", (Text(content=f"[{handle}] {result.name}:\n"), *result.response)))

    # --- handing in -------------------------------------------------------------------------------------------------

    def hold(self) -> Message | None:
        """The model hands in: what it is told of subtasks that are open. It is told of each once."""
        fresh = [one for one in self.open if one.id not in self._warned]
        if not fresh:
            return None
        self._warned |= {one.id for one in fresh}
        ids = ", ".join(f"{one.id} ({one.goal})" for one in self.open)
        return self.ours(
            Message("user", f"Open: {ids}. Conclude what is worth it, the innermost first; or hand in again.")
        )


def outermost(folds: Iterable[Fold]) -> list[Fold]:
    """Those that lie in no other, in order."""
    found: list[Fold] = []
    for fold in sorted(folds, key=lambda one: (one.start, -one.end)):
        if not found or fold.start >= found[-1].end:
            found.append(fold)
    return found


def _folded(messages: Sequence[Message], at: int, end: int, folds: Iterable[Fold]) -> list[Message]:
    found: list[Message] = []
    for fold in folds:
        found += messages[at : fold.start]
        found += fold.shown
        at = fold.end
    return [*found, *messages[at:end]]


def without_results(said: list[Message]) -> list[Message]:
    """What was said, without the last calls and what they returned."""
    last = next((at for at in reversed(range(len(said))) if said[at].role == "assistant"), None)
    if last is None:
        return said
    words = [Message("assistant", text)] if (text := said[last].text) else []
    return [*said[:last], *words, Message("user", LEFT_OUT)]


def rendered(messages: Iterable[Message]) -> str:
    """Messages as a text: who said what, calls and results too."""
    return "\n\n".join(_one(message) for message in messages)


def _one(message: Message) -> str:
    said = []
    for part in message.parts:
        if isinstance(part, Text):
            said.append(f"{message.role}: {part.content}")
        elif isinstance(part, ToolCall):
            said.append(f"{message.role} calls {part.name} with {text_of(part.arguments)}")
        elif isinstance(part, ToolResult):
            said.append(f"{'error' if part.error else 'result'} of {part.name}: {part.text}")
        else:
            said.append(f"[{part.__struct_config__.tag}]")
    return "\n".join(said)
