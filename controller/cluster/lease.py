"""Who leads: leader election on a Lease (coordination.k8s.io/v1), and the fence that goes with it.

Protocol, as client-go's: the holder renews every `seconds` x 2/15; it gives up when no renewal has succeeded
for `seconds` x 2/3. A candidate takes the lease when it is released, or when its record has not changed for
the duration that the record itself names, by the candidate's own clock. No clock of another machine is
believed: the times in the record are for people. Every write of the Lease is guarded by its resourceVersion.

A process in a pod names its pod in its identity. If the first record that it reads names an earlier process
of this very pod, it takes the lease at once: a container is started again only when its last process is dead
(the kubelet kills even one whose state it does not know), so nobody is waited for. It begins a new term like
any other. Only the first record counts: were two processes to run in one pod, the later one would lead, the
earlier one would learn of it by its next renewal, and wait for the lease like any other candidate.

**Guaranteed:** `check` never passes in two processes at the same time.
 1. A record is first seen by a candidate after it was stored, so after it was sent. The candidate waits for a
    full duration from then, and its write is refused if the record has changed meanwhile, however stale what
    it read was. So it holds the lease no earlier than `sent + duration` of the last renewal that succeeded.
 2. The holder counts from the moment at which that renewal was *sent*, not answered, and `check` refuses a
    fifteenth of the duration earlier. An answer that comes late extends nothing.
 3. Two records are never equal: `renewTime` rises with every renewal, whatever the wall clock does.
 4. A Lease that was deleted may have a holder that does not know yet. Its holder makes it again as it was;
    anybody else makes it in the name of `FORMER`, and then waits for it like everybody. (How long that
    holder's duration was is gone with it: here replicas must not differ.)

It rests on three assumptions.
 - Only candidates write the record. Anybody may delete the Lease, and anybody may make an empty one where
   there was none, as the chart does. But an empty one says that nobody leads: who deletes the Lease and makes
   an empty one faster than its holder comes to know may have two leaders, until the holder's next renewal
   or, if it is cut off, for the rest of its lease.
 - The *rates* of the clocks differ by less than a fifteenth (6 %); their offsets and steps do not matter. The
   clock is CLOCK_BOOTTIME where there is one (Linux), since it counts while the machine sleeps; SIGSTOP and a
   blocked event loop stop neither it nor CLOCK_MONOTONIC. A virtual machine that is frozen with its clocks
   breaks it.
 - Of the processes that name one pod, only one runs at a time. Otherwise there may be two leaders for as long
   as under the first assumption, once per start. Outside of a pod this is not assumed.
Where one of them does not hold, what is said below of late requests protects: such a pair disturbs each
other, and writes nothing that was not rightly decided on what it was written to.

**Not guaranteed:** that a request which was checked does not arrive later. A process can be stopped between
`check` and the system call, and the kernel sends a packet again, on Linux for some seconds (RESEND_SECONDS of
`controller.cluster.connection`), elsewhere for minutes. `remaining` bounds only how long the sender waits.
Also what a process had handed to its kernel when it was killed is still sent, while its successor in the pod
may lead already. What protects then is not the lease:
 - Objects: each write carries the resourceVersion that was read (controller/writer.py). It lands only on the
   very object that its decision was taken on, so it is a rightful leader's decision that came late. If the
   successor has written the object since, it is refused; if not, the successor's next write is refused, and
   it reads and decides again. Status goes first, so traffic can be moved only to weights that a status
   wanted. What remains: weights that arrive after a successor decided otherwise and had nothing to write (it
   wanted what was there). It sees by its watch that a Penstock wrote them which it is not, and undoes them in
   one look, whatever the policy's `onDrift` says (controller/drifting.py).
 - The history: a new term claims it in the database (`SqlHistory.claim`), which waits for transactions under
   way and refuses all later ones of older terms, however late they come.

Every acquisition begins a new term and counts `leaseTransitions`, also when the former holder was this very
process or one of this pod.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from typing import TYPE_CHECKING, Protocol

from controller.ports import ConflictError, NotFoundError, UnavailableError
from controller.status import from_rfc3339, to_rfc3339

if TYPE_CHECKING:
    from controller.cluster.lease_object import Leases
    from controller.ports import Object

log = logging.getLogger("penstock")

FORMER = "former-holder-if-any"
"""Whose a Lease is that was not there: whoever may have held it before it was deleted."""
_TICK = 1e-6
"""The finest difference of a MicroTime."""
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class NotLeaderError(UnavailableError):
    """Nothing may be written: this process does not lead, or cannot be sure that it does."""


class LeaseClock(Protocol):
    """Time as a lease needs it."""

    def now(self) -> float:
        """Return seconds that are never set and never pause."""

    def wall(self) -> float:
        """Return unix time, for people."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class BootClock:
    """The clocks of this machine."""

    def now(self) -> float:
        """Return seconds since boot, those asleep included where the system counts them."""
        return time.clock_gettime(_BOOT_CLOCK)

    def wall(self) -> float:
        """Return unix time."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def own_identity(pod: str = "") -> str:
    """Return a name for this process that no other start of it has; `pod` is the UID of its pod, if any."""
    host, start = socket.gethostname().replace("_", "-"), uuid.uuid4()
    return f"{host}_{pod}_{start}" if pod else f"{host}_{start}"


def pod_of(identity: str) -> str:
    """Return the UID of the pod that an identity names; empty: none."""
    parts = identity.split("_")
    return parts[1] if len(parts) == 3 else ""


class Lease:
    """One candidate for a Lease, and its fence while it holds it."""

    def __init__(
        self, leases: Leases, *, identity: str, seconds: int = 15, clock: LeaseClock | None = None
    ) -> None:
        """Stand for a Lease; `identity` must be this process's alone, and new at each start."""
        self.identity, self.seconds = identity, seconds
        self.holder = ""
        """Who held it when it was last read or written; empty: nobody."""
        self.transitions = 0
        """How often it was acquired, by anybody, when it was last read or written."""
        self._leases, self._clock = leases, clock or BootClock()
        self._give_up, self._pause = seconds * 2 / 3, seconds * 2 / 15
        self._patience, self._margin = seconds / 3, seconds / 15
        self._sent: float | None = None
        """When the last renewal that succeeded was sent; None: this process does not lead."""
        self._held: Object | None = None
        """The Lease as this process wrote it last; None: it must be read."""
        self._seen: tuple[Object, float] = ({}, 0.0)
        """The record that was read last, and when it was first read."""
        self._earlier: str | None = None
        """The dead process of this pod that has held it since the first read; None: nothing was read yet."""
        self._why, self._told = "it has not led yet", ""
        self._jitter = random.SystemRandom()

    @property
    def where(self) -> str:
        """What is led: `namespace/name` of the Lease."""
        return self._leases.where

    @property
    def leads(self) -> bool:
        """Whether a write would be allowed now."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Return for how many seconds from now this process surely leads; 0 if it does not."""
        if self._sent is None:
            return 0.0
        return max(0.0, self._sent + self.seconds - self._margin - self._clock.now())

    def check(self) -> None:
        """Call right before each write is sent; NotLeaderError."""
        if not self.leads:
            why = self._why if self._sent is None else f"its lease of {self.seconds} s ran out"
            raise NotLeaderError(f"this process does not lead: {why}")

    def resign(self, why: str) -> None:
        """Stop leading now; `keep` ends soon, and the Lease may be acquired again."""
        if self._sent is not None:
            self._sent, self._why = None, why

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while True:
            await self._attempt(self._give_up)  # it may take two requests
            if self.leads:
                return
            await self._clock.sleep(self._pause * self._jitter.uniform(1.0, 1.2))

    async def keep(self) -> None:
        """Renew for as long as that works; NotLeaderError when leadership is lost or nearly so."""
        while (left := self._renewable()) > 0:
            await self._clock.sleep(min(left, self._pause))
            if (left := self._renewable()) > 0:
                await self._attempt(min(left, self._patience))
        self.resign(f"the lease could not be renewed for {self._give_up:.0f} s")
        raise NotLeaderError(self._why)

    async def release(self) -> None:
        """Give the Lease back, so that a successor need not wait; only after all that it guards has ended."""
        self.resign("the lease was released")
        if self.holder != self.identity:
            return
        try:
            async with asyncio.timeout(self._patience):
                stored = self._held or await self._leases.read()
                spec = stored.get("spec") or {}
                if spec.get("holderIdentity") == self.identity:
                    kept = {key: spec[key] for key in spec.keys() - {"holderIdentity", "acquireTime"}}
                    kept["renewTime"] = self._renew_time(spec)
                    self._observe(await self._leases.replace({**stored, "spec": kept}))
        except (TimeoutError, ConflictError, NotFoundError, UnavailableError) as error:
            log.warning("the lease could not be released; it runs out in %d s: %s", self.seconds, error)
        self._held = None

    def _renewable(self) -> float:
        """Return for how long renewing makes sense."""
        return 0.0 if self._sent is None else self._sent + self._give_up - self._clock.now()

    async def _attempt(self, seconds: float) -> None:
        """Acquire or renew, if that may be done now; whatever fails is tried again by the caller."""
        try:
            async with asyncio.timeout(seconds):
                await self._acquire_or_renew()
            problem = ""
        except TimeoutError:
            problem = "the API server does not answer"
        except (ConflictError, NotFoundError):
            problem, self._held = "", None  # somebody else was faster: read again
        except UnavailableError as error:
            problem = str(error)
        if problem and problem != self._told:
            log.warning("the lease cannot be read or written: %s", problem)
        elif self._told and not problem:
            log.info("the lease can be read and written again")
        self._told = problem

    async def _acquire_or_renew(self) -> None:
        try:
            stored = self._held or await self._leases.read()
        except NotFoundError:
            await self._create()
            return
        self._observe(stored)
        if self._may_take():
            leads, sent = self._sent is not None, self._clock.now()
            self._held = None  # until the answer is here nothing is known
            spec = self._own_spec(stored.get("spec") or {}, renewal=leads)
            self._adopt(await self._leases.replace({**stored, "spec": spec}), sent, renewal=leads)

    async def _create(self) -> None:
        """Make the Lease: the holder as its own, anybody else as that of `FORMER`."""
        leads, sent = self._sent is not None, self._clock.now()
        self._held = None
        spec = self._own_spec(self._seen[0], renewal=leads)
        if not leads:
            spec |= {"holderIdentity": FORMER, "leaseTransitions": 0}
        stored = await self._leases.create({"spec": spec})
        if leads:
            self._adopt(stored, sent, renewal=True)
        else:
            log.info("there was no lease: if nobody holds it, it can be taken in %d s", self.seconds)
            self._observe(stored)

    def _observe(self, stored: Object) -> None:
        """Note what is stored, and since when it has been so."""
        record = stored.get("spec") or {}
        if record != self._seen[0]:
            self._seen = record, self._clock.now()
        self.holder = record.get("holderIdentity") or ""
        self.transitions = record.get("leaseTransitions") or 0
        if self._earlier is None and pod_of(self.holder) == pod_of(self.identity) != "":
            self._earlier = self.holder
        elif self._earlier != self.holder:
            self._earlier = ""  # whoever holds it from now on is alive
        if self.holder != self.identity:
            self.resign(f"{self.holder or 'nobody'} holds the lease")

    def _may_take(self) -> bool:
        record, since = self._seen
        free = self.holder in {"", self.identity, self._earlier}
        lasts = record.get("leaseDurationSeconds") or self.seconds  # what its holder goes by
        if not free:
            self._why = f"{self.holder} holds the lease"
        return free or self._clock.now() >= since + lasts

    def _own_spec(self, old: Object, *, renewal: bool) -> Object:
        now = self._renew_time(old)
        own = {"holderIdentity": self.identity, "leaseDurationSeconds": self.seconds, "renewTime": now}
        if not renewal:
            own |= {"acquireTime": now, "leaseTransitions": (old.get("leaseTransitions") or 0) + 1}
        return {**old, **own}

    def _renew_time(self, old: Object) -> str:
        """Return the time for people, later than the last: an equal record would not be seen as renewed."""
        last = from_rfc3339(old["renewTime"]) + _TICK if old.get("renewTime") else 0.0
        return to_rfc3339(max(self._clock.wall(), last))

    def _adopt(self, stored: Object, sent: float, *, renewal: bool) -> None:
        """Lead from the moment that the write was sent; a renewal does not bring back what was given up."""
        self._observe(stored)
        if renewal and self._sent is None:
            return
        self._sent, self._held = sent, stored
