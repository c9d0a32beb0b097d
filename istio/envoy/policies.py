"""What happens to a request besides its destination: timeouts, retries, mirrors, faults, CORS and hashing.

Values and defaults are istiod's (pilot/pkg/networking/core/route), which differ from Envoy's own: no timeout,
two retries on failed connections.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from istio.envoy.durations import proto, seconds
from istio.envoy.matches import string_match

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
_TYPE = "type.googleapis.com/envoy.extensions"
FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"
_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_PREVIOUS_HOSTS: Json = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {"@type": f"{_TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
}
_PREVIOUS_PRIORITIES: Json = {
    "name": "envoy.retry_priorities.previous_priorities",
    "typed_config": {
        "@type": f"{_TYPE}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "update_frequency": 2,
    },
}
GRPC_STATUS = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
"""The gRPC specification's status codes by name."""


def timeouts(timeout: str | None) -> Json:
    """Return the route's timeouts: none by default, unlike Envoy's 15 s."""
    length = proto(timeout or "0s")
    return {"timeout": length, "max_grpc_timeout": length}


def retry_policy(retries: Mapping[str, Any] | None, *, hashed: bool = False) -> Json | None:
    """Return the retry policy; `hashed` destinations may be retried on the same host. None: no retries."""
    retries = {"attempts": 2} if retries is None else retries
    if retries.get("attempts", 0) <= 0:
        return None
    retry_on, codes = _retry_on(retries.get("retryOn", ""))
    out: Json = {
        "num_retries": retries["attempts"],
        "retry_on": retry_on or _RETRY_ON,
        "host_selection_retry_max_attempts": "5",
    }
    if codes:
        out["retriable_status_codes"] = codes
    if retries.get("retryIgnorePreviousHosts", not hashed):
        out["retry_host_predicate"] = [_PREVIOUS_HOSTS]
    if retries.get("retryRemoteLocalities"):
        out["retry_priority"] = _PREVIOUS_PRIORITIES
    if "perTryTimeout" in retries:
        out["per_try_timeout"] = proto(retries["perTryTimeout"])
    if "backoff" in retries:
        out["retry_back_off"] = {"base_interval": proto(retries["backoff"])}
    return out


def _retry_on(text: str) -> tuple[str, list[int]]:
    """Split conditions from status codes; codes need the condition that makes Envoy look at them."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    codes = [int(word) for word in words if _is_status(word)]
    conditions = [word for word in words if not _is_status(word)]
    if codes and "retriable-status-codes" not in conditions:
        conditions.append("retriable-status-codes")
    return ",".join(conditions), codes


def _is_status(word: str) -> bool:
    return word.isdecimal() and int(word) in {status.value for status in HTTPStatus}


def fraction(percentage: Mapping[str, float] | None, percent: float | None = None) -> Json:
    """Return a share of requests as istiod rounds it: down to a ten-thousandth of a per cent; default all."""
    if percentage is not None:
        return {"numerator": int(percentage.get("value", 0) * 10_000), "denominator": "MILLION"}
    return {"numerator": 100 if percent is None else int(percent), "denominator": "HUNDRED"}


def mirror_policy(cluster: str, share: Json) -> Json | None:
    """Return the copying of a share of requests to `cluster`; None for no share."""
    if not share["numerator"]:
        return None
    return {
        "cluster": cluster,
        "runtime_fraction": {"default_value": share},
        "trace_sampled": False,
        "disable_shadow_host_suffix_append": True,
    }


def fault(fault: Mapping[str, Any]) -> Json:
    """Return the per-route configuration of the fault filter."""
    out: Json = {"@type": f"{_TYPE}.filters.http.fault.v3.HTTPFault"}
    if delay := fault.get("delay"):
        # without a percentage istiod takes the deprecated integer, whose default is 0
        share = fraction(delay.get("percentage"), delay.get("percent", 0))
        out["delay"] = {"fixed_delay": proto(delay["fixedDelay"]), "percentage": share}
    if abort := fault.get("abort"):
        # without a percentage there is none, and so no abort
        share = {"percentage": fraction(abort["percentage"])} if "percentage" in abort else {}
        out["abort"] = {**share, **_abort_status(abort)}
    return out


def _abort_status(abort: Mapping[str, Any]) -> Json:
    if "grpcStatus" in abort:
        return {"grpc_status": GRPC_STATUS[abort["grpcStatus"]]}
    return {"http_status": abort["httpStatus"]}


def cors(policy: Mapping[str, Any]) -> Json:
    """Return the per-route configuration of the CORS filter."""
    out: Json = {
        "@type": f"{_TYPE}.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [string_match(how) for how in policy.get("allowOrigins", ())],
        "allow_methods": ",".join(policy.get("allowMethods", ())),
        "allow_headers": ",".join(policy.get("allowHeaders", ())),
        "expose_headers": ",".join(policy.get("exposeHeaders", ())),
        "forward_not_matching_preflights": policy.get("unmatchedPreflights") != "IGNORE",
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
    }
    if "maxAge" in policy:
        out["max_age"] = str(int(seconds(policy["maxAge"])))
    if "allowCredentials" in policy:
        out["allow_credentials"] = policy["allowCredentials"]
    return out


def hash_policy(consistent_hash: Mapping[str, Any] | None) -> Json | None:
    """Return what a route hashes for destinations whose load balancer is a consistent hash."""
    match consistent_hash or {}:
        case {"httpHeaderName": name}:
            return {"header": {"header_name": name}}
        case {"httpCookie": cookie}:
            return {"cookie": _cookie(cookie)}
        case {"useSourceIp": by_source}:
            return {"connection_properties": {"source_ip": by_source}}
        case {"httpQueryParameterName": name}:
            return {"query_parameter": {"name": name}}
    return None


def _cookie(cookie: Mapping[str, Any]) -> Json:
    out: Json = {"name": cookie["name"]}
    if "ttl" in cookie:
        out["ttl"] = proto(cookie["ttl"])
    if cookie.get("path"):
        out["path"] = cookie["path"]
    if cookie.get("attributes"):
        out["attributes"] = [
            {"name": item["name"], "value": item.get("value", "")} for item in cookie["attributes"]
        ]
    return out
