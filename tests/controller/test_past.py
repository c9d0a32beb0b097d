"""The control's past, read part by part: every count once, series by series, and what is missing is said."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from controller.dossier import design_of
from controller.filing import ArmKey
from controller.past import PART, Question, control_arm, part_of, past_of, read_past, restricted
from controller.prometheus import PrometheusMetrics
from policies.catalog import templates
from policies.parse import policy_from_object
from tests.support.past import START, STEP, MadeUpPast
from tests.support.policies import changed, policy
from tests.support.stored_prometheus import prometheus_with

ARM = ArmKey("ml", "ranker", "v1")


def question(made, *, start=START, arm=ARM):
    plan = policy_from_object(policy())
    design = design_of(plan, templates())
    read_by = {"istio-error-rate": templates()["istio-error-rate"]}
    return Question(design, read_by, arm, start, made.end, STEP)


async def test_every_request_of_every_series_is_counted_once_over_all_parts():
    made = MadeUpPast(pods=3, intervals=2 * PART + 5)
    told = []
    past = await read_past(made, question(made), done=lambda: told.append(1))
    assert past.series == ("pod-0", "pod-1", "pod-2")
    assert past.intervals == 2 * PART + 5
    found = past.metrics["istio-error-rate"]
    assert (found.totals == made.total[1:]).all()  # the first value is where counting starts
    assert (found.events[..., 0] == made.bad[1:]).all()
    assert found.known.all()
    assert past.missing == ()
    assert len(told) == len(made.asked) == 3
    assert max(end - start for start, end in made.asked) == PART * STEP
    assert [start for start, _ in made.asked][1:] == [end for _, end in made.asked][:-1]


async def test_intervals_that_were_never_scraped_are_not_known_and_said():
    made = MadeUpPast(intervals=30, gone=range(10, 14))
    past = await read_past(made, question(made))
    known = past.metrics["istio-error-rate"].known
    assert np.flatnonzero(~known).tolist() == [9, 10, 11, 12, 13]
    assert past.missing == ("istio-error-rate: nothing is known of 5 of 30 intervals",)
    assert past.metrics["istio-error-rate"].totals[~known].sum() == 0


async def test_partial_answers_are_left_out_and_said():
    made = MadeUpPast(intervals=20, warnings=("a store is gone",))
    past = await read_past(made, question(made))
    assert past.series == ()
    assert "istio-error-rate: parts are left out, since Prometheus says: a store is gone" in past.missing


async def test_other_versions_are_not_the_control():
    made = MadeUpPast(intervals=10)
    past = await read_past(made, question(made, arm=ArmKey("ml", "ranker", "v2")))
    assert past.series == ()
    everyone = await read_past(made, question(made, arm=ArmKey("ml", "ranker", None)))
    assert len(everyone.series) == 6


async def test_counters_that_cannot_be_right_are_left_out_and_said():
    made = MadeUpPast(pods=2, intervals=10)
    made.counters["200"][5, 0] = -1
    past = await read_past(made, question(made))
    assert past.metrics["istio-error-rate"].totals[4, 0] == 0
    assert past.metrics["istio-error-rate"].totals[4, 1] > 0
    assert any("not whole or not a number (left out)" in words for words in past.missing)


async def test_all_that_is_computed_is_done_in_the_thread_that_is_given(monkeypatch):
    made, where = MadeUpPast(intervals=PART + 5), []
    for work in (part_of, past_of):

        def noted(*args, work=work):
            where.append(threading.current_thread().name)
            return work(*args)

        monkeypatch.setattr(f"controller.past.{work.__name__}", noted)
    with ThreadPoolExecutor(1, thread_name_prefix="aside") as aside:
        await read_past(made, question(made), aside=aside)
    assert where == ["aside_0"] * 3


RULE = {
    "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {"host": "ranker", "subsets": [{"name": "v1", "labels": {"version": "blue"}}]},
}  # fmt: skip
ENTRY = {
    "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
    "metadata": {"name": "ranker", "namespace": "ml"},
    "spec": {"hosts": ["ranker"], "endpoints": [{"address": "127.0.0.1", "labels": {"version": "blue"}}]},
}  # fmt: skip


@pytest.mark.parametrize(("objects", "variant", "version"), [
    ([], {"name": "stable", "subset": "v1"}, "v1"),
    ([], {"name": "stable", "subset": "v1", "version": "one"}, "one"),
    ([], {"name": "stable", "host": "ranker-old"}, None),
    ([RULE, ENTRY], {"name": "stable", "subset": "v1"}, "blue"),
])  # fmt: skip
def test_the_control_is_found_by_the_objects_or_by_the_policy_alone(objects, variant, version):
    arm = control_arm(policy_from_object(changed(policy(), "spec.variants.0", variant)), objects)
    assert arm == ArmKey("ml", variant.get("host", "ranker"), version)


LABELS = templates()["istio-error-rate"].spec.labels


@pytest.mark.parametrize(("arm", "on", "names"), [
    (ARM, ["destination_service_namespace", "destination_version", "destination_service_name"],
     ["ranker", "ranker.ml.svc", "ranker.ml.svc.cluster.local"]),
    (ArmKey("ml", "ranker", None), ["destination_service_namespace", "destination_service_name"],
     ["ranker", "ranker.ml.svc", "ranker.ml.svc.cluster.local"]),
    (ArmKey("ml", "api.example.com", "v1"), ["destination_version", "destination_service_name"],
     ["api.example.com"]),
])  # fmt: skip
def test_the_query_is_restricted_to_the_labels_of_the_control(arm, on, names):
    query = restricted("sum by (a) (b) # by a person", LABELS, arm)
    assert query.startswith("(\nsum by (a) (b) # by a person\n) and on (" + ", ".join(on) + ") (")
    assert [name for name in names if f'"destination_service_name", "{name}"' in query] == names
    assert query.count("vector(1)") == len(names)


SERVICES = ("ranker", "ranker.ml.svc.cluster.local", "ranker.other.svc.cluster.local", "ranker-2")
VERSIONS = ("v1", "v2", 'odd"$1\\')


@pytest.mark.real
@pytest.mark.parametrize(("version", "found"), [("v1", 2), (VERSIONS[2], 2), (None, 6)])
async def test_a_real_prometheus_gives_the_control_s_series_only(tmp_path, version, found):
    """Under any form of the service's name, and whatever the version is called."""
    lines = ["# TYPE istio_requests counter"]
    for namespace in ("ml", "other"):
        for service in SERVICES:
            for each in VERSIONS:
                escaped = each.replace("\\", "\\\\").replace('"', '\\"')
                labels = (
                    f'reporter="source",destination_service_namespace="{namespace}",instance="pod",'
                    f'destination_service_name="{service}",destination_version="{escaped}",response_code="200"'
                )
                lines += [f"istio_requests_total{{{labels}}} {at} {START + at * STEP}" for at in range(6)]
    query = restricted(templates()["istio-error-rate"].spec.query, LABELS, ArmKey("ml", "ranker", version))
    with prometheus_with("\n".join([*lines, "# EOF", ""]), tmp_path / "prometheus") as url:
        metrics = PrometheusMetrics(url, timeout=60)
        try:
            reading = await metrics.read(query, start=START, end=START + 50, step=STEP)
        finally:
            await metrics.close()
    assert reading.warnings == ()
    assert len(reading.series) == found
    for series in reading.series:
        assert series.labels["destination_service_namespace"] == "ml"
        assert series.labels["destination_service_name"] in SERVICES[:2]
        assert version in {None, series.labels["destination_version"]}
        assert series.points[-1] == (START + 50, 5.0)
