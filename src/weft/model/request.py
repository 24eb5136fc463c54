"""What a generation is asked (`Request`), what comes of it (`Reply`), and what it took (`Usage`)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from weft.core.content import ToolCall, ToolSpec
from weft.model.message import Message, Refusal

Finish = Literal["stop", "length", "tool_call", "content_filter", "error", "interrupted"]
"""Why it ended: by itself, at the most tokens, to have tools called, by a filter, by a fault of the provider, or
because the process that read it died in its middle."""
Effort = Literal["none", "low", "medium", "high"]
Choice = Literal["auto", "none", "required"]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that decides a generation."""

    messages: list[Message]
    tools: list[ToolSpec] = []
    tool_choice: Choice | str = "auto"
    """"auto", "none", "required", or the name of the tool that is to be called."""
    parallel: bool = True
    """Whether several tools may be called at once."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer's text must fit."""
    max_tokens: int | None = None
    temperature: float | None = None
    """None: the provider's usual; the embedded engine's is 0."""
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    seed: int | None = None
    effort: Effort | None = None
    """How long to reason."""
    logprobs: int | None = None
    """How many likely tokens to tell at each place."""
    deterministic: bool | Literal["try"] = False
    """Whether the same tokens must come whatever else goes on at the time, which only the embedded engine can promise;
    others refuse it. "try": where nobody can, ask all the same, and say so in `Reply.lost`."""
    score: list[str] = []
    """Labels whose log-probabilities are wanted."""
    timeout: float = 600.0
    """Seconds until the answer must be there."""
    cached: bool = False
    """Whether the reply to an equal request may be taken from this machine's cache, and is kept there."""
    extra: dict[str, Any] = {}
    """Put into the provider's request as it is, for what only this provider has."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of a generation. `input` counts all of the prompt, `cache_read` and `cache_write` among them; `output`
    counts all that was generated, `reasoning` among it."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        both = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Usage(*(mine + theirs for mine, theirs in both))


class Likely(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token that was generated, its log-probability, and the likeliest in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer. `.text` are its words, `.calls` the tools it wants called, `.data` the value that was asked for."""

    message: Message
    finish: Finish = "stop"
    usage: Usage = Usage()
    money: float | None = None
    """US dollars by the price table; None where the table has no price."""
    model: str = ""
    """The model that answered, as it calls itself."""
    id: str = ""
    seconds: float = 0.0
    first: float | None = None
    """Of a stream, after how many seconds its first event came."""
    data: Any = None
    logprobs: tuple[Likely, ...] = ()
    scores: dict[str, float] = {}
    """The log-probability of each label asked for in `Request.score`, as far as its first token tells."""
    cached: bool = False
    """It was kept of an equal request: nothing was generated or paid."""
    lost: tuple[str, ...] = ()
    """What of the request this provider can't express, in words."""

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def reasoning(self) -> str:
        return self.message.reasoning

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return self.message.calls

    @property
    def refusal(self) -> str:
        """Why the model will not answer; empty if it did."""
        return "".join(part.content for part in self.message.parts if isinstance(part, Refusal))

    @property
    def input_tokens(self) -> int:
        return self.usage.input

    @property
    def output_tokens(self) -> int:
        return self.usage.output
