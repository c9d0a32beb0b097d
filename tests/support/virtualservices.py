"""VirtualServices for tests: generated ones, the corpus, and an independent view of their weights."""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CORPUS = sorted((Path(__file__).parent.parent / "corpus" / "virtualservices").glob("*.yaml"))

words = st.text(alphabet="abcxyz019-", min_size=1, max_size=6)
unknown = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 500) | words | st.just("weight: 5"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words | st.just("weight"), inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(
    st.sampled_from(["match", "mirrors", "retries", "timeout", "headers", "x-unknown", "fault"]),
    unknown,
    max_size=2,
)


@dataclass(frozen=True)
class Case:
    """A VirtualService, the weights to ask for, and the routes that carry them (None: select nothing)."""

    vs: dict[str, Any]
    weights: dict[str, int]
    names: tuple[str, ...]
    selected: frozenset[tuple[str, int]]


@st.composite
def hundred(draw: st.DrawFn, parts: int) -> list[int]:
    """Whole numbers of at least 0 that sum to 100."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=parts - 1, max_size=parts - 1)))
    return [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]


@st.composite
def destination(draw: st.DrawFn, subset: str) -> dict[str, Any]:
    entry = {"destination": {"host": draw(st.sampled_from(["ranker", "ranker.ml"])), "subset": subset}}
    if draw(st.booleans()):
        entry["weight"] = draw(st.integers(0, 150))
    entry |= draw(extras)
    return dict(draw(st.permutations(list(entry.items()))))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An edit that must succeed: some routes carry the subsets, others are anything."""
    subsets = [f"v{i}" for i in range(draw(st.integers(1, 4)))]
    spec: dict[str, Any] = {"hosts": ["ranker"], **draw(extras)}
    names, selected = [], set()
    for kind in draw(st.lists(st.sampled_from(["http", "tls", "tcp"]), min_size=1, max_size=3, unique=True)):
        spec[kind] = []
        for index in range(draw(st.integers(1, 3))):
            managed = (not selected and index == 0) or draw(st.booleans())
            shown = draw(st.permutations(subsets)) if managed else ["other", *subsets[:1]]
            route = {"route": [draw(destination(subset)) for subset in shown], **draw(extras)}
            if managed and len(shown) > 1 and draw(st.booleans()):
                route["route"].append({"destination": {"host": "idle"}, "weight": 0})
            if draw(st.booleans()):
                route["name"] = f"{kind}-{index}"
            spec[kind].append(dict(draw(st.permutations(list(route.items())))))
            if managed:
                selected.add((kind, index))
                names.append(route.get("name", f"{kind}[{index}]"))
    metadata: dict[str, Any] = {"name": "ranker", "namespace": "ml", "annotations": {"a/b~c": "weight: 1"}}
    if draw(st.booleans()):
        metadata["resourceVersion"] = "17"
    vs = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": spec,
    }
    weights = dict(zip(subsets, draw(hundred(len(subsets))), strict=True))
    return Case(vs, weights, tuple(draw(st.permutations(names))), frozenset(selected))


def without_weights(vs: dict[str, Any], selected: frozenset[tuple[str, int]]) -> dict[str, Any]:
    """The object with the weights of the selected routes taken out."""
    result = copy.deepcopy(vs)
    for kind, index in selected:
        for entry in result["spec"][kind][index]["route"]:
            entry.pop("weight", None)
    return result


def in_force(route: dict[str, Any]) -> list[int]:
    """The weights of a raw route by position, as istiod reads them."""
    entries = route["route"]
    return [100] if len(entries) == 1 else [entry.get("weight") or 0 for entry in entries]


@dataclass(frozen=True)
class Request:
    """What the first lines of a corpus file ask for: `# args: ...`, then what must come of it."""

    weights: dict[str, int]
    routes: tuple[str, ...]
    virtual_service: str | None
    outcome: str
    value: str
    arguments: tuple[str, ...]


def request(text: str) -> Request:
    """Read the two lines on top of a corpus file."""
    first, second = text.splitlines()[:2]
    arguments = shlex.split(first.removeprefix("# args: "))
    outcome, _, value = second.removeprefix("# ").partition(":")
    weights, routes, name, rest = {}, [], None, iter(arguments)
    for argument in rest:
        if argument == "--route":
            routes.append(next(rest))
        elif argument == "--virtual-service":
            name = next(rest)
        else:
            key, _, weight = argument.partition("=")
            weights[key] = int(weight)
    return Request(weights, tuple(routes), name, outcome, value.strip(), tuple(arguments))
