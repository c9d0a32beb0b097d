"""Every field of VirtualService, DestinationRule and ServiceEntry, as the CRDs of Istio 1.29 declare them.

These tables are the API server's layer of the validation. Istio's reference:
https://istio.io/latest/docs/reference/config/networking/
"""

from __future__ import annotations

import math
from typing import Final

from istio.lint.schema import Base64, Flag, Items, Message, Number, Span, Table, Text

_TEXT: Final = Text()
_TEXTS: Final = Items(_TEXT)
_LABELS: Final = Table(_TEXT)
_INT32: Final = Number(-(2**31), 2**31 - 1)
_UINT32: Final = Number(0, 2**32 - 1)
_DOUBLE: Final = Number(whole=False)
_PERCENT: Final = Message({"value": _DOUBLE})
_PORT: Final = Message({"number": _UINT32})
_STRING_MATCH: Final = Message(
    {"exact": _TEXT, "prefix": _TEXT, "regex": _TEXT}, one_of=(("exact", "prefix", "regex"),)
)
_HEADER_CHANGES: Final = Message({"set": _LABELS, "add": _LABELS, "remove": _TEXTS})
_HEADERS: Final = Message({"request": _HEADER_CHANGES, "response": _HEADER_CHANGES})
_DESTINATION: Final = Message({"host": _TEXT, "subset": _TEXT, "port": _PORT}, required=("host",))

_HTTP_MATCH: Final = Message(
    {
        "name": _TEXT,
        "uri": _STRING_MATCH,
        "scheme": _STRING_MATCH,
        "method": _STRING_MATCH,
        "authority": _STRING_MATCH,
        "headers": Table(_STRING_MATCH),
        "withoutHeaders": Table(_STRING_MATCH),
        "queryParams": Table(_STRING_MATCH),
        "port": _UINT32,
        "sourceLabels": _LABELS,
        "sourceNamespace": _TEXT,
        "gateways": _TEXTS,
        "ignoreUriCase": Flag(),
        "statPrefix": _TEXT,
    }
)
_ABORT: Final = Message(
    {"httpStatus": _INT32, "grpcStatus": _TEXT, "http2Error": _TEXT, "percentage": _PERCENT},
    one_of=(("httpStatus", "grpcStatus", "http2Error"),),
)
_DELAY: Final = Message(
    {"fixedDelay": Span(), "exponentialDelay": Span(), "percent": _INT32, "percentage": _PERCENT},
    one_of=(("fixedDelay", "exponentialDelay"),),
)
_CORS: Final = Message(
    {
        "allowOrigin": _TEXTS,
        "allowOrigins": Items(_STRING_MATCH),
        "allowMethods": _TEXTS,
        "allowHeaders": _TEXTS,
        "exposeHeaders": _TEXTS,
        "allowCredentials": Flag(),
        "maxAge": Span(),
        "unmatchedPreflights": Text(among=("UNSPECIFIED", "FORWARD", "IGNORE")),
    }
)
_REDIRECT: Final = Message(
    {
        "uri": _TEXT,
        "authority": _TEXT,
        "scheme": _TEXT,
        "port": _UINT32,
        "derivePort": Text(among=("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")),
        "redirectCode": _UINT32,
    },
    one_of=(("port", "derivePort"),),
)
_DIRECT_RESPONSE: Final = Message(
    {
        "status": _UINT32,
        "body": Message({"string": _TEXT, "bytes": Base64()}, one_of=(("string", "bytes"),)),
    },
    required=("status",),
)
_RETRIES: Final = Message(
    {
        "attempts": _INT32,
        "perTryTimeout": Span(),
        "retryOn": _TEXT,
        "retryRemoteLocalities": Flag(),
        "retryIgnorePreviousHosts": Flag(),
        "backoff": Span(),
    }
)
_REWRITE: Final = Message(
    {"uri": _TEXT, "authority": _TEXT, "uriRegexRewrite": Message({"match": _TEXT, "rewrite": _TEXT})}
)
_HTTP_DESTINATION: Final = Message(
    {"destination": _DESTINATION, "weight": _INT32, "headers": _HEADERS}, required=("destination",)
)
_HTTP_ROUTE: Final = Message(
    {
        "name": _TEXT,
        "match": Items(_HTTP_MATCH),
        "route": Items(_HTTP_DESTINATION),
        "redirect": _REDIRECT,
        "directResponse": _DIRECT_RESPONSE,
        "delegate": Message({"name": _TEXT, "namespace": _TEXT}),
        "rewrite": _REWRITE,
        "timeout": Span(),
        "retries": _RETRIES,
        "fault": Message({"abort": _ABORT, "delay": _DELAY}),
        "mirror": _DESTINATION,
        "mirrors": Items(
            Message({"destination": _DESTINATION, "percentage": _PERCENT}, required=("destination",))
        ),
        "mirrorPercentage": _PERCENT,
        "mirrorPercent": _UINT32,
        "mirror_percent": _UINT32,
        "corsPolicy": _CORS,
        "headers": _HEADERS,
    }
)
_DESTINATIONS: Final = Items(
    Message({"destination": _DESTINATION, "weight": _INT32}, required=("destination",))
)
_TCP_MATCH: Final = Message(
    {
        "destinationSubnets": _TEXTS,
        "port": _UINT32,
        "sourceLabels": _LABELS,
        "gateways": _TEXTS,
        "sourceSubnet": _TEXT,
        "sourceNamespace": _TEXT,
    }
)
_TLS_MATCH: Final = Message(
    {
        "sniHosts": _TEXTS,
        "destinationSubnets": _TEXTS,
        "port": _UINT32,
        "sourceLabels": _LABELS,
        "gateways": _TEXTS,
        "sourceNamespace": _TEXT,
    },
    required=("sniHosts",),
)
VIRTUAL_SERVICE: Final = Message(
    {
        "hosts": _TEXTS,
        "gateways": _TEXTS,
        "http": Items(_HTTP_ROUTE),
        "tls": Items(Message({"match": Items(_TLS_MATCH), "route": _DESTINATIONS}, required=("match",))),
        "tcp": Items(Message({"match": Items(_TCP_MATCH), "route": _DESTINATIONS})),
        "exportTo": _TEXTS,
    }
)

