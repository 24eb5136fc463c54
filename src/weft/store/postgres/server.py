"""The way to a PostgreSQL server: connections that are made when needed, and made again when they break.

A request that fails for a reason that passes (a cut connection, a restart, a full disk) is repeated, ever more
slowly, until `patience` is over; then its error says so. Each request ends in bounded time, whatever the network does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from weft.core.clock import monotonic
from weft.core.errors import BadInput, MissingExtra, StoreError
from weft.core.url import mask
from weft.store.postgres.schema import explain, migrate, transient

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

log = logging.getLogger("weft.store")


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a runtime uses its server. Anything of the connection itself (TLS, timeouts of the server, the schema's
    user) goes in the URL, as libpq writes it."""

    heartbeat: float = 5.0
    """Seconds between two signs of life. Who is silent for 1.75 of them is dead, and taken over."""
    pool: int = 4
    """Connections for reading and claiming; three more write, tell and beat."""
    statement_timeout: float = 30.0
    """Seconds after which the server, and the connection, give a request up."""
    patience: float = 60.0
    """Seconds that the server may be away before that is an error."""

    def __post_init__(self) -> None:
        if self.heartbeat < 0.1 or self.pool < 1 or self.statement_timeout <= 0 or self.patience < 0:
            raise BadInput(f"{self!r}: heartbeat must be >= 0.1 s, pool >= 1, timeouts > 0 s")


class Server:
    """The server of one store. Use it on one event loop."""

    def __init__(self, url: str, options: PostgresOptions, *, durable: bool) -> None:
        self.url = url
        self.where = _shown(url)
        self.options = options
        self.durable = durable
        self.closed = False
        self._known = False  # the server has answered once
        self._idle: list[asyncpg.Connection] = []
        self._places = asyncio.Semaphore(options.pool)

    async def connect(self, *, durable: bool | None = None) -> asyncpg.Connection:
        """A new connection, to tables that are up to date. Raises what the driver raises."""
        connection = await connect(self.url, self.options, self.durable if durable is None else durable)
        try:
            if not self._known:
                await migrate(connection, self.where)
                self._known = True
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def ask(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Do `work` on a pooled connection; again if it fails for a reason that passes: it must bear that."""
        return await self.persist(lambda: self._once(work))

    async def persist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeat `work` while it fails for a reason that passes. Raises `StoreError`s."""
        began, wait = monotonic(), 0.02
        while True:
            try:
                return await work()
            except Exception as error:
                patience = self.options.patience if self._known else min(5.0, self.options.patience)
                if self.closed or not transient(error) or monotonic() - began + wait > patience:
                    raise explain(error, self.where) from error
                if wait > 0.5:
                    log.warning("%s; trying again", explain(error, self.where))
            await asyncio.sleep(wait)
            wait = min(wait * 2, 2.0)

    async def _once(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        async with self._places:
            connection = self._idle.pop() if self._idle else await self.connect()
            try:
                result = await work(connection)
            except BaseException as error:
                if isinstance(error, Exception) and not transient(error) and not connection.is_in_transaction():
                    self._idle.append(connection)
                else:  # cut, or left in the middle of something
                    connection.terminate()
                raise
            if self.closed or connection.is_closed():
                connection.terminate()
            else:
                self._idle.append(connection)
            return result

    async def close(self) -> None:
        self.closed = True
        while self._idle:
            await quietly(self._idle.pop())


async def connect(url: str, options: PostgresOptions, durable: bool) -> asyncpg.Connection:
    """One connection with Weft's settings, unless the URL has its own. Raises what the driver raises."""
    driver = load_driver()
    milliseconds = str(int(options.statement_timeout * 1000))
    settings = {
        "application_name": "weft",
        "jit": "off",
        "synchronous_commit": "on" if durable else "off",
        "statement_timeout": milliseconds,
        # A runtime that froze inside a transaction must not hold a queue's lock for ever.
        "idle_in_transaction_session_timeout": str(int(options.heartbeat * 1000)),
        "lock_timeout": milliseconds,
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": milliseconds,
    }
    try:
        given = dict(parse_qsl(urlsplit(url).query))
        for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
            if name in given and not os.access(given[name], os.R_OK):
                raise StoreError(f"the URL {_shown(url)} names {given[name]} as its {name}, which cannot be read")
        connecting = driver.connect(
            url,
            timeout=min(10.0, options.statement_timeout),
            command_timeout=options.statement_timeout * 1.2,
            server_settings={name: value for name, value in settings.items() if name not in given},
        )
        return await _undisturbed(asyncio.ensure_future(connecting))
    except ssl.SSLCertVerificationError as error:
        reason = error.verify_message.rstrip(".")
        raise StoreError(
            f"the certificate of the server at {_shown(url)} is not trusted ({reason}); name that of its authority "
            f"with sslrootcert=… in the URL"
        ) from error
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            raise  # the way to the server broke
        raise StoreError(
            f"no TLS with the server at {_shown(url)} ({error.reason or error}); check the ssl… options in the URL"
        ) from error
    except ConnectionError as error:
        if "rejected SSL" in str(error):
            raise StoreError(
                f"the server at {_shown(url)} offers no TLS, which the URL asks for; turn it on there (ssl = on), or "
                f"leave sslmode out of the URL"
            ) from error
        raise
    except (ValueError, driver.exceptions.ClientConfigurationError) as error:
        # Other errors than the driver's own quote what they could not read, parts of a password too.
        known = isinstance(error, driver.exceptions.ClientConfigurationError) and "URI" not in str(error)
        reason = str(error) if known else "special characters in a password are written as %XX"
        raise StoreError(
            f"{_shown(url)} names no PostgreSQL server ({reason}); write postgresql://user@host/db"
        ) from None


async def _undisturbed(connecting: asyncio.Future[asyncpg.Connection]) -> asyncpg.Connection:
    """Who is cancelled while connecting waits a while for the end of that: stopped in the middle of it, the driver
    leaves an error behind that asyncio prints."""
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.wait([connecting], timeout=2)
        if not connecting.done():
            connecting.cancel()
        elif not connecting.cancelled() and connecting.exception() is None:
            connecting.result().terminate()
        raise


def _shown(url: str) -> str:
    """The URL without its password, even one with spaces in it."""
    return mask("%20".join(url.split()))


async def quietly(connection: asyncpg.Connection) -> None:
    """Close a connection; a server that does not answer is not waited for."""
    try:
        await connection.close(timeout=2)
    except Exception as error:
        log.debug("closing a connection: %r", error)
        connection.terminate()


def load_driver() -> Any:
    """asyncpg, or `MissingExtra`."""
    try:
        import asyncpg
    except ImportError:
        raise MissingExtra("a store in PostgreSQL needs the extra `postgres`: pip install 'weft[postgres]'") from None
    return asyncpg
