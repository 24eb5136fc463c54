"""Messages as Anthropic writes them, and back.

The system's words stand apart; results of tools are what the user says first; a thought has a seal and goes back only
with it. Turns of one role that follow each other are one turn to this API, so none have to be joined here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from zlib import crc32

import msgspec

from weft.core.content import Blob, Cache, Citation, File, Text, ToolCall, ToolResult, Uri
from weft.model.dialect.gather import arguments_in, object_of
from weft.model.dialect.lost import Lost
from weft.model.dialect.media import base64_of, bytes_of
from weft.model.dialect.pairs import Pairs, names_of
from weft.model.dialect.seal import opened, sealed
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal

NAME = "anthropic"
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MARKS: dict[Cache, dict[str, str]] = {"short": {"type": "ephemeral"}, "long": {"type": "ephemeral", "ttl": "1h"}}
_DIRECT = ("caller", "toolset_name")
"""What else a call may hold that must be given back: who called the tool, if not the model itself."""


def written(messages: Sequence[Message], lost: Lost) -> dict[str, Any]:
    """The messages as this API takes them."""
    names = names_of(messages)
    system: list[dict[str, Any]] = []
    wire: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        if message.name:
            lost("name of a speaker")
        if message.role == "tool":
            blocks = _results(message, names, lost)
        else:
            blocks = [block for part in message.parts if (block := _block(message.role, part, lost)) is not None]
        if not blocks:
            lost("empty message")
            continue
        if message.role == "system" and not wire:
            if system:
                lost.say("joins system messages that follow each other")
            system += blocks
        elif message.role == "user" and before == "tool":
            wire[-1]["content"] += blocks  # results must be the first that is said after the calls
        else:
            role = "user" if message.role == "tool" else message.role
            wire.append({"role": role, "content": blocks})
        before = message.role
    _few_marks([*system, *(block for turn in wire for block in turn["content"])], lost)
    for turn in wire:
        turn["content"] = _plainest(turn["content"])
    return {"messages": wire} | ({"system": _plainest(system)} if system else {})


def _few_marks(blocks: list[dict[str, Any]], lost: Lost) -> None:
    """At most four cache marks: the first one, which says most of what stays, and the last three."""
    every = (each for block in blocks for each in (*_inside(block), block))
    marked = [block for block in every if "cache_control" in block]
    for block in marked[1:-3]:
        lost("more than four cache marks")
        del block["cache_control"]


def _inside(block: dict[str, Any]) -> list[dict[str, Any]]:
    content = block.get("content") if block["type"] == "tool_result" else None
    return content if isinstance(content, list) else []


def _plainest(blocks: list[dict[str, Any]]) -> Any:
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} else blocks


def _block(role: str, part: Part, lost: Lost) -> dict[str, Any] | None:
    if role == "system" and not isinstance(part, Text):
        lost(f"{type(part).__name__} in a system message")
        return None
    said = _said(part, lost) if role == "assistant" else _content(part, lost)
    return None if said is None else _marked(said, part, lost)


def _marked(block: dict[str, Any], part: Part, lost: Lost) -> dict[str, Any]:
    if part.cache and block["type"] in ("thinking", "redacted_thinking"):
        lost.mark(part, "a thought")
    elif part.cache:
        block["cache_control"] = _MARKS[part.cache]
    return block


def _content(part: Part, lost: Lost) -> dict[str, Any] | None:
    """What a user says or a tool answers."""
    match part:
        case Text(content=words) if not words.strip():
            lost("blank text")
        case Text():
            cited = [wire for citation in part.citations if (wire := _cited(citation, lost))]
            return {"type": "text", "text": part.content} | ({"citations": cited} if cited else {})
        case Blob(modality="image") if part.mime_type in _IMAGES:
            if part.name:
                lost("name of an image")
            return {"type": "image", "source": _bytes(part)}
        case Blob(mime_type="application/pdf"):
            return _document(_bytes(part), part.name)
        case Blob(mime_type="text/plain") if _is_text(part.content):
            source = {"type": "text", "media_type": "text/plain", "data": part.content.decode()}
            return _document(source, part.name)
        case Uri(modality="image" | "document") | File(modality="image" | "document"):
            if part.mime_type:
                lost("MIME type of what lies elsewhere")
            source = (
                {"type": "url", "url": part.uri} if isinstance(part, Uri) else {"type": "file", "file_id": part.file_id}
            )
            return {"type": part.modality, "source": source}
        case Opaque(dialect="anthropic"):
            return dict(part.content)
        case Opaque():
            lost(f"part that only {part.dialect} understands")
        case Blob() | Uri() | File():
            lost(f"{part.modality} as a {type(part).__name__.lower()} ({part.mime_type or 'no MIME type'})")
        case _:
            lost(f"{type(part).__name__} where it was put")
    return None


def _said(part: Part, lost: Lost) -> dict[str, Any] | None:
    """What the model said."""
    match part:
        case Text() | Opaque():
            return _content(part, lost)
        case Refusal(content=words) if words.strip():
            lost("refusal but as a text")
            return {"type": "text", "text": words}
        case Reasoning():
            return _thought(part, lost)
        case ToolCall():
            if part.signature and not opened(NAME, part.signature):
                lost("seal of another's on a tool call")
            more = opened(NAME, part.signature)
            block = {
                "type": "tool_use",
                "id": _id(part.id, lost),
                "name": part.name,
                "input": object_of(part.arguments),
            }
            return block | (msgspec.json.decode(more) if more else {})
    lost(f"{type(part).__name__} from the model")
    return None


def _thought(part: Reasoning, lost: Lost) -> dict[str, Any] | None:
    seal = opened(NAME, part.signature)
    if not seal:
        lost("thought that it has not sealed itself")
        return None
    if part.id:
        lost("id of a thought")
    if part.hidden:
        if part.content:
            lost("words of a hidden thought")
        return {"type": "redacted_thinking", "data": seal}
    return {"type": "thinking", "thinking": part.content, "signature": seal}


def _results(message: Message, names: Mapping[str, str], lost: Lost) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            lost(f"{type(part).__name__} among the results of tools")
            continue
        lost.name(part, names)
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(part.id, lost)}
        content = [_marked(wire, each, lost) for each in part.response if (wire := _content(each, lost)) is not None]
        if content:
            block["content"] = _plainest(content)
        if part.error:
            block["is_error"] = True
        blocks.append(_marked(block, part, lost))
    return blocks


def _id(id: str, lost: Lost) -> str:
    clean = re.sub(r"[^a-zA-Z0-9_-]", "_", id)
    if clean == id and id:
        return id
    lost("id of a call with other signs than letters, digits, _ and - (it is written anew)")
    return f"{clean}_{crc32(id.encode()):08x}"


def _bytes(blob: Blob) -> dict[str, str]:
    return {"type": "base64", "media_type": blob.mime_type, "data": base64_of(blob.content)}


def _document(source: dict[str, str], name: str) -> dict[str, Any]:
    return {"type": "document", "source": source} | ({"title": name} if name else {})


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cited(citation: Citation, lost: Lost) -> dict[str, Any] | None:
    wire = {**citation.extra}
    place = next((field for field in ("url", "source") if wire.get("type") in _PLACES[field]), "")
    title = "document_title" if wire.get("type") in _PLACES["document"] else "title"
    if (
        not (place or title == "document_title")
        or citation.start is not None
        or citation.end is not None
        or (citation.url and not place)
    ):
        lost("citation but its own")
        return None
    wire |= {"cited_text": citation.quote, title: citation.title or None}
    return wire | ({place: citation.url} if place else {})


_PLACES = {
    "url": ("web_search_result_location",),
    "source": ("search_result_location",),
    "document": ("char_location", "page_location", "content_block_location"),
}


# --- and back ---


def read(wire: Mapping[str, Any]) -> Iterator[Message]:
    """The messages in this JSON."""
    pairs = Pairs()
    system = wire.get("system")
    if system:
        yield Message("system", tuple(_parts(system, pairs)))
    for turn in wire["messages"]:
        content = turn["content"]
        if isinstance(content, str):
            yield Message(turn["role"], tuple(_parts(content, pairs)))
            continue
        for results, blocks in groupby(content, lambda block: block["type"] == "tool_result"):
            role: Any = "tool" if results else turn["role"]
            yield Message(role, tuple(_parts(blocks, pairs)))


def _parts(content: str | Iterable[dict[str, Any]], pairs: Pairs) -> Iterator[Part]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    for block in content:
        if block["type"] == "tool_result":
            part: Part = _result(block, pairs)
        else:
            part = part_of({key: value for key, value in block.items() if key != "cache_control"})
        if isinstance(part, ToolCall):
            pairs.call(part.id, part.name)
        mark = block.get("cache_control")
        if mark:
            part = msgspec.structs.replace(part, cache="long" if mark.get("ttl") == "1h" else "short")
        yield part


def _result(block: Mapping[str, Any], pairs: Pairs) -> ToolResult:
    id, name = pairs.result(block["tool_use_id"], "")
    response: Any = tuple(_parts(block.get("content") or (), pairs))
    return ToolResult(id=id, name=name, response=response, error=bool(block.get("is_error")))


def part_of(block: dict[str, Any]) -> Part:
    """The part that a block stands for, in a request or an answer."""
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(content=text, citations=tuple(citation_of(wire) for wire in block.get("citations") or ()))
        case {"type": "thinking", "thinking": str(words)}:
            return Reasoning(content=words, signature=sealed(NAME, block.get("signature") or ""))
        case {"type": "redacted_thinking", "data": str(seal)}:
            return Reasoning(hidden=True, signature=sealed(NAME, seal))
        case {"type": "tool_use", "id": str(id), "name": str(name)}:
            given = block.get("input") or {}
            return ToolCall(id=id, name=name, arguments=arguments_in(given), signature=seal_of(block))
        case {"type": "image" | "document", "source": dict(source)}:
            return _source(block, source)
    return Opaque(dialect=NAME, content=block)


def seal_of(block: Mapping[str, Any]) -> str:
    """What else a call holds that must be given back."""
    more = {key: block[key] for key in _DIRECT if block.get(key) not in (None, {"type": "direct"})}
    return sealed(NAME, msgspec.json.encode(more).decode()) if more else ""


def _source(block: dict[str, Any], source: Mapping[str, Any]) -> Part:
    modality = block["type"]
    plain = block.keys() <= {"type", "source", "title"}
    match source:
        case {"type": "base64", "data": str(data), "media_type": str(mime)} if plain:
            return Blob.of(bytes_of(data), mime, block.get("title") or "")
        case {"type": "text", "data": str(text)} if plain:
            return Blob.of(text.encode(), "text/plain", block.get("title") or "")
        case {"type": "url", "url": str(url)} if block.keys() == {"type", "source"}:
            return Uri(modality=modality, uri=url)
        case {"type": "file", "file_id": str(id)} if block.keys() == {"type", "source"}:
            return File(modality=modality, file_id=id)
    return Opaque(dialect=NAME, content=block)


def citation_of(wire: Mapping[str, Any]) -> Citation:
    """Where it stands in a document is in `extra`: these places count in the document, and not in the text."""
    known = ("cited_text", "title", "document_title", "url", "source")
    return Citation(
        url=wire.get("url") or wire.get("source") or "",
        title=wire.get("title") or wire.get("document_title") or "",
        quote=wire.get("cited_text") or "",
        extra={key: value for key, value in wire.items() if key not in known},
    )
