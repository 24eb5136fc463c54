"""What a server answers, in this platform's words: parts of content, from the objects of the official SDK."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from weft.core.content import Blob, Content, Text, Uri, modality_of


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool answered. `structured`: the value, if the tool says that it gives one."""

    parts: tuple[Content, ...] = ()
    structured: Any = None

    @property
    def text(self) -> str:
        """Its words."""
        return "\n".join(part.content for part in self.parts if isinstance(part, Text))


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A resource that a server offers; of a template, `uri` has `{names}` to fill in."""

    uri: str
    name: str = ""
    description: str = ""
    mime_type: str = ""
    size: int | None = None
    template: bool = False


class Argument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a prompt takes."""

    name: str
    description: str = ""
    required: bool = False


class Prompt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt that a server offers."""

    name: str
    description: str = ""
    arguments: tuple[Argument, ...] = ()


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a prompt. `role`: user or assistant."""

    role: str
    parts: tuple[Content, ...]


def reply_of(result: Any) -> Reply:
    """From a `CallToolResult`. A value that no text tells is told as JSON."""
    parts = parts_of(result.content)
    structured = result.structured_content
    if structured is not None and not any(isinstance(part, Text) for part in parts):
        parts = (Text(content=json.dumps(structured, ensure_ascii=False)), *parts)
    return Reply(parts=parts, structured=structured)


def parts_of(blocks: Iterable[Any]) -> tuple[Content, ...]:
    """From content blocks. What a block holds that has no form here is told in words."""
    return tuple(_part(block) for block in blocks)


def _part(block: Any) -> Content:
    match block.type:
        case "text":
            return Text(content=block.text)
        case "image" | "audio":
            return _blob(block.data, block.mime_type, "")
        case "resource_link":
            kind = block.mime_type or ""
            return Uri(modality=modality_of(kind), uri=str(block.uri), mime_type=kind)
        case "resource":
            return contents_of(block.resource)
    return Text(content=f"[a {block.type} that has no form here]")


def contents_of(resource: Any) -> Content:
    """From what a resource holds: text or bytes."""
    if (text := getattr(resource, "text", None)) is not None:
        return Text(content=text)
    return _blob(resource.blob, resource.mime_type or "application/octet-stream", str(resource.uri))


def _blob(data: str, kind: str, name: str) -> Content:
    try:
        return Blob.of(base64.b64decode(data, validate=True), kind, name)
    except (binascii.Error, ValueError):
        return Text(content=f"[a {kind} of {len(data)} characters that is no base64]")
