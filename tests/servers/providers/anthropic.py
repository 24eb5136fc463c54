"""Anthropic Messages, as its API reference has it (https://docs.claude.com/en/api/messages)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from tests.servers.providers.chat import event
from tests.servers.providers.fault import WORDS
from tests.servers.providers.rules import Received, Refused, known, need, number, refuse
from tests.servers.providers.script import Turn

_FIELDS = (
    "model messages max_tokens cache_control container context_management inference_geo mcp_servers metadata "
    "output_config output_format service_tier stop_sequences stream system temperature thinking tool_choice tools "
    "top_k top_p"
)
_BLOCKS = {
    "text": {"text", "citations"},
    "image": {"source"},
    "document": {"source", "title", "context", "citations"},
    "search_result": {"source", "title", "content", "citations"},
    "tool_use": {"id", "name", "input", "caller"},
    "tool_result": {"tool_use_id", "content", "is_error"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
}
_HOSTED = {"server_tool_use", "web_search_tool_result", "code_execution_tool_result", "web_fetch_tool_result"}
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ENDS = {"stop": "end_turn", "length": "max_tokens", "tool_call": "tool_use", "content_filter": "refusal"}
_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 500: "api_error", 503: "overloaded_error",
    529: "overloaded_error",
}  # fmt: skip


class Anthropic:
    """`POST .../v1/messages`."""

    name = "anthropic"
    base = ""
    media = "text/event-stream; charset=utf-8"

    def serves(self, path: str) -> bool:
        return path.endswith("/messages")

    def streams(self, got: Received) -> bool:
        return bool(got.json.get("stream"))

    def answered(self, got: Received) -> int:
        return sum(message.get("role") == "assistant" for message in got.json["messages"])

    def model(self, got: Received) -> str:
        return str(got.json["model"])

    # --- what it takes ---

    def check(self, got: Received, key: str, turns: list[Turn]) -> None:
        given = got.headers.get("x-api-key") or got.headers.get("authorization", "").removeprefix("Bearer ")
        need(given, "x-api-key header is required", status=401)
        need(given == key, f"invalid x-api-key {given}", status=401)
        need("anthropic-version" in got.headers, "anthropic-version: header is required")
        body = got.json
        need(isinstance(body, dict), "The request body is not valid JSON")
        known(body, _FIELDS, "{}: Extra inputs are not permitted")
        for field in ("model", "messages", "max_tokens"):
            need(field in body, f"{field}: Field required")
        number(body, "max_tokens", 1, 1e6)
        number(body, "temperature", 0, 1)
        messages = body["messages"]
        need(isinstance(messages, list) and messages, "messages: at least one message is required")
        for at, message in enumerate(messages):
            self._message(message, f"messages.{at}", last=at == len(messages) - 1)
        need(messages[0]["role"] == "user", 'messages: first message must use the "user" role')
        self._system(body)
        self._pairs(messages)
        self._tools(body)
        self._thinking(body, turns)
        marks = str(body).count("'cache_control': {")
        need(marks <= 4, f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")

    def _system(self, body: dict[str, Any]) -> None:
        system = body.get("system", "")
        need(isinstance(system, str | list), "system: Input should be a valid string or list")
        for at, block in enumerate(system if isinstance(system, list) else []):
            need(block.get("type") == "text", f"system.{at}.type: Input should be 'text'")
            need(block.get("text"), "system: text content blocks must be non-empty")

    def _message(self, message: Any, at: str, *, last: bool) -> None:
        need(isinstance(message, dict), f"{at}: Input should be a valid dictionary")
        known(message, ("role", "content"), f"{at}.{{}}: Extra inputs are not permitted")
        role, content = message.get("role"), message.get("content")
        if role == "system":
            refuse(
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not '
                '"system" as an input message role.'
            )
        need(
            role in ("user", "assistant"),
            f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant"',
        )
        need(
            content or (last and role == "assistant" and content is not None),
            f"{at}: all messages must have non-empty content except for the optional final assistant message",
        )
        if isinstance(content, str):
            need(content.strip() or last, "messages: text content blocks must contain non-whitespace text")
            return
        for n, block in enumerate(content):
            self._block(block, role, f"{at}.content.{n}")
        if last and role == "assistant" and content and content[-1].get("type") == "text":
            text = content[-1]["text"]
            need(text == text.rstrip(), "messages: final assistant content cannot end with trailing whitespace")

    def _block(self, block: Any, role: str, at: str) -> None:
        kind = str(block.get("type")) if isinstance(block, dict) else ""
        if kind in _HOSTED:
            return
        need(kind in _BLOCKS, f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
        known(block, {"type", "cache_control"} | _BLOCKS[kind], f"{at}.{kind}.{{}}: Extra inputs are not permitted")
        if kind == "text":
            need(block.get("text"), "messages: text content blocks must be non-empty")
            need(block["text"].strip(), "messages: text content blocks must contain non-whitespace text")
        elif kind in ("image", "document"):
            need(role == "user", f"{at}: `{kind}` blocks are not allowed in messages of role assistant")
            self._source(block, kind, at)
        elif kind == "tool_use":
            need(role == "assistant", f"{at}: `tool_use` blocks can only be in `assistant` messages")
            need(
                _ID.fullmatch(str(block.get("id"))), f"{at}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            )
            need(_NAME.fullmatch(str(block.get("name"))), f"{at}.tool_use.name: String should match pattern")
            need(isinstance(block.get("input"), dict), f"{at}.tool_use.input: Input should be a valid dictionary")
        elif kind == "tool_result":
            need(role == "user", f"{at}: `tool_result` blocks can only be in `user` messages")
            need(_ID.fullmatch(str(block.get("tool_use_id"))), f"{at}.tool_result.tool_use_id: Field required")
            inner = block.get("content", "")
            for part in inner if isinstance(inner, list) else []:
                need(
                    part.get("type") in ("text", "image", "document", "search_result"), f"{at}.tool_result.content: tag"
                )
                self._block(part, "user", f"{at}.tool_result.content")
        elif kind == "thinking":
            need(role == "assistant", f"{at}: `thinking` blocks can only be in `assistant` messages")
            need(isinstance(block.get("signature"), str), f"{at}.thinking.signature: Field required")
        if "cache_control" in block:
            mark = block["cache_control"]
            need(
                kind not in ("thinking", "redacted_thinking"),
                f"{at}.{kind}.cache_control: Extra inputs are not permitted",
            )
            need(
                mark.get("type") == "ephemeral" and mark.get("ttl", "5m") in ("5m", "1h"),
                f"{at}.cache_control.ttl: Input",
            )

    def _source(self, block: dict[str, Any], kind: str, at: str) -> None:
        source = block.get("source", {})
        allowed = {"base64", "url", "file"} | ({"text", "content"} if kind == "document" else set())
        need(source.get("type") in allowed, f"{at}.{kind}.source: Input tag does not match any of the expected tags")
        media = ("image/jpeg", "image/png", "image/gif", "image/webp") if kind == "image" else ("application/pdf",)
        if source["type"] == "base64":
            need(source.get("media_type") in media, f"{at}.{kind}.source.base64.media_type: Input should be {media}")
            need(source.get("data"), f"{at}.{kind}.source.base64.data: Field required")

    def _pairs(self, messages: list[dict[str, Any]]) -> None:
        """The calls of a message are answered at the beginning of the next one, and nothing else is."""
        open_: list[str] = []
        seen: set[str] = set()
        for at, message in enumerate(self._merged(messages)):
            results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
            for n, result in enumerate(results):
                need(
                    result in open_,
                    f"messages.{at}.content.{n}: unexpected `tool_use_id` found in `tool_result` blocks: {result}. "
                    "Each `tool_result` block must have a corresponding `tool_use` block in the previous message.",
                )
            need(len({*results}) == len(results), f"messages.{at}: each tool_use must have a single result.")
            first = [block["type"] == "tool_result" for block in message["content"][: len(results)]]
            missing = [call for call in open_ if call not in results or not all(first)]
            self._unanswered(missing, at - 1)
            open_ = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
            for call in open_:
                need(call not in seen, f"messages.{at}.content: `tool_use` ids must be unique")
                seen.add(call)
        self._unanswered(open_, len(messages) - 1)

    def _unanswered(self, calls: list[str], at: int) -> None:
        need(
            not calls,
            f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(calls)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message.",
        )

    def _merged(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Neighbours of one role are one message to the provider."""
        merged: list[dict[str, Any]] = []
        for message in messages:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if merged and merged[-1]["role"] == message["role"]:
                merged[-1]["content"].extend(blocks)
            else:
                merged.append({"role": message["role"], "content": [*blocks]})
        return merged

    def _tools(self, body: dict[str, Any]) -> None:
        names = set()
        for at, tool in enumerate(body.get("tools") or []):
            if tool.get("type", "custom") != "custom":
                names.add(tool.get("name"))
                continue
            need(_NAME.fullmatch(str(tool.get("name"))), f"tools.{at}.custom.name: String should match pattern")
            schema = tool.get("input_schema")
            need(isinstance(schema, dict), f"tools.{at}.custom.input_schema: Field required")
            need(schema.get("type") == "object", f"tools.{at}.custom.input_schema.type: Input should be 'object'")
            need(tool["name"] not in names, "tools: Tool names must be unique.")
            names.add(tool["name"])
        uses = any(
            block.get("type") in ("tool_use", "tool_result")
            for message in body["messages"]
            for block in (message["content"] if isinstance(message["content"], list) else [])
        )
        need(names or not uses, "Requests which include `tool_use` or `tool_result` blocks must define tools")
        choice = body.get("tool_choice")
        if choice is None:
            return
        need(names, "tool_choice: may only be specified while providing tools.")
        need(choice.get("type") in ("auto", "any", "tool", "none"), "tool_choice: Input tag does not match")
        if choice["type"] == "tool":
            need(choice.get("name") in names, f"Tool '{choice.get('name')}' not found in provided tools")

    def _thinking(self, body: dict[str, Any], turns: list[Turn]) -> None:
        """With thinking on, temperature and tool choice are not free, and its own sealed thoughts come back as sent."""
        thinking = body.get("thinking") or {"type": "disabled"}
        need(thinking.get("type") in ("enabled", "disabled", "adaptive"), "thinking: Input tag does not match")
        known(thinking, ("type", "budget_tokens", "display"), "thinking.{}: Extra inputs are not permitted")
        on = thinking["type"] != "disabled"
        if thinking["type"] == "enabled":
            number(thinking, "budget_tokens", 1024, 1e6)
            need("budget_tokens" in thinking, "thinking.enabled.budget_tokens: Field required")
            need(
                body["max_tokens"] > thinking["budget_tokens"],
                "`max_tokens` must be greater than `thinking.budget_tokens`.",
            )
        if on:
            need(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled.")
            need("top_k" not in body, "`top_k` must be unset when thinking is enabled.")
            forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
            need(not forced, "Thinking may not be enabled when tool_choice forces tool use.")
        seals = {turn.signature for turn in turns if turn.signature}
        for message in body["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block.get("type") == "thinking" and seals:
                    need(block["signature"] in seals, "messages: Invalid `signature` in `thinking` block")

    # --- what it says ---

    def whole(self, turn: Turn, got: Received) -> dict[str, Any]:
        return self._whole(turn, got, self._blocks(turn), _ENDS[turn.ending], self._usage(turn))

    def frames(self, turn: Turn, got: Received) -> Iterator[bytes]:
        start = {**self._usage(turn), "output_tokens": 1}
        yield _event("message_start", message=self._whole(turn, got, [], None, start))
        blocks = self._blocks(turn)
        pieces = {"thinking": turn.reasoning, "text": [*turn.text, *turn.refusal]}
        pings = 0
        for at, block in enumerate(blocks):
            if block["type"] == "tool_use":
                break
            kind = block["type"]
            yield _event("content_block_start", index=at, content_block=self._empty(block))
            if not pings:
                pings += 1
                yield _event("ping")
            for piece in pieces[kind]:
                yield _event("content_block_delta", index=at, delta={"type": f"{kind}_delta", kind: piece})
            if kind == "thinking" and turn.signature:
                seal = {"type": "signature_delta", "signature": turn.signature}
                yield _event("content_block_delta", index=at, delta=seal)
            yield _event("content_block_stop", index=at)
        yield from self._calling(turn, [(at, block) for at, block in enumerate(blocks) if block["type"] == "tool_use"])
        end = {"stop_reason": _ENDS[turn.ending], "stop_sequence": None}
        yield _event("message_delta", delta=end, usage={"output_tokens": turn.usage.output})
        yield _event("message_stop")

    def _calling(self, turn: Turn, blocks: list[tuple[int, dict[str, Any]]]) -> Iterator[bytes]:
        """Blocks one after another; `interleaved` is what no block's index rules out."""
        left = {n: len(call.cut()) for n, call in enumerate(turn.calls)}
        begun: set[int] = set()
        for n, piece in turn.numbered():
            at, block = blocks[n]
            if n not in begun:
                begun.add(n)
                yield _event("content_block_start", index=at, content_block=self._empty(block))
                yield _event("content_block_delta", index=at, delta={"type": "input_json_delta", "partial_json": ""})
            yield _event("content_block_delta", index=at, delta={"type": "input_json_delta", "partial_json": piece})
            left[n] -= 1
            if not left[n]:
                yield _event("content_block_stop", index=at)

    def _blocks(self, turn: Turn) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if turn.reasoning:
            blocks.append({"type": "thinking", "thinking": "".join(turn.reasoning), "signature": turn.signature})
        if turn.text or turn.refusal:
            blocks.append({"type": "text", "text": "".join([*turn.text, *turn.refusal])})
        for n, call in enumerate(turn.calls):
            given = call.object if isinstance(call.arguments, dict) else {}
            blocks.append(
                {"type": "tool_use", "id": call.id or f"toolu_{n}1A09q90qw90lq917", "name": call.name, "input": given}
            )
        return blocks

    def _empty(self, block: dict[str, Any]) -> dict[str, Any]:
        nothing = {"thinking": "", "signature": "", "text": "", "input": {}}
        return {field: nothing.get(field, value) for field, value in block.items()}

    def _whole(
        self, turn: Turn, got: Received, blocks: list[Any], end: str | None, usage: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": self.model(got),
            "content": blocks, "stop_reason": end, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def _usage(self, turn: Turn) -> dict[str, Any]:
        """Here `input_tokens` are those that were neither read from the cache nor written to it."""
        used = turn.usage
        return {
            "input_tokens": used.input - used.cache_read - used.cache_write,
            "cache_creation_input_tokens": used.cache_write, "cache_read_input_tokens": used.cache_read,
            "cache_creation": {"ephemeral_5m_input_tokens": used.cache_write, "ephemeral_1h_input_tokens": 0},
            "output_tokens": used.output, "service_tier": "standard",
        }  # fmt: skip

    # --- how it fails ---

    def refusal(self, error: Refused) -> dict[str, Any]:
        kind = _KINDS.get(error.status, "api_error")
        words = {"type": kind, "message": error.message}
        return {"type": "error", "error": words, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}

    def fails(self, kind: Literal["server", "overloaded", "limited"]) -> bytes:
        name = {"server": "api_error", "overloaded": "overloaded_error", "limited": "rate_limit_error"}[kind]
        return _event("error", error={"type": name, "message": WORDS[kind]})


def _event(name: str, **data: Any) -> bytes:
    return event({"type": name, **data}, name)
