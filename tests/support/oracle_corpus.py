"""The corpus of Istio objects that Penstock and Istio itself have to agree on."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

CORPUS = Path(__file__).parents[1] / "corpus"
ISTIO = CORPUS / "istio"
VALID = sorted((ISTIO / "valid").glob("*.yaml"))
INVALID = sorted((ISTIO / "invalid").glob("*.yaml"))
LINTED = sorted((CORPUS / "lint").glob("*/*.yaml"))


@dataclass(frozen=True)
class Scene:
    """The objects of one file."""

    name: str
    objects: tuple


def scenes():
    """Return the valid scenes by name."""
    return {file.stem: Scene(file.stem, tuple(documents(file))) for file in VALID}


def documents(file):
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


def corpus():
    """Return all objects of the corpora by name, valid and invalid."""
    files = [*VALID, *INVALID, *LINTED]
    return {_name_of(file, obj): obj for file in files for obj in documents(file)}


def _name_of(file, obj):
    name = f"{file.parent.name}/{file.stem}"
    return f"{name}/{obj['kind']}/{obj['metadata']['name']}" if file in VALID else name


def table(name):
    """Return a table of explained differences."""
    return yaml.safe_load((ISTIO / f"{name}.yaml").read_text())


def fits(pattern, text):
    """Tell whether `text` is `pattern`, in which only * is special."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def tell(capsys, summary):
    """Show what an oracle found, also when all is well."""
    with capsys.disabled():
        sys.stdout.write(f"\n{summary}\n")
