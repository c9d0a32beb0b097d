"""Kubernetes: the same controller on an API server, with leader election."""
