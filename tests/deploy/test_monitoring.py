"""Alerts and dashboard: Prometheus understands them, and they ask for metrics that Penstock has.

The alerts are tried on made-up series (alerts_test.yaml): each on its trouble, none when all is well.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.telemetry import Telemetry
from tests.support.chart import CHART, objects

ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
OPERATOR = {each: {"enabled": True} for each in ("serviceMonitor", "prometheusRule", "dashboard")}


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def queries():
    """Return (panel, PromQL) of the dashboard, with its variables filled in as Grafana does."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(namespace|policy)", ".*", target["expr"])


def promtool_says(promtool, *arguments, cwd=None):
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def exposed():
    """Return the names that a query may use, with the labels they have."""
    telemetry = Telemetry()
    names = {}
    for collector, base in telemetry.registry._collector_to_names.items():
        for name in base:
            names[name] = set(collector._labelnames)
    return names | {metric.name: set(metric.labels) for metric in telemetry.of_rollouts()}


def metrics_of(promql):
    """Return (metric, labels it is chosen or grouped by) of a query."""
    for name, selector in re.findall(r"\b(penstock_\w+)(?:\{([^}]*)\})?", promql):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector or ""))


def test_prometheus_understands_the_alerts(promtool):
    status, words = promtool_says(promtool, "check", "rules", str(ALERTS))
    assert status == 0, words
    assert f"{len(rules())} rules found" in words


def test_each_alert_fires_on_its_trouble_and_is_silent_otherwise(promtool, tmp_path):
    shutil.copy(ALERTS, tmp_path / "alerts.yaml")
    shutil.copy(Path(__file__).with_name("alerts_test.yaml"), tmp_path)
    status, words = promtool_says(promtool, "test", "rules", "alerts_test.yaml", cwd=tmp_path)
    assert status == 0, words


def test_every_alert_is_tried():
    tried = Path(__file__).with_name("alerts_test.yaml").read_text()
    assert [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in tried] == []


def test_every_alert_says_what_it_means_and_how_bad_it_is():
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_prometheus_understands_every_query_of_the_dashboard(promtool, tmp_path):
    made = [
        {"record": f"panel:{number}", "expr": promql} for number, (_, promql) in enumerate(queries(), start=1)
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}))
    status, words = promtool_says(promtool, "check", "rules", str(tmp_path / "rules.yaml"))
    assert status == 0, words


@pytest.mark.parametrize(
    ("where", "promql"),
    [*queries(), *((rule["alert"], rule["expr"]) for rule in rules())],
)
def test_what_is_asked_for_exists(where, promql):
    known = exposed()
    asked = list(metrics_of(promql))
    assert asked, promql
    for name, labels in asked:
        base = re.sub(r"_bucket$", "", name)
        assert name in known or base in known, name
        assert labels <= known.get(name, known.get(base)) | {"namespace", "job", "instance"}, (name, labels)


def test_the_decisions_that_are_asked_for_are_ones_that_penstock_takes():
    source = "".join(path.read_text() for path in (CHART.parents[1] / "controller").glob("*.py"))
    text = ALERTS.read_text() + DASHBOARD.read_text()
    asked = {word for found in re.findall(r'action=~?\\?"([\w|]+)', text) for word in found.split("|")}
    assert asked == {"Correct", "Adopt", "RollBack"}
    assert [action for action in asked if f'"{action}"' not in source] == []


def test_panels_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.cluster
def test_the_chart_hands_them_on_as_they_are(helm):
    made = {obj["kind"]: obj for obj in objects(helm, "there", monitoring=OPERATOR)}
    assert made["PrometheusRule"]["spec"] == yaml.safe_load(ALERTS.read_text())
    assert json.loads(made["ConfigMap"]["data"]["penstock.json"]) == json.loads(DASHBOARD.read_text())
    monitor, service = made["ServiceMonitor"]["spec"], made["Service"]
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
