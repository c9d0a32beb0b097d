"""What offline commands are given: files, folders, stdin, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from controller.cli.sources import STDIN, manifests, name, read


def test_a_folder_stands_for_its_manifests_without_hidden_ones(tmp_path):
    for path in ("b.yml", "a.yaml", "deep/c.json", "notes.txt", ".hidden.yaml", ".penstock/old.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert manifests([tmp_path]) == [tmp_path / each for each in ("a.yaml", "b.yml", "deep/c.json")]


def test_a_file_is_taken_as_given_and_once():
    assert manifests([Path("x.txt"), STDIN, Path("x.txt")]) == [Path("x.txt"), STDIN]


def test_a_folder_without_manifests_is_an_error(tmp_path, capsys):
    with pytest.raises(typer.Exit) as raised:
        manifests([tmp_path])
    assert raised.value.exit_code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no .yaml, .yml or .json file in it\n"


def test_text_is_read_as_it_is(tmp_path):
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read(tmp_path / "x") == "\ufeffa\r\nb"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\nb\xe9\n", "row 2: not a text file in UTF-8, found byte 0xe9"),
        (None, "No such file or directory"),
    ],
)
def test_what_cannot_be_read_ends_the_command_with_status_2(tmp_path, capsys, content, words):
    file = tmp_path / "x"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(typer.Exit) as raised:
        read(file, "row")
    assert raised.value.exit_code == 2
    assert capsys.readouterr().err == f"error: {file}: {words}\n"


def test_stdin_has_a_name():
    assert name(STDIN) == "stdin"
