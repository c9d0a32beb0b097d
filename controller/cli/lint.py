"""`penstock lint FILE...`: everything that is wrong with manifests, before anything is applied.

One finding a line on stdout, a summary on stderr. Exit status 0: warnings at most; 1: errors; 2: a file
or Prometheus cannot be read, and nothing is judged.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from controller.cli import prometheus
from controller.cli.line import one_line
from controller.cli.options import fail
from controller.cli.sources import manifests, name, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.prometheus_access import Access
    from policies.documents import Loaded
    from policies.findings import Finding
    from policies.model import MetricTemplate
    from policies.parse import Document, Parsed


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("lint")(lint)


def lint(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders; - is stdin.")],
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
    ] = "text",
    prometheus_url: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="URL", help="Have this Prometheus parse templates' queries."),
    ] = None,
    prometheus_token_file: prometheus.TokenFile = None,
    prometheus_header: prometheus.Headers = None,
    prometheus_ca_file: prometheus.CaFile = None,
    prometheus_cert_file: prometheus.CertFile = None,
    prometheus_key_file: prometheus.KeyFile = None,
) -> None:
    """Check policies, templates and Istio's objects, and how they fit.

    Istio's are VirtualServices, DestinationRules and ServiceEntries; other kinds are passed over.

    Exit status 0: nothing worse than warnings; 1: errors; 2: a file cannot be read, or Prometheus be asked.
    """
    from policies.parse import parse

    sources = [(name(file), read(file)) for file in manifests(files)]
    parsed = parse(sources)
    findings = _findings(parsed)
    if prometheus_url is not None:  # an empty one is no address, and is told so
        access = prometheus.access(
            prometheus_url, prometheus_token_file, prometheus_header, prometheus_ca_file,
            prometheus_cert_file, prometheus_key_file,
        )  # fmt: skip
        told = {finding.object for finding in findings if finding.code == "PS059"}
        untold = [each for each in parsed.templates if each.document.name not in told]
        findings += asyncio.run(_objections(prometheus_url, access, untold))
    else:
        _check_use(ctx)
    _tell(sorted(findings, key=_reading_order), output, len(sources))


def _check_use(ctx: typer.Context) -> None:
    """Refuse options of a Prometheus where none is asked; variables may be there for other commands."""
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        if (
            (option.name or "").startswith("prometheus_")
            and source is not None
            and source.name == "COMMANDLINE"
        ):
            fail(f"{option.opts[0]} needs --prometheus: without it, no Prometheus is asked", 2)


def _tell(findings: Sequence[Finding], output: str, files: int) -> NoReturn:
    """Print findings and their number, and end the command."""
    faults = sum(finding.severity == "error" for finding in findings)
    if output == "json":
        typer.echo(json.dumps({"findings": [_data(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            typer.echo(one_line(str(finding)))
    typer.echo(_summary(faults, len(findings) - faults, files), err=True)
    raise typer.Exit(1 if faults else 0)


async def _objections(url: str, access: Access, templates: Sequence[Loaded[MetricTemplate]]) -> list[Finding]:
    """Return what a Prometheus cannot parse; ends the command when it cannot be asked."""
    from controller.ports import UnavailableError
    from controller.prometheus import PrometheusMetrics
    from policies.promql import unreadable

    metrics = PrometheusMetrics(url, access=access)
    try:
        asked = [(each, await metrics.objection(each.value.spec.query)) for each in templates]
    except UnavailableError as error:
        fail(str(error), 2)
    finally:
        await metrics.close()
    return [unreadable(each, words) for each, words in asked if words]


def _findings(parsed: Parsed) -> list[Finding]:
    """Return what is wrong with the documents, each by itself and together, with places."""
    from istio.lint import lint_all
    from policies.promql import check_queries
    from policies.rules import advise, check_all

    sound = [document for document in parsed.others if document.sound]
    policies = [loaded.value for loaded in parsed.policies]
    documents = {loaded.document.name: loaded.document for loaded in parsed.policies}
    documents |= {document.name: document for document in sound}
    unread = [document.name for document in parsed.others if not document.sound]
    found = lint_all([each.data for each in sound], policies, unread)
    together = [_placed(finding, documents) for finding in found]
    if not parsed.others:  # policies alone: what they need may well be in the cluster
        together = [replace(finding, severity="warning") for finding in together]
    checked = [check(parsed.policies, parsed.templates) for check in (check_all, advise)]
    return [*parsed.findings, *chain(*checked), *check_queries(parsed.templates), *together]


def _placed(finding: Finding, documents: dict[str, Document]) -> Finding:
    document = documents.get(finding.object)
    return finding.at(document.place(finding.path)) if document else finding


def _reading_order(finding: Finding) -> tuple[str, int, int, str]:
    source = finding.source
    return (source.file, source.line, source.column, finding.code) if source else ("", 0, 0, finding.code)


def _data(finding: Finding) -> dict[str, Any]:
    source = finding.source
    return {
        "code": finding.code,
        "severity": finding.severity,
        "object": finding.object,
        "path": finding.path,
        "message": finding.message,
        "found": finding.found,
        "allowed": finding.allowed,
        "file": source.file if source else None,
        "line": source.line if source else None,
        "column": source.column if source else None,
    }


def _summary(faults: int, warnings: int, files: int) -> str:
    counts: Sequence[tuple[int, str]] = ((faults, "error"), (warnings, "warning"), (files, "file"))
    errors, others, read = (f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    return f"{errors} and {others} in {read}"
