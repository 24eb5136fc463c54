"""Fetch over HTTP: each host is decided on, that of every redirect too, and so is the address that it turns out to be.

    page = await http.fetch("https://api.github.com/repos/python/cpython")       # needs net:api.github.com:443
    token = weft.secret("GITHUB_TOKEN")
    await http.fetch(url, headers={"Authorization": ("Bearer ", token)})          # and secret:GITHUB_TOKEN

A name is resolved once; what is denied as an address is not connected to, whatever name led there, and what was
resolved is what is connected to. Nothing of the environment is used: no proxy, no .netrc, no cookies. Connections are
not shared, for each was decided about for one process. Needs the extra `http`: pip install 'weft[http]'.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urljoin, urlsplit

from weft.core.boundary import boundary, place
from weft.core.crossing import closer, further, traceparent
from weft.core.errors import BadInput, Denied, MissingExtra, WeftError
from weft.core.pattern import net_resource, url_resource
from weft.core.secret import Secret
from weft.core.step import Primitive, Step

P = ParamSpec("P")
R = TypeVar("R")

LIMIT = 10_000_000
"""Bytes of an answer that are taken at most if nothing else is said."""
HOPS = 10
"""Redirects that are followed at most."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
REPEATABLE = frozenset({"PUT", "DELETE"})

Header = str | Secret | tuple[str | Secret, ...]
"""A header's value: a text, a secret, or pieces of both that belong together: ``("Bearer ", token)``."""


class HttpError(WeftError, OSError):
    """No answer: the server can't be reached, breaks off, takes too long, or says too much."""


