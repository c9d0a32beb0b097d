"""The store of a cluster, on a real API server: the same contract as the local store's, and a random fight.

Covered: what the loop relies on (controller.ports.Store), the rights that are missing, definitions that go
and come, and mirrors whose watches are cut at random while others write. Not here: answers that a real API
server gives only on a bad day (test_kube.py, test_informer.py).
"""

import asyncio
import contextlib
import json
import random

import pytest

from controller.cluster import changes
from controller.cluster.answers import Request
from controller.cluster.informer import Informer, Timing
from controller.cluster.kube import Kube
from controller.cluster.resources import WATCHED, Resource
from controller.cluster.store import ClusterStore
from controller.inventory import ref_of
from controller.ports import ConflictError, NotFoundError, Ref, UnavailableError, WatchEvent
from tests.support import clusters
from tests.support.kube_proxy import kube_proxy
from tests.support.kube_server import until
from tests.support.watched import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.cluster]

VS = next(resource for resource in WATCHED if resource.kind == "VirtualService")
QUICK = Timing(first_pause=0.02, longest_pause=0.1, absent_pause=0.2, confirm=0.1, short=0.0)


def virtual_service(name="ranker", weight=0):
    route = [
        {"destination": {"host": "ranker", "subset": "v1"}, "weight": 100 - weight},
        {"destination": {"host": "ranker", "subset": "v2"}, "weight": weight},
    ]
    spec = {"hosts": ["ranker"], "http": [{"name": "main", "route": route}]}
    return {"apiVersion": VS.api_version, "kind": VS.kind, "metadata": {"name": name}, "spec": spec}


