"""Placebo canaries: some of the control's own traffic plays the candidate, so any harm shown is a mistake.

The past is cut into windows. In each run a random part of the series that were busy in its window, of about
the candidate's share, stands against the rest; whichever is too large is thinned at random, so that the
shares are on average those of the policy's steps. As the candidate's share grows, more series join it. Where
only one series was busy its requests are split at random: by construction such a placebo is like the control,
so it cannot show clustering.

With an effect the candidate's events are made more frequent by an odds ratio (`analysis.thinning`). The runs
are decided as simulated ones are (`controller.simulate.follow`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.design import Interval
from analysis.tables import Arm, Table
from analysis.thinning import Counts, thinned, worsened
from controller.endings import Result
from controller.simulate import follow, looks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from analysis.design import Design
    from analysis.hypergeometric import Floats, Ints
    from controller.past import MetricPast, Past
    from policies.model import RolloutPolicy

LEAST_KNOWN = 0.5
"""A window in which less than this share of the intervals is known is left out."""


@dataclass(frozen=True)
class Windows:
    """Where runs may start: `starts`, numbers of intervals; each `length` intervals long.

    `load` (windows, series) are the requests in each; `left_out` says how many windows knew too little.
    """

    starts: Ints
    length: int
    load: Ints
    left_out: int

    @property
    def single(self) -> NDArray[np.bool_]:
        """Whether a window has only one busy series, (windows,)."""
        return np.asarray((self.load > 0).sum(axis=1) < 2)


def windows_of(past: Past, length: int) -> Windows:
    """Return the windows of `length` intervals, one after the other. ValueError when there is none."""
    if not 0 < length <= past.intervals:
        raise ValueError(f"the history has {past.intervals} intervals; a window needs {length}")
    starts = np.arange(0, past.intervals - length + 1, length)
    spans = [slice(start, start + length) for start in starts.tolist()]
    known = [min(float(m.known[span].mean()) for m in past.metrics.values()) for span in spans]
    load = np.array([sum(m.totals[span].sum(axis=0) for m in past.metrics.values()) for span in spans])
    usable = (np.array(known) >= LEAST_KNOWN) & (load.sum(axis=1) > 0)
    if not usable.any():
        raise ValueError("there is no history: no window has requests in half of its intervals")
    return Windows(starts[usable], length, load[usable], int((~usable).sum()))


@dataclass
class Placebos:
    """The traffic of `runs` placebo runs (a `controller.simulate.Traffic`), spread evenly over the windows.

    The candidate's events of metric `harmed` have `effect` times the odds. Equal arguments and shares give
    equal traffic.
    """

    past: Past
    windows: Windows
    runs: int
    seed: int
    effect: float = 1.0
    harmed: str = ""
    _look: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        series = len(self.past.series)
        self._dice = np.random.default_rng([self.seed, self.runs])
        self._harm_dice = np.random.default_rng([self.seed, self.runs, 1])
        self._load = self.windows.load[self.window].astype(np.float64)
        chances = self._dice.random((self.runs, series)) + (self._load == 0)  # idle series come last
        self._order = chances.argsort(axis=1)

    @property
    def window(self) -> Ints:
        """The number of each run's window, (runs,)."""
        return np.arange(self.runs) % self.windows.starts.size

    def draw(self, share: Floats, seconds: float, end: int) -> list[Interval]:
        """Return the next interval of every run; `seconds` is the length of the past's intervals."""
        if seconds != self.past.step:
            raise ValueError("intervals have the length of those of the past")
        at = self.windows.starts[self.window] + self._look
        self._look += 1
        chosen, keep = self._canary(share)
        tables: list[dict[str, Table | None]] = [{} for _ in range(self.runs)]
        for name, metric in self.past.metrics.items():
            candidate, control = self._arms(metric, at, chosen, keep)
            if name == self.harmed and self.effect != 1:
                shares = _shares(metric, at)
                candidate = worsened(self._harm_dice, candidate, shares, self.effect)
            known = metric.known[at].tolist()
            for run, table in enumerate(_tables(end, control, candidate)):
                tables[run][name] = table if known[run] else None
        # the split of a placebo is not set by weights, so it is not tested
        return [Interval(end, part, each) for part, each in zip(share.tolist(), tables, strict=True)]

    def _canary(self, share: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """Return which series play the candidate, (runs, series), and which part is kept, (runs, 2).

        The parts are those of the candidate's and of the control's requests.
        """
        load = np.take_along_axis(self._load, self._order, axis=1)
        reached = load.cumsum(axis=1) / load.sum(axis=1, keepdims=True)
        busy = (load > 0).sum(axis=1)
        # at least one series on either side
        far = np.abs(reached - share[:, None])
        far[np.arange(load.shape[1]) >= np.maximum(busy - 1, 1)[:, None]] = np.inf
        last = far.argmin(axis=1)
        chosen = np.zeros(load.shape, dtype=np.bool_)
        np.put_along_axis(chosen, self._order, np.arange(load.shape[1]) <= last[:, None], axis=1)
        have = np.take_along_axis(reached, last[:, None], axis=1)[:, 0]
        wanted, rest = share * (1 - have), (1 - share) * have
        most = np.maximum(np.maximum(wanted, rest), 1e-300)
        keep = np.stack([wanted / most, rest / most], axis=1)
        keep[busy < 2] = np.stack([share, 1 - share], axis=1)[busy < 2]
        return chosen, keep

    def _arms(
        self, metric: MetricPast, at: Ints, chosen: NDArray[np.bool_], keep: Floats
    ) -> tuple[Counts, Counts]:
        """Return the counts of candidate and control in the intervals `at`, (runs,)."""
        totals, events = metric.totals[at], metric.events[at]
        candidate = Counts((totals * chosen).sum(axis=1), (events * chosen[..., None]).sum(axis=1))
        control = Counts(totals.sum(axis=1), events.sum(axis=1)).less(candidate)
        kept = thinned(self._dice, candidate, keep[:, 0])
        others = thinned(self._dice, control, keep[:, 1])
        alone = self.windows.single[self.window]
        rest = candidate.less(kept)
        return kept, Counts(
            np.where(alone, rest.requests, others.requests),
            np.where(alone[:, None], rest.events, others.events),
        )


def _shares(metric: MetricPast, at: Ints) -> Floats:
    """Return the shares of events of all series together, (runs, lanes)."""
    totals, events = metric.totals[at].sum(axis=1), metric.events[at].sum(axis=1)
    return np.asarray(events / np.maximum(totals, 1)[:, None])


def _tables(end: int, control: Counts, candidate: Counts) -> Sequence[Table]:
    columns = [part.tolist() for arm in (control, candidate) for part in arm]
    return [
        Table(end, Arm(n_b, tuple(k_b)), Arm(n_c, tuple(k_c)))
        for n_b, k_b, n_c, k_c in zip(*columns, strict=True)
    ]


def replay(
    policy: RolloutPolicy,
    design: Design,
    placebos: Placebos,
    *,
    looked: Callable[[], None] = lambda: None,
) -> Result:
    """Return what the policy does to placebos; a run ends undecided with its window. `looked`: every look."""
    most = min(looks(policy), placebos.windows.length)
    endings = follow(policy, [design] * placebos.runs, placebos, most=most, looked=looked)
    return Result(placebos.effect, endings)


def window_error(hits: Sequence[bool], windows: int) -> float | None:
    """Return the standard error of the share of `hits` of runs spread evenly over windows, from the windows.

    Runs in one window share its traffic, so the windows count and not the runs: the standard deviation of the
    windows' shares over the root of their number. None for a single window, which cannot tell.
    """
    shares = [float(np.mean(hits[window::windows])) for window in range(min(windows, len(hits)))]
    return float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else None
