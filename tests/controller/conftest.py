"""Fixtures for the controller's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from controller.standalone.layout import Layout
from tests.support import postgresql as postgresql_server
from tests.support.processes import end_all_of
from tests.support.rig import Rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stops for a moment is no history that hangs."""
    monkeypatch.setattr("controller.history.HURRIED_SECONDS", 60)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A standalone folder; whatever a test started for it is ended, also when the test fails."""
    layout = Layout(tmp_path)
    layout.create()
    yield layout
    assert end_all_of(tmp_path) == {}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A controller on simulated traffic; `start` or `open` it."""
    rig = Rig(tmp_path)
    yield rig
    await rig.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of its own, ended afterwards."""
    pytest.importorskip("psycopg")
    try:
        with postgresql_server.running() as url:
            yield url
    except postgresql_server.NoPostgresqlError as error:
        pytest.skip(str(error))
