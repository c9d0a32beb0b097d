"""Events: counted, bounded, and read back. What kubectl shows of them is tested in test_store.py."""

import asyncio

import pytest

from controller.cluster import events
from controller.cluster.events import BURST, REFILL_SECONDS, Events
from controller.cluster.kube import Kube
from controller.ports import Ref, UnavailableError
from tests.support.kube_server import Answer, kube_server

REF = Ref("RolloutPolicy", "ml", "ranker")
POLICY = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "RolloutPolicy",
    "metadata": {"name": "ranker", "namespace": "ml", "uid": "uid-1", "resourceVersion": "7"},
}


@pytest.fixture
async def server():
    async with kube_server() as running:
        yield running


@pytest.fixture
async def kube(server, tmp_path):
    opened = await Kube.open(server.kubeconfig(tmp_path / "config"))
    yield opened
    await opened.close()


@pytest.fixture
def clock():
    return [1_700_000_000.5]


@pytest.fixture
def told(kube, clock, monkeypatch):
    """Events of a process whose machine lets nobody wait, unless a test says otherwise."""
    monkeypatch.setattr(events, "WITHIN", 60.0)
    monkeypatch.setattr(events, "_now", lambda: 0.0)
    return Events(kube, lambda: clock[0])


def stored(server):
    return list(server.objects.get("events", {}).values())


async def paused(told, message="because", about=POLICY, ref=REF):
    await told.tell(about, ref, "Warning", "Paused", message)


async def test_an_event_says_what_happened_to_which_object(server, told):
    await paused(told)
    [event] = stored(server)
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert event["regarding"] == {
        "apiVersion": "penstock.dev/v1alpha1", "kind": "RolloutPolicy", "namespace": "ml", "name": "ranker",
        "uid": "uid-1", "resourceVersion": "7",
    }  # fmt: skip
    words = {
        key: event[key] for key in ("type", "reason", "action", "note", "eventTime", "reportingController")
    }
    assert words == {
        "type": "Warning", "reason": "Paused", "action": "Paused", "note": "because",
        "eventTime": "2023-11-14T22:13:20.500000Z", "reportingController": "penstock.dev/controller",
    }  # fmt: skip


async def test_equal_events_are_counted_in_one_object(server, told, clock):
    for _ in range(3):
        await paused(told)
        clock[0] += 1
    [event] = stored(server)
    assert event["series"] == {"count": 3, "lastObservedTime": "2023-11-14T22:13:22.500000Z"}


async def test_other_words_are_another_event(server, told):
    await paused(told)
    await paused(told, "for another reason")
    await paused(told, about={**POLICY, "metadata": {**POLICY["metadata"], "uid": "made anew"}})
    assert len(stored(server)) == 3


async def test_the_next_process_counts_on(server, told, kube):
    await paused(told)
    await paused(told)
    await paused(Events(kube))
    assert [event["series"]["count"] for event in stored(server)] == [3]


async def test_an_event_that_has_expired_is_written_anew(server, told):
    await paused(told)
    await paused(told)
    server.objects["events"].clear()
    await paused(told)
    assert ["series" in event for event in stored(server)] == [False]


async def test_what_comes_too_fast_is_left_out_and_that_is_told(server, told, clock):
    for number in range(BURST + 10):
        await paused(told, f"because {number}")
    assert len(stored(server)) == BURST
    assert len(server.requests) == BURST
    clock[0] += REFILL_SECONDS
    await paused(told, "at last")
    assert stored(server)[-1]["note"] == "at last (10 events were left out before)"
    await paused(told, "too fast again")
    assert len(stored(server)) == BURST + 1


async def test_equal_events_that_flap_are_bounded_too(server, told, clock):
    for _ in range(200):
        await paused(told)
        clock[0] += 0.1
    assert len(server.requests) <= BURST + 20 / REFILL_SECONDS + 1


async def test_one_object_that_flaps_does_not_silence_another(server, told):
    for _ in range(BURST + 1):
        await paused(told)
    await paused(told, ref=REF._replace(name="other"))
    assert [event["regarding"]["name"] for event in stored(server)] == ["ranker", "other"]


async def test_what_is_remembered_is_bounded(server, told, monkeypatch):
    monkeypatch.setattr(events, "OBJECTS", 3)
    monkeypatch.setattr(events, "COUNTS", 2)
    for number in range(5):
        await paused(told, ref=REF._replace(name=f"r{number}"))
        await paused(told, f"because {number}")
    assert len(told._told) == 3
    assert len(told._told[REF].counts) == 2


async def test_a_long_message_is_cut_to_what_the_api_server_takes(server, told):
    await paused(told, "ü" * 2000)
    [event] = stored(server)
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("ü ...")


