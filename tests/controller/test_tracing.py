"""Traces against a small OTLP receiver on loopback."""

import asyncio
import sys

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from controller import tracing
from tests.support.web_server import web_server


@pytest.fixture
def no_variables(monkeypatch):
    for name in (*tracing.ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_collector_nothing_is_traced(no_variables):
    with tracing.set_up("penstock") as on, tracing.span("look") as span:
        assert not on
        assert span is None


def test_traces_can_be_turned_off_while_a_collector_is_named(no_variables):
    no_variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    no_variables.setenv("OTEL_SDK_DISABLED", "true")
    with tracing.set_up("penstock") as on:
        assert not on


def test_a_missing_sdk_is_an_error_that_says_what_to_install(no_variables):
    no_variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    no_variables.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(tracing.TracingError, match="penstock\\[otel\\]"), tracing.set_up("penstock"):
        pass


async def test_spans_reach_the_collector_with_their_parent_and_their_attributes(no_variables):
    received = []

    async def take(request):
        received.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    async with web_server(app) as port:
        no_variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")

        def trace():
            with tracing.set_up("penstock") as on:
                assert on
                with tracing.span("look", look="7"), tracing.span("prometheus.query_range"):
                    pass

        await asyncio.to_thread(trace)
    (resource,) = received[0].resource_spans
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "penstock"
    query, look = resource.scope_spans[0].spans
    assert (look.name, query.name, query.parent_span_id) == ("look", "prometheus.query_range", look.span_id)
    assert look.attributes[0].value.string_value == "7"
