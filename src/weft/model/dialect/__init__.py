"""Dialects: how each provider writes requests, answers and streams on the wire. No I/O here.

A dialect turns a neutral `Request` into the JSON of one API, and that API's answers, streams and refusals back. Both
directions of messages are here too (`write`, `read`), so a conversation can be carried over from any provider's form,
and what a provider can't express is listed, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from weft.core.errors import BadInput, ModelError
from weft.model.event import Event
from weft.model.message import Message
from weft.model.request import Reply, Request


class Call(NamedTuple):
    """An HTTP request: where below the base URL, what, and what of the neutral request it does not say."""

    path: str
    body: dict[str, Any]
    lost: tuple[str, ...] = ()


class Frame(NamedTuple):
    """One piece of a stream: a server-sent event, or (`event` empty) a line of JSON."""

    event: str
    data: str


class Decoder(Protocol):
    """Reads one stream."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        """What this frame says. Raises ModelError (by class) for an error that the provider sends in mid-stream, and
        for a frame that is none."""

    def end(self) -> Reply:
        """The whole, once the stream has ended. Raises ModelUnavailable if the end came too early."""


class Dialect(Protocol):
    """One API."""

    name: ClassVar[str]
    framing: ClassVar[Literal["sse", "lines"]]
    key: ClassVar[str]
    """The environment variable that holds the key."""
    base: ClassVar[str]
    """The address of the provider's own servers, below which `Call.path` lies."""
    base_variable: ClassVar[str]
    """The environment variable that gives another address."""

    def headers(self, key: str) -> Mapping[str, str]:
        """Those of every request; `key` is the secret, or empty."""

    def call(self, model: str, request: Request, *, stream: bool) -> Call:
        """The request. Raises BadInput for what can't be sent at all."""

    def reply(self, answer: Any, request: Request) -> Reply:
        """The reply in an answer's JSON. Raises ModelError if it is none."""

    def decoder(self, request: Request) -> Decoder:
        """A reader for the stream of this request."""

    def refusal(self, model: str, status: int, text: str, headers: Mapping[str, str]) -> ModelError:
        """The error that an HTTP status other than 200 means, by its class."""

    def write(self, messages: Sequence[Message]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The part of the request's JSON that holds the messages (system prompt too), and what is lost."""

    def read(self, wire: Mapping[str, Any]) -> list[Message]:
        """The messages in such JSON: `read(write(messages)[0]) == messages` for all that it can express."""


_HOMES = {
    "openai": "chat:Chat",
    "openai-responses": "responses:Responses",
    "anthropic": "anthropic:Anthropic",
    "gemini": "gemini:Gemini",
    "ollama": "ollama:Ollama",
}
DIALECTS = tuple(_HOMES)


@cache
def dialect(name: str) -> Dialect:
    """The dialect with this name; it holds no state, so one serves all. Raises BadInput."""
    home = _HOMES.get(name)
    if home is None:
        raise BadInput(f"there is no dialect {name!r}; there are {', '.join(DIALECTS)}")
    module, _, kind = home.partition(":")
    found: Dialect = getattr(import_module(f"weft.model.dialect.{module}"), kind)()
    return found
