"""What standalone refuses at apply: what `penstock lint` calls an error, and what Envoy cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from istio.envoy.translate import translate
from istio.lint import lint_all
from policies.findings import errors
from policies.rules import check_all

if TYPE_CHECKING:
    from istio.envoy.translate import Options
    from policies.findings import Finding
    from policies.parse import Parsed


def validate(parsed: Parsed, options: Options) -> list[Finding]:
    """Return every finding on a whole set of manifests."""
    policies = [loaded.value for loaded in parsed.policies]
    found = lint_all([document.data for document in parsed.others], policies)
    refused = {finding.object for finding in errors(found)}
    # what is wrong for Istio need not be told again in the words of the translation
    sound = [document.data for document in parsed.others if document.name not in refused]
    return [*check_all(parsed.policies, parsed.templates), *found, *translate(sound, options).findings]
