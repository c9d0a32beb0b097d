"""The fault proxy itself: what it is told to spoil is spoiled, and nothing else. On a real API server."""

import threading
import time

import pytest

from controller.cluster.answers import Request
from controller.cluster.kube import Kube
from controller.cluster.resources import LEASES
from controller.ports import ConflictError, NotFoundError, UnavailableError
from tests.support.kube_proxy import kube_proxy
from tests.support.kube_server import until

pytestmark = [pytest.mark.real, pytest.mark.cluster]


@pytest.fixture
def proxy(cluster):
    with kube_proxy(cluster) as running:
        yield running


@pytest.fixture
async def kube(proxy, cluster):
    opened = await Kube.open(proxy.kubeconfig(cluster.kubeconfig))
    yield opened
    await opened.close()


@pytest.fixture
async def direct(cluster):
    opened = await Kube.open(cluster.kubeconfig)
    yield opened
    await opened.close()


def lease(name):
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": {"name": name}}


async def names(kube, namespace):
    found = await kube.call(Request("list", LEASES, namespace))
    return [item["metadata"]["name"] for item in found["items"]]


async def test_what_is_not_spoiled_passes_through(kube, direct, proxy, namespace):
    await kube.call(Request("create", LEASES, namespace), lease("a"))
    assert await names(direct, namespace) == await names(kube, namespace) == ["a"]
    with pytest.raises(ConflictError):
        await kube.call(Request("create", LEASES, namespace), lease("a"))
    with pytest.raises(NotFoundError):
        await kube.call(Request("get", LEASES, namespace, "b"))
    assert [status for _, status in proxy.writes] == [201, 409]
    assert proxy.requests[0].startswith("POST /apis/coordination.k8s.io/v1/")


async def test_answers_are_given_as_often_as_told_to_what_matches(kube, proxy, namespace):
    proxy.answer(500, times=2, match="POST", message="etcd is down")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="etcd is down"):
            await kube.call(Request("create", LEASES, namespace), lease("a"))
        assert await names(kube, namespace) == []
    await kube.call(Request("create", LEASES, namespace), lease("a"))


async def test_retry_after_is_passed_on(kube, proxy, namespace):
    proxy.answer(429, headers={"Retry-After": "1"})
    began = time.monotonic()
    assert await names(kube, namespace) == []
    assert time.monotonic() - began >= 1


async def test_a_delay_holds_what_matches_until_it_is_taken_back(kube, proxy, namespace):
    proxy.delay(30, match="leases")
    with pytest.raises(UnavailableError, match="in time"):
        await kube.call(Request("list", LEASES, namespace), within=0.3)
    proxy.delay(0, match="leases")
    assert await names(kube, namespace) == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_partition_lets_nothing_pass_and_what_was_sent_is_lost_or_late(
    kube, direct, proxy, namespace, late
):
    proxy.block()
    with pytest.raises(UnavailableError, match="in time"):
        await kube.call(Request("create", LEASES, namespace), lease("a"), within=0.3)
    await until(lambda: proxy.requests)
    proxy.unblock(late=late)
    await kube.call(Request("create", LEASES, namespace), lease("b"))
    if late:
        await until(lambda: len(proxy.writes) == 2)
    assert await names(direct, namespace) == (["a", "b"] if late else ["b"])


@pytest.mark.parametrize("how", ["cut_watches", "tear_watches"])
async def test_watches_are_reset(kube, direct, proxy, namespace, how):
    async with kube.watch(LEASES, namespace, "", 30) as events:
        await until(lambda: proxy._watches)
        getattr(proxy, how)()
        await direct.call(Request("create", LEASES, namespace), lease("a"))
        with pytest.raises(UnavailableError, match="cannot be reached"):
            [event async for event in events]


@pytest.mark.parametrize(("when", "there"), [("instead", False), ("before", True), ("after", True)])
async def test_something_happens_at_the_nth_write(kube, direct, proxy, namespace, when, there):
    happened, seen = threading.Event(), []

    def happen():
        seen.append(len(proxy.writes))
        happened.set()

    proxy.on_write(2, happen, match="/leases", when=when)
    await kube.call(Request("create", LEASES, namespace), lease("a"))
    assert not happened.is_set()
    second = kube.call(Request("create", LEASES, namespace), lease("b"))
    if when == "instead":
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await second
    else:
        await second
    await kube.call(Request("create", LEASES, namespace), lease("c"))
    assert seen == [2 if when == "after" else 1]
    assert ("b" in await names(direct, namespace)) == there
