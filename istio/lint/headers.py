"""Header names and values in matches and header operations, as istiod and Envoy take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.findings import Finding

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~A-Za-z0-9]+")
_PSEUDO: Final = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CLAIM: Final = re.compile(r"@request\.auth\.claims(\..+|\[.+\])", re.IGNORECASE | re.DOTALL)
_NO_CONTROLS: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

# A value: text, %% for a per cent sign, and variables: %NAME%, %NAME(text)% or %NAME(["text", ..])%.
_STRING: Final = r'(?:\\.|[^\\)"])*'
_ARGUMENTS: Final = rf' *(?:\[ *"|[^ \[]){_STRING}(?:" *, *"{_STRING})*(?:\)|" *\] *\))'
_VARIABLE: Final = rf"%(?!%)[^%(]*(?:%|\({_ARGUMENTS} *%)"
_VALUE: Final = re.compile(rf"(?:[^%]|%%|{_VARIABLE})*", re.DOTALL)


def is_claim(name: str) -> bool:
    """Tell whether a match's header name stands for a claim of the request's JWT."""
    return _CLAIM.fullmatch(name) is not None


def check_match_name(name: str, path: str) -> Iterator[Finding]:
    """Check the name of a header to match on: an HTTP token, a pseudo header or a JWT claim."""
    if not name:
        yield problem("PS134", path, "header name cannot be empty")
    elif not (is_claim(name) or name in _PSEUDO or _TOKEN.fullmatch(name)):
        yield problem("PS134", path, "not a valid header name", found=name)


def check_cors_name(name: str, path: str) -> Iterator[Finding]:
    """Check the name of a header in a CORS policy: an HTTP token, of which `*` is one."""
    if not _TOKEN.fullmatch(name):
        yield problem("PS134", path, "not a valid header name", found=name or "nothing")


def check_headers(headers: dict[str, Any], path: str) -> Iterator[Finding]:
    """Check the header operations of a route or of a destination."""
    for direction, changes in headers.items():
        here = child(path, direction)
        for operation in ("set", "add"):
            for name, value in changes.get(operation, {}).items():
                spot = child(child(here, operation), name)
                yield from _check_name(name, spot, authority=direction == "request")
                yield from _check_value(value, spot)
        for index, name in enumerate(changes.get("remove", ())):
            yield from _check_name(name, child(child(here, "remove"), index), authority=False)


def check_authority(route: dict[str, Any], path: str) -> Iterator[Finding]:
    """Check that the authority is set in one place: in rewrite.authority or by one header operation."""
    current = route.get("rewrite", {}).get("authority", "")
    request = route.get("headers", {}).get("request", {})
    for operation in ("set", "add"):
        for name, value in request.get(operation, {}).items():
            if name.lower() not in {":authority", "host"}:
                continue
            if current:
                message = f'authority header cannot be set multiple times: have "{current}"'
                spot = child(child(f"{path}.headers.request", operation), name)
                yield problem("PS139", spot, message, found=value)
                return
            current = value


def _check_name(name: str, path: str, *, authority: bool) -> Iterator[Finding]:
    lower = name.lower()
    if not name:
        yield problem("PS134", path, "header name cannot be empty")
    elif authority and lower in {":authority", "host"}:
        return
    elif lower == "host":
        yield problem("PS134", path, "cannot set Host header", found=name)
    elif name.startswith(":"):
        yield problem("PS134", path, 'header cannot have ":" prefix', found=name)


def _check_value(value: str, path: str) -> Iterator[Finding]:
    if not _NO_CONTROLS.fullmatch(value):
        yield problem("PS135", path, "header value has control characters", found=repr(value))
    elif not _VALUE.fullmatch(value):
        message = "invalid header configuration: un-escaped % or un-terminated variable"
        yield problem("PS135", path, message, found=value, allowed="%VARIABLE%, and %% for a per cent sign")
