"""The embedded engine as a server that OpenAI's clients use unchanged:

    GET /v1/models    POST /v1/chat/completions    POST /v1/completions    POST /v1/embeddings    GET /health

Who knows the key may ask; without a key only this machine may (and no page in a browser: it can't send JSON to a
server that does not invite it, and a name that was bent to point here is no name of this machine). A client that goes
away ends its generation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import logging
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from weft.core.errors import BadInput, EngineUnfit, MissingExtra
from weft.model.catalogue import embeddings
from weft.model.embed import Vectors, embedder
from weft.model.provider import Model
from weft.model.spec import Local, where
from weft.model.stream import Stream
from weft.web.chat_answer import Answer, framed, refusal_of
from weft.web.chat_question import Question, Refused, decoded, read_question
from weft.web.completions import Completions, Wanted

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from weft.web.listen import Listener, listening, of_this_machine
except ImportError as missing:
    raise MissingExtra("serving a model needs the extra `serve`: pip install 'weft[serve]'") from missing

log = logging.getLogger("weft.web")

LARGEST = 16_000_000
"""Bytes of a request."""
AT_ONCE = 256
"""Requests that are answered or wait at one time."""
TEXTS = 2048
"""Texts in one request for embeddings."""

T = TypeVar("T")


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A request for embeddings."""

    model: str
    input: str | list[str]
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None


class _Waits(msgspec.Struct, forbid_unknown_fields=True):
    """What a program waits for."""

    tool: str


