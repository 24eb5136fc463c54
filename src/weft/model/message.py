"""Messages in one neutral, typed form, whatever provider they go to or come from.

    [Message("system", "Be brief."), Message("user", ["What is this?", Blob.of(png, "image/png")])]

A message is a role and its parts, and the parts are those of OpenTelemetry's GenAI messages (`text`, `reasoning`,
`tool_call`, `tool_call_response`, `blob`, `file`, `uri`), so a trace needs no translation; `plain()` is that JSON. What
only one provider understands travels as `Opaque` and goes back to that provider alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from weft.core.content import Blob, File, Text, ToolCall, ToolResult, Uri
from weft.core.content import Part as Part_
from weft.core.errors import BadInput

Role = Literal["system", "user", "assistant", "tool"]


class Reasoning(Part_, frozen=True, kw_only=True, tag="reasoning"):
    """What a model thought before it answered. `signature`: the provider's seal, without which it does not take the
    thought back; `hidden`: the thought itself is a secret of the provider's, and `signature` is all there is."""

    content: str = ""
    signature: str = ""
    id: str = ""
    hidden: bool = False


class Refusal(Part_, frozen=True, kw_only=True, tag="refusal"):
    """The model's words that it will not answer."""

    content: str


class Opaque(Part_, frozen=True, kw_only=True, tag="opaque"):
    """What only the dialect `dialect` understands (say, a search that the provider made by itself)."""

    dialect: str
    content: dict[str, Any]


Part = Text | Reasoning | Refusal | Blob | Uri | File | ToolCall | ToolResult | Opaque
Parts = str | Part | Sequence[str | Part]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """One turn: `Message("user", "Hello")`, or with several parts, of which a text may be a plain string.

    The role "tool" holds results of tools; "system" holds instructions. `name` tells speakers of one role apart."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""

    if TYPE_CHECKING:

        def __init__(self, role: Role, parts: Parts = (), name: str = "") -> None: ...

    def __post_init__(self) -> None:
        given: Any = self.parts
        if type(given) is not tuple or any(type(part) is str for part in given):
            msgspec.structs.force_setattr(self, "parts", tuple(_parts(given)))

    @property
    def __packed_once__(self) -> bool:
        """It is in the journal with each turn; and nothing in it can be changed in place, as a call's arguments can."""
        return not any(isinstance(part, ToolCall | Opaque) or getattr(part, "citations", ()) for part in self.parts)

    @property
    def text(self) -> str:
        """Its words, without reasoning."""
        return "".join(part.content for part in self.parts if isinstance(part, Text))

    @property
    def reasoning(self) -> str:
        """What the model thought."""
        return "".join(part.content for part in self.parts if isinstance(part, Reasoning))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in it."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The results of tools in it."""
        return tuple(part for part in self.parts if isinstance(part, ToolResult))


def _parts(given: Any) -> Iterable[Part]:
    each = [given] if isinstance(given, str | msgspec.Struct) else given
    for part in each:
        if isinstance(part, str):
            yield Text(content=part)
        elif isinstance(part, Part_):
            yield part  # type: ignore[misc]
        else:
            raise BadInput(f"a message is made of texts and parts such as weft.model.Blob, not of {part!r}")


def conversation(messages: Parts | Sequence[Message | dict[str, Any]], system: str | None = None) -> list[Message]:
    """Messages from what people write: a text (the user's), parts, messages, or `{"role": ..., "content": ...}`.
    `system` comes first. Raises BadInput for anything else."""
    if isinstance(messages, str | msgspec.Struct) and not isinstance(messages, Message):
        turns = [Message("user", messages)]
    elif isinstance(messages, Message):
        turns = [messages]
    elif isinstance(messages, list | tuple):
        turns = [_turn(message) for message in messages]
    else:
        raise BadInput(f"{messages!r} is no message; give a text or a list of weft.model.Message")
    if system is not None:
        turns.insert(0, Message("system", system))
    if not turns:
        raise BadInput("there are no messages; give a text or a list of weft.model.Message")
    return turns


def _turn(message: Any) -> Message:
    if isinstance(message, Message):
        return message
    if isinstance(message, dict) and message.keys() >= {"role", "content"} and isinstance(message["content"], str):
        message = {**message, "parts": [{"type": "text", "content": message["content"]}]}
        del message["content"]
    try:
        if not (isinstance(message, dict) and "parts" in message):
            raise msgspec.ValidationError("it has no content")
        return msgspec.convert(message, Message)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{message!r} is no message ({error}); write weft.model.Message('user', 'text') or "
            "{'role': 'user', 'content': 'text'}"
        ) from None


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the JSON of OpenTelemetry's GenAI conventions."""
    data: list[dict[str, Any]] = msgspec.to_builtins(messages)
    return data


def from_plain(data: Any) -> list[Message]:
    """Messages from that JSON. Raises BadInput."""
    try:
        return msgspec.convert(data, list[Message])
    except msgspec.ValidationError as error:
        raise BadInput(f"these are no messages: {error}") from None
