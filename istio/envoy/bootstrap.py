"""Envoy's start configuration: everything else comes from files, replaced one by one while it runs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from istio.envoy import telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]


def bootstrap(
    admin_port: int,
    folder: str,
    node_id: str = "penstock-gateway",
    *,
    edges: Sequence[float] = telemetry.EDGES,
) -> Json:
    """Return a bootstrap with clusters and listeners from `folder` and the admin interface on loopback.

    `edges` are the bucket edges of the request duration histogram, in milliseconds.
    """
    return {
        # file subscriptions refuse to start without both
        "node": {"id": node_id, "cluster": node_id},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
        "dynamic_resources": {
            "cds_config": config_source(f"{folder}/cds.json"),
            "lds_config": config_source(f"{folder}/lds.json"),
        },
        # histograms become visible at the flush: well within a scrape interval
        "stats_flush_interval": "0.5s",
        "stats_config": telemetry.stats_config(edges),
    }


def config_source(path: str) -> Json:
    """Return a subscription to one file, which Envoy reads again whenever it is replaced by a rename."""
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def static(clusters: Sequence[Json], listeners: Sequence[Json], routes: Mapping[str, Json]) -> Json:
    """Return a bootstrap with everything inline: what `envoy --mode validate` judges."""
    inlined = copy.deepcopy(list(listeners))
    for listener in inlined:
        for chain in listener["filter_chains"]:
            config = chain["filters"][0]["typed_config"]
            if "rds" in config:
                config["route_config"] = routes[config.pop("rds")["route_config_name"]]
    return {"static_resources": {"clusters": list(clusters), "listeners": inlined}}
