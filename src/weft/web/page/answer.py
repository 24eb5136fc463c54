"""What goes in and out of the page's API: parameters, JSON, pages of lists, and errors with a code."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from weft.core.errors import (
    BadInput,
    NoObject,
    RunMoved,
    StoreError,
    UnknownQuestion,
    UnknownRun,
    WeftError,
)

log = logging.getLogger("weft.web")

LARGEST = 1 << 20
"""Bytes of a request."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """An answer that is none: its status, its code, and words for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


_encoder = msgspec.json.Encoder(enc_hook=str)


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, which nobody keeps a copy of."""
    return ready(encoded(data), status, headers)


def ready(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The same of what is JSON already."""
    return Response(data, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def encoded(data: Any) -> bytes:
    return _encoder.encode(data)


def refusal(refused: Refused) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
    return answer({"error": {"code": refused.code, "message": str(refused)}}, refused.status, headers)


_KINDS: tuple[tuple[type[WeftError], int, str], ...] = (
    (RunMoved, 409, "conflict"),
    (UnknownRun, 404, "unknown_run"),
    (UnknownQuestion, 404, "unknown_question"),
    (NoObject, 404, "unknown_memory"),
    (StoreError, 503, "store"),
    (BadInput, 400, "bad_input"),
    (WeftError, 409, "conflict"),
)


def refused_for(error: Exception) -> Refused:
    """What an error means to a client. What nobody foresaw is logged here, and not told."""
    if isinstance(error, Refused):
        return error
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return Refused(status, code, str(error))
    log.error("in the page: %r", error, exc_info=error)
    return Refused(500, "internal", "the page failed at this; its log says more")


def guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors are answers."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:
            return refusal(refused_for(error))

    return answered


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object that was sent."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, "too_large", f"a request may have {LARGEST:,} bytes")
    try:
        found = msgspec.json.decode(bytes(body) or b"{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, "bad_input", f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "bad_input", "the body is no JSON object, such as {}")
    return found


# --- parameters -----------------------------------------------------------------------------------------------------


def whole(request: Request, name: str, usual: int, least: int, most: int) -> int:
    """A whole number of the query."""
    text = request.query_params.get(name)
    if text is None:
        return usual
    try:
        number = int(text)
    except ValueError:
        raise BadInput(f"{name}={text[:40]!r} is no whole number") from None
    if not least <= number <= most:
        raise BadInput(f"{name}={number} is not within {least:,} and {most:,}")
    return number


def number(request: Request, name: str) -> float | None:
    """A number of the query, such as a time; None if it is not there."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not abs(found) < 1e15:  # not a number, too
        raise BadInput(f"{name}={text[:40]!r} is no number")
    return found


def flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "0")
    if text not in ("0", "1"):
        raise BadInput(f"{name}={text[:40]!r} is neither 0 nor 1")
    return text == "1"


def needed(request: Request, name: str) -> str:
    text = request.query_params.get(name, "")
    if not text:
        raise BadInput(f"give {name}=…")
    return text


# --- pages ----------------------------------------------------------------------------------------------------------


def mark(place: Any) -> str:
    """Where the next page begins, as clients carry it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def marked(request: Request, kind: type[Any]) -> Any:
    """Where this page begins; None at the first. Raises BadInput for what no answer gave."""
    text = request.query_params.get("after")
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except (ValueError, msgspec.DecodeError):
        raise BadInput(f"after={text[:40]!r} is no `next` of a page") from None
