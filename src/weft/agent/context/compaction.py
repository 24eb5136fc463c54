"""Old turns of a conversation, taken out of the prompt when it grows too long.

What stays as it is: the first thing said, the last thing a person said, and the newest turns. In place of the others
stands what a policy makes of them: a summary by the model (`Summary`), or only a marker (`Cut`), or what any function
says. A turn is taken out whole, so a call is never parted from its result. It is done when the prompt comes to its
limit, or when the provider says that it has (then the model is asked once more), and only for a good part of it at a
time: so prompts keep their beginning from turn to turn, and it can't go on for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from weft.agent.context.window import Fold, outermost, rendered
from weft.core.content import Text
from weft.core.errors import ModelError, PromptTooLong
from weft.core.step import primitive
from weft.model.generate import length
from weft.model.message import Message, Part
from weft.model.request import Reply, Request

if TYPE_CHECKING:
    from weft.agent.conversation import Conversation

KEPT = 0.3
"""Of the room, what the newest turns may take that stay."""
WORTH = 0.2
"""Of the room, what must have come since the last time."""

Ask = Callable[[Request], Awaitable[Reply]]
"""Asks the agent's model; what it takes is counted."""
Compaction = Callable[[Sequence[Message], int, Ask], Awaitable[str]]
"""Told the messages that are taken out and how many tokens a request may have; returns what stands for them."""

ORDER = (
    "Sum up this part of a conversation between a user and an assistant with tools, for the assistant, who will see "
    "your summary in its place: what was asked, done, found out and decided, with all names, numbers and ids that may "
    "be needed; what failed; what is left to do. Only the summary, at most {words} words."
)


class Cut(msgspec.Struct, frozen=True):
    """Nothing but the marker stands for them."""

    async def __call__(self, gone: Sequence[Message], room: int, ask: Ask) -> str:
        return ""


class Summary(msgspec.Struct, frozen=True):
    """The model sums them up in about so many words. If it can't, only the marker stands."""

    words: int = 300

    async def __call__(self, gone: Sequence[Message], room: int, ask: Ask) -> str:
        order = ORDER.format(words=self.words)
        answer = min(3 * self.words, room // 3)
        most = max(1_000, 3 * (room - answer) - len(order))
        text = rendered(gone)
        if len(text) > most:
            text = f"{text[: most // 2]}\n[...]\n{text[-(most // 2) :]}"
        try:
            reply = await ask(Request(messages=[Message("system", order), Message("user", text)], max_tokens=answer))
        except ModelError:
            return ""
        return reply.text.strip()


# --- when -----------------------------------------------------------------------------------------------------------


async def fitted(talk: Conversation[Any], made: Callable[[], Request], key: str = "") -> Reply:
    """The reply to the request that is `made` of what is shown of the conversation, which is made to fit first, and
    again if it is refused. `key`: of the channel that is told the events. Raises what a generation does."""
    window, model = talk.window, talk.agent.model
    request = made()
    room = talk.agent.context.room(model, window, request.max_tokens)
    if room is not None and length(request) * window.rate > room and await _compacted(talk, room, hard=False):
        request = made()
    try:
        reply = await model.ask(request, key)
    except PromptTooLong:
        window.most = int(0.9 * length(request) * window.rate)
        if not await _compacted(talk, window.most, hard=True):
            raise
        request = made()
        reply = await model.ask(request, key)
    if reply.usage.input:
        window.rate = min(4.0, max(0.25, reply.usage.input / max(1, length(request))))
    return reply


async def _compacted(talk: Conversation[Any], room: int, hard: bool) -> bool:
    """Take old turns out; whether there were any. `hard`: however few."""
    window, policy = talk.window, talk.agent.context.compact
    if policy is None:
        return False
    found = _range(talk, room, hard)
    if found is None:
        return False
    start, end = found
    gone = window.shown(talk.messages, end)[start:]
    text = await policy(gone, room, talk.ask_besides)
    number = 1 + sum(one.id.startswith("c") for one in window.folds)
    text = await took_out(f"c{number}", start, end, tokens(gone), text)
    fold = Fold(f"c{number}", start, start, end, (_shown(talk, f"c{number}", start, end, text),))
    window.folds.append(fold)
    window.news.append(fold)
    return True


@primitive(name="agent.compact", effect="pure", needs=(), cost={"effects": 0})
def took_out(id: str, start: int, end: int, tokens: int, text: str) -> str:
    """What the journal says of a compaction: messages `start` to before `end` of the conversation, which had about so
    many tokens, are `text` from now on, and recalled by `id`."""
    return text


# --- what -----------------------------------------------------------------------------------------------------------


def _range(talk: Conversation[Any], room: int, hard: bool) -> tuple[int, int] | None:
    """From which message to before which: from the first thing said to the newest turns."""
    messages, window = talk.messages, talk.window
    first = next((at for at, one in enumerate(messages) if one.role == "assistant"), None)
    if first is None:
        return None
    start = max(0, first - 1)
    folds = {one.end: one for one in outermost(window.folds)}
    before = next((one.end for one in folds.values() if one.start == start), first)
    kept, end, at, waiting = 0.0, len(messages), len(messages), set[str]()
    while at > before:
        fold = folds.get(at)
        turn = fold.shown if fold is not None else (messages[at - 1],)
        at = fold.start if fold is not None else at - 1
        kept += tokens(turn) * window.rate
        if kept > KEPT * room * (2 if end == len(messages) else 1):  # the newest turn stays if it can
            break
        waiting |= {one.id for message in turn for one in message.results}
        waiting -= {one.id for message in turn for one in message.calls}
        if turn[0].role == "assistant" and not waiting:
            end = at
    taken = tokens(window.shown(messages, end)[len(window.shown(messages, before)) :]) * window.rate
    return (start, end) if end > before and taken > (0 if hard else WORTH * room) else None


def _shown(talk: Conversation[Any], id: str, start: int, end: int, text: str) -> Message:
    """The first thing said, what stands for the turns, and the last thing that a person said."""
    messages, window = talk.messages, talk.window
    first = messages[start] if messages[start].role == "user" else None
    parts: list[Part] = [*first.parts] if first is not None else []
    summary = f":\n{text}\n" if text else ". "
    open = "".join(f"\nOpen: {one.id} ({one.goal})." for one in window.open if one.begin < end)
    parts.append(
        Text(content=f"\n\n[What came next is not shown, to save room{summary}(recall({id!r}) shows it.){open}]")
    )
    words = max((at for at in range(start + 1, len(messages)) if window.persons(messages[at])), default=end)
    if words < end:
        parts += [Text(content="\n\nLast, the user said:\n"), *messages[words].parts]
    return Message("user", tuple(parts), first.name if first is not None else "")


def tokens(messages: Sequence[Message]) -> int:
    """About how many tokens they have."""
    return length(Request(messages=[*messages]))
