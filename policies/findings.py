"""What is wrong with a document, as data: one finding per problem, never an exception.

Code ranges (each code has one meaning, listed in docs/findings.md):

    PS0xx  RolloutPolicy and MetricTemplate      PS3xx  ServiceEntry
    PS1xx  VirtualService                        PS4xx  between objects (policy, route, subset, endpoint)
    PS2xx  DestinationRule                       PS5xx  valid for Istio, not supported in standalone
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: where it stands, what was found and what is allowed."""

    code: str
    severity: Severity
    message: str
    path: str = ""
    object: str = ""
    found: str | None = None
    allowed: str | None = None
    source: Source | None = None

    def at(self, source: Source | None) -> Finding:
        """Return the same finding with its place in a file."""
        return replace(self, source=source)

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        subject = " ".join(part for part in (self.object, self.path) if part)
        found = f"; found {self.found}" if self.found is not None else ""
        allowed = f"; allowed: {self.allowed}" if self.allowed and self.allowed not in self.message else ""
        subject += ": " if subject else ""
        return f"{where}{self.severity} {self.code}: {subject}{self.message}{found}{allowed}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that must stop an apply."""
    return [finding for finding in findings if finding.severity == "error"]
