"""Messages as items of OpenAI's Responses, and back.

A turn of the model is a row of items in the order in which they came: thoughts, messages, calls, and what the provider
did by itself. A result is an item too, and may hold images and files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from weft.core.content import Blob, Cache, Citation, File, Text, ToolCall, ToolResult, Uri
from weft.model.dialect.gather import arguments_of, text_of
from weft.model.dialect.lost import Lost
from weft.model.dialect.media import blob_at, data_url, file_name, name_of
from weft.model.dialect.pairs import Pairs, names_of
from weft.model.dialect.seal import opened, sealed
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal

NAME = "openai-responses"
_BESIDE = ("namespace", "caller", "async")
"""What else a call may hold that must be given back."""


def written(messages: Sequence[Message], lost: Lost) -> list[dict[str, Any]]:
    """The messages as this API takes them."""
    names = names_of(messages)
    items: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        if message.name:
            lost("name of a speaker")
        if message.role == before and before in ("assistant", "tool"):
            lost(f"border between two messages of the {'model' if before == 'assistant' else 'tools'}")
        if message.role == "assistant":
            new = _said(message.parts, lost)
        elif message.role == "tool":
            new = [item for part in message.parts if (item := _result(part, names, lost)) is not None]
        else:
            new = [{"role": message.role, "content": _plainest(_contents(message, lost))}]
        if not new:
            lost("empty message of the model or of a tool")
            continue
        items += new
        before = message.role
    return items


def _plainest(content: list[dict[str, Any]]) -> Any:
    if not content:
        return ""
    return content[0]["text"] if len(content) == 1 and content[0].keys() == {"type", "text"} else content


def _contents(message: Message, lost: Lost) -> list[dict[str, Any]]:
    """What a user or the system says."""
    contents = [wire for part in message.parts if (wire := _content(part, lost)) is not None]
    if message.role != "system":
        return contents
    for wire in contents:
        if wire["type"] != "input_text":
            lost(f"{wire['type']} in a system message")
    return [wire for wire in contents if wire["type"] == "input_text"]


def _content(part: Part, lost: Lost) -> dict[str, Any] | None:
    wire = _media(part, lost)
    if wire is not None and part.cache:
        wire["prompt_cache_breakpoint"] = {"mode": "explicit"} | ({"ttl": "12h"} if part.cache == "long" else {})
    return wire


def _media(part: Part, lost: Lost) -> dict[str, Any] | None:
    match part:
        case Text(content=""):
            lost("empty text")
        case Text():
            if part.citations:
                lost("citations but the model's own")
            return {"type": "input_text", "text": part.content}
        case Blob(modality="image"):
            if part.name:
                lost("name of an image")
            return {"type": "input_image", "detail": "auto", "image_url": data_url(part)}
        case Blob(modality="document"):
            return {"type": "input_file", "filename": file_name(part), "file_data": data_url(part)}
        case Uri(modality="image" | "document") | File(modality="image" | "document"):
            if part.mime_type:
                lost("MIME type of what lies elsewhere")
            image = part.modality == "image"
            place = "file_id" if isinstance(part, File) else "image_url" if image else "file_url"
            where = {place: part.file_id if isinstance(part, File) else part.uri}
            return {"type": "input_image", "detail": "auto"} | where if image else {"type": "input_file"} | where
        case Opaque(dialect="openai-responses"):
            return dict(part.content)
        case Opaque():
            lost(f"part that only {part.dialect} understands")
        case Blob() | Uri() | File():
            lost(f"{part.modality} as a {type(part).__name__.lower()} ({part.mime_type or 'no MIME type'})")
        case _:
            lost(f"{type(part).__name__} where it was put")
    return None


def _said(parts: Iterable[Part], lost: Lost) -> list[dict[str, Any]]:
    """The items of a turn of the model; words that follow each other are one message."""
    items: list[dict[str, Any]] = []
    phase: dict[str, Any] = {}
    words: list[dict[str, Any]] | None = None
    for part in parts:
        lost.mark(part, "what the model said")
        match part:
            case Text(content="") | Refusal(content=""):
                lost("empty text")
                continue
            case Text() | Refusal():
                if words is None:
                    words = []
                    items.append({"type": "message", "role": "assistant", "content": words} | phase)
                    phase = {}
                words.append(_word(part, lost))
                continue
            case Reasoning():
                item = _thought(part, lost)
            case ToolCall():
                item = _call(part, lost)
            case Opaque(dialect="openai-responses", content={"type": "phase", "phase": str(name)}):
                phase, item, words = {"phase": name}, None, None
            case Opaque(dialect="openai-responses"):
                item = dict(part.content)
            case Opaque():
                lost(f"part that only {part.dialect} understands")
                item = None
            case _:
                lost(f"{type(part).__name__} from the model")
                item = None
        if item is not None:
            items.append(item)
            words = None
    if phase:
        lost("phase of no words")
    while items and items[-1].get("type") == "reasoning":
        lost("thought that nothing follows")
        items.pop()
    return items


def _word(part: Text | Refusal, lost: Lost) -> dict[str, Any]:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.content}
    cited = [wire for citation in part.citations if (wire := _cited(citation, lost))]
    return {"type": "output_text", "text": part.content, "annotations": cited}


def _thought(part: Reasoning, lost: Lost) -> dict[str, Any] | None:
    seal = opened(NAME, part.signature)
    if not seal:
        lost("thought that it has not sealed itself")
        return None
    if part.hidden != (not part.content):
        lost("hidden thought with words, or an open one without")
    summary = [{"type": "summary_text", "text": part.content}] if part.content else []
    return {"type": "reasoning", "id": part.id, "summary": summary, "encrypted_content": seal}


def _call(call: ToolCall, lost: Lost) -> dict[str, Any]:
    more = opened(NAME, call.signature)
    if call.signature and not more:
        lost("seal of another's on a tool call")
    wire = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": text_of(call.arguments)}
    return wire | (msgspec.json.decode(more) if more else {})


def _result(part: Part, names: Mapping[str, str], lost: Lost) -> dict[str, Any] | None:
    if not isinstance(part, ToolResult):
        lost(f"{type(part).__name__} among the results of tools")
        return None
    lost.name(part, names)
    lost.mark(part, "a result as a whole")
    if part.error:
        lost("mark that a tool failed, besides its words")
    content = [wire for each in part.response if (wire := _content(each, lost)) is not None]
    return {"type": "function_call_output", "call_id": part.id, "output": _plainest(content)}


def _cited(citation: Citation, lost: Lost) -> dict[str, Any] | None:
    if citation.extra:
        if citation != Citation(extra=citation.extra) or "type" not in citation.extra:
            lost("citation but its own")
            return None
        return citation.extra
    if citation.quote or citation.start is None or citation.end is None:
        lost("citation with a quote, or without its place")
        return None
    places = {"start_index": citation.start, "end_index": citation.end}
    return {"type": "url_citation", "url": citation.url, "title": citation.title} | places


# --- and back ---


def read(wire: Mapping[str, Any]) -> Iterator[Message]:
    """The messages in this JSON: its items, and the system's instructions that may stand apart."""
    pairs = Pairs()
    given = wire["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if wire.get("instructions"):
        yield Message("system", (Text(content=wire["instructions"]),))
    role, parts = "", list[Part]()
    for item in items:
        turn, new = _item(item, pairs)
        if parts and (turn != role or turn not in ("assistant", "tool")):
            yield Message(role, tuple(parts))  # type: ignore[arg-type]
            parts = []
        if turn in ("assistant", "tool"):
            role, parts = turn, parts + new
        else:
            yield Message(turn, tuple(new))  # type: ignore[arg-type]
    if parts:
        yield Message(role, tuple(parts))  # type: ignore[arg-type]


def _item(item: Mapping[str, Any], pairs: Pairs) -> tuple[str, list[Part]]:
    kind = item.get("type") or "message"
    if kind == "message" and item["role"] != "assistant":
        role = {"developer": "system"}.get(item["role"], item["role"])
        return role, list(_contents_in(item.get("content")))
    if kind == "function_call_output":
        id, name = pairs.result(item["call_id"], item.get("name") or "")
        response: Any = tuple(_contents_in(item.get("output")))
        return "tool", [ToolResult(id=id, name=name, response=response)]
    parts = list(parts_of(item))
    for part in parts:
        if isinstance(part, ToolCall):
            pairs.call(part.id, part.name)
    return "assistant", parts


def _contents_in(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}] if content else []
    for wire in content or ():
        part = _content_in(wire)
        mark = wire.get("prompt_cache_breakpoint")
        if mark:
            cache: Cache = "long" if mark.get("ttl") == "12h" else "short"
            part = msgspec.structs.replace(part, cache=cache)
        yield part


