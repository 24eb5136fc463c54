"""The one HTTP client of all providers: send a request, read an answer or a stream, and name what went wrong.

    answer = await exchange(place, dialect, call)               # JSON
    async for frame in frames(place, dialect, call): ...        # server-sent events, or lines of JSON

Connections are kept and shared by all generations of one event loop. `intercept` puts something between the client and
the network, for tests that record and replay (`weft.model.cassette`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from weft.core.errors import KeyRefused, ModelError, ModelTimeout, ModelUnavailable
from weft.model.dialect import Call, Dialect, Frame

if TYPE_CHECKING:
    import ssl

    import httpx2

Wrap = Callable[["httpx2.AsyncBaseTransport"], "httpx2.AsyncBaseTransport"]

LARGEST = 64_000_000
"""Bytes of an answer, or of one frame of a stream, that are read at most."""
JSON = "application/json"
_CONNECT = 30.0
"""Seconds until there must be a connection."""


class Server(NamedTuple):
    """Where a request goes. `model`: the name to speak of in errors. `timeout`: seconds until the end of the answer."""

    url: str
    key: str
    model: str
    timeout: float


async def exchange(server: Server, dialect: Dialect, call: Call) -> Any:
    """Send a request and return the answer's JSON. Raises ModelTimeout, ModelUnavailable, and what `dialect.refusal`
    makes of a status other than 200."""
    content = await transfer(server, dialect, "POST", call.path, msgspec.json.encode(call.body))
    return _decoded(server, content)


async def transfer(
    server: Server, dialect: Dialect, method: str, path: str, content: bytes = b"", kind: str = JSON
) -> bytes:
    """The same for any method, bytes and MIME type of what is sent: the answer's bytes."""
    async with _answer(server, dialect, method, path, content, kind) as answer:
        return await _content(server, answer)


async def frames(server: Server, dialect: Dialect, call: Call) -> AsyncGenerator[Frame]:
    """Send a request and read its answer frame by frame, as they come. Raises as `exchange` does."""
    async with _answer(server, dialect, "POST", call.path, msgspec.json.encode(call.body), JSON) as answer:
        if dialect.framing == "lines":
            async for line in _lines(server, answer):
                if line.strip():
                    yield Frame("", line)
        elif _kind(answer) == "text/event-stream":
            import httpx2

            async for event in httpx2.EventSource(answer, max_event_size=LARGEST):
                if event.data:
                    yield Frame("" if event.event == "message" else event.event, event.data)
        else:
            head = _without_key(server, await _content(server, answer))[:80]
            raise ModelError(
                f"{server.model} was asked for a stream and answered with {_kind(answer) or 'no type'}: {head!r}; "
                "check that the address is right, or ask without stream"
            )


@asynccontextmanager
async def _answer(
    server: Server, dialect: Dialect, method: str, path: str, content: bytes, kind: str
) -> AsyncIterator[httpx2.Response]:
    """An answer with status 200, whose content was not read yet; errors of the connection in words."""
    import httpx2

    _check_key(server, dialect)
    client = await client_of(server.url)
    headers = {"Content-Type": kind, **dialect.headers(server.key)}
    limits = httpx2.Timeout(server.timeout, connect=min(_CONNECT, server.timeout))
    try:
        async with asyncio.timeout(server.timeout) as clock:
            url = server.url.rstrip("/") + path
            request = client.build_request(method, url, content=content, headers=headers, timeout=limits)
            answer = await client.send(request, stream=True)
            try:
                if answer.status_code != 200:
                    refused = await _content(server, answer)
                    text = _without_key(server, refused).decode("utf-8", "replace")
                    raise dialect.refusal(server.model, answer.status_code, text, answer.headers)
                yield answer
            finally:
                await answer.aclose()
    except httpx2.TimeoutException as error:
        raise _late(server) from error
    except TimeoutError as error:
        if isinstance(error, ModelTimeout) or not clock.expired():
            raise
        raise _late(server) from error
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise ModelUnavailable(
            f"the connection to {server.model} at {_shown(server.url)} failed ({error or type(error).__name__}); "
            "check the address and that the server runs"
        ) from error


def _check_key(server: Server, dialect: Dialect) -> None:
    """A key that no header can hold is refused here: the HTTP library's error would show it."""
    if not (server.key.isascii() and server.key.isprintable()):
        raise KeyRefused(
            f"the key for {server.model} has a line end or another character that no header can hold; "
            f"set {dialect.key} to the key alone"
        )


def _without_key(server: Server, content: bytes) -> bytes:
    """What a server said, without the key if it says it back."""
    return content.replace(server.key.encode(), b"[secret]") if server.key else content


def _late(server: Server) -> ModelTimeout:
    return ModelTimeout(
        f"{server.model} did not answer within {server.timeout:g} s; raise timeout, or lower max_tokens"
    )


async def _content(server: Server, answer: httpx2.Response) -> bytes:
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > LARGEST:
            raise ModelError(f"{server.model} sent more than {LARGEST} bytes in one answer; it was not read further")
    return bytes(content)


async def _lines(server: Server, answer: httpx2.Response) -> AsyncGenerator[str]:
    rest = bytearray()
    async for chunk in answer.aiter_bytes():
        rest += chunk
        if b"\n" in chunk:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
        if len(rest) > LARGEST:
            raise ModelError(f"{server.model} sent a line of more than {LARGEST} bytes; it was not read further")
    yield rest.decode("utf-8", "replace")


def _decoded(server: Server, content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{server.model} answered something that is not JSON ({error}): {_without_key(server, content)[:80]!r}; "
            "check that the address is right"
        ) from error


def _kind(answer: httpx2.Response) -> str:
    kind: str = answer.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


# --- connections ----------------------------------------------------------------------------------------------------

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, httpx2.AsyncClient]] = WeakKeyDictionary()
_wraps: list[Wrap] = []
_tls: ssl.SSLContext | None = None


async def client_of(url: str) -> httpx2.AsyncClient:
    """This loop's client for addresses like this one: encrypted or not, on this machine or not."""
    import httpx2

    encrypted = url.startswith("https:")
    kind = (encrypted, _is_here(url), tuple(_wraps))
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.get(kind)
    if client is None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        context: Any = await _context() if encrypted else False
        if _wraps:
            transport = await transport_of(url)
            for wrap in _wraps:
                transport = wrap(transport)
            client = httpx2.AsyncClient(transport=transport)
        else:  # with the proxies that the environment names, except for this machine
            client = httpx2.AsyncClient(verify=context, limits=limits, trust_env=not _is_here(url))
        clients[kind] = client
    return client


async def transport_of(url: str) -> httpx2.AsyncBaseTransport:
    """A way to the network for addresses like this one."""
    import httpx2

    context: Any = await _context() if url.startswith("https:") else False
    return httpx2.AsyncHTTPTransport(verify=context, limits=httpx2.Limits(max_connections=None))


async def _context() -> ssl.SSLContext:
    """Made once, in a thread: it reads all the certificates of this machine."""
    import httpx2

    global _tls
    if _tls is None:
        _tls = await asyncio.to_thread(httpx2.create_ssl_context)
    return _tls


def _is_here(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return host.startswith(("127.", "localhost", "[::1]"))


@contextmanager
def intercept(wrap: Wrap) -> Iterator[None]:
    """Put `wrap(transport)` between every new exchange and the network, in all threads, until the block ends."""
    _wraps.append(wrap)
    try:
        yield
    finally:
        _wraps.remove(wrap)


async def close_clients() -> None:
    """Close this loop's connections. A later call opens what it needs."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()
