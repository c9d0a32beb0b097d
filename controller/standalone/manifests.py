"""Which of the manifests in a folder to apply, when some are wrong: pure, from texts to texts.

A file with an error is held back: its last good text stays in force, and everything else goes on, as long as
the whole stays valid. A deletion that breaks others is held back too. When no such choice is valid, all stays
as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controller.standalone.objects import ref_of
from policies.documents import Document, read
from policies.findings import Finding, errors
from policies.parse import Parsed, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from controller.ports import Object, Ref

    Files = Mapping[str, str]
    """Text by path, relative to the folder."""
    Validate = Callable[[Parsed], list[Finding]]
    """What is wrong with documents that parse: between them, and with objects of other kinds."""


@dataclass(frozen=True)
class Choice:
    """What to apply, and what was found in the files as they are."""

    files: Files
    findings: list[Finding]


def choose(now: Files, good: Files, validate: Validate) -> Choice:
    """Return the files to apply: those that are there `now`, but the `good` text of those held back."""
    findings = found = _check(now, validate)
    held: set[str] = set()
    files = now
    while errors(found):
        faulty = {finding.source.file for finding in errors(found) if finding.source} - held
        suspects = {
            path for path in faulty if files.get(path) != good.get(path)
        } or good.keys() - now.keys() - held
        if not suspects:
            return Choice(good, findings)
        held |= suspects
        files = {path: text for path, text in now.items() if path not in held}
        files |= {path: text for path, text in good.items() if path in held}
        found = _check(files, validate)
    return Choice(files, findings)


def objects_in(files: Files) -> dict[Ref, Object]:
    """Return the objects of files that were found to be good."""
    return {
        ref_of(document.data): document.data
        for path in sorted(files)
        for document in read(path, files[path])[0]
    }


def _check(files: Files, validate: Validate) -> list[Finding]:
    """Return all findings, each with its place."""
    parsed = parse(sorted(files.items()))
    if nameless := list(_nameless(parsed)):
        return [*parsed.findings, *nameless]
    documents = {document.name: document for document in _documents(parsed)}
    return [*parsed.findings, *(_placed(finding, documents) for finding in validate(parsed))]


def _documents(parsed: Parsed) -> Iterator[Document]:
    yield from (loaded.document for loaded in parsed.policies)
    yield from (loaded.document for loaded in parsed.templates)
    yield from parsed.others


def _nameless(parsed: Parsed) -> Iterator[Finding]:
    for document in _documents(parsed):
        try:
            ref_of(document.data)
        except ValueError:
            found = Finding(
                "PS004", "error", "a document needs metadata.name", "metadata.name", document.name
            )
            yield found.at(document.place("metadata.name"))


def _placed(finding: Finding, documents: Mapping[str, Document]) -> Finding:
    """Return a finding with its place, when it only names its object."""
    document = documents.get(finding.object)
    if finding.source or document is None:
        return finding
    return replace(finding, source=document.place(finding.path))
