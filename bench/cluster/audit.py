"""What the API server was asked by ServiceAccounts, counted by the API server itself: its audit log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

POLICY = {
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}
WRITES = frozenset({"create", "update", "patch", "delete"})
LEASES = "leases"

Requests = Counter[tuple[str, str]]
"""How many, by verb and resource (with its subresource)."""


class Audit:
    """Reads on where it ended; a watch counts when it is opened."""

    def __init__(self, log: Path) -> None:
        self._log, self._offset = log, 0
        self._seen: set[str] = set()

    def requests(self, user: str) -> Requests:
        """Return the requests of a user since the last call."""
        found: Requests = Counter()
        with self._log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._count(orjson.loads(line), user, found)
        return found

    def _count(self, event: Mapping[str, object], user: str, found: Requests) -> None:
        identity, asked, who = str(event["auditID"]), event.get("objectRef"), event["user"]
        if not isinstance(asked, dict) or not isinstance(who, dict) or who["username"] != user:
            return
        if event["verb"] == "watch":  # told twice: when it begins and when it ends
            if identity in self._seen:
                return
            self._seen.add(identity)
        what = "/".join(filter(None, (asked.get("resource"), asked.get("subresource"))))
        found[str(event["verb"]), what] += 1


def without_leases(requests: Requests) -> int:
    """Return how many there were that are not the lease's."""
    return sum(count for (_, what), count in requests.items() if what != LEASES)


def writes(requests: Requests) -> dict[str, int]:
    """Return the writes by resource, without the lease's."""
    found: Counter[str] = Counter()
    for (verb, what), count in requests.items():
        if verb in WRITES and what != LEASES:
            found[what] += count
    return dict(found)
