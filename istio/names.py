"""Hosts: short and full names.

istiod completes a host without a dot with the namespace of the object that names it and leaves every other
host as it is. `full_name` does the same and also completes `name.ns.svc`, which DNS would complete too.
Whether `name.ns` is a Service or a domain such as `example.com` cannot be told from its text, so it is only
compared (`same_host`), never rewritten.
"""

from __future__ import annotations

CLUSTER_DOMAIN = "cluster.local"


def full_name(host: str, namespace: str) -> str:
    """Return the name under which istiod knows `host` when an object in `namespace` names it."""
    match host.split("."):
        case [""] | ["*"]:
            return host
        case [name]:
            return f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}"
        case [_, _, "svc"]:
            return f"{host}.{CLUSTER_DOMAIN}"
    return host


def short_name(host: str) -> str:
    """Return the service's own name: `ranker` for `ranker.ml.svc.cluster.local`; foreign hosts stay whole."""
    match host.split("."):
        case [name, _, "svc"]:
            return name
        case [name, _, "svc", *domain] if ".".join(domain) == CLUSTER_DOMAIN:
            return name
    return host


def same_host(one: str, other: str, namespace: str) -> bool:
    """Tell whether two hosts named in `namespace` are the same service, however far they are written out."""
    return comparable(one, namespace) == comparable(other, namespace)


def comparable(host: str, namespace: str) -> str:
    """Return what is equal for two hosts exactly when they are the same service (`same_host`)."""
    host = host.lower().removesuffix(".")
    return full_name(f"{host}.svc" if host.count(".") == 1 else host, namespace)
