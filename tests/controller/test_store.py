"""The local store keeps an API server's promises: versions, generations, guarded patches, status, watches.

The last part breaks the file under it: locked, read-only, damaged, foreign, newer; and kills a writer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.ports import ConflictError, NotFoundError, Ref, UnavailableError
from controller.standalone import database, objects
from controller.standalone.store import LocalStore
from istio.jsonpatch import PatchError

REF = Ref("VirtualService", "ml", "ranker")
ROOT = Path(__file__).parents[2]


def virtual_service(weight: int = 0, **metadata) -> dict:
    route = [
        {"destination": {"host": "ranker", "subset": "v1"}, "weight": 100 - weight},
        {"destination": {"host": "ranker", "subset": "v2"}, "weight": weight},
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": "ml", "name": "ranker", **metadata},
        "spec": {"hosts": ["ranker"], "http": [{"name": "primary", "route": route}]},
    }


def set_weight(weight: int, version: str | None = None) -> list[dict]:
    guard = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}] if version else []
    return [*guard, {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": weight}]


@pytest.fixture
def clock():
    """Settable time."""
    return [1_000_000_000.0]


@pytest.fixture
async def store(tmp_path, clock):
    store = await LocalStore.open(tmp_path / "store.db", clock=lambda: clock[0], busy_seconds=0.1)
    yield store
    await store.close()


def writers(obj: dict) -> dict[str, set[str]]:
    """The owner of each field, from managedFields."""
    return {
        entry["manager"] + ("/" + entry["subresource"] if "subresource" in entry else ""): {
            f"{section[2:]}.{key[2:]}" for section, keys in entry["fieldsV1"].items() for key in keys
        }
        for entry in obj["metadata"]["managedFields"]
    }


async def test_a_new_object_gets_identity_version_and_generation(store):
    created = await store.put(virtual_service(), manager="folder")
    metadata = created["metadata"]
    assert (metadata["resourceVersion"], metadata["generation"]) == ("1", 1)
    assert metadata["creationTimestamp"] == "2001-09-09T01:46:40Z"
    assert len(metadata["uid"]) == 36
    assert await store.get(REF) == created
    assert await store.list("VirtualService") == [created]


async def test_objects_are_listed_by_namespace_and_name(store):
    for namespace, name in (("b", "x"), ("a", "y"), ("a", "x")):
        await store.put(virtual_service(namespace=namespace, name=name), manager="folder")
    await store.put({"kind": "ServiceEntry", "metadata": {"name": "x"}}, manager="folder")
    names = [objects.ref_of(obj)[1:] for obj in await store.list("VirtualService")]
    assert names == [("a", "x"), ("a", "y"), ("b", "x")]
    assert [obj["metadata"]["name"] for obj in await store.list("VirtualService", "b")] == ["x"]
    assert (await store.list("ServiceEntry"))[0]["metadata"]["namespace"] == "default"


async def test_generation_rises_with_the_spec_only(store):
    await store.put(virtual_service(), manager="folder")
    labelled = await store.put(virtual_service(labels={"team": "ml"}), manager="folder")
    assert labelled["metadata"]["generation"] == 1
    moved = await store.patch(REF, set_weight(5), manager="penstock")
    assert moved["metadata"]["generation"] == 2
    assert int(moved["metadata"]["resourceVersion"]) > int(labelled["metadata"]["resourceVersion"])


async def test_a_write_that_changes_nothing_makes_no_version(store):
    first = await store.put(virtual_service(), manager="folder")
    assert await store.put(virtual_service(), manager="somebody") == first
    assert await store.patch(REF, set_weight(0), manager="somebody") == first
    status = await store.patch_status(REF, {"a": 1}, resource_version="1")
    again = await store.patch_status(REF, {"a": 1}, resource_version=status["metadata"]["resourceVersion"])
    assert again == status


async def test_status_and_spec_do_not_touch_each_other(store):
    created = await store.put(virtual_service() | {"status": {"mine": True}}, manager="folder")
    assert "status" not in created
    told = await store.patch_status(REF, {"step": 1}, resource_version="1")
    assert (told["spec"], told["metadata"]["generation"]) == (created["spec"], 1)
    sneaky = [*set_weight(5), {"op": "replace", "path": "/status/step", "value": 9}]
    assert (await store.patch(REF, sneaky, manager="x"))["status"] == {"step": 1}
    assert (await store.put(virtual_service(weight=9), manager="folder"))["status"] == {"step": 1}


async def test_put_keeps_the_annotations_that_are_penstocks(store):
    await store.put(virtual_service(annotations={"penstock.dev/action": "pause", "a": "1"}), manager="cli")
    replaced = await store.put(virtual_service(annotations={"b": "2"}), manager="folder")
    assert replaced["metadata"]["annotations"] == {"penstock.dev/action": "pause", "b": "2"}


async def test_a_patch_guarded_by_an_old_version_conflicts_and_changes_nothing(store):
    created = await store.put(virtual_service(), manager="folder")
    version = created["metadata"]["resourceVersion"]
    moved = await store.patch(REF, set_weight(5, version), manager="penstock")
    with pytest.raises(ConflictError, match="VirtualService/ml/ranker changed meanwhile"):
        await store.patch(REF, set_weight(25, version), manager="penstock")
    with pytest.raises(ConflictError, match="it is at version 2, not 1"):
        await store.patch_status(REF, {}, resource_version=version)
    assert await store.get(REF) == moved


@pytest.mark.parametrize(
    "path", ["/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid", "/metadata/resourceVersion"]
)
async def test_a_patch_may_not_change_who_the_object_is(store, path):
    created = await store.put(virtual_service(), manager="folder")
    with pytest.raises(PatchError, match=path[1:].replace("/", ".")):
        await store.patch(REF, [{"op": "replace", "path": path, "value": "other"}], manager="x")
    assert await store.get(REF) == created


async def test_a_patch_that_does_not_fit_is_an_error_but_no_conflict(store):
    await store.put(virtual_service(), manager="folder")
    with pytest.raises(PatchError):
        await store.patch(REF, [{"op": "remove", "path": "/spec/nothing"}], manager="x")


async def test_what_is_not_there_is_not_found(store):
    for call in (
        store.get(REF),
        store.patch(REF, [], manager="x"),
        store.patch_status(REF, {}, resource_version="1"),
    ):
        with pytest.raises(NotFoundError, match="VirtualService/ml/ranker"):
            await call
    await store.delete(REF, manager="folder")


async def test_managed_fields_name_the_last_writer_of_each_field(store, clock):
    await store.put(virtual_service(), manager="folder")
    clock[0] += 60
    await store.patch(REF, set_weight(5), manager="penstock")
    live = await store.patch_status(REF, {"step": 1}, resource_version="2")
    assert writers(live) == {
        "folder": {"spec.hosts"},
        "penstock": {"spec.http"},
        "penstock/status": {"status.step"},
    }
    assert [entry["time"][11:] for entry in live["metadata"]["managedFields"]] == [
        "01:46:40Z",
        "01:47:40Z",
        "01:47:40Z",
    ]
    live = await store.put(virtual_service(weight=50), manager="kubectl-edit")
    assert writers(live)["kubectl-edit"] == {"spec.http"}
    assert "penstock" not in writers(live)


async def test_several_objects_and_the_manifests_are_one_write(store):
    def fail(_):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.change(
            {REF: lambda _: virtual_service(), REF._replace(name="other"): fail},
            manager="folder",
            applied={"a": "x"},
        )
    assert (await store.list("VirtualService"), await store.files(), await store.version()) == ([], {}, "0")
    changed = await store.change({REF: lambda _: virtual_service()}, manager="folder", applied={"a": "x"})
    assert (changed, await store.files()) == ({REF}, {"a": "x"})


async def test_a_change_sees_the_live_object(store):
    await store.put(virtual_service(weight=5), manager="folder")
    seen = []
    await store.change({REF: lambda live: seen.append(live) or live}, manager="folder")
    assert seen[0]["spec"] == virtual_service(weight=5)["spec"]


async def collect(store: LocalStore, count: int, since: str | None = None, kinds=("VirtualService",)) -> list:
    found: list = []
    async with aclosing(store.watch(kinds, since)) as changes, asyncio.timeout(60):
        async for change in changes:
            found.append((change.type, change.object["metadata"]["resourceVersion"]))
            if len(found) == count:
                break
    return found


async def listening(store: LocalStore) -> None:
    """Wait until a watch waits for changes."""
    async with asyncio.timeout(60):
        while not any(wake._waiters for wake in store._watchers):  # noqa: ASYNC110 - it does not signal
            await asyncio.sleep(0.005)


async def test_a_watch_tells_every_change_after_a_version_in_order(store):
    await store.put(virtual_service(), manager="folder")
    await store.put({"kind": "ServiceEntry", "metadata": {"name": "x"}}, manager="folder")
    await store.patch(REF, set_weight(5), manager="penstock")
    await store.delete(REF, manager="folder")
    assert await collect(store, 3, "0") == [("ADDED", "1"), ("MODIFIED", "3"), ("DELETED", "4")]
    assert await collect(store, 1, "3") == [("DELETED", "4")]


async def test_a_watch_from_now_wakes_at_the_next_change(store):
    await store.put(virtual_service(), manager="folder")
    watching = asyncio.create_task(collect(store, 1))
    await listening(store)
    await store.patch(REF, set_weight(5), manager="penstock")
    assert await watching == [("MODIFIED", "2")]


async def test_a_watch_sees_what_another_process_writes(store, tmp_path):
    watching = asyncio.create_task(collect(store, 1))
    await listening(store)
    other = await LocalStore.open(tmp_path / "store.db")
    await other.put(virtual_service(), manager="other")
    assert await watching == [("ADDED", "1")]
    await other.close()


async def test_a_watch_reads_past_many_changes_of_other_kinds(store, monkeypatch):
    monkeypatch.setattr(database, "BATCH", 3)
    for weight in range(10):
        await store.put(virtual_service(weight=weight), manager="folder")
    await store.put({"kind": "ServiceEntry", "metadata": {"name": "x"}}, manager="folder")
    assert await collect(store, 1, "0", ("ServiceEntry",)) == [("ADDED", "11")]


async def test_changes_are_those_after_a_version_and_tell_how_far_they_reach(store, monkeypatch):
    monkeypatch.setattr(database, "BATCH", 2)
    await store.put(virtual_service(), manager="folder")
    since = await store.version()
    assert await store.changes(["VirtualService"], since) == (since, [])
    for weight in (1, 2, 3):
        await store.patch(REF, set_weight(weight), manager="ann")
    reached, found = await store.changes(["VirtualService"], since)
    assert [event.object["metadata"]["resourceVersion"] for event in found] == ["2", "3", "4"]
    assert reached == await store.version()
    assert await store.changes(["ServiceEntry"], since) == (reached, [])
    with pytest.raises(ConflictError):
        await store.changes(["VirtualService"], "9")


@pytest.mark.parametrize("since", ["1", "99"])
async def test_a_watch_from_a_forgotten_or_unknown_version_must_list_again(store, monkeypatch, since):
    monkeypatch.setattr(database, "KEPT_CHANGES", 3)
    for weight in range(10):
        await store.put(virtual_service(weight=weight), manager="folder")
    with pytest.raises(ConflictError, match="list again"):
        await collect(store, 1, since)
    assert len(await collect(store, 3, "7")) == 3


async def test_equal_events_are_counted_and_the_oldest_forgotten(store, clock, monkeypatch):
    monkeypatch.setattr(database, "KEPT_EVENTS", 2)
    for reason in ("Old", "Paused", "Paused", "Promoted"):
        await store.event(REF, "Normal", reason, "because")
        clock[0] += 1
    found = await store.events(REF)
    assert [(event["reason"], event["count"]) for event in found] == [("Promoted", 1), ("Paused", 2)]
    assert found[1]["object"] == {"kind": "VirtualService", "namespace": "ml", "name": "ranker"}
    assert (found[1]["firstSeen"][-3:], found[1]["lastSeen"][-3:]) == ("41Z", "42Z")
    assert await store.events(REF._replace(name="other")) == []
    assert len(await store.events(limit=1)) == 1


async def test_everything_is_there_after_a_restart(store, tmp_path):
    await store.put(virtual_service(), manager="folder")
    told = await store.patch_status(REF, {"step": 1}, resource_version="1")
    again = await LocalStore.open(tmp_path / "store.db")
    assert await again.get(REF) == told
    assert await again.version() == "2"
    await again.close()


async def test_concurrent_guarded_patches_lose_no_update(store):
    await store.put(virtual_service(annotations={"n": "0"}), manager="folder")

    async def add_one() -> None:
        while True:
            live = await store.get(REF)
            value = str(int(live["metadata"]["annotations"]["n"]) + 1)
            guard = {
                "op": "test",
                "path": "/metadata/resourceVersion",
                "value": live["metadata"]["resourceVersion"],
            }
            try:
                await store.patch(
                    REF,
                    [guard, {"op": "replace", "path": "/metadata/annotations/n", "value": value}],
                    manager="x",
                )
            except ConflictError:
                continue
            return

    await asyncio.gather(*(add_one() for _ in range(10)))
    assert (await store.get(REF))["metadata"]["annotations"] == {"n": "10"}


_KEYS = st.sampled_from(["hosts", "http", "gateways"])
_SPECS = st.dictionaries(_KEYS, st.integers(0, 2), max_size=3)


@settings(deadline=None)
@given(writes=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), _SPECS), min_size=1, max_size=6))
def test_each_field_belongs_to_whoever_changed_it_last(writes):
    manager, spec = writes[0]
    live = objects.create(virtual_service() | {"spec": spec}, manager=manager, now=0)
    owners = dict.fromkeys(spec, manager)
    for manager, new in writes[1:]:
        changed = {key for key in spec.keys() | new.keys() if spec.get(key, -1) != new.get(key, -1)}
        owners = {key: manager if key in changed else owners[key] for key in new}
        revised = objects.replace(live, {**live, "spec": new}, manager=manager, now=0)
        assert (revised is None) == (not changed)
        live, spec = revised or live, new
        found = {f[5:]: who for who, fields in writers(live).items() for f in fields if f.startswith("spec.")}
        assert found == owners


async def test_a_locked_file_is_unavailable_for_writes_and_recovers(store, tmp_path):
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError, match=r"store.db is locked by another process"):
        await store.put(virtual_service(), manager="folder")
    assert await store.list("VirtualService") == []
    other.execute("ROLLBACK")
    other.close()
    assert (await store.put(virtual_service(), manager="folder"))["metadata"]["resourceVersion"] == "1"


async def test_a_read_only_file_can_be_read_and_refuses_writes_in_words(store):
    await store.put(virtual_service(), manager="folder")
    await store._read(lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(UnavailableError, match="is read-only"):
        await store.patch(REF, set_weight(5), manager="x")
    assert (await store.get(REF))["metadata"]["resourceVersion"] == "1"


async def test_many_may_start_on_an_empty_file_at_once(tmp_path):
    for store in await asyncio.gather(*(LocalStore.open(tmp_path / "new.db") for _ in range(6))):
        await store.close()


async def test_a_file_that_is_no_database_is_refused_in_words(tmp_path):
    (tmp_path / "store.db").write_text("certainly no database " * 100)
    with pytest.raises(UnavailableError, match=r"store.db is not a database: move it away"):
        await LocalStore.open(tmp_path / "store.db")


async def test_a_damaged_file_is_refused_in_words(tmp_path):
    path = tmp_path / "store.db"
    store = await LocalStore.open(path)
    for number in range(50):
        await store.put(virtual_service(name=f"v{number}"), manager="folder")
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    store = LocalStore(path)
    with pytest.raises(UnavailableError, match="is damaged"):
        await store.list("VirtualService")
    await store.close()


async def test_a_database_of_another_program_is_refused(tmp_path):
    other = sqlite3.connect(tmp_path / "store.db")
    other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    with pytest.raises(UnavailableError, match="another program"):
        await LocalStore.open(tmp_path / "store.db")


async def test_a_store_of_a_newer_penstock_is_refused(tmp_path):
    await (await LocalStore.open(tmp_path / "store.db")).close()
    other = sqlite3.connect(tmp_path / "store.db")
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(UnavailableError, match=r"newer Penstock \(schema 7; this one knows 1\)"):
        await LocalStore.open(tmp_path / "store.db")


async def test_a_missing_folder_is_unavailable(tmp_path):
    with pytest.raises(UnavailableError, match="cannot be opened"):
        await LocalStore.open(tmp_path / "none" / "store.db")


_WRITER = """
import asyncio, sys
from pathlib import Path
from controller.ports import Ref
from controller.standalone.store import LocalStore

