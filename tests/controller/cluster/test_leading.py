"""Terms: one after another, each ended before the next, none without the lease."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from controller.cluster.leading import Leadership, lead
from controller.cluster.lease import Lease
from controller.ports import UnavailableError
from tests.support.leases import LeaseServer, OwnClock, Weather, Wire
from tests.support.virtual_time import run


@dataclass
class Replica:
    """A process that would lead; its terms write a diary."""

    server: LeaseServer
    name: str
    diary: list[str]
    weather: Weather = field(default_factory=Weather)
    state: Leadership = field(default_factory=Leadership)
    farewell: float = 0.0
    """How long a term takes to end."""

    def __post_init__(self) -> None:
        wire = Wire(self.server, lambda: self.weather)
        self.lease = Lease(wire, identity=self.name, clock=OwnClock())

    async def term(self) -> None:
        self.lease.check()
        self.diary.append(f"{self.name} begins")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.farewell)
            self.diary.append(f"{self.name} ends")

    def start(self, term=None) -> asyncio.Task[None]:
        return asyncio.create_task(lead(self.lease, term or self.term, self.state))


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def server() -> LeaseServer:
    server = LeaseServer()
    server.handle("create", {"spec": {}})
    return server


def _now() -> float:
    return asyncio.get_running_loop().time()


def test_an_outage_of_the_api_ends_the_term_and_not_the_process(server):
    async def story():
        one = Replica(server, "one", [])
        leading = one.start()
        await asyncio.sleep(5)
        assert one.state.leading
        one.weather.fails = True
        await asyncio.sleep(20)
        assert one.diary == ["one begins", "one ends"]
        assert not one.state.leading
        one.weather.fails = False
        await asyncio.sleep(5)
        assert one.diary == ["one begins", "one ends", "one begins"]
        assert one.state.leading
        await _end(leading)

    run(story())


def test_a_graceful_end_hands_over_at_once_and_only_when_the_term_has_ended(server):
    async def story():
        diary = []
        one, two = Replica(server, "one", diary, farewell=4.0), Replica(server, "two", diary)
        first = one.start()
        await asyncio.sleep(1)
        second = two.start()
        await asyncio.sleep(30)
        ending = asyncio.create_task(_end(first))
        await asyncio.sleep(3.9)
        assert diary == ["one begins"]
        await asyncio.sleep(3)
        assert diary == ["one begins", "one ends", "two begins"]
        await ending
        await _end(second)
        assert "holderIdentity" not in server.spec

    run(story())


def test_terms_never_overlap_when_the_leader_is_cut_off(server):
    async def story():
        diary = []
        one, two = Replica(server, "one", diary), Replica(server, "two", diary)
        tasks = [one.start()]
        await asyncio.sleep(1)
        tasks.append(two.start())
        for cut in (one, two, one):
            await asyncio.sleep(30)
            cut.weather.there = None
            await asyncio.sleep(30)
            cut.weather.there = 0.0
        await _end(*tasks)
        assert diary == [
            f"{name} {what}" for name in ("one", "two", "one", "two") for what in ("begins", "ends")
        ]

    run(story())


def test_the_next_term_waits_for_the_end_of_the_last_one(server):
    async def story():
        one = Replica(server, "one", [], farewell=60.0)
        leading = one.start()
        await asyncio.sleep(5)
        one.weather.fails = True
        await asyncio.sleep(15)
        one.weather.fails = False
        await asyncio.sleep(30)
        assert one.diary == ["one begins"]
        await asyncio.sleep(60)
        assert one.diary == ["one begins", "one ends", "one begins"]
        await _end(leading)

    run(story())


@pytest.mark.parametrize("how", [UnavailableError("the history is down"), KeyError("a bug"), None])
def test_a_term_that_fails_or_returns_is_followed_by_another(server, how, caplog):
    async def story():
        one, terms = Replica(server, "one", []), []

        async def term() -> None:
            terms.append(_now())
            if len(terms) < 3 and how is not None:
                raise how
            if len(terms) < 3:
                return
            await one.term()

        leading = one.start(term)
        await asyncio.sleep(20)
        assert len(terms) == 3
        assert one.state.leading
        await _end(leading)

    run(story())
    assert ("ended by an error" in caplog.text) == (how is not None)


def test_a_broken_replica_lets_another_one_lead(server):
    async def story():
        diary = []
        broken, sound = Replica(server, "broken", diary), Replica(server, "sound", diary)

        async def term() -> None:
            raise UnavailableError("no way to the history from here")

        tasks = [broken.start(term), sound.start()]
        await asyncio.sleep(60)
        assert sound.state.leading
        assert diary == ["sound begins"]
        await _end(*tasks)

    run(story())
