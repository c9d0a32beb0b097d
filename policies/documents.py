"""YAML text as documents of plain JSON values that know where each of their fields stands.

Guarantees: no text makes `read` raise; what is wrong comes back as findings with line and column, and a
document that cannot be read does not hide the others in its file. The work is bounded: by the size of a file,
by nesting, and by the number of values after aliases are expanded. Values are those that Kubernetes would
see: JSON, string keys, timestamps as text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import yaml
from yaml.constructor import SafeConstructor

from policies.findings import Finding, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 500_000
MAX_PIECES = 10_000
MAX_NAME = 1024
MAX_NUMBER = 40

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_PLAIN: dict[str, Callable[[SafeConstructor, yaml.ScalarNode], Any]] = {
    "tag:yaml.org,2002:bool": SafeConstructor.construct_yaml_bool,
    "tag:yaml.org,2002:int": SafeConstructor.construct_yaml_int,
    "tag:yaml.org,2002:float": SafeConstructor.construct_yaml_float,
}
_TEXT = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value")}

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """One object of a file: plain JSON values, and the places they came from."""

    kind: str
    api_version: str
    data: dict[str, Any]
    index: int
    """Its number in the file, from 0."""
    file: str
    places: Mapping[str, Source] = field(repr=False)
    """Field path -> where the field's name (or the list item) stands."""
    plain: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Field path -> the text of a plain scalar that YAML did not read as a string."""
    sound: bool = True
    """False when YAML could be read only in part: `data` is for looking at, not for use."""

    def place(self, path: str) -> Source | None:
        """Return where `path` stands, or else its nearest ancestor: `spec.http[0].route[1].weight`."""
        while path and path not in self.places:
            path = _parent(path)
        return self.places.get(path)

    @property
    def name(self) -> str:
        """`Kind/namespace/name`, as findings name the object."""
        metadata = self.data.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        return f"{self.kind}/{metadata.get('namespace') or 'default'}/{metadata.get('name') or '?'}"


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A typed value and the document it was written in."""

    value: T
    document: Document


def child(path: str, part: str | int) -> str:
    """Return the path of a field or list item: `spec`, `spec.steps[0]`, `metadata.labels[a.b/c]`."""
    if isinstance(part, int) or not re.fullmatch(r"[\w-]+", part):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else part


def _parent(path: str) -> str:
    return path[: path.rindex("[")] if path.endswith("]") and "[" in path else path.rpartition(".")[0]


def read(file: str, text: str) -> tuple[list[Document], list[Finding]]:
    """Read the documents of one file: those that can be read, and what is wrong with the rest."""
    refused = _refused(text)
    if refused:
        return [], [refused.at(Source(file, 1, 1))]
    composed, findings = _compose_all(file, text)
    documents: list[Document] = []
    builder = _Builder(file)
    for offset, root in composed:
        builder.offset = offset
        for node in _objects(root):
            document, problems = builder.document(node, len(documents))
            documents += [document] if document else []
            findings += problems
            if builder.count > MAX_VALUES:
                return documents, findings
    return documents, findings


def _refused(text: str) -> Finding | None:
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        return Finding("PS003", "error", "the file is too large", allowed=f"at most {MAX_BYTES >> 20} MiB")
    if re.search("[\ud800-\udfff]", text):
        return Finding("PS001", "error", "is not valid YAML: the text is not valid Unicode")
    return None


def _compose_all(file: str, text: str) -> tuple[list[tuple[int, yaml.Node]], list[Finding]]:
    """Return the nodes of the documents, each with the lines before its piece of the text, and what is wrong.

    A sound text is one piece, any other is split at the document markers: such a marker ends a document
    wherever it stands, also inside quotes and block scalars (YAML 1.2, 9.1.4).
    """
    try:
        return [(0, node) for node in _compose(text)], []
    except yaml.YAMLError as error:
        pieces = re.split(r"^(?=---(?:\s|$))", text, maxsplit=MAX_PIECES, flags=re.MULTILINE)
        if len(pieces) == 1:
            return [], [_syntax(error, file, 0, text)]
    composed, findings, offset = [], [], 0
    for piece in pieces:
        try:
            composed += [(offset, node) for node in _compose(piece)]
        except yaml.YAMLError as error:
            findings.append(_syntax(error, file, offset, piece))
        offset += piece.count("\n")
    return composed, findings


