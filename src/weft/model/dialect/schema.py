"""Schemas as providers take them: their strict subset, and an object around what is none.

Hosted providers guarantee a schema only in a subset of JSON Schema in which every property of an object is required and
no other is allowed, and only with an object at the root. An answer that fits the narrower schema fits the one that was
asked for as well.
"""

from __future__ import annotations

import re
from typing import Any

FIELD = "answer"
_BEGIN = re.compile(r'\s*\{\s*"answer"\s*:\s*')
_BEGINS = re.compile(r'\s*(\{\s*("(a(n(s(w(e(r("\s*(:\s*)?)?)?)?)?)?)?)?)?)?')
_PLAIN = {
    "type", "title", "description", "enum", "const", "format", "pattern", "$ref", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
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
        words = self._held.rstrip()
        return self._release(len(words.removesuffix("}").rstrip()))

    def end(self) -> str:
        """What is left once the text has ended."""
        held, self._held = self._held, ""
        return held.rstrip().removesuffix("}").rstrip() if self._inside else held

    def _release(self, length: int) -> str:
        ready, self._held = self._held[:length], self._held[length:]
        return ready


def unwrapped(text: str) -> str:
    """The same for a text that is there as a whole."""
    unwrap = Unwrap()
    return unwrap.feed(text) + unwrap.end()


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
    if "object" in schema.get("type", ""):
        if not schema.get("properties"):
            raise ValueError
        narrow["required"] = [*schema["properties"]]
        narrow["additionalProperties"] = False
    return narrow
