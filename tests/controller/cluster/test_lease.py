"""Leader election: who leads when, and never two at once.

Time is virtual, the Lease is in memory, and the network between is as bad as hypothesis can make it. Not
covered here: a real API server (test_lease_real.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cluster.lease import FORMER, BootClock, Lease, NotLeaderError, own_identity, pod_of
from controller.ports import UnavailableError
from tests.support.leases import LONG, LeaseServer, OwnClock, Weather, Wire
from tests.support.virtual_time import run

SECONDS = 15


def _candidate(server, name, *, clock=None, weather=Weather, seconds=SECONDS) -> Lease:
    return Lease(Wire(server, weather), identity=name, seconds=seconds, clock=clock or OwnClock())


def _released(transitions: int = 3) -> LeaseServer:
    server = LeaseServer()
    server.handle("create", {"spec": {"leaseDurationSeconds": SECONDS, "leaseTransitions": transitions}})
    return server


def _now() -> float:
    return round(asyncio.get_running_loop().time(), 2)


def test_a_released_lease_is_taken_at_once():
    async def story():
        server = _released(transitions=3)
        lease = _candidate(server, "a")
        with pytest.raises(NotLeaderError, match="it has not led yet"):
            lease.check()
        await lease.acquire()
        lease.check()
        assert _now() == 0
        assert (lease.holder, lease.transitions, server.spec["leaseTransitions"]) == ("a", 4, 4)
        assert server.spec["leaseDurationSeconds"] == SECONDS
        assert server.spec["acquireTime"] == server.spec["renewTime"]

    run(story())


def test_an_absent_lease_is_waited_for_since_its_holder_may_not_know_that_it_is_gone():
    async def story():
        server = LeaseServer()
        acquiring = asyncio.create_task(_candidate(server, "a").acquire())
        await asyncio.sleep(1)
        assert server.spec["holderIdentity"] == FORMER
        await acquiring
        assert SECONDS <= _now() < SECONDS + 3
        assert server.spec["holderIdentity"] == "a"

    run(story())


def test_a_dead_leader_is_followed_after_its_lease_and_not_before():
    async def story():
        server = _released()
        dead = _candidate(server, "dead")
        await dead.acquire()
        heir = _candidate(server, "heir")
        await asyncio.sleep(1)
        await heir.acquire()
        assert SECONDS + 1 <= _now() < SECONDS + 1 + 3
        assert server.spec["leaseTransitions"] == 5
        with pytest.raises(NotLeaderError, match="its lease of 15 s ran out"):
            dead.check()

    run(story())


@pytest.mark.parametrize("spec", [None, {}, {"leaseDurationSeconds": SECONDS}])
def test_an_empty_lease_is_nobodys_and_taken_at_once(spec):
    """It ships with the chart."""

    async def story():
        server = LeaseServer()
        server.handle("create", {} if spec is None else {"spec": spec})
        await _candidate(server, "a").acquire()
        assert _now() == 0
        assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == ("a", 1)

    run(story())


def test_a_process_that_starts_again_in_its_pod_waits_for_nobody():
    async def story():
        server = _released(transitions=3)
        await _candidate(server, own_identity("pod-1")).acquire()
        again = _candidate(server, own_identity("pod-1"))
        await again.acquire()
        assert _now() == 0
        assert again.transitions == 5, "it is another term"
        again.check()

    run(story())


@pytest.mark.parametrize(
    ("holder", "candidate"),
    [
        (own_identity("pod-1"), own_identity("pod-2")),
        (own_identity(), own_identity()),
        (own_identity("pod-1"), own_identity()),
        ("host_" + FORMER, own_identity("pod-1")),
    ],
)
def test_a_process_of_no_pod_or_of_another_one_waits(holder, candidate):
    async def story():
        server = _released()
        await _candidate(server, holder).acquire()
        await _candidate(server, candidate).acquire()
        assert _now() >= SECONDS

    run(story())


def test_of_two_processes_of_one_pod_the_later_one_leads_and_the_other_one_waits_for_it():
    """That should not be, and then the lease is not taken back and forth."""

    async def story():
        server = _released(transitions=3)
        first, second = (_candidate(server, own_identity("pod-1")) for _ in range(2))
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        await second.acquire()
        assert _now() == 0
        kept = asyncio.create_task(second.keep())
        with pytest.raises(NotLeaderError, match="holds the lease"):
            await keeping
        assert _now() < 5
        waiting = asyncio.create_task(first.acquire())
        await asyncio.sleep(300)
        second.check()
        assert not waiting.done()
        assert server.spec["leaseTransitions"] == 5
        kept.cancel()
        waiting.cancel()

    run(story())


def test_the_duration_that_counts_is_the_holders():
    async def story():
        server = _released()
        await _candidate(server, "long", seconds=40).acquire()
        await _candidate(server, "short", seconds=6).acquire()
        assert _now() >= 40

    run(story())


def test_a_holder_that_renews_is_not_followed_and_reads_nothing():
    async def story():
        server = _released()
        wire = Wire(server)
        holder = Lease(wire, identity="a", seconds=SECONDS, clock=OwnClock())
        await holder.acquire()
        first = dict(server.spec)
        keeping = asyncio.create_task(holder.keep())
        waiting = asyncio.create_task(_candidate(server, "b").acquire())
        await asyncio.sleep(600)
        assert not waiting.done()
        holder.check()
        assert wire.sent[0] == "read"
        assert set(wire.sent[1:]) == {"replace"}
        assert 290 <= len(wire.sent) <= 302
        assert server.spec["acquireTime"] == first["acquireTime"]
        assert server.spec["leaseTransitions"] == first["leaseTransitions"]
        keeping.cancel()
        waiting.cancel()

    run(story())


def test_an_answer_that_comes_late_extends_nothing():
    async def story():
        server = _released()
        weather = Weather(back=4.0)
        lease = _candidate(server, "a", weather=lambda: weather)
        await lease.acquire()  # four seconds for the read, four for the write
        assert _now() == 8
        assert lease.remaining() == pytest.approx(SECONDS - 1 - 4, abs=0.01)

    run(story())


def test_what_arrived_without_an_answer_is_found_out():
    """The write that takes the lease arrives, its answer does not: the candidate is the holder, and leads."""

    async def story():
        server = _released()
        weathers = iter([Weather(), Weather(back=None)])
        lease = _candidate(server, "a", weather=lambda: next(weathers, Weather()))
        await lease.acquire()
        assert server.spec["holderIdentity"] == "a"
        assert server.spec["leaseTransitions"] == 5
        assert 10 <= _now() < 13

    run(story())


def test_a_leader_that_cannot_renew_gives_up_before_its_lease_ends():
    async def story():
        server = _released()
        weather = Weather()
        lease = _candidate(server, "a", weather=lambda: weather)
        await lease.acquire()
        weather.fails = True
        with pytest.raises(NotLeaderError, match="could not be renewed for 10 s"):
            await lease.keep()
        assert _now() == pytest.approx(10)
        with pytest.raises(NotLeaderError, match="could not be renewed"):
            lease.check()
        weather.fails = False
        await lease.acquire()
        assert _now() < 11, "its own lease needs no waiting"
        assert server.spec["leaseTransitions"] == 5, "but it is another term"

    run(story())


@pytest.mark.parametrize("hole", [Weather(there=None), Weather(back=None), Weather(fails=True)])
def test_a_short_outage_costs_nothing(hole):
    async def story():
        server = _released()
        weather = [Weather()]
        lease = _candidate(server, "a", weather=lambda: weather[0])
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        for _ in range(5):
            await asyncio.sleep(20)
            weather[0] = hole
            await asyncio.sleep(2.5)
            weather[0] = Weather()
            lease.check()
        await asyncio.sleep(20)
        assert not keeping.done()
        keeping.cancel()

    run(story())


def test_a_leader_that_reads_of_another_one_is_deposed_at_once():
    async def story():
        server = _released()
        lease = _candidate(server, "a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(1)
        server.handle("replace", {**server.stored, "spec": {**server.spec, "holderIdentity": "usurper"}})
        with pytest.raises(NotLeaderError, match="usurper holds the lease"):
            await keeping
        assert _now() < 5

    run(story())


def test_somebody_else_may_touch_its_metadata_without_costing_it_the_lease():
    async def story():
        server = _released()
        lease = _candidate(server, "a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        for _ in range(20):
            await asyncio.sleep(3)
            server.handle("replace", {**server.stored, "labels": {"at": str(_now())}})
            lease.check()
        keeping.cancel()
        dead_since = _now()
        waiting = asyncio.create_task(_candidate(server, "b").acquire())
        while not waiting.done():
            await asyncio.sleep(1)
            server.handle("replace", {**server.stored, "labels": {"at": str(_now())}})
        assert _now() - dead_since < SECONDS + 5, "a touched object is no renewed lease"

    run(story())


def test_a_deleted_lease_is_made_again_by_its_holder_and_costs_nobody_anything():
    async def story():
        server = _released()
        lease = _candidate(server, "a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        server.stored = None
        await asyncio.sleep(8)
        lease.check()
        assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == ("a", 4)
        assert not keeping.done()
        keeping.cancel()

    run(story())


def test_a_lease_that_was_given_back_is_free_at_once_and_never_checks_again():
    async def story():
        server = _released()
        lease = _candidate(server, "a")
        await lease.acquire()
        await lease.release()
        with pytest.raises(NotLeaderError, match="released"):
            lease.check()
        assert "holderIdentity" not in server.spec
        heir = _candidate(server, "b")
        await heir.acquire()
        assert _now() == 0
        await lease.release()
        assert server.spec["holderIdentity"] == "b", "only what is held can be given back"
        heir.check()

    run(story())


def test_giving_back_into_an_outage_ends_all_the_same():
    async def story():
        weather = Weather()
        lease = _candidate(_released(), "a", weather=lambda: weather)
        await lease.acquire()
        weather.there = None
        await lease.release()
        assert not lease.leads
        assert _now() == pytest.approx(5)

    run(story())


def test_who_resigned_while_a_renewal_was_under_way_stays_resigned():
    async def story():
        weather = Weather()
        lease = _candidate(_released(), "a", weather=lambda: weather)
        await lease.acquire()
        weather.back = 3.0
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(3)
        lease.resign("told to")
        await asyncio.sleep(3)
        assert not lease.leads
        with pytest.raises(NotLeaderError, match="told to"):
            await keeping

    run(story())


def test_two_records_are_never_equal_even_if_the_wall_clock_stands_or_goes_back():
    async def story():
        server = _released()
        clock = OwnClock()
        lease = _candidate(server, "a", clock=clock)
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        times = []
        for _ in range(10):
            times.append(server.spec["renewTime"])
            clock.wall_offset -= 3600
            await asyncio.sleep(2.1)
        assert times == sorted(set(times))
        keeping.cancel()

    run(story())


def test_a_process_that_was_stopped_past_its_lease_is_refused_by_its_first_check():
    async def story():
        clock = OwnClock()
        lease = _candidate(_released(), "a", clock=clock)
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(7)
        lease.check()
        clock.offset += SECONDS  # nothing of it ran in between
        with pytest.raises(NotLeaderError, match="ran out"):
            lease.check()
        with pytest.raises(NotLeaderError):
            await keeping

    run(story())


def test_not_leading_is_something_that_passes():
    assert issubclass(NotLeaderError, UnavailableError)


def test_no_two_starts_have_one_name_and_the_boot_clock_goes_on():
    assert own_identity() != own_identity()
    assert own_identity("4f-1") != own_identity("4f-1")
    assert (pod_of(own_identity("4f-1")), pod_of(own_identity()), pod_of("")) == ("4f-1", "", "")
    clock = BootClock()
    assert clock.now() <= clock.now()
    assert clock.wall() > 1_700_000_000


# Never two.


@dataclass(frozen=True)
class Machine:
    """A candidate's circumstances."""

    offset: float
    rate: float
    wall: float
    weathers: tuple[tuple[float, Weather], ...]
    """Until when (seconds) which weather is."""
    stops: tuple[tuple[float, float], ...]
    """When it is stopped, and for how long."""
    restarts: tuple[float, ...]
    in_pod: bool = False
    """Whether its processes name a pod: one that starts again is the only one then."""


