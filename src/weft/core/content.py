"""What a message holds that tools know of too: words, images and documents, calls of tools and what comes of them.

The parts are those of OpenTelemetry's GenAI messages. `weft.model.message` has the rest of them and the messages.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Modality = Literal["image", "audio", "video", "document"]
Cache = Literal["", "short", "long"]
"""A cache mark: everything up to and with this part is worth keeping by the provider, for minutes or for an hour."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all parts have."""

    cache: Cache = ""


class Citation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a piece of text rests on. `start` and `end` count characters of the text, if the provider tells."""

    url: str = ""
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None
    extra: dict[str, Any] = {}
    """What else the provider said of it."""


class Text(Part, frozen=True, kw_only=True, tag="text"):
    """Words."""

    content: str
    citations: tuple[Citation, ...] = ()


class Blob(Part, frozen=True, kw_only=True, tag="blob"):
    """An image, sound or document, as its bytes."""

    modality: Modality
    mime_type: str
    content: bytes
    name: str = ""

    @staticmethod
    def of(content: bytes, mime_type: str, name: str = "") -> Blob:
        """Bytes of this kind (`image/png`, `audio/wav`, `application/pdf`)."""
        return Blob(modality=modality_of(mime_type), mime_type=mime_type, content=content, name=name)


class Uri(Part, frozen=True, kw_only=True, tag="uri"):
    """The same, by an address that the provider reads it from."""

    modality: Modality
    uri: str
    mime_type: str = ""


class File(Part, frozen=True, kw_only=True, tag="file"):
    """The same, by the name under which it was given to the provider before."""

    modality: Modality
    file_id: str
    mime_type: str = ""


Content = Text | Blob | Uri | File
"""What a tool can answer with."""


class ToolCall(Part, frozen=True, kw_only=True, tag="tool_call"):
    """The model wants a tool called. `arguments` as sent; a text where the model wrote something that is no JSON
    object. `signature`: the provider's seal on it, if any."""

    id: str
    name: str
    arguments: dict[str, Any] | str = {}
    signature: str = ""


class ToolResult(Part, frozen=True, kw_only=True, tag="tool_call_response"):
    """What came of the call with this id: words, and images or documents. `error`: it failed, and the words say how."""

    id: str
    response: tuple[Content, ...] = ()
    name: str = ""
    error: bool = False

    @staticmethod
    def of(id: str, text: str, *, name: str = "", error: bool = False) -> ToolResult:
        """A result that is words."""
        return ToolResult(id=id, response=(Text(content=text),), name=name, error=error)

    @property
    def text(self) -> str:
        """Its words."""
        return "".join(part.content for part in self.response if isinstance(part, Text))


class ToolSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool as a model sees it. `schema`: the JSON schema of its arguments, an object."""

    name: str
    description: str = ""
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


def modality_of(mime_type: str) -> Modality:
    """What kind of thing a MIME type names."""
    kind = mime_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "document"  # type: ignore[return-value]
