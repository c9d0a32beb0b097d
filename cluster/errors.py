"""What can go wrong with a cluster, as errors whose text a person can act on."""

from __future__ import annotations


class NoClusterError(Exception):
    """No cluster can be had on this machine; one line says why."""


class PartError(Exception):
    """A part did not start or did not become ready; the text ends with its last log lines."""


class KubectlError(Exception):
    """kubectl failed; the text is what it wrote to stderr."""
