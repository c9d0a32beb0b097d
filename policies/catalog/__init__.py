"""The metric templates that ship with Penstock: YAML data, read from the package once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

from policies.documents import read
from policies.model import MetricTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def templates() -> Mapping[str, MetricTemplate]:
    """Return the templates of the catalog by name; they are known in every namespace."""
    sources = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")]
    documents = [document for entry in sources for document in read(entry.name, entry.read_text())[0]]
    loaded = [MetricTemplate.model_validate(document.data) for document in documents]
    return MappingProxyType(dict(sorted((item.metadata.name, item) for item in loaded)))