def numbered(name, number):
    return lambda live: {"kind": "K", "metadata": {"name": name, "namespace": "ns"}, "spec": {"n": number}}

async def main():
    store = await LocalStore.open(Path(sys.argv[1]))
    for number in range(10**6):
        wanted = {Ref("K", "ns", name): numbered(name, number) for name in "abc"}
        await store.change(wanted, manager="writer", applied={"n": str(number)})
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.real
def test_a_killed_writer_leaves_whole_writes_only(tmp_path):
    path = tmp_path / "store.db"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as writer:
        for _ in range(20):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)

    async def check() -> None:
        store = await LocalStore.open(path)
        numbers = {obj["spec"]["n"] for obj in await store.list("K")}
        assert numbers == {int((await store.files())["n"])}
        assert numbers.pop() >= acknowledged
        assert len(await collect(store, 3, str(int(await store.version()) - 3), ("K",))) == 3
        await store.close()

    asyncio.run(check())


async def test_an_object_with_a_finalizer_waits_for_it_and_a_manifest_brings_it_back(store):
    await store.put(virtual_service(finalizers=["a/b"]), manager="folder")
    await store.delete(REF, manager="folder")
    marked = await store.get(REF)
    assert marked["metadata"]["deletionTimestamp"]
    await store.delete(REF, manager="folder")
    assert await store.get(REF) == marked
    await store.put(virtual_service(), manager="folder")
    back = await store.get(REF)
    assert "deletionTimestamp" not in back["metadata"]
    assert back["metadata"]["finalizers"] == ["a/b"]
    await store.delete(REF, manager="folder")
    await store.patch(REF, [{"op": "remove", "path": "/metadata/finalizers"}], manager="x")
    with pytest.raises(NotFoundError):
        await store.get(REF)
