"""Many generations by a provider's batch API: handed in once, looked after durably, told one by one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

import weft
import weft.model
from tests.programs import drive
from weft.core.errors import AnswerMisfit, ModelError
from weft.model import Model, Reply, batch


class Provider(ThreadingHTTPServer):
    """The batch APIs of OpenAI and Anthropic; a batch is done at the second look. The prompt "fail" fails, "odd" is
    answered with something that is no answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.looks = 0
        self.made = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def chat_answer(words: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": words}
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    return {"id": "x", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        if self.path == "/v1/files":
            edge = self.headers["Content-Type"].partition("boundary=")[2].encode()
            parts = body.split(b"--" + edge)
            assert b'name="purpose"\r\n\r\nbatch' in parts[1]
            server.files["in"] = parts[2].partition(b"\r\n\r\n")[2].rstrip()
            self.say({"id": "in"})
        elif self.path == "/v1/batches":
            assert json.loads(body)["endpoint"] == "/v1/chat/completions"
            lines = [json.loads(line) for line in server.files["in"].splitlines()]
            server.made += 1
            server.batches["b"] = [{"id": line["custom_id"], "body": line["body"]} for line in lines]
            self.say({"id": "b", "status": "validating"})
        else:
            server.made += 1
            requests = json.loads(body)["requests"]
            server.batches["b"] = [{"id": one["custom_id"], "body": one["params"]} for one in requests]
            self.say({"id": "b", "processing_status": "in_progress"})

    def do_GET(self) -> None:
        server = self.server
        if self.path == "/v1/files/out/content":
            self.send(b"\n".join(json.dumps(self.openai(one)).encode() for one in reversed(server.batches["b"])))
        elif self.path == "/v1/messages/batches/b/results":
            self.send(b"\n".join(json.dumps(self.anthropic(one)).encode() for one in server.batches["b"]))
        else:
            server.looks += 1
            done = server.looks > 1
            status = {"status": "completed" if done else "in_progress", "output_file_id": "out" if done else None}
            self.say({"id": "b", "processing_status": "ended" if done else "in_progress", **status})

    def openai(self, one: dict[str, Any]) -> dict[str, Any]:
        words = one["body"]["messages"][-1]["content"]
        if words == "fail":
            error = {"message": "it broke"}
            return {"custom_id": one["id"], "response": {"status_code": 500, "body": {"error": error}}, "error": None}
        body = {"odd": True} if words == "odd" else chat_answer(words.upper())
        return {"custom_id": one["id"], "response": {"status_code": 200, "body": body}, "error": None}

    def anthropic(self, one: dict[str, Any]) -> dict[str, Any]:
        words = one["body"]["messages"][-1]["content"]
        words = words if isinstance(words, str) else words[0]["text"]
        if words == "fail":
            result = {"type": "errored", "error": {"type": "error", "error": {"message": "it broke"}}}
            return {"custom_id": one["id"], "result": result}
        message = {
            "id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": words.upper()}], "usage": {"input_tokens": 5, "output_tokens": 1},
        }  # fmt: skip
        if words == "odd":
            message = {"type": "odd"}
        return {"custom_id": one["id"], "result": {"type": "succeeded", "message": message}}

    def say(self, value: Any) -> None:
        self.send(json.dumps(value).encode())

    def send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setattr(batch, "LOOK", 0.05)
    yield server
    server.shutdown()
    server.server_close()


@weft.workflow(name="batch.many")
async def many(spec: str, prompts: list[str]) -> list[Any]:
    return await Model(spec).batch(prompts)


@pytest.mark.parametrize("spec", ["openai:any", "anthropic:any"])
def test_a_batch_is_handed_in_once_and_told_one_by_one(spec: str, provider: Provider, store: str) -> None:
    replies = drive(store, lambda runtime: runtime.run(many, spec, ["one", "fail", "odd", "two"]))
    assert [reply.text for reply in (replies[0], replies[3])] == ["ONE", "TWO"]
    assert isinstance(replies[1], ModelError) and "it broke" in str(replies[1])
    assert isinstance(replies[2], ModelError)
    assert provider.made == 1 and provider.looks == 2


def test_a_batch_goes_on_in_another_process_and_is_not_handed_in_again(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "journal.db")
    monkeypatch.setattr(batch, "LOOK", 1.0)

    async def begin(runtime: weft.Runtime) -> str:
        run = await runtime.start(many, "openai:any", ["one"])
        while not provider.made:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        return run.id

    id = drive(store, begin)  # the runtime closes while the process sleeps

    async def go_on(runtime: weft.Runtime) -> Any:
        return await (await runtime.resume(id))

    assert drive(store, go_on)[0].text == "ONE" and provider.made == 1


def test_a_batch_costs_half(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[openai]\n"any" = { input = 4.0 }\n')
    monkeypatch.setenv("WEFT_PRICES", str(prices))
    (reply,) = asyncio.run(Model("openai:any").batch(["one"]))
    assert isinstance(reply, Reply) and reply.money == 2.0


def test_who_has_no_batches_is_asked_beside_each_other() -> None:
    model = weft.model.script(lambda request: request.messages[0].text, name="echo")
    yes, misfit = asyncio.run(model.batch(['"yes"', '"no"'], schema=Literal["yes"]))
    assert isinstance(yes, Reply) and yes.data == "yes"
    assert isinstance(misfit, AnswerMisfit)
    assert asyncio.run(model.batch([])) == []
    weft.model.script([ModelError("gone")], name="gone")
    (error,) = asyncio.run(Model("script:gone").batch(["x"]))
    assert isinstance(error, ModelError)
