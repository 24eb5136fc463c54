"""What a client of OpenAI's API asks, read strictly: a request to Chat Completions as one of ours, or why it is none.

Whatever the engine can't do is refused by name, and nothing is left out in silence.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from weft.core.content import Blob, File, ToolSpec, Uri
from weft.core.errors import BadInput
from weft.model.dialect.chat import Chat
from weft.model.message import Message, Opaque
from weft.model.request import Choice, Effort, Request

T = TypeVar("T")


class Refused(Exception):
    """An answer other than 200, in the form that OpenAI's clients read."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


# --- what a request may hold -----------------------------------------------------------------------------------------


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    function: _Function
    type: Literal["function"] = "function"
    index: int | None = None


class _Turn(msgspec.Struct, omit_defaults=True):
    """One message. Other fields, such as those that clients send back from an answer, are looked at by the dialect."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class _Declared(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct, forbid_unknown_fields=True):
    function: _Declared
    type: Literal["function"]


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Chosen(msgspec.Struct, forbid_unknown_fields=True):
    function: _Named
    type: Literal["function"]


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Streamed(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Hints(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The field `weft`: what the engine can do and the API has no word for."""

    program: str = ""
    priority: int = 0
    last: bool = False
    deterministic: bool = False

    @property
    def extra(self) -> dict[str, Any]:
        """Those of a program, as `Request.extra` says them."""
        said = {"program": self.program, "priority": self.priority, "last": self.last}
        return {name: value for name, value in said.items() if value}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: list[_Turn]
    tools: list[_Tool] | None = None
    tool_choice: Choice | _Chosen | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: Effort | Literal["minimal"] | None = None
    stream: bool | None = None
    stream_options: _Streamed | None = None
    n: int | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
    weft: Hints = Hints()
    # What concerns other machines than this one:
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_LARGE = 2**53
_RANGES: dict[str, tuple[float, float]] = {
    "max_tokens": (1, _LARGE), "max_completion_tokens": (1, _LARGE), "temperature": (0, 2), "top_p": (0, 1),
    "top_k": (1, _LARGE), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2), "seed": (-_LARGE, _LARGE),
    "top_logprobs": (0, 20), "n": (1, 1),
}  # fmt: skip
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<field>\w+)`")


class Question(NamedTuple):
    """A request, and how it is to be answered."""

    model: str
    request: Request
    stream: bool
    usage: bool
    """Whether a stream tells at its end what it took."""
    top: int
    """How many likely tokens are wanted beside each."""


def read_question(content: bytes) -> Question:
    """The request in the body of a POST to `/v1/chat/completions`. Raises Refused."""
    body = decoded(content, _Body)
    for name, (least, most) in _RANGES.items():
        value = getattr(body, name)
        if value is not None and not least <= value <= most:
            allowed = f"{least:g}" if least == most else f"from {least:.16g} to {most:.16g}"
            raise Refused(400, f"{name} is {value}, and must be {allowed}", param=name)
    _check(body)
    tools = [
        ToolSpec(tool.function.name, tool.function.description or "", tool.function.parameters or _nothing())
        for tool in body.tools or ()
    ]
    choice = body.tool_choice.function.name if isinstance(body.tool_choice, _Chosen) else body.tool_choice
    extra = {
        name: value for name in ("frequency_penalty", "presence_penalty") if (value := getattr(body, name)) is not None
    }
    request = Request(
        messages=_messages(body.messages),
        tools=tools,
        tool_choice=choice or "auto",
        parallel=body.parallel_tool_calls is not False,
        schema=_schema(body.response_format),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        seed=body.seed,
        deterministic=body.weft.deterministic,
        effort="low" if body.reasoning_effort == "minimal" else body.reasoning_effort,
        logprobs=max(1, body.top_logprobs or 0) if body.logprobs else None,
        extra={**extra, **body.weft.extra},
    )
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return Question(body.model, request, bool(body.stream), usage, body.top_logprobs or 0)


def decoded(content: bytes, kind: type[T]) -> T:
    """A body of this kind. Raises Refused, which says what does not fit, and where."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        words = str(error)
        place, field = _PLACE.search(words), _FIELD.search(words)
        path = [place["place"] if place else "", field["field"] if field else ""]
        param = ".".join(part for part in path if part) or None
        if "unknown field" in words and field:
            words = f"this server has no {field['field']!r} there; leave it out"
        raise Refused(400, _PLACE.sub("", words) + (f" (at {param})" if param else ""), param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None


def _check(body: _Body) -> None:
    if not body.messages:
        raise Refused(400, "messages is empty; give at least one", param="messages")
    if body.store:
        raise Refused(400, "this server stores nothing; leave store out", param="store")
    if body.modalities not in (None, ["text"]):
        raise Refused(400, "this server answers in text only", param="modalities")
    if body.top_logprobs and not body.logprobs:
        raise Refused(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    if body.stream_options is not None and not body.stream:
        raise Refused(400, "stream_options is for streams only; set stream", param="stream_options")
    if body.stop is not None and any(not word for word in ([body.stop] if isinstance(body.stop, str) else body.stop)):
        raise Refused(400, "stop holds an empty text; leave it out", param="stop")
    if body.tool_choice not in (None, "auto", "none") and not body.tools:
        raise Refused(400, "tool_choice is given, but no tools", param="tool_choice")


def _messages(turns: list[_Turn]) -> list[Message]:
    for number, turn in enumerate(turns):
        where = f"messages[{number}]"
        if turn.role == "tool" and not turn.tool_call_id:
            raise Refused(
                400, f"{where} holds the result of a tool, but no tool_call_id", param=f"{where}.tool_call_id"
            )
        if turn.content is None and not (turn.role == "assistant" and (turn.tool_calls or turn.refusal)):
            raise Refused(400, f"{where} has no content", param=f"{where}.content")
        if turn.tool_calls and turn.role != "assistant":
            raise Refused(400, f"{where} is by {turn.role!r}, who calls no tools", param=f"{where}.tool_calls")
    try:
        messages = Chat().read({"messages": msgspec.to_builtins(turns)})
    except (BadInput, LookupError, TypeError, ValueError) as error:
        raise Refused(400, f"the messages are not understood: {error}", param="messages") from None
    for message in messages:
        parts = [*message.parts, *(part for result in message.results for part in result.response)]
        for part in parts:
            if isinstance(part, Blob | Uri | File):
                raise Refused(400, f"this model reads text only, and no {part.modality}", param="messages")
            if isinstance(part, Opaque):
                kind = str(part.content.get("type"))[:40]
                raise Refused(400, f"a message has a part of type {kind!r}, which is no text", param="messages")
    return messages


def _schema(format: _Format | None) -> dict[str, Any] | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return {"type": "object"}
    if format.json_schema is None:
        raise Refused(400, "response_format has no json_schema", param="response_format.json_schema")
    return format.json_schema.schema


def _nothing() -> dict[str, Any]:
    return {"type": "object", "properties": {}}
