"""The fields of VirtualService, DestinationRule and ServiceEntry (Istio v1), and what becomes of each.

A field is translated (a type), refused (valid for Istio, but standalone would have to ignore it) or inert
(harmless, but without effect here). One table per kind; `supported` holds objects against them.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from istio.envoy.durations import is_duration
from istio.envoy.policies import GRPC_STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar that is translated: what it must be, in words and as a test."""

    words: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Refused:
    """A field of Istio's that standalone cannot honour."""

    reason: str


@dataclass(frozen=True, slots=True)
class Inert:
    """A field of Istio's that changes nothing in standalone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping from any name to values of one schema."""

    of: Schema


Schema = Leaf | Refused | Inert | Map | dict[str, Any] | list[Any]
"""A message is a dict (a name ending in `!` is required), a list holds its items' schema."""


EXACTLY_ONE, AT_MOST_ONE = "|", "?"
"""Keys in a message for the names of fields that exclude one another."""


def only(*values: str) -> Leaf:
    """Return a leaf for a closed set of words, compared without case as istiod does for protocols."""
    allowed = frozenset(value.upper() for value in values)
    return Leaf("one of " + ", ".join(values), lambda v: isinstance(v, str) and v.upper() in allowed)


def _is_address(value: Any) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return isinstance(value, str) and bool(
            re.fullmatch(r"[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?", value)
        )
    return isinstance(value, str)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


STRING = Leaf("a string", lambda v: isinstance(v, str))
BOOL = Leaf("true or false", lambda v: isinstance(v, bool))
COUNT = Leaf("a whole number of at least 0", lambda v: _is_int(v) and 0 <= v < 2**32)
PORT = Leaf("a port, 1 to 65535", lambda v: _is_int(v) and 1 <= v <= 65535)
PERCENT = Leaf("a number from 0 to 100", lambda v: isinstance(v, (int, float)) and _in_percent(v))
DURATION = Leaf("a duration such as 5s or 250ms", is_duration)
HOST = Leaf("a host without wildcard", lambda v: isinstance(v, str) and bool(v) and "*" not in v)
ADDRESS = Leaf("an IP address or a DNS name", _is_address)


def _in_percent(value: float) -> bool:
    return not isinstance(value, bool) and 0 <= value <= 100


_NO_SOURCE = Refused("standalone's Envoy is one gateway: callers have no labels, namespace or subnet")
_NO_TLS = Refused("standalone talks plain text to the endpoints")

