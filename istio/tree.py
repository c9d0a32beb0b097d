"""A YAML or JSON text as documents whose nodes know where they stand in it.

PyYAML composes the nodes with their marks; this module adds what an exact edit also needs: which nodes are
shared through anchors, where an alias ends, and values as Kubernetes reads them (JSON types only, timestamps
as text, aliases written out, so that no part of a value stands in two places). No text makes it fail in any
other way than by TextError, and the work is bounded also for aliases of aliases.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import yaml

from istio.route import RouteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_VALUES = 500_000
"""Upper bound for the values in one document with its aliases written out; etcd's objects are far smaller."""

_UNREADABLE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
"""What PyYAML raises, beside YAMLError, for values such as `!!int x` and for deep nesting."""


class TextError(RouteError):
    """The text of a file cannot be read or edited."""

    code = "text"


class SyntaxTextError(TextError):
    """Not YAML or JSON; the message has line and column, counted from 1."""

    code = "syntax"


class SharedWeightError(TextError):
    """An anchor stands between: editing one place would change another."""

    code = "shared-weight"


class Tree:
    """The documents of one text; SyntaxTextError when it is not YAML or JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._json = _is_json(text)
        self._loader, self.documents = self._compose()

    def value(self, document: int) -> Any:
        """Return a document as a JSON value; SyntaxTextError."""
        if self._json:
            return json.loads(self.text)
        loader, documents = self._compose()  # constructing changes the nodes (merge keys), so of fresh ones
        node = documents[document]
        try:
            return _json_value(loader.construct_document(node), itertools.count())
        except yaml.YAMLError as error:
            raise SyntaxTextError(_words(error, self.text)) from error
        except _UNREADABLE as error:
            line = node.start_mark.line + 1
            raise SyntaxTextError(f"the document at line {line} has no JSON value: {error}") from error

    def scalar(self, document: int, *keys: str) -> str | None:
        """Return the text of the scalar at `keys`, or None."""
        node: yaml.Node | None = self.documents[document]
        for key in keys:
            node = next((value for name, value in _pairs(node) if name.value == key), None)
        return node.value if isinstance(node, yaml.ScalarNode) else None

    def name(self, document: int) -> str:
        """Return `namespace/name` of the object in a document, or its name where no namespace is written."""
        parts = (self.scalar(document, "metadata", "namespace"), self.scalar(document, "metadata", "name"))
        return "/".join(part for part in parts if part) or "(unnamed)"

    def walk(self, document: int, tokens: Sequence[str]) -> yaml.MappingNode:
        """Return the mapping at the reference tokens of a JSON Pointer; SharedWeightError, TextError."""
        node = self.documents[document]
        for token in tokens:
            found = self.child(node, token)
            if found is None:
                place = _place(node)
                raise TextError(f"{token!r} is not written at {place} but merged in (<<): write it out first")
            node = found
        if not isinstance(node, yaml.MappingNode):
            raise TextError(f"there is no mapping at {_place(node)}")
        return node

    def child(self, node: yaml.Node, token: str) -> yaml.Node | None:
        """Return the member or item of a node, None when it is not written there; SharedWeightError."""
        if isinstance(node, yaml.SequenceNode):
            found = [node.value[int(token)]]
        else:
            found = [value for key, value in _pairs(node) if key.value == token]
        if len(found) > 1:
            raise TextError(f"{token!r} is given {len(found)} times in the mapping at {_place(node)}")
        if found and id(found[0]) in self._loader.shared:
            raise SharedWeightError(
                f"the weight is shared through the anchor at {_place(found[0])}: write it out first"
            )
        return found[0] if found else None

    def last_end(self, node: yaml.Node) -> int:
        """Return the index behind the last visible character of a mapping's or sequence's last item."""
        if isinstance(node, yaml.MappingNode):
            key, value = node.value[-1]
            alias = self._loader.alias_end.get((id(node), id(key)))
        else:
            value, alias = node.value[-1], self._loader.alias_end.get((id(node), len(node.value) - 1))
        return alias or self._end(value)

    def _end(self, node: yaml.Node) -> int:
        start, end = node.start_mark.index, node.end_mark.index
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            return self.last_end(node)
        if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}:  # ends where the next token begins
            return start + len(self.text[start:end].rstrip())
        return end

    def _compose(self) -> tuple[_Loader, list[yaml.Node]]:
        # JSON allows tabs as space, YAML does not; strings of JSON hold no raw tabs, so no place moves.
        text = self.text.replace("\t", " ") if self._json else self.text
        try:
            loader = _Loader(text)
            documents = []
            while loader.check_node():
                documents.append(loader.get_node())
        except yaml.YAMLError as error:
            raise SyntaxTextError(_words(error, text)) from error
        except _UNREADABLE as error:
            raise SyntaxTextError(f"the text cannot be read: {error}") from error
        return loader, [node for node in documents if node is not None]


class _Loader(yaml.SafeLoader):
    """PyYAML's loader that also notes which nodes have aliases, and where the aliases end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.shared: set[int] = set()
        self.alias_end: dict[tuple[int, int], int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose as PyYAML does; `index` is the key of a member, or the number of an item."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            self.shared.add(id(node))
            place = index if isinstance(index, int) else id(index)
            self.alias_end[id(parent), place] = event.end_mark.index  # type: ignore[union-attr]
        return node


# Kubernetes knows neither timestamps nor the value `=`: both are text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _json_value(value: Any, count: Iterator[int]) -> Any:
    """Copy a constructed value as JSON, every alias written out; ValueError for what JSON does not have."""
    if next(count) > MAX_VALUES:
        raise ValueError("it is too large")
    if isinstance(value, dict):
        return {_json_key(key): _json_value(item, count) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item, count) for item in value]
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"{value!r:.40} cannot be written in JSON")


def _json_key(key: Any) -> str:
    if key is None or isinstance(key, int | float):
        return json.dumps(key)
    if not isinstance(key, str):
        raise TypeError("a key is not a text")
    return key


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _place(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=int)  # int refuses NaN and Infinity, as JSON does
    except (ValueError, RecursionError):
        return False
    return True


def _words(error: yaml.YAMLError, text: str) -> str:
    """Return where and why a text is not YAML, in one line."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position].splitlines() or [""]
        return f"line {len(before)}, column {len(before[-1]) + 1}: this character is not allowed"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