def _content_in(wire: dict[str, Any]) -> Part:
    match wire:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return Text(content=text)
        case {"type": "input_image", "image_url": str(url)}:
            return blob_at(url) or Uri(modality="image", uri=url)
        case {"type": "input_image", "file_id": str(id)}:
            return File(modality="image", file_id=id)
        case {"type": "input_file", "file_data": str(data)}:
            found = blob_at(data, name_of(wire.get("filename") or ""))
            return found or Opaque(dialect=NAME, content=wire)
        case {"type": "input_file", "file_url": str(url)}:
            return Uri(modality="document", uri=url)
        case {"type": "input_file", "file_id": str(id)}:
            return File(modality="document", file_id=id)
    return Opaque(dialect=NAME, content=wire)


def parts_of(item: Mapping[str, Any]) -> Iterator[Part]:
    """The parts that an item of the model's stands for, in a request or an answer."""
    match item:
        case {"type": "function_call", "call_id": str(id), "name": str(name)}:
            given = arguments_of(item.get("arguments") or "")
            yield ToolCall(id=id, name=name, arguments=given, signature=seal_of(item))
        case {"type": "reasoning"}:
            yield Reasoning(content=words_of(item), **sealing(item))
        case {"role": "assistant", "content": content}:
            if item.get("phase"):
                yield phase_of(item)
            for wire in [{"type": "output_text", "text": content}] if isinstance(content, str) else content:
                yield word_of(wire)
        case _:
            yield Opaque(dialect=NAME, content=dict(item))


