"""What holds for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.running import Cluster

# machines are noisy: how long an example takes, or its making, proves nothing
settings.register_profile("penstock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("penstock")

WHY_NO_CLUSTER = pytest.StashKey[str | None]()
REAL_TIMEOUT_S = 900
"""For a test with real processes: longer than any of its waits, as a busy machine takes its time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a wait end before its test is ended: it says what it waited for."""
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.timeout(REAL_TIMEOUT_S))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the cluster before the first test, if one wants it: that may take longer than a test may."""
    if session.config.option.collectonly:
        return
    if any(item.get_closest_marker("cluster") for item in session.items):
        from tests.support import clusters  # noqa: PLC0415 - most sessions need none of it

        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            session.config.stash[WHY_NO_CLUSTER] = clusters.missing()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that all tests share: all parts run, Penstock's definitions are installed."""
    from tests.support import clusters  # noqa: PLC0415

    if reason := request.config.stash.get(WHY_NO_CLUSTER, None):
        clusters.refuse(reason)
    with clusters.running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own. After the test all parts run again, whatever it did to them."""
    from tests.support import clusters  # noqa: PLC0415

    with clusters.own_namespace(cluster) as name:
        yield name
