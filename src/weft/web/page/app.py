"""The page as an ASGI application: its files, its API, and the guard in front of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

import weft
from weft.cli.look import find_run
from weft.core.clock import time
from weft.core.record import from_column
from weft.store.base import ARRIVING, FINISHED, UNFINISHED, Store
from weft.web.page import cells, costs, people, shape, unusual
from weft.web.page.actions import Actions, Hands
from weft.web.page.answer import Endpoint, Refused, answer, guarded, read_object, ready, refusal
from weft.web.page.body import in_full
from weft.web.page.book import Book
from weft.web.page.books import Books
from weft.web.page.effect import locate, one_effect, whole_value
from weft.web.page.feed import Feed
from weft.web.page.kept import Kept
from weft.web.page.live import live_run, live_runs
from weft.web.page.logs import list_logs
from weft.web.page.rows import VIEWS
from weft.web.page.runs import list_runs, one_run, tree
from weft.web.page.safety import COOKIE, SESSION, Access, Guard
from weft.web.page.sums import Lines

STATIC = Path(__file__).parents[1] / "static"
STATES = (*UNFINISHED, "interrupted", *FINISHED, ARRIVING)
PROCESSES = 5_000
"""Those of a tree that are told."""
PATIENCE = 0.15
"""Seconds for which a window of rows waits for a long run to be read; then it is of what was read so far."""

Ask = Callable[[Store, Request], Awaitable[Any]]
AskBook = Callable[[Book, Request], Any]


class Page:
    """What is served: the runs of `store`, to those that `access` lets in. `who` answers questions if nobody says."""

    def __init__(self, store: Store, access: Access, hands: Hands, who: str = "somebody") -> None:
        self.store = store
        self.access = access
        self.books = Books(store)
        self.sums = Lines(store)
        self.kept = Kept()
        self.feed = Feed(store, self.books, self.sums)
        self.actions = Actions(store, hands, who)

    def application(self) -> Starlette:
        routes: list[BaseRoute] = [
            _get("/api/about", self._about),
            Route("/api/session", guarded(self._session), methods=["POST", "DELETE"]),
            *self._lists(),
            *self._of_runs(),
            *self._changes(),
            Mount("/static", GZipMiddleware(StaticFiles(directory=STATIC), minimum_size=1_024, compresslevel=6)),
            _get("/{path:path}", self._index),
        ]
        guard = Middleware(Guard, access=self.access, clock=time)
        return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _unrouted})

    async def close(self) -> None:
        """Send the viewers away."""
        await self.feed.close()

    # --- routes ----------------------------------------------------------------------------------------------------

    def _lists(self) -> list[BaseRoute]:
        """What there is in the store."""

        async def runs(store: Store, request: Request) -> Any:
            return await list_runs(store, self.sums, request)

        async def spent(store: Store, request: Request) -> Any:
            return await costs.of_store(store, self.sums, request)

        async def compare(store: Store, request: Request) -> Any:
            return await shape.compare(store, self.books, request)

        asks: dict[str, Ask] = {
            "/api/runs": runs, "/api/costs": spent, "/api/compare": compare, "/api/inbox": people.inbox,
            "/api/memory": cells.namespaces,
            "/api/memory/cells": cells.cells, "/api/memory/history": cells.history, "/api/memory/value": cells.value,
        }  # fmt: skip

        def endpoint(ask: Ask) -> Endpoint:
            async def told(request: Request) -> Response:
                return answer(await ask(self.store, request))

            return told

        async def live(request: Request) -> Response:
            return await live_runs(self.feed, request)

        return [_get("/api/live", live), *(_get(path, endpoint(ask)) for path, ask in asks.items())]

    def _of_runs(self) -> list[BaseRoute]:
        """What there is in a run."""

        async def one(book: Book, request: Request) -> Any:
            return await one_run(self.store, book)

        async def logs(book: Book, request: Request) -> Any:
            return await list_logs(self.store, book, request)

        async def template(book: Book, request: Request) -> Any:
            return await shape.template(book, may_load=not self.access.read_only)

        asks: dict[str, AskBook] = {
            "": one, "/logs": logs, "/template": template, "/costs": costs.of_run,
            "/graph": lambda book, _: shape.graph(book), "/tree": lambda book, _: tree(book, PROCESSES),
            "/memory": lambda book, _: cells.of_run(book),
            "/unusual": lambda book, _: unusual.of_run(self.store, book.id),
            **{f"/{name}": view for name, view in VIEWS.items()},
        }  # fmt: skip

        costly = [asks[f"/{name}"] for name in ("buckets", "bands", "graph", "tree", "costs", "memory", "unusual")]

        def endpoint(ask: AskBook) -> Endpoint:
            async def told(request: Request) -> Response:
                patience = PATIENCE if ask is one or ask in VIEWS.values() else None
                book = await self.books.read(await self._run(request), patience)
                if ask in costly:
                    question = f"{book.id}{request.url.path.rpartition('/')[2]}?{request.query_params}"
                    return ready(await self.kept.answer(book, question, lambda: ask(book, request)))
                found = ask(book, request)
                found = await found if isinstance(found, Awaitable) else found
                return found if isinstance(found, Response) else answer(found)

            return told

        async def live(request: Request) -> Response:
            return await live_run(self.feed, await self._run(request), request)

        async def effect(request: Request) -> Response:
            leaf, node = await locate(self.books, request.path_params["id"])
            return answer(await one_effect(self.store, self.books, leaf, node))

        async def value(request: Request) -> Response:
            return await whole_value(self.store, self.books, request.path_params["id"], request.path_params["which"])

        return [
            _get("/api/runs/{run}/live", live),
            *(_get(f"/api/runs/{{run}}{path}", endpoint(ask)) for path, ask in asks.items()),
            _get("/api/runs/{run}/{which}", self._column),
            _get("/api/effects/{id}", effect),
            _get("/api/effects/{id}/{which}", value),
        ]

    def _changes(self) -> list[BaseRoute]:
        actions = self.actions
        paths: dict[str, Callable[[Request], Awaitable[dict[str, Any]]]] = {
            "/api/inbox/{id}/answer": actions.answer, "/api/runs/{run}/cancel": actions.cancel,
            "/api/runs/{run}/resume": actions.resume, "/api/runs/{run}/signal": actions.signal,
            "/api/runs/{run}/send": actions.send, "/api/runs/{run}/fork": actions.fork,
        }  # fmt: skip

        def endpoint(act: Callable[[Request], Awaitable[dict[str, Any]]]) -> Endpoint:
            async def done(request: Request) -> Response:
                return answer(await act(request))

            return done

        return [Route(path, guarded(endpoint(act)), methods=["POST"]) for path, act in paths.items()]

    # --- endpoints -------------------------------------------------------------------------------------------------

    async def _run(self, request: Request) -> str:
        return (await find_run(self.store, request.path_params["run"])).id

    async def _column(self, request: Request) -> Response:
        row, which = await find_run(self.store, request.path_params["run"]), request.path_params["which"]
        data = {"input": row.input, "result": row.result, "error": row.error}.get(which)
        if data is None:
            raise Refused(404, "unknown_url", f"there is no {request.url.path} here")
        return await in_full(self.store, from_column(data))

    async def _index(self, request: Request) -> Response:
        """Every view has a path of its own, and all of them are one file."""
        if request.url.path.startswith("/api/"):
            raise Refused(404, "unknown_url", f"there is no {request.url.path} here")
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def _about(self, request: Request) -> Response:
        known = bool(self.access.knows(request.headers, time()))
        return answer(
            {
                "weft": weft.__version__, "store": self.store.url if known else None,
                "read_only": self.access.read_only, "signed_in": known, "token_needed": bool(self.access.token),
                "now": time() if known else None, "states": STATES, "static": False,
            }
        )  # fmt: skip

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
    return Route(path, guarded(endpoint), methods=["GET"])


async def _unrouted(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "unknown_url", 405: "wrong_method"}.get(status, "internal")
    return refusal(Refused(status, code, f"there is no {request.method} {request.url.path} here"))
