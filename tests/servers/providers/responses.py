"""OpenAI Responses, as its API reference has it (https://platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from tests.servers.providers.chat import bearer, event, openai_refusal, token
from tests.servers.providers.fault import WORDS
from tests.servers.providers.rules import TOOL_NAME, Received, Refused, known, need, number, strict
from tests.servers.providers.script import Turn

_FIELDS = (
    "background context_management conversation include input instructions max_output_tokens max_tool_calls metadata "
    "model parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning "
    "safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p "
    "truncation user"
)
_INPUT = {"input_text", "input_image", "input_file", "input_audio"}
_OUTPUT = {"output_text", "refusal"}
_ITEMS = {
    "message": {"id", "status", "type", "role", "content", "phase"},
    "function_call": {"id", "status", "type", "call_id", "name", "arguments"},
    "function_call_output": {"id", "status", "type", "call_id", "output"},
    "reasoning": {"id", "status", "type", "summary", "content", "encrypted_content"},
    "item_reference": {"id", "type"},
}
_HOSTED = {"web_search", "web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp", "custom"}


class Responses:
    """`POST .../responses`."""

    name = "openai-responses"
    base = "/v1"
    media = "text/event-stream; charset=utf-8"

    def serves(self, path: str) -> bool:
        return path.endswith("/responses")

    def streams(self, got: Received) -> bool:
        return bool(got.json.get("stream"))

    def answered(self, got: Received) -> int:
        """How many turns of the assistant there are: items of one turn stand together."""
        given = got.json["input"]
        items = [] if isinstance(given, str) else given
        mine = [item.get("role") == "assistant" or item.get("type") in ("function_call", "reasoning") for item in items]
        return sum(now and not before for before, now in zip([False, *mine], mine, strict=False))

    def model(self, got: Received) -> str:
        return str(got.json["model"])

    # --- what it takes ---

    def check(self, got: Received, key: str, turns: list[Turn]) -> None:
        bearer(got, key)
        body = got.json
        need(isinstance(body, dict), "We could not parse the JSON body of your request.")
        known(body, _FIELDS, "Unknown parameter: '{}'.")
        need(isinstance(body.get("model"), str), "Missing required parameter: 'model'.", param="model")
        given = body.get("input")
        need(isinstance(given, str | list) and given, "Missing required parameter: 'input'.", param="input")
        if isinstance(given, list):
            for at, item in enumerate(given):
                self._item(item, f"input[{at}]")
            self._pairs(given)
        self._tools(body)
        self._options(body)

    def _item(self, item: Any, at: str) -> None:
        need(isinstance(item, dict), f"Invalid type for '{at}': expected an object.")
        kind = item.get("type", "message")
        need(kind in _ITEMS, f"Invalid value: '{kind}'. Supported values are: {', '.join(_ITEMS)}.", param=at)
        known(item, _ITEMS[kind], f"Unknown parameter: '{at}.{{}}'.")
        if kind == "message":
            self._message(item, at)
        elif kind == "function_call":
            need(isinstance(item.get("call_id"), str), f"Missing required parameter: '{at}.call_id'.")
            need(isinstance(item.get("arguments"), str), f"Invalid type for '{at}.arguments': expected a string.")
            need(TOOL_NAME.fullmatch(str(item.get("name"))), f"Invalid '{at}.name'.")
            need(
                str(item.get("id", "fc_")).startswith("fc"), f"Invalid '{at}.id': expected an ID that begins with 'fc'."
            )
        elif kind == "function_call_output":
            output = item.get("output")
            need(isinstance(item.get("call_id"), str), f"Missing required parameter: '{at}.call_id'.")
            need(isinstance(output, str | list), f"Missing required parameter: '{at}.output'.")
            for part in output if isinstance(output, list) else []:
                need(part.get("type") in _INPUT, f"Invalid value: '{part.get('type')}' in '{at}.output'.")
        elif kind == "reasoning":
            need(str(item.get("id", "")).startswith("rs_"), f"Invalid '{at}.id': expected an ID that begins with 'rs'.")
            need(isinstance(item.get("summary"), list), f"Missing required parameter: '{at}.summary'.")

    def _message(self, item: dict[str, Any], at: str) -> None:
        role = item.get("role")
        need(role in ("user", "assistant", "system", "developer"), f"Invalid value: '{role}' for '{at}.role'.")
        content = item.get("content")
        need(isinstance(content, str | list), f"Missing required parameter: '{at}.content'.")
        allowed = _OUTPUT if role == "assistant" else _INPUT
        for part in content if isinstance(content, list) else []:
            kind = part.get("type")
            need(kind in allowed, f"Invalid value: '{kind}'. Supported values are: {sorted(allowed)}.", param=at)
            if kind == "input_image":
                need(part.keys() & {"image_url", "file_id"}, f"Missing parameter '{at}.content.image_url'.")
                need(isinstance(part.get("image_url", ""), str), f"Invalid type for '{at}.content.image_url'.")
            elif kind == "input_file":
                need(part.keys() & {"file_id", "file_data", "file_url"}, f"Missing parameter '{at}.content.file_id'.")
            elif kind in ("input_text", "output_text"):
                need(isinstance(part.get("text"), str), f"Missing required parameter: '{at}.content.text'.")

    def _pairs(self, items: list[dict[str, Any]]) -> None:
        calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
        need(len({*calls}) == len(calls), "Duplicate function call ids in 'input'.")
        given: set[str] = set()
        seen: set[str] = set()
        for item in items:
            if item.get("type") == "function_call":
                seen.add(item["call_id"])
            elif item.get("type") == "function_call_output":
                need(
                    item["call_id"] in seen,
                    f"No tool call found for function call output with call_id {item['call_id']}.",
                )
                need(item["call_id"] not in given, f"Duplicate output for function call {item['call_id']}.")
                given.add(item["call_id"])
        for call in calls:
            need(call in given, f"No tool output found for function call {call}.")
        for before, after in zip(items, [*items[1:], {}], strict=False):
            if before.get("type") == "reasoning":
                follows = after.get("role") == "assistant" or after.get("type") in ("function_call", "reasoning")
                need(
                    follows,
                    f"Item '{before['id']}' of type 'reasoning' was provided without its required following item.",
                )

    def _tools(self, body: dict[str, Any]) -> None:
        names = set()
        for at, tool in enumerate(body.get("tools") or []):
            if tool.get("type") in _HOSTED:
                continue
            need(tool.get("type") == "function", f"Invalid value: 'tools[{at}].type'.")
            known(
                tool, ("type", "name", "description", "parameters", "strict"), f"Unknown parameter: 'tools[{at}].{{}}'."
            )
            need(TOOL_NAME.fullmatch(str(tool.get("name"))), f"Missing required parameter: 'tools[{at}].name'.")
            need("parameters" in tool, f"Missing required parameter: 'tools[{at}].parameters'.")
            if tool.get("strict", True):  # strict is the default of this API
                strict(tool["parameters"], f"function '{tool['name']}'")
            names.add(tool["name"])
        choice = body.get("tool_choice")
        if isinstance(choice, dict) and choice.get("type") == "function":
            need(choice.get("name") in names, f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.")
        elif choice not in (None, "auto", "none"):
            need(choice == "required" or isinstance(choice, dict), f"Invalid value: '{choice}'.", param="tool_choice")
            need(body.get("tools"), "Tool choice 'required' must be specified with 'tools' parameter.")

    def _options(self, body: dict[str, Any]) -> None:
        number(body, "temperature", 0, 2)
        number(body, "top_p", 0, 1)
        number(body, "top_logprobs", 0, 20)
        number(body, "max_output_tokens", 16, 1e6)
        shape = (body.get("text") or {}).get("format")
        if shape is not None and shape.get("type") == "json_schema":
            need(TOOL_NAME.fullmatch(str(shape.get("name"))), "Missing required parameter: 'text.format.name'.")
            need(
                shape.get("schema", {}).get("type") == "object",
                "Invalid schema for response_format: schema must be a JSON Schema of 'type: \"object\"'.",
            )
            if shape.get("strict"):
                strict(shape["schema"], "response_format")

    # --- what it says ---

    def whole(self, turn: Turn, got: Received) -> dict[str, Any]:
        items = [item for item, _ in self._output(turn, got)]
        return self._response(turn, got, items, self._status(turn))

    def frames(self, turn: Turn, got: Received) -> Iterator[bytes]:
        for number_, (name, data) in enumerate(self._events(turn, got)):
            yield event({"type": name, "sequence_number": number_, **data}, name)

    def _events(self, turn: Turn, got: Received) -> Iterator[tuple[str, dict[str, Any]]]:
        begun = self._response(None, got, [], "in_progress")
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        output = self._output(turn, got)
        calls = [(n, item) for n, (item, kind) in enumerate(output) if kind == "call"]
        for n, (item, kind) in enumerate(output):
            if kind != "call":
                yield "response.output_item.added", {"output_index": n, "item": self._empty(item)}
                where = {"item_id": item["id"], "output_index": n}
                yield from self._thought(turn, item, where) if kind == "thought" else self._said(turn, item, where, got)
                yield "response.output_item.done", {"output_index": n, "item": item}
        yield from self._calling(turn, calls)
        name = {"completed": "response.completed", "incomplete": "response.incomplete"}[self._status(turn)]
        yield name, {"response": self._response(turn, got, [item for item, _ in output], self._status(turn))}

    def _thought(self, turn: Turn, item: dict[str, Any], where: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        where = {**where, "summary_index": 0}
        text = "".join(turn.reasoning)
        yield "response.reasoning_summary_part.added", {**where, "part": {"type": "summary_text", "text": ""}}
        for piece in turn.reasoning:
            yield "response.reasoning_summary_text.delta", {**where, "delta": piece}
        yield "response.reasoning_summary_text.done", {**where, "text": text}
        yield "response.reasoning_summary_part.done", {**where, "part": {"type": "summary_text", "text": text}}

    def _said(
        self, turn: Turn, item: dict[str, Any], where: dict[str, Any], got: Received
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for n, part in enumerate(item["content"]):
            place = {**where, "content_index": n}
            field = "refusal" if part["type"] == "refusal" else "text"
            name = "response.refusal" if field == "refusal" else "response.output_text"
            yield "response.content_part.added", {**place, "part": {**part, field: ""}}
            for piece in turn.refusal if field == "refusal" else turn.text:
                more = {"logprobs": self._likely([piece], got)} if field == "text" else {}
                yield f"{name}.delta", {**place, "delta": piece, **more}
            more = {"logprobs": self._likely(turn.text, got)} if field == "text" else {}
            yield f"{name}.done", {**place, field: part[field], **more}
            yield "response.content_part.done", {**place, "part": part}

    def _calling(self, turn: Turn, calls: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        left = {n: len(call.cut()) for n, call in enumerate(turn.calls)}
        begun: set[int] = set()
        for n, piece in turn.numbered():
            at, item = calls[n]
            where = {"item_id": item["id"], "output_index": at}
            if n not in begun:
                begun.add(n)
                yield "response.output_item.added", {"output_index": at, "item": self._empty(item)}
            left[n] -= 1
            yield "response.function_call_arguments.delta", {**where, "delta": piece}
            if not left[n]:
                done = {**where, "name": item["name"], "arguments": item["arguments"]}
                yield "response.function_call_arguments.done", done
                yield "response.output_item.done", {"output_index": at, "item": item}

    def _output(self, turn: Turn, got: Received) -> list[tuple[dict[str, Any], str]]:
        """The items of the answer, each with what it is."""
        items: list[tuple[dict[str, Any], str]] = []
        if turn.reasoning or turn.signature:
            summary = [{"type": "summary_text", "text": "".join(turn.reasoning)}] if turn.reasoning else []
            thought: dict[str, Any] = {"id": "rs_67ccfcdd16748190", "type": "reasoning", "summary": summary}
            if turn.signature and "reasoning.encrypted_content" in got.json.get("include", []):
                thought["encrypted_content"] = turn.signature
            items.append((thought, "thought"))
        parts: list[dict[str, Any]] = []
        if turn.text:
            text = {"type": "output_text", "text": "".join(turn.text), "annotations": []}
            parts.append({**text, "logprobs": self._likely(turn.text, got)})
        if turn.refusal:
            parts.append({"type": "refusal", "refusal": "".join(turn.refusal)})
        if parts:
            said = {"id": "msg_67ccd2bf17f0819081ff", "type": "message", "status": "completed", "role": "assistant"}
            items.append(({**said, "content": parts}, "said"))
        for n, call in enumerate(turn.calls):
            written = {"call_id": call.id or f"call_{n}unDRf7nTYLcY", "name": call.name, "arguments": call.text}
            items.append(
                ({"id": f"fc_67ca09c6bedc{n}", "type": "function_call", "status": "completed", **written}, "call")
            )
        return items

    def _empty(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item as it is when it begins."""
        bare = {**item, "status": "in_progress"}
        for field, nothing in (("summary", []), ("content", []), ("arguments", "")):
            if field in bare:
                bare[field] = nothing
        return bare

    def _status(self, turn: Turn) -> str:
        return "incomplete" if turn.ending in ("length", "content_filter") and not turn.refusal else "completed"

    def _response(self, turn: Turn | None, got: Received, items: list[Any], status: str) -> dict[str, Any]:
        why = None
        if turn is not None and status == "incomplete":
            why = {"reason": "max_output_tokens" if turn.ending == "length" else "content_filter"}
        body = got.json
        return {
            "id": "resp_67ccd2bed1ec8190b14f964abc054267", "object": "response", "created_at": 1741476542,
            "status": status, "background": False, "error": None, "incomplete_details": why,
            "instructions": body.get("instructions"), "max_output_tokens": body.get("max_output_tokens"),
            "model": self.model(got), "output": items, "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "user": None, "metadata": {},
            "temperature": body.get("temperature", 1.0), "text": body.get("text", {"format": {"type": "text"}}),
            "tool_choice": body.get("tool_choice", "auto"), "tools": body.get("tools", []), "top_p": 1.0,
            "truncation": "disabled", "usage": None if turn is None else self._usage(turn), "store": True,
        }  # fmt: skip

    def _usage(self, turn: Turn) -> dict[str, Any]:
        used = turn.usage
        return {
            "input_tokens": used.input, "input_tokens_details": {"cached_tokens": used.cache_read},
            "output_tokens": used.output, "output_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.input + used.output,
        }  # fmt: skip

    def _likely(self, pieces: list[str], got: Received) -> list[dict[str, Any]]:
        if "message.output_text.logprobs" not in got.json.get("include", []):
            return []
        top = got.json.get("top_logprobs", 0)
        return [
            token(piece, -0.25)
            | {"top_logprobs": [token(piece if n == 0 else f"{piece}{n}", -0.25 - n) for n in range(top)]}
            for piece in pieces
        ]

    # --- how it fails ---

    def refusal(self, error: Refused) -> dict[str, Any]:
        return openai_refusal(error)

    def fails(self, kind: Literal["server", "overloaded", "limited"]) -> bytes:
        """By the end of the response, or (overloaded, limited) by an event of its own: there are both."""
        code = "rate_limit_exceeded" if kind == "limited" else "server_error"
        if kind != "server":
            data = {"type": "error", "code": code, "message": WORDS[kind], "param": None, "sequence_number": 9}
            return event(data, "error")
        failed: dict[str, Any] = {
            "id": "resp_67ccd2bed1ec8190b14f964abc054267", "object": "response", "status": "failed", "output": [],
            "error": {"code": code, "message": WORDS[kind]}, "incomplete_details": None, "usage": None,
        }  # fmt: skip
        return event({"type": "response.failed", "sequence_number": 9, "response": failed}, "response.failed")