_STRING_MATCH: Schema = {
    "exact": STRING,
    "prefix": STRING,
    "regex": STRING,
    AT_MOST_ONE: ("exact", "prefix", "regex"),
}
_ORIGIN: Schema = {
    "exact": STRING,
    "prefix": STRING,
    "regex": STRING,
    EXACTLY_ONE: ("exact", "prefix", "regex"),
}
_PERCENTAGE: Schema = {"value": PERCENT}
_DESTINATION: Schema = {"host!": HOST, "subset": STRING, "port": {"number": PORT}}
_HEADER_CHANGES: Schema = {"set": Map(STRING), "add": Map(STRING), "remove": [STRING]}
_HEADERS: Schema = {"request": _HEADER_CHANGES, "response": _HEADER_CHANGES}
_MATCH: Schema = {
    "name": STRING,
    "uri": _STRING_MATCH,
    "scheme": _STRING_MATCH,
    "method": _STRING_MATCH,
    "authority": _STRING_MATCH,
    "headers": Map(_STRING_MATCH),
    "withoutHeaders": Map(_STRING_MATCH),
    "queryParams": Map(_STRING_MATCH),
    "port": PORT,
    "ignoreUriCase": BOOL,
    "statPrefix": STRING,
    "gateways": [only("mesh")],
    "sourceLabels": _NO_SOURCE,
    "sourceNamespace": _NO_SOURCE,
}
_HTTP: Schema = {
    "name": STRING,
    "match": [_MATCH],
    "route": [{"destination!": _DESTINATION, "weight": COUNT, "headers": _HEADERS}],
    "redirect": {
        "uri": STRING,
        "authority": STRING,
        "port": PORT,
        "derivePort": only("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"),
        "scheme": STRING,
        "redirectCode": Leaf("301, 302, 303, 307 or 308", lambda v: v in {301, 302, 303, 307, 308}),
    },
    "directResponse": {
        "status!": COUNT,
        "body": {"string": STRING, "bytes": STRING, EXACTLY_ONE: ("string", "bytes")},
    },
    "delegate": Refused("delegation is not translated; put the routes into one VirtualService"),
    "rewrite": {"uri": STRING, "authority": STRING, "uriRegexRewrite": {"match!": STRING, "rewrite": STRING}},
    "timeout": DURATION,
    "retries": {
        "attempts": Leaf("a whole number", _is_int),
        "perTryTimeout": DURATION,
        "retryOn": STRING,
        "retryRemoteLocalities": BOOL,
        "retryIgnorePreviousHosts": BOOL,
        "backoff": DURATION,
    },
    "fault": {
        "delay": {
            "fixedDelay!": DURATION,
            "percentage": _PERCENTAGE,
            "percent": COUNT,
            "exponentialDelay": Refused("istiod does not translate it either"),
        },
        "abort": {
            "httpStatus": COUNT,
            "grpcStatus": only(*GRPC_STATUS),
            EXACTLY_ONE: ("httpStatus", "grpcStatus", "http2Error"),
            "percentage": _PERCENTAGE,
            "http2Error": Refused("istiod does not translate it either"),
        },
    },
    "mirror": _DESTINATION,
    "mirrors": [{"destination!": _DESTINATION, "percentage": _PERCENTAGE}],
    "mirrorPercentage": _PERCENTAGE,
    "mirrorPercent": PERCENT,
    "mirror_percent": PERCENT,
    "corsPolicy": {
        "allowOrigins": [_ORIGIN],
        "allowOrigin": Refused("it is deprecated; use allowOrigins"),
        "allowMethods": [STRING],
        "allowHeaders": [STRING],
        "exposeHeaders": [STRING],
        "maxAge": DURATION,
        "allowCredentials": BOOL,
        "unmatchedPreflights": only("UNSPECIFIED", "FORWARD", "IGNORE"),
    },
    "headers": _HEADERS,
    EXACTLY_ONE: ("route", "redirect", "directResponse", "delegate"),
    AT_MOST_ONE: ("mirror", "mirrors"),
}
_L4_MATCH: dict[str, Any] = {
    "port": PORT,
    "gateways": [only("mesh")],
    "destinationSubnets": Refused("standalone's listeners have one address"),
    "sourceSubnet": _NO_SOURCE,
    "sourceLabels": _NO_SOURCE,
    "sourceNamespace": _NO_SOURCE,
}
_L4_ROUTE: Schema = [{"destination!": _DESTINATION, "weight": COUNT}]

_VIRTUAL_SERVICE: Schema = {
    "hosts!": [HOST],
    "gateways": [only("mesh")],
    "exportTo": [only("*", ".")],
    "http": [_HTTP],
    "tls": [{"name": STRING, "match!": [{**_L4_MATCH, "sniHosts!": [STRING]}], "route!": _L4_ROUTE}],
    "tcp": [{"name": STRING, "match": [_L4_MATCH], "route!": _L4_ROUTE}],
}

