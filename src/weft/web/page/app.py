"""The page as an ASGI application: its files, its API, and the guard in front of both."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import weft
from weft.core.clock import time
from weft.store.base import ARRIVING, FINISHED, UNFINISHED, Store
from weft.web.page.answer import Endpoint, Refused, answer, guarded, read_object, refusal
from weft.web.page.safety import COOKIE, SESSION, Access, Guard

STATIC = Path(__file__).parents[1] / "static"
STATES = (*UNFINISHED, "interrupted", *FINISHED, ARRIVING)


class Page:
    """What is served: the runs of `store`, to those that `access` lets in."""

    def __init__(self, store: Store, access: Access) -> None:
        self.store = store
        self.access = access

    def application(self) -> Starlette:
        routes = [
            _get("/api/about", self._about),
            Route("/api/session", guarded(self._session), methods=["POST", "DELETE"]),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/{path:path}", guarded(self._index)),
        ]
        guard = Middleware(Guard, access=self.access, clock=time)
        return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _unrouted})

    async def _index(self, request: Request) -> Response:
        """Every view has a path of its own, and all of them are one file."""
        if request.url.path.startswith("/api/"):
            raise Refused(404, "unknown_url", f"there is no {request.url.path} here")
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def _about(self, request: Request) -> Response:
        known = bool(self.access.knows(request.headers, time()))
        return answer(
            {
                "weft": weft.__version__,
                "store": self.store.url if known else None,
                "read_only": self.access.read_only,
                "signed_in": known,
                "token_needed": bool(self.access.token),
                "now": time() if known else None,
                "states": STATES,
                "static": False,
            }
        )

    async def _session(self, request: Request) -> Response:
        """A token becomes a cookie."""
        response = Response(status_code=204, headers={"Cache-Control": "no-store"})
        if request.method == "DELETE":
            response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
            return response
        given = (await read_object(request)).get("token")
        if not isinstance(given, str) or not self.access.fits(given):
            raise Refused(401, "token_wrong", "that is not the token of this server")
        secure = request.url.scheme == "https"
        value = self.access.session(time())
        response.set_cookie(COOKIE, value, max_age=SESSION, path="/", secure=secure, httponly=True, samesite="strict")
        return response


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, guarded(endpoint))


async def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "unknown_url", 405: "wrong_method"}.get(status, "internal")
    return refusal(Refused(status, code, f"there is no {request.method} {request.url.path} here"))
