"""What the controller needs of the world, as narrow ports: objects, traffic, metrics, history and time.

Standalone and cluster implement the same ports; the loop does not know which one it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

Object = dict[str, Any]
"""A manifest as JSON: apiVersion, kind, metadata, spec, status."""


class Ref(NamedTuple):
    """The identity of an object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class NotFoundError(Exception):
    """The object is not there (any more)."""


class ConflictError(Exception):
    """The object changed since it was read: read again, decide again."""


class UnavailableError(Exception):
    """The store, Prometheus or the data plane cannot answer now; nothing is known, so nothing is decided."""


class RefusedError(UnavailableError):
    """The store is there and refuses this very write (not allowed, not valid): trying again is of no use."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change of one object."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


class Store(Protocol):
    """Objects with resourceVersion, generation, status, events and guarded patches.

    An object with finalizers that is deleted stays, with a deletionTimestamp, until the last one is removed.
    """

    async def list(self, kind: str, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, by namespace and name."""

    async def get(self, ref: Ref) -> Object:
        """Return one object; NotFoundError."""

    async def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]], *, manager: str) -> Object:
        """Apply a JSON Patch (RFC 6902) as one write by `manager`.

        ConflictError when a `test` fails, NotFoundError, and RefusedError when it may not be written.
        """

    async def patch_status(self, ref: Ref, status: Object, *, resource_version: str) -> Object:
        """Replace the status; spec and generation stay. ConflictError when the object has moved on."""

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        """Return the pods that carry all of `labels`, read now and not watched; none without Kubernetes.

        UnavailableError.
        """

    async def event(self, ref: Ref, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Tell of something that happened to an object; equal events are counted, not repeated."""

    async def version(self) -> str:
        """Return the newest resourceVersion: what is listed after this call is at least as new."""

    async def changes(self, kinds: Sequence[str], since: str) -> tuple[str, Sequence[WatchEvent]]:
        """Return the changes after resourceVersion `since`, and up to where they reach, without waiting.

        ConflictError when they are no longer known: list again.
        """

    def watch(self, kinds: Sequence[str], since: str | None = None) -> AsyncIterator[WatchEvent]:
        """Yield changes after resourceVersion `since` (None: from now on), until closed."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Whether the proxies run what the objects say."""

    ok: bool
    detail: str = ""
    retry_after: float | None = None
    """Seconds after which the answer may be another one, if that is known."""


class DataPlane(Protocol):
    """The proxies behind the objects."""

    async def applied(self, virtual_service: Object) -> Applied:
        """Tell whether this very version of a VirtualService is in force."""


@dataclass(frozen=True, slots=True)
class Series:
    """One labelled counter: its values at the asked instants (absent instants are left out)."""

    labels: Mapping[str, str]
    points: tuple[tuple[int, float], ...]
    native: str = ""
    """If it is a bucket made of a native histogram: what a person should know of that when it cannot be
    counted (its values are NaN then)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to one grouped query; `warnings` is never dropped (partial answers say so there)."""

    series: Sequence[Series]
    warnings: tuple[str, ...] = ()


class Metrics(Protocol):
    """Prometheus, asked for cumulative counters at aligned instants."""

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        """Evaluate `query` at start, start+step .. end (unix seconds, inclusive). UnavailableError."""


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> float:
        """Return unix time in seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Finite(dict[str, Any]):
    """JSON values among which no number is infinite or none, so that the fastest encoder may write them."""


class Look(NamedTuple):
    """A look at which nothing was decided but to hold on, recorded with a later one of the same weights."""

    at: float
    cursor: int
    intervals: Sequence[Mapping[str, Any]]
    verdict: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tick:
    """What a look of one run leaves behind; evidence, cursor and decision are never written apart."""

    run: str
    """Run id."""
    policy: str
    """`namespace/name`."""
    at: float
    """When the look was taken, unix seconds."""
    cursor: int
    """End of the last interval consumed, unix seconds: evidence up to here is in `evidence`."""
    weights: Mapping[str, int]
    """Intended weights per variant while the intervals ran."""
    intervals: Sequence[Mapping[str, Any]]
    """The tables consumed now: {metric, end, control: {total, events}, candidate: {total, events}}."""
    evidence: Mapping[str, Any]
    """The judge's state after them, exact."""
    verdict: Mapping[str, Any]
    """The judge's verdict on it, with numbers and words."""
    decision: Mapping[str, Any] | None = None
    """The decision taken, when it was not to hold on: {action, reason, message, step, weights, inputs}."""
    is_look: bool = True
    """Whether the run itself was looked at: the watch after a promotion leaves no look, only its state."""
    run_facts: Mapping[str, Any] = field(default_factory=dict)
    """The run as a whole: {number, control, candidate, revisions, startedAt, endedAt, outcome, policy, watch:
    what the watch after a promotion found}."""
    earlier: Sequence[Look] = ()
    """Looks since the last record, oldest first: their evidence is in that of this one."""


class History(Protocol):
    """Every observation and decision of every run. SQLite by default, PostgreSQL by URL."""

    async def record(self, *ticks: Tick) -> None:
        """Write looks of different runs, all or none; one that is there already changes nothing.

        UnavailableError.
        """

    def hurry(self) -> None:
        """Make calls fail soon that are not answered, also those under way: a rollback waits behind them."""

    async def evidence(self, run: str) -> tuple[int, Mapping[str, Any]] | None:
        """Return (cursor, evidence) of the last look of a run, or None."""

    async def intervals(self, run: str) -> Sequence[Mapping[str, Any]]:
        """Return a run's intervals as they were recorded, oldest first."""

    async def runs(self, policy: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Return runs, newest first: {id, policy, **run_facts, cursor, weights, verdict}."""

    async def run(self, run: str) -> Mapping[str, Any] | None:
        """Return a run with ticks ({at, cursor, weights, verdict}), intervals, decisions; oldest first.

        `latencies`: per histogram {unit, edges, control, candidate}, the counts of the evidence.
        """