def weight_to(weight, version=None):
    guard = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}] if version else []
    return [*guard, {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": weight}]


class Other:
    """Somebody else who writes."""

    def __init__(self, kube, namespace):
        self.kube, self.namespace = kube, namespace

    async def create(self, obj, resource=VS):
        return await self.kube.call(Request("create", resource, self.namespace), obj)

    async def patch(self, name, body, resource=VS):
        return await self.kube.call(Request("patch", resource, self.namespace, name), body)

    async def delete(self, name, resource=VS):
        await self.kube.call(Request("delete", resource, self.namespace, name))

    async def all(self, resource):
        return [
            resource.trim(each)
            async for page, _ in self.kube.pages(resource, self.namespace)
            for each in page
        ]


@pytest.fixture
async def other(cluster, namespace):
    kube = await Kube.open(cluster.kubeconfig)
    yield Other(kube, namespace)
    await kube.close()


@contextlib.asynccontextmanager
async def running(kubeconfig, namespaces=(), timing=QUICK):
    kube = await Kube.open(kubeconfig)
    store = ClusterStore(kube, namespaces, timing)
    store.start()
    try:
        yield store
    finally:
        await store.close()
        await kube.close()


def knows_all(store):
    with contextlib.suppress(UnavailableError):
        store.check()
        return True
    return False


@pytest.fixture
async def store(cluster, namespace):
    async with running(cluster.kubeconfig, [namespace]) as found:
        await until(lambda: knows_all(found))
        yield found


@pytest.fixture
def ref(namespace):
    return Ref("VirtualService", namespace, "ranker")


async def seen(store, ref):
    """Wait until the store has an object, and return it."""
    await until(lambda: store._find(ref) is not None)
    return await store.get(ref)


async def test_nothing_is_known_before_everything_was_read(cluster, namespace, ref):
    async with running(cluster.kubeconfig, [namespace]) as store:
        for asked in (
            store.list("RolloutPolicy"), store.get(ref), store.version(), store.changes(["Service"], "0"),
        ):  # fmt: skip
            with pytest.raises(UnavailableError, match="were not read yet"):
                await asked


async def test_after_the_first_read_everything_is_known(cluster, namespace):
    async with running(cluster.kubeconfig, [namespace]) as store:
        async with asyncio.timeout(PATIENCE):
            await store.first_read()
        assert await store.version() == "0"
        assert await store.list("VirtualService") == []


async def test_objects_are_listed_by_name_with_their_kind(store, other, namespace):
    for name in ("b", "a"):
        await other.create(virtual_service(name))
    await seen(store, Ref("VirtualService", namespace, "a"))
    found = await store.list("VirtualService")
    assert [(obj["kind"], obj["apiVersion"], obj["metadata"]["name"]) for obj in found] == [
        ("VirtualService", "networking.istio.io/v1", name) for name in "ab"
    ]
    assert await store.list("VirtualService", "elsewhere") == []
    assert await store.list("DestinationRule") == []


async def test_what_is_not_there_is_not_found(store, ref):
    with pytest.raises(NotFoundError, match=str(ref)):
        await store.get(ref)
    with pytest.raises(NotFoundError):
        await store.patch(ref, weight_to(5), manager="penstock")


async def test_a_patch_is_there_at_once_and_told_once(store, other, ref):
    await other.create(virtual_service())
    live = await seen(store, ref)
    since = await store.version()
    written = await store.patch(ref, weight_to(5, live["metadata"]["resourceVersion"]), manager="penstock")
    assert await store.get(ref) == written
    assert (written["kind"], written["spec"]["http"][0]["route"][1]["weight"]) == ("VirtualService", 5)
    assert "penstock" in {entry["manager"] for entry in written["metadata"]["managedFields"]}
    assert await store.changes(["VirtualService"], since) == (
        await store.version(), [WatchEvent("MODIFIED", written)],
    )  # fmt: skip
    await other.create(virtual_service("later"))
    await seen(store, ref._replace(name="later"))
    _, found = await store.changes(["VirtualService"], since)
    assert [event.object["metadata"]["name"] for event in found] == ["ranker", "later"]


async def test_a_patch_of_what_has_changed_is_a_conflict(store, other, ref):
    created = await other.create(virtual_service())
    await other.patch("ranker", weight_to(7))
    with pytest.raises(ConflictError):
        await store.patch(ref, weight_to(5, created["metadata"]["resourceVersion"]), manager="penstock")
    assert [obj["spec"]["http"][0]["route"][1]["weight"] for obj in await other.all(VS)] == [7]


async def test_a_patch_that_the_api_server_refuses_is_told_in_its_words(store, other, ref):
    await other.create(virtual_service())
    bad = [{"op": "replace", "path": "/spec/hosts", "value": 3}]
    with pytest.raises(UnavailableError, match=r"422.*spec.hosts in body must be of type array"):
        await store.patch(ref, bad, manager="penstock")


async def test_a_status_replaces_the_status_and_nothing_else(store, other, namespace):
    await other.create(virtual_service())
    ref = Ref("VirtualService", namespace, "ranker")
    live = await seen(store, ref)
    for status in ({"observedGeneration": 1, "conditions": []}, {"observedGeneration": 2}):
        version = live["metadata"]["resourceVersion"]
        live = await store.patch_status(ref, status, resource_version=version)
        assert live["status"] in (status, {"observedGeneration": str(status["observedGeneration"])})
    assert live["spec"] == virtual_service()["spec"]
    assert live["metadata"]["generation"] == 1
    with pytest.raises(ConflictError):
        await store.patch_status(ref, {}, resource_version=version)
    assert await store.get(ref) == live


async def test_a_watch_tells_of_what_others_do(store, other, namespace):
    found = []

    async def follow():
        async for event in store.watch(["VirtualService", "DestinationRule"]):
            found.append((event.type, event.object["metadata"]["name"]))  # noqa: PERF401 - it has no end

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await other.create(virtual_service())
    await other.patch("ranker", weight_to(9))
    await other.delete("ranker")
    await until(lambda: len(found) == 3)
    assert found == [("ADDED", "ranker"), ("MODIFIED", "ranker"), ("DELETED", "ranker")]
    following.cancel()
    assert await store.list("VirtualService") == []


async def test_a_watch_since_a_version_misses_nothing(store, other, ref):
    since = await store.version()
    await other.create(virtual_service())
    await seen(store, ref)
    async with asyncio.timeout(PATIENCE):
        async for event in store.watch(["VirtualService"], since):
            assert ref_of(event.object) == ref
            break


async def test_changes_that_are_forgotten_or_unknown_must_be_listed_again(
    cluster, namespace, other, monkeypatch
):
    monkeypatch.setattr(changes, "KEPT", 3)
    async with running(cluster.kubeconfig, [namespace]) as store:
        store._changes = changes.Changes(3)
        await until(lambda: knows_all(store))
        since = await store.version()
        for number in range(4):
            await other.create(virtual_service(f"v{number}"))
        await seen(store, Ref("VirtualService", namespace, "v3"))
        for unknown in (since, "9999999"):
            with pytest.raises(ConflictError, match="list again"):
                await store.changes(["VirtualService"], unknown)
        newest = str(int(await store.version()) - 3)
        assert len((await store.changes(["VirtualService"], newest))[1]) == 3


async def test_pods_are_read_by_their_labels(store, cluster, namespace):
    clusters.apply(cluster, clusters.deployment("ranker-v1", replicas=2), namespace=namespace)

    clusters.until(lambda: cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").count("pod/") == 2)
    found = await store.pods(namespace, {"app": "ranker"})
    assert len(found) == 2
    assert {(pod["kind"], pod["metadata"]["labels"]["version"]) for pod in found} == {("Pod", "v1")}
    assert await store.pods(namespace, {"app": "ranker", "version": "v2"}) == []
    deployment = await seen(store, Ref("Deployment", namespace, "ranker-v1"))
    assert deployment["spec"]["template"]["spec"]["containers"][0]["name"] == "model"
    assert "managedFields" not in deployment["metadata"]


async def test_events_are_counted_and_shown_by_kubectl(store, other, cluster, namespace, ref):
    await other.create(virtual_service())
    await seen(store, ref)
    for reason in ("Paused", "Paused", "Promoted"):
        await store.event(ref, "Normal", reason, "because")
    found = await store.events(ref)
    assert {event["reason"]: event["count"] for event in found} == {"Paused": 2, "Promoted": 1}
    assert found[0]["object"] == {"kind": "VirtualService", "namespace": namespace, "name": "ranker"}
    assert found == await store.events()
    assert len(await store.events(limit=1)) == 1
    assert await store.events(ref._replace(name="other")) == []
    told = cluster.kubectl("describe", "virtualservice", "ranker", "-n", namespace)
    assert "(x2 over" in told
    assert "penstock.dev/controller" in told


async def test_a_right_that_is_missing_is_told_and_the_rest_goes_on(cluster, namespace, other):
    cluster.kubectl("create", "serviceaccount", "weak", "-n", namespace)
    rules = [
        {"apiGroups": [each.group], "resources": [each.plural], "verbs": ["list", "watch"]}
        for each in WATCHED
        if each.kind != "StatefulSet"
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "weak"}}
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps({**role, "rules": rules}))
    account = f"--serviceaccount={namespace}:weak"
    cluster.kubectl("create", "rolebinding", "weak", "--role=weak", account, "-n", namespace)
    async with running(cluster.kubeconfig_for(namespace, "weak"), [namespace]) as store:
        await until(
            lambda: (
                [kind for (kind, _), each in store._informers.items() if not each.synced] == ["StatefulSet"]
            )
        )
        await until(lambda: store.problems)
        words = f"not allowed to list statefulsets.apps in namespace {namespace}"
        assert words in store.problems["statefulsets.apps"]
        with pytest.raises(UnavailableError, match=words):
            await store.version()
        assert await store.list("VirtualService") == []
        await other.create(virtual_service())
        live = await seen(store, Ref("VirtualService", namespace, "ranker"))
        with pytest.raises(UnavailableError, match="not allowed to patch virtualservices"):
            await store.patch(ref_of(live), weight_to(5), manager="penstock")
        with pytest.raises(UnavailableError, match="not allowed to create events"):
            await store.event(ref_of(live), "Normal", "Paused", "because")
        role["rules"] = [*rules, {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["list", "watch"]}]
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(role))
        await until(lambda: knows_all(store))


