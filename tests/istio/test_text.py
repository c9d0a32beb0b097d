"""The same edit in text: weights change, every other character stays."""

# ruff: noqa: E501 - texts are easier to compare side by side
from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from istio.jsonpatch import apply_patch
from istio.route import RouteError
from istio.text import edit_text, find
from istio.weights import edit
from tests.support.virtualservices import CORPUS, cases, request

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n  http:\n"
WANTED = {"v1": 90, "v2": 10}


WEIGHT = re.compile(r"""(,\s*)?["']?weight["']?:[ \t]*([&!]\S+ )*(\d+|null|~)?|\s""")


def apart_from_weights(text):
    """The text without anything that looks like a weight, and without white space."""
    return WEIGHT.sub("", text)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_corpus_file_differs_only_in_the_weights_asked_for(path):
    text = path.read_text()
    asked = request(text)
    arguments = (asked.weights, asked.routes, asked.virtual_service)
    if asked.outcome in {"error", "text"}:
        with pytest.raises(RouteError) as raised:
            edit_text(text, *arguments)
        assert raised.value.code == asked.value
        return
    edited = edit_text(text, *arguments)
    document = find(text, asked.virtual_service)
    expected = apply_patch(document, edit(document, *arguments[:2]))
    assert find(edited, asked.virtual_service) == expected
    before, after = (list(yaml.compose_all(each)) for each in (text, edited))
    assert len(before) == len(after)
    assert apart_from_weights(edited) == apart_from_weights(text)
    assert edit_text(edited, *arguments) == edited


def styles(draw, vs):
    """The object as text in one of many styles."""
    style = draw(st.sampled_from(["block", "flow", "json", "compact", "tabs"]))
    if style == "block":
        text = yaml.safe_dump(vs, sort_keys=False, indent=draw(st.integers(2, 5)))
        return re.sub(r"(?m)$", "  # note", text) if draw(st.booleans()) else text
    if style == "flow":
        return yaml.safe_dump(vs, default_flow_style=True, width=draw(st.sampled_from([20, 80, 10_000])))
    indent = {"json": 2, "compact": None, "tabs": "\t"}[style]
    return json.dumps(vs, indent=indent, separators=(",", ":") if style == "compact" else None)


@settings(deadline=None)
@given(cases(), st.data())
def test_the_edited_text_is_the_patched_document_in_any_style(case, data):
    text = styles(data.draw, case.vs)
    text = text.rstrip("\n") if data.draw(st.booleans()) else text
    if not text.startswith("{"):
        text = data.draw(st.sampled_from(["", "\ufeff", "# é\n", "kind: Gateway\n---\n"])) + text
    if data.draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    edited = edit_text(text, case.weights, case.names)
    assert find(edited) == apply_patch(case.vs, edit(case.vs, case.weights, case.names))
    assert apart_from_weights(edited) == apart_from_weights(text)
    if "\r\n" in text:
        assert "\n" not in edited.replace("\r\n", "")
    assert edited.endswith("\n") == text.endswith("\n")


ROUTE = "  - route:\n"
V1 = "    - destination: {host: x, subset: v1}\n      weight: 100\n"


