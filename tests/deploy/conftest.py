"""Programs that the tests of the deployment need; a cluster where a test asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.build import ensure_built
from controller.standalone.prometheus_server import prometheus_binary
from tests.support import clusters

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm that is built with the cluster."""
    if reason := clusters.missing():
        clusters.refuse(reason)
    return ensure_built().binary("helm")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Prometheus' own judge of rules and queries."""
    return prometheus_binary().with_name("promtool")
