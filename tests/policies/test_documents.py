"""Reading YAML: places, what YAML means to Kubernetes, and every way in which text can be broken."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies import documents
from policies.documents import child, read
from policies.findings import Source

HEAD = "apiVersion: v1\nkind: A\n"
GOOD = HEAD + "metadata: {name: good}\n"


def only(text):
    (document,), findings = read("f.yaml", text)
    assert findings == []
    return document


def test_each_field_and_item_has_its_place():
    document = only(HEAD + "spec:\n  steps:\n    - weight: 1\n      hold: 2m\n    - {weight: 5}\n")
    expected = {
        "": (1, 1),
        "kind": (2, 1),
        "spec.steps": (4, 3),
        "spec.steps[0]": (5, 7),
        "spec.steps[0].hold": (6, 7),
        "spec.steps[1].weight": (7, 8),
    }
    assert {path: document.places[path] for path in expected} == {
        path: Source("f.yaml", *place) for path, place in expected.items()
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [("spec.steps[0].weight.x", 5), ("spec.steps[7]", 4), ("spec.other", 3), ("status[0]", 1), ("", 1)],
)
def test_an_absent_field_stands_at_its_nearest_ancestor(path, line):
    assert only(HEAD + "spec:\n  steps:\n    - weight: 1\n").place(path).line == line


def test_names_with_dots_are_put_in_brackets():
    document = only(HEAD + "metadata:\n  labels:\n    app.io/name: x\n")
    assert child("metadata.labels", "app.io/name") == "metadata.labels[app.io/name]"
    assert document.place("metadata.labels[app.io/name]").line == 5
    assert document.place("metadata.labels[other.io/name]").line == 4


def test_values_are_those_that_kubernetes_sees():
    document = only(HEAD + "x: {a: 1, b: 1.5, c: yes, d: ~, e: 2026-11-22, f: '1', g: 0x1F, h: =}\n")
    assert document.data["x"] == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": "2026-11-22", "f": "1", "g": 31, "h": "=",
    }  # fmt: skip
    assert document.plain["x.c"] == "yes"


def test_aliases_and_merges_are_expanded():
    document = only(HEAD + "a: &a {x: 1, y: 2}\nb: *a\nc: {y: 3, <<: *a}\nd: {<<: [*a, {z: 4}]}\n")
    assert document.data["b"] == {"x": 1, "y": 2}
    assert document.data["c"] == {"x": 1, "y": 3}
    assert document.data["d"] == {"x": 1, "y": 2, "z": 4}


def test_the_items_of_a_list_are_documents_with_their_own_paths():
    documents_, findings = read(
        "f.yaml",
        "apiVersion: v1\nkind: List\nitems:\n  - {apiVersion: v1, kind: A}\n  - {apiVersion: v1, kind: B}\n",
    )
    assert [(item.kind, item.index, item.place("kind").line) for item in documents_] == [
        ("A", 0, 4),
        ("B", 1, 5),
    ]
    assert findings == []


@pytest.mark.parametrize("text", ["", "\n", "# only words\n", "---\n---\n", "---\n# nothing\n---\n", "~\n"])
def test_empty_documents_are_skipped(text):
    assert read("f.yaml", text) == ([], [])


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm():
    assert only("\ufeffapiVersion: v1\r\nkind: A\r\n").data == {"apiVersion": "v1", "kind": "A"}


BAD = [
    ("a: [1,\nb: 2", "PS001", (3, 1), "expected ',' or ']' while parsing a flow sequence that began on"),
    (HEAD + "spec:\n\t- b", "PS001", (4, 1), "the line is indented with a tab; use spaces"),
    (HEAD + "a: b: c", "PS001", (3, 5), "mapping values are not allowed in this context"),
    (HEAD + "a: 'x", "PS001", (3, 6), "unexpected end of stream while scanning a quoted scalar that began"),
    (HEAD + "a: *x", "PS001", (3, 4), "undefined alias"),
    (HEAD + "a: \x01", "PS001", (3, 4), "control characters are not allowed"),
    (HEAD + "a: \ud800", "PS001", (1, 1), "not valid Unicode"),
    (HEAD + "a: 1\na: 2", "PS002", (4, 1), 'the field "a" is given twice, first on line 3'),
    (HEAD + "a: {x: {y: 1, z: 2, y: 3}}", "PS002", (3, 21), 'the field "y" is given twice'),
    (HEAD + "a: " + "[" * 65 + "]" * 65, "PS003", (3, 67), "nested deeper than 64 levels"),
    (HEAD + "a: &a [*a]", "PS003", (3, 4), "more than 64 levels once its aliases are expanded"),
    ("- 1\n- 2", "PS004", (1, 1), "a document must be an object"),
    ("just text", "PS004", (1, 1), "a document must be an object"),
    ("kind: A", "PS004", (1, 1), "a document needs apiVersion"),
    ("apiVersion: v1\nkind: 5", "PS004", (1, 1), "a document needs kind"),
    (HEAD + "on: 1", "PS008", (3, 1), "the name of a field must be a string"),
    (HEAD + "? [a]\n: b", "PS008", (3, 3), "the name of a field must be a string"),
    (HEAD + "a: .nan", "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: -.inf", "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: !mine x", "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: !!binary aGk=", "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: " + "9" * 5000, "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: " + "1:" * 30 + "1", "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "a: 0x" + "f" * 50, "PS008", (3, 4), "must be a value that JSON has"),
    (HEAD + "? " + "k" * 1025 + "\n: 1", "PS003", (3, 3), "more than 1024 characters"),
    (HEAD + "a: {<<: 1}", "PS001", (3, 9), "only a mapping can be merged"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "place", "words"), BAD)
def test_what_is_wrong_is_told_with_its_place(text, code, place, words):
    _, (finding,) = read("f.yaml", text)
    assert (finding.code, finding.severity, finding.source) == (code, "error", Source("f.yaml", *place))
    assert words in finding.message


@pytest.mark.parametrize("broken", [text for text, *_ in BAD if "\ud800" not in text])
def test_a_broken_document_does_not_hide_its_neighbours(broken):
    found, findings = read("f.yaml", f"{GOOD}---\n{broken}\n---\n{GOOD}")
    good = [document for document in found if document.name == "A/default/good"]
    assert [document.sound for document in good] == [True, True]
    assert good[1].place("kind").line == 3 + broken.count("\n") + 5
    assert {finding.source.line for finding in findings} <= set(range(5, good[1].place("").line))


def test_a_document_with_a_repeated_field_is_there_but_not_sound():
    (document,), _ = read("f.yaml", HEAD + "a: 1\na: 2")
    assert (document.sound, document.data["a"]) == (False, 1)


def test_aliases_cannot_blow_a_file_up():
    lines = ["a: &a [" + "1," * 10 + "]"]
    lines += [f"{y}: &{y} [" + f"*{x}," * 10 + "]" for x, y in zip("abcdefgh", "bcdefghi", strict=True)]
    found, (finding,) = read("f.yaml", HEAD + "\n".join(lines) + "\n---\n" + GOOD)
    assert (finding.code, "values once its aliases are expanded" in finding.message) == ("PS003", True)
    assert found == []  # the file has used up its values


def test_a_file_beyond_the_bound_is_not_read(monkeypatch):
    monkeypatch.setattr(documents, "MAX_BYTES", 40)
    assert len(read("f.yaml", HEAD + "#" * (40 - len(HEAD)))[0]) == 1
    found, (finding,) = read("f.yaml", HEAD + "#" * (39 - len(HEAD)) + "é")
    assert (found, finding.code) == ([], "PS003")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@#,?\n \t~<0.\ud800é---..."), max_size=60))
@example("...\n...\n")
@example("%YAML 1.2\n---\na: 1\n")
@example("- &a\n- *a\n")
def test_no_text_makes_it_raise(text):
    found, findings = read("f.yaml", text)
    assert all(finding.source is not None and finding.source.line >= 1 for finding in findings)
    assert all(document.place("nowhere") is not None for document in found)
