"""What a server says, made fit to be shown: names that every provider takes, texts without hidden characters."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

LONGEST = 4_000
"""Characters of a description that a model gets to see."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Kinds of characters that a reader does not see: controls, marks of direction, tags, the unassigned."""


def cleaned(text: str, longest: int = LONGEST) -> str:
    """Without characters that a reader does not see, but for line ends and tabs; a longer text is cut, and says so."""
    seen = "".join(
        each for each in text[: 4 * longest] if each in "\n\t" or unicodedata.category(each) not in _HIDDEN
    ).strip()
    if len(seen) > longest or len(text) > 4 * longest:
        return f"{seen[:longest].rstrip()} [... cut: {len(text)} characters]"
    return seen


def cleaned_schema(schema: Any, depth: int = 0) -> Any:
    """A schema whose descriptions and titles are cleaned: a model reads those as well. What it allows stays."""
    if depth > 64:
        return schema
    if isinstance(schema, list):
        return [cleaned_schema(each, depth + 1) for each in schema]
    if isinstance(schema, dict):
        return {
            key: cleaned(value)
            if key in ("description", "title", "$comment") and isinstance(value, str)
            else cleaned_schema(value, depth + 1)
            for key, value in schema.items()
        }
    return schema


def model_names(names: list[str]) -> dict[str, str]:
    """For each tool's name one that every provider takes (letters, digits, `_` and `-`, at most 64), all different.
    Depends on the name and on those that come out alike, not on the order."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_plain(name), []).append(name)
    found = {}
    for plain, group in alike.items():
        for name in group:
            found[name] = name if name == plain else plain if len(group) == 1 else _marked(plain, name)
    return found


def _plain(name: str) -> str:
    if _NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "tool"
    return plain if len(plain) <= 64 else _marked(plain, name)


def _marked(plain: str, name: str) -> str:
    return f"{plain[:57]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
