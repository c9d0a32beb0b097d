"""The one policy that a command tries, from a file or a folder, with its templates and other objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import typer

from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import manifests, name, read

if TYPE_CHECKING:
    from pathlib import Path

    from controller.ports import Object
    from policies.model import MetricTemplate, RolloutPolicy


class Loaded(NamedTuple):
    """A policy, the templates of its metrics by name, and all other objects that were read with it."""

    policy: RolloutPolicy
    templates: dict[str, MetricTemplate]
    objects: list[Object]


def load(file: Path, what: str) -> Loaded:
    """Return the one policy of a file or folder; ends the command when there is none or it is not valid.

    `what` says what takes one policy, such as "a simulation".
    """
    from policies.findings import errors
    from policies.parse import parse
    from policies.rules import check_all, template_for

    parsed = parse([(name(each), read(each)) for each in manifests([file])])
    wrong = errors([*parsed.findings, *check_all(parsed.policies, parsed.templates)])
    for finding in wrong:
        typer.echo(one_line(str(finding)), err=True)
    if wrong:
        raise typer.Exit(1)
    if len(parsed.policies) != 1:
        fail(f"{what} takes one RolloutPolicy; {name(file)} has {len(parsed.policies)}", 2)
    policy, own = parsed.policies[0].value, [loaded.value for loaded in parsed.templates]
    used = {metric.template for metric in policy.spec.metrics}
    found = {each: template_for(policy.metadata.namespace, each, own) for each in used}
    return Loaded(
        policy,
        {each: template for each, template in found.items() if template is not None},
        [document.data for document in parsed.others],
    )
