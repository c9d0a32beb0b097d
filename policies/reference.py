"""The reference of the language as Markdown: fields, types, defaults and rules, made from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policies import catalog
from policies.model import API_VERSION, MetricTemplate, RolloutPolicy
from policies.rules import RULES
from policies.schema import structural, words

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = f"""\
# Policy reference

<!-- Made by `python -m policies.generate` from policies/model.py; do not edit. -->

`{API_VERSION}`. Fields that are not listed here are errors. There are no floats: percentages are
written `25%`, durations `90s` or `1h30m`, other numbers that need not be whole in quotes (`"1.5"`). Codes
such as PS026 are explained in [findings.md](findings.md).
"""


def markdown() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for model in (RolloutPolicy, MetricTemplate):
        root = structural(model)
        parts.append(f"## {model.__name__}\n\n{_flat(root['description'])}\n")
        parts += _sections(root["properties"]["spec"], "spec")
    parts.append(_catalog())
    return "\n".join(parts)


def _sections(node: dict[str, Any], path: str) -> Iterator[str]:
    """Yield one section for an object, then those of the objects in it."""
    required = node.get("required", [])
    rows = [
        f"| `{name}` | {_type(field)} | {_default(name, field, required)} | {_flat(field['description'])} |"
        for name, field in node["properties"].items()
    ]
    table = "\n".join(["| field | is | default | means |", "|---|---|---|---|", *rows])
    yield f"### {path}\n\n{_flat(node['description'])}\n\n{table}\n{_rules(node['x-model'])}"
    for name, field in node["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            yield from _sections(inner, f"{path}.{name}{'[]' if 'items' in field else ''}")


def _type(field: dict[str, Any]) -> str:
    if "items" in field and "properties" not in field["items"]:
        return f"{words(field)}, each {words(field['items'])}"
    return words(field)


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, dict):
        return "its own defaults"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _rules(scope: str) -> str:
    rules = [rule for rule in RULES if rule.scope.__name__ == scope]
    lines = [
        f"- {rule.code}: {rule.message}{' (warning)' if rule.severity == 'warning' else ''}."
        for rule in rules
    ]
    return "\nRules:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _catalog() -> str:
    rows = [
        f"| `{name}` | {template.spec.kind} | {template.spec.unit} | {template.spec.description} |"
        for name, template in catalog.templates().items()
    ]
    head = "## Templates that ship\n\nKnown in every namespace; a template of your own takes another name.\n"
    return "\n".join([head, "| template | kind | unit | description |", "|---|---|---|---|", *rows, ""])


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
