"""Fixtures of the tests with a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server for the histories of these tests."""
    pytest.importorskip("psycopg")
    try:
        with postgresql.running() as url:
            yield url
    except postgresql.NoPostgresqlError as error:
        pytest.skip(str(error))