@pytest.mark.parametrize(
    ("second", "edited"),
    [
        ("    - {destination: {host: x, subset: v2}}", "    - {destination: {host: x, subset: v2}, weight: 10}"),
        ("    - {destination: {host: x, subset: v2}, }", "    - {destination: {host: x, subset: v2}, weight: 10, }"),
        ('    - {"destination": {"host":"x","subset":"v2"}}',
         '    - {"destination": {"host":"x","subset":"v2"}, "weight": 10}'),
        ("    - {weight: , destination: {host: x, subset: v2}}", "    - {weight: 10 , destination: {host: x, subset: v2}}"),
        ("    - weight: 0x0  # hex\n      destination: {host: x, subset: v2}",
         "    - weight: 10  # hex\n      destination: {host: x, subset: v2}"),
        ("    - weight:   # none yet\n      destination: {host: x, subset: v2}",
         "    - weight: 10   # none yet\n      destination: {host: x, subset: v2}"),
        ("    - weight: &w !!int '0'\n      destination: {host: x, subset: v2}",
         "    - weight: &w !!int 10\n      destination: {host: x, subset: v2}"),
        ("    - 'weight': ~\n      destination: {host: x, subset: v2}",
         "    - 'weight': 10\n      destination: {host: x, subset: v2}"),
        ("    -   destination:\n            host: x\n            subset: v2   # two\n    # end",
         "    -   destination:\n            host: x\n            subset: v2   # two\n        weight: 10\n    # end"),
        ("    - destination: {host: x, subset: v2}\n      headers:\n\n  gateways: [mesh]",
         "    - destination: {host: x, subset: v2}\n      headers:\n      weight: 10\n\n  gateways: [mesh]"),
        ("    - destination: {host: x, subset: v2}\n      note: |\n        weight: 3\n\n  gateways: [mesh]\n",
         "    - destination: {host: x, subset: v2}\n      note: |\n        weight: 3\n      weight: 10\n\n  gateways: [mesh]\n"),
        ("    - destination: {host: x, subset: v2}\n      note: folded\n        plain\n  gateways: [mesh]\n",
         "    - destination: {host: x, subset: v2}\n      note: folded\n        plain\n      weight: 10\n  gateways: [mesh]\n"),
        ("    - note: &n {a: 1}\n      destination: {host: x, subset: v2}\n      again: *n # same\n",
         "    - note: &n {a: 1}\n      destination: {host: x, subset: v2}\n      again: *n # same\n      weight: 10\n"),
        ("    - {note: &n [1], destination: {host: x, subset: v2}, again: *n }",
         "    - {note: &n [1], destination: {host: x, subset: v2}, again: *n, weight: 10 }"),
        ("    - note: &n a\n      destination: {host: x, subset: v2}\n      list:\n      - b\n      - *n\n",
         "    - note: &n a\n      destination: {host: x, subset: v2}\n      list:\n      - b\n      - *n\n      weight: 10\n"),
        ("    - destination: {host: x, subset: v2}\n      <<: {weight: 0}\n",
         "    - destination: {host: x, subset: v2}\n      <<: {weight: 0}\n      weight: 10\n"),
    ],
)  # fmt: skip
def test_a_weight_is_written_in_the_style_around_it(second, edited):
    expected = HEAD + ROUTE + V1.replace("100", "90") + edited
    assert edit_text(HEAD + ROUTE + V1 + second, WANTED) == expected


def test_json_gets_a_line_where_every_key_has_one():
    entry = {"destination": {"host": "x", "subset": "v2"}}
    one = {"destination": {"host": "x", "subset": "v1"}, "weight": 100}
    vs = {
        "kind": "VirtualService",
        "apiVersion": "networking.istio.io/v1",
        "spec": {"http": [{"route": [one, entry | {"headers": {}}]}]},
    }
    text = json.dumps(vs, indent="\t")
    vs["spec"]["http"][0]["route"] = [one | {"weight": 90}, entry | {"headers": {}, "weight": 10}]
    assert edit_text(text, WANTED) == json.dumps(vs, indent="\t")


def test_nothing_to_do_gives_the_text_back():
    text = HEAD + ROUTE + "    - {destination: {host: x, subset: v1}, weight: 100}   # \t odd   \r\n\r\n# \n"
    assert edit_text(text, {"v1": 100}) == text