async def test_a_definition_that_goes_and_comes_back_takes_its_objects_with_it(
    cluster, other, namespace, tmp_path
):
    group = f"{namespace}.example.com"
    resource = Resource(group, "v1", "widgets", "Widget")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }  # fmt: skip
    written = tmp_path / "definition.json"
    written.write_text(json.dumps(definition))
    told = []
    informer = Informer(other.kube, resource, None, lambda event: told.append(event.type), QUICK)
    task = asyncio.create_task(informer.run())
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}}
    crd = f"crd/widgets.{group}"
    try:
        await until(lambda: informer.synced)
        assert "not installed" in informer.problem
        for round_ in (1, 2):
            await asyncio.to_thread(cluster.define, written)
            await until(lambda: not informer.problem)
            await other.create(widget, resource)
            await until(lambda: len(informer.objects) == 1)
            await asyncio.to_thread(cluster.kubectl, "delete", crd)
            await until(lambda: "not installed" in informer.problem)
            assert informer.objects == {}
            assert told == ["ADDED", "DELETED"] * round_
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(cluster.kubectl, "delete", crd, "--ignore-not-found")


NAMES = ("a", "b", "c")


async def meddle(rng, others, store, namespace):
    """Do one random thing, as somebody else or by the store."""
    name, weight = rng.choice(NAMES), rng.randint(0, 100)
    with contextlib.suppress(ConflictError, NotFoundError):
        match rng.randrange(5):
            case 0:
                await others.create(virtual_service(name))
            case 1:
                await others.delete(name)
            case 2 | 3:
                await others.patch(name, weight_to(weight))
            case 4:
                with contextlib.suppress(UnavailableError):  # its way was cut
                    await store.patch(Ref("VirtualService", namespace, name), weight_to(weight), manager="p")


