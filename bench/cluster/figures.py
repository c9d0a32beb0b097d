"""The figures with their goals, beside those of the peers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; less is better."""

    name: str
    value: float
    unit: str = ""
    goal: float | None = None
    argo: float | None = None
    """Argo Rollouts 1.10-rc1: 500 rollouts, the same API server, a pause with background analysis."""
    flagger: float | None = None
    """Flagger 1.44, which moves its weight at every check."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else self.value <= self.goal

    def as_dict(self) -> dict[str, Any]:
        """Return it for the results, with how many times as much the peers take."""
        ratios = {
            f"{name}_ratio": round(peer / self.value, 1)
            for name, peer in (("argo", self.argo), ("flagger", self.flagger))
            if peer is not None and self.value
        }
        return asdict(self) | {"met": self.met} | ratios


def figures(found: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of all that was measured."""
    held, learnt, idle = found["holding"], found["learning"], found["idle"]
    one = held["templates"]
    asked = idle["api_requests"] - idle["api_requests_for_the_lease"]
    return [
        Figure("CPU per check", held["cpu_ms_per_check"], "ms", 0.3, 3.1, 5.0),
        Figure("CPU per check while dispersion is learnt", learnt["cpu_ms_per_check"], "ms", None, 3.1, 5.0),
        Figure("API requests per check", held["api_requests_per_check"], "", 0.05, 1.0, 18.3),
        Figure("API writes while holding", held["api_writes"], "", 0),
        Figure("queries per interval, all rollouts", held["queries_per_interval"], "", one, *_each(found)),
        Figure("memory (RSS)", held["memory_mib"]["now"], "MiB", 250, 188, 110),
        Figure("memory at most", held["memory_mib"]["highest"], "MiB"),
        Figure("memory while dispersion is learnt", learnt["memory_mib"]["now"], "MiB", None, 188, 110),
        Figure("CPU per scrape of /metrics", found["scrape_cpu_ms"], "ms"),
        Figure("writes of the route per change of weight", found["change"].get("virtualservices", 0), "", 1),
        Figure("all writes per change of weight", sum(found["change"].values())),
        Figure("restart to first decision", found["restart"]["seconds"], "s", 10),
        Figure("killed, start to first decision", found["killed"]["seconds"], "s", 10),
        Figure("of that, waiting for the lease", found["killed"]["seconds_until_it_led"], "s"),
        Figure("CPU per interval, all runs ended", idle["cpu_ms_per_interval"], "ms"),
        Figure("the same, less a controller without policies", _more(found), "ms", 1.0),
        Figure("API requests while all runs have ended, without the lease", asked),
        Figure("queries while all runs have ended", idle["queries_per_interval"], "", 0),
    ]


def _more(found: Mapping[str, Any]) -> float:
    """Return the ms per interval that policies cost whose runs have ended."""
    ended: float = found["idle"]["cpu_ms_per_interval"]
    without: float = found["bare_cpu_ms"]
    return round(ended - without, 2)


def _each(found: Mapping[str, Any]) -> tuple[float, float]:
    """Return what the peers ask, who ask for each rollout."""
    return 2.0 * found["rollouts"], 2.0 * found["rollouts"]
