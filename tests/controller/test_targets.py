"""By which templates a run is observed: the split goes with the errors where both count the same requests."""

import pytest

from controller.targets import split_template
from policies.catalog import templates

ERRORS, LATENCY, SHARE = "istio-error-rate", "istio-latency", "istio-request-share"


def own(kind: str, query: str, **labels: str):
    spec = templates()[ERRORS if kind == "proportion" else SHARE].spec
    model = templates()[ERRORS]
    return model.model_copy(
        update={
            "spec": spec.model_copy(
                update={"query": query, "kind": kind, "labels": spec.labels.model_copy(update=labels)}
            )
        }
    )


def test_the_split_is_read_with_the_errors_of_the_same_requests():
    assert split_template([LATENCY, ERRORS], templates()) == ERRORS


@pytest.mark.parametrize("keys", [[], [LATENCY]])
def test_without_an_error_rate_the_split_has_a_query_of_its_own(keys):
    assert split_template(keys, templates()) == SHARE


def test_a_share_of_the_policys_own_is_the_one():
    share = own("share", "sum by (destination_version) (gateway_requests_total)")
    assert split_template([ERRORS, "ml/share"], {**templates(), "ml/share": share}) == "ml/share"


LABELS = "destination_service_namespace, destination_service_name, destination_version, instance"


@pytest.mark.parametrize(
    ("query", "labels", "same"),
    [
        (f"sum by ({LABELS}, code) (istio_requests_total{{reporter=\"source\"}})", {}, True),
        (f"sum by({LABELS},code)( istio_requests_total{{reporter=\"source\"}} )", {}, True),
        (f"sum by ({LABELS}) (istio_requests_total{{reporter=\"destination\"}})", {}, False),
        ("sum by (destination_version, code) (istio_requests_total{reporter=\"source\"})", {}, False),
        (f"2 * sum by ({LABELS}) (istio_requests_total{{reporter=\"source\"}})", {}, False),
        (f"sum by ({LABELS}) (istio_requests_total{{reporter=\"source\"}}[1m])", {}, False),
        (f"sum by ({LABELS}) (istio_requests_total{{reporter=\"source\"}})", {"instance": "pod"}, False),
    ],
)  # fmt: skip
def test_the_same_requests_are_those_of_the_same_selector_and_labels(query, labels, same):
    known = {**templates(), "ml/errors": own("proportion", query, **labels)}
    assert (split_template(["ml/errors"], known) == "ml/errors") is same
