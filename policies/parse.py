"""YAML files, or objects of a store, as typed policies and templates: with all problems at once.

Guarantees: `parse` never raises. A policy or template is in `Parsed` only if nothing is wrong with it by
itself; every problem of every document is in `findings` with code, field path and place. What is wrong
between documents is `policies.rules.check_all`'s part. Objects of other kinds are passed on untouched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from policies.documents import Document, Loaded, child, read
from policies.findings import Finding, errors
from policies.model import API_GROUP, API_VERSION, MetricTemplate, RolloutPolicy
from policies.rules import check, check_sound_parts
from policies.shape import check as check_shape
from policies.shape import described, suggestion, without_nulls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel

__all__ = [
    "Document",
    "InvalidError",
    "Loaded",
    "Parsed",
    "parse",
    "policy_from_object",
    "template_from_object",
]

M = TypeVar("M", bound="BaseModel")
_MODELS: dict[str, type[RolloutPolicy] | type[MetricTemplate]] = {
    "RolloutPolicy": RolloutPolicy,
    "MetricTemplate": MetricTemplate,
}


class InvalidError(Exception):
    """An object is not a valid policy or template; `findings` says all that is wrong with it."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(str(finding) for finding in findings))
        self.findings = list(findings)


@dataclass
class Parsed:
    """What a set of files holds."""

    policies: list[Loaded[RolloutPolicy]] = field(default_factory=list)
    templates: list[Loaded[MetricTemplate]] = field(default_factory=list)
    others: list[Document] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def parse(sources: Iterable[tuple[str, str]]) -> Parsed:
    """Parse files given as (name, text)."""
    parsed = Parsed()
    for file, text in sources:
        documents, findings = read(file, text)
        for document in documents:
            findings += _take(document, parsed)
        parsed.findings += sorted(findings, key=_reading_order)
    return parsed


def policy_from_object(obj: dict[str, Any]) -> RolloutPolicy:
    """Return the policy that an object of a store is; raise InvalidError."""
    return _from_object(RolloutPolicy, obj)


def template_from_object(obj: dict[str, Any]) -> MetricTemplate:
    """Return the template that an object of a store is; raise InvalidError."""
    return _from_object(MetricTemplate, obj)


def _from_object(model: type[M], obj: dict[str, Any]) -> M:
    value, findings = _typed(model, obj, {})
    if value is None or errors(findings):
        raise InvalidError(errors(findings))
    return value


def _take(document: Document, parsed: Parsed) -> list[Finding]:
    """Put a document where it belongs; return what is wrong with it."""
    group = document.api_version.partition("/")[0]
    if group != API_GROUP and document.kind not in _MODELS:
        parsed.others.append(document)
        return []
    findings = list(_unknown_type(document))
    value: BaseModel | None = None
    if not findings:
        value, findings = _typed(_MODELS[document.kind], document.data, document.plain)
        findings += _ignored(document.data, "")
    sound = document.sound and not errors(findings)
    if sound and isinstance(value, RolloutPolicy):
        parsed.policies.append(Loaded(value, document))
    elif sound and isinstance(value, MetricTemplate):
        parsed.templates.append(Loaded(value, document))
    return [_placed(finding, document) for finding in findings]


def _unknown_type(document: Document) -> Iterator[Finding]:
    for path, found, allowed in (
        ("apiVersion", document.api_version, [API_VERSION]),
        ("kind", document.kind, list(_MODELS)),
    ):
        if found not in allowed:
            choice = " or ".join(allowed)
            meant = suggestion(found, allowed) if len(allowed) > 1 else None
            hint = f'; did you mean "{meant}"?' if meant else ""
            yield Finding("PS005", "error", f"must be {choice}{hint}", path, "", described(found), choice)


def _typed(
    model: type[M], obj: Mapping[str, Any], plain: Mapping[str, str]
) -> tuple[M | None, list[Finding]]:
    """Return the value (None: not of the right shape) and what is wrong; the status is not looked at."""
    data = without_nulls({key: value for key, value in obj.items() if key != "status"})
    value, issues = check_shape(model, data, plain)
    if value is not None:
        return value, check(value)
    return None, [*(issue.finding for issue in issues), *check_sound_parts(model, data, issues)]


def _ignored(value: Any, path: str) -> Iterator[Finding]:
    """Yield a warning for every field that was left without a value."""
    if isinstance(value, dict):
        for name, item in value.items():
            at = child(path, name)
            if item is None:
                yield Finding("PS011", "warning", "has no value and is taken as absent", path=at)
            elif at != "status":
                yield from _ignored(item, at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _ignored(item, child(path, index))


def _placed(finding: Finding, document: Document) -> Finding:
    return replace(finding, object=document.name, source=document.place(finding.path))


def _reading_order(finding: Finding) -> tuple[int, int]:
    return (finding.source.line, finding.source.column) if finding.source else (0, 0)