def word_of(wire: dict[str, Any]) -> Part:
    match wire:
        case {"type": "output_text", "text": str(text)}:
            return Text(content=text, citations=tuple(citation_of(each) for each in wire.get("annotations") or ()))
        case {"type": "refusal", "refusal": str(words)}:
            return Refusal(content=words)
    return _content_in(wire)


def words_of(item: Mapping[str, Any]) -> str:
    """What of a thought may be read."""
    return "\n\n".join(piece["text"] for piece in item.get("summary") or item.get("content") or ())


def sealing(item: Mapping[str, Any]) -> dict[str, Any]:
    """What a thought's part holds besides its words."""
    more: dict[str, Any] = {"id": item.get("id") or ""}
    if item.get("encrypted_content"):
        more["signature"] = sealed(NAME, item["encrypted_content"])
        if not (item.get("summary") or item.get("content")):
            more["hidden"] = True
    return more


def phase_of(item: Mapping[str, Any]) -> Opaque:
    """Whether the words to come are a comment on the way or the answer: wanted back by the models that say it."""
    return Opaque(dialect=NAME, content={"type": "phase", "phase": item["phase"]})


def seal_of(item: Mapping[str, Any]) -> str:
    """What else a call holds that must be given back."""
    more = {key: item[key] for key in _BESIDE if item.get(key)}
    return sealed(NAME, msgspec.json.encode(more).decode()) if more else ""


def citation_of(wire: Mapping[str, Any]) -> Citation:
    if wire.get("type") != "url_citation":
        return Citation(extra=dict(wire))
    return Citation(
        url=wire.get("url") or "",
        title=wire.get("title") or "",
        start=wire.get("start_index"),
        end=wire.get("end_index"),
    )
