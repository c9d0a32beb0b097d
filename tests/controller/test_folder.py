"""The folder of manifests: what is good is applied, what is bad is refused, and live weights are left alone.

The rules between objects are given here by a small validator, so that each case shows what it depends on; the
real ones (lint, the translation to Envoy) have their own tests.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controller.ports import Ref, UnavailableError
from controller.standalone.folder import Folder
from controller.standalone.manifests import choose, objects_in
from controller.standalone.merge import merge
from controller.standalone.store import LocalStore
from controller.standalone.validation import validate
from istio.envoy.translate import Options
from policies.findings import Finding

EXAMPLE = Path(__file__).parents[2] / "examples" / "minimal"
RANKER = Ref("VirtualService", "ml", "ranker")
RULE = Ref("DestinationRule", "ml", "ranker")


def virtual_service(v1: int = 100, v2: int = 0, timeout: str = "1s") -> dict:
    def to(subset: str, weight: int) -> dict:
        return {"destination": {"host": "ranker", "subset": subset}, "weight": weight}

    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"namespace": "ml", "name": "ranker"},
        "spec": {
            "hosts": ["ranker"],
            "http": [{"name": "primary", "timeout": timeout, "route": [to("v1", v1), to("v2", v2)]}],
        },
    }


def destination_rule(*subsets: str) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"namespace": "ml", "name": "ranker"},
        "spec": {"host": "ranker", "subsets": [{"name": name} for name in subsets]},
    }


def subsets_exist(parsed) -> list[Finding]:
    """The one cross-object rule of these tests: a route's subset needs a DestinationRule."""
    known = {
        subset["name"]
        for document in parsed.others
        if document.kind == "DestinationRule"
        for subset in document.data["spec"]["subsets"]
    }
    return [
        Finding("PS401", "error", f"no subset {name}", f"spec.http[0].route[{at}]", document.name)
        for document in parsed.others
        if document.kind == "VirtualService"
        for at, entry in enumerate(document.data["spec"]["http"][0]["route"])
        if (name := entry["destination"]["subset"]) not in known
    ]


def nothing_wrong(_) -> list[Finding]:
    return []


@pytest.fixture
async def store(tmp_path):
    store = await LocalStore.open(tmp_path / "store.db")
    yield store
    await store.close()


@pytest.fixture
def manifests(tmp_path):
    path = tmp_path / "manifests"
    path.mkdir()
    return path


@pytest.fixture
def folder(manifests, store):
    return Folder(manifests, store, subsets_exist, poll_seconds=0.01)


def write(path, *objects: dict) -> None:
    path.write_text(yaml.safe_dump_all(objects, sort_keys=False))


def weights(obj: dict) -> list[int]:
    return [entry["weight"] for entry in obj["spec"]["http"][0]["route"]]


async def shift(store: LocalStore, v1: int, v2: int) -> None:
    """What the controller does during a rollout."""
    operations = [
        {"op": "replace", "path": f"/spec/http/0/route/{at}/weight", "value": weight}
        for at, weight in enumerate((v1, v2))
    ]
    await store.patch(RANKER, operations, manager="penstock")


async def test_manifests_of_all_kinds_of_files_are_applied(folder, manifests, store):
    (manifests / "deep").mkdir()
    (manifests / ".hidden").mkdir()
    write(manifests / "deep" / "vs.yml", virtual_service())
    (manifests / "rule.json").write_text(json.dumps(destination_rule("v1", "v2")))
    write(manifests / ".hidden" / "no.yaml", destination_rule() | {"metadata": {"name": "hidden"}})
    write(manifests / ".no.yaml", destination_rule() | {"metadata": {"name": "hidden"}})
    (manifests / "notes.txt").write_text("not a manifest: [")
    result = await folder.sync()
    assert (result.applied, result.deleted, result.refused) == ((RULE, RANKER), (), ())
    assert set(await store.files()) == {"deep/vs.yml", "rule.json"}
    assert (await store.get(RANKER))["metadata"]["managedFields"][0]["manager"] == "folder"