class _RefusedError(yaml.YAMLError):
    """The text is YAML, but beyond our bounds."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.mark = mark


def _compose(text: str) -> list[yaml.Node]:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # first, since composing recurses once per level
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"is nested deeper than {MAX_DEPTH} levels", event.start_mark)
    return list(yaml.compose_all(text, Loader=_Loader))


def _syntax(error: yaml.YAMLError, file: str, offset: int, text: str) -> Finding:
    """Return a syntax error as a finding; `text` is the piece that begins after `offset` lines."""
    if isinstance(error, _RefusedError):
        return Finding("PS003", "error", error.problem).at(_source(error.mark, file, offset))
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        position = getattr(error, "position", 0)
        line, column = text.count("\n", 0, position), position - text.rfind("\n", 0, position)
        message = f"is not valid YAML: {getattr(error, 'reason', error)}"
        return Finding("PS001", "error", message).at(Source(file, offset + line + 1, column))
    at = error.problem_mark.line
    if any(re.match(r" *\t", line) for line in text.split("\n")[at : at + 1]):
        message = "is not valid YAML: the line is indented with a tab; use spaces"
    else:
        context = f" {error.context}" if error.context else ""
        since = f" that began on line {offset + error.context_mark.line + 1}" if error.context_mark else ""
        message = f"is not valid YAML: {error.problem}{context}{since}"
    return Finding("PS001", "error", message).at(_source(error.problem_mark, file, offset))


def _source(mark: Any, file: str, offset: int) -> Source:
    return Source(file, offset + mark.line + 1, mark.column + 1)


def _objects(root: yaml.Node) -> list[yaml.Node]:
    """Return the nodes of the objects under `root`: its items when it is a `List`, as kubectl prints one."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    fields = {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}
    items = fields.get("items")
    if "kind" in fields and fields["kind"].value == "List" and isinstance(items, yaml.SequenceNode):
        return list(items.value)
    return [root]


def _identity(data: Any) -> Finding | None:
    if not isinstance(data, dict):
        return Finding("PS004", "error", "a document must be an object with apiVersion, kind and the rest")
    for name in ("apiVersion", "kind"):
        if not isinstance(data.get(name), str) or not data[name]:
            return Finding("PS004", "error", f"a document needs {name}", path=name)
    return None


class _Builder:
    """Turns nodes into JSON values; remembers places, plain scalars and what was wrong."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.offset = 0
        self.count = 0

    def document(self, node: yaml.Node, index: int) -> tuple[Document | None, list[Finding]]:
        """Return the object of a node (None: empty, or no object), and what is wrong with it."""
        self.places: dict[str, Source] = {"": self.source(node)}
        self.plain: dict[str, str] = {}
        self.findings: list[Finding] = []
        try:
            data = self.value(node, "", 0)
        except _RefusedError as error:
            return None, [_syntax(error, self.file, self.offset, "")]
        problem = _identity(data) if data is not None else None
        if data is None or problem:
            return None, [*self.findings, *([problem.at(self.places[""])] if problem else [])]
        document = Document(
            kind=data["kind"],
            api_version=data["apiVersion"],
            data=data,
            index=index,
            file=self.file,
            places=self.places,
            plain=self.plain,
            sound=not self.findings,
        )
        return document, [replace(finding, object=document.name) for finding in self.findings]

    def source(self, node: yaml.Node) -> Source:
        return _source(node.start_mark, self.file, self.offset)

    def report(self, code: str, message: str, path: str, node: yaml.Node, **details: str) -> None:
        self.findings.append(Finding(code, "error", message, path=path, source=self.source(node), **details))

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        """Return the JSON value of a node; an alias is the same node again: depth and count bound them."""
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            what = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"{MAX_VALUES} values"
            raise _RefusedError(f"has more than {what} once its aliases are expanded", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.item(item, child(path, index), depth) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - there are three kinds of nodes
        return self.scalar(node, path)

    def item(self, node: yaml.Node, path: str, depth: int) -> Any:
        self.places[path] = self.source(node)
        return self.value(node, path, depth + 1)

    def mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        """Return the object of a mapping; a field given twice is reported and its first value kept."""
        result: dict[str, Any] = {}
        own: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    self.merge(merged, result, path, depth)
                continue
            name = self.key(key, path)
            at = child(path, name)
            if name in own:
                first = self.source(own[name]).line
                self.report("PS002", f'the field "{name}" is given twice, first on line {first}', at, key)
                continue
            own[name] = key
            self.places[at] = self.source(key)
            result[name] = self.value(value, at, depth + 1)
        return result

    def merge(self, node: yaml.Node, result: dict[str, Any], path: str, depth: int) -> None:
        """Take over the fields of a `<<` mapping that the mapping has not got; its own ones win later."""
        if not isinstance(node, yaml.MappingNode):
            self.report("PS001", "only a mapping can be merged with <<", path, node)
            return
        for name, value in self.mapping(node, path, depth + 1).items():
            result.setdefault(name, value)

    def key(self, node: yaml.Node, path: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            self.report("PS008", "the name of a field must be a string", path, node, found=_described(node))
        name = str(node.value) if isinstance(node, yaml.ScalarNode) else "?"
        if len(name) > MAX_NAME:
            self.report("PS003", f"the name of a field has more than {MAX_NAME} characters", path, node)
        return name[:MAX_NAME]

    def scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        if node.tag in _TEXT:
            return node.value
        self.plain[path] = node.value
        if node.tag == "tag:yaml.org,2002:null":
            return None
        value = math.nan
        if node.tag in _PLAIN and len(node.value) <= MAX_NUMBER:
            value = _PLAIN[node.tag](SafeConstructor(), node)
        if isinstance(value, float) and not math.isfinite(value):
            self.report("PS008", "must be a value that JSON has", path, node, found=_described(node))
            return node.value
        return value


def _described(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a list or an object"
    return f"{node.value[:60]}, which YAML reads as {node.tag.rpartition(':')[2]}; put it in quotes"