V2 = "    - destination: {host: x, subset: v2}\n      weight: 0\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "no-virtual-service", []),
        ("# only\n---\n", "no-virtual-service", []),
        ("kind: Gateway\n---\nkind: Service\n", "no-virtual-service", ["only Gateway, Service"]),
        ("[kind, VirtualService]", "no-virtual-service", []),
        ("a: b: c\n", "syntax", ["line 1, column 5", "mapping values"]),
        ("x: 1\n\ty: 2\n", "syntax", ["line 2, column 1"]),
        ("a: [1\n", "syntax", ["line 2"]),
        ("a: \x07\n", "syntax", ["line 1, column 4", "not allowed"]),
        ("a: *b\n", "syntax", ["line 1, column 4", "undefined alias"]),
        ('{"a": 1,}}', "syntax", ["line 1"]),
        ("kind: VirtualService\nspec: !secret x\n", "syntax", ["line 2", "!secret"]),
        ("kind: VirtualService\nspec: !!int x\n", "syntax", ["line 1"]),
        ("kind: VirtualService\nspec: !!binary YQ==\n", "syntax", ["b'a' cannot be written in JSON"]),
        ("kind: VirtualService\nspec: .nan\n", "syntax", ["nan cannot be written in JSON"]),
        ('{"kind": "VirtualService", "apiVersion": "networking.istio.io/v1", "spec": {"http": NaN}}', "malformed", []),
        ("kind: VirtualService\nspec: {? [a] : b}\n", "syntax", ["line 2"]),
        ("kind: VirtualService\nspec: &a [*a]\n", "syntax", ["JSON"]),
        ("[" * 5000, "syntax", ["cannot be read"]),
        (HEAD + ROUTE + V1 + "---\n" + HEAD + ROUTE + V1, "several-virtual-services", ["2 VirtualServices: x, x"]),
        (HEAD + ROUTE + V1 + V2.replace("weight: 0", "weight: 0\n      weight: 0"), "text", ["'weight' is given 2 times"]),
        (HEAD + ROUTE + V1.replace("100", "&w 100") + V2 + "      copy: *w\n", "shared-weight", ["line 8, column 15"]),
        (HEAD + "  - &r\n    route:\n" + V1 + V2 + "  - *r\n", "shared-weight", ["line 6"]),
        (HEAD + "  - <<: {route: [{destination: {host: x, subset: v1}}, {destination: {host: x, subset: v2}, weight: 4}]}\n",
         "text", ["'route' is not written", "<<"]),
        (HEAD + "  - route: [destination: {host: x, subset: v1}, destination: {host: x, subset: v2}]\n", "text", ["by hand"]),
        ("\n".join(["kind: VirtualService", "a0: &a0 [x]"]
         + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]), "syntax", ["too large"]),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_edited_is_refused_in_one_line(text, code, words):
    names = ["http[0]"] if "- *r" in text else []
    with pytest.raises(RouteError) as raised:
        edit_text(text, WANTED, names)
    assert raised.value.code == code, str(raised.value)
    assert not [word for word in words if word not in str(raised.value)], str(raised.value)


def test_one_of_several_is_chosen_by_name_or_by_namespace_and_name():
    documents = [
        HEAD.replace("{name: x}", f"{{namespace: {namespace}, name: {name}}}") + ROUTE + V1 + V2
        for namespace, name in (("a", "x"), ("b", "x"), ("b", "y"))
    ]
    text = "---\n".join(documents)
    for name, place in (("a/x", 0), ("b/x", 1), ("y", 2), ("b/y", 2)):
        edited = edit_text(text, WANTED, (), name).split("---\n")
        assert [i for i in range(3) if edited[i] != documents[i]] == [place]
    with pytest.raises(RouteError, match="2 VirtualServices: a/x, b/x; name"):
        find(text, "x")
    with pytest.raises(RouteError, match="no VirtualService 'z'; there is a/x, b/x, b/y"):
        find(text, "z")


def test_values_are_read_as_kubernetes_reads_them():
    text = HEAD + "  - {name: 2024-01-01, on: yes, 7: =, route: &r [{destination: {host: x}}], copy: *r}\n"
    (route,) = find(text)["spec"]["http"]
    assert route["name"] == "2024-01-01"
    assert (route["true"], route["7"]) == (True, "=")
    assert route["copy"] == route["route"]
    assert route["copy"] is not route["route"]


@settings(deadline=None)
@given(st.text(alphabet="ab:-{}[]&*<>|\"'!#, \n\t\r\\%?0", max_size=40))
def test_no_text_gives_another_kind_of_error(text):
    with pytest.raises(RouteError):
        edit_text("kind: VirtualService\n" + text, WANTED)
