"""Ollama's chat, as its API reference has it (https://docs.ollama.com/api/chat): a stream is lines of JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Literal

from tests.servers.providers.fault import WORDS
from tests.servers.providers.rules import Received, Refused, need
from tests.servers.providers.script import Turn

_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str,), "messages": (list,), "stream": (bool,), "format": (str, dict), "keep_alive": (str, int, float),
    "tools": (list,), "options": (dict,), "think": (bool, str), "logprobs": (bool,), "top_logprobs": (int,),
}  # fmt: skip
_MESSAGE: dict[str, type] = {
    "role": str, "content": str, "thinking": str, "images": list, "tool_calls": list, "tool_name": str,
    "tool_call_id": str,
}  # fmt: skip
_OPTIONS: dict[str, tuple[type, ...]] = {
    "seed": (int,), "num_predict": (int,), "top_k": (int,), "num_ctx": (int,), "num_keep": (int,),
    "temperature": (float, int), "top_p": (float, int), "min_p": (float, int), "stop": (list,),
}  # fmt: skip


class Ollama:
    """`POST .../api/chat`. It needs no key, and streams unless told not to. Fields it does not know it ignores."""

    name = "ollama"
    base = ""
    media = "application/x-ndjson"

    def serves(self, path: str) -> bool:
        return path.endswith("/api/chat")

    def streams(self, got: Received) -> bool:
        return got.json.get("stream", True) is not False

    def answered(self, got: Received) -> int:
        return sum(message.get("role") == "assistant" for message in got.json["messages"])

    def model(self, got: Received) -> str:
        return str(got.json["model"])

    # --- what it takes ---

    def check(self, got: Received, key: str, turns: list[Turn]) -> None:
        given = got.headers.get("authorization")
        need(not given or given == f"Bearer {key}", f"unauthorized: {given}", status=401)
        body = got.json
        need(isinstance(body, dict), "invalid character in request body: not JSON")
        need(body.get("model"), "model is required")
        for field, kinds in _TYPES.items():
            need(
                field not in body or body[field] is None or isinstance(body[field], kinds),
                f"json: cannot unmarshal {type(body.get(field)).__name__} into Go struct field ChatRequest.{field}",
            )
        for message in body.get("messages", []):
            self._message(message)
        for tool in body.get("tools") or []:
            function = tool.get("function", {})
            need(tool.get("type") == "function" and function.get("name"), "invalid tool: it needs a type and a name")
            need(isinstance(function.get("parameters", {}), dict), "json: cannot unmarshal into ToolFunctionParameters")
        need(body.get("format", "json") in ("json", "", None) or isinstance(body["format"], dict), "invalid format")
        need(
            body.get("think") in (None, True, False, "low", "medium", "high"),
            f'invalid think value: {body.get("think")!r} (must be "high", "medium", "low", true, or false)',
        )
        for name, kinds in _OPTIONS.items():
            value = (body.get("options") or {}).get(name)
            need(value is None or isinstance(value, kinds), f'option "{name}" must be of type {kinds[0].__name__}')

    def _message(self, message: Any) -> None:
        need(isinstance(message, dict), "json: cannot unmarshal into Go struct field ChatRequest.messages")
        for field, kind in _MESSAGE.items():
            need(
                field not in message or message[field] is None or isinstance(message[field], kind),
                f"json: cannot unmarshal {type(message.get(field)).__name__} into Go struct field "
                f"ChatRequest.messages.{field} of type {kind.__name__}",
            )
        role = message.get("role")
        need(role in ("system", "user", "assistant", "tool"), f"invalid role: {role!r}")
        for image in message.get("images") or []:
            try:
                base64.b64decode(image, validate=True)
            except (TypeError, binascii.Error):
                need(False, "illegal base64 data at input byte 0")
        for call in message.get("tool_calls") or []:
            function = call.get("function", {})
            need(
                isinstance(function.get("arguments", {}), dict),
                "json: cannot unmarshal string into Go struct field ToolCallFunction.messages.tool_calls.function."
                "arguments of type api.ToolCallFunctionArguments",
            )

    # --- what it says ---

    def whole(self, turn: Turn, got: Received) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(turn.text + turn.refusal)}
        if turn.reasoning:
            message["thinking"] = "".join(turn.reasoning)
        if turn.calls:
            message["tool_calls"] = [self._call(turn, n) for n in range(len(turn.calls))]
        return self._line(got, message) | self._end(turn)

    def frames(self, turn: Turn, got: Received) -> Iterator[bytes]:
        def line(**more: Any) -> bytes:
            return _frame(self._line(got, {"role": "assistant", "content": "", **more}) | {"done": False})

        for piece in turn.reasoning:
            yield line(thinking=piece)
        for piece in [*turn.text, *turn.refusal]:
            yield line(content=piece)
        for n in range(len(turn.calls)):
            yield line(tool_calls=[self._call(turn, n)])
        yield _frame(self._line(got, {"role": "assistant", "content": ""}) | self._end(turn))

    def _line(self, got: Received, message: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model(got), "created_at": "2025-05-27T22:54:57.641643Z", "message": message}

    def _call(self, turn: Turn, n: int) -> dict[str, Any]:
        call = turn.calls[n]
        function = {"index": n, "name": call.name, "arguments": call.object}
        return {**({"id": call.id} if call.id else {}), "function": function}

    def _end(self, turn: Turn) -> dict[str, Any]:
        return {
            "done": True, "done_reason": "length" if turn.ending == "length" else "stop", "total_duration": 174560334,
            "load_duration": 101397084, "prompt_eval_count": turn.usage.input, "prompt_eval_duration": 13074791,
            "eval_count": turn.usage.output, "eval_duration": 52479709,
        }  # fmt: skip

    # --- how it fails ---

    def refusal(self, error: Refused) -> dict[str, Any]:
        return {"error": error.message}

    def fails(self, kind: Literal["server", "overloaded", "limited"]) -> bytes:
        return _frame({"error": WORDS[kind]})


def _frame(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"
