"""What `penstock replay` found, as text and as data, and what it can and cannot show. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from analysis.dispersion import calibrate
from controller import numbers
from controller.cli.outcomes import HEADER, row, share_words
from controller.cli.render import table
from controller.placebo import window_error

if TYPE_CHECKING:
    from analysis.design import Design
    from analysis.dispersion import Calibration
    from controller.endings import Result, Share
    from controller.past import Past
    from controller.placebo import Windows
    from policies.model import RolloutPolicy

_NAMES = 5
"""So many series are named."""


@dataclass(frozen=True)
class Replayed:
    """A policy, the past it was tried on, and what came of it: one result per effect, 1 among them.

    Effects were injected into metric `harmed`.
    """

    policy: RolloutPolicy
    design: Design
    past: Past
    windows: Windows
    harmed: str
    seed: int
    results: tuple[Result, ...]

    @property
    def placebos(self) -> Result:
        """The result without any effect."""
        return next(result for result in self.results if result.effect == 1)

    @property
    def false_rollback(self) -> Share:
        """The placebo runs that were rolled back for harm."""
        return self.placebos.share("rolledBack", "Harmful")

    @property
    def window_error(self) -> float | None:
        """The standard error of that share from the differences between windows."""
        hits = [(each.outcome, each.reason) == ("rolledBack", "Harmful") for each in self.placebos.endings]
        return window_error(hits, self.windows.starts.size)

    @property
    def exceeded(self) -> bool:
        """Whether placebos are rolled back too often, by more than two of either standard error."""
        share, asked = self.false_rollback, self.design.false_rollback
        return share.exceeds(asked) and share.share - 2 * (self.window_error or 0.0) > asked

    @cached_property
    def dispersions(self) -> dict[str, Calibration]:
        """The dispersion of each metric over the whole past, at the step where it is largest."""
        canary = self.policy.spec.strategy.canary
        shares = {min(step.weight, 50) / 100 for step in canary.steps} if canary else {0.5}
        return {
            name: max(
                (calibrate(found.totals, found.events, share=share) for share in sorted(shares)),
                key=lambda each: each.dispersion,
            )
            for name, found in self.past.metrics.items()
        }


def text(found: Replayed) -> str:
    """Return the replay for people: what was read, a table, the rate of false rollbacks, and warnings."""
    asked = numbers.percent(found.design.false_rollback)
    # windows that are all alike, as when nothing was rolled back, tell nothing of how they differ
    windows = f" (±{100 * found.window_error:.1f}% between windows)" if found.window_error else ""
    seen = share_words(found.false_rollback) + windows
    lines = [
        f"{found.policy.key}: {len(found.placebos.endings)} placebo runs for each effect, seed {found.seed}",
        "",
        *basis(found),
        "",
        *table(HEADER, [row(result) for result in found.results]),
        "",
        f"{seen} of the placebos were rolled back for harm; the policy asks for at most {asked}.",
        *(f"WARNING: {words}" for words in warnings(found)),
    ]
    return "\n".join(lines)


def data(found: Replayed) -> dict[str, Any]:
    """Return the replay as JSON values."""
    past, windows, share = found.past, found.windows, found.false_rollback
    return {
        "policy": found.policy.key,
        "runs": share.runs,
        "seed": found.seed,
        "history": {
            "from": past.start,
            "to": past.start + past.intervals * past.step,
            "interval": past.step,
            "intervals": past.intervals,
            "service": past.arm.service,
            "version": past.arm.version,
            "series": list(past.series),
            "missing": list(past.missing),
        },
        "windows": {
            "count": int(windows.starts.size),
            "intervals": windows.length,
            "leftOut": windows.left_out,
            "withOneSeries": int(windows.single.sum()),
        },
        "basis": basis(found),
        "results": [result.as_dict() for result in found.results],
        "falseRollback": {
            "asked": found.design.false_rollback,
            "share": share.share,
            "error": share.error,
            "windowError": found.window_error,
            "exceeded": found.exceeded,
        },
        "effectOn": found.harmed,
        "dispersion": {name: each.as_dict() for name, each in found.dispersions.items()},
        "warnings": warnings(found),
    }


def basis(found: Replayed) -> list[str]:
    """Return what the figures rest on, in sentences."""
    past, windows = found.past, found.windows
    end = past.start + past.intervals * past.step
    length = numbers.length(windows.length * past.step)
    out = f"; {windows.left_out} more knew too little" if windows.left_out else ""
    several = [result for result in found.results if result.effect != 1]
    return [
        f"History: {numbers.instant(past.start)} to {numbers.instant(end)}, {past.intervals} intervals.",
        f"Control: {past.arm.service}.{past.arm.namespace}{_version(past)}, {_series(past)}.",
        f"Windows: {windows.starts.size} of {length}{out}.",
        _method(windows),
        *([f"Effects: x2 is twice the odds of an event of {found.harmed}."] if several else []),
        *(f"Missing: {words}." for words in past.missing),
        *(
            f"Dispersion of {name}: {each.dispersion:.2f} in this history ({each.rests_on})."
            for name, each in found.dispersions.items()
        ),
    ]


def _version(past: Past) -> str:
    return f" version {past.arm.version}" if past.arm.version else ", all versions"


def _series(past: Past) -> str:
    named = ", ".join(past.series[:_NAMES]) + (", ..." if len(past.series) > _NAMES else "")
    return f"{len(past.series)} series ({named})"


def _method(windows: Windows) -> str:
    single = int(windows.single.sum())
    parts = "a random part of the series plays the candidate, of about the share of the step"
    alone = "the requests of the only series are split at random, which cannot show any clustering"
    if single == windows.starts.size:
        return f"Placebos: {alone}."
    return f"Placebos: {parts}" + (f"; in {single} windows {alone}." if single else ".")


def warnings(found: Replayed) -> list[str]:
    """Return what should keep anybody from trusting the policy, or this replay."""
    words = []
    rule = found.policy.spec.decision.false_rollback
    if found.exceeded:
        words.append(f"placebos are rolled back more often than falseRollback: {rule} allows.")
    needed = _needed(found)
    if needed:
        words.append(
            "counts vary more than the policy assumes, so more harmless candidates are rolled back than it "
            f"asks for: raise `dispersion` ({needed})."
        )
    if found.windows.single.all():
        words.append(
            "there was only one series at a time, so the placebos are like the control by construction: this "
            "replay says nothing of clustered errors or of differences between pods."
        )
    return words


def _needed(found: Replayed) -> str:
    """Return the dispersions that were measured, of metrics that assume less."""
    assumed = {metric.name: metric.dispersion for metric in found.design.metrics}
    return ", ".join(
        f'{name}: "{math.ceil(10 * each.dispersion) / 10:g}"'
        for name, each in found.dispersions.items()
        if each.dispersion > assumed[name]
    )
