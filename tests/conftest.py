"""What every test may ask for: a real PostgreSQL server, shared by the session, and a fresh database in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import Postgres, Unavailable


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for each pytest-xdist worker, started when first asked for."""
    server = Postgres()
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database for this test alone."""
    postgres.start()  # a test before may have left it dead
    url = postgres.create()
    yield url
    postgres.start()
    postgres.drop(url.rpartition("/")[2])
