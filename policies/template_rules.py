"""The rules of a metric template, as one table: code, scope, words, CEL for the API server and the check."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from policies.model import Outcome, TemplateSpec
from policies.rule import RISING_EDGES, Rule, rising_edges, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.rule import Breach

_RATES = r"\b(i?rate|increase|i?delta|deriv)\s*\("
_TIMES = ("seconds", "milliseconds", "microseconds")
_NAME_END = r"(_bucket|_sum|_total)?(\s*[{\[]|\s*\)?\s*$|\s+or\b|[|\"]|_?\()"
"""What follows the unit in a metric's name, where it cannot be the name of a label."""
_PAIR = (r"\bby\s*\([^)]*\b__name__\b", r"[_(|]sum\b", r"[_(|]count\b")
"""What the query of a mean has: names are kept, and series that end in `_sum` and `_count` are asked for."""
_NOT_RE2 = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9]")


def _unnamed(spec: TemplateSpec) -> Iterator[Breach]:
    """Yield every label that the template reads but its query does not mention, and `le` of a histogram."""
    for part in ("namespace", "service", "version", "instance"):
        label = getattr(spec.labels, part)
        yield from when(label not in spec.query, f"labels.{part}", label)
    outcome = spec.outcome.model_dump(by_alias=True, exclude_none=True) if spec.outcome else {}
    for field in ("protocolLabel", "httpLabel", "grpcLabel"):
        label = outcome.get(field, "")
        yield from when(label not in spec.query, f"outcome.{field}", label)
    yield from when(spec.kind == "histogram" and not re.search(r"\ble\b", spec.query), "query")


def _pair_is_lost(spec: TemplateSpec) -> bool:
    """Tell whether a mean's query drops the names that say which series is the sum and which the count."""
    return spec.kind == "mean" and not all(re.search(pattern, spec.query) for pattern in _PAIR)


def _unreadable(outcome: Outcome) -> Iterator[Breach]:
    for field, pattern in (("httpEvent", outcome.http_event), ("grpcEvent", outcome.grpc_event)):
        yield from when(pattern is not None and not _is_re2(pattern), field, pattern)


def _is_re2(pattern: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that later versions of Python may read differently
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return not _NOT_RE2.search(pattern)


def _unit_fits(spec: TemplateSpec) -> bool:
    if spec.kind == "histogram":
        return spec.unit != "requests"
    return spec.kind == "mean" or spec.unit == "requests"


def _other_unit(spec: TemplateSpec) -> Iterator[Breach]:
    """Yield every unit at the end of a metric's name that is not the template's, which is one of time."""
    if spec.unit not in _TIMES:
        return
    for found in re.finditer(f"_({'|'.join(_TIMES)}|bytes){_NAME_END}", spec.query):
        yield from when(found[1] != spec.unit, "unit", f"{spec.unit}, and _{found[1]} in the query")


def _unit_cel() -> str:
    """Return CEL for `_other_unit`: none of the other units ends the metric's name."""
    units = (*_TIMES, "bytes")
    others = (f"(self.unit == '{unit}' || !self.query.matches(r'_{unit}{_NAME_END}'))" for unit in units)
    return f"!(self.unit in ['seconds', 'milliseconds', 'microseconds']) || ({' && '.join(others)})"


def _grpc_is_whole(outcome: Outcome) -> bool:
    parts = {outcome.protocol_label is None, outcome.grpc_label is None, outcome.grpc_event is None}
    return len(parts) == 1


TEMPLATE_RULES: tuple[Rule[Any], ...] = (
    Rule(
        "PS050",
        TemplateSpec,
        "a proportion must have an outcome, and nothing else may",
        "(self.kind == 'proportion') == has(self.outcome)",
        lambda spec: when((spec.kind == "proportion") != (spec.outcome is not None), "outcome", spec.kind),
        field="outcome",
    ),
    Rule(
        "PS051",
        TemplateSpec,
        "a histogram must have edges, and nothing else may",
        "(self.kind == 'histogram') == (has(self.edges) && self.edges.size() > 0)",
        lambda spec: when((spec.kind == "histogram") != bool(spec.edges), "edges", spec.kind),
        field="edges",
    ),
    Rule(
        "PS052",
        TemplateSpec,
        "the query must keep every label that the template names, and a histogram's also le",
        "[self.labels.namespace, self.labels.service, self.labels.version, self.labels.instance]"
        ".all(l, self.query.contains(l)) && (self.kind != 'histogram' || self.query.matches(r'\\ble\\b')) && "
        "(!has(self.outcome) || (self.query.contains(self.outcome.httpLabel) && "
        "(!has(self.outcome.grpcLabel) || self.query.contains(self.outcome.grpcLabel)) && "
        "(!has(self.outcome.protocolLabel) || self.query.contains(self.outcome.protocolLabel))))",
        _unnamed,
        field="query",
    ),
    Rule(
        "PS053",
        TemplateSpec,
        "the unit must be requests for a proportion or a share, and another one for a histogram",
        "self.kind == 'mean' || (self.kind == 'histogram') == (self.unit != 'requests')",
        lambda spec: when(not _unit_fits(spec), "unit", f"{spec.unit} for a {spec.kind}"),
        field="unit",
    ),
    Rule(
        "PS035",
        TemplateSpec,
        "edges must be positive and rise",
        RISING_EDGES,
        lambda spec: rising_edges(spec.edges),
        field="edges",
    ),
    Rule(
        "PS054",
        TemplateSpec,
        "the query must give cumulative counters: rate, increase and their like lose what the judge needs",
        rf"!self.query.matches(r'{_RATES}')",
        lambda spec: when(bool(re.search(_RATES, spec.query)), "query"),
        field="query",
    ),
    Rule(
        "PS055",
        Outcome,
        "httpEvent and grpcEvent must be regular expressions (RE2)",
        # An invalid expression makes `matches` fail, and with it the rule.
        "(!''.matches(self.httpEvent) || ''.matches(self.httpEvent)) && (!has(self.grpcEvent) || "
        "!''.matches(self.grpcEvent) || ''.matches(self.grpcEvent))",
        _unreadable,
        field="httpEvent",
    ),
    Rule(
        "PS056",
        Outcome,
        "protocolLabel, grpcLabel and grpcEvent must be set together or not at all",
        "has(self.protocolLabel) == has(self.grpcLabel) && has(self.grpcLabel) == has(self.grpcEvent)",
        lambda outcome: when(not _grpc_is_whole(outcome), "grpcEvent"),
        field="protocolLabel",
    ),
    Rule(
        "PS057",
        TemplateSpec,
        "the query of a mean must ask for series that end in _sum and _count, and sum by __name__ too",
        "self.kind != 'mean' || (" + " && ".join(f"self.query.matches(r'{part}')" for part in _PAIR) + ")",
        lambda spec: when(_pair_is_lost(spec), "query"),
        field="query",
    ),
    Rule(
        "PS058",
        TemplateSpec,
        "a histogram is lowerIsBetter: its edges tell which requests are slow",
        "self.kind != 'histogram' || self.direction == 'lowerIsBetter'",
        lambda spec: when(
            spec.kind == "histogram" and spec.direction != "lowerIsBetter", "direction", spec.direction
        ),
        field="direction",
    ),
    Rule(
        "PS070",
        TemplateSpec,
        "the unit must be the one that the metric's name ends in",
        _unit_cel(),
        _other_unit,
        field="unit",
    ),
)
