"""Messages as Gemini writes them, and back.

The system's words stand apart, for the whole conversation. A seal stands on any part: on a call it stays with the call,
on words it is a hidden thought after them. A result is an object: words under "output", or under "error" if it failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from weft.core.content import Blob, Content, File, Text, ToolCall, ToolResult, Uri, modality_of
from weft.model.dialect.gather import arguments_in, object_of
from weft.model.dialect.lost import Lost
from weft.model.dialect.media import base64_of, bytes_of
from weft.model.dialect.pairs import Pairs, names_of
from weft.model.dialect.seal import opened, sealed
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal

NAME = "gemini"
UNSEALED = "skip_thought_signature_validator"
"""What Google has clients write for the seal of a call that another model made."""
_FILES = "https://generativelanguage.googleapis.com/v1beta/"
"""Where files lie that were given to the provider before."""


def written(messages: Sequence[Message], lost: Lost) -> dict[str, Any]:
    """The messages as this API takes them."""
    names = names_of(messages)
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    before = ""
    for message in messages:
        if message.name:
            lost("name of a speaker")
        for part in message.parts:
            lost.mark(part, "any part; it keeps prompts by itself")
        if message.role == "tool":
            parts = _results(message, names, lost)
        else:
            parts = [wire for part in message.parts if (wire := _part(message.role, part, lost)) is not None]
        if not parts:
            lost("empty message")
            continue
        if message.role == "system":
            if system:
                lost.say("joins the system's messages")
            if contents:
                lost("system message but at the beginning")
            system += parts
            continue
        if message.role == "tool" == before:
            lost("border between two messages of results")
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
        before = message.role
    return ({"systemInstruction": {"parts": system}} if system else {}) | {"contents": contents}


def _part(role: str, part: Part, lost: Lost) -> dict[str, Any] | None:
    match part:
        case Text(content="") | Refusal(content=""):
            lost("empty text")
        case Text():
            if part.citations:
                lost("citations")
            return {"text": part.content}
        case _ if role == "system":
            lost(f"{type(part).__name__} in a system message")
        case Blob() | Uri() | File():
            return _media(part, lost)
        case Opaque(dialect="gemini", content=content):
            if content.keys() - _GIVEN_BACK:
                return dict(content)
            lost("account of its own searches given back")
        case Opaque():
            lost(f"part that only {part.dialect} understands")
        case Refusal() if role == "assistant":
            lost("refusal but as a text")
            return {"text": part.content}
        case Reasoning() if role == "assistant":
            return _thought(part, lost)
        case ToolCall() if role == "assistant":
            return _call(part, lost)
        case _:
            lost(f"{type(part).__name__} where it was put")
    return None


_GIVEN_BACK = {"groundingMetadata", "urlContextMetadata"}


def _thought(part: Reasoning, lost: Lost) -> dict[str, Any] | None:
    seal = opened(NAME, part.signature)
    if part.id or (part.signature and not seal) or (part.hidden and part.content):
        lost("id of a thought, seal of another's, or words of a hidden thought")
    if part.hidden:
        return {"text": "", "thoughtSignature": seal} if seal else None
    if not part.content and not seal:
        lost("empty thought")
        return None
    return {"text": part.content, "thought": True} | ({"thoughtSignature": seal} if seal else {})


def _call(call: ToolCall, lost: Lost) -> dict[str, Any]:
    seal = opened(NAME, call.signature)
    if call.signature and not seal:
        lost("seal of another's on a tool call")
    wire = {"functionCall": {"id": call.id, "name": call.name, "args": object_of(call.arguments)}}
    return wire | ({"thoughtSignature": seal} if seal else {})


def _results(message: Message, names: Mapping[str, str], lost: Lost) -> list[dict[str, Any]]:
    wire: list[dict[str, Any]] = []
    for result in message.parts:
        if not isinstance(result, ToolResult):
            lost(f"{type(result).__name__} among the results of tools")
            continue
        name = result.name or names.get(result.id, "")
        if not name:
            lost.say("names the tool in each result; this one has no name and answers no call")
        words = [part.content for part in result.response if isinstance(part, Text)]
        media = [part for part in result.response if not isinstance(part, Text)]
        for part in result.response:
            lost.mark(part, "a piece of a result")
            if isinstance(part, Text) and part.citations:
                lost("citations")
        if list(result.response) != [part for part in result.response if isinstance(part, Text)] + media:
            lost("words after an image or document in a tool result")
        answer: dict[str, Any] = {"id": result.id, "name": name or "unknown"}
        output = words[0] if len(words) == 1 else words
        answer["response"] = {"error" if result.error else "output": output} if words or result.error else {}
        parts = [piece for part in media if (piece := _media(part, lost)) is not None]
        wire.append({"functionResponse": answer | ({"parts": parts} if parts else {})})
    return wire


def _media(part: Content, lost: Lost) -> dict[str, Any] | None:
    match part:
        case Blob():
            if part.name:
                lost("name of a file that is sent")
            if part.modality != modality_of(part.mime_type):
                lost("modality but what the MIME type tells")
            return {"inlineData": {"mimeType": part.mime_type, "data": base64_of(part.content)}}
        case Uri() | File():
            uri = part.uri if isinstance(part, Uri) else _FILES + part.file_id
            if isinstance(part, Uri) and uri.startswith(_FILES):
                lost("difference of a file that it keeps and its address")
            if part.modality != modality_of(part.mime_type):
                lost("modality but what the MIME type tells")
            return {"fileData": {"fileUri": uri} | ({"mimeType": part.mime_type} if part.mime_type else {})}
    return None


# --- and back ---


def read(wire: Mapping[str, Any]) -> Iterator[Message]:
    """The messages in this JSON."""
    pairs = Pairs()
    system = wire.get("systemInstruction")
    if system:
        yield Message("system", tuple(_parts(system["parts"], pairs)))
    for content in wire["contents"]:
        turn: Any = "assistant" if content.get("role") == "model" else "user"
        for results, parts in groupby(content["parts"], lambda part: "functionResponse" in part):
            yield Message("tool" if results else turn, tuple(_parts(parts, pairs)))


def _parts(wire: Iterable[dict[str, Any]], pairs: Pairs) -> Iterator[Part]:
    for part in wire:
        if "functionResponse" in part:
            yield _result(part["functionResponse"], pairs)
        elif "functionCall" in part:
            call = part["functionCall"]
            seal = part.get("thoughtSignature") or ""
            yield ToolCall(
                id=pairs.call(call.get("id") or "", call["name"]),
                name=call["name"],
                arguments=arguments_in(call.get("args") or {}),
                signature="" if seal == UNSEALED else sealed(NAME, seal),
            )
        else:
            yield from parts_of(part)


def parts_of(wire: dict[str, Any]) -> Iterator[Part]:
    """What stands in a part that is neither call nor result, in a request or an answer."""
    seal = sealed(NAME, wire.get("thoughtSignature") or "")
    match wire:
        case {"text": str(words), "thought": True}:
            yield Reasoning(content=words, signature=seal)
            return
        case {"text": str(words)}:
            if words:
                yield Text(content=words)
        case {"inlineData": {"mimeType": str(mime), "data": str(data)}}:
            yield Blob.of(bytes_of(data), mime)
        case {"fileData": {"fileUri": str(uri)} as file}:
            mime = file.get("mimeType") or ""
            if uri.startswith(_FILES):
                yield File(modality=modality_of(mime), file_id=uri.removeprefix(_FILES), mime_type=mime)
            else:
                yield Uri(modality=modality_of(mime), uri=uri, mime_type=mime)
        case _:
            yield Opaque(dialect=NAME, content=wire)
            return
    if seal:
        yield Reasoning(hidden=True, signature=seal)


def _result(wire: Mapping[str, Any], pairs: Pairs) -> ToolResult:
    id, name = pairs.result(wire.get("id") or "", wire.get("name") or "")
    answer = wire.get("response") or {}
    error = answer.keys() == {"error"}
    output = answer.get("error" if error else "output", answer or [])
    words = output if isinstance(output, list) else [output]
    media: list[Any] = [part for each in wire.get("parts") or () for part in parts_of(each)]
    return ToolResult(id=id, name=name, response=(*(Text(content=_words(word)) for word in words), *media), error=error)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
