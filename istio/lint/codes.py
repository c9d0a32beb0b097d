"""Every code that `istio.lint` can report: one meaning each, stable for ever.

`PSx01` stands for PS101, PS201 and PS301: rules that all three kinds share carry an `x` until `lint_object`
puts the kind's digit in its place. Errors are what the API server (its OpenAPI schema and CEL rules) or
istiod's webhook rejects (read from Istio 1.29), and what a policy needs; everything else is a warning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from policies.findings import Finding, Severity

KINDS: Final = {"VirtualService": "1", "DestinationRule": "2", "ServiceEntry": "3"}
"""The kinds that are linted, with their digit in the codes."""


class Code(NamedTuple):
    """What a code says of an object."""

    severity: Severity
    title: str


_SHARED: Final = {
    "PSx01": Code("error", "unknown field"),
    "PSx02": Code("error", "value of the wrong type"),
    "PSx03": Code("error", "required field missing"),
    "PSx04": Code("error", "value outside what the schema allows"),
    "PSx05": Code("error", "fields that exclude each other are both set"),
    "PSx06": Code("error", "invalid duration"),
    "PSx07": Code("error", "invalid host name"),
    "PSx08": Code("error", "invalid label or selector"),
    "PSx09": Code("error", "invalid exportTo"),
    "PSx10": Code("error", "annotation that istiod rejects"),
    "PSx11": Code("error", "port outside 1..65535"),
    "PSx12": Code("error", "apiVersion or name that the API server rejects"),
    "PSx13": Code("error", "invalid subset name"),
    "PSx14": Code("error", "invalid IP address or subnet"),
    "PSx15": Code("warning", "selector without labels"),
    "PSx16": Code("warning", "field without a value"),
}

_VIRTUAL_SERVICE: Final = {
    "PS120": Code("error", "no http, tls or tcp route"),
    "PS121": Code("error", "a delegate (no hosts) with gateways, tls or tcp routes"),
    "PS122": Code("error", "hosts that cover each other"),
    "PS123": Code("error", "host * on the mesh gateway"),
    "PS124": Code("error", "invalid gateway name"),
    "PS125": Code("warning", "gateway name in the legacy format"),
    "PS126": Code("error", "JWT claim routing without a gateway"),
    "PS127": Code("error", "route actions that exclude each other"),
    "PS128": Code("error", "http route without an action"),
    "PS129": Code("error", "misplaced delegate"),
    "PS130": Code("error", "percentage out of range"),
    "PS131": Code("warning", "deprecated field"),
    "PS132": Code("error", "empty string match"),
    "PS133": Code("error", "invalid regular expression"),
    "PS134": Code("error", "invalid header name"),
    "PS135": Code("error", "invalid header value"),
    "PS136": Code("error", "invalid sourceNamespace"),
    "PS137": Code("error", "negative weight"),
    "PS138": Code("error", "weights that sum to zero"),
    "PS139": Code("error", "authority set more than once"),
    "PS140": Code("error", "invalid retries"),
    "PS141": Code("error", "invalid redirect"),
    "PS142": Code("error", "HTTP or gRPC status that does not exist"),
    "PS143": Code("error", "direct response body over 1 MiB"),
    "PS144": Code("warning", "direct response body over 100 KiB"),
    "PS145": Code("error", "invalid rewrite"),
    "PS146": Code("error", "invalid CORS policy"),
    "PS147": Code("error", "fault that is not supported"),
    "PS148": Code("warning", "fault abort without an error type"),
    "PS149": Code("error", "invalid SNI host"),
    "PS150": Code("warning", "IP address as SNI host"),
    "PS151": Code("error", "tls or tcp route without destinations"),
    "PS160": Code("warning", "rule that no request reaches"),
    "PS161": Code("warning", "match that an earlier rule takes"),
    "PS162": Code("warning", "http route name used twice"),
    "PS163": Code("warning", "weights that do not sum to 100"),
}

_DESTINATION_RULE: Final = {
    "PS220": Code("error", "empty traffic policy"),
    "PS221": Code("error", "invalid tunnel"),
    "PS222": Code("error", "subset name used twice"),
    "PS223": Code("error", "invalid outlier detection"),
    "PS224": Code("warning", "deprecated field"),
    "PS225": Code("error", "invalid connection pool"),
    "PS226": Code("error", "invalid consistent hash"),
    "PS227": Code("error", "invalid locality setting"),
    "PS228": Code("warning", "failover without outlier detection"),
    "PS229": Code("error", "invalid warm-up"),
    "PS230": Code("error", "invalid TLS settings"),
    "PS231": Code("error", "port-level settings without a port"),
}

_SERVICE_ENTRY: Final = {
    "PS320": Code("error", "workloadSelector and endpoints together"),
    "PS321": Code("warning", "partial wildcard host"),
    "PS322": Code("error", "CIDR address with DNS resolution"),
    "PS323": Code("error", "port name or number used twice"),
    "PS324": Code("error", "invalid port name"),
    "PS325": Code("error", "unsupported protocol"),
    "PS326": Code("warning", "TCP port without an address"),
    "PS327": Code("error", "endpoints that the resolution does not allow"),
    "PS328": Code("error", "invalid endpoint address"),
    "PS329": Code("error", "endpoint port that the entry does not define"),
    "PS330": Code("error", "invalid Unix endpoint"),
    "PS331": Code("error", "invalid DYNAMIC_DNS entry"),
    "PS332": Code("error", "several hosts on a port that is neither HTTP nor TLS"),
    "PS333": Code("warning", "several hosts with an address and a TCP port"),
    "PS334": Code("warning", "workloadSelector with resolution NONE"),
    "PS335": Code("warning", "endpoint with a network but no address"),
}

_BETWEEN: Final = {
    "PS401": Code("error", "VirtualService of a policy missing"),
    "PS402": Code("error", "route of a policy unknown, ambiguous or without destinations"),
    "PS403": Code("error", "no destination for a variant"),
    "PS404": Code("error", "destination that the policy does not name"),
    "PS405": Code("error", "subset without DestinationRule"),
    "PS406": Code("error", "subset that the DestinationRule does not define"),
    "PS407": Code("error", "variant without an endpoint"),
    "PS408": Code("warning", "variant whose endpoints are not among the files"),
    "PS409": Code("warning", "weights that Penstock will set"),
    "PS410": Code("warning", "object given twice"),
}

CODES: Final = _SHARED | _VIRTUAL_SERVICE | _DESTINATION_RULE | _SERVICE_ENTRY | _BETWEEN


def problem(
    code: str, path: str, message: str, *, found: object = None, allowed: str | None = None
) -> Finding:
    """Return the finding of `code` at `path`, with the severity of the table; KeyError for unlisted codes."""
    text = None if found is None else str(found)
    return Finding(code, CODES[code].severity, message, path=path, found=text, allowed=allowed)


def catalogue() -> dict[str, Code]:
    """Return all codes as they are reported, in order: shared ones once per kind."""
    own = {code: entry for code, entry in CODES.items() if "x" not in code}
    shared = {code.replace("x", digit): entry for code, entry in _SHARED.items() for digit in KINDS.values()}
    return dict(sorted((own | shared).items()))