class ModelServer:
    """What is served: one model of the embedded engine, and the models of embeddings. `key`: what clients must know;
    empty for none. Raises BadInput for a model that is not embedded."""

    def __init__(self, spec: str, key: str = "") -> None:
        found = where(spec)
        if not isinstance(found, Local):
            raise BadInput(f"{spec!r} is no model of this machine; serve one of the catalogue, or a .gguf file")
        self.model = Model(spec)
        self.local = found
        self.name = found.resource.removeprefix("local/").removesuffix(".gguf")
        self.key = key
        self.completions = Completions(found, self.model, self.name)
        self.began = int(time.time())
        self._count = 0

    async def start(self) -> None:
        """Fetch the model and start the engine, so that what is wrong is known before anybody asks."""
        try:
            await asyncio.to_thread(self.local.host)
        except EngineUnfit:  # chats go through the wheel's own server then; the first says so
            await asyncio.to_thread(lambda: self.local.server().address())

    def application(self) -> Starlette:
        """The endpoints, as an ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._guarded(self._models)),
                Route("/v1/models/{name:path}", self._guarded(self._models)),
                Route("/v1/chat/completions", self._guarded(self._chat), methods=["POST"]),
                Route("/v1/completions", self._guarded(self._complete), methods=["POST"]),
                Route("/v1/programs/{name:path}", self._guarded(self._program), methods=["POST", "DELETE"]),
                Route("/v1/embeddings", self._guarded(self._embeddings), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _unrouted},
        )

    # --- endpoints ---

    async def _health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _models(self, request: Request) -> Response:
        name = request.path_params.get("name")
        known = [self._shown(each) for each in (self.name, *embeddings)]
        if name is None:
            return _json({"object": "list", "data": known})
        for one in known:
            if one["id"] == name:
                return _json(one)
        raise self._unknown(name)

    async def _chat(self, request: Request) -> Response:
        question = read_question(await _body(request))
        if question.model != self.name:
            raise self._unknown(question.model)
        answer = Answer(self.name, question.top)
        if not question.stream:
            reply = await _while_there(request, self.model.ask(question.request))
            return _json(answer.whole(reply))
        pieces = self._pieces(question, answer)
        first = await _while_there(request, anext(pieces))  # what fails at once has a status of its own
        return _Pieces(first, pieces)

    async def _pieces(self, question: Question, answer: Answer) -> AsyncGenerator[bytes]:
        stream = Stream(lambda key: self.model.ask(question.request, key), lambda reply: reply)
        async with stream:
            async for event in stream:
                for piece in answer.pieces(event, question.usage):
                    yield piece

    async def _complete(self, request: Request) -> Response:
        wanted = decoded(await _body(request), Wanted)
        if wanted.model != self.name:
            raise self._unknown(wanted.model)
        wanted.check()
        if not wanted.stream:
            return _json(await _while_there(request, self.completions.whole(wanted)))
        pieces = self.completions.pieces(wanted)
        return _Pieces(await _while_there(request, anext(pieces)), pieces)

    async def _program(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            await self.completions.forget(name)
            return _json({"program": name, "deleted": True})
        kept = await self.completions.calls(name, decoded(await _body(request), _Waits).tool)
        return _json({"program": name, "kept_seconds": kept})

    async def _embeddings(self, request: Request) -> Response:
        wanted = decoded(await _body(request), _Wanted)
        texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
        if wanted.model not in embeddings:
            raise self._unknown(wanted.model)
        dimensions = embeddings[wanted.model].dimensions
        if wanted.dimensions not in (None, dimensions):
            message = f"{wanted.model} makes vectors of {dimensions} numbers, and no others"
            raise Refused(400, message, param="dimensions")
        if wanted.encoding_format not in (None, "float", "base64"):
            raise Refused(400, "encoding_format must be float or base64", param="encoding_format")
        if not 1 <= len(texts) <= TEXTS:
            raise Refused(400, f"input must be a text, or 1 to {TEXTS} texts", param="input")
        vectors = await _while_there(request, embedder(wanted.model)(texts))
        return _json(_embedded(vectors, wanted))

    def _shown(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self.began, "owned_by": "weft"}

    def _unknown(self, name: str) -> Refused:
        message = f"there is no model {name!r} here; there are {', '.join((self.name, *embeddings))}"
        return Refused(404, message, param="model", code="model_not_found")

    # --- who may ask, and how many at once ---

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                self._admit(request)
                self._count += 1
                try:
                    response = await endpoint(request)
                except BaseException:
                    self._count -= 1
                    raise
                if isinstance(response, _Pieces):
                    response.closed = self._left
                else:
                    self._count -= 1
                return response
            except Exception as error:
                return _refused(error)

        return guarded

    def _left(self) -> None:
        self._count -= 1

    def _admit(self, request: Request) -> None:
        if self.key:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.key.encode()):
                message = "the key is missing or wrong; send it as `Authorization: Bearer KEY`"
                raise Refused(401, message, code="invalid_api_key")
        elif not of_this_machine(request.headers.get("host", "")):
            raise Refused(403, "this server has no key, so it answers under names of this machine only")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            raise Refused(415, "send JSON, with Content-Type: application/json")
        if self._count >= AT_ONCE:
            raise Refused(429, f"{AT_ONCE} requests are being answered; ask again later", code="rate_limit_exceeded")


def _embedded(vectors: Vectors, wanted: _Wanted) -> dict[str, Any]:
    size = 4 * vectors.dimensions
    data = []
    for number in range(len(vectors)):
        packed = wanted.encoding_format == "base64"
        one = vectors.data[number * size : (number + 1) * size]
        vector = base64.b64encode(one).decode() if packed else vectors[number]
        data.append({"object": "embedding", "index": number, "embedding": vector})
    usage = {"prompt_tokens": vectors.tokens, "total_tokens": vectors.tokens}
    return {"object": "list", "data": data, "model": wanted.model, "usage": usage}


# --- requests and responses ------------------------------------------------------------------------------------------


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Refused(413, f"the request has more than {LARGEST:,} bytes")
    return bytes(body)


async def _while_there(request: Request, work: Awaitable[T]) -> T:
    """The result of the work, which is ended if the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(499, "the client went away")
        return await task
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Pieces(StreamingResponse):
    """A stream of server-sent events; what goes wrong in its middle is its last one."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes]) -> None:
        self.closed: Callable[[], None] = lambda: None
        super().__init__(self._all(first, rest), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.closed()
            await self._rest.aclose()

    async def _all(self, first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in rest:
                yield piece
        except Exception as error:
            yield framed(_told(error).body)


def _told(error: Exception) -> Refused:
    refused = refusal_of(error)
    if refused.status >= 500:
        log.error("%s: %s", type(error).__name__, error, exc_info=error if refused.code == "internal_error" else None)
    return refused


def _refused(error: Exception) -> Response:
    refused = _told(error)
    headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
    if refused.status == 429:
        headers["Retry-After"] = "1"
    return _json(refused.body, refused.status, headers)


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(data), status, headers, "application/json")


async def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = f"there is no {request.method} {request.url.path} here"
    return _refused(Refused(status, words, code="unknown_url"))


# --- listening -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(server: ModelServer, host: str, port: int, grace: float) -> AsyncIterator[tuple[str, Listener]]:
    """Answer at this place while the body runs (`port` 0: any that is free); then end what is under way within `grace`
    seconds. Raises BadInput if the place is not to be had, or is open to others and there is no key."""
    if not server.key and not of_this_machine(f"[{host}]" if ":" in host else host):
        raise BadInput(
            f"{host} can be reached from other machines, and there is no key; set WEFT_SERVE_KEY, or give --key-file"
        )
    application = server.application()
    async with listening(application, host, port, grace=grace, what="the model's server") as (address, listener):
        yield f"{address}/v1", listener


async def until_told(listener: Listener) -> None:
    """Return at SIGTERM or ctrl-C; a second one ends what is under way at once."""
    stop = asyncio.Event()

    def told() -> None:
        listener.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    await stop.wait()