async def test_an_unchanged_folder_writes_nothing_and_keeps_live_weights(folder, manifests, store):
    write(manifests / "all.yaml", virtual_service(), destination_rule("v1", "v2"))
    await folder.sync()
    await shift(store, 75, 25)
    version = await store.version()
    os.utime(manifests / "all.yaml", (1, 1))
    assert (await folder.sync()).applied == ()
    assert (await Folder(manifests, store, subsets_exist).sync()).applied == ()
    assert await store.version() == version


async def test_an_edit_elsewhere_keeps_live_weights(folder, manifests, store):
    write(manifests / "all.yaml", virtual_service(), destination_rule("v1", "v2"))
    await folder.sync()
    await shift(store, 75, 25)
    write(manifests / "all.yaml", virtual_service(timeout="9s"), destination_rule("v1", "v2"))
    assert (await folder.sync()).applied == (RANKER,)
    live = await store.get(RANKER)
    assert (weights(live), live["spec"]["http"][0]["timeout"]) == ([75, 25], "9s")


async def test_an_edit_of_the_weights_is_a_write_by_the_folder(folder, manifests, store):
    write(manifests / "all.yaml", virtual_service(), destination_rule("v1", "v2"))
    await folder.sync()
    await shift(store, 75, 25)
    write(manifests / "all.yaml", virtual_service(40, 60), destination_rule("v1", "v2"))
    await folder.sync()
    live = await store.get(RANKER)
    assert weights(live) == [40, 60]
    owner = [
        each["manager"]
        for each in live["metadata"]["managedFields"]
        if "f:http" in each["fieldsV1"]["f:spec"]
    ]
    assert owner == ["folder"]


async def test_a_deleted_file_deletes_its_objects(folder, manifests, store):
    write(manifests / "vs.yaml", virtual_service())
    write(manifests / "rule.yaml", destination_rule("v1", "v2"))
    await folder.sync()
    (manifests / "vs.yaml").unlink()
    assert (await folder.sync()).deleted == (RANKER,)
    assert await store.list("VirtualService") == []


async def test_an_object_that_moves_to_another_file_is_neither_deleted_nor_changed(folder, manifests, store):
    write(manifests / "rule.yaml", destination_rule("v1"))
    await folder.sync()
    before = await store.get(RULE)
    (manifests / "rule.yaml").rename(manifests / "other.yaml")
    assert await folder.sync() == type(await folder.sync())()
    assert await store.get(RULE) == before
    assert set(await store.files()) == {"other.yaml"}


async def test_a_bad_file_is_refused_with_its_place_while_others_are_applied(folder, manifests, store):
    write(manifests / "all.yaml", virtual_service(), destination_rule("v1", "v2"))
    await folder.sync()
    (manifests / "all.yaml").write_text("kind: [")
    write(manifests / "new.yaml", destination_rule("x") | {"metadata": {"namespace": "ml", "name": "new"}})
    result = await folder.sync()
    assert result.applied == (RULE._replace(name="new"),)
    assert [(finding.code, finding.source.file) for finding in result.refused] == [("PS001", "all.yaml")]
    assert folder.findings == list(result.refused)
    assert weights(await store.get(RANKER)) == [100, 0]
    write(manifests / "all.yaml", virtual_service(90, 10), destination_rule("v1", "v2"))
    assert (await folder.sync()).refused == ()
    assert weights(await store.get(RANKER)) == [90, 10]


async def test_a_bad_file_at_the_first_start_does_not_stop_the_others(folder, manifests, store):
    write(manifests / "good.yaml", destination_rule("v1"))
    (manifests / "bad.yaml").write_text("a: b: c")
    assert (await folder.sync()).applied == (RULE,)
    assert [finding.source.file for finding in folder.findings] == ["bad.yaml"]


