"""The transport that records what passes, or plays what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx2

from weft.model.cassette.tape import CassetteError, Exchange, Question, plain

if TYPE_CHECKING:
    from weft.model.cassette import Cassette


class Wire(httpx2.AsyncBaseTransport):
    """Stands before the network."""

    def __init__(self, cassette: Cassette, network: httpx2.AsyncBaseTransport) -> None:
        self._cassette = cassette
        self._network = network

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        question = Question(request.method, str(request.url), plain(request.headers), await request.aread())
        if self._cassette.recording:
            return await self._recorded(request, self._cassette.begin(question))
        return _played(request, self._cassette.take(question))

    async def _recorded(self, request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"  # so that people can read it
        try:
            answer = await self._network.handle_async_request(request)
        except httpx2.TransportError as error:
            exchange.broke(error)
            raise
        except asyncio.CancelledError:
            exchange.how = "silent"
            raise
        exchange.headers = plain(answer.headers)
        exchange.status = answer.status_code
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            stream=_Recording(answer.stream, exchange),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        await self._network.aclose()


def _played(request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
    if exchange.status is None:
        raise _error(request, exchange)
    return httpx2.Response(exchange.status, headers=exchange.headers, stream=_Playing(request, exchange))


def _error(request: httpx2.Request, exchange: Exchange) -> Exception:
    if exchange.how == "silent":  # its reader need not wait again
        return httpx2.ReadTimeout("nothing more came when this was recorded", request=request)
    kind = getattr(httpx2, exchange.error, None)
    if not (isinstance(kind, type) and issubclass(kind, httpx2.TransportError)):
        kind = httpx2.TransportError
    return kind(exchange.why, request=request)


class _Recording(httpx2.AsyncByteStream):
    """A body on its way, kept as it comes."""

    def __init__(self, body: httpx2.AsyncByteStream, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                self._exchange.chunks.append(chunk)
                yield chunk
        except httpx2.TransportError as error:
            self._exchange.broke(error)
            raise
        except asyncio.CancelledError:
            self._exchange.how = "silent"
            raise
        self._exchange.how = "whole"

    async def aclose(self) -> None:
        await self._body.aclose()


class _Playing(httpx2.AsyncByteStream):
    """A body from the tape, in the chunks in which it came."""

    def __init__(self, request: httpx2.Request, exchange: Exchange) -> None:
        self._request = request
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._exchange.chunks:
            await asyncio.sleep(0)  # others have their turn between chunks, as on a real line
            yield chunk
        if self._exchange.how in ("silent", "broken"):
            raise _error(self._request, self._exchange)
        if self._exchange.how == "left":
            raise CassetteError(
                f"the answer to {self._exchange.question} was recorded only as far as its reader had read then, and "
                "now more of it is read; record it anew (record='all')"
            )
