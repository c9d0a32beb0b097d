"""To which names the API answers."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controller.api.app import create_app
from controller.api.hosts import Hosts
from tests.support.fake_backend import FakeBackend, running

SAFE = [
    "localhost", "localhost:7420", "LOCALHOST", "localhost.", "app.localhost:7420", "127.0.0.1:7420",
    "127.0.0.1", "[::1]", "[::1]:7420", "10.1.2.3:7420", "[fd00::1]:80", "penstock.penstock.svc:7420",
    "penstock.penstock.svc.cluster.local",
]  # fmt: skip
STRANGE = [
    "", ":7420", "evil.example", "evil.example:7420", "localhost.evil.example", "127.0.0.1.evil.example",
    "evil.example.", "svc", "penstock.svc.evil.example", "notlocalhost", "evil.example#localhost",
    "evil.example@localhost.x", "1.2.3.4.5", "[evil.example]",
]  # fmt: skip


@pytest.mark.parametrize(
    "bound",
    [
        "127.0.0.1", "127.8.8.8", "::1", "[::1]", "::ffff:127.0.0.1", "127.1", "0x7f.1", "2130706433",
        "localhost", "LocalHost", "localhost.", "app.localhost", "ip6-localhost",
    ],
)  # fmt: skip
def test_on_loopback_addresses_and_names_that_nobody_else_can_own_are_answered(bound: str) -> None:
    hosts = Hosts(bound)
    assert [host for host in SAFE if not hosts.answers(host)] == []
    assert [host for host in STRANGE if hosts.answers(host)] == []


@pytest.mark.parametrize(
    "bound", ["", "0", "0.0.0.0", "::", "::ffff:10.0.0.7", "10.0.0.7", "penstock.example.com"]
)
def test_elsewhere_everything_is_answered_until_names_are_given(bound: str) -> None:
    assert all(Hosts(bound).answers(host) for host in (*SAFE, *STRANGE))
    hosts = Hosts(bound, ["Shop.example.com.", "*.corp.example"])
    assert all(hosts.answers(host) for host in (*SAFE, "shop.example.com:443", "a.b.corp.example"))
    assert [host for host in (*STRANGE, "corp.example", "a.shop.example.com") if hosts.answers(host)] == []
    assert hosts.answers("penstock.example.com") == (bound == "penstock.example.com")


@pytest.mark.parametrize(
    "name", ["", "https://penstock.example.com", "a.example:80", "a b", "*", "a.*.example", "*.", "ä.example"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a host"):
        Hosts("127.0.0.1", [name])


@pytest.mark.parametrize("path", ["/", "/v1/rollouts", "/metrics", "/healthz", "/openapi.json", "/nowhere"])
def test_a_page_of_elsewhere_reads_nothing_by_its_own_name(path: str) -> None:
    app = create_app(FakeBackend([running()], [], []), "secret", Hosts("127.0.0.1"))
    api = TestClient(app, base_url="http://evil.example:7420")
    refused = api.get(path)
    assert (refused.status_code, refused.json()["type"]) == (421, "/problems/unknown-host")
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert api.get(path, headers={"host": "127.0.0.1:7420"}).status_code in {200, 404}


def test_the_name_that_is_refused_is_told_on_one_short_line() -> None:
    app = create_app(FakeBackend([], [], []), "secret", Hosts("127.0.0.1"))
    detail = TestClient(app).get("/", headers={"host": "x" * 500}).json()["detail"]
    assert detail == "x" * 77 + "... is not known here"