async def test_the_last_good_state_survives_a_restart_with_a_bad_file(folder, manifests, store):
    write(manifests / "all.yaml", destination_rule("v1"))
    await folder.sync()
    (manifests / "all.yaml").write_text("a: b: c")
    again = await Folder(manifests, store, subsets_exist).sync()
    assert (again.deleted, len(again.refused)) == ((), 1)
    assert await store.get(RULE)


async def test_a_deletion_that_breaks_others_is_refused_and_the_rest_applied(folder, manifests, store):
    write(manifests / "vs.yaml", virtual_service())
    write(manifests / "rule.yaml", destination_rule("v1", "v2"))
    await folder.sync()
    (manifests / "rule.yaml").unlink()
    write(manifests / "new.yaml", destination_rule("x") | {"metadata": {"namespace": "ml", "name": "new"}})
    result = await folder.sync()
    assert (result.applied, result.deleted) == ((RULE._replace(name="new"),), ())
    assert [str(finding.source) for finding in result.refused] == ["vs.yaml:13:7", "vs.yaml:17:7"]
    assert await store.get(RULE)


async def test_an_edit_that_breaks_another_file_leaves_everything_as_it_was(folder, manifests, store):
    write(manifests / "vs.yaml", virtual_service())
    write(manifests / "rule.yaml", destination_rule("v1", "v2"))
    await folder.sync()
    before = await store.version()
    write(manifests / "rule.yaml", destination_rule("v1"))
    assert len((await folder.sync()).refused) == 1
    assert await store.version() == before


async def test_a_document_without_a_name_is_refused(folder, manifests):
    (manifests / "x.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {}}\n")
    assert [finding.message for finding in (await folder.sync()).refused] == [
        "a document needs metadata.name"
    ]


async def test_text_that_is_not_unicode_is_refused(folder, manifests):
    (manifests / "x.yaml").write_bytes(b"apiVersion: v1\nkind: \xff\xfe\n")
    assert [finding.code for finding in (await folder.sync()).refused] == ["PS001"]


async def test_a_file_that_cannot_be_read_is_refused_and_its_objects_stay(folder, manifests, store):
    write(manifests / "rule.yaml", destination_rule("v1"))
    await folder.sync()
    (manifests / "rule.yaml").unlink()
    (manifests / "rule.yaml").symlink_to("/proc/self/mem")
    result = await folder.sync()
    words = "rule.yaml:1:1: error PS001: cannot be read: Input/output error"
    assert [str(finding) for finding in result.refused] == [words]
    assert await store.get(RULE)


async def test_pipes_and_dangling_links_are_passed_over(folder, manifests):
    os.mkfifo(manifests / "pipe.yaml")
    (manifests / "link.yaml").symlink_to("nowhere")
    assert (await folder.sync()).refused == ()


async def test_a_folder_that_is_gone_is_not_an_empty_one(folder, manifests, store):
    write(manifests / "rule.yaml", destination_rule("v1"))
    await folder.sync()
    manifests.rename(manifests.with_name("elsewhere"))
    with pytest.raises(UnavailableError, match="cannot be listed: No such file or directory"):
        await folder.sync()
    assert await store.get(RULE)


async def test_a_file_is_applied_when_it_has_been_still_for_one_look(folder, manifests, store):
    path = manifests / "rule.yaml"
    await folder.sync()
    for subsets in (["a"], ["a", "b"], ["a", "b", "c"]):
        write(path, destination_rule(*subsets))
        assert not await folder._look()
    assert await folder._look()
    assert len(yaml.safe_load(folder._texts["rule.yaml"])["spec"]["subsets"]) == 3
    path.unlink()
    assert not await folder._look()
    assert await folder._look()
    assert folder._texts == {}


