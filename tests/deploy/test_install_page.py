"""docs/install.md says what is so: its table of rights, its values, its warnings of server-side apply."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from cluster.build import ensure_built
from controller.cli import app
from tests.support.chart import CHART, objects

PAGE = (Path(__file__).parents[2] / "docs" / "install.md").read_text()
MINE, FLUX = "penstock", "kustomize-controller"
HTTP = [
    {
        "name": "primary",
        "route": [
            {"destination": {"host": "ranker", "subset": "v1"}, "weight": 100},
            {"destination": {"host": "ranker", "subset": "v2"}, "weight": 0},
        ],
    }
]


def granted(helm):
    """Return resource -> verbs of the chart's ClusterRole."""
    (role,) = [
        obj
        for obj in objects(helm, "there")
        if (obj["kind"], obj["metadata"]["name"]) == ("ClusterRole", "penstock")
    ]
    found = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            name, slash, sub = resource.partition("/")
            group = rule["apiGroups"][0]
            key = f"{name}{'.' + group if group else ''}{slash}{sub}"
            found.setdefault(key, set()).update(rule["verbs"])
    return found


@pytest.mark.cluster
def test_the_table_of_rights_is_the_charts(helm):
    rows = re.findall(r"^\| `([\w./]+)` \| ([a-z ]+) \|", PAGE, re.MULTILINE)
    assert {resource: set(verbs.split()) for resource, verbs in rows} == granted(helm)


def test_every_value_that_is_named_exists():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"`([a-z]\w+(?:\.\w+)+)(?::|`)", PAGE):
        top, *rest = path.split(".")
        if top not in values:
            continue  # of a policy, or of another tool
        place = values[top]
        for name in rest:
            assert name in place, path
            place = place[name]


def blocks(word):
    """Return the page's YAML that begins with a word."""
    return [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith(word)]


@pytest.mark.cluster
@pytest.mark.parametrize("text", blocks("prometheus:"))
def test_the_values_for_a_guarded_prometheus_are_taken_by_the_chart_and_by_penstock(helm, text):
    made = objects(helm, "penstock", **yaml.safe_load(text))
    (deployment,) = [obj for obj in made if obj["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    mounts.append("/var/run/secrets/kubernetes.io/serviceaccount")
    options = {option for each in get_command(app).commands["run"].params for option in each.opts}
    named = {argument.partition("=")[0] for argument in container["args"][1:]}
    assert named <= options
    files = [each.partition("=")[2] for each in container["args"] if "-file=" in each]
    files += [each["value"] for each in container["env"] if each["name"].endswith("_FILE")]
    assert all(any(file.startswith(f"{mount}/") for mount in mounts) for file in files)
    assert "PENSTOCK_PROMETHEUS_URL" in {each["name"] for each in container["env"]}


def test_the_options_for_a_guarded_prometheus_are_all_on_the_page():
    options = {
        option: each.envvar for each in get_command(app).commands["run"].params for option in each.opts
    }
    for option, variable in options.items():
        if option.startswith("--prometheus-"):
            assert f"`{option} " in PAGE
            assert not variable or f"{variable.removeprefix('PENSTOCK_PROMETHEUS')}`" in PAGE


class VirtualService:
    """A VirtualService that several tools write."""

    def __init__(self, cluster, namespace):
        self._cluster, self._namespace = cluster, namespace

    def apply(self, http, manager=FLUX):
        spec = {"hosts": ["ranker"], **({"http": http} if http else {})}
        obj = {
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "ranker", "namespace": self._namespace}, "spec": spec,
        }  # fmt: skip
        self._cluster.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            f"--field-manager={manager}",
            "-f",
            "-",
            stdin=json.dumps(obj),
        )

    def shift(self, weight):
        paths = {"/spec/http/0/route/0/weight": 100 - weight, "/spec/http/0/route/1/weight": weight}
        patch = [{"op": "replace", "path": path, "value": value} for path, value in paths.items()]
        self._cluster.kubectl(
            "patch", "virtualservice.networking.istio.io", "ranker", "-n", self._namespace, "--type=json",
            f"--field-manager={MINE}", "-p", json.dumps(patch),
        )  # fmt: skip

    @property
    def weights(self):
        got = self._cluster.kubectl(
            "get", "virtualservice.networking.istio.io", "ranker", "-n", self._namespace, "-o", "json"
        )
        http = json.loads(got)["spec"].get("http")
        return http and [route.get("weight") for route in http[0]["route"]]


@pytest.mark.real
@pytest.mark.cluster
def test_what_the_page_says_of_owners_is_so(cluster, namespace):
    route = VirtualService(cluster, namespace)
    route.apply(HTTP)
    route.apply(None)  # `/spec/http` ignored before Penstock has written
    assert route.weights is None
    route.apply(HTTP)
    route.shift(10)
    route.apply(None)  # and after
    assert route.weights == [90, 10]
    route.apply(HTTP)  # no setting at all
    assert route.weights == [100, 0]
    route.shift(10)
    bare = [{**HTTP[0], "route": [{"destination": each["destination"]} for each in HTTP[0]["route"]]}]
    route.apply(bare)  # single weights ignored
    assert route.weights == [None, None]


@pytest.mark.cluster
def test_the_overlay_of_the_page_says_where_image_and_prometheus_are(tmp_path):
    (block,) = [
        text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "kind: Kustomization" in text
    ]
    base = os.path.relpath(CHART.parent / "kustomize", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(block.replace("../penstock/deploy/kustomize", base))
    kubectl = ensure_built().binary("kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    (deployment,) = [obj for obj in yaml.safe_load_all(built) if obj["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "penstock-image:0.1.0"
    urls = [each["value"] for each in container["env"] if each["name"] == "PENSTOCK_PROMETHEUS_URL"]
    assert urls == ["http://prometheus.monitoring:9090"]
