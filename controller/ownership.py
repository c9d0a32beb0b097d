"""Who has which route: of two policies for one route the older one has it, the newer waits. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from policies.rules import overlap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.ports import Object
    from policies.model import RolloutPolicy, VirtualServiceRef


def owners(policies: Iterable[tuple[Object, RolloutPolicy]]) -> dict[str, str]:
    """Return, for each policy of which a route is taken, the oldest that has it; both as `namespace/name`."""
    taken: dict[str, str] = {}
    claims: dict[tuple[str, str], list[tuple[VirtualServiceRef, str]]] = defaultdict(list)
    for _, policy in sorted(policies, key=lambda pair: _age(*pair)):
        for ref in policy.spec.routes:
            claimed = claims[policy.metadata.namespace, ref.name]
            for theirs, owner in claimed:
                if owner != policy.key and overlap(ref, theirs):
                    taken.setdefault(policy.key, owner)
            claimed.append((ref, policy.key))
    return taken


def _age(obj: Object, policy: RolloutPolicy) -> tuple[str, str]:
    """Order by time of creation, as the API server writes it, then by name."""
    return obj["metadata"].get("creationTimestamp") or "", policy.key
