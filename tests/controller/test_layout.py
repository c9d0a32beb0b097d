"""The private folder: its paths, its permissions, and how a command finds it. Who writes what: elsewhere."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from controller.standalone.layout import Layout, LayoutError, read_json, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Layout(tmp_path).create()
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_lies_in_one_private_folder(folder):
    layout = Layout(folder)
    paths = [
        layout.store,
        layout.history,
        layout.token,
        layout.endpoint,
        layout.keeper,
        layout.lock,
        layout.socket,
        layout.xds,
        layout.prometheus,
        layout.logs,
    ]
    assert {path.parent for path in paths} == {folder / ".penstock"}
    assert len(set(paths)) == len(paths)
    assert mode(layout.state) == 0o700


def test_creating_it_again_keeps_what_is_there_and_closes_what_was_opened(folder):
    layout = Layout(folder)
    layout.token.write_text("secret")
    layout.state.chmod(0o755)
    layout.create()
    assert layout.token.read_text() == "secret"
    assert mode(layout.state) == 0o700


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(LayoutError, match=r"missing is not a folder"):
        Layout(tmp_path / "missing").create()
    (tmp_path / ".penstock").write_text("")
    with pytest.raises(LayoutError, match=r"cannot write in .*\.penstock: "):
        Layout(tmp_path).create()


def test_the_folder_keeps_itself_out_of_a_repository(folder):
    assert (folder / ".penstock" / ".gitignore").read_text() == "*\n"


def test_a_relative_root_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("here"))
    monkeypatch.chdir("/")
    assert layout.state == tmp_path / "here" / ".penstock"


def test_the_named_folder_wins_over_the_variable_and_the_variable_over_the_nearest(tmp_path):
    folders = {name: tmp_path / name for name in ("named", "variable", "nearest")}
    for folder in folders.values():
        folder.mkdir()
        Layout(folder).create()
    variable = {"PENSTOCK_DIR": str(folders["variable"])}
    below = folders["nearest"] / "deep" / "er"
    below.mkdir(parents=True)
    found = [
        Layout.find(folders["named"], environment=variable, cwd=below),
        Layout.find(None, environment=variable, cwd=below),
        Layout.find(None, environment={}, cwd=below),
        Layout.find(None, environment={"PENSTOCK_DIR": ""}, cwd=folders["nearest"]),
    ]
    assert [layout.root.name for layout in found] == ["named", "variable", "nearest", "nearest"]


@pytest.mark.parametrize(
    ("explicit", "environment", "words"),
    [
        ("bare", {}, r"bare \(from --dir\) has no .penstock folder: run `penstock up"),
        ("missing", {}, r"missing \(from --dir\) is not a folder"),
        (None, {"PENSTOCK_DIR": "bare"}, r"bare \(from PENSTOCK_DIR\) has no .penstock folder"),
        (
            None,
            {},
            r"neither .*/bare nor a folder above it has a .penstock folder: run `penstock up DIR` first",
        ),
    ],
)
def test_a_folder_that_is_not_there_is_told_with_what_to_do(
    tmp_path, monkeypatch, explicit, environment, words
):
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LayoutError, match=words):
        Layout.find(explicit and Path(explicit), environment=environment, cwd=tmp_path / "bare")


def test_json_is_replaced_whole_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "endpoint.json"
    write_json(path, {"pid": 1})
    with path.open() as old:
        write_json(path, {"pid": 2})
        assert '"pid": 1' in old.read()
    assert read_json(path) == {"pid": 2}
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, "", '{"pid": ', "[1]"])
def test_json_that_is_missing_or_broken_reads_as_none(tmp_path, content):
    path = tmp_path / "keeper.json"
    if content is not None:
        path.write_text(content)
    assert read_json(path) is None
