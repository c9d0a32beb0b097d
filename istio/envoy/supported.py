"""Which objects standalone can translate: each field held against `fields`, and findings for all others.

An object with an error is left out of the translation as a whole, so nothing is ever silently dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from istio.envoy.fields import AT_MOST_ONE, EXACTLY_ONE, KINDS, Inert, Leaf, Map, Refused, Schema
from policies.findings import Finding, errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CODES = {
    "PS501": "the field is not part of Istio's schema",
    "PS502": "the field is valid for Istio, but standalone does not support it",
    "PS503": "the value is missing, of the wrong type, or not supported in standalone",
    "PS504": "the field has no effect in standalone",
    "PS505": "two objects describe one host; standalone takes one ServiceEntry and one DestinationRule each",
    "PS506": "another VirtualService has the host already; the oldest one is used",
    "PS507": "no service that standalone knows carries this",
    "PS508": "two services need the same listening port",
    "PS509": "the destination has no cluster; its requests get 503, as from istiod",
    "PS510": "a short name means several services on this port, so it reaches none of them",
}
"""Every code of this package, with its one meaning."""

_WARNINGS = frozenset({"PS504", "PS506", "PS507", "PS509", "PS510"})


def finding(code: str, subject: str, path: str, message: str, **more: Any) -> Finding:
    """Return a finding of this package: a warning where Envoy does what istiod's would do."""
    return Finding(code, "warning" if code in _WARNINGS else "error", message, path, subject, **more)


def check(obj: Mapping[str, Any], subject: str) -> list[Finding]:
    """Hold a VirtualService, DestinationRule or ServiceEntry against its table; `subject` names it."""
    problems = list(_walk(obj.get("spec"), KINDS[obj["kind"]], "spec"))
    found = [finding(code, subject, path, message, **more) for code, path, message, more in problems]
    # only a well-formed object can be looked at as a whole
    return found if errors(found) else [*found, *_without_weight(obj["spec"], subject)]


def _without_weight(spec: Mapping[str, Any], subject: str) -> Iterator[Finding]:
    """Report routes to several destinations of which none has a weight: Envoy has nowhere to send them."""
    for kind in ("http", "tls", "tcp"):
        for index, route in enumerate(spec.get(kind) or ()):
            items = route.get("route") or ()
            if len(items) > 1 and not any(item.get("weight") for item in items):
                yield finding("PS503", subject, f"spec.{kind}[{index}].route", "no destination has a weight")


Problem = tuple[str, str, str, dict[str, Any]]


def _walk(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    match schema:
        case Refused(reason):
            yield "PS502", path, f"not supported in standalone: {reason}", {}
        case Inert(reason):
            yield "PS504", path, f"has no effect in standalone: {reason}", {}
        case Leaf(words, accepts):
            if not accepts(value):
                yield _wrong(value, path, words)
        case Map(of):
            yield from _walk_map(value, of, path)
        case list():
            yield from _walk_list(value, schema[0], path)
        case dict():
            yield from _walk_message(value, schema, path)


def _walk_message(value: Any, schema: dict[str, Any], path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong(value, path, "a mapping")
        return
    fields = {name.rstrip("!"): of for name, of in schema.items() if not isinstance(of, tuple)}
    for name, item in value.items():
        if name not in fields:
            yield "PS501", f"{path}.{name}", "unknown field", {"allowed": ", ".join(fields)}
        elif item is not None:
            yield from _walk(item, fields[name], f"{path}.{name}")
    for name in schema:
        if name.endswith("!") and value.get(name[:-1]) in (None, [], ""):
            yield "PS503", f"{path}.{name[:-1]}", "is required", {}
    yield from _exclusive(value, schema, path)


def _exclusive(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[Problem]:
    """Report fields that exclude one another and are set together, or none of which is set."""
    for kind, words in ((EXACTLY_ONE, "exactly one"), (AT_MOST_ONE, "at most one")):
        names: tuple[str, ...] = schema.get(kind, ())
        given = [name for name in names if value.get(name) not in (None, [])]
        if len(given) > 1 or (names and not given and kind == EXACTLY_ONE):
            yield "PS503", path, f"needs {words} of {', '.join(names)}", {"found": ", ".join(given) or "none"}


def _walk_list(value: Any, of: Schema, path: str) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield _wrong(value, path, "a list")
        return
    for index, item in enumerate(value):
        yield from _walk(item, of, f"{path}[{index}]")


def _walk_map(value: Any, of: Schema, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong(value, path, "a mapping")
        return
    for name, item in value.items():
        if str(name).startswith("@request.auth.claims"):
            yield "PS502", f"{path}.{name}", "not supported in standalone: it does not check tokens", {}
        else:
            yield from _walk(item, of, f"{path}.{name}")


def _wrong(value: Any, path: str, words: str) -> Problem:
    return (
        "PS503",
        path,
        "not a value that standalone supports",
        {"found": repr(value)[:80], "allowed": words},
    )
