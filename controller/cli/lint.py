"""`penstock lint FILE...`: everything that is wrong with manifests, before anything is applied.

One finding a line on stdout, a summary on stderr. Exit status 0: warnings at most; 1: errors; 2: a file
cannot be read, and nothing is judged.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controller.cli.line import one_line
from controller.cli.sources import manifests, name, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from policies.findings import Finding
    from policies.parse import Document, Parsed


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("lint")(lint)


def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders; - is stdin.")],
    output: Annotated[
        Literal["text", "json"], typer.Option("--output", "-o", help="For people, or for scripts.")
    ] = "text",
) -> None:
    """Check policies, templates and Istio's objects, and how they fit.

    Istio's are VirtualServices, DestinationRules and ServiceEntries; other kinds are passed over.

    Exit status 0: nothing worse than warnings; 1: errors; 2: a file cannot be read.
    """
    from policies.parse import parse

    sources = [(name(file), read(file)) for file in manifests(files)]
    parsed = parse(sources)
    findings = sorted(_findings(parsed), key=_reading_order)
    faults = sum(finding.severity == "error" for finding in findings)
    if output == "json":
        typer.echo(json.dumps({"findings": [_data(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            typer.echo(one_line(str(finding)))
    typer.echo(_summary(faults, len(findings) - faults, len(sources)), err=True)
    raise typer.Exit(1 if faults else 0)


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
