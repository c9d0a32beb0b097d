"""Short ways to write ServiceEntries, DestinationRules and VirtualServices, as dicts."""

API = "networking.istio.io/v1"
HOST = "ranker.ml.svc.cluster.local"


def manifest(kind, name, spec, namespace="ml", **metadata):
    return {
        "apiVersion": API,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def entry(host="ranker", ports=((8080, "HTTP"),), endpoints=(), name=None, namespace="ml", **spec):
    """A ServiceEntry: ports as (number, protocol), endpoints as (port, version) or written out."""
    listed = [item if isinstance(item, dict) else endpoint(ports, *item) for item in endpoints]
    full = {
        "hosts": [host],
        "ports": [
            {"number": number, "name": f"p{number}", "protocol": protocol} for number, protocol in ports
        ],
        "resolution": "STATIC",
        "endpoints": listed,
        **spec,
    }
    return manifest("ServiceEntry", name or host, full, namespace)


def endpoint(ports, port, version):
    """An endpoint on loopback that serves all ports of its service on one of its own."""
    return {
        "address": "127.0.0.1",
        "ports": {f"p{number}": port for number, _ in ports},
        "labels": {"version": version},
    }


def rule(host="ranker", subsets=("v1", "v2"), name=None, namespace="ml", **spec):
    """A DestinationRule whose subsets are called like the version that they choose."""
    named = [{"name": subset, "labels": {"version": subset}} for subset in subsets]
    return manifest("DestinationRule", name or host, {"host": host, "subsets": named, **spec}, namespace)


def to(subset=None, weight=None, host="ranker", **more):
    """A destination of a route."""
    destination = {"host": host, **({"subset": subset} if subset else {})}
    return {"destination": destination, **({} if weight is None else {"weight": weight}), **more}


def routes(*http, host="ranker", name="ranker", namespace="ml", version="1", **spec):
    """A VirtualService with these http routes."""
    return manifest(
        "VirtualService",
        name,
        {"hosts": [host], **({"http": list(http)} if http else {}), **spec},
        namespace,
        resourceVersion=version,
    )


def split(v1, v2, **more):
    """A VirtualService that splits the traffic between two subsets."""
    return routes({"name": "primary", "route": [to("v1", v1), to("v2", v2)]}, **more)
