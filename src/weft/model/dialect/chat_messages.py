"""Messages as Chat Completions writes them, and back.

A turn of the model is one message there: its thoughts, then its words, then its calls; each result of a tool is a
message of its own, and holds words only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from weft.core.content import Blob, Cache, Citation, File, Text, ToolCall, ToolResult, Uri
from weft.model.dialect.gather import arguments_of, text_of
from weft.model.dialect.lost import Lost
from weft.model.dialect.media import base64_of, blob_at, bytes_of, data_url, file_name, name_of
from weft.model.dialect.pairs import Pairs, names_of
from weft.model.dialect.seal import opened, sealed
from weft.model.message import Message, Opaque, Part, Reasoning, Refusal

_AUDIO = {"audio/wav": "wav", "audio/mpeg": "mp3"}


def written(messages: Sequence[Message], lost: Lost) -> list[dict[str, Any]]:
    """The messages as this API takes them."""
    wire: list[dict[str, Any]] = []
    names = names_of(messages)
    before = ""
    for message in messages:
        if message.role == "tool":
            if before == "tool":
                lost("border between two messages of results")
            if message.name:
                lost("name of a speaker of results")
            wire += _results(message, names, lost)
        else:
            said = _assistant(message, lost) if message.role == "assistant" else _given(message, lost)
            if message.name:
                said["name"] = message.name
            wire.append(said)
        before = message.role
    return wire


def _given(message: Message, lost: Lost) -> dict[str, Any]:
    """What a user or the system says."""
    content: list[dict[str, Any]] = []
    for part in message.parts:
        wire = _content(part, lost)
        if message.role == "system" and wire is not None and wire["type"] != "text":
            lost(f"{wire['type']} in a system message")
        elif wire is not None:
            content.append(wire)
    return {"role": message.role, "content": _plainest(content)}


def _plainest(content: list[dict[str, Any]]) -> Any:
    """One text without a mark as a plain string, which every server takes."""
    if not content:
        return ""
    return content[0]["text"] if len(content) == 1 and content[0].keys() == {"type", "text"} else content


def _content(part: Part, lost: Lost) -> dict[str, Any] | None:
    wire = _media(part, lost)
    if wire is not None and part.cache:
        wire["prompt_cache_breakpoint"] = {"mode": "explicit"} | ({"ttl": "12h"} if part.cache == "long" else {})
    return wire


def _media(part: Part, lost: Lost) -> dict[str, Any] | None:
    match part:
        case Text(content=content):
            if not content:
                lost("empty text")
                return None
            if part.citations:
                lost("citations")
            return {"type": "text", "text": content}
        case Blob(modality="image"):
            if part.name:
                lost("name of an image")
            return {"type": "image_url", "image_url": {"url": data_url(part)}}
        case Blob(modality="audio") if part.mime_type in _AUDIO:
            if part.name:
                lost("name of a sound")
            data = {"data": base64_of(part.content), "format": _AUDIO[part.mime_type]}
            return {"type": "input_audio", "input_audio": data}
        case Blob(modality="document"):
            return {"type": "file", "file": {"filename": file_name(part), "file_data": data_url(part)}}
        case Uri(modality="image"):
            if part.mime_type:
                lost("MIME type of an address")
            return {"type": "image_url", "image_url": {"url": part.uri}}
        case File(modality="document"):
            if part.mime_type:
                lost("MIME type of a file that it keeps")
            return {"type": "file", "file": {"file_id": part.file_id}}
        case Opaque(dialect="openai", content=content):
            return dict(content)
        case Opaque():
            lost(f"part that only {part.dialect} understands")
        case Blob() | Uri() | File():
            lost(f"{part.modality} as a {type(part).__name__.lower()} ({part.mime_type or 'no MIME type'})")
        case _:
            lost(f"{type(part).__name__} where it was put")
    return None


def _assistant(message: Message, lost: Lost) -> dict[str, Any]:
    """What the model said: thoughts, then words, then calls."""
    words: list[dict[str, Any]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for part in message.parts:
        lost.mark(part, "what the model said")
        rank = 2 if calls else 1 if words else 0
        match part:
            case Reasoning():
                if part.signature or part.id or part.hidden:
                    lost("seal of a thought")
                if rank or thoughts:
                    lost("second thought, or one after words")
                if part.content:
                    thoughts.append(part.content)
                continue
            case ToolCall():
                calls.append(_call(part, lost))
                continue
            case Refusal():
                word: dict[str, Any] | None = {"type": "refusal", "refusal": part.content}
            case Opaque(dialect="openai", content={"type": "custom"}):
                calls.append(part.content)
                continue
            case Opaque(dialect="openai", content={"type": "audio", "audio": audio}):
                if len(audio) > 1 or calls:
                    lost("sound of its own but by its id, before calls")
                more["audio"] = {"id": audio["id"]}
                continue
            case Text() | Opaque():
                word = _media(part, lost)
            case _:
                lost(f"{type(part).__name__} from the model")
                continue
        if word is not None:
            if calls or "audio" in more:
                lost("words after a tool call or a sound")
            words.append(word)
    if thoughts:
        more["reasoning_content"] = "".join(thoughts)
    if calls:
        more["tool_calls"] = calls
    content = _plainest(words)
    return {"role": "assistant", "content": content if content or not calls else None, **more}


def _call(call: ToolCall, lost: Lost) -> dict[str, Any]:
    wire: dict[str, Any] = {"id": call.id, "type": "function"}
    wire["function"] = {"name": call.name, "arguments": text_of(call.arguments)}
    seal = opened("openai", call.signature)
    if seal:
        wire["extra_content"] = msgspec.json.decode(seal)
    elif call.signature:
        lost("seal of another's on a tool call")
    return wire


def seal_of(extra_content: dict[str, Any] | None) -> str:
    """What some servers put beside a call and want back, as a seal."""
    return sealed("openai", msgspec.json.encode(extra_content).decode()) if extra_content else ""


def _results(message: Message, names: dict[str, str], lost: Lost) -> Iterator[dict[str, Any]]:
    for result in message.parts:
        if not isinstance(result, ToolResult):
            lost(f"{type(result).__name__} among the results of tools")
            continue
        lost.name(result, names)
        if result.error:
            lost("mark that a tool failed, besides its words")
        content: list[dict[str, Any]] = []
        for part in result.response:
            lost.mark(part, "a piece of a result")
            if isinstance(part, Text):
                content += [word] if (word := _media(part, lost)) else []
            else:
                lost(f"{part.modality} in a tool result")
        if result.cache and content:
            ttl = {"ttl": "12h"} if result.cache == "long" else {}
            content[-1]["prompt_cache_breakpoint"] = {"mode": "explicit"} | ttl
        else:
            lost.mark(result, "an empty result")
        yield {"role": "tool", "tool_call_id": result.id, "content": _plainest(content)}


# --- and back ---


def read(wire: Mapping[str, Any]) -> Iterator[Message]:
    """The messages in this JSON."""
    pairs = Pairs()
    results: list[Part] = []
    for message in wire["messages"]:
        role = message["role"]
        if role == "tool":
            results.append(_result(message, pairs))
            continue
        if results:
            yield Message("tool", tuple(results))
            results = []
        if role == "assistant":
            parts = tuple(said_parts(message))
            for part in parts:
                if isinstance(part, ToolCall):
                    pairs.call(part.id, part.name)
        else:
            parts = tuple(_parts(message.get("content")))
        role = {"developer": "system"}.get(role, role)
        yield Message(role, parts, message.get("name") or "")
    if results:
        yield Message("tool", tuple(results))


def _result(message: Mapping[str, Any], pairs: Pairs) -> ToolResult:
    parts = list(_parts(message.get("content")))
    cache: Cache = next((part.cache for part in parts if part.cache), "")
    response: Any = tuple(msgspec.structs.replace(part, cache="") for part in parts)
    id, name = pairs.result(message["tool_call_id"], "")
    return ToolResult(id=id, response=response, name=name, cache=cache)


def _parts(content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    for wire in content or ():
        part = _part(wire)
        mark = wire.get("prompt_cache_breakpoint")
        if mark:
            part = msgspec.structs.replace(part, cache="long" if mark.get("ttl") == "12h" else "short")
        yield part


def _part(wire: dict[str, Any]) -> Part:
    match wire:
        case {"type": "text", "text": str(text)}:
            return Text(content=text)
        case {"type": "refusal", "refusal": str(words)}:
            return Refusal(content=words)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return blob_at(url) or Uri(modality="image", uri=url)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(format)}}:
            mime = "audio/mpeg" if format == "mp3" else f"audio/{format}"
            return Blob(modality="audio", mime_type=mime, content=bytes_of(data))
        case {"type": "file", "file": {"file_data": str(data)} as file}:
            found = blob_at(data, name_of(file.get("filename") or ""))
            return found or Opaque(dialect="openai", content=wire)
        case {"type": "file", "file": {"file_id": str(id)}}:
            return File(modality="document", file_id=id)
    return Opaque(dialect="openai", content=wire)


def said_parts(message: Mapping[str, Any], calls_before: int = 0) -> Iterator[Part]:
    """What the model said, in an answer or in a request that gives it back."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str) and thought:
        yield Reasoning(content=thought)
    cited = tuple(citations(message.get("annotations") or ()))
    for part in _parts(message.get("content")):
        yield msgspec.structs.replace(part, citations=cited) if cited and isinstance(part, Text) else part
        cited = ()
    if message.get("refusal"):
        yield Refusal(content=message["refusal"])
    if message.get("audio"):
        yield Opaque(dialect="openai", content={"type": "audio", "audio": message["audio"]})
    for number, call in enumerate(message.get("tool_calls") or ()):
        if "function" in call:
            function = call["function"]
            yield ToolCall(
                id=call.get("id") or f"call_{calls_before + number}",
                name=function["name"],
                arguments=_arguments(function.get("arguments")),
                signature=seal_of(call.get("extra_content")),
            )
        else:
            yield Opaque(dialect="openai", content=call)


def _arguments(given: Any) -> dict[str, Any] | str:
    """Some servers send an object where a text belongs."""
    return given if isinstance(given, dict) else arguments_of(given or "")


def citations(annotations: Iterable[Mapping[str, Any]]) -> Iterator[Citation]:
    for annotation in annotations:
        cited = annotation.get("url_citation")
        if isinstance(cited, dict):
            yield Citation(
                url=cited.get("url") or "",
                title=cited.get("title") or "",
                start=cited.get("start_index"),
                end=cited.get("end_index"),
            )
        else:
            yield Citation(extra=dict(annotation))