_DELAYS = st.none() | st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.5, 3.0, 8.0, 14.0, 16.0, 40.0])
_WEATHER = st.builds(Weather, there=_DELAYS, back=_DELAYS, fails=st.booleans()) | st.just(Weather())
_CIRCUMSTANCES = {
    "offset": st.floats(-1e5, 1e5),
    "rate": st.floats(0.97, 1.03),
    "wall": st.floats(1e9, 2e9),
    "weathers": st.lists(st.tuples(st.floats(0.5, 40), _WEATHER), max_size=8).map(tuple),
    "stops": st.lists(st.tuples(st.floats(0, 150), st.floats(0, 40)), max_size=3).map(tuple),
}
_RESTARTS = st.lists(st.floats(0, 150), max_size=2).map(tuple)
_MACHINE = st.builds(Machine, **_CIRCUMSTANCES, restarts=_RESTARTS, in_pod=st.booleans())


class _StoppableClock(OwnClock):
    """A clock of a process that can be stopped: nothing of it wakes before it is resumed."""

    stopped_until = 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if (left := self.stopped_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)


def _weather_of(machine: Machine):
    def now() -> Weather:
        at = 0.0
        for lasts, weather in machine.weathers:
            at += lasts
            if _now() < at:
                return weather
        return Weather()

    return now


