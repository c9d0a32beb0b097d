"""The namespaces of the corpora, for all oracles."""

import pytest

from tests.support.oracle_corpus import corpus


@pytest.fixture(scope="session")
def corpus_cluster(cluster):
    """The cluster, with every namespace that an object of the corpora is in; they go with the cluster."""
    named = {obj.get("metadata", {}).get("namespace", "default") for obj in corpus().values()}
    present = cluster.kubectl("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()
    for namespace in sorted(named - set(present)):
        cluster.kubectl("create", "namespace", namespace)
    return cluster
