"""A real Kubernetes with Istio, Envoy and Prometheus on this machine, without containers."""
