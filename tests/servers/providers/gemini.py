"""Gemini's generateContent, as its API reference has it (https://ai.google.dev/api/generate-content)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from tests.servers.providers.fault import WORDS
from tests.servers.providers.rules import Received, Refused, known, need, number
from tests.servers.providers.script import Turn

_FIELDS = "contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent model"
_CONFIG = (
    "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount "
    "maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs "
    "enableEnhancedCivicAnswers speechConfig thinkingConfig imageConfig mediaResolution"
)
_DATA = {
    "text": str, "inlineData": dict, "fileData": dict, "functionCall": dict, "functionResponse": dict,
    "executableCode": dict, "codeExecutionResult": dict,
}  # fmt: skip
_PART = {*_DATA, "thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"}
_SCHEMA = (
    "type format title description nullable enum maxItems minItems properties required minProperties maxProperties "
    "minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum"
)
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_ENDS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_call": "STOP", "content_filter": "SAFETY"}
_STATUS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_UNKNOWN = "Invalid JSON payload received. Unknown name \"{}\" at '%s': Cannot find field."


class Gemini:
    """`POST .../models/NAME:generateContent`, and `:streamGenerateContent?alt=sse`."""

    name = "gemini"
    base = ""
    media = "text/event-stream"

    def serves(self, path: str) -> bool:
        return path.endswith((":generateContent", ":streamGenerateContent"))

    def streams(self, got: Received) -> bool:
        return got.path.endswith(":streamGenerateContent")

    def answered(self, got: Received) -> int:
        return sum(content.get("role") == "model" for content in got.json["contents"])

    def model(self, got: Received) -> str:
        return got.path.rpartition("/")[2].partition(":")[0]

    # --- what it takes ---

    def check(self, got: Received, key: str, turns: list[Turn]) -> None:
        given = got.headers.get("x-goog-api-key") or got.query.get("key")
        need(given, "Method doesn't allow unregistered callers (callers without established identity).", status=403)
        need(given == key, f"API key not valid. Please pass a valid API key. ({given})", code="API_KEY_INVALID")
        need(not self.streams(got) or got.query.get("alt") == "sse", "This server streams with alt=sse only.")
        need(isinstance(got.json, dict), "Invalid JSON payload received. Unexpected end of string.")
        body = _camel(got.json)
        known(body, _FIELDS, _UNKNOWN.replace(" at '%s'", ""))
        contents = body.get("contents")
        need(contents, "* GenerateContentRequest.contents: contents is not specified")
        for at, content in enumerate(contents):
            self._content(content, f"contents[{at}]")
        if "systemInstruction" in body:
            self._content({"role": "user", **body["systemInstruction"]}, "system_instruction")
        self._pairs(contents)
        self._tools(body)
        self._config(body.get("generationConfig", {}))
        self._seals(contents, turns)

    def _content(self, content: Any, at: str) -> None:
        need(isinstance(content, dict), f"Invalid value at '{at}' (Content)")
        known(content, ("role", "parts"), _UNKNOWN % at)
        need(content.get("role", "user") in ("user", "model", "function"), "Please use a valid role: user, model.")
        need(content.get("parts"), f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty.")
        for n, part in enumerate(content["parts"]):
            where = f"{at}.parts[{n}]"
            known(part, _PART, _UNKNOWN % where)
            data = [field for field in _DATA if field in part]
            need(len(data) <= 1, f"Invalid value at '{where}' (oneof), oneof field 'data' is already set.")
            need(
                data or "thoughtSignature" in part,
                f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one initialized field",
            )
            for field in data:
                need(isinstance(part[field], _DATA[field]), f"Invalid value at '{where}.{field}'")
                self._datum(field, part[field], where)

    def _datum(self, field: str, data: Any, at: str) -> None:
        if field == "inlineData":
            need(data.keys() == {"mimeType", "data"}, f"Invalid value at '{at}.inline_data'")
        elif field == "fileData":
            need("fileUri" in data, f"* GenerateContentRequest.{at}.file_data.file_uri: file_uri must not be empty.")
        elif field == "functionCall":
            known(data, ("id", "name", "args"), _UNKNOWN % f"{at}.function_call")
            need(data.get("name"), f"* GenerateContentRequest.{at}.function_call.name: Name cannot be empty.")
            need(isinstance(data.get("args", {}), dict), f"Invalid value at '{at}.function_call.args' (Struct)")
        elif field == "functionResponse":
            allowed = ("id", "name", "response", "parts", "willContinue", "scheduling")
            known(data, allowed, _UNKNOWN % f"{at}.function_response")
            need(data.get("name"), f"* GenerateContentRequest.{at}.function_response.name: Name cannot be empty.")
            need(isinstance(data.get("response"), dict), f"Invalid value at '{at}.function_response.response' (Struct)")

    def _pairs(self, contents: list[dict[str, Any]]) -> None:
        """A turn with calls comes after the user's, and the next one has as many answers, of the same names."""
        open_: list[str] = []
        merged = self._merged(contents)
        for at, content in enumerate(merged):
            answers = [part["functionResponse"]["name"] for part in content["parts"] if "functionResponse" in part]
            need(
                len(answers) == len(open_),
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn.",
            )
            need(sorted(answers) == sorted(open_), "Please ensure that function responses have the names of the calls.")
            open_ = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
            need(
                not open_ or (at > 0 and content["role"] == "model" and merged[at - 1]["role"] != "model"),
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn.",
            )
        need(not open_, "Please ensure that function call turn is followed by a function response turn.")

    def _merged(self, contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        merged: list[dict[str, Any]] = []
        for content in contents:
            role = "model" if content.get("role") == "model" else "user"
            if merged and merged[-1]["role"] == role:
                merged[-1]["parts"].extend(content["parts"])
            else:
                merged.append({"role": role, "parts": [*content["parts"]]})
        return merged

    def _tools(self, body: dict[str, Any]) -> None:
        names = set()
        for tool in body.get("tools", []):
            for at, function in enumerate(tool.get("functionDeclarations", [])):
                where = f"tools[0].function_declarations[{at}]"
                known(
                    function,
                    ("name", "description", "behavior", "parameters", "parametersJsonSchema", "response",
                     "responseJsonSchema"),
                    _UNKNOWN % where,
                )  # fmt: skip
                need(
                    _NAME.fullmatch(str(function.get("name"))), f"* GenerateContentRequest.{where}.name: Invalid name."
                )
                need(
                    not {"parameters", "parametersJsonSchema"} <= function.keys(),
                    f"* {where}: parameters and parameters_json_schema are mutually exclusive.",
                )
                if "parameters" in function:
                    self._schema(function["parameters"], f"{where}.parameters")
                names.add(function["name"])
        calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
        mode = calling.get("mode", "AUTO")
        need(mode in ("AUTO", "ANY", "NONE", "VALIDATED"), f"Invalid value at 'tool_config.mode', \"{mode}\"")
        allowed = calling.get("allowedFunctionNames", [])
        need(not allowed or mode in ("ANY", "VALIDATED"), "allowed_function_names should only be set with mode ANY.")
        need({*allowed} <= names, "allowed_function_names should be a subset of the declared functions.")

    def _schema(self, schema: dict[str, Any], at: str) -> None:
        known(schema, _SCHEMA, _UNKNOWN % at)
        for name, each in schema.get("properties", {}).items():
            self._schema(each, f"{at}.properties[{name}]")
        if "items" in schema:
            self._schema(schema["items"], f"{at}.items")
        for each in schema.get("anyOf", []):
            self._schema(each, f"{at}.any_of")

    def _config(self, config: dict[str, Any]) -> None:
        known(config, _CONFIG, _UNKNOWN % "generation_config")
        number(config, "temperature", 0, 2)
        number(config, "topP", 0, 1)
        number(config, "logprobs", 0, 20)
        need(len(config.get("stopSequences", [])) <= 5, "stop_sequences: at most 5")
        need("logprobs" not in config or config.get("responseLogprobs"), "logprobs needs response_logprobs.")
        shaped = config.keys() & {"responseSchema", "responseJsonSchema"}
        need(len(shaped) <= 1, "response_schema and response_json_schema are mutually exclusive.")
        if shaped:
            need(
                config.get("responseMimeType") == "application/json",
                "Function calling config: response_schema needs response mime type application/json.",
            )
        if "responseSchema" in config:
            self._schema(config["responseSchema"], "generation_config.response_schema")
        known(
            config.get("thinkingConfig", {}),
            ("includeThoughts", "thinkingBudget", "thinkingLevel"),
            _UNKNOWN % "generation_config.thinking_config",
        )

    def _seals(self, contents: list[dict[str, Any]], turns: list[Turn]) -> None:
        """The seal on a call that the model made must come back with it."""
        answers = [content for content in contents if content.get("role") == "model"]
        for turn, content in zip(turns, answers, strict=False):
            calls = [part for part in content["parts"] if "functionCall" in part]
            if turn.signature and not turn.reasoning and calls:
                need(
                    calls[0].get("thoughtSignature") == turn.signature,
                    f"Function call is missing a thought_signature in functionCall parts: "
                    f"{calls[0]['functionCall']['name']}.",
                )

    # --- what it says ---

    def whole(self, turn: Turn, got: Received) -> dict[str, Any]:
        pieces: list[dict[str, Any]] = [
            *([{"text": "".join(turn.reasoning), "thought": True}] if turn.reasoning else []),
            *([{"text": "".join(turn.text + turn.refusal)}] if turn.text or turn.refusal else []),
            *self._calls(turn),
        ]
        return self._answer(turn, got, self._sealed(turn, pieces), _ENDS[turn.ending])

    def frames(self, turn: Turn, got: Received) -> Iterator[bytes]:
        pieces: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in turn.reasoning]
        pieces += [{"text": piece} for piece in [*turn.text, *turn.refusal]]
        pieces += self._calls(turn)
        pieces = self._sealed(turn, pieces)
        for at, piece in enumerate(pieces):
            last = at == len(pieces) - 1
            yield _frame(self._answer(turn, got, [piece], _ENDS[turn.ending] if last else None))
        if not pieces:
            yield _frame(self._answer(turn, got, [], _ENDS[turn.ending]))

    def _calls(self, turn: Turn) -> list[dict[str, Any]]:
        return [
            {"functionCall": {**({"id": call.id} if call.id else {}), "name": call.name, "args": call.object}}
            for call in turn.calls
        ]

    def _sealed(self, turn: Turn, pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The seal is on the last piece of the reasoning; else on the first call, else on the last piece."""
        if turn.signature and pieces:
            thoughts = [at for at, piece in enumerate(pieces) if piece.get("thought")]
            calls = [at for at, piece in enumerate(pieces) if "functionCall" in piece]
            at = thoughts[-1] if thoughts else calls[0] if calls else len(pieces) - 1
            pieces[at] = {**pieces[at], "thoughtSignature": turn.signature}
        return pieces

    def _answer(self, turn: Turn, got: Received, parts: list[Any], finish: str | None) -> dict[str, Any]:
        about = {
            "usageMetadata": self._usage(turn, finish), "modelVersion": self.model(got),
            "responseId": "mAitaLmkHPPlz7IPvtfUqQ4",
        }  # fmt: skip
        if finish == "SAFETY" and not (turn.text or turn.refusal or turn.reasoning):
            return {"promptFeedback": {"blockReason": "SAFETY"}, **about}
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if not parts:
            del candidate["content"]["parts"]
        if finish:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], **about}

    def _usage(self, turn: Turn, finish: str | None) -> dict[str, Any]:
        """Thoughts are counted beside the candidates here, and only the last frame has the full count."""
        used = turn.usage
        count = {
            "promptTokenCount": used.input,
            "totalTokenCount": used.input + used.output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": used.input}],
        }
        if finish:
            count["candidatesTokenCount"] = used.output - used.reasoning
        if used.reasoning:
            count["thoughtsTokenCount"] = used.reasoning
        if used.cache_read:
            count["cachedContentTokenCount"] = used.cache_read
        return count

    # --- how it fails ---

    def refusal(self, error: Refused) -> dict[str, Any]:
        status = _STATUS.get(error.status, "UNKNOWN")
        found: dict[str, Any] = {"code": error.status, "message": error.message, "status": status}
        if error.code:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code}
            found["details"] = [{**info, "domain": "googleapis.com"}]
        return {"error": found}

    def fails(self, kind: Literal["server", "overloaded", "limited"]) -> bytes:
        code = {"server": 500, "overloaded": 503, "limited": 429}[kind]
        return _frame({"error": {"code": code, "message": WORDS[kind], "status": _STATUS[code]}})


def _frame(data: Any) -> bytes:
    """It ends its lines with carriage returns."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\r\n\r\n".encode()


_FREE = ("args", "response", "parametersJsonSchema", "responseJsonSchema", "properties")


def _camel(value: Any) -> Any:
    """Names of fields may be written in either way; those that are data stay."""
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {re.sub("_([a-z])", lambda found: found[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner if name in _FREE else _camel(inner) for name, inner in renamed.items()}
