"""The parts of an http route that stand alone: fault, retries, redirect, direct response, rewrite, CORS."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from istio.lint.duration import SECOND, nanoseconds
from istio.lint.headers import check_cors_name
from istio.lint.matches import check_regex, check_string
from istio.lint.shared import check_port
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

_RETRY_ON: Final = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
_HTTP_STATUSES: Final = frozenset(HTTPStatus)
_GRPC_STATUSES: Final = frozenset(
    {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    }
)
_CORS_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"}
)
_KIB: Final = 1024


def check_percent(value: float, path: str, *, least: float = 0.0) -> Iterator[Finding]:
    """Check a percentage: 0, or from `least` to 100."""
    if not 0 <= value <= 100 or 0 < value < least:
        allowed = f"0, or {least:g} to 100" if least else "0 to 100"
        yield problem("PS130", path, "percentage out of range", found=value, allowed=allowed)


def _check_fault(fault: dict[str, Any], path: str) -> Iterator[Finding]:
    if "abort" not in fault and "delay" not in fault:
        yield problem("PS147", path, "HTTP fault injection must have an abort and/or a delay")
    for name in ("abort", "delay"):
        value = fault.get(name, {}).get("percentage", {}).get("value", 0)
        yield from check_percent(value, f"{child(path, name)}.percentage.value", least=0.0001)
    if "abort" in fault:
        yield from _check_abort(fault["abort"], child(path, "abort"))
    if "exponentialDelay" in fault.get("delay", {}):
        yield problem("PS147", f"{path}.delay.exponentialDelay", "exponentialDelay not supported yet")


def _check_abort(abort: dict[str, Any], path: str) -> Iterator[Finding]:
    if "http2Error" in abort:
        yield problem("PS147", child(path, "http2Error"), "HTTP/2 abort fault injection not supported yet")
    elif "httpStatus" in abort:
        yield from _check_status(abort["httpStatus"], child(path, "httpStatus"))
    elif "grpcStatus" not in abort:
        yield problem("PS148", path, "abort configured, but error type not set")
    elif abort["grpcStatus"] not in _GRPC_STATUSES:
        message = "gRPC status is not supported"
        yield problem(
            "PS142", child(path, "grpcStatus"), message, found=abort["grpcStatus"], allowed="e.g. NOT_FOUND"
        )


def _check_status(status: float, path: str) -> Iterator[Finding]:
    if not 200 <= status <= 600:
        yield problem("PS142", path, "not an HTTP status", found=status, allowed="200 to 599")


def _check_retries(retries: dict[str, Any], path: str) -> Iterator[Finding]:
    attempts = retries.get("attempts", 0)
    if attempts < 0:
        yield problem("PS140", child(path, "attempts"), "attempts cannot be negative", found=attempts)
    tuned = [
        name
        for name in ("perTryTimeout", "retryOn", "retryRemoteLocalities")
        if retries.get(name) not in (None, "")
    ]
    if attempts == 0 and tuned:
        yield problem(
            "PS140", path, f"retry policy configured when attempts are set to 0: {', '.join(tuned)}"
        )
    for token in retries["retryOn"].split(",") if retries.get("retryOn") else ():
        number = re.fullmatch(r"\+?0*[0-9]{3}", token)
        if not (number and int(token) in _HTTP_STATUSES) and token not in _RETRY_ON:
            yield problem("PS140", child(path, "retryOn"), f'"{token}" is not a valid retryOn policy')


def _check_redirect(redirect: dict[str, Any], path: str) -> Iterator[Finding]:
    if not any(
        redirect.get(name) not in (None, "") for name in ("uri", "authority", "scheme", "port", "derivePort")
    ):
        yield problem("PS141", path, "redirect must specify URI, authority, scheme, or port")
    code = redirect.get("redirectCode", 0)
    if code and not 300 <= code <= 399:
        yield problem(
            "PS141", child(path, "redirectCode"), "not a redirect code", found=code, allowed="300 to 399"
        )
    if redirect.get("scheme", "") not in {"", "http", "https"}:
        scheme = redirect["scheme"]
        yield problem(
            "PS141", child(path, "scheme"), "invalid redirect scheme", found=scheme, allowed="http, https"
        )
    if redirect.get("port"):
        yield from check_port(redirect["port"], child(path, "port"))


def _check_direct_response(response: dict[str, Any], path: str) -> Iterator[Finding]:
    if "status" in response:
        yield from _check_status(response["status"], child(path, "status"))
    body = response.get("body", {})
    size = len(body["bytes"]) * 3 // 4 if "bytes" in body else len(body.get("string", "").encode())
    message = "large direct responses may impact control plane performance"
    if size > _KIB * _KIB:
        yield problem("PS143", child(path, "body"), message, found=f"{size} bytes", allowed="1 MiB")
    elif size > 100 * _KIB:
        yield problem("PS144", child(path, "body"), message, found=f"{size} bytes", allowed="100 KiB")


def _check_rewrite(rewrite: dict[str, Any], path: str) -> Iterator[Finding]:
    regex = rewrite.get("uriRegexRewrite")
    if rewrite.get("uri") and regex is not None:
        yield problem("PS145", path, "rewrite may only contain one of uri or uriRegexRewrite")
    elif regex is None and not rewrite.get("uri") and not rewrite.get("authority"):
        yield problem("PS145", path, "rewrite must specify at least one of uri, uriRegexRewrite or authority")
    elif regex is not None and not (regex.get("match") and regex.get("rewrite")):
        yield problem(
            "PS145", child(path, "uriRegexRewrite"), "uriRegexRewrite requires both match and rewrite"
        )
    elif regex is not None:
        yield from check_regex(regex["match"], f"{path}.uriRegexRewrite.match")


def _check_cors(policy: dict[str, Any], path: str) -> Iterator[Finding]:
    for index, origin in enumerate(policy.get("allowOrigins", ())):
        spot = child(child(path, "allowOrigins"), index)
        if any(origin.values()):
            yield from check_string(origin, spot)
        else:
            yield problem("PS146", spot, "allowed origin must not be empty", allowed="exact, prefix or regex")
    for index, method in enumerate(policy.get("allowMethods", ())):
        if method not in _CORS_METHODS:
            yield problem(
                "PS146",
                child(child(path, "allowMethods"), index),
                f'"{method}" is not a supported HTTP method',
            )
    for name in ("allowHeaders", "exposeHeaders"):
        for index, header in enumerate(policy.get(name, ())):
            yield from check_cors_name(header, child(child(path, name), index))
    if "maxAge" in policy and _has_fraction(policy["maxAge"]):
        message = "maxAge is accurate only to seconds precision"
        yield problem("PS146", child(path, "maxAge"), message, found=policy["maxAge"])


def _has_fraction(duration: str) -> bool:
    try:
        return nanoseconds(duration) % SECOND != 0
    except ValueError:  # the schema has said so already
        return False


PARTS: Final = {
    "corsPolicy": _check_cors,
    "fault": _check_fault,
    "redirect": _check_redirect,
    "directResponse": _check_direct_response,
    "retries": _check_retries,
    "rewrite": _check_rewrite,
}
"""The check of each part, by its field in the route."""