def replay(mirror, events):
    """Apply changes as the inventory does; a version never goes back (changes share the newest one)."""
    for event in events:
        ref, version = ref_of(event.object), int(event.object["metadata"]["resourceVersion"])
        if event.type == "DELETED":
            del mirror[ref]
        else:
            assert (event.type == "ADDED") == (ref not in mirror)
            assert ref not in mirror or int(mirror[ref]["metadata"]["resourceVersion"]) <= version
            mirror[ref] = event.object


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_to_its_watches_the_mirror_ends_as_the_cluster_is(
    cluster, namespace, other, seed
):
    rng = random.Random(seed)
    with kube_proxy(cluster) as proxy:
        async with running(proxy.kubeconfig(cluster.kubeconfig), [namespace]) as store:
            await until(lambda: knows_all(store))
            since, mirror = await store.version(), {}
            spoils = [proxy.cut_watches, proxy.tear_watches, lambda: proxy.answer(410, match="watch"),
                      lambda: proxy.answer(500)]  # fmt: skip
            for _ in range(120):
                await meddle(rng, other, store, namespace)
                rng.choice([*[lambda: None] * len(spoils), *spoils])()
                await asyncio.sleep(rng.choice([0, 0, 0.02]))
            proxy.heal()
            fresh = {ref_of(obj): obj for obj in await other.all(VS)}
            held = store._informers["VirtualService", namespace].objects
            await until(lambda: {ref_of(obj): obj for obj in held.values()} == fresh)
            replay(mirror, (await store.changes(["VirtualService"], since))[1])
            assert mirror == fresh
