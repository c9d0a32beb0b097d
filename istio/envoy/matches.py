"""Conditions of a VirtualService's http route as Envoy route matches (istiod: TranslateRouteMatch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]
CATCH_ALL: Json = {"prefix": "/"}
"""What a route without conditions matches."""


def route_match(match: Mapping[str, Any] | None) -> Json:
    """Return the Envoy match for one entry of `match`; the listener has taken care of its `port`."""
    if match is None:
        return dict(CATCH_ALL)
    out: Json = {**_path(match.get("uri") or {}), "case_sensitive": not match.get("ignoreUriCase", False)}
    headers = _headers(match) + [
        _matcher(f":{name}", match[name]) for name in ("method", "authority", "scheme") if name in match
    ]
    if headers:
        out["headers"] = headers
    if match.get("queryParams"):
        out["query_parameters"] = [_matcher(name, how) for name, how in sorted(match["queryParams"].items())]
    return out


def is_catch_all(match: Mapping[str, Any]) -> bool:
    """Tell whether an Envoy match takes every request, so that no later route is ever reached."""
    every_path = match.get("prefix") == "/" or match.get("safe_regex", {}).get("regex") == ".*"
    return every_path and not match.get("headers") and not match.get("query_parameters")


def string_match(how: Mapping[str, str]) -> Json:
    """Return Envoy's string matcher: exact, prefix, or a regular expression for the whole value."""
    if "exact" in how:
        return {"exact": how["exact"]}
    if "prefix" in how:
        return {"prefix": how["prefix"]}
    return {"safe_regex": {"regex": how["regex"]}}


def _path(uri: Mapping[str, str]) -> Json:
    if "exact" in uri:
        return {"path": uri["exact"]}
    if "prefix" in uri:
        return {"prefix": uri["prefix"]}
    if "regex" in uri:
        return {"safe_regex": {"regex": uri["regex"]}}
    return dict(CATCH_ALL)


def _headers(match: Mapping[str, Any]) -> list[Json]:
    wanted = [_matcher(name, how) for name, how in (match.get("headers") or {}).items()]
    unwanted = [_absent(name, how) for name, how in (match.get("withoutHeaders") or {}).items()]
    return sorted(wanted + unwanted, key=lambda matcher: str(matcher["name"]))


def _absent(name: str, how: Mapping[str, str]) -> Json:
    out = {**_matcher(name, how), "invert_match": True}
    if "present_match" not in out:
        out["treat_missing_header_as_empty"] = True
    return out


def _matcher(name: str, how: Mapping[str, str]) -> Json:
    # Istio's `regex: "*"` is not a regular expression: it means that the header or parameter is there
    if not how or how.get("regex") == "*":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": string_match(how)}
