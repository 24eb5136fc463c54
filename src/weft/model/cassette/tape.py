"""A cassette's file: lines of JSON, in order. Version 1:

{"line": "cassette", "version": 1, "exchanges": 1}
{"line": "request", "method": "POST", "url": "https://...", "headers": {...}, "json": {...}}
{"line": "answer", "status": 200, "headers": {...}}
{"line": "chunk", "text": "data: {...}\\n\\n"}
{"line": "end"}

A body or chunk that is no JSON (or no text) is under "text" (or "base64"). The end of an exchange says how it came:
"whole", "left" (its reader had read enough), "silent" (its reader was waiting for more and gave up), or "broken" with
the client's error. A file that breaks off is refused.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from weft.core.errors import WeftError
from weft.core.whole import write_whole
from weft.model.cassette import secrets

_VERSION = 1
How = Literal["whole", "left", "silent", "broken"]


class CassetteError(WeftError):
    """A cassette's file can't be used."""


class NotRecorded(CassetteError, LookupError):
    """A request that a cassette has no answer to."""


class Question(msgspec.Struct, frozen=True):
    """A request, as it is told from others."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for requests that are the same but for the order of keys."""
        return self.method, self.url, _canonical(self.body)

    def cleaned(self) -> Question:
        """Without secrets and without what differs from run to run."""
        hidden = self.secrets()
        return Question(
            self.method, secrets.address(self.url), secrets.asked(self.headers), secrets.starred(self.body, hidden)
        )

    def secrets(self) -> list[bytes]:
        """The secret values in it."""
        return secrets.values(self.url, self.headers)

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


class Exchange:
    """A request and what came of it: an answer, whole or not, or no more than an error of the connection."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.how: How = "left"
        self.error = ""
        """The class of the client's error, if it broke."""
        self.why = ""

    @property
    def answered(self) -> bool:
        """Whether anything came of it."""
        return self.status is not None or self.how in ("silent", "broken")

    def broke(self, error: Exception) -> None:
        """The connection failed."""
        self.how, self.error, self.why = "broken", type(error).__name__, str(error)


# --- lines ---


class _Line(msgspec.Struct, tag_field="line", omit_defaults=True, forbid_unknown_fields=True):
    pass


class _Head(_Line, tag="cassette"):
    version: int
    exchanges: int


class _Request(_Line, tag="request"):
    method: str
    url: str
    headers: dict[str, str] = {}
    json: Any = msgspec.UNSET
    text: str | None = None
    base64: str | None = None


class _Answer(_Line, tag="answer"):
    status: int
    headers: dict[str, str] = {}


class _Chunk(_Line, tag="chunk"):
    text: str | None = None
    base64: str | None = None


class _End(_Line, tag="end"):
    how: How = "whole"
    error: str = ""
    why: str = ""


_Any = _Head | _Request | _Answer | _Chunk | _End


def write(path: Path, exchanges: Sequence[Exchange]) -> None:
    """Make the file, in one step."""
    lines = [msgspec.json.encode(line) for line in _lines(exchanges)]
    write_whole(path, b"\n".join([*lines, b""]), mode=0o644, durable=True)


def _lines(exchanges: Sequence[Exchange]) -> Iterator[_Any]:
    yield _Head(_VERSION, len(exchanges))
    for exchange in exchanges:
        hidden = exchange.question.secrets()
        asked = exchange.question.cleaned()
        yield _request(asked)
        if exchange.status is not None:
            yield _Answer(exchange.status, secrets.answered(exchange.headers, hidden))
        for chunk in secrets.starred_chunks(exchange.chunks, hidden):
            yield _Chunk(**_told(chunk))
        why = secrets.starred(exchange.why.encode(), hidden).decode()
        yield _End(exchange.how, exchange.error, why)


def _request(asked: Question) -> _Request:
    try:
        return _Request(asked.method, asked.url, asked.headers, json=msgspec.json.decode(asked.body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Request(asked.method, asked.url, asked.headers, **_told(asked.body))


def _told(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def read(path: Path) -> list[Exchange]:
    """The exchanges in the file. Raises CassetteError that names the file and the line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CassetteError(f"the cassette {path} can't be read ({error})") from error
    exchanges: list[Exchange] = []
    now: Exchange | None = None
    promised = 0
    for number, text in enumerate(lines, 1):
        if not text and number == len(lines) > 1:
            continue
        try:
            line = msgspec.json.decode(text, type=_Any)
            if isinstance(line, _Head) and number == 1:
                promised = _promised(line)
            else:
                now = _next(line, now, exchanges, first=number == 1)
        except (msgspec.MsgspecError, ValueError) as error:
            raise _broken(path, number, str(error)) from error
    if now is not None or len(exchanges) != promised:
        raise _broken(path, len(lines), f"here it breaks off, with {len(exchanges)} of {promised} exchanges")
    return exchanges


def _promised(head: _Head) -> int:
    """How many exchanges there must be."""
    if head.version != _VERSION:
        raise ValueError(f"version {head.version} is not known, only {_VERSION}")
    return head.exchanges


def _next(line: _Any, now: Exchange | None, exchanges: list[Exchange], *, first: bool) -> Exchange | None:
    """What a line adds; the exchange that is under way after it. Raises ValueError for a line out of place."""
    match line:
        case _Request() if now is None and not first:
            body = b"" if line.json is msgspec.UNSET else msgspec.json.encode(line.json)
            return Exchange(Question(line.method, line.url, line.headers, body or _bytes(line)))
        case _Answer(status=status, headers=headers) if now is not None and now.status is None:
            now.status, now.headers = status, headers
            return now
        case _Chunk() if now is not None and now.status is not None:
            now.chunks.append(_bytes(line))
            return now
        case _End() if now is not None and (now.status is not None or line.how in ("silent", "broken")):
            now.how, now.error, now.why = line.how, line.error, line.why
            exchanges.append(now)
            return None
    raise ValueError(f"the line {type(line).__name__[1:].lower()!r} can't be here")


def _bytes(line: _Request | _Chunk) -> bytes:
    return base64.b64decode(line.base64, validate=True) if line.base64 is not None else (line.text or "").encode()


def _broken(path: Path, number: int, why: str) -> CassetteError:
    return CassetteError(f"{path}, line {number}: {why}; this is no whole cassette: record it anew (record='all')")


def _canonical(body: bytes) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="deterministic").decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return repr(body)


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}
