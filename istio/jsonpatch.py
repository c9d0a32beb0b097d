"""JSON Patch (RFC 6902) with the four operations that guarded writes need: test, add, replace, remove.

Guarantees: the given object and the values in the operations are never changed and never shared with the
result; either all operations apply or an error is raised. Numbers compare as numbers (1 equals 1.0), but
`true` is not 1. `move` and `copy` are refused.

    PatchError                 the patch does not fit the object, or is not a patch
    `-- PatchConflictError     a `test` failed: the object is not what the writer believed
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class PatchError(Exception):
    """The patch does not fit the object, or is not a patch."""


class PatchConflictError(PatchError):
    """A `test` failed: the object is not what the writer believed."""


def apply_patch(obj: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return a patched copy of a JSON value; PatchConflictError, PatchError."""
    result = unshared(obj)
    for operation in operations:
        result = _apply(result, operation)
    return result


def pointer(text: str) -> list[str]:
    """Return the reference tokens of a JSON Pointer (RFC 6901), unescaped; PatchError."""
    if text == "":
        return []
    if not text.startswith("/") or re.search(r"~(?![01])", text):
        raise PatchError(f"{text!r} is not a JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/")]


def unshared(value: Any) -> Any:
    """Copy a JSON value so that no part stands in two places (`copy.deepcopy` would keep such sharing)."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [unshared(item) for item in value]
    return value


def equal(one: Any, other: Any) -> bool:
    """Compare JSON values as RFC 6902 section 4.6 says: by type and content."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    name, path = operation.get("op"), operation.get("path")
    if name not in {"test", "add", "replace", "remove"}:
        raise PatchError(f"operation {name!r} is not supported")
    if not isinstance(path, str):
        raise PatchError(f"{name}: the path is missing")
    if name != "remove" and "value" not in operation:
        raise PatchError(f"{name} {path}: the value is missing")
    tokens, value = pointer(path), unshared(operation.get("value"))
    if name == "test":
        return _tested(document, tokens, value, path)
    if not tokens:
        if name == "remove":
            raise PatchError("the whole object cannot be removed")
        return value
    parent = _at(document, tokens[:-1], path)
    if isinstance(parent, dict):
        _change_member(parent, tokens[-1], name, value, path)
    elif isinstance(parent, list):
        _change_item(parent, tokens[-1], name, value, path)
    else:
        raise PatchError(f"{name} {path}: nothing can stand there")
    return document


def _tested(document: Any, tokens: list[str], value: Any, path: str) -> Any:
    try:
        found = _at(document, tokens, path)
    except PatchError as error:
        raise PatchConflictError(f"test failed: {error}") from error
    if not equal(found, value):
        raise PatchConflictError(f"test failed: {path} has another value")
    return document


def _at(document: Any, tokens: list[str], path: str) -> Any:
    for token in tokens:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(token, len(document), path)]
        else:
            raise PatchError(f"{path} does not exist")
    return document


def _change_member(parent: dict[str, Any], key: str, name: str, value: Any, path: str) -> None:
    if name != "add" and key not in parent:
        raise PatchError(f"{name} {path}: it does not exist")
    if name == "remove":
        del parent[key]
    else:
        parent[key] = value


def _change_item(parent: list[Any], token: str, name: str, value: Any, path: str) -> None:
    if name == "add":
        parent.insert(len(parent) if token == "-" else _index(token, len(parent) + 1, path), value)  # noqa: S105
        return
    index = _index(token, len(parent), path)
    if name == "remove":
        del parent[index]
    else:
        parent[index] = value


def _index(token: str, length: int, path: str) -> int:
    """Return a list index below `length`; no sign and no leading zeros (RFC 6901 section 4)."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,9}", token) or int(token) >= length:
        raise PatchError(f"{path}: the list has no place {token!r}")
    return int(token)