async def until(condition) -> None:
    for _ in range(6_000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_edits_are_picked_up_live_and_survive_a_locked_store(
    folder, manifests, store, monkeypatch, caplog
):
    await folder.sync()
    running = asyncio.create_task(folder.run())
    broken = True
    change = store.change

    async def sometimes(*args, **kwargs):
        if broken:
            raise UnavailableError("the store is locked")
        return await change(*args, **kwargs)

    monkeypatch.setattr(store, "change", sometimes)
    write(manifests / "rule.yaml", destination_rule("v1"))

    async def complained() -> bool:
        return "the store is locked" in caplog.text

    async def applied() -> bool:
        return bool(await store.list("DestinationRule"))

    await until(complained)
    await asyncio.sleep(0.1)
    broken = False
    await until(applied)
    assert caplog.text.count("the store is locked") == 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_finding_is_logged_once_until_it_changes(folder, manifests, caplog):
    caplog.set_level(logging.INFO)
    (manifests / "x.yaml").write_text("a: b: c")
    await folder.sync()
    write(manifests / "rule.yaml", destination_rule("v1"))
    await folder.sync()
    assert caplog.text.count("x.yaml:1:") == 1
    (manifests / "x.yaml").unlink()
    await folder.sync()
    assert "good again" in caplog.text


async def test_the_example_is_applied_and_a_typo_in_its_policy_refused_by_the_real_rules(manifests, store):
    shutil.copytree(EXAMPLE, manifests, dirs_exist_ok=True)
    folder = Folder(manifests, store, lambda parsed: validate(parsed, Options()))
    result = await folder.sync()
    assert sorted(ref.kind for ref in result.applied) == [
        "DestinationRule",
        "RolloutPolicy",
        "ServiceEntry",
        "VirtualService",
    ]
    assert folder.findings == []
    path = manifests / "policy.yaml"
    path.write_text(path.read_text().replace("subset: v2", "subset: v9"))
    refused = (await folder.sync()).refused
    assert "spec.variants[1].subset" in {finding.path for finding in refused}
    assert {finding.source.file for finding in refused} == {"policy.yaml"}
    (live,) = await store.list("RolloutPolicy")
    assert live["spec"]["variants"][1]["subset"] == "v2"


def test_every_choice_is_valid_or_what_was():
    """All ways to edit, break, add and delete two files that depend on each other."""
    texts = {
        "good": (virtual_service(), destination_rule("v1", "v2")),
        "edited": (virtual_service(90, 10), destination_rule("v1", "v2", "v3")),
    }
    sides = [[yaml.safe_dump(texts[state][at]) for state in texts] + ["a: b: c", None] for at in (0, 1)]
    good = {"vs": sides[0][0], "rule": sides[1][0]}
    for vs in sides[0]:
        for rule in sides[1]:
            now = {name: text for name, text in (("vs", vs), ("rule", rule)) if text is not None}
            choice = choose(now, good, subsets_exist)
            assert not choose(choice.files, {}, subsets_exist).findings
            if not choice.findings:
                assert choice.files == now


def test_objects_in_a_list_are_found():
    text = yaml.safe_dump(
        {"apiVersion": "v1", "kind": "List", "items": [virtual_service(), destination_rule("a")]}
    )
    assert objects_in({"f": text}).keys() == {RANKER, RULE}


# -- the three-way merge --


def edited(obj: dict, text: str) -> dict:
    """The object after a few lines of Python on its `spec` and `metadata`."""
    obj = copy.deepcopy(obj)
    exec(dedent(text), {"spec": obj["spec"], "metadata": obj["metadata"]})
    return obj


@pytest.mark.parametrize(
    ("new", "live", "wanted"),
    [
        ("", "spec['x'] = 1", "spec['x'] = 1"),
        ("spec['x'] = 2", "", "spec['x'] = 2"),
        ("spec['x'] = 2", "spec['y'] = 1", "spec.update(y=1, x=2)"),
        ("del spec['hosts']", "", "del spec['hosts']"),
        ("", "del spec['hosts']", "del spec['hosts']"),
        ("spec['hosts'] = ['b']", "spec['hosts'] = ['c']", "spec['hosts'] = ['b']"),
        (
            "metadata['labels'] = {'a': '1'}",
            "metadata['labels'] = {'b': '1'}",
            "metadata['labels'] = {'b': '1', 'a': '1'}",
        ),
        (
            "",
            "metadata['annotations'] = {'penstock.dev/action': 'pause'}",
            "metadata['annotations'] = {'penstock.dev/action': 'pause'}",
        ),
    ],
)
def test_the_merge_takes_what_the_file_changed_and_keeps_the_rest(new, live, wanted):
    last = virtual_service()
    assert merge(last, edited(last, new), edited(last, live)) == edited(last, wanted)


NEW_ROUTE = "spec['http'].insert(0, {'name': 'debug', 'route': [{'destination': {'host': 'debug'}}]})"
THIRD = "spec['http'][0]['route'].append({'destination': {'host': 'ranker', 'subset': 'v3'}, 'weight': 0})"


MOVED = "for entry, weight in zip(spec['http'][0]['route'], (75, 25)): entry['weight'] = weight"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("spec['http'][0]['timeout'] = '9s'", [75, 25]),
        (NEW_ROUTE, [75, 25]),
        (THIRD, [75, 25, 0]),
        ("spec['http'][0]['route'].reverse()", [25, 75]),
        ("spec['http'][0]['route'][0]['weight'] = 50; spec['http'][0]['route'][1]['weight'] = 50", [50, 50]),
        ("del spec['http'][0]['route'][1]", [100]),
        ("spec['http'][0]['route'][1]['destination']['subset'] = 'v9'", [100, 0]),
    ],
)
def test_a_route_whose_weights_the_file_leaves_alone_keeps_the_live_ones(change, expected):
    last = virtual_service()
    merged = merge(last, edited(last, change), edited(last, MOVED))
    assert [entry["weight"] for entry in merged["spec"]["http"][-1]["route"]] == expected