@dataclass(frozen=True)
class Response:
    """An answer. `url` is where it came from, after redirects; names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    url: str

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text, in the encoding that it says (else UTF-8); what does not fit is replaced."""
        found = re.search(r"charset=\"?([\w.:-]+)", self.headers.get("content-type", ""), re.IGNORECASE)
        try:
            return self.body.decode(found[1] if found else "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The value that the body stands for. Raises ValueError."""
        return json.loads(self.body)


class _Fetch(Primitive[P, R]):
    """The step, whose class of effect depends on the method of the call."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        here = boundary()
        if here is None:
            return self._directly(args, kwargs)
        work: Coroutine[Any, Any, R] = here.step(self.of_call(args, kwargs), args, kwargs, place())
        return work

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step[P, R]:
        method = str(kwargs.get("method", "GET")).upper()
        if self.effect != "pure" or method in SAFE:
            return self
        return self.options(effect="idempotent" if method in REPEATABLE else "at_most_once")


def _needs(
    url: str, headers: Mapping[str, Header] | None = None, proxy: str | None = None, **_: Any
) -> Iterator[tuple[str, str]]:
    yield "net.connect", _checked(url)
    if proxy is not None:
        yield "net.connect", _checked(proxy)
    for value in (headers or {}).values():
        for piece in value if isinstance(value, tuple | list) else (value,):
            if isinstance(piece, Secret):
                yield "secret.open", piece.name


def _checked(url: str) -> str:
    if not isinstance(url, str) or not re.match("https?://", url, re.IGNORECASE):
        raise BadInput(f"{url!r} is no web address: write it as https://host/path")
    return url


def _by_method(fn: Callable[P, Coroutine[Any, Any, R]]) -> _Fetch[P, R]:
    return _Fetch(fn, name="http.fetch", effect="pure", needs=_needs)


@_by_method
async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, Header] | None = None,
    body: bytes | str | dict[str, Any] | list[Any] | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 (it travels with the request)
    limit: int = LIMIT,
    proxy: str | None = None,
) -> Response:
    """Make a request and follow its redirects, all within `timeout` seconds; an answer may have up to `limit` bytes.

    `headers` may hold secrets (`weft.secret`), which are opened here and sent to this host only, and never journaled.
    `body` may be bytes, text, or a dict or list that is sent as JSON. GET, HEAD and OPTIONS change nothing, PUT and
    DELETE may be repeated; any other method is never sent twice: say ``http.fetch.options(effect="idempotent")(...)``
    where it may be. A status of failure is an answer, not an error. `proxy` is the address of one to go through, which
    must be allowed as well; it resolves names itself, so that what is denied as an address is not seen. A process tells
    the server its `traceparent` (W3C), unless `headers` has one.

    Raises Denied, also for a host that a redirect names; HttpError if there is no answer.
    """
    if not re.fullmatch("[A-Z]+", method.upper()) or method.upper() in ("CONNECT", "TRACE"):
        raise BadInput(f"{method!r} is no method for a fetch; give GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS")
    told = _opened(headers or {})
    if "traceparent" not in told and (trace := await traceparent()) is not None:
        told["traceparent"] = (trace, False)
    exchange = _Exchange(_checked(url), method.upper(), told, _content(body), limit, proxy)
    try:
        async with asyncio.timeout(timeout) as clock:
            return await exchange.follow()
    except TimeoutError:
        if not clock.expired():
            raise
        why = f"{exchange.url} did not answer in full within {timeout:g} s; give it a longer timeout"
        raise HttpError(why) from None


def _opened(headers: Mapping[str, Header]) -> dict[str, tuple[str, bool]]:
    """Each header's value, and whether there is a secret in it."""
    found = {}
    for name, value in headers.items():
        pieces = value if isinstance(value, tuple | list) else (value,)
        text = "".join(piece.reveal() if isinstance(piece, Secret) else str(piece) for piece in pieces)
        if re.search(r"[\r\n\0]", name + text) or not name.isascii():
            raise BadInput(f"the header {name!r} holds a line end or another character that no header can")
        if name.lower() in _FRAME:
            raise BadInput(f"the header {name!r} follows from the address and the body; leave it out")
        found[name.lower()] = (text, any(isinstance(piece, Secret) for piece in pieces))
    return found


def _content(body: Any) -> tuple[bytes | None, str | None]:
    """The bytes to send, and what type they are."""
    if body is None or isinstance(body, bytes):
        return body, None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"


# --- one exchange ---------------------------------------------------------------------------------------------------

_FRAME = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_OWN = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that are meant for one host."""


class _Exchange:
    """A request and what follows from it."""

    def __init__(
        self, url: str, method: str, headers: dict[str, tuple[str, bool]], content: tuple[bytes | None, str | None],
        limit: int, proxy: str | None,
    ) -> None:  # fmt: skip
        self.url = url
        self.method = method
        self.headers = headers
        self.body, kind = content
        if kind is not None:
            self.headers.setdefault("content-type", (kind, False))
        self.limit = limit
        self.proxy = proxy
        self.core = _library()

    async def follow(self) -> Response:
        for _ in range(HOPS + 1):
            answer = await self._once()
            target = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            self._redirected(answer.status, urljoin(self.url, target))
        raise HttpError(f"{self.url} is the {HOPS}th redirect in a row, and names another one")

    def _redirected(self, status: int, url: str) -> None:
        """Go there, if it is allowed."""
        try:
            before, after = url_resource(self.url), url_resource(_checked(url))
        except BadInput as error:
            raise HttpError(f"{self.url} redirects to an address that can't be used: {error}") from None
        if after != before:
            further("net.connect", after, f"fetch it by a call of its own: http.fetch({url!r})")
        if (urlsplit(url).scheme, after) != (urlsplit(self.url).scheme, before):
            kept = {name: value for name, value in self.headers.items() if name not in _OWN and not value[1]}
            self.headers = kept
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            self.method, self.body = ("HEAD" if self.method == "HEAD" else "GET"), None
            self.headers.pop("content-type", None)
        self.url = url

    async def _once(self) -> Response:
        headers = {"user-agent": "weft", "accept": "*/*", "accept-encoding": "identity"}
        headers |= {name: value for name, (value, _) in self.headers.items()}
        address = urlsplit(self.url)
        secure = address.scheme.lower() == "https"
        context = await asyncio.to_thread(_certificates) if secure else None
        network = _network(url_resource(self.proxy or self.url))
        kind, more = self.core.AsyncConnectionPool, {}
        if self.proxy is not None:
            kind, more = self.core.AsyncHTTPProxy, {"proxy_url": self.proxy}
        try:
            async with kind(ssl_context=context, network_backend=network, **more) as pool:
                target = self._target()
                sent = list(headers.items())
                async with pool.stream(self.method, target, headers=sent, content=self.body) as answer:
                    return Response(answer.status, _told(answer.headers), await self._read(answer), self.url)
        except (Denied, HttpError):
            raise
        except (OSError, zlib.error, self.core.NetworkError, self.core.ProtocolError) as error:
            why = f"{self.url} can't be fetched: {str(error) or type(error).__name__}"
            raise HttpError(f"{why}; check the address, and that it can be reached from here") from None

    def _target(self) -> Any:
        """The address for the library, with nothing left to read in another way than it was decided about."""
        from httpx2 import URL

        url = URL(self.url)
        return self.core.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)

    async def _read(self, answer: Any) -> bytes:
        body = bytearray()
        async for piece in answer.aiter_stream():
            body += piece
            if len(body) > self.limit:
                break
        coding = _told(answer.headers).get("content-encoding", "identity").lower()
        if coding in ("gzip", "x-gzip", "deflate"):  # though it was asked not to
            body = bytearray(zlib.decompressobj(47).decompress(body, self.limit + 1))
        return self._within(body)

    def _within(self, body: bytearray) -> bytes:
        if len(body) > self.limit:
            raise HttpError(f"{self.url} answers with more than limit={self.limit} bytes; give a larger limit")
        return bytes(body)


def _told(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


# --- the network ----------------------------------------------------------------------------------------------------


def _library() -> ModuleType:
    try:
        import httpcore2
        import httpx2  # noqa: F401
    except ImportError as error:
        raise MissingExtra("fetching needs the extra `http`: pip install 'weft[http]'") from error
    return httpcore2


@functools.cache
def _certificates() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()


def _network(authorised: str) -> Any:
    """The library's way to a host: looked up once, decided on as an address, connected to as that address."""
    import httpcore2

    class Network(httpcore2.AsyncNetworkBackend):
        def __init__(self) -> None:
            self.lines = httpcore2.AnyIOBackend()

        async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
            if net_resource(host, port) != authorised:
                raise BadInput(f"the address {host}:{port} is not the {authorised} that was decided about")
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            failure: Exception = OSError(f"{host} has no address")
            for address in dict.fromkeys(str(each[4][0]) for each in found):
                try:
                    closer("net.connect", net_resource(address, port, [host]), "give its address in the URL")
                    return await self.lines.connect_tcp(address, port, *args, **kwargs)
                except (OSError, httpcore2.ConnectError) as error:  # denied, or not reached: the next one
                    failure = error
            raise failure

    return Network()
