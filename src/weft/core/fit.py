"""Does an answer fit its JSON schema? What a person types is read by the schema, and refused with the reason.

The part of JSON schema that types of Python are written in: types, enum, const, objects, arrays, unions, references,
limits. Words that are not known here are passed over; whoever converts the answer to its type has the last word.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from weft.core.errors import BadInput

Schema = Mapping[str, Any]

TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a text", lambda value: isinstance(value, str)),
    "integer": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "number": ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
    "array": ("a list", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, dict)),
}
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least {}", lambda value, limit: value >= limit),
    "maximum": ("at most {}", lambda value, limit: value <= limit),
    "exclusiveMinimum": ("more than {}", lambda value, limit: value > limit),
    "exclusiveMaximum": ("less than {}", lambda value, limit: value < limit),
    "minLength": ("at least {} characters long", lambda value, limit: len(value) >= limit),
    "maxLength": ("at most {} characters long", lambda value, limit: len(value) <= limit),
    "pattern": ("like {}", lambda value, limit: re.search(limit, value) is not None),
    "minItems": ("at least {} long", lambda value, limit: len(value) >= limit),
    "maxItems": ("at most {} long", lambda value, limit: len(value) <= limit),
}
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TEXTS = ("minLength", "maxLength", "pattern")
_YES = {"yes": True, "y": True, "no": False, "n": False}


def read_text(text: str, schema: Schema) -> Any:
    """What a person typed, as a value of this schema: JSON if it is some that fits, else yes or no, else the text
    itself. Raises BadInput that says what would fit."""
    tries: list[Any] = []
    with contextlib.suppress(ValueError):
        tries.append(json.loads(text))
    tries += [_YES[text.lower()]] if text.lower() in _YES else []
    tries.append(text)
    reasons = []
    for value in tries:
        reason = misfit(value, schema)
        if reason is None:
            return value
        reasons.append(reason)
    raise BadInput(f"{reasons[0]}; it takes {wanted(schema)}")


def misfit(value: Any, schema: Schema, root: str = "answer", top: Schema | None = None) -> str | None:
    """Why a value in JSON types does not fit, with the path of the part that does not; None if it does."""
    top = schema if top is None else top
    if isinstance(reference := schema.get("$ref"), str):
        return misfit(value, _referred(reference, top), root, top)
    if "const" in schema and not _same(value, schema["const"]):
        return f"{root} is {_shown(value)}, not {_shown(schema['const'])}"
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return f"{root} is {_shown(value)}, none of {', '.join(map(_shown, schema['enum']))}"
    kinds = _list(schema.get("type", []))
    if kinds and not any(TYPES[kind][1](value) for kind in kinds if kind in TYPES):
        return f"{root} is {_shown(value)}, not {' or '.join(TYPES[k][0] for k in kinds if k in TYPES)}"
    for choices in (schema.get("anyOf"), schema.get("oneOf")):
        if choices and (reason := _any(value, choices, root, top)):
            return reason
    for part in schema.get("allOf", ()):
        if reason := misfit(value, part, root, top):
            return reason
    return _limits(value, schema, root) or _parts(value, schema, root, top)


def wanted(schema: Schema, top: Schema | None = None) -> str:
    """What fits, in a few words: `true or false`, `"red" or "green"`, `an object (name: a text, age?: a number)`."""
    top = schema if top is None else top
    if isinstance(reference := schema.get("$ref"), str):
        return wanted(_referred(reference, top), top)
    if "const" in schema:
        return _shown(schema["const"])
    if "enum" in schema:
        return " or ".join(map(_shown, schema["enum"]))
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(wanted(choice, top) for choice in choices))
    properties = schema.get("properties")
    if properties:
        needed = schema.get("required", ())
        fields = (f"{name}{'' if name in needed else '?'}: {wanted(each, top)}" for name, each in properties.items())
        return f"an object ({', '.join(fields)})"
    return " or ".join(TYPES[kind][0] for kind in _list(schema.get("type", [])) if kind in TYPES) or "any JSON"


def _any(value: Any, choices: Iterable[Schema], root: str, top: Schema) -> str | None:
    """None if one of the choices fits; else why the one did not whose own shape it has, if there is one."""
    reasons = [(misfit(value, choice, root, top), wanted(choice, top)) for choice in choices]
    if any(reason is None for reason, _ in reasons):
        return None
    inner = [reason for reason, _ in reasons if reason is not None and not reason.startswith(f"{root} is ")]
    if len(inner) == 1:
        return inner[0]
    return f"{root} is {_shown(value)}, not {' or '.join(dict.fromkeys(what for _, what in reasons))}"


def _limits(value: Any, schema: Schema, root: str) -> str | None:
    if isinstance(value, bool):
        return None
    names: tuple[str, ...] = ()
    if isinstance(value, int | float):
        names = _NUMBERS
    elif isinstance(value, str):
        names = _TEXTS
    elif isinstance(value, list):
        names = ("minItems", "maxItems")
    for name in names:
        if name in schema and not _LIMITS[name][1](value, schema[name]):
            return f"{root} is {_shown(value)}, which must be {_LIMITS[name][0].format(schema[name])}"
    return None


def _parts(value: Any, schema: Schema, root: str, top: Schema) -> str | None:
    if isinstance(value, list):
        first = schema.get("prefixItems", ())
        rest = schema.get("items", True)
        for number, item in enumerate(value):
            part = first[number] if number < len(first) else rest
            if isinstance(part, Mapping) and (reason := misfit(item, part, f"{root}[{number}]", top)):
                return reason
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if lacking := [name for name in schema.get("required", ()) if name not in value]:
            return f"{root} lacks {', '.join(lacking)}"
        for name, item in value.items():
            part = properties.get(name, more)
            if part is False:
                return f"{root} has {name}, which is unknown"
            if isinstance(part, Mapping) and (reason := misfit(item, part, f"{root}.{name}", top)):
                return reason
    return None


def _referred(reference: str, top: Schema) -> Schema:
    found: Any = top
    for name in reference.removeprefix("#/").split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _list(kinds: Any) -> list[str]:
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"
