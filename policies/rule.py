"""What a rule between fields is, and the few shapes that most rules have: in Python and in CEL.

A rule belongs to a part of the language (`scope`). Its CEL sees that part as `self`, with defaults filled in;
its check yields the breaches, each with a path inside the part. Rules without CEL are advice: the API server
cannot warn. CEL here is what Kubernetes 1.30 knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from pydantic import BaseModel

    from policies.findings import Severity
    from policies.units import Factor

S = TypeVar("S", bound="BaseModel")
Breach = tuple[str, str | None]
"""The path inside the part, and what was found there."""


@dataclass(frozen=True)
class Rule(Generic[S]):
    """One rule on one part of the language."""

    code: str
    scope: type[S]
    message: str
    cel: str | None
    breaches: Callable[[S], Iterable[Breach]]
    severity: Severity = "error"
    field: str | None = None
    """The field of the part that the API server blames; offline, a breach's path is more exact."""


def when(broken: bool, path: str, found: Any = None) -> Iterator[Breach]:
    """Yield one breach at `path` if the rule is broken."""
    if broken:
        yield path, None if found is None else str(found)


def repeated(keys: Sequence[Hashable], path: str) -> Iterator[Breach]:
    """Yield every item whose key came before; `path` has `{}` for its index."""
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield path.format(index), str(key)


def falling(values: Sequence[Any], path: str) -> Iterator[Breach]:
    """Yield every value that is not above the one before it."""
    for index in range(1, len(values)):
        if values[index] <= values[index - 1]:
            yield path.format(index), f"{values[index]} after {values[index - 1]}"


def percent(field: str) -> str:
    """CEL for: the number of a percentage."""
    return f"double(self.{field}.replace('%', ''))"


def once(items: str, key: str) -> str:
    """CEL for: no two items have the same key; `@` in `key` stands for the item."""
    mine, other = key.replace("@", "a"), key.replace("@", "b")
    return f"{items}.all(a, {items}.exists_one(b, {other} == {mine}))"


RISING_EDGES = (
    "!has(self.edges) || (self.edges.all(e, double(e) > 0.0) && self.edges.map(e, double(e)).isSorted() && "
    + once("self.edges", "double(@)")
    + ")"
)


def rising_edges(values: tuple[Factor, ...]) -> Iterator[Breach]:
    """Yield the edges that are not positive or do not rise."""
    yield from when(bool(values) and values[0].value <= 0, "edges[0]", values[0] if values else None)
    yield from falling(values, "edges[{}]")
