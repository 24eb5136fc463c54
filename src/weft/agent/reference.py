"""Arguments that stand for results which are not there yet: `{"$result": "h3"}`, or a part of it: `h3.items[0].id`.

A reference says what a call depends on, so the call can be asked for at once and is made when the result has come. Who
writes the handle itself where the value belongs has used a result before it was there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from weft.core.errors import BadInput

KEY = "$result"
_WRITTEN = re.compile(r"(h\d+)((?:\.[^.\[\]]+|\[\d+\]|\[\"[^\"]*\"\])*)")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\"([^\"]*)\"\]")
_NAMED = re.compile(r"\W*(?:results?\W+(?:of\W+)?)?(h\d+)(?:[.\[].{0,60})?\W*", re.I | re.S)
"""A text that is nothing but the name of a handle, dressed up in some way."""
SHOWN = 120
"""Characters of a result that an error shows."""


class Reference(NamedTuple):
    """To a part of a result: `path` holds names and places."""

    handle: str
    path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        steps = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in self.path)
        return f"{self.handle}{steps}"


def references(arguments: Any) -> Iterator[Reference]:
    """Those in arguments, however deep. Raises BadInput for one that is written wrongly."""
    for one in _leaves(arguments):
        if isinstance(one, dict) and KEY in one:
            yield _read(one)


def named(arguments: Any) -> Iterator[str]:
    """Handles whose mere name stands where a value belongs."""
    for one in _leaves(arguments):
        if isinstance(one, str) and (found := _NAMED.fullmatch(one)):
            yield found[1].lower()


def literals(value: Any) -> Iterator[Any]:
    """The values in it that were written out: no references."""
    return (one for one in _leaves(value) if not isinstance(one, dict) and one is not None and one != "")


def resolved(arguments: Mapping[str, Any], schema: Mapping[str, Any], results: Mapping[str, str]) -> dict[str, Any]:
    """The arguments with what their references stand for. `results`: the texts of results, by handle. `schema`: of the
    arguments; a parameter that is a text gets the text of a result as it is, any other what it says as JSON. Raises
    BadInput for a part that a result has not."""
    properties = schema.get("properties", {})

    def put(value: Any, as_text: bool) -> Any:
        if isinstance(value, dict):
            if KEY in value:
                return _part(_read(value), results, as_text)
            return {name: put(one, False) for name, one in value.items()}
        if isinstance(value, list):
            return [put(one, False) for one in value]
        return value

    return {name: put(one, _is_text(properties.get(name, {}))) for name, one in arguments.items()}


def _leaves(value: Any) -> Iterator[Any]:
    """What is in it that holds nothing else; a reference is one."""
    if isinstance(value, dict) and KEY not in value:
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _read(written: dict[str, Any]) -> Reference:
    said = written[KEY]
    found = _WRITTEN.fullmatch(said) if isinstance(said, str) and len(written) == 1 else None
    if found is None:
        raise BadInput(
            f"{json.dumps(written, ensure_ascii=False, default=repr)[:SHOWN]} is no reference to a result: write "
            f'{{"{KEY}": "h3"}} for the whole of it, or {{"{KEY}": "h3.items[0].id"}} for a part'
        )
    steps = (int(place) if place else name or quoted for name, place, quoted in _STEP.findall(found[2]))
    return Reference(found[1], tuple(steps))


def _part(reference: Reference, results: Mapping[str, str], as_text: bool) -> Any:
    text = results[reference.handle]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not reference.path:
        return text if as_text else value
    at = reference.handle
    for step in reference.path:
        inside = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if step not in inside:
            what = f"it has {', '.join(value) or 'nothing'}" if isinstance(value, dict) else _shown(value)
            raise BadInput(f"there is no {reference}: {at} has no {step!r}; {what}")
        value = value[step]
        at += f"[{step}]" if isinstance(step, int) else f".{step}"
    return value


def _is_text(schema: Mapping[str, Any]) -> bool:
    """Whether this describes a text and nothing else (None apart)."""
    kinds = {one.get("type") for one in (schema, *schema.get("anyOf", ()))}
    return kinds - {None, "null"} == {"string"}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"it is {text}" if len(text) <= SHOWN else f"it is {text[:SHOWN]}…"
