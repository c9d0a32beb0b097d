"""What is observed for a run: whose requests, by which templates, at which edges. Pure.

The split of the requests is tested by a template of its own kind (`share`). Where a policy has an error rate
over the very same counters, told apart further (by response code), its requests are the same ones, and they
are not asked for twice: both count the same, except where a process restarts or a series is lost, and there
the series that are told apart further tell more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from controller.filing import ArmKey
from controller.observe import Target
from controller.tabulated import SHARE_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analysis.design import Design
    from controller.scene import Arm
    from controller.status import Run
    from policies.model import MetricTemplate, TemplateSpec

_GROUPED = re.compile(r"\s*sum\s+by\s*\(([^()]*)\)\s*\(\s*([\w:]+\s*\{[^{}]*\})\s*\)\s*")
"""A sum over one selector: its labels, and the selector."""


def split_template(keys: Iterable[str], templates: Mapping[str, MetricTemplate]) -> str:
    """Return the key of the template that the split of a policy's requests is read by.

    `keys` are those of the policy's metrics, `templates` has them and the catalog's.
    """
    keys = list(keys)
    own = next((key for key in keys if templates[key].spec.kind == "share"), SHARE_TEMPLATE)
    same = (
        key for key in keys if key in templates and counts_the_same(templates[key].spec, templates[own].spec)
    )
    return next(same, own)


@lru_cache(maxsize=1024)
def counts_the_same(errors: TemplateSpec, share: TemplateSpec) -> bool:
    """Tell whether the requests of an error rate are those of a share, told apart at least as far."""
    finer, coarser = _GROUPED.fullmatch(errors.query), _GROUPED.fullmatch(share.query)
    if errors.kind != "proportion" or errors.labels != share.labels or not finer or not coarser:
        return False
    return finer[2] == coarser[2] and _names(coarser[1]) <= _names(finer[1])


def _names(labels: str) -> set[str]:
    return {name.strip() for name in labels.split(",")}


def target_of(
    design: Design, run: Run, arms: Mapping[str, Arm], read_by: Mapping[str, str], share: str
) -> Target:
    """Return what is observed; `read_by` has the template of every metric, `share` that of the split."""
    control, candidate = arms[run.control], arms[run.candidate]
    judged = {metric.name: metric.edges for metric in design.metrics}
    return Target(
        control=ArmKey(control.namespace, control.service, control.version),
        candidate=ArmKey(candidate.namespace, candidate.service, candidate.version),
        metrics={name: read_by[name] for name in judged},
        edges=judged,
        share=share,
        intended=run.candidate_weight / 100,
        versions=versions_of(arms.values()),
    )


def versions_of(arms: Iterable[Arm]) -> frozenset[str]:
    """Return the variants' versions if they share one service, else nothing: each has a host of its own."""
    versions = frozenset(arm.version or "" for arm in arms)
    shared = len({(arm.namespace, arm.service) for arm in arms}) == 1
    return versions if shared and "" not in versions else frozenset()
