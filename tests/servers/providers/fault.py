"""What goes wrong on the wire, on demand: one request takes one fault, or several that go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec


class _Fault(msgspec.Struct, frozen=True, tag_field="fault"):
    pass


# --- instead of an answer ---


class Refuse(_Fault, frozen=True, tag="refuse"):
    """An HTTP status with the provider's own words of it. `retry_after`: seconds, or a date of HTTP."""

    status: int
    retry_after: str = ""
    headers: dict[str, str] = {}


class Garbage(_Fault, frozen=True, tag="garbage"):
    """JSON that breaks off: all of a plain answer, or the frame after `frames` good ones of a stream."""

    frames: int = 1


class Foreign(_Fault, frozen=True, tag="foreign"):
    """Status 200, but not of this API: the page of a proxy, say."""

    content_type: str = "text/html"
    body: str = "<html><body>Please log in to the network</body></html>"


class Silent(_Fault, frozen=True, tag="silent"):
    """Not a byte more, for ever: before the headers (None), or after so many frames."""

    frames: int | None = None


class Flood(_Fault, frozen=True, tag="flood"):
    """A frame that never ends: up to so many bytes without a line's end, until the client goes."""

    size: int = 1 << 30


# --- how the answer travels ---


class SlowHeaders(_Fault, frozen=True, tag="slow_headers"):
    """Headers come byte by byte, with so many seconds between."""

    pause: float = 0.0003


class Chopped(_Fault, frozen=True, tag="chopped"):
    """Chunks of so many bytes each, whatever is in them."""

    size: int = 1


class MidCharacter(_Fault, frozen=True, tag="mid_character"):
    """Chunks end inside every character that is more than one byte."""


class Joined(_Fault, frozen=True, tag="joined"):
    """All frames come in one chunk."""


class Crlf(_Fault, frozen=True, tag="crlf"):
    """Lines end with carriage return and line feed."""


class Comments(_Fault, frozen=True, tag="comments"):
    """A server-sent comment (in JSON lines an empty line) before each frame, as proxies send to keep a line alive."""


class Unended(_Fault, frozen=True, tag="unended"):
    """The last frame is missing: `[DONE]`, `message_stop`, `response.completed`; the answer itself ends properly."""


class Broken(_Fault, frozen=True, tag="broken"):
    """The connection is cut after so many frames, in the middle of the next one."""

    frames: int = 2
    reset: bool = False
    """By RST instead of FIN."""


class Fails(_Fault, frozen=True, tag="fails"):
    """After so many frames the provider sends its error in the stream."""

    frames: int = 2
    kind: Literal["server", "overloaded", "limited"] = "server"


Fault = (
    Refuse | Garbage | Foreign | Silent | Flood | SlowHeaders | Chopped | MidCharacter | Joined | Crlf | Comments
    | Unended | Broken | Fails
)  # fmt: skip
Faults = tuple[Fault, ...]

WORDS = {
    "server": "The server had an error while processing your request",
    "overloaded": "Overloaded",
    "limited": "Rate limit reached",
}


def chunks(frame: bytes, faults: Faults) -> Iterator[bytes]:
    """One frame as the chunks in which it travels."""
    for fault in faults:
        match fault:
            case Crlf():
                frame = frame.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            case Comments():
                frame = (b"\n" if frame.lstrip().startswith(b"{") else b": keep-alive\n\n") + frame
    for fault in faults:
        if isinstance(fault, Chopped):
            yield from (frame[at : at + fault.size] for at in range(0, len(frame), fault.size))
            return
        if isinstance(fault, MidCharacter):
            yield from _within_characters(frame)
            return
    yield frame


def _within_characters(frame: bytes) -> Iterator[bytes]:
    start = 0
    for at, byte in enumerate(frame):
        if byte & 0xC0 == 0x80:  # a byte that continues a character
            yield frame[start:at]
            start = at
    yield frame[start:]
