"""What went in and came out, for an export that is asked for it: redacted, and cut where it is long.

The journal has no secret's value in it (`weft.core.secret`); here, what this machine knows as one is taken out again,
and whatever fits a pattern of the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from weft.core.errors import BadInput
from weft.core.secret import Redactor

LONGEST = 64_000
"""Characters of one value that are exported."""
REDACTED = "[redacted]"
_encode = msgspec.json.Encoder().encode


class Content:
    """Which content an export takes out. `patterns`: regular expressions; what fits one is left out. Raises BadInput
    for one that is none."""

    def __init__(self, patterns: Iterable[str] = (), longest: int = LONGEST) -> None:
        self.longest = longest
        self._redactor = Redactor()
        self._patterns = [_compiled(one) for one in patterns]

    def text(self, value: Any) -> str:
        """A value as JSON (a text as it is)."""
        text = self._redactor.redact_text(value if isinstance(value, str) else _encode(value).decode())
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text if len(text) <= self.longest else f"{text[: self.longest]}… ({len(text):,} characters)"

    def messages(self, messages: Iterable[Mapping[str, Any]]) -> str:
        """Messages as the JSON of OpenTelemetry's conventions; what is too long in one is cut, and it stays JSON."""
        return _encode([self._message(one) for one in messages]).decode()

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        named = {"name": message["name"]} if message.get("name") else {}
        return {"role": message.get("role", ""), "parts": [self._part(p) for p in message.get("parts", ())], **named}

    def _part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(part.get("type") or kind_of_part(part))
        kept = {key: value for key, value in part.items() if key not in _OURS and value not in ("", None, [], {})}
        if kind == "tool_call_response":
            kept["response"] = _words(part.get("response"))
        return {"type": kind, **{key: self._value(value) for key, value in kept.items() if key != "type"}}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self._value(one) for key, one in value.items()}
        return [self._value(one) for one in value] if isinstance(value, list) else value


_OURS = frozenset({"cache", "signature", "citations", "hidden", "error"})
"""Of parts of messages: what the conventions have no word for."""


def kind_of_part(part: Mapping[str, Any]) -> str:
    """What a part of a message is, by its fields: a journal that is read without the classes tells no more."""
    for key, kind in (
        ("response", "tool_call_response"), ("arguments", "tool_call"), ("hidden", "reasoning"), ("uri", "uri"),
        ("file_id", "file"), ("mime_type", "blob"), ("dialect", "opaque"), ("citations", "text"),
    ):  # fmt: skip
        if key in part:
            return kind
    return "refusal"


def _words(response: Any) -> Any:
    """A tool's result: the text, where it is nothing else."""
    if isinstance(response, list) and len(response) == 1 and isinstance(response[0], dict):
        only = response[0]
        if kind_of_part(only) in ("text", "refusal") and "content" in only:
            return only["content"]
    return response


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadInput(f"what is to be redacted, {pattern!r}, is no regular expression: {error}") from None
