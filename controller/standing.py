"""How the workloads of the variants stand, as far as copying and scaling them need to know. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.chores import COPIED, REPLICAS
from controller.workloads import Name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.workloads import Selection, Workload


@dataclass(frozen=True, slots=True)
class Standing:
    """A Deployment or StatefulSet of a variant; plain values, so that decisions can be kept."""

    kind: str
    name: str
    revision: str
    rolled_out: bool = True
    """Whether all its pods are ready in the present revision."""
    rolling: str = ""
    """Why they are not, in words."""
    stuck: str = ""
    """Why they will not be."""
    asleep: bool = False
    """Whether it is scaled to zero."""
    noted: bool = False
    """Whether it was scaled to zero here: the replicas that it had are noted on it."""
    copied: str = ""
    """For which attempt of which run it got its pod template."""

    @property
    def key(self) -> Name:
        """Kind and name."""
        return Name(self.kind, self.name)

    @classmethod
    def of(cls, workload: Workload) -> Standing:
        """Return what there is to know of a workload."""
        rolled_out = workload.full and not workload.rolling and not workload.asleep
        return cls(
            *workload.name, workload.revision, rolled_out, workload.rolling or workload.missing,
            workload.stuck, workload.asleep, REPLICAS in workload.notes, workload.notes.get(COPIED, ""),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Side:
    """The workloads of one variant, and the labels that select their pods."""

    labels: tuple[str, ...] = ()
    workloads: tuple[Standing, ...] = ()

    @property
    def revision(self) -> str:
        """Name what the pods are."""
        return " ".join(sorted({each.revision for each in self.workloads}))


def sides(selections: Mapping[str, Selection]) -> dict[str, Side]:
    """Return how the workloads of each variant stand."""
    return {
        name: Side(tuple(sorted(found.labels)), tuple(map(Standing.of, found.workloads)))
        for name, found in selections.items()
    }


def side(kept: Mapping[str, Any]) -> Side:
    """Read a side as the history keeps it."""
    return Side(tuple(kept["labels"]), tuple(Standing(**each) for each in kept["workloads"]))


def only(found: Mapping[str, Side], variant: str) -> Standing | None:
    """Return the workload of a variant that has exactly one."""
    side = found.get(variant)
    return side.workloads[0] if side and len(side.workloads) == 1 else None


def uncopyable(found: Mapping[str, Side], names: Sequence[str]) -> str:
    """Return why nothing can be copied between variants; empty when each has a workload of its own."""
    for name in names:
        count = len(found[name].workloads) if name in found else 0
        if count != 1:
            return f"copy needs one Deployment or StatefulSet for each variant; {name} has {count or 'none'}"
    workloads = {only(found, name) for name in names}
    return "" if len(workloads) == len(names) else "both variants are the same workload: nothing to copy"
