"""Many generations at a provider's leisure, for half the price: its batch API, where it has one.

    replies = await model.batch([f"Summarise: {text}" for text in texts], max_tokens=200)

The batch is handed in by one effect, which is never repeated by itself (it is paid for), and looked after by others,
with durable sleeps between: the process may die and go on hours later. Providers without such an API, and the embedded
engine, are asked beside each other as usual.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from weft.core.boundary import boundary
from weft.core.errors import ModelError, ModelUnavailable
from weft.core.step import primitive
from weft.model.client import Server, transfer
from weft.model.dialect import Dialect
from weft.model.generate import cost_of
from weft.model.price import money
from weft.model.request import Reply, Request
from weft.model.spec import Remote, where
from weft.runtime.effects import charge, sleep

OFFERED = ("openai", "anthropic")
"""The dialects whose batch API is spoken here."""
LOOK = 30.0
"""Seconds until the first look, and between two at first; each wait is half as long again, up to `SELDOM`."""
SELDOM = 600.0
TIMEOUT = 300.0
"""Seconds for handing in and for fetching results."""
HALF = 0.5
"""Of the usual price."""


class Line(msgspec.Struct, frozen=True):
    """What came of one request of a batch: its reply, or why there is none."""

    reply: Reply | None = None
    error: str = ""


class Handed(msgspec.Struct, frozen=True):
    """A batch that a provider has."""

    id: str


def _needs(spec: str, **_: Any) -> Iterator[tuple[str, str]]:
    yield "model.generate", where(spec).resource


def _cost(spec: str, requests: list[Request]) -> dict[str, float]:
    """Half of what the requests may cost, and all the tokens that they may take."""
    costs = [cost_of(spec, request) for request in requests]
    tokens = sum(cost["tokens"] for cost in costs)
    price = sum(cost.get("money", 0) for cost in costs) * HALF
    return {"tokens": tokens} | ({"money": price} if price else {})


def offered(spec: str) -> bool:
    """Whether this provider has a batch API that is spoken here."""
    found = where(spec)
    return isinstance(found, Remote) and found.speaks in OFFERED and found.place in OFFERED


@primitive(name="generate.batch", role="generation", effect="at_most_once", needs=_needs, cost=_cost)
async def hand_in(spec: str, requests: list[Request]) -> Handed:
    """Give a provider a batch. Of a budget it takes what was reserved, until the replies are there to be counted."""
    server, dialect = _server(spec)
    calls = [dialect.call(server.model, request, stream=False) for request in requests]
    bodies = [(str(number), call.path, call.body) for number, call in enumerate(calls)]
    made = await (_to_anthropic if dialect.name == "anthropic" else _to_openai)(server, dialect, bodies)
    return Handed(made)


@primitive(name="generate.batch.look", effect="pure", needs=_needs)
async def look(spec: str, id: str, requests: list[Request]) -> list[Line] | None:
    """What came of a batch; None as long as it is under way."""
    server, dialect = _server(spec)
    found = await (_of_anthropic if dialect.name == "anthropic" else _of_openai)(server, dialect, id)
    if found is None:
        return None
    lines = [_line(dialect, spec, request, found.get(str(number))) for number, request in enumerate(requests)]
    charge(tokens=sum(line.reply.usage.input + line.reply.usage.output for line in lines if line.reply))
    return lines


async def run_batch(spec: str, requests: Sequence[Request]) -> list[Line]:
    """Hand in a batch and wait for its end; one line a request."""
    asked = [*requests]
    handed = await hand_in(spec, asked)
    wait = LOOK
    while True:
        await (sleep(wait) if boundary() is not None else asyncio.sleep(wait))
        lines = await look(spec, handed.id, asked)
        if lines is not None:
            return lines
        wait = min(wait * 1.5, SELDOM)


def _server(spec: str) -> tuple[Server, Dialect]:
    found = where(spec)
    assert isinstance(found, Remote)
    return Server(found.base(), found.key(), found.name, TIMEOUT), found.dialect


def _line(dialect: Dialect, spec: str, request: Request, found: Any) -> Line:
    """`found`: the answer's JSON, or the words of a failure."""
    if not isinstance(found, dict):
        return Line(error=str(found or "the provider said nothing of it"))
    try:
        reply = dialect.reply(found, request)
    except ModelError as error:
        return Line(error=str(error))
    place = where(spec)
    cost = money(place.place, place.name, reply.usage)
    return Line(msgspec.structs.replace(reply, money=None if cost is None else cost * HALF))


