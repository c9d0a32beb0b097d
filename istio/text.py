"""The weight edit in the text of a YAML or JSON file.

Only weights change; every other character stays: comments, quotes, anchors, line ends, flow style, other
documents. The edit is made at the places that the YAML parser reports and then proved: the edited text,
parsed again, must equal the parsed document with the JSON Patch of `istio.weights.edit` applied, or the edit
is refused.

    TextError (a RouteError)         the text cannot be edited, though the document could
    |-- SyntaxTextError              not YAML or JSON: line, column and the parser's words
    |-- SharedWeightError            an anchor stands between: editing one place would change another
    |-- NoVirtualServiceError        no such document in the text
    `-- SeveralVirtualServicesError  more than one, and none was named
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from istio.jsonpatch import apply_patch, equal, pointer
from istio.route import RouteError
from istio.tree import TextError, Tree
from istio.weights import PatchOp, edit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import yaml

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


class NoVirtualServiceError(TextError):
    """The text has no VirtualService, or none of the name asked for."""

    code = "no-virtual-service"


class SeveralVirtualServicesError(TextError):
    """The text has several VirtualServices, and which one is meant was not said."""

    code = "several-virtual-services"


class Splice(NamedTuple):
    """Replace `text[start:end]` by `new`."""

    start: int
    end: int
    new: str


def find(text: str, name: str | None = None) -> dict[str, Any]:
    """Return the VirtualService of a YAML or JSON text as a JSON value; TextError.

    `name` (or `namespace/name`) chooses among several.
    """
    tree = Tree(text)
    found: dict[str, Any] = tree.value(_choose(tree, name))
    return found


def edit_text(
    text: str, weights: Mapping[str, int], route_names: Sequence[str] = (), name: str | None = None
) -> str:
    """Return the text with `weights` (key -> per cent) in its VirtualService; RouteError, as `edit`."""
    tree = Tree(text)
    chosen = _choose(tree, name)
    document = tree.value(chosen)
    operations = edit(document, weights, route_names)
    splices = [_splice(tree, chosen, operation) for operation in operations if operation["op"] != "test"]
    edited = text
    for start, end, new in sorted(splices, reverse=True):
        edited = edited[:start] + new + edited[end:]
    if splices:
        _prove(edited, chosen, apply_patch(document, operations))
    return edited


def _choose(tree: Tree, name: str | None) -> int:
    """Return the index of the VirtualService that is meant."""
    kinds = [tree.scalar(index, "kind") for index in range(len(tree.documents))]
    known = {index: tree.name(index) for index, kind in enumerate(kinds) if kind == "VirtualService"}
    found = [index for index, called in known.items() if name in {None, called, called.split("/")[-1]}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(known[index] for index in found or known)
    if found:
        raise SeveralVirtualServicesError(
            f"there are {len(found)} VirtualServices: {names}; name the one to use"
        )
    if known:
        raise NoVirtualServiceError(f"there is no VirtualService {name!r}; there is {names}")
    others = ", ".join(sorted({kind for kind in kinds if kind}))
    raise NoVirtualServiceError(f"there is no VirtualService in it{f', only {others}' if others else ''}")


def _splice(tree: Tree, document: int, operation: PatchOp) -> Splice:
    """Return the change of text for one operation on a weight."""
    *way, last = pointer(operation["path"])
    entry = tree.walk(document, way)
    written = tree.child(entry, last)
    if written is None:
        return _insertion(tree, entry, operation["value"])
    start, end = written.start_mark.index, written.end_mark.index
    if start == end:  # `weight:` with nothing behind it
        return Splice(start, end, f" {operation['value']}")
    properties = _PROPERTIES.match(tree.text, start, end)
    return Splice(properties.end() if properties else start, end, str(operation["value"]))


def _insertion(tree: Tree, entry: yaml.MappingNode, weight: int) -> Splice:
    """Return a new `weight` after the last key of a destination, in the style of the destination."""
    first, last = entry.value[0][0], entry.value[-1][0]
    end = tree.last_end(entry)
    if entry.flow_style:
        quote = last.style or ""
        return Splice(end, end, f",{_gap(tree.text, entry, last)}{quote}weight{quote}: {weight}")
    line_end = _BREAK.search(tree.text, end)
    end = line_end.start() if line_end else len(tree.text)
    newline = line_end or _BREAK.search(tree.text)
    indent = " " * first.start_mark.column
    return Splice(end, end, (newline.group() if newline else "\n") + f"{indent}weight: {weight}")


def _gap(text: str, entry: yaml.Node, last: yaml.Node) -> str:
    """Return what stands before the last key of a flow mapping when each key has a line of its own."""
    lead = re.search(rf"(?:{_BREAK.pattern})[ \t]*\Z", text[entry.start_mark.index : last.start_mark.index])
    return lead.group() if lead else " "


def _prove(edited: str, chosen: int, expected: Any) -> None:
    try:
        tree = Tree(edited)
        proved = equal(tree.value(chosen), expected)
    except (RouteError, IndexError):
        proved = False
    if not proved:
        raise TextError("this text cannot be edited safely here: write the weight lines out by hand first")
