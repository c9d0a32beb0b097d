"""What Prometheus would answer about many services with two versions each, for benchmarks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

START, STEP = 1_700_000_000, 10
RATE = {"v1": 80, "v2": 20}
"""Requests per second of each version; 1 % are errors."""
RATE_LATER = {"v1": 60, "v2": 40}
"""The same at the next step."""
EDGES = ("5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "+Inf")
BELOW = (0.0, 0.1, 0.4, 0.7, 0.9, 0.97, 0.99, 1.0, 1.0, 1.0, 1.0, 1.0)
"""The share of requests below each edge."""
ERRORS, HARM = 0.01, 0.5
"""The share of errors, of a healthy version and of one that does harm."""
HARMFUL = "v2"

Kind = Literal["code", "le", ""]
"""By which label the requests of a version are told apart."""


def kind_of(query: str) -> Kind:
    """Return what a template asks for."""
    return "code" if "response_code" in query else "le" if "_bucket" in query else ""


def answer(
    kind: Kind, services: Iterable[str], instants: range, *, namespace: str = "default",
    harmed: Mapping[str, float] | None = None, moved: Mapping[str, float] | None = None,
) -> bytes:  # fmt: skip
    """Return the answer to a range query, as bytes.

    `harmed`: the services whose v2 fails half of its requests, and since when.
    `moved`: those that are at the next step, and since when.
    """
    result = []
    for service in services:
        since, moved_at = (harmed or {}).get(service), (moved or {}).get(service, math.inf)
        for version, rate in RATE.items():
            base = {
                "destination_service_namespace": namespace, "destination_service_name": service,
                "destination_version": version, "instance": "gateway",
            }  # fmt: skip
            more = RATE_LATER[version] - rate
            counts = [(at - START + 1000) * rate + max(0.0, at - moved_at) * more for at in instants]
            extra = [max(0.0, at - since) * rate if since and version == HARMFUL else 0.0 for at in instants]
            for labels, share, lost in _series(kind):
                pairs = zip(instants, counts, extra, strict=True)
                values = [[at, str(int(count * share + harm * lost))] for at, count, harm in pairs]
                result.append({"metric": base | labels, "values": values})
    return orjson.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def _series(kind: Kind) -> Iterator[tuple[dict[str, str], float, float]]:
    """Yield the labels of each series, its share of the requests, and how much harm adds to that."""
    if kind == "le":
        yield from (({"le": edge}, share, 0.0) for edge, share in zip(EDGES, BELOW, strict=True))
    elif kind == "code":
        more = HARM - ERRORS
        yield {"request_protocol": "http", "response_code": "200"}, 1 - ERRORS, -more
        yield {"request_protocol": "http", "response_code": "500"}, ERRORS, more
    else:
        yield {}, 1.0, 0.0