_TRAFFIC_POLICY: dict[str, Any] = {
    "connectionPool": {
        "tcp": {
            "maxConnections": COUNT,
            "connectTimeout": DURATION,
            "idleTimeout": DURATION,
            "maxConnectionDuration": DURATION,
            "tcpKeepalive": {"probes": COUNT, "time": DURATION, "interval": DURATION},
        },
        "http": {
            "http1MaxPendingRequests": COUNT,
            "http2MaxRequests": COUNT,
            "maxRequestsPerConnection": COUNT,
            "maxRetries": COUNT,
            "maxConcurrentStreams": COUNT,
            "idleTimeout": DURATION,
            "h2UpgradePolicy": only("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"),
            "useClientProtocol": BOOL,
        },
    },
    "loadBalancer": {
        "simple": only("UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"),
        "consistentHash": {
            "httpHeaderName": STRING,
            "httpCookie": {
                "name!": STRING,
                "path": STRING,
                "ttl": DURATION,
                "attributes": [{"name!": STRING, "value": STRING}],
            },
            "useSourceIp": BOOL,
            "httpQueryParameterName": STRING,
            "ringHash": {"minimumRingSize": COUNT},
            "maglev": {"tableSize": COUNT},
            "minimumRingSize": COUNT,
            EXACTLY_ONE: ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
            AT_MOST_ONE: ("ringHash", "maglev"),
        },
        "localityLbSetting": Refused("endpoints have no locality in standalone"),
        "warmup": Refused("slow start is not translated"),
        "warmupDurationSecs": Refused("slow start is not translated"),
    },
    "outlierDetection": {
        "consecutive5xxErrors": COUNT,
        "consecutiveGatewayErrors": COUNT,
        "consecutiveLocalOriginFailures": COUNT,
        "splitExternalLocalOriginErrors": BOOL,
        "interval": DURATION,
        "baseEjectionTime": DURATION,
        "maxEjectionPercent": PERCENT,
        "minHealthPercent": PERCENT,
        "consecutiveErrors": Refused("istiod does not translate it either; use consecutive5xxErrors"),
    },
    "tls": {
        "mode": only("DISABLE"),
        "sni": _NO_TLS,
        "caCertificates": _NO_TLS,
        "caCrl": _NO_TLS,
        "clientCertificate": _NO_TLS,
        "privateKey": _NO_TLS,
        "credentialName": _NO_TLS,
        "insecureSkipVerify": _NO_TLS,
        "subjectAltNames": _NO_TLS,
    },
}
_FULL_POLICY: Schema = {
    **_TRAFFIC_POLICY,
    "portLevelSettings": [{"port!": {"number!": PORT}, **_TRAFFIC_POLICY}],
    "retryBudget": {"percent": PERCENT, "minRetryConcurrency": COUNT},
    "tunnel": Refused("standalone does not tunnel"),
    "proxyProtocol": Refused("standalone does not send the PROXY header"),
}
_DESTINATION_RULE: Schema = {
    "host!": HOST,
    "trafficPolicy": _FULL_POLICY,
    "subsets": [{"name!": STRING, "labels": Map(STRING), "trafficPolicy": _FULL_POLICY}],
    "exportTo": [only("*", ".")],
    "workloadSelector": _NO_SOURCE,
}

_NO_WORKLOADS = Refused("standalone has no pods or WorkloadEntries; list the endpoints")
_SERVICE_ENTRY: Schema = {
    "hosts!": [HOST],
    "ports!": [
        {
            "number!": PORT,
            "name": STRING,
            "protocol!": only("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "HTTPS"),
            "targetPort": PORT,
        }
    ],
    "resolution!": only("STATIC", "DNS"),
    "endpoints": [
        {
            "address!": ADDRESS,
            "ports": Map(PORT),
            "labels": Map(STRING),
            "weight": COUNT,
            "network": Refused("standalone has one network"),
            "locality": Inert("standalone does not balance by locality"),
            "serviceAccount": Inert("standalone talks plain text"),
        }
    ],
    "location": only("MESH_EXTERNAL", "MESH_INTERNAL"),
    "exportTo": [only("*", ".")],
    "addresses": Inert("standalone listens on one address"),
    "subjectAltNames": Inert("standalone talks plain text"),
    "workloadSelector": _NO_WORKLOADS,
}

KINDS: Mapping[str, Schema] = {
    "VirtualService": _VIRTUAL_SERVICE,
    "DestinationRule": _DESTINATION_RULE,
    "ServiceEntry": _SERVICE_ENTRY,
}
"""The translated kinds with their supported fields."""