def test_an_unnamed_route_is_known_by_its_destinations():
    last = edited(virtual_service(), "del spec['http'][0]['name']")
    merged = merge(last, edited(last, NEW_ROUTE), edited(last, MOVED))
    assert [entry["weight"] for entry in merged["spec"]["http"][1]["route"]] == [75, 25]
    merged = merge(last, edited(last, THIRD), edited(last, MOVED))
    assert [entry["weight"] for entry in merged["spec"]["http"][0]["route"]] == [100, 0, 0]


_VALUES = st.recursive(
    st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
_SPECS = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)


def _obj(spec: dict) -> dict:
    return {"kind": "K", "metadata": {"namespace": "ml", "name": "x"}, "spec": spec}


@given(last=_SPECS, new=_SPECS, live=_SPECS)
def test_the_merge_keeps_its_laws(last, new, live):
    last, new, live = _obj(last), _obj(new), _obj(live)
    assert merge(last, last, live) == live, "an unchanged file changes nothing"
    assert merge(last, new, last) == new, "an untouched object becomes the file"
    assert merge(last, new, None) == new, "a missing object becomes the file"
    once = merge(last, new, live)
    assert merge(new, new, once) == once, "a second sync changes nothing"


async def test_an_unforeseen_failure_is_told_once_and_the_next_edit_is_applied(
    manifests, store, caplog, monkeypatch
):
    def validate(parsed) -> list[Finding]:
        if any(document.name.endswith("/odd") for document in parsed.others):
            raise KeyError("nobody thought of this")
        return []

    folder = Folder(manifests, store, validate, poll_seconds=0.01)
    odd = {**destination_rule("v1"), "metadata": {"namespace": "ml", "name": "odd"}}
    write(manifests / "odd.yaml", odd)
    running = asyncio.create_task(folder.run())

    async def complained() -> bool:
        return "nobody thought of this" in caplog.text

    async def applied() -> bool:
        return bool(await store.list("DestinationRule"))

    await until(complained)
    await asyncio.sleep(0.1)
    (manifests / "odd.yaml").unlink()
    write(manifests / "rule.yaml", destination_rule("v1"))
    await until(applied)
    assert caplog.text.count("manifests are not synced") == 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
