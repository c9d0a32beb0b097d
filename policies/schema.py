"""The language as one JSON schema without references, and in words: made from the model, nothing by hand.

The CRD, the reference page and the findings' "allowed" are all read from here, so they cannot disagree.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from policies.units import (
    QUANTITY_LENGTH,
    Dispersion,
    Duration,
    Factor,
    Percent,
    Quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

_PATTERNS = {
    **{quantity.pattern: quantity.allowed for quantity in (Duration, Percent, Factor, Dispersion)},
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$": "lower-case letters, digits and inner dashes",
    r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$": "lower-case letters, digits, inner dashes and dots",
    r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$": "letters, digits and inner dashes",
    r"^[a-zA-Z_][a-zA-Z0-9_]*$": "letters, digits and underscores, no digit first",
    r"^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$": "letters, digits, inner dashes and dots",
}
_TYPES = {
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
}


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Write the default of a quantity as its text."""
        return str(dft) if isinstance(dft, Quantity) else super().encode_default(dft)


def _tells(default: Any) -> bool:
    """Tell whether a default says something: null and empty ones do not."""
    return bool(default) or isinstance(default, bool | int)


@cache
def definitions(model: type[BaseModel]) -> dict[str, Any]:
    """Return pydantic's JSON schema of `model`, by alias, with its `$defs`; not to be changed."""
    return model.model_json_schema(by_alias=True, schema_generator=_Generator)


def inlined(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """Return `node` without references, unions with null and titles: a field that may be absent is optional.

    `x-model` names the model that an object was made from. Defaults that say nothing (null, empty) are left
    out, so that CEL's `has()` means "was written".
    """
    if "anyOf" in node:
        (chosen,) = (option for option in node["anyOf"] if option.get("type") != "null")
        return inlined(
            {**chosen, **{key: node[key] for key in ("default", "description") if key in node}}, defs
        )
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return inlined(
            {**defs[name], "x-model": name, **{k: v for k, v in node.items() if k != "$ref"}}, defs
        )
    kept = {key: value for key, value in node.items() if key not in {"title", "$defs", "const"}}
    if "const" in node:
        kept["enum"] = [node["const"]]
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    if "default" in kept and not _tells(kept["default"]):
        del kept["default"]
    elif isinstance(kept.get("default"), dict):
        kept["default"] = {name: value for name, value in kept["default"].items() if _tells(value)}
    if "properties" in node:
        kept["properties"] = {name: inlined(field, defs) for name, field in node["properties"].items()}
    if "items" in node:
        kept["items"] = inlined(node["items"], defs)
    return kept


@cache
def structural(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of `model` as one tree; not to be changed."""
    root = definitions(model)
    return inlined({**root, "x-model": model.__name__}, root.get("$defs", {}))


def at(schema: dict[str, Any], location: Iterable[str | int]) -> dict[str, Any] | None:
    """Return the part of the schema that describes a field, or None for one that it does not know."""
    node: dict[str, Any] | None = schema
    for part in location:
        if node is None:
            return None
        node = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
    return node


def words(node: dict[str, Any]) -> str:
    """Say what a field may hold: `a whole number from 1 to 100`, `a duration such as 90s, 5m or 1h30m`."""
    if "enum" in node:
        values = [str(value) for value in node["enum"]]
        return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    kind = node.get("type", "object")
    if kind == "array":
        return f"a list of {_span(node.get('minItems', 0), node.get('maxItems'))} items"
    if kind == "integer" and "minimum" in node:
        return f"a whole number {_span(node['minimum'], node.get('maximum'), 'from ')}"
    if "pattern" not in node:
        longest = (
            f" of {_span(node['minLength'], node['maxLength'])} characters" if "maxLength" in node else ""
        )
        return _TYPES[kind] + longest
    text = _PATTERNS[node["pattern"]]
    return text if node["maxLength"] == QUANTITY_LENGTH else f"{text}, at most {node['maxLength']}"


def _span(low: int, high: int | None, start: str = "") -> str:
    if high is None:
        return f"at least {low}"
    return f"{start}{low} to {high}" if low else f"at most {high}"
