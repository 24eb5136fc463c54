"""OpenAI Chat Completions, as its API reference has it (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from tests.servers.providers.fault import WORDS
from tests.servers.providers.rules import TOOL_NAME, Received, Refused, known, need, number, refuse, strict
from tests.servers.providers.script import Turn

_FIELDS = (
    "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
    "max_tokens metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key "
    "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options"
)
_OWN = re.compile(r"gpt-|o\d|chatgpt")
"""OpenAI's own models; those of compatible servers take their thoughts back."""
_PARTS = {
    "system": {"text"}, "developer": {"text"}, "tool": {"text"}, "assistant": {"text", "refusal"},
    "user": {"text", "image_url", "input_audio", "file"},
}  # fmt: skip
_ENDS = {"stop": "stop", "length": "length", "tool_call": "tool_calls", "content_filter": "content_filter"}


class Chat:
    """`POST .../chat/completions`."""

    name = "openai"
    base = "/v1"
    media = "text/event-stream; charset=utf-8"

    def serves(self, path: str) -> bool:
        return path.endswith("/chat/completions")

    def streams(self, got: Received) -> bool:
        return bool(got.json.get("stream"))

    def answered(self, got: Received) -> int:
        return sum(message.get("role") == "assistant" for message in got.json["messages"])

    def model(self, got: Received) -> str:
        return str(got.json["model"])

    # --- what it takes ---

    def check(self, got: Received, key: str, turns: list[Turn]) -> None:
        bearer(got, key)
        body = got.json
        need(isinstance(body, dict), "We could not parse the JSON body of your request.")
        known(body, _FIELDS, "Unrecognized request argument supplied: {}")
        need(isinstance(body.get("model"), str) and body["model"], "you must provide a model parameter")
        messages = body.get("messages")
        need(isinstance(messages, list), "Missing required parameter: 'messages'.", param="messages")
        need(messages, "[] is too short - 'messages'", param="messages")
        for at, message in enumerate(messages):
            self._message(message, f"messages[{at}]", own=bool(_OWN.match(body["model"])))
        self._pairs(messages)
        self._tools(body)
        self._options(body)

    def _message(self, message: Any, at: str, *, own: bool) -> None:
        need(isinstance(message, dict), f"Invalid type for '{at}': expected an object.")
        role = message.get("role")
        need(role in _PARTS, f"Invalid value: '{role}'. Supported values are: {', '.join(_PARTS)}.", param=f"{at}.role")
        known(
            message,
            "role content name tool_calls tool_call_id refusal audio" + ("" if own else " reasoning_content"),
            f"Unknown parameter: '{at}.{{}}'.",
        )
        content = message.get("content")
        calls = message.get("tool_calls")
        if content is None:
            need(role == "assistant" and (calls or message.get("refusal")), f"Missing content in '{at}'.")
        elif isinstance(content, list):
            need(content, f"Invalid '{at}.content': empty array.")
            for part in content:
                self._part(part, _PARTS[role], at)
        else:
            need(isinstance(content, str), f"Invalid type for '{at}.content': expected a string or an array.")
        if role == "tool":
            need(isinstance(message.get("tool_call_id"), str), f"Missing parameter 'tool_call_id' in '{at}'.")
        need(calls is None or role == "assistant", f"Unknown parameter: '{at}.tool_calls'.")
        need(
            calls is None or calls, f"Invalid '{at}.tool_calls': empty array. Expected an array with minimum length 1."
        )
        for call in calls or []:
            need(call.get("type") == "function" and isinstance(call.get("id"), str), f"Invalid '{at}.tool_calls'.")
            function = call.get("function", {})
            need(TOOL_NAME.fullmatch(str(function.get("name"))), f"Invalid '{at}.tool_calls[0].function.name'.")
            need(
                isinstance(function.get("arguments"), str),
                f"Invalid type for '{at}.tool_calls[0].function.arguments': expected a string.",
            )

    def _part(self, part: Any, allowed: set[str], at: str) -> None:
        kind = part.get("type") if isinstance(part, dict) else None
        need(kind in allowed, f"Invalid value: '{kind}' in '{at}.content'. Supported values are: {sorted(allowed)}.")
        if kind == "image_url":
            url = part["image_url"].get("url", "")
            need(url.startswith(("data:image/", "http")), f"Invalid image URL in '{at}.content'.")
        elif kind == "input_audio":
            need(part["input_audio"].keys() >= {"data", "format"}, f"Missing parameter in '{at}.content.input_audio'.")
        elif kind == "file":
            need(part["file"].keys() & {"file_id", "file_data"}, f"Missing parameter in '{at}.content.file'.")
        else:
            need(isinstance(part.get(kind), str), f"Missing parameter '{at}.content.{kind}'.")

    def _pairs(self, messages: list[dict[str, Any]]) -> None:
        """Each call is answered by the messages right after it, and nothing else is."""
        open_: list[str] = []
        for at, message in enumerate(messages):
            if message["role"] == "tool":
                need(
                    message["tool_call_id"] in open_,
                    f"Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    f"'tool_calls'. (messages.[{at}].role)",
                )
                open_.remove(message["tool_call_id"])
            else:
                self._answered(open_)
                open_ = [call["id"] for call in message.get("tool_calls") or []]
                need(len({*open_}) == len(open_), f"Duplicate ids in messages[{at}].tool_calls.")
        self._answered(open_)

    def _answered(self, open_: list[str]) -> None:
        need(
            not open_,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_)}",
        )

    def _tools(self, body: dict[str, Any]) -> None:
        names = set()
        for at, tool in enumerate(body.get("tools") or []):
            need(tool.get("type") in ("function", "custom"), f"Invalid value: 'tools[{at}].type'.")
            function = tool.get("function", {})
            need(
                TOOL_NAME.fullmatch(str(function.get("name"))),
                f"Invalid 'tools[{at}].function.name': string does not match pattern.",
            )
            parameters = function.get("parameters", {"type": "object"})
            need(
                parameters.get("type") == "object",
                f"Invalid schema for function '{function['name']}': schema must be of 'type: \"object\"'.",
                code="invalid_function_parameters",
            )
            if function.get("strict"):
                strict(parameters, f"function '{function['name']}'")
            names.add(function["name"])
        need(body.get("tools") != [], "Invalid 'tools': empty array. Expected an array with minimum length 1.")
        choice = body.get("tool_choice")
        if choice is not None and choice != "none":
            need(names, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
        if isinstance(choice, dict):
            name = choice.get("function", {}).get("name")
            need(name in names, f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
        else:
            need(choice in (None, "none", "auto", "required"), f"Invalid value: '{choice}'.", param="tool_choice")
        if "parallel_tool_calls" in body:
            need(names, "'parallel_tool_calls' is only allowed when 'tools' are specified.")

    def _options(self, body: dict[str, Any]) -> None:
        number(body, "temperature", 0, 2)
        number(body, "top_p", 0, 1)
        number(body, "top_logprobs", 0, 20)
        number(body, "max_tokens", 1, 1e6)
        number(body, "max_completion_tokens", 1, 1e6)
        need(
            not {"max_tokens", "max_completion_tokens"} <= body.keys(),
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        )
        need(
            "top_logprobs" not in body or body.get("logprobs"),
            "'top_logprobs' is only allowed when 'logprobs' is enabled.",
        )
        need(
            "stream_options" not in body or body.get("stream"),
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )
        stop = body.get("stop")
        need(not isinstance(stop, list) or len(stop) <= 4, "Invalid 'stop': array too long.", param="stop")
        shape = body.get("response_format")
        if shape is not None:
            need(shape.get("type") in ("text", "json_object", "json_schema"), "Invalid 'response_format.type'.")
        if shape and shape["type"] == "json_schema":
            given = shape.get("json_schema", {})
            need(TOOL_NAME.fullmatch(str(given.get("name"))), "Missing 'response_format.json_schema.name'.")
            need(
                given.get("schema", {}).get("type") == "object",
                "Invalid schema for response_format: schema must be a JSON Schema of 'type: \"object\"'.",
            )
            if given.get("strict"):
                strict(given["schema"], "response_format")

    # --- what it says ---

    def whole(self, turn: Turn, got: Received) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(turn.text) or None, "refusal": None}
        message["annotations"] = []
        if turn.reasoning:
            message["reasoning_content"] = "".join(turn.reasoning)
        if turn.refusal:
            message["refusal"] = "".join(turn.refusal)
        if turn.calls:
            message["tool_calls"] = [self._call(turn, n) for n in range(len(turn.calls))]
        tokens = self._likely(turn.text, got)
        choice = {"index": 0, "message": message, "logprobs": tokens, "finish_reason": self._finish(turn)}
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1741569952,
            "model": self.model(got), "choices": [choice], "usage": self._usage(turn), "service_tier": "default",
        }  # fmt: skip

    def frames(self, turn: Turn, got: Received) -> Iterator[bytes]:
        counted = (got.json.get("stream_options") or {}).get("include_usage")

        def chunk(delta: dict[str, Any], finish: str | None = None, likely: Any = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": likely, "finish_reason": finish}
            return event(self._chunk(got, [choice]) | ({"usage": None} if counted else {}))

        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in turn.reasoning:
            yield chunk({"reasoning_content": piece})
        for piece in turn.text:
            yield chunk({"content": piece}, likely=self._likely([piece], got))
        for piece in turn.refusal:
            yield chunk({"refusal": piece})
        begun: set[int] = set()
        for n, piece in turn.numbered():
            if n not in begun:
                begun.add(n)
                call = self._call(turn, n)
                call["function"]["arguments"] = ""
                yield chunk({"tool_calls": [{"index": n, **call}]})
            yield chunk({"tool_calls": [{"index": n, "function": {"arguments": piece}}]})
        yield chunk({}, self._finish(turn))
        if counted:
            yield event(self._chunk(got, []) | {"usage": self._usage(turn)})
        yield b"data: [DONE]\n\n"

    def _chunk(self, got: Received, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk", "created": 1741569952,
            "model": self.model(got), "service_tier": "default", "choices": choices,
        }  # fmt: skip

    def _call(self, turn: Turn, n: int) -> dict[str, Any]:
        call = turn.calls[n]
        function = {"name": call.name, "arguments": call.text}
        return {"id": call.id or f"call_{n}DqZ5c4wXvRmB", "type": "function", "function": function}

    def _finish(self, turn: Turn) -> str:
        return "stop" if turn.refusal and not turn.finish else _ENDS[turn.ending]

    def _usage(self, turn: Turn) -> dict[str, Any]:
        used = turn.usage
        return {
            "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.input + used.output,
            "prompt_tokens_details": {"cached_tokens": used.cache_read, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": used.reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }  # fmt: skip

    def _likely(self, pieces: list[str], got: Received) -> dict[str, Any] | None:
        """Each piece is one token; the next likely ones are less so by 1 each."""
        if not got.json.get("logprobs"):
            return None
        top = got.json.get("top_logprobs", 0)
        return {
            "content": [
                token(piece, -0.25)
                | {"top_logprobs": [token(piece if n == 0 else f"{piece}{n}", -0.25 - n) for n in range(top)]}
                for piece in pieces
            ],
            "refusal": None,
        }

    # --- how it fails ---

    def refusal(self, error: Refused) -> dict[str, Any]:
        return openai_refusal(error)

    def fails(self, kind: Literal["server", "overloaded", "limited"]) -> bytes:
        error = {"message": WORDS[kind], "type": "rate_limit_error" if kind == "limited" else "server_error"}
        return event({"error": {**error, "param": None, "code": "rate_limit_exceeded" if kind == "limited" else None}})


# --- what OpenAI's two APIs have in common ---


def event(data: Any, name: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": [*text.encode()]}


def bearer(got: Received, key: str) -> None:
    """The key is in the header as it must be."""
    given = got.headers.get("authorization", "")
    if not given.startswith("Bearer ") or not given[7:].strip():
        refuse(
            "You didn't provide an API key. You need to provide your API key in an Authorization header.", status=401
        )
    if given[7:] != key:
        refuse(f"Incorrect API key provided: {given[7:]}.", status=401, code="invalid_api_key")
    need(got.headers.get("content-type", "").startswith("application/json"), "Unsupported content type.", status=415)


def openai_refusal(error: Refused) -> dict[str, Any]:
    kinds = {401: "invalid_request_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    code = error.code or {429: "rate_limit_exceeded", 404: "model_not_found"}.get(error.status)
    kind = kinds.get(error.status, "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