_POOL: Final = Message(
    {
        "http": Message(
            {
                "h2UpgradePolicy": Text(among=("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")),
                "http1MaxPendingRequests": _INT32,
                "http2MaxRequests": _INT32,
                "maxRequestsPerConnection": _INT32,
                "maxRetries": _INT32,
                "maxConcurrentStreams": _INT32,
                "idleTimeout": Span(),
                "useClientProtocol": Flag(),
            }
        ),
        "tcp": Message(
            {
                "maxConnections": _INT32,
                "connectTimeout": Span(),
                "idleTimeout": Span(zero=True),
                "maxConnectionDuration": Span(),
                "tcpKeepalive": Message({"probes": _UINT32, "time": Span(), "interval": Span()}),
            }
        ),
    }
)
_COOKIE: Final = Message(
    {
        "name": _TEXT,
        "path": _TEXT,
        "ttl": Span(least=None, exact=False),
        "attributes": Items(Message({"name": _TEXT, "value": _TEXT}, required=("name",))),
    },
    required=("name",),
)
_CONSISTENT_HASH: Final = Message(
    {
        "httpHeaderName": _TEXT,
        "httpCookie": _COOKIE,
        "useSourceIp": Flag(),
        "httpQueryParameterName": _TEXT,
        "ringHash": Message({"minimumRingSize": Number(0, 2**64 - 1)}),
        "maglev": Message({"tableSize": Number(0, 2**64 - 1)}),
        "minimumRingSize": Number(0, 2**64 - 1),
    },
    one_of=(
        ("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"),
        ("ringHash", "maglev"),
    ),
)
_LOCALITY: Final = Message(
    {
        "distribute": Items(Message({"from": _TEXT, "to": Table(_UINT32)})),
        "failover": Items(Message({"from": _TEXT, "to": _TEXT})),
        "failoverPriority": _TEXTS,
        "enabled": Flag(),
    }
)
_WARMUP: Final = Message(
    {
        "duration": Span(),
        "minimumPercent": Number(0, 100, whole=False),
        "aggression": Number(0, math.inf, whole=False),
    },
    required=("duration",),
)
_SIMPLE: Final = Text(
    among=("UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST")
)
_BALANCER: Final = Message(
    {
        "simple": _SIMPLE,
        "consistentHash": _CONSISTENT_HASH,
        "localityLbSetting": _LOCALITY,
        "warmup": _WARMUP,
        "warmupDurationSecs": Span(exact=False),
    },
    one_of=(("simple", "consistentHash"),),
)
_OUTLIER: Final = Message(
    {
        "baseEjectionTime": Span(),
        "consecutive5xxErrors": _UINT32,
        "consecutiveErrors": _INT32,
        "consecutiveGatewayErrors": _UINT32,
        "consecutiveLocalOriginFailures": _UINT32,
        "interval": Span(),
        "maxEjectionPercent": _INT32,
        "minHealthPercent": _INT32,
        "splitExternalLocalOriginErrors": Flag(),
    }
)
_TLS: Final = Message(
    {
        "mode": Text(among=("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")),
        "caCertificates": _TEXT,
        "caCrl": _TEXT,
        "clientCertificate": _TEXT,
        "credentialName": _TEXT,
        "insecureSkipVerify": Flag(),
        "privateKey": _TEXT,
        "sni": _TEXT,
        "subjectAltNames": _TEXTS,
    }
)
_PER_PORT: Final = {
    "connectionPool": _POOL,
    "loadBalancer": _BALANCER,
    "outlierDetection": _OUTLIER,
    "tls": _TLS,
}
_TRAFFIC_POLICY: Final = Message(
    {
        **_PER_PORT,
        "portLevelSettings": Items(Message({"port": _PORT, **_PER_PORT}), most=4096),
        "proxyProtocol": Message({"version": Text(among=("V1", "V2"))}),
        "retryBudget": Message({"minRetryConcurrency": _UINT32, "percent": Number(0, 100, whole=False)}),
        "tunnel": Message(
            {"protocol": _TEXT, "targetHost": _TEXT, "targetPort": _UINT32},
            required=("targetHost", "targetPort"),
        ),
    }
)
_SUBSET: Final = Message(
    {"name": _TEXT, "labels": _LABELS, "trafficPolicy": _TRAFFIC_POLICY}, required=("name",)
)
DESTINATION_RULE: Final = Message(
    {
        "host": _TEXT,
        "trafficPolicy": _TRAFFIC_POLICY,
        "subsets": Items(_SUBSET),
        "exportTo": _TEXTS,
        "workloadSelector": Message({"matchLabels": Table(Text(longest=63), most=4096)}),
    },
    required=("host",),
)

