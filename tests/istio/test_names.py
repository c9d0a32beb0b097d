"""Hosts as istiod completes them, and when two of them are the same service."""

from __future__ import annotations

import pytest

from istio.names import full_name, same_host, short_name


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("ranker", "ranker.ml.svc.cluster.local"),
        ("ranker.prod", "ranker.prod"),  # may be a domain: istiod leaves it alone
        ("ranker.prod.svc", "ranker.prod.svc.cluster.local"),
        ("ranker.prod.svc.cluster.local", "ranker.prod.svc.cluster.local"),
        ("api.example.com", "api.example.com"),
        ("*.example.com", "*.example.com"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_a_host_is_completed_as_istiod_does(host, full):
    assert full_name(host, "ml") == full
    assert full_name(full, "elsewhere") == full


@pytest.mark.parametrize(
    ("host", "short"),
    [
        ("ranker", "ranker"),
        ("ranker.ml.svc", "ranker"),
        ("ranker.ml.svc.cluster.local", "ranker"),
        ("api.example.com", "api.example.com"),
        ("a.b.svc.example.com", "a.b.svc.example.com"),
        ("example.com", "example.com"),
    ],
)
def test_only_cluster_names_are_shortened(host, short):
    assert short_name(host) == short


FORMS = [
    "ranker",
    "ranker.ml",
    "ranker.ml.svc",
    "ranker.ml.svc.cluster.local",
    "Ranker.ML.svc.cluster.local.",
]


@pytest.mark.parametrize("one", FORMS)
@pytest.mark.parametrize("other", FORMS)
def test_all_forms_of_a_service_name_are_the_same_host(one, other):
    assert same_host(one, other, "ml")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ranker", "ranker.prod"),
        ("ranker", "rank"),
        ("ranker", "ranker.ml.svc.example.com"),
        ("api.example.com", "api"),
        ("stable.a", "stable.b"),
        ("*", "ranker"),
    ],
)
def test_other_services_are_other_hosts(one, other):
    assert not same_host(one, other, "ml")