async def _live(
    server: LeaseServer, name: str, machine: Machine, standing: dict[str, Lease], identity: str = ""
) -> None:
    """Stand for the lease again and again; restarts begin with no memory and under another name.

    Who was killed may still send what it checked, unless it was in a pod: then it was seen to be dead.
    """
    clock = _StoppableClock(machine.offset, machine.rate, machine.wall)
    loop = asyncio.get_running_loop()
    for at, lasts in machine.stops:
        loop.call_at(at, lambda until: setattr(clock, "stopped_until", until), at + lasts)
    for start, end in zip((0.0, *sorted(machine.restarts)), (*sorted(machine.restarts), LONG), strict=True):
        own = own_identity(f"pod-{name}") if machine.in_pod else f"{name}-{start}"
        lease = standing[name] = _candidate(
            server, identity or own, clock=clock, weather=_weather_of(machine)
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while True:
                    await lease.acquire()
                    with contextlib.suppress(NotLeaderError):
                        await lease.keep()
        if not machine.in_pod:
            standing[f"{name} before {end}"] = lease


@settings(max_examples=150, deadline=None)
@given(machines=st.lists(_MACHINE, min_size=2, max_size=3), deletions=st.lists(st.floats(0, 200), max_size=2))
def test_no_two_candidates_ever_check_at_the_same_time(machines, deletions):
    async def story():
        server, standing = _released(), {}
        loop = asyncio.get_running_loop()
        for at in deletions:
            loop.call_at(at, setattr, server, "stored", None)
        lives = [
            asyncio.create_task(_live(server, f"m{at}", machine, standing))
            for at, machine in enumerate(machines)
        ]
        led = set()
        while _now() < 200 or not led:
            leading = [name for name, lease in standing.items() if lease.leads]
            assert len({id(standing[name]) for name in leading}) <= 1, f"at {_now()}: {leading}"
            led |= set(leading)
            assert _now() < LONG / 10, "in fair weather somebody must lead in the end"
            await asyncio.sleep(0.1)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    run(story())


_ALONE = st.builds(Machine, **_CIRCUMSTANCES, restarts=st.just(()))


@settings(max_examples=40, deadline=None)
@given(machines=st.tuples(_ALONE, _ALONE), after=st.floats(0, 100))
def test_two_processes_in_one_pod_both_lead_for_less_than_a_lease_and_only_once(machines, after):
    """What the third assumption is worth: where it does not hold, the fences of the writes have to."""

    async def story():
        server, standing = _released(), {}

        async def later(name, machine, seconds):
            await asyncio.sleep(seconds)
            await _live(server, name, machine, standing, own_identity("pod-1"))

        lives = [
            asyncio.create_task(later("first", machines[0], 0)),
            asyncio.create_task(later("second", machines[1], after)),
        ]
        both, was, times, led = 0.0, False, 0, set()
        while _now() < 460:
            leading = {name for name, lease in standing.items() if lease.leads}
            two = len(leading) == 2
            both, times, was = both + 0.2 * two, times + (two and not was), two
            led |= leading if _now() > 420 else set()  # the weather is fair by then
            await asyncio.sleep(0.2)
        assert both < SECONDS
        assert times <= 1
        assert len(led) == 1, "the lease is not taken back and forth"
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    run(story())