_ENDPOINT: Final = Message(
    {
        "address": Text(longest=256),
        "labels": Table(_TEXT, most=256),
        "locality": Text(longest=2048),
        "network": Text(longest=2048),
        "ports": Table(_UINT32, most=128),
        "serviceAccount": Text(longest=253),
        "weight": _UINT32,
    }
)
_SERVICE_PORT: Final = Message(
    {"name": Text(longest=256), "number": _UINT32, "protocol": Text(longest=256), "targetPort": _UINT32},
    required=("number", "name"),
)
SERVICE_ENTRY: Final = Message(
    {
        "hosts": Items(_TEXT, least=1, most=256),
        "addresses": Items(Text(longest=64), most=256),
        "ports": Items(_SERVICE_PORT, most=256),
        "endpoints": Items(_ENDPOINT, most=4096),
        "resolution": Text(among=("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS")),
        "location": Text(among=("MESH_EXTERNAL", "MESH_INTERNAL")),
        "workloadSelector": Message({"labels": Table(Text(longest=63), most=256)}),
        "subjectAltNames": _TEXTS,
        "exportTo": _TEXTS,
    },
    required=("hosts",),
)

SPECS: Final = {
    "VirtualService": VIRTUAL_SERVICE,
    "DestinationRule": DESTINATION_RULE,
    "ServiceEntry": SERVICE_ENTRY,
}
"""The spec of each kind."""
