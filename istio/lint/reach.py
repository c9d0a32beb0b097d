"""Rules of a VirtualService that no request reaches, because an earlier rule takes it: warnings, as istiod's.

Rules are tried in order and the first match wins. Equal matches are found for http, tls and tcp; of
overlapping ones only http prefixes, compared as istiod compares them (a missing method counts as GET).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from istio.lint.codes import problem
from policies.documents import child

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from policies.findings import Finding

_CONDITIONS: Final = frozenset({"uri", "scheme", "method", "authority"})
"""Fields that say something even when empty: an empty string match means that the thing is present."""


def check_reach(routes: Sequence[dict[str, Any]], path: str) -> Iterator[Finding]:
    """Yield a warning for each rule and each match of `routes` that earlier ones make useless."""
    taken: dict[str, int] = {}
    catch_all = False
    for index, route in enumerate(routes):
        spot, matches = child(path, index), route.get("match", [])
        if catch_all:
            reason = (
                "route without matches defined before" if matches else "only the last may have no matches"
            )
            yield _unused(spot, _name(route, index), reason)
            continue
        catch_all = not matches
        fresh = catch_all
        for number, match in enumerate(matches):
            earlier = taken.get(_key(match))
            if earlier is None:
                taken[_key(match)], fresh = index, True
            else:
                reason = f"duplicate match in rule {_name(routes[earlier], earlier)}"
                yield _taken(child(child(spot, "match"), number), reason)
        if not fresh:
            yield _unused(spot, _name(route, index), "all matches used by prior rules")


def check_overlap(routes: Sequence[dict[str, Any]], path: str) -> Iterator[Finding]:
    """Yield a warning for each http match whose URI prefix begins with that of an earlier match."""
    seen: set[str] = set()
    earlier: dict[str, list[_Prefix]] = {}
    sizes: set[int] = set()
    for index, route in enumerate(routes):
        if not route.get("match"):
            return
        for number, match in enumerate(route["match"]):
            if _key(match) in seen or not match.get("uri", {}).get("prefix"):
                continue
            seen.add(_key(match))
            mine = _Prefix.of(match, _name(route, index))
            shorter = (mine.prefix[:size] for size in sorted(sizes) if size < len(mine.prefix))
            wider = (each for prefix in shorter for each in earlier.get(prefix, ()) if each.takes(mine))
            if first := next(wider, None):
                reason = f"prefix {mine.prefix} overlaps {first.prefix} in rule {first.rule}"
                yield _taken(f"{path}[{index}].match[{number}]", reason)
            earlier.setdefault(mine.prefix, []).append(mine)
            sizes.add(len(mine.prefix))


@dataclass(frozen=True, slots=True)
class _Prefix:
    """An http match by URI prefix, with its other conditions as comparable text."""

    rule: str
    prefix: str
    port: int
    method: str
    authority: str
    maps: tuple[Mapping[str, str], ...]

    @classmethod
    def of(cls, match: dict[str, Any], rule: str) -> _Prefix:
        maps = tuple(
            {key: _text(value) for key, value in match.get(name, {}).items()}
            for name in ("headers", "queryParams", "withoutHeaders")
        )
        method = _text(match.get("method", {})) or "exact:GET"
        authority = _text(match.get("authority", {}))
        return cls(rule, match["uri"]["prefix"], match.get("port", 0), method, authority, maps)

    def takes(self, later: _Prefix) -> bool:
        """Tell whether this match takes all requests of `later`, whose prefix begins with its own."""
        return (
            later.port == self.port
            and self.method.startswith(later.method)
            and self.authority.startswith(later.authority)
            and all(
                mine.keys() == other.keys() and all(mine[key].startswith(other[key]) for key in mine)
                for mine, other in zip(self.maps, later.maps, strict=True)
            )
        )


def _text(condition: Mapping[str, str]) -> str:
    return next((f"{kind}:{condition[kind]}" for kind in ("exact", "prefix") if condition.get(kind)), "")


def _key(match: dict[str, Any]) -> str:
    """Return what a match matches, as text: without its name and without fields at their defaults."""
    meant = {key: value for key, value in match.items() if key != "name" and (value or key in _CONDITIONS)}
    return json.dumps(meant, sort_keys=True)


def _name(route: dict[str, Any], index: int) -> str:
    return f'"{route["name"]}"' if route.get("name") else f"#{index}"


def _unused(path: str, rule: str, reason: str) -> Finding:
    return problem("PS160", path, f"rule {rule} not used ({reason})")


def _taken(path: str, reason: str) -> Finding:
    return problem("PS161", path, f"match is not used ({reason})")
