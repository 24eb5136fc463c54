"""What a docstring says of a function and of each of its parameters, in the styles of Google, NumPy and Sphinx."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Words(NamedTuple):
    """`text`: of the function itself; `parameters`: of each that something is said about."""

    text: str = ""
    parameters: Mapping[str, str] = MappingProxyType({})


_MARKS = {
    "google": re.compile(r"^\s*(Args|Arguments|Params|Parameters|Returns?|Raises|Yields):\s*$", re.M),
    "numpy": re.compile(r"^\s*(Parameters|Other Parameters|Returns|Raises|Yields)\n\s*-{3,}\s*$", re.M),
    "sphinx": re.compile(r"^\s*:(param|parameter|arg|argument|type|returns?|rtype|raises?)\b.*:", re.M),
}


def words_of(fn: Callable[..., Any]) -> Words:
    """What the docstring of a function says."""
    text = inspect.getdoc(fn) if inspect.isroutine(fn) else inspect.getdoc(type(fn).__call__)
    if not text:
        return Words()
    style = next((name for name, mark in _MARKS.items() if mark.search(text)), None)
    return Words(text.strip()) if style is None else _parsed(fn, text, style)


def _parsed(fn: Callable[..., Any], text: str, style: Any) -> Words:
    import griffe

    if style == "google":
        text = _MARKS["google"].sub(lambda header: f"\n{header[0]}", text)  # a blank line before is often forgotten
    found = griffe.Docstring(text, parser=style).parse(warnings=False)
    parts: list[str] = []
    parameters: dict[str, str] = {}
    for section in found:
        match section.kind:
            case griffe.DocstringSectionKind.text:
                parts.append(section.value.strip())
            case griffe.DocstringSectionKind.parameters | griffe.DocstringSectionKind.other_parameters:
                for one in section.value:
                    names = (name.strip().lstrip("*") for name in one.name.split(","))
                    parameters.update(dict.fromkeys(names, " ".join(one.description.split())))
            case griffe.DocstringSectionKind.returns:
                told = " ".join(" ".join(one.description.split()) for one in section.value if one.description)
                parts.append(f"Returns: {told}" if told else "")
    return Words("\n\n".join(part for part in parts if part), parameters)
