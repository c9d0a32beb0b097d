"""Whether an object has the shape of the language: every problem at once, in a Kubernetes user's words.

Pydantic does the checking; one table below turns its errors into findings with code, path, what was found and
what is allowed. Nulls are taken out first, as the API server does.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from policies.documents import child
from policies.findings import Finding
from policies.schema import at, structural, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic_core import ErrorDetails

MAX_ISSUES = 100

M = TypeVar("M", bound=BaseModel)


class Issue(NamedTuple):
    """A problem of shape: its finding, the field it makes unknown, and the field that was probably meant."""

    finding: Finding
    location: tuple[str | int, ...]
    meant: str | None = None


def check(model: type[M], data: dict[str, Any], plain: Mapping[str, str]) -> tuple[M | None, list[Issue]]:
    """Return `data` (without nulls) as a value of `model`, or None and everything that is wrong with it.

    `plain` holds the texts of scalars that YAML did not read as strings, for better words.
    """
    try:
        return model.model_validate(data, by_alias=True, by_name=False), []
    except ValidationError as error:
        schema = structural(model)
        details = [detail for detail in error.errors(include_url=False) if not _follows(detail)]
        issues = [_issue(detail, schema, plain) for detail in details[:MAX_ISSUES]]
        if len(details) > MAX_ISSUES:
            location = details[MAX_ISSUES]["loc"]
            rest = f"here begin {len(details) - MAX_ISSUES} more problems, not listed"
            issues.append(Issue(Finding("PS003", "error", rest, path=path_of(location)), location))
        return None, issues


def _follows(detail: ErrorDetails) -> bool:
    """Tell whether pydantic complains of a list as too short only because its items were bad."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def without_nulls(value: Any) -> Any:
    """Return the value without the fields that are null: the API server removes them before it looks."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def path_of(location: Iterable[str | int]) -> str:
    """Return a pydantic location as a field path."""
    path = ""
    for part in location:
        path = child(path, part)
    return path


def _issue(detail: ErrorDetails, schema: dict[str, Any], plain: Mapping[str, str]) -> Issue:
    location = detail["loc"]
    path = path_of(location)
    if detail["type"] == "extra_forbidden":
        return _unknown(str(location[-1]), location, at(schema, location[:-1]) or {})
    node = at(schema, location)
    allowed = words(node) if node else None
    if detail["type"] == "missing":
        return Issue(Finding("PS007", "error", "is required", path=path, allowed=allowed), location)
    code, message = _TABLE[detail["type"]]
    finding = Finding(
        code,
        "error",
        message(detail, allowed or "something else"),
        path=path,
        found=described(detail["input"], plain.get(path)),
        allowed=allowed,
    )
    return Issue(finding, location)


def _unknown(name: str, location: tuple[str | int, ...], parent: dict[str, Any]) -> Issue:
    fields = sorted(parent.get("properties", {}))
    meant = suggestion(name, fields)
    hint = f'; did you mean "{meant}"?' if meant else ""
    finding = Finding(
        "PS006",
        "error",
        f"unknown field {described(name)}{hint}",
        path=path_of(location),
        allowed=", ".join(fields),
    )
    return Issue(finding, location, meant)


def suggestion(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant: another spelling of the same words, or a near one."""
    by_key = {re.sub(r"[-_ ]", "", known).lower(): known for known in names}
    wanted = re.sub(r"[-_ ]", "", name).lower()
    near = [
        wanted,
        wanted + "s",
        wanted.removesuffix("s"),
        *difflib.get_close_matches(wanted, by_key, n=1, cutoff=0.7),
    ]
    return next((by_key[key] for key in near if key in by_key), None)


def described(value: Any, plain: str | None = None) -> str:
    """Say what was found: `0.25 (a number)`, `on (which YAML reads as true; put it in quotes)`."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
    if isinstance(value, bool | int | float):
        text = json.dumps(value)
        if plain is not None and plain != text:
            return f"{plain[:60]} (which YAML reads as {text}; put it in quotes)"
        return f"{text} (a {'boolean' if isinstance(value, bool) else 'number'})"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "nothing" if value is None else "an object"


def _must_be(_detail: ErrorDetails, allowed: str) -> str:
    return f"must be {allowed}"


def _choice(detail: ErrorDetails, allowed: str) -> str:
    found = detail["input"]
    meant = suggestion(found, allowed.removeprefix("one of ").split(", ")) if isinstance(found, str) else None
    return f"must be {allowed}" + (f'; did you mean "{meant}"?' if meant else "")


def _string(_detail: ErrorDetails, allowed: str) -> str:
    return f"must be {allowed}" if allowed.startswith("a string") else f"must be a string of {allowed}"


def _own_words(detail: ErrorDetails, _allowed: str) -> str:
    return str(detail["ctx"]["error"])


_TABLE: dict[str, tuple[str, Callable[[ErrorDetails, str], str]]] = {
    "string_type": ("PS008", _string),
    "bool_type": ("PS008", _must_be),
    "int_type": ("PS008", _must_be),
    "int_from_float": ("PS008", _must_be),
    "int_parsing": ("PS008", _must_be),
    "int_parsing_size": ("PS009", _must_be),
    "tuple_type": ("PS008", _must_be),
    "dict_type": ("PS008", _must_be),
    "model_type": ("PS008", _must_be),
    "value_error": ("PS008", _own_words),
    "literal_error": ("PS010", _choice),
    "string_pattern_mismatch": ("PS009", _must_be),
    "string_too_short": ("PS009", _must_be),
    "string_too_long": ("PS009", _must_be),
    "too_short": ("PS009", _must_be),
    "too_long": ("PS009", _must_be),
    "greater_than_equal": ("PS009", _must_be),
    "less_than_equal": ("PS009", _must_be),
}
