"""The benchmark of a real `penstock run` on a real API server: what it counts. Its times are its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import measure
from bench.cluster.__main__ import PARTS
from bench.cluster.audit import POLICY, Audit, Requests, without_leases, writes
from bench.cluster.figures import Figure, figures
from bench.cluster.page import markdown, terminal
from bench.cluster.site import Site
from cluster.running import start
from controller.cluster.resources import WATCHED
from tests.support.clusters import missing, refuse

ROLLOUTS, INTERVALS = 5, 3


@pytest.fixture(scope="module")
def built() -> None:
    """Everything is built, outside of any test's time limit."""
    if reason := missing():
        refuse(reason)


def variables(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")


@pytest.mark.real
@pytest.mark.cluster
@pytest.mark.usefixtures("built")
async def test_rollouts_that_hold_cost_a_query_per_template_and_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "WARM_UP", 1)
    with start(tmp_path, PARTS, POLICY) as cluster:
        cluster.install_istio_crds()
        cluster.install_crds()
        async with Site(
            cluster,
            "bench",
            ROLLOUTS,
            dispersion="1",
            interval=3,
            options=("--lease-seconds", "15", "--propagation", "1s"),
        ) as site:
            held = await measure.holding(site, INTERVALS)
            given = variables(site.controller._pid)
            changed = await measure.change(site)
    assert b"MALLOC_ARENA_MAX=2" in given, "it is measured as the chart runs it"
    assert held["intervals"] >= INTERVALS  # a busy machine wakes us late
    assert held["templates"] == 2
    assert 0 < held["queries_per_interval"] <= 2  # a pass that comes late serves two intervals at once
    assert held["api_writes"] == 0
    assert held["api_requests"] == pytest.approx(held["api_requests_by_its_own_count"], abs=1)
    assert held["api_requests"] - held["api_requests_for_the_lease"] <= len(WATCHED)  # watches opened anew
    assert held["memory_mib"]["highest"] >= held["memory_mib"]["now"] > 0
    assert changed["virtualservices"] == 1


def logged(verb: str, resource: str, identity: str, user: str = "us", **more: Any) -> str:
    asked = {"resource": resource, **more}
    return json.dumps({"auditID": identity, "verb": verb, "user": {"username": user}, "objectRef": asked})


def test_each_request_counts_once_and_only_ours(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    first = [
        logged("watch", "services", "1"), logged("watch", "services", "1"),
        logged("get", "pods", "2", "they"),
        logged("patch", "rolloutpolicies", "3", subresource="status"), logged("update", "leases", "4"),
    ]  # fmt: skip
    log.write_text("\n".join([*first, '{"half']))
    audit = Audit(log)
    found = audit.requests("us")
    assert found == Requests(
        {("watch", "services"): 1, ("patch", "rolloutpolicies/status"): 1, ("update", "leases"): 1}
    )
    assert without_leases(found) == 2
    assert writes(found) == {"rolloutpolicies/status": 1}
    log.write_text("\n".join([*first, logged("get", "pods", "5"), ""]))
    assert audit.requests("us") == Requests({("get", "pods"): 1})
    assert audit.requests("us") == Requests()


def measured() -> dict[str, Any]:
    held = {
        "intervals": 6, "cpu_ms_per_check": 0.5, "cpu_ms_per_interval": 10.0, "api_requests_per_check": 0.01,
        "api_requests": 30, "api_requests_by_its_own_count": 30, "api_requests_for_the_lease": 28,
        "api_writes": 0, "queries_per_interval": 2.0, "templates": 2,
        "memory_mib": {"now": 200.0, "highest": 210.0},
    }  # fmt: skip
    again = {"seconds": 8.0, "seconds_until_it_led": 6.0, "seconds_from_then": 2.0, "cpu_seconds": 3.0}
    return {
        "rollouts": 500, "interval": 10, "cpus": 2, "down": 20, "holding": held, "learning": held,
        "idle": held, "bare_cpu_ms": 9.4, "scrape_cpu_ms": 3.0, "change": {"virtualservices": 1, "events": 2},
        "restart": again, "killed": again,
    }  # fmt: skip


def test_a_goal_is_met_or_missed_and_peers_are_told_as_ratios() -> None:
    rows = {row.name: row for row in figures(measured())}
    assert rows["CPU per check"].met is False
    assert rows["API requests per check"].met is True
    assert rows["memory at most"].met is None
    assert rows["the same, less a controller without policies"].value == pytest.approx(0.6)
    assert rows["CPU per check"].as_dict()["argo_ratio"] == pytest.approx(6.2)
    assert "argo_ratio" not in Figure("nothing at all", 0, argo=1.0).as_dict()


def test_the_page_names_every_figure_and_says_what_was_missed() -> None:
    rows = figures(measured())
    page = markdown(rows, measured())
    for row in rows:
        assert row.name in page
        assert row.name in terminal(rows)
    assert "| CPU per check | 0.5 ms | ≤ 0.3 | missed | 3.1 (6.2) | 5 (10) |" in page
