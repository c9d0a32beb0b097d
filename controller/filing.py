"""Which series of a reading belong to whom: filed by service, version and process, and kept between looks.

A template is read again at every look, and mostly has the same series as before. They are filed once; as long
as their labels stay the same, handing them out again costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from controller.matching import matcher
from istio.names import full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.counters import Flags
    from analysis.hypergeometric import Ints
    from policies.model import Outcome, TemplateSpec

NO_EDGE = -1.0
"""Of series that are no buckets."""


@dataclass(frozen=True, slots=True)
class ArmKey:
    """Whose requests: the service (short or full name) and its version label; None means every version.

    `process`: only those that this instance counted; None means all.
    """

    namespace: str
    service: str
    version: str | None
    process: str | None = None

    @property
    def level(self) -> Level:
        """What tells it apart from others."""
        return Level(self.version is not None, self.process is not None)


class Level(NamedTuple):
    """Whether versions and processes are told apart."""

    versions: bool
    processes: bool


Key = tuple[str, str | None, str | None]
"""Service as NAME.NAMESPACE.svc..., version, process; None where these are not told apart."""


class Cells(NamedTuple):
    """The series that are counted together: those of each service, version or process, one after the other.

    `order` has the rows of the series, those of cell i from `starts[i]` on. For a histogram, `buckets` has
    the rows again, now without series that are no buckets, in the order of their edges; bucket j begins at
    `bucket_starts[j]`, belongs to cell `owner[j]`, whose last bucket is `last[j]`. `places[i]` has the number
    of each bucket of cell i by its edge.
    """

    number: Mapping[Key, int]
    order: Ints
    starts: Ints
    buckets: Ints
    bucket_starts: Ints
    owner: Ints
    last: Ints
    places: Sequence[Mapping[float, int]]


@dataclass(frozen=True, eq=False, slots=True)
class Filing:
    """The series of one template: whose they are, and what each counts."""

    spec: TemplateSpec
    labels: Sequence[Mapping[str, str]]
    instances: Sequence[str]
    """Per series the process that counts."""
    process: Ints
    """The same as numbers."""
    whole: Flags
    """Per series whether it counts; else it sums values up."""
    events: Flags
    """Per series whether its requests are events."""
    edges: Sequence[float]
    """Per series the upper edge of the bucket it counts."""
    services: Mapping[str, Mapping[str, Sequence[int]]]
    """Service -> version -> rows of its series."""
    _cells: dict[Level, Cells] = field(default_factory=dict)

    def rows(self, arm: ArmKey) -> list[int]:
        """Return the series of one version, or of one of its processes."""
        versions = self.services.get(service_key(arm.service, arm.namespace), {})
        if arm.version is not None:
            rows = list(versions.get(arm.version, ()))
        else:
            rows = [row for rows in versions.values() for row in rows]
        return rows if arm.process is None else [row for row in rows if self.instances[row] == arm.process]

    def cells(self, level: Level) -> Cells:
        """Return the series cell by cell."""
        if level not in self._cells:
            self._cells[level] = _cells_of(self, level)
        return self._cells[level]


def filed(spec: TemplateSpec, labels: Sequence[Mapping[str, str]], known: Filing | None) -> Filing:
    """Return the filing of series with these labels; `known` again if it is theirs."""
    if known is not None and known.spec is spec and known.labels == labels:
        return known
    named = spec.labels
    services: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, each in enumerate(labels):
        service = service_key(each.get(named.service, ""), each.get(named.namespace, ""))
        services[service][each.get(named.version, "")].append(row)
    instances = [each.get(named.instance, "") for each in labels]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(instances))}
    return Filing(
        spec=spec,
        labels=labels,
        instances=instances,
        process=np.array([numbers[name] for name in instances], dtype=np.int64),
        whole=_whole(spec, labels),
        events=_events(spec, labels),
        edges=[_edge(each.get("le", "")) for each in labels],
        services=services,
    )


@lru_cache(maxsize=65_536)
def service_key(host: str, namespace: str) -> str:
    """Return the one name of a service, however it is written."""
    return full_name(host, namespace).lower()


def _whole(spec: TemplateSpec, labels: Sequence[Mapping[str, str]]) -> Flags:
    """Tell which series count; those of a mean that sum values up are known by their name."""
    if spec.kind != "mean":
        return np.ones(len(labels), dtype=np.bool_)
    return np.array([not each.get("__name__", "").endswith("_sum") for each in labels], dtype=np.bool_)


def _events(spec: TemplateSpec, labels: Sequence[Mapping[str, str]]) -> Flags:
    """Tell of which series the requests are events."""
    if spec.outcome is None:
        return np.zeros(len(labels), dtype=np.bool_)
    is_event = _event_reader(spec.outcome)
    return np.array([is_event(each) for each in labels], dtype=np.bool_)


@lru_cache(maxsize=1024)
def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return NO_EDGE


def _event_reader(outcome: Outcome) -> Callable[[Mapping[str, str]], bool]:
    """Return how a series is told to count events.

    A gRPC request without a gRPC status (it failed before there was one) is read by its HTTP status.
    """
    http_event, grpc_event = matcher(outcome.http_event), matcher(outcome.grpc_event or r"[^\s\S]")

    def is_event(labels: Mapping[str, str]) -> bool:
        status = labels.get(outcome.grpc_label, "") if outcome.grpc_label else ""
        if status and outcome.protocol_label and labels.get(outcome.protocol_label) == "grpc":
            return grpc_event(status)
        return http_event(labels.get(outcome.http_label, ""))

    return is_event


def _cells_of(filing: Filing, level: Level) -> Cells:
    members = _members(filing, level)
    buckets: list[list[int]] = []
    places: list[dict[float, int]] = []
    for rows in members.values():
        by_edge: dict[float, list[int]] = defaultdict(list)
        for row in rows:
            if filing.edges[row] != NO_EDGE:
                by_edge[filing.edges[row]].append(row)
        rising = sorted(by_edge)
        places.append({edge: number for number, edge in enumerate(rising, start=len(buckets))})
        buckets += [by_edge[edge] for edge in rising]
    number = {key: place for place, key in enumerate(members)}
    sizes = np.array([len(each) for each in places], dtype=np.int64)
    owner, last = np.repeat(np.arange(sizes.size), sizes), np.repeat(np.cumsum(sizes) - 1, sizes)
    return Cells(number, *_joined([*members.values()]), *_joined(buckets), owner, last, places)


def _members(filing: Filing, level: Level) -> Mapping[Key, Sequence[int]]:
    """Return the rows of each cell."""
    members: dict[Key, list[int]] = defaultdict(list)
    for service, versions in filing.services.items():
        for version, rows in versions.items():
            own = version if level.versions else None
            if not level.processes:
                members[service, own, None] += rows
                continue
            for row in rows:
                members[service, own, filing.instances[row]].append(row)
    return members


def _joined(groups: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Return all members of all groups, and where each group starts among them."""
    ends = np.cumsum([0, *map(len, groups)])
    return np.array([*chain.from_iterable(groups)], dtype=np.int64), ends[:-1]
