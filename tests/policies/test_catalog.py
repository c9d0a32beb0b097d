"""The templates that ship: they are right, and say what the mesh really exposes."""

import re
from importlib.resources import files

import pytest

from policies import catalog
from policies.parse import parse

LABELS = {
    "destination_service_namespace", "destination_service_name", "destination_version", "instance",
    "request_protocol", "response_code", "grpc_response_status", "le",
}  # fmt: skip


def sources():
    return [
        (entry.name, entry.read_text()) for entry in files(catalog).iterdir() if entry.name.endswith(".yaml")
    ]


def test_every_template_reads_without_findings_and_is_named_as_its_file():
    parsed = parse(sources())
    assert parsed.findings == []
    assert {loaded.document.file for loaded in parsed.templates} == {
        f"{name}.yaml" for name in catalog.templates()
    }


def test_the_catalog_is_read_once_and_cannot_be_changed():
    templates = catalog.templates()
    assert list(templates) == ["istio-error-rate", "istio-latency", "istio-request-share"]
    assert templates is catalog.templates()
    with pytest.raises(TypeError):
        templates["x"] = None


@pytest.mark.parametrize(
    "template", catalog.templates().values(), ids=lambda template: template.metadata.name
)
def test_a_query_serves_all_rollouts_from_the_clients_side_by_istios_labels(template):
    query = re.fullmatch(r'sum by \(([\w, ]+)\) \((istio_\w+)\{reporter="source"\}\)', template.spec.query)
    assert query is not None
    assert {label.strip() for label in query[1].split(",")} <= LABELS


@pytest.mark.parametrize(
    ("http", "event"),
    [("200", False), ("499", False), ("0", False), ("500", True), ("503", True), ("50", False)],
)
def test_http_5xx_is_an_event_and_a_client_that_left_is_none(http, event):
    outcome = catalog.templates()["istio-error-rate"].spec.outcome
    assert bool(re.fullmatch(outcome.http_event, http)) == event


def test_grpc_faults_of_the_server_are_events():
    outcome = catalog.templates()["istio-error-rate"].spec.outcome
    events = {code for code in range(17) if re.fullmatch(outcome.grpc_event, str(code))}
    assert events == {2, 4, 8, 12, 13, 14, 15}


def test_latency_is_judged_at_istios_own_buckets():
    buckets = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000]
    assert {float(edge) for edge in catalog.templates()["istio-latency"].spec.edges} <= set(buckets)
