"""The mirror of one kind, against an API server on its bad days.

Covered: what a mirror holds and tells after each kind of interruption. A long random fight with the real API
server is in test_store.py.
"""

import asyncio
import logging

import pytest

from controller.cluster import kube
from controller.cluster.informer import Informer, Timing
from controller.cluster.kube import Kube
from controller.cluster.resources import LAST_APPLIED, WATCHED
from controller.ports import UnavailableError
from tests.support.kube_server import Answer, kube_server, until

POLICY, _, VS, RULE, *_ = WATCHED
QUICK = Timing(
    watch=(30, 30), first_pause=0.01, longest_pause=0.05, absent_pause=0.03, confirm=0.02, short=0.0
)


@pytest.fixture
async def server():
    async with kube_server() as running:
        yield running


class Mirror:
    """An informer that runs, and what it told."""

    def __init__(self, client, resource=VS, namespace=None, timing=QUICK):
        self.told = []
        self.informer = Informer(client, resource, namespace, self._note, timing)
        self._task = asyncio.create_task(self.informer.run())

    def _note(self, event):
        meta = event.object["metadata"]
        self.told.append((event.type, meta["name"], int(meta["resourceVersion"])))

    @property
    def names(self):
        return sorted(name for _, name in self.informer.objects)

    async def close(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def mirror(server, tmp_path):
    client = await Kube.open(server.kubeconfig(tmp_path / "config"))
    running = []

    async def begin(resource=VS, namespace=None, timing=QUICK):
        running.append(Mirror(client, resource, namespace, timing))
        await until(lambda: running[-1].informer.synced or running[-1].informer.problem)
        return running[-1]

    yield begin
    for each in running:
        await each.close()
    await client.close()


async def test_everything_is_listed_and_then_every_change_is_told(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    server.put("virtualservices", "b")
    server.put("virtualservices", "a", spec={"x": 1})
    server.delete("virtualservices", "b")
    await until(lambda: len(found.told) == 4)
    assert found.told == [
        ("ADDED", "a", 101),
        ("ADDED", "b", 102),
        ("MODIFIED", "a", 103),
        ("DELETED", "b", 104),
    ]
    assert found.informer.objects["ml", "a"]["spec"] == {"x": 1}
    assert found.names == ["a"]


async def test_objects_say_what_they_are(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    assert found.informer.objects["ml", "a"]["kind"] == "VirtualService"
    assert found.informer.objects["ml", "a"]["apiVersion"] == "networking.istio.io/v1"


@pytest.mark.parametrize(
    ("resource", "owners", "applied"), [(VS, True, True), (POLICY, False, True), (RULE, False, False)]
)
def test_what_nobody_reads_is_dropped(resource, owners, applied):
    metadata = {"name": "a", "managedFields": [1], "annotations": {LAST_APPLIED: "...", "mine": "kept"}}
    found = resource.trim({"metadata": metadata, "spec": {}})["metadata"]
    assert ("managedFields" in found, LAST_APPLIED in found["annotations"]) == (owners, applied)
    assert found["annotations"]["mine"] == "kept"
    assert metadata["managedFields"] == [1]


async def test_only_the_namespace_that_was_asked_for_is_mirrored(server, mirror):
    server.put("virtualservices", "a")
    server.put("virtualservices", "b", "other")
    found = await mirror(namespace="ml")
    server.put("virtualservices", "c", "other")
    server.put("virtualservices", "d")
    await until(lambda: len(found.told) == 2)
    assert found.names == ["a", "d"]


async def test_a_watch_that_ends_resumes_without_a_list(server, mirror):
    found = await mirror()
    for number in range(5):
        await until(lambda: server.watches)
        server.put("virtualservices", f"v{number}")
        server.end_watches(abort=number % 2 == 0)  # what comes now is told by the next watch
        server.put("virtualservices", f"w{number}")
    await until(lambda: len(found.told) == 10)
    assert len(found.names) == 10
    assert sum("watch" not in request for request in server.requests) == 1


async def test_a_reset_in_the_middle_of_a_line_loses_nothing(server, mirror):
    found = await mirror()
    await until(lambda: server.watches)
    server.raw("virtualservices", b'{"type":"ADDED","object":{"metadata":{"name":"gho')
    server.end_watches(abort=True)
    server.put("virtualservices", "a")
    await until(lambda: found.names == ["a"])
    assert found.told == [("ADDED", "a", 101)]


async def test_a_bookmark_is_resumed_from(server, mirror):
    found = await mirror()
    await until(lambda: server.watches)
    server.put("destinationrules", "elsewhere")
    server.bookmark("virtualservices")
    server.end_watches()
    await until(lambda: any("resourceVersion=101" in request for request in server.requests))
    assert found.told == []


@pytest.mark.parametrize("how", ["answer", "event"])
async def test_what_is_too_old_is_listed_again_and_deletions_are_told(server, mirror, how):
    for name in "abc":
        server.put("virtualservices", name)
    found = await mirror()
    await until(lambda: server.watches)
    if how == "answer":
        server.answers.append(Answer(410, match="watch"))
    server.end_watches()
    server.delete("virtualservices", "a")
    server.put("virtualservices", "b", spec={"x": 1})
    server.put("virtualservices", "d")
    server.forget()
    await until(lambda: found.names == ["b", "c", "d"])
    assert sorted(found.told[3:]) == [("ADDED", "d", 106), ("DELETED", "a", 101), ("MODIFIED", "b", 105)]


async def test_an_object_that_did_not_change_stays_the_same_value_over_a_list(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    before = found.informer.objects["ml", "a"]
    await until(lambda: server.watches)
    server.forget()
    server.error("virtualservices", 410)
    await until(lambda: sum("limit" in request for request in server.requests) == 2)
    await until(lambda: server.watches)
    assert found.informer.objects["ml", "a"] is before
    assert len(found.told) == 1


async def test_an_object_that_was_made_anew_meanwhile_is_told_as_deleted_and_added(server, mirror):
    server.put("virtualservices", "a", uid="old")
    found = await mirror()
    await until(lambda: server.watches)
    server.end_watches()
    server.put("virtualservices", "a", uid="new")
    server.history.clear()
    server.forget()
    await until(lambda: len(found.told) == 3)
    assert found.told[1:] == [("DELETED", "a", 101), ("ADDED", "a", 102)]


async def test_a_list_whose_continuation_expires_begins_again(server, mirror, monkeypatch):
    monkeypatch.setattr(kube, "PAGE", 1)
    for name in "abc":
        server.put("virtualservices", name)
    server.answers.append(Answer(410, match="continue"))
    found = await mirror()
    await until(lambda: found.informer.synced)
    assert found.names == ["a", "b", "c"]
    assert len(found.told) == 3


async def test_failures_are_retried_and_told_once(server, mirror, caplog):
    caplog.set_level(logging.INFO, "penstock")
    server.answers += [Answer(500, "etcd is down")] * 3
    found = await mirror()
    await until(lambda: found.informer.synced)
    told = [record.message for record in caplog.records if "etcd is down" in record.message]
    assert len(told) == 1
    assert caplog.records[-1].message == "virtualservices.networking.istio.io: works again"
    assert found.informer.problem == ""


async def test_a_watch_that_breaks_once_is_not_worth_a_word_and_twice_is(server, mirror, caplog):
    caplog.set_level(logging.INFO, "penstock")
    await mirror()
    for failures in (1, 2):
        await until(lambda: server.watches)
        broken = server.watches[0]
        server.answers += [Answer(500, match="watch")] * (failures - 1)
        server.end_watches(abort=True)
        await until(lambda: server.watches and server.watches != [broken])  # noqa: B023
        await until(lambda: failures == 1 or "works again" in caplog.text)  # noqa: B023
        assert len(caplog.records) == (0 if failures == 1 else 2)


async def test_a_kind_that_is_forbidden_is_told_with_its_verb_and_comes_back(server, mirror, caplog):
    server.answers += [Answer(403, "no rights", match="virtualservices")] * 2
    found = await mirror()
    assert "not allowed to list virtualservices.networking.istio.io at the cluster scope" in caplog.text
    with pytest.raises(UnavailableError, match="were not read yet: not allowed to list virtualservices"):
        found.informer.check()
    await until(lambda: found.informer.synced)
    found.informer.check()


@pytest.mark.parametrize("code", [200, 403, 404, 500])
async def test_whoever_waits_for_the_first_read_is_told_when_it_cannot_be(server, mirror, code):
    """A term begins with it, and must not wait for a kind that cannot be read."""
    if code != 200:
        server.answers += [Answer(code, "no", match="virtualservices")] * 99
    found = await mirror()
    async with asyncio.timeout(60):
        await found.informer.tried.wait()
    assert found.informer.synced == (code in {200, 404})
    assert bool(found.informer.problem) == (code != 200)


async def test_a_kind_that_is_not_installed_is_empty_and_comes_alive_later(server, mirror, caplog):
    server.missing.add("virtualservices")
    found = await mirror()
    found.informer.check()
    await until(lambda: len(server.requests) > 5)
    assert caplog.text.count("not installed") == 1
    server.put("virtualservices", "a")
    server.missing.clear()
    await until(lambda: found.names == ["a"])
    assert found.informer.problem == ""


async def test_a_kind_that_goes_takes_its_objects_with_it(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    await until(lambda: server.watches)
    server.missing.add("virtualservices")
    server.end_watches()
    await until(lambda: len(found.told) == 2)
    assert found.told[1] == ("DELETED", "a", 101)
    found.informer.check()
    server.missing.clear()
    await until(lambda: found.names == ["a"])


async def test_a_kind_that_is_missed_only_once_keeps_its_objects_and_says_nothing_meanwhile(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror(timing=Timing(**{**QUICK_AS_DICT, "confirm": 0.5}))
    await until(lambda: server.watches)
    server.answers.append(Answer(404, match="watch"))
    server.end_watches()
    await until(lambda: found.informer._missed)
    with pytest.raises(UnavailableError, match="cannot be found just now"):
        found.informer.check()
    await until(lambda: server.watches)
    found.informer.check()
    assert found.told == [("ADDED", "a", 101)]


async def test_an_own_write_is_there_at_once_and_its_event_changes_nothing(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    await until(lambda: server.watches)
    watch = server.watches.pop()  # what it would tell comes later
    written = VS.trim(server.put("virtualservices", "a", spec={"x": 1}))
    older = server.put("virtualservices", "a", spec={"x": 2})
    found.informer.wrote(VS.trim(older))
    server.watches.append(watch)
    assert found.told == [("ADDED", "a", 101), ("MODIFIED", "a", 103)]
    server._send("virtualservices", "MODIFIED", written)
    server._send("virtualservices", "MODIFIED", older)
    server.put("virtualservices", "b")
    await until(lambda: len(found.told) == 3)
    assert found.told[2] == ("ADDED", "b", 104)
    assert found.informer.objects["ml", "a"]["spec"] == {"x": 2}


async def test_the_answer_to_a_write_does_not_bring_back_what_was_deleted(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    await until(lambda: server.watches)
    written = VS.trim(server.put("virtualservices", "a", spec={"x": 1}))
    server.delete("virtualservices", "a")
    await until(lambda: found.names == [])
    found.informer.wrote(written)
    assert found.names == []


async def test_an_older_deletion_does_not_take_a_newer_object_away(server, mirror):
    server.put("virtualservices", "a", uid="old")
    found = await mirror()
    await until(lambda: server.watches)
    watch = server.watches.pop()
    server.delete("virtualservices", "a")
    new = server.put("virtualservices", "a", uid="new")
    found.informer.wrote(VS.trim(new))
    server.watches.append(watch)
    server._send("virtualservices", "DELETED", server.history[1][2])
    server.put("virtualservices", "b")
    await until(lambda: "b" in found.names)
    assert found.informer.objects["ml", "a"]["metadata"]["uid"] == "new"


async def test_an_own_write_that_is_newer_than_the_list_stays(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror()
    await until(lambda: server.watches)
    server.version += 10
    newer = {**server.objects["virtualservices"]["ml", "a"], "spec": {"x": 1}}
    newer["metadata"] = {**newer["metadata"], "resourceVersion": "500"}
    found.informer.wrote(VS.trim(newer))
    await found.informer._list()
    assert found.informer.objects["ml", "a"]["spec"] == {"x": 1}


@pytest.mark.parametrize("how", ["watches are refused", "an event says so"])
async def test_an_api_server_that_was_set_back_is_believed(server, mirror, caplog, how):
    server.version = 1000
    server.put("virtualservices", "a", spec={"x": 2})
    server.put("virtualservices", "b")
    found = await mirror()
    await until(lambda: server.watches)
    if how == "watches are refused":
        server.answers += [Answer(504, "Too large resource version", match="watch")] * 5
        server.end_watches()
    server.objects.clear()
    server.history.clear()
    server.version = server.oldest = 100
    server.put("virtualservices", "a", uid="uid-1001", spec={"x": 1})
    await until(lambda: found.names == ["a"] and found.informer.objects["ml", "a"]["spec"] == {"x": 1})
    assert "was set back" in caplog.text


async def test_a_mirror_that_cannot_be_brought_up_to_date_is_blind_after_a_while(server, mirror):
    found = await mirror()
    await until(lambda: server.watches)
    server.answers += [Answer(500, "etcd is down")] * 1000
    server.end_watches()
    await until(lambda: found.informer.problem)
    found.informer.check()
    found.informer._timing = Timing(**{**QUICK_AS_DICT, "blind": 0.2})
    await until(lambda: found.informer.stale_seconds > 0.2)
    with pytest.raises(UnavailableError, match=r"not read for 0 s now: .*etcd is down"):
        found.informer.check()
    server.answers.clear()
    await until(lambda: not found.informer.problem)
    found.informer.check()


async def test_watches_that_end_at_once_are_not_asked_without_pause(server, mirror):
    slow = Timing(**{**QUICK_AS_DICT, "short": 3600.0, "first_pause": 3600.0, "longest_pause": 3600.0})
    found = await mirror(timing=slow)
    await until(lambda: server.watches)
    server.end_watches()
    await until(lambda: found.informer.problem)
    assert "ends watches" in found.informer.problem
    await asyncio.sleep(0.2)
    assert sum("watch" in request for request in server.requests) == 1


async def test_everything_is_listed_again_when_that_was_long_ago(server, mirror):
    server.put("virtualservices", "a")
    found = await mirror(timing=Timing(**{**QUICK_AS_DICT, "resync": 0.0}))
    await until(lambda: server.watches)
    server.objects["virtualservices"].clear()  # a deletion that was never told
    server.end_watches()
    await until(lambda: found.names == [])


async def test_an_object_that_makes_no_sense_does_not_end_the_mirror(server, mirror, caplog):
    found = await mirror()
    await until(lambda: server.watches)
    server.raw("virtualservices", b'{"type":"ADDED","object":{"metadata":{}}}\n')
    await until(lambda: "unforeseen" in found.informer.problem)
    server.put("virtualservices", "a")
    await until(lambda: found.names == ["a"])
    assert found.informer.problem == ""


QUICK_AS_DICT = {name: getattr(QUICK, name) for name in QUICK.__slots__}
