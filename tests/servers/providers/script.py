"""What a provider shall say, in no provider's form: a list of turns, of which the n-th answers a request that has n
turns of the assistant in it already (the last one answers all later ones too). So a request that is sent again gets
the same answer, and many conversations can run at once."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

Finish = Literal["", "stop", "length", "tool_call", "content_filter"]


class Call(msgspec.Struct, frozen=True):
    """A tool call. Without an id the provider makes one, if it is one that does. `arguments` as text are sent as they
    are, be they JSON or not. A stream sends them in `pieces` pieces, if the provider is one that cuts them."""

    name: str
    arguments: dict[str, Any] | str = {}
    id: str = ""
    pieces: int = 3

    @property
    def text(self) -> str:
        """The arguments as JSON."""
        given = self.arguments
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, separators=(",", ":"))

    @property
    def object(self) -> dict[str, Any]:
        """The arguments, for providers that send no text."""
        value = json.loads(self.arguments) if isinstance(self.arguments, str) else self.arguments
        assert isinstance(value, dict), "this provider can only send arguments that are an object"
        return value

    def cut(self) -> list[str]:
        """The text in pieces."""
        size = max(1, -(-len(self.text) // self.pieces))
        return [self.text[at : at + size] for at in range(0, len(self.text), size)] or [""]


class Tokens(msgspec.Struct, frozen=True):
    """What the turn took. `input` is the whole prompt, the cached tokens among it; `output` is all that was generated,
    the reasoning among it. Each provider tells it in its own way of counting."""

    input: int = 11
    output: int = 7
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, in the order of its fields; the lists are the pieces in which a stream sends them."""

    reasoning: list[str] = []
    text: list[str] = []
    refusal: list[str] = []
    calls: list[Call] = []
    usage: Tokens = Tokens()
    finish: Finish = ""
    """Empty: what follows from the rest."""
    signature: str = ""
    """The provider's seal: on the reasoning, or, where there is none, on the first call (Gemini)."""
    interleaved: bool = False
    """Pieces of several calls take turns."""
    pause: float = 0.0
    """Seconds between the frames of a stream."""

    @property
    def ending(self) -> Finish:
        """Why it ends."""
        if self.finish:
            return self.finish
        return "content_filter" if self.refusal else "tool_call" if self.calls else "stop"

    def numbered(self) -> list[tuple[int, str]]:
        """The pieces of all calls, each with the number of its call, in the order in which a stream sends them."""
        pieces = [[(n, piece) for piece in call.cut()] for n, call in enumerate(self.calls)]
        if not self.interleaved:
            return [piece for call in pieces for piece in call]
        rounds = range(max((len(call) for call in pieces), default=0))
        return [call[at] for at in rounds for call in pieces if at < len(call)]
