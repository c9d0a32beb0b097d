"""Traces by OpenTelemetry's usual variables, if its SDK is installed and a collector named; else nothing.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) turns traces on; `OTEL_SERVICE_NAME`,
`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_SDK_DISABLED` and the rest mean what they mean
everywhere. A look of the loop is a span; the queries and writes that it makes are its children.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingError(Exception):
    """Traces were asked for and cannot be sent; the text says what to install."""


class _Tracing:
    """Where spans go: nowhere, until `set_up` finds a collector."""

    start: Callable[..., AbstractContextManager[Any]] | None = None


def span(name: str, **attributes: str | float) -> AbstractContextManager[Any]:
    """Return a context that is recorded as a span, if traces are on."""
    return _Tracing.start(name, attributes=attributes) if _Tracing.start else nullcontext()


@contextmanager
def set_up(service: str) -> Iterator[bool]:
    """Turn traces on while the context lasts, if the environment asks for them; tell whether they are on.

    TracingError when it asks and the SDK is not installed.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS) or _disabled():
        yield False
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TracingError("traces need the extra `otel`: pip install 'penstock[otel]'") from error
    named = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service})
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _Tracing.start = provider.get_tracer("penstock").start_as_current_span
    try:
        yield True
    finally:
        _Tracing.start = None
        provider.shutdown()


def _disabled() -> bool:
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