# --- OpenAI: a file of lines, a batch of it, and a file of answers ---------------------------------------------------


async def _to_openai(server: Server, dialect: Dialect, bodies: list[tuple[str, str, dict[str, Any]]]) -> str:
    lines = [{"custom_id": id, "method": "POST", "url": f"/v1{path}", "body": body} for id, path, body in bodies]
    content = b"\n".join(msgspec.json.encode(line) for line in lines)
    edge = uuid.uuid4().hex
    form = (
        f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode() + content + f"\r\n--{edge}--\r\n".encode()  # fmt: skip
    file = await _json(server, dialect, "POST", "/files", form, f"multipart/form-data; boundary={edge}")
    batch = {"input_file_id": file["id"], "endpoint": f"/v1{bodies[0][1]}", "completion_window": "24h"}
    made = await _json(server, dialect, "POST", "/batches", msgspec.json.encode(batch))
    id: str = made["id"]
    return id


async def _of_openai(server: Server, dialect: Dialect, id: str) -> dict[str, Any] | None:
    batch = await _json(server, dialect, "GET", f"/batches/{id}")
    if batch["status"] == "failed":
        errors = (batch.get("errors") or {}).get("data") or [{}]
        raise ModelError(f"{server.model} refused the batch {id}: {errors[0].get('message', 'it does not say why')}")
    if batch["status"] not in ("completed", "expired", "cancelled"):
        return None
    found: dict[str, Any] = {}
    for file in (batch.get("output_file_id"), batch.get("error_file_id")):
        if file:
            for line in _lines(await transfer(server, dialect, "GET", f"/files/{file}/content")):
                answer = line.get("response") or {}
                error = line.get("error") or (answer.get("body") or {}).get("error")
                fine = answer.get("status_code") == 200 and not error
                found[line["custom_id"]] = answer["body"] if fine else (error or {}).get("message", "it failed")
    return found


# --- Anthropic: a batch, and its results -----------------------------------------------------------------------------


async def _to_anthropic(server: Server, dialect: Dialect, bodies: list[tuple[str, str, dict[str, Any]]]) -> str:
    requests = [{"custom_id": id, "params": body} for id, _, body in bodies]
    made = await _json(server, dialect, "POST", "/v1/messages/batches", msgspec.json.encode({"requests": requests}))
    id: str = made["id"]
    return id


async def _of_anthropic(server: Server, dialect: Dialect, id: str) -> dict[str, Any] | None:
    batch = await _json(server, dialect, "GET", f"/v1/messages/batches/{id}")
    if batch["processing_status"] != "ended":
        return None
    found: dict[str, Any] = {}
    for line in _lines(await transfer(server, dialect, "GET", f"/v1/messages/batches/{id}/results")):
        result = line["result"]
        error = (result.get("error") or {}).get("error") or {}
        fine = result["type"] == "succeeded"
        found[line["custom_id"]] = result["message"] if fine else error.get("message", f"it was {result['type']}")
    return found


async def _json(server: Server, dialect: Dialect, method: str, path: str, content: bytes = b"", kind: str = "") -> Any:
    answer = await transfer(server, dialect, method, path, content, kind or "application/json")
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ModelUnavailable(f"{server.model} answered {answer[:80]!r} to {path}, which is no JSON") from error


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        if line.strip():
            yield msgspec.json.decode(line)
