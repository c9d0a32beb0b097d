"""Rules between fields and between documents, with the words that the API server uses too.

`check` judges one sound value, `check_sound_parts` what can be judged of a broken one, `check_all` documents
together. The rules themselves are the tables in `rollout_rules` and `template_rules`.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from policies import catalog
from policies.documents import child
from policies.edges import advice, coarse
from policies.findings import Finding
from policies.rollout_rules import ROLLOUT_RULES
from policies.schema import structural
from policies.shape import path_of, suggestion
from policies.template_rules import TEMPLATE_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from policies.documents import Loaded
    from policies.model import Metric, MetricTemplate, RolloutPolicy, VirtualServiceRef
    from policies.rule import Rule
    from policies.shape import Issue

RULES: tuple[Rule[Any], ...] = ROLLOUT_RULES + TEMPLATE_RULES
_BY_SCOPE: dict[str, list[Rule[Any]]] = defaultdict(list)
for _rule in RULES:
    _BY_SCOPE[_rule.scope.__name__].append(_rule)


def check(value: BaseModel) -> list[Finding]:
    """Return the breaches of the rules in a policy or template, without places."""
    return [finding for path, part in _parts(value, "") for finding in _breaches(part, path)]


def _parts(value: Any, path: str) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield path, value
        for name, info in type(value).model_fields.items():
            yield from _parts(getattr(value, name), child(path, info.alias or name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _parts(item, child(path, index))


def _breaches(part: BaseModel, path: str) -> Iterator[Finding]:
    for rule in _BY_SCOPE[type(part).__name__]:
        for where, found in rule.breaches(part):
            at = f"{path}.{where}" if path else where
            yield Finding(rule.code, rule.severity, rule.message, path=at, found=found)


def check_sound_parts(model: type[BaseModel], data: dict[str, Any], issues: Sequence[Issue]) -> list[Finding]:
    """Return the breaches in those parts of a broken object that are whole.

    Fields with issues are taken for absent; a finding on such a field, or around it, would be a guess and is
    left out.
    """
    pruned = deepcopy(data)
    unknown = []
    for issue in issues:
        unknown.append(path_of(issue.location))
        if issue.meant:
            unknown.append(path_of((*issue.location[:-1], issue.meant)))
        _remove(pruned, issue.location)
    findings = _check_data(structural(model), pruned, "")
    return [finding for finding in findings if not any(_related(finding.path, path) for path in unknown)]


def _remove(data: Any, location: Sequence[str | int]) -> None:
    """Remove the field at `location`; for a list item the whole list: other items must keep their index."""
    last = max((index for index, part in enumerate(location) if isinstance(part, str)), default=0)
    for part in location[:last]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):  # went with an earlier issue
            return
    if isinstance(data, dict):
        data.pop(location[last], None)


def _check_data(schema: Mapping[str, Any], data: Any, path: str) -> Iterator[Finding]:
    rules = _BY_SCOPE.get(schema.get("x-model", ""), [])
    if rules:
        # A part that is not whole is reported as an issue of shape; its own parts may still be whole.
        with suppress(ValidationError):
            yield from _breaches(rules[0].scope.model_validate(data, by_alias=True, by_name=False), path)
    if isinstance(data, dict):
        for name, field in schema.get("properties", {}).items():
            if name in data:
                yield from _check_data(field, data[name], child(path, name))
    elif isinstance(data, list):
        for index, item in enumerate(data):
            yield from _check_data(schema.get("items", {}), item, child(path, index))


def _related(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))


def check_all(
    policies: Sequence[Loaded[RolloutPolicy]], templates: Sequence[Loaded[MetricTemplate]]
) -> list[Finding]:
    """Return what is wrong between documents, with places: names, templates, and routes with two masters.

    The templates of the catalog are known everywhere; a template of one's own in its namespace.
    """
    return [
        *_same_names(policies),
        *_same_names(templates),
        *_taken_names(templates),
        *(finding for policy in policies for finding in _metrics(policy, templates)),
        *_shared_routes(policies),
    ]


def advise(
    policies: Sequence[Loaded[RolloutPolicy]], templates: Sequence[Loaded[MetricTemplate]]
) -> list[Finding]:
    """Return what is allowed but will not do what it says, as warnings with places: for `penstock lint`."""
    own = [loaded.value for loaded in templates]
    return [
        finding
        for policy in policies
        for finding in chain(_coarse_margins(policy, own), _other_engine(policy))
    ]


def _other_engine(policy: Loaded[RolloutPolicy]) -> Iterator[Finding]:
    engine = policy.value.spec.decision.engine
    if engine != "sequential":
        path, document = "spec.decision.engine", policy.document
        message = (
            "this engine does not keep falseRollback and falsePromote for error rates; `penstock plan` says "
            "what it lacks"
        )
        yield Finding(
            "PS069", "warning", message, path, document.name, engine, "sequential",
            source=document.place(path),
        )  # fmt: skip


def _coarse_margins(policy: Loaded[RolloutPolicy], own: Sequence[MetricTemplate]) -> Iterator[Finding]:
    for index, metric in enumerate(policy.value.spec.metrics):
        template = template_for(policy.value.metadata.namespace, metric.template, own)
        proven = coarse(metric, template) if template else None
        if proven:
            path, document = f"spec.metrics[{index}].margin", policy.document
            yield Finding(
                "PS067", "warning", f"the margin {advice(proven)}", path, document.name, str(metric.margin),
                source=document.place(path),
            )  # fmt: skip


def template_for(
    namespace: str, name: str, templates: Iterable[MetricTemplate] = ()
) -> MetricTemplate | None:
    """Return the template that `name` means in a namespace: the catalog's, or one of the namespace's own."""
    own = (item for item in templates if (item.metadata.namespace, item.metadata.name) == (namespace, name))
    return catalog.templates().get(name) or next(own, None)


def _error(
    loaded: Loaded[Any],
    code: str,
    path: str,
    message: str,
    *,
    found: str | None = None,
    allowed: str | None = None,
) -> Finding:
    document = loaded.document
    return Finding(code, "error", message, path, document.name, found, allowed, document.place(path))


def _same_names(documents: Sequence[Loaded[Any]]) -> Iterator[Finding]:
    first: dict[str, Loaded[Any]] = {}
    for loaded in documents:
        other = first.setdefault(loaded.document.name, loaded)
        if other is not loaded:
            place = other.document.place("metadata.name")
            yield _error(loaded, "PS060", "metadata.name", f"there is another one of this name at {place}")


def _taken_names(templates: Sequence[Loaded[MetricTemplate]]) -> Iterator[Finding]:
    for loaded in templates:
        if loaded.value.metadata.name in catalog.templates():
            name = loaded.value.metadata.name
            message = "the name belongs to a template of the catalog"
            yield _error(loaded, "PS061", "metadata.name", message, found=name)


def _metrics(policy: Loaded[RolloutPolicy], templates: Sequence[Loaded[MetricTemplate]]) -> Iterator[Finding]:
    namespace = policy.value.metadata.namespace
    own = [loaded.value for loaded in templates if loaded.value.metadata.namespace == namespace]
    for index, metric in enumerate(policy.value.spec.metrics):
        path = f"spec.metrics[{index}]"
        template = template_for(namespace, metric.template, own)
        if template is None:
            known = sorted({*catalog.templates(), *(item.metadata.name for item in own)})
            meant = suggestion(metric.template, known)
            message = "there is no such MetricTemplate" + (f'; did you mean "{meant}"?' if meant else "")
            yield _error(
                policy, "PS062", f"{path}.template", message, found=metric.template, allowed=", ".join(known)
            )
        else:
            yield from _metric(policy, metric, template, path)


def _metric(
    policy: Loaded[RolloutPolicy], metric: Metric, template: MetricTemplate, path: str
) -> Iterator[Finding]:
    kind = template.spec.kind
    if kind == "share" and metric.margin is not None:
        message = "a share is tested against the weights and takes no margin"
        yield _error(policy, "PS064", f"{path}.margin", message, found=str(metric.margin))
    if kind != "proportion" and metric.margin_points is not None:
        message = f"a margin in percentage points is for proportions only, not for a {kind}"
        yield _error(policy, "PS068", f"{path}.marginPoints", message, found=str(metric.margin_points))
    if kind != "histogram" and metric.edges:
        yield _error(policy, "PS065", f"{path}.edges", f"edges are for histograms only, not for a {kind}")


def _shared_routes(policies: Sequence[Loaded[RolloutPolicy]]) -> Iterator[Finding]:
    """Report every route that an earlier policy manages already: two would undo each other's weights."""
    owners: dict[tuple[str, str], list[tuple[Loaded[RolloutPolicy], VirtualServiceRef, str]]] = defaultdict(
        list
    )
    for policy in policies:
        for ref, path in _refs(policy.value):
            seen = owners[policy.value.metadata.namespace, ref.name]
            for other, theirs, where in seen:
                if other.value.key != policy.value.key and overlap(ref, theirs):
                    shared = {*ref.routes} & {*theirs.routes} or (set(theirs.routes) if ref.routes else set())
                    routes = sorted(shared) or ["its only route"]
                    message = (
                        f"{other.value.key} manages {', '.join(routes)} of VirtualService {ref.name} already "
                        f"({other.document.place(where)}); a route can have one policy"
                    )
                    yield _error(policy, "PS066", path, message)
            seen.append((policy, ref, path))


def _refs(policy: RolloutPolicy) -> Iterator[tuple[VirtualServiceRef, str]]:
    if policy.spec.virtual_service:
        yield policy.spec.virtual_service, "spec.virtualService"
    for index, ref in enumerate(policy.spec.virtual_services):
        yield ref, f"spec.virtualServices[{index}]"


def overlap(one: VirtualServiceRef, other: VirtualServiceRef) -> bool:
    """Tell whether two lists of routes meet, or may: none listed means the only route there is.

    An http route has a place, `http[0]`, and may have a name: for all that is known here both are the same.
    """
    if not one.routes or not other.routes or {*one.routes} & {*other.routes}:
        return True
    ways = [{_way(route) for route in ref.routes} for ref in (one, other)]
    return any({"place", "name"} <= {mine, theirs} for mine in ways[0] for theirs in ways[1])


def _way(route: str) -> str:
    """Return how a route is called: tls and tcp routes have places only."""
    if route.startswith("http["):
        return "place"
    return "other" if route.startswith(("tls[", "tcp[")) else "name"
