"""Readings of two ordinary versions, and what else may be read, for tests of what picks from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from controller.calibration import Calibration, Measured, MetricCalibration, SeriesCounts
from controller.filing import ArmKey
from controller.observe import Target, index_readings
from controller.ports import Reading, Series
from policies.catalog import templates
from tests.support.situations import open_run, policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.observe import IndexedReading

ERRORS, LATENCY, SHARE, STEP = "istio-error-rate", "istio-latency", "istio-request-share", 10
OWN_ERRORS, OWN_LATENCY = "ml/errors", "ml/latency"
_CATALOG = templates()
TEMPLATES = {**_CATALOG, OWN_ERRORS: _CATALOG[ERRORS], OWN_LATENCY: _CATALOG[LATENCY]}
"""Those of the catalog, and two of the users' own, which read the same labels."""
RUN = open_run().run
POLICY = policy()
EDGES = (5.0, 10.0)

Parts = dict[str, list[Series]]
"""Series by template."""


def target(
    share: str = ERRORS,
    versions: frozenset[str] = frozenset({"v1", "v2"}),
    metrics: tuple[str, str] = (ERRORS, LATENCY),
    arms: tuple[str | None, str | None] = ("v1", "v2"),
) -> Target:
    """Return what is observed of a run with an error rate and a latency."""
    control, candidate = (ArmKey("ml", "ranker", version) for version in arms)
    return Target(
        control, candidate, metrics=dict(zip((ERRORS, "slow"), metrics, strict=True)),
        edges={ERRORS: (), "slow": EDGES}, share=share, intended=0.05, versions=versions,
    )  # fmt: skip


def calibration(*, enough: bool = True) -> Calibration:
    """Return what was learnt of the error rate; `enough`: so that nobody looks at the control any more."""
    history = Measured({5: (1.5,)}, "moments", 400, 4, "400 intervals", enough)
    metric = MetricCalibration(2.0, 1, history, control=SeriesCounts.nothing(1))
    return Calibration(STEP, (5, 50), {ERRORS: metric, "gone": metric})


def series(version: str, pod: str, values: Sequence[float | None], **labels: str) -> Series:
    """Return a series that was read as `values`, one after the other; None where it was not there."""
    points = tuple((STEP * at, float(value)) for at, value in enumerate(values) if value is not None)
    names = {
        "destination_service_namespace": "ml", "destination_service_name": "ranker",
        "destination_version": version, "instance": pod,
    }  # fmt: skip
    return Series(names | labels, points)


def plain_series(version: str, scale: int = 1, pod: str = "a") -> Parts:
    """Return all that is read of a version about which nothing is unusual."""
    counts = [[0, 0, 0], [scale * 40, scale * 90, scale * 150], [scale * 2, scale * 3, scale * 9]]
    errors = [series(version, pod, counts[2], response_code="503")]
    errors.append(series(version, pod, counts[1], response_code="200"))
    below = zip(("5", "10", "+Inf"), (counts[0], counts[2], counts[1]), strict=True)
    slow = [series(version, pod, values, le=le) for le, values in below]
    return {ERRORS: errors, LATENCY: slow, SHARE: [series(version, pod, counts[1])]}


ORDINARY = [plain_series("v1", 10), plain_series("v1", 9, "b"), plain_series("v2")]
RISING = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(sorted)
WILD = st.lists(st.none() | st.integers(0, 50) | st.sampled_from([-1, 2.5, math.nan]), min_size=3, max_size=3)
WHO = st.tuples(st.sampled_from(["v1", "v2", "v3", ""]), st.sampled_from(["a", "b"]))
CHANGES = st.dictionaries(
    st.tuples(WHO, st.sampled_from([ERRORS, LATENCY, SHARE]), st.sampled_from(["503", "5", "10", "+Inf"])),
    RISING | WILD,
    max_size=3,
)
"""By version and process, template, and response code or bucket: what is read besides."""


def changed(parts: Sequence[Parts], changes: Mapping[tuple[tuple[str, str], str, str], list[float]]) -> Parts:
    """Return all series of `parts`, and those of `changes`."""
    result = {name: [each for part in parts for each in part[name]] for name in (ERRORS, LATENCY, SHARE)}
    for ((version, pod), template, label), values in changes.items():
        name = {ERRORS: "response_code", LATENCY: "le"}.get(template, "more")
        result[template].append(series(version, pod, values, **{name: label}))
    return result


def index_of(*parts: Parts) -> dict[str, IndexedReading]:
    """Return the readings of all templates."""
    read = {name: Reading(tuple(each for part in parts for each in part[name])) for name in parts[0]}
    return index_readings(TEMPLATES, read)