async def test_a_clock_that_is_set_back_silences_nobody_for_long(server, told, clock):
    await paused(told)
    clock[0] -= 3600
    await paused(told)
    assert stored(server)[0]["series"]["count"] == 2


async def test_a_failure_to_write_is_unavailable_and_the_next_is_written(server, told):
    server.answers.append(Answer(500, "etcd is down"))
    with pytest.raises(UnavailableError, match="etcd is down"):
        await paused(told)
    await paused(told)
    assert len(stored(server)) == 1


async def test_an_event_that_is_waited_for_in_vain_keeps_the_next_ones_from_waiting(
    server, told, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(events, "_now", lambda: now[0])
    call = told._kube.call

    async def slow(*args, **kwargs):
        now[0] += 2 * events.IN_VAIN
        return await call(*args, **kwargs)

    monkeypatch.setattr(told._kube, "call", slow)
    server.answers.append(Answer(delay=60))
    with monkeypatch.context() as soon:
        soon.setattr(events, "WITHIN", 0.05)
        for ref in (REF, REF._replace(name="other")):
            with pytest.raises(UnavailableError, match="did not answer in time"):
                await paused(told, ref=ref)
    sent = len(server.requests)
    assert sent <= 1
    server.answers.clear()  # on a busy machine not even the first was sent
    now[0] += events.REST
    await paused(told, ref=REF._replace(name="other"))
    assert len(server.requests) == sent + 1


async def test_the_word_of_one_object_does_not_wait_for_that_of_another(server, told, monkeypatch):
    call, together = told._kube.call, asyncio.Barrier(2)

    async def met(*args, **kwargs):
        async with asyncio.timeout(30):
            await together.wait()
        return await call(*args, **kwargs)

    monkeypatch.setattr(told._kube, "call", met)
    await asyncio.gather(paused(told), paused(told, ref=REF._replace(name="other")))
    assert len(stored(server)) == 2


async def test_equal_events_that_come_at_once_are_counted_all_the_same(server, told):
    await asyncio.gather(*(paused(told) for _ in range(5)))
    [event] = stored(server)
    assert event["series"]["count"] == 5
    assert not told._turns


async def test_a_refusal_that_comes_at_once_keeps_nobody_from_telling(server, told):
    server.answers.append(Answer(403, "a quota is used up"))
    with pytest.raises(UnavailableError, match="used up"):
        await paused(told)
    await paused(told, ref=REF._replace(name="other"))
    assert len(stored(server)) == 1


async def test_a_namespace_that_is_going_takes_no_events(server, told):
    server.answers.append(Answer(403, "namespace ml is being terminated"))
    with pytest.raises(UnavailableError, match="being terminated"):
        await paused(told)


async def test_events_are_shown_newest_first_with_their_counts(server, told, clock):
    for reason in ("Old", "Paused", "Paused"):
        await told.tell(POLICY, REF, "Normal", reason, "because")
        clock[0] += 1
    found = await told.list(None, [None], limit=10)
    assert [(event["reason"], event["count"]) for event in found] == [("Paused", 2), ("Old", 1)]
    assert found[0] == {
        "type": "Normal", "reason": "Paused", "message": "because", "count": 2,
        "firstSeen": "2023-11-14T22:13:21.500000Z", "lastSeen": "2023-11-14T22:13:22.500000Z",
        "object": {"kind": "RolloutPolicy", "namespace": "ml", "name": "ranker"},
    }  # fmt: skip
    assert len(await told.list(None, [None], limit=1)) == 1
    await told.list(REF, [None], limit=1)
    assert "regarding.name%3Dranker" in server.requests[-1]
    assert "/namespaces/ml/events" in server.requests[-1]


async def test_however_many_ask_the_api_server_is_asked_for_events_once_in_a_moment(
    server, told, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(events, "_now", lambda: now[0])
    await paused(told)
    before = len(server.requests)
    answers = await asyncio.gather(*(told.list(None, [None], limit) for limit in range(1, 21)))
    assert len(server.requests) == before + 1
    assert all(answer == answers[0] for answer in answers)
    await told.list(REF, [None], 10)
    assert len(server.requests) == before + 2
    now[0] += events.FRESH
    await told.list(None, [None], 10)
    assert len(server.requests) == before + 3
    await paused(told, "something else")
    assert {event["message"] for event in await told.list(None, [None], 10)} == {"something else", "because"}


async def test_a_list_that_failed_is_asked_for_again(server, told):
    server.answers.append(Answer(403, "may not list events"))
    with pytest.raises(UnavailableError, match="may not list events"):
        await told.list(None, [None], 10)
    assert await told.list(None, [None], 10) == []


async def test_events_are_fenced_like_every_write(server, told, kube):
    def refuse():
        raise UnavailableError("this process does not lead")

    kube.before_write = refuse
    with pytest.raises(UnavailableError, match="does not lead"):
        await paused(told)
    assert server.requests == []
