"""Schemas as providers take them: their strict subset, and an object around what is none.

Hosted providers guarantee a schema only in a subset of JSON Schema, and only with an object at the root. `strict`
(OpenAI's) has every property of an object required and no other allowed: an answer that fits the narrower schema fits
the one that was asked for as well. `closed` (Anthropic's) has no bounds: these are said in words. A provider or schema
for which neither does gets a tool to answer with, whose arguments are the answer.
"""

from __future__ import annotations

import re
from typing import Any

from weft.core.content import ToolSpec

FIELD = "answer"
ANSWER = "give_the_answer"
"""The tool to answer with."""
_BEGIN = re.compile(r'\s*\{\s*"answer"\s*:\s*')
_BEGINS = re.compile(r'\s*(\{\s*("(a(n(s(w(e(r("\s*(:\s*)?)?)?)?)?)?)?)?)?)?')
_PLAIN = {
    "type", "title", "description", "enum", "const", "format", "pattern", "$ref", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}  # fmt: skip
_BOUNDS = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems",
    "maxItems", "uniqueItems", "minProperties", "maxProperties",
}  # fmt: skip
_LEFT_OUT = {"default", "examples", "$schema", "$id", "discriminator"}


def is_object(schema: dict[str, Any]) -> bool:
    """Whether what it describes is an object for certain."""
    return schema.get("type") == "object"


def wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """An object with what the schema describes under "answer"."""
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    outer: dict[str, Any] = {
        "type": "object",
        "properties": {FIELD: inner},
        "required": [FIELD],
        "additionalProperties": False,
    }
    if "$defs" in schema:
        outer["$defs"] = schema["$defs"]
    return outer


class Unwrap:
    """The text of such an object, piece by piece, as the text of what is under "answer". Text of another form goes
    through as it is."""

    def __init__(self) -> None:
        self._held = ""
        self._begun = False
        self._inside: bool | None = None
        """None: not known yet."""

    def feed(self, piece: str) -> str:
        """What can be passed on now."""
        if self._inside is False:
            return piece
        self._held += piece
        if self._inside is None:
            begin = _BEGIN.match(self._held)
            if begin is None:
                if _BEGINS.fullmatch(self._held):
                    return ""
                self._inside = False
                return self._release(len(self._held))
            self._inside = True
            self._held = self._held[begin.end() :]
        if not self._begun:
            self._held = self._held.lstrip()
        words = self._held.rstrip()
        return self._release(len(words.removesuffix("}").rstrip()))

    def end(self) -> str:
        """What is left once the text has ended."""
        held, self._held = self._held, ""
        return held.rstrip().removesuffix("}").rstrip() if self._inside else held

    def _release(self, length: int) -> str:
        ready, self._held = self._held[:length], self._held[length:]
        self._begun = self._begun or bool(ready)
        return ready


def unwrapped(text: str) -> str:
    """The same for a text that is there as a whole."""
    unwrap = Unwrap()
    return unwrap.feed(text) + unwrap.end()


def guaranteed(schema: dict[str, Any]) -> dict[str, Any]:
    """How OpenAI's APIs are asked for an answer of this schema: strictly, if it can be said so."""
    schema = schema if is_object(schema) else wrapped(schema)
    narrow = strict(schema)
    return {"name": FIELD, "schema": schema if narrow is None else narrow, "strict": narrow is not None}


def strict(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema in the strict subset: all properties required, no others allowed. None if it can't be said there."""
    try:
        return _strict(schema)
    except ValueError:
        return None


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.get("additionalProperties", False) is not False:
        raise ValueError
    narrow: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _PLAIN:
            narrow[key] = value
        elif key in ("properties", "$defs"):
            narrow[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key == "anyOf":
            narrow[key] = [_strict(each) for each in value]
        elif key == "items":
            narrow[key] = _strict(value)
        elif key not in _LEFT_OUT and key not in ("required", "additionalProperties"):
            raise ValueError
    narrow |= _typed(schema)
    if "object" in narrow.get("type", ""):
        if not schema.get("properties"):
            raise ValueError
        narrow["required"] = [*schema["properties"]]
        narrow["additionalProperties"] = False
    return narrow


def closed(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema without other properties than those it names, and with its bounds in words. None if it can't be said
    so, or refers to itself."""
    try:
        return None if _recursive(schema.get("$defs", {})) else _closed(schema)
    except ValueError:
        return None


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.get("additionalProperties", False) is not False:
        raise ValueError
    narrow: dict[str, Any] = {}
    bounds = [f"{key}: {value}" for key, value in schema.items() if key in _BOUNDS]
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            narrow[key] = {name: _closed(inner) for name, inner in value.items()}
        elif key in ("anyOf", "allOf"):
            narrow[key] = [_closed(each) for each in value]
        elif key == "items":
            narrow[key] = _closed(value)
        elif key == "required" or (key in _PLAIN and key not in _BOUNDS):
            narrow[key] = value
        elif key not in _BOUNDS and key not in _LEFT_OUT and key != "additionalProperties":
            raise ValueError
    if bounds:
        narrow["description"] = f"{narrow.get('description', '')} ({', '.join(bounds)})".strip()
    narrow |= _typed(schema)
    if "object" in narrow.get("type", ""):
        narrow["additionalProperties"] = False
    return narrow


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    """The type that the values of an `enum` or `const` have, if the schema does not say it: strict schemas must."""
    if schema.keys() & {"type", "anyOf", "allOf", "$ref"}:
        return {}
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    types = sorted({_TYPES.get(type(value), "") for value in values})
    if not types or "" in types:
        raise ValueError
    return {"type": types[0] if len(types) == 1 else types}


def _recursive(definitions: dict[str, Any]) -> bool:
    """Whether a definition reaches itself."""
    reached = {name: set(re.findall(r"'#/\$defs/([^']+)'", str(inner))) for name, inner in definitions.items()}
    for _ in reached:
        reached = {name: ways.union(*(reached.get(way, set()) for way in ways)) for name, ways in reached.items()}
    return any(name in ways for name, ways in reached.items())


def answer_tool(schema: dict[str, Any]) -> ToolSpec:
    """The tool whose arguments are the answer; put into an object if it is none."""
    return ToolSpec(ANSWER, "Give the answer.", schema if is_object(schema) else wrapped(schema))
