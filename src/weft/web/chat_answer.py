"""Replies and events of ours as OpenAI's clients read them: a chat completion, or its chunks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from weft.core.content import ToolCall
from weft.core.errors import (
    AnswerMisfit,
    BadInput,
    MissingExtra,
    ModelBusy,
    ModelCrashed,
    ModelError,
    ModelTimeout,
    ModelUnavailable,
    PromptTooLong,
    UnknownModel,
)
from weft.model.dialect.gather import text_of
from weft.model.event import CallDelta, CallStarted, Event, Finished, ReasoningDelta, RefusalDelta, Restarted, TextDelta
from weft.model.request import Likely, Reply, Usage
from weft.web.chat_question import Refused

_FINISHES = {"length": "length", "tool_call": "tool_calls", "content_filter": "content_filter"}
_STATUSES: tuple[tuple[type[Exception], int, str | None], ...] = (
    (PromptTooLong, 400, "context_length_exceeded"),
    (AnswerMisfit, 400, "answer_cut_short"),
    (UnknownModel, 404, "model_not_found"),
    (ModelBusy, 429, "rate_limit_exceeded"),
    (ModelTimeout, 504, "timeout"),
    (ModelCrashed, 503, "engine_died"),
    (ModelUnavailable, 503, "model_unavailable"),
    (MissingExtra, 503, "extra_missing"),
    (BadInput, 400, None),
    (ModelError, 400, None),
)


def refusal_of(error: Exception) -> Refused:
    """How a client is told of an error of ours; of others only that there was one."""
    if isinstance(error, Refused):
        return error
    for kind, status, code in _STATUSES:
        if isinstance(error, kind):
            return Refused(status, str(error), code=code)
    return Refused(500, "the server failed at this; its log says where", code="internal_error")


class Answer:
    """One answer: what all of its pieces have in common. `top`: how many likely tokens it tells at each place."""

    def __init__(self, model: str, top: int = 0) -> None:
        self.top = top
        self.head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"weft-{version('weft')}",
        }
        self._begun = False

    # --- as a whole ---

    def whole(self, reply: Reply) -> dict[str, Any]:
        """A chat completion."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": reply.text if reply.text or not (reply.calls or reply.refusal) else None,
            "refusal": reply.refusal or None,
        }
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        if reply.calls:
            message["tool_calls"] = [_call(call) for call in reply.calls]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _logprobs(reply.logprobs, self.top),
            "finish_reason": _FINISHES.get(reply.finish, "stop"),
        }
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": _usage(reply.usage)}

    # --- in pieces ---

    def pieces(self, event: Event, usage: bool) -> Iterator[bytes]:
        """The chunks that tell of an event. Raises Refused for a generation that began anew when some of it was out.
        Likelihoods come with the last one: until then nothing is known of them."""
        match event:
            case TextDelta(text=text):
                yield self._chunk({"content": text})
            case ReasoningDelta(text=text):
                yield self._chunk({"reasoning_content": text})
            case RefusalDelta(text=text):
                yield self._chunk({"refusal": text})
            case CallStarted(index=index, id=id, name=name):
                begun = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
                yield self._chunk({"tool_calls": [begun]})
            case CallDelta(index=index, text=text):
                yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
            case Restarted(why=why):
                if self._begun:
                    raise Refused(503, f"{why}, when some of the answer was sent; ask again", code="engine_died")
            case Finished(reply=reply):
                yield self._last(reply)
                if usage:
                    yield self._framed({"choices": [], "usage": _usage(reply.usage)})
                yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        return self._framed({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]})

    def _last(self, reply: Reply) -> bytes:
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant", "content": ""}
        self._begun = True
        finish = _FINISHES.get(reply.finish, "stop")
        choice = {"index": 0, "delta": delta, "logprobs": _logprobs(reply.logprobs, self.top), "finish_reason": finish}
        return self._framed({"choices": [choice]})

    def _framed(self, chunk: dict[str, Any]) -> bytes:
        return framed({**self.head, "object": "chat.completion.chunk", **chunk})


def framed(data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text_of(call.arguments)}}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _logprobs(tokens: Sequence[Likely], top: int) -> dict[str, Any] | None:
    if not tokens:
        return None
    content = [
        {**_token(token.token, token.logprob), "top_logprobs": [_token(*likely) for likely in token.top[:top]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
