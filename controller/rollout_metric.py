"""A metric of rollouts, kept as text between scrapes: only what changed is written anew.

`prometheus_client` makes every line at every scrape, in the event loop: 30 ms for 500 rollouts.
Policies, variants and actions have names without any character that the format would escape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class RolloutMetric:
    """One name, with a line or more for each rollout, in Prometheus' text format."""

    def __init__(self, name: str, words: str, label: str = "", type_: str = "gauge") -> None:
        """Name it; its lines have the label `policy`, and `label` if there are several for a rollout."""
        self.name = name
        self.labels = tuple(sorted(filter(None, ("policy", label))))
        self._label = label
        self._head = f"# HELP {name} {words}\n# TYPE {name} {type_}\n"
        self._lines: dict[str, str] = {}

    def put(self, policy: str, values: Mapping[str, float]) -> None:
        """Tell all values of a rollout, by `label`; those that were told before are gone."""
        self._lines[policy] = "".join(self._line(policy, which, value) for which, value in values.items())

    def forget(self, policy: str) -> None:
        """Tell nothing of a rollout any more."""
        self._lines.pop(policy, None)

    def exposition(self) -> str:
        """Return all its lines."""
        return self._head + "".join(self._lines.values())

    def _line(self, policy: str, which: str, value: float) -> str:
        values = {"policy": policy, self._label: which}
        labels = ",".join(f'{label}="{values[label]}"' for label in self.labels)
        return f"{self.name}{{{labels}}} {float(value)}\n"
