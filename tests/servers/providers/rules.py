"""What a provider gets, and how it refuses it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import msgspec


class Received(msgspec.Struct, frozen=True):
    """A request as it came. Names of headers are in lower case; `json` is None where the body is no JSON."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    json: Any = None
    refused: str = ""
    """Why it was refused, if so."""


class Refused(Exception):
    """The provider does not take the request."""

    def __init__(self, message: str, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        self.message = message
        self.status = status
        self.code = code
        self.param = param
        super().__init__(message)


def refuse(message: str, **more: Any) -> NoReturn:
    raise Refused(message, **more)


def need(fits: object, message: str, **more: Any) -> None:
    """Refuse the request unless this is so."""
    if not fits:
        raise Refused(message, **more)


def known(body: Mapping[str, Any], names: str | Iterable[str], message: str) -> None:
    """Refuse the request if it has another field than these (which may be words of a text). `{}` in the message is
    its name."""
    allowed = {*(names.split() if isinstance(names, str) else names)}
    for name in body:
        if name not in allowed:
            refuse(message.format(name), param=name)


def number(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    """Refuse a number that is out of its range."""
    value = body.get(name)
    if value is None:
        return
    need(isinstance(value, int | float) and not isinstance(value, bool), f"{name}: expected a number", param=name)
    need(low <= value <= high, f"{name}: must be between {low:g} and {high:g}, not {value:g}", param=name)


def strict(schema: Any, where: str) -> None:
    """OpenAI's strict schemas: every object closed, and all of its properties required."""
    if isinstance(schema, list):
        for each in schema:
            strict(each, where)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" or "properties" in schema:
        need(
            schema.get("additionalProperties") is False,
            f"Invalid schema for {where}: In context=(), 'additionalProperties' is required to be supplied and to be "
            "false.",
            code="invalid_json_schema",
        )
        need(
            set(schema.get("required", [])) == set(schema.get("properties", {})),
            f"Invalid schema for {where}: In context=(), 'required' is required to be supplied and to be an array "
            "including every key in properties.",
            code="invalid_json_schema",
        )
    for name, each in schema.items():
        if name in ("properties", "$defs", "definitions"):
            for inner in each.values():
                strict(inner, where)
        elif name in ("items", "anyOf", "allOf", "additionalProperties"):
            strict(each, where)


TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
