"""istiod's rules for a DestinationRule (ValidateDestinationRule in Istio 1.29)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from istio.lint.balancer import check_balancer
from istio.lint.codes import problem
from istio.lint.shared import (
    check_export_to,
    check_labels,
    check_port,
    check_selector,
    check_subset_name,
    domain_fault,
    is_address,
)
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

Spec = dict[str, Any]

_LIMITS: Final = (
    ("http", "http1MaxPendingRequests"),
    ("http", "http2MaxRequests"),
    ("http", "maxRequestsPerConnection"),
    ("http", "maxRetries"),
    ("http", "maxConcurrentStreams"),
    ("tcp", "maxConnections"),
)


def check_destination_rule(spec: Spec, namespace: str) -> Iterator[Finding]:
    """Yield what istiod refuses or warns of; `spec` must fit the schema."""
    if "host" in spec and (fault := domain_fault(spec["host"], wildcard=True)):
        yield problem("PSx07", "spec.host", fault)
    if "trafficPolicy" in spec:
        yield from _check_policy(spec["trafficPolicy"], "spec.trafficPolicy", namespace)
    yield from _check_subsets(spec.get("subsets", []), namespace)
    selector = spec.get("workloadSelector")
    yield from check_export_to(
        spec.get("exportTo", ()), namespace, "spec.exportTo", selector=selector is not None
    )
    if selector is not None:
        yield from check_selector(selector.get("matchLabels", {}), "spec.workloadSelector.matchLabels")


def _check_subsets(subsets: list[Spec], namespace: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, subset in enumerate(subsets):
        path, name = child("spec.subsets", index), subset.get("name", "")
        if name in seen:
            yield problem("PS222", child(path, "name"), f"duplicate subset names: {name}")
        seen.add(name)
        if "name" in subset:
            yield from check_subset_name(name, child(path, "name"))
        yield from check_labels(subset.get("labels", {}), child(path, "labels"))
        if "trafficPolicy" in subset:
            yield from _check_policy(subset["trafficPolicy"], child(path, "trafficPolicy"), namespace)


def _check_policy(policy: Spec, path: str, namespace: str) -> Iterator[Finding]:
    if not policy.keys() - {"portLevelSettings"} and not policy.get("portLevelSettings"):
        yield problem("PS220", path, "traffic policy must have at least one field")
    if "tunnel" in policy and "proxyProtocol" in policy:
        yield problem("PSx05", path, "tunnel and proxyProtocol must not be set together")
    yield from _check_settings(policy, path, namespace)
    if "tunnel" in policy:
        yield from _check_tunnel(policy["tunnel"], child(path, "tunnel"))
    for index, settings in enumerate(policy.get("portLevelSettings", ())):
        spot = child(child(path, "portLevelSettings"), index)
        if "port" not in settings:
            yield problem("PS231", spot, "port-level settings must have a port")
        if not settings.keys() - {"port"}:
            yield problem("PS220", spot, "port traffic policy must have at least one field")
        yield from _check_settings(settings, spot, namespace)


def _check_settings(settings: Spec, path: str, namespace: str) -> Iterator[Finding]:
    """Check what a policy and its port-level settings have in common."""
    outlier = settings.get("outlierDetection")
    if outlier is not None:
        yield from _check_outlier(outlier, child(path, "outlierDetection"))
    if "connectionPool" in settings:
        yield from _check_pool(settings["connectionPool"], child(path, "connectionPool"))
    if "loadBalancer" in settings:
        balancer = settings["loadBalancer"]
        yield from check_balancer(balancer, child(path, "loadBalancer"), has_outlier=outlier is not None)
    if "tls" in settings:
        yield from _check_tls(settings["tls"], child(path, "tls"), namespace)


def _check_outlier(outlier: Spec, path: str) -> Iterator[Finding]:
    if outlier.get("consecutiveErrors"):
        message = "deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead"
        yield problem("PS224", child(path, "consecutiveErrors"), message)
    if outlier.get("consecutiveLocalOriginFailures") and not outlier.get("splitExternalLocalOriginErrors"):
        message = "consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true"
        yield problem("PS223", child(path, "consecutiveLocalOriginFailures"), message)
    for name in ("maxEjectionPercent", "minHealthPercent"):
        if not 0 <= outlier.get(name, 0) <= 100:
            yield problem(
                "PS223", child(path, name), "percentage out of range", found=outlier[name], allowed="0 to 100"
            )


def _check_pool(pool: Spec, path: str) -> Iterator[Finding]:
    if not pool:
        yield problem("PS225", path, "connection pool must have at least one field")
    for protocol, name in _LIMITS:
        value = pool.get(protocol, {}).get(name, 0)
        if value < 0:
            yield problem("PS225", f"{path}.{protocol}.{name}", "must be non-negative", found=value)
    http = pool.get("http", {})
    if http.get("h2UpgradePolicy") == "UPGRADE" and http.get("useClientProtocol"):
        message = "useClientProtocol must not be true when h2UpgradePolicy is UPGRADE"
        yield problem("PS225", f"{path}.http.useClientProtocol", message)


def _check_tunnel(tunnel: Spec, path: str) -> Iterator[Finding]:
    if tunnel.get("protocol", "") not in {"", "CONNECT", "POST"}:
        protocol = tunnel["protocol"]
        yield problem(
            "PS221", child(path, "protocol"), "invalid protocol", found=protocol, allowed="CONNECT, POST"
        )
    host = tunnel.get("targetHost")
    if host is not None and not is_address(host) and (fault := domain_fault(host, wildcard=False)):
        yield problem("PS221", child(path, "targetHost"), f"must be a domain name or an IP address: {fault}")
    if "targetPort" in tunnel:
        yield from check_port(tunnel["targetPort"], child(path, "targetPort"))


def _check_tls(tls: Spec, path: str, namespace: str) -> Iterator[Finding]:
    mode, credential = tls.get("mode", "DISABLE"), tls.get("credentialName", "")
    if credential.startswith("configmap://") and not _own_configmap(credential, namespace):
        message = "must be configmap://<namespace>/<name> in the rule's own namespace"
        yield problem("PS230", child(path, "credentialName"), message, found=credential)
    if tls.get("insecureSkipVerify"):
        names = {"SIMPLE": ("caCertificates", "credentialName"), "MUTUAL": ("caCertificates",)}.get(mode)
        extra = [name for name in names if tls.get(name)] if names else []
        extra += ["subjectAltNames"] if names and "subjectAltNames" in tls else []
        if extra:
            yield problem("PS230", path, f"insecureSkipVerify excludes {', '.join(extra)}")
    if mode in {"SIMPLE", "MUTUAL"} and credential:
        files = [n for n in ("clientCertificate", "caCertificates", "privateKey", "caCrl") if tls.get(n)]
        if files:
            yield problem("PS230", path, f"credentialName excludes {', '.join(files)}")
    elif mode == "MUTUAL":
        for name in ("clientCertificate", "privateKey"):
            if not tls.get(name):
                yield problem("PS230", child(path, name), f"{name} required for mutual tls")


def _own_configmap(credential: str, namespace: str) -> bool:
    """Tell whether `configmap://namespace/name` is in `namespace`."""
    owner, _, name = credential.removeprefix("configmap://").partition("/")
    return owner == namespace and bool(name.split("/")[0])
