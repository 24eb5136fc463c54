"""What crosses the wall between a program and its tools: plain data in, plain data out."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal

from weft.core.content import Blob, Content, File, Text, ToolResult, Uri
from weft.core.errors import size_text

DEEPEST = 100
Form = Literal["words", "data", "parts"]
"""How a program gets a result: always as one text; as what its JSON says; or as the text or the bytes that it is, None
for nothing and a list for several."""


class NotPlain(TypeError):
    """A program gave a tool what no tool takes."""


def plain(value: Any, depth: int = 0) -> Any:
    """A value of a program as JSON types (and bytes). Raises NotPlain for functions, objects and the like."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if depth > DEEPEST:
        raise NotPlain(f"it is nested more than {DEEPEST} deep")
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, set | frozenset):
        return [plain(one, depth + 1) for one in sorted(value, key=repr)]  # or its order would be of this process
    if isinstance(value, Mapping):
        return {_key(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if type(value).__name__ == "Decimal" or isinstance(value, PurePath):
        return str(value)
    if getattr(value, "is_dataclass", False):
        return plain(value.attributes, depth + 1)
    raise NotPlain(f"{_kind(value)} can't leave the program: give texts, numbers, lists and dicts")


def shown(value: Any, depth: int = 0) -> Any:
    """The same for a result: what is not plain is shown as a text."""
    try:
        return plain(value)
    except NotPlain:
        return _shown(value, depth)


def _shown(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        return "..."
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(one, depth + 1) for one in value]
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): shown(one, depth + 1) for key, one in value.items()}
    return repr(value)


def value_of(result: ToolResult, form: Form) -> Any:
    """What a call of a tool gives to a program."""
    if form == "words":
        return "\n".join(_words(one) for one in result.response)
    parts = [one.content if isinstance(one, Blob) else _words(one) for one in result.response]
    if form == "data" and len(parts) == 1 and isinstance(parts[0], str):
        try:
            return json.loads(parts[0])
        except (ValueError, RecursionError):
            return parts[0]
    return parts if len(parts) > 1 else parts[0] if parts else None


def _words(part: Content) -> str:
    match part:
        case Text():
            return part.content
        case Blob():
            return f"[{part.mime_type} of {size_text(len(part.content))}]"
        case Uri():
            return part.uri
        case File():
            return part.file_id


def _key(key: Any) -> Any:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise NotPlain(f"a dict with {_kind(key)} as a key can't leave the program: use texts")


def _kind(value: Any) -> str:
    name = getattr(value, "name", None) if type(value).__module__.startswith("pydantic_monty") else None
    return f"an object of type {name or type(value).__name__}"
