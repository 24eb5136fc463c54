"""Who may ask the page: by which name it is called, with which token, and from where a change may come.

A page in another tab can send requests here, but it can't read the answers, set the header `X-Weft`, or send the cookie
(it is of this site only). A name that somebody bent to point at this machine is none that this server answers to.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.core.errors import BadInput
from weft.web.listen import of_this_machine
from weft.web.page.answer import Refused, refusal

COOKIE = "weft_session"
SESSION = 12 * 3600
"""Seconds that a cookie is good for."""
SHORTEST = 16
"""Characters of a token that somebody chose."""
OPEN = ("/api/about", "/api/session")
"""Parts of the API that need no token."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access(msgspec.Struct, frozen=True):
    """`token`: what clients must know; empty: nothing. `names`: further names of this server. `read_only`: nobody may
    change anything."""

    token: str = ""
    names: tuple[str, ...] = ()
    read_only: bool = False

    @classmethod
    def at(cls, host: str, token: str = "", names: tuple[str, ...] = (), read_only: bool = False) -> Access:
        """That of a server which listens at `host`. One that others can reach gets a token, if none was given. Raises
        BadInput for a token that is too short."""
        at_home = of_this_machine(f"[{host}]" if ":" in host else host)
        if token and (len(token) < SHORTEST or not token.isascii() or any(c.isspace() or c == ";" for c in token)):
            raise BadInput(f"the token must be one word of ASCII with {SHORTEST} characters or more")
        if not token and not at_home:
            token = secrets.token_urlsafe(32)
        return cls(token, tuple(name.lower() for name in (*names, host, socket.gethostname())), read_only)

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this server. An address of numbers can't be bent; where there is no token, only
        those of this machine count."""
        name = host_name(host)
        if of_this_machine(host) or (self.token and name in self.names):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self.token)

    def knows(self, headers: Headers, now: float) -> bool | None:
        """Whether these headers show the token; None: they show none."""
        if not self.token:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.fits(given.strip())
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if not cookie:
            return None
        until, _, _ = cookie.partition(".")
        if not until.isdecimal() or len(until) > 12 or int(until) < now:
            return None  # it has grown old
        return hmac.compare_digest(cookie.encode(), self._session(int(until)).encode())

    def fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def session(self, now: float) -> str:
        """The value of a cookie that is good from now on."""
        return self._session(int(now) + SESSION)

    def _session(self, until: int) -> str:
        return f"{until}.{hmac.new(self.token.encode(), b'session %d' % until, hashlib.sha256).hexdigest()}"


def host_name(host: str) -> str:
    """A Host header without its port."""
    return (host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]).lower()


class Guard:
    """Lets in what may come in, and puts the headers on what goes out."""

    def __init__(self, app: ASGIApp, access: Access, clock: Callable[[], float]) -> None:
        self.app = app
        self.access = access
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope)
        except Refused as refused:
            await refusal(refused)(scope, receive, sent)
            return
        await self.app(scope, receive, sent)

    def _check(self, scope: Scope) -> None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.answers_to(hosts[0]):
            raise Refused(421, "wrong_host", "this server does not answer to that name; add it with --name")
        if path.startswith("/api/") and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Refused(403, "csrf", "the page of another site asks; open this server's own")
        if method not in ("GET", "HEAD"):
            self._check_change(headers, hosts[0], path)
        if path.startswith("/api/") and path not in OPEN:
            known = self.access.knows(headers, self.clock())
            if known is None:
                raise Refused(401, "token_needed", "sign in with the token that was printed when the server started")
            if not known:
                raise Refused(401, "token_wrong", "that is not the token of this server")

    def _check_change(self, headers: Headers, host: str, path: str) -> None:
        """Raises Refused for what a page of another site could have sent, and for all changes where none are made."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}")
        if (
            headers.get("x-weft") != "1"
            or foreign
            or headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        ):
            raise Refused(403, "csrf", "a change comes from this server's page, or with the header X-Weft: 1")
        if kind != "application/json":
            raise Refused(415, "not_json", "send JSON, with Content-Type: application/json")
        if self.access.read_only and path != "/api/session":
            raise Refused(403, "read_only", "this server only shows; start it without --read-only to change something")
