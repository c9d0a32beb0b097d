"""istiod's own routes and clusters against the standalone translation of the same objects.

All scenes of the corpus that standalone accepts are applied to a real API server at once. A real istiod then
tells a real Envoy, as a sidecar, what to run; another Envoy runs the translation. Both config dumps are
brought into one normal form (tests.support.envoy_dumps) and compared field by field. What differs is listed
with its reason in tests/corpus/istio/differences.yaml, and nothing else may.
"""

import json
import time

import pytest

from controller.standalone.listening import pick_port
from istio.envoy.bootstrap import static
from istio.envoy.translate import Options, translate
from policies.findings import errors
from tests.support.envoy_dumps import admin_on, differences, envoy, normal, sidecar
from tests.support.oracle_corpus import fits, scenes, table, tell

NAMESPACES = ("shop", "shop-models")
KINDS = "virtualservices,destinationrules,serviceentries"
PATIENCE_S = 180
PROXY = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Sidecar",
    "metadata": {"name": "oracle", "namespace": "shop"},
    "spec": {
        "workloadSelector": {"labels": {"app": "oracle"}},
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
        "egress": [{"hosts": ["./*", "shop-models/*"]}],
    },
}
"""The sidecar sees the corpus and nothing of other tests; hosts that nobody knows get 502 there too."""


def refusals():
    """Return the codes by which standalone refuses scenes, by scene."""
    found = {name: errors(translate(scene.objects).findings) for name, scene in scenes().items()}
    return {name: sorted({finding.code for finding in codes}) for name, codes in found.items() if codes}


def test_standalone_refuses_the_listed_scenes_and_no_others():
    listed = {entry["scene"]: entry["codes"] for entry in table("differences")["refused"]}
    assert refusals() == listed


@pytest.fixture(scope="module")
def applied(corpus_cluster):
    """Apply the scenes that standalone accepts; yield them as the API server has them."""
    refused = refusals()
    objects = [obj for name, scene in scenes().items() if name not in refused for obj in scene.objects]
    cluster = corpus_cluster
    listed = {"apiVersion": "v1", "kind": "List", "items": [PROXY, *objects]}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(listed))
    stored = [
        item
        for namespace in NAMESPACES
        for item in json.loads(cluster.kubectl("get", KINDS, "-n", namespace, "-o", "json"))["items"]
    ]
    assert len(stored) == len(objects)
    yield stored
    for namespace in NAMESPACES:
        cluster.kubectl("delete", f"{KINDS},sidecars", "--all", "--wait=false", "-n", namespace)


@pytest.fixture(scope="module")
def standalone(applied, tmp_path_factory):
    """Return what an Envoy runs that was given the translation."""
    numbers = {p["number"] for obj in applied for p in obj["spec"].get("ports", ())}
    made = translate(applied, Options(publish={number: pick_port() for number in numbers}))
    assert errors(made.findings) == []
    admin = pick_port()
    config = {**static(made.clusters, made.listeners, made.routes), "admin": admin_on(admin)}
    with envoy(tmp_path_factory.mktemp("standalone"), config, admin) as dump:
        return normal(dump())


@pytest.fixture(scope="module")
def judged(cluster, standalone, tmp_path_factory):
    """Compare with a sidecar until istiod has told it everything; yield what was found, however it ends."""
    admin = pick_port()
    config = sidecar("shop", cluster.ports.istiod_xds, admin)
    deadline = time.monotonic() + PATIENCE_S
    with envoy(tmp_path_factory.mktemp("sidecar"), config, admin) as dump:
        while True:
            istiod = normal(dump())
            found = Judgement(istiod, standalone)
            if found.complete() or time.monotonic() > deadline:
                return found
            time.sleep(0.2)


class Judgement:
    """The differences of two normal forms held against the table."""

    def __init__(self, istiod, standalone):
        self.items = istiod.keys() | standalone.keys()
        self.found = differences(istiod, standalone)
        self.listed = table("differences")["differences"]

    def unexplained(self):
        return [d for d in self.found if not any(explains(entry, d) for entry in self.listed)]

    def stale(self):
        return [e["place"] for e in self.listed if not any(explains(e, d) for d in self.found)]

    def complete(self):
        return not self.unexplained() and not self.stale()


def explains(entry, difference):
    sides = {"istiod": difference.istiod, "standalone": difference.standalone}
    return fits(entry["place"], difference.place) and all(
        entry[side] == value for side, value in sides.items() if side in entry
    )


@pytest.mark.real
@pytest.mark.cluster
def test_istiod_and_the_translation_make_the_same_of_the_corpus(judged, applied, capsys):
    different = {difference.item for difference in judged.found}
    tell(
        capsys,
        f"translation: {len(applied)} objects, {len(judged.items)} routes, clusters and listeners: "
        f"{len(judged.items - different)} identical, {len(different)} with explained differences",
    )
    assert [str(difference) for difference in judged.unexplained()] == []


@pytest.mark.real
@pytest.mark.cluster
def test_every_listed_difference_still_occurs(judged):
    assert judged.stale() == []
