"""Three-way merge of a manifest, as `kubectl apply` does it: last applied, new and live, field by field.

What the file does not change stays as it is live; what the file changes is taken from the file; what it no
longer says goes; what only the live object has stays. Lists are taken whole, as Istio's are, except for one
thing: Penstock moves the weights of routes, so a route whose weights the file leaves alone keeps those that
are live.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

from controller.standalone.objects import manifest

if TYPE_CHECKING:
    from controller.ports import Object

ROUTES = ("http", "tls", "tcp")
_ABSENT = object()


def merge(last: Object | None, new: Object, live: Object | None) -> Object:
    """Return the manifest to write; pure, and shares nothing with what it was given."""
    new = manifest(new)
    if live is None:
        return new
    before, now = manifest(last or {}), manifest(live)
    merged: Object = _merge(before, new, now)
    for section in ROUTES:
        _keep_weights(*(_routes(each, section) for each in (before, merged, now)))
    return merged


def _merge(last: Any, new: Any, live: Any) -> Any:
    if new == last:
        return live
    if not (isinstance(new, dict) and isinstance(live, dict)):
        return copy.deepcopy(new)
    before = last if isinstance(last, dict) else {}
    merged = {}
    for key in [*live, *(key for key in new if key not in live)]:
        old, wanted, there = (each.get(key, _ABSENT) for each in (before, new, live))
        if wanted is not _ABSENT:
            there = _merge(old, wanted, there)
        elif old is not _ABSENT:
            continue
        if there is not _ABSENT:
            merged[key] = there
    return merged


def _routes(obj: Object, section: str) -> dict[Any, list[Object]]:
    """Return the destinations of each route of a section, by its name or by where it goes."""
    spec = obj.get("spec")
    routes = spec.get(section) if isinstance(spec, dict) else None
    found: dict[Any, list[Object]] = {}
    seen: Counter[Any] = Counter()
    for route in routes if isinstance(routes, list) else ():
        destinations = route.get("route") if isinstance(route, dict) else None
        if isinstance(destinations, list) and all(isinstance(each, dict) for each in destinations):
            key = route.get("name") or tuple(_destination(each) for each in destinations)
            found[key, seen[key]] = destinations
            seen[key] += 1
    return found


def _destination(entry: Object) -> str:
    return repr(sorted((entry.get("destination") or {}).items(), key=repr))


def _keep_weights(
    last: dict[Any, list[Object]], merged: dict[Any, list[Object]], live: dict[Any, list[Object]]
) -> None:
    """Give each merged route the live weights where the file left its weights alone and the sum stays."""
    for key, entries in merged.items():
        if key not in last or key not in live:
            continue
        before, now = ({_destination(each): each for each in side[key]} for side in (last, live))
        weights = []
        for entry in entries:
            where = _destination(entry)
            weights.append(_weight_to_write(entry, before.get(where), now.get(where)))
        if sum(weights) == sum(map(_weight, entries)):
            for entry, weight in zip(entries, weights, strict=True):
                if weight != _weight(entry):
                    entry["weight"] = weight


def _weight_to_write(entry: Object, last: Object | None, live: Object | None) -> int:
    untouched = last is not None and live is not None and _weight(last) == _weight(entry)
    return _weight(live) if untouched and live else _weight(entry)


def _weight(entry: Object) -> int:
    return entry.get("weight") or 0
