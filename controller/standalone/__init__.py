"""Penstock without a cluster: a folder of manifests, a local store, an Envoy and a Prometheus."""
