"""What it costs when an assumption is broken and nobody notices: the table of docs/assumptions.md.

Every case is traffic of `bench.pictures.laboratory` with one thing wrong. The candidate is identical to the
control unless its effect says otherwise; 1.5 is exactly at the margin, where at most 5 % may be called safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from analysis.simulate import Behaviour
from bench.pictures.laboratory import HISTORY, LOOKS, SECONDS, SHARE, counts, judge, measured, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from analysis.hypergeometric import Floats, Ints
    from analysis.simulate import Scenario
    from bench.pictures.laboratory import Judged

    Tampering = Callable[[np.random.Generator, Ints], Ints]

PODS = (9, 1)
"""Of control and candidate, where pods have noise of their own."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing wrong. `history`: intervals from which the dispersion is measured; 0: taken as 1."""

    name: str
    behaviour: Behaviour
    share: float = SHARE
    history: int = 0
    quiet: bool = False
    """The history is of independent requests, whatever the run is like."""
    wrong: Tampering | None = None
    tries: int = 1
    """So many times it is tried, and what any of them says is believed."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Shares of the runs: called harmful; called safe before that; found to have an unintended split."""

    name: str
    runs: int
    harmful: float
    safe: float
    split_broken: float
    dispersion: float
    """The median over the runs."""

    def error(self, share: float) -> float:
        """Return one standard error of a share, not 0 when none or all of a few runs ended so."""
        likely = (share * self.runs + 1) / (self.runs + 2)
        return float(np.sqrt(likely * (1 - likely) / self.runs))


def cases() -> Iterator[Case]:
    """Yield all cases: as assumed, dependent requests, other things wrong."""
    yield Case("nothing broken, identical", Behaviour())
    yield Case("nothing broken, at the margin", Behaviour(effect=1.5))
    yield from _dependent("bursts of 3", "bursts")
    yield from _dependent("beta-binomial, phi 4", "betabinomial")
    yield from _dependent("pod noise of 2 min, sd .3", "podnoise", noise=0.3, correlation=0.92)
    yield from _dependent("pod noise of 3 min, sd .6", "podnoise", noise=0.6, correlation=0.95)
    yield from _dependent("hosts that differ for good, sd .3", "podnoise", noise=0.3, correlation=0.99999)
    yield Case("one node, twice the errors, 1 pod of 1 on it", Behaviour(effect=2.0))
    yield Case("one node, twice the errors, 1 pod of 5 on it", Behaviour(effect=1.2))
    yield Case("the candidate's users fail 1.3 times as often", Behaviour(effect=1.3))
    yield Case("at the margin, but its users fail 1.5 times less", Behaviour(effect=1.0))
    yield Case("at the margin, 20 % of its errors are lost", Behaviour(effect=1.5), wrong=lost)
    yield Case("everything is counted twice", Behaviour(), wrong=twice)
    yield Case("15 % of the requests instead of 10 %", Behaviour(), share=0.15)
    yield Case("at the margin, the best of 5 tries", Behaviour(effect=1.5), tries=5)
    yield Case("identical, the worst of 5 metrics, each at 5 %", Behaviour(), tries=5)
    yield Case("bursts of 3, measured on a history without", _by("bursts"), history=HISTORY, quiet=True)
    incident = Behaviour(scenario="incident", onset=600)
    yield Case("errors x10 for 2 min in both", incident)
    for delay in (1, 3, 10):
        behind = partial(late, part=delay / SECONDS)
        yield Case(f"the same, the candidate counted {delay} s late", incident, wrong=behind)


def _by(scenario: Scenario, noise: float = 0.3, correlation: float = 0.8) -> Behaviour:
    return Behaviour(scenario=scenario, noise=noise, correlation=correlation, pods=PODS)


def _dependent(name: str, scenario: Scenario, noise: float = 0.3, correlation: float = 0.8) -> Iterator[Case]:
    """Yield a case without a remedy, with 20 minutes of history, and with six hours."""
    behaviour = _by(scenario, noise, correlation)
    for words, intervals in (("taken as 1", 0), ("20 min of history", 120), ("6 h of history", HISTORY)):
        yield Case(f"{name}: {words}", behaviour, history=intervals)


def lost(dice: np.random.Generator, tables: Ints) -> Ints:
    """Return what is left when a crashing candidate takes a fifth of its errors with it."""
    kept = dice.binomial(tables[..., 3], 0.8)
    gone = tables[..., 3] - kept
    return np.stack([tables[..., 0], tables[..., 1], tables[..., 2] - gone, kept], axis=-1)


def twice(_: np.random.Generator, tables: Ints) -> Ints:
    """Return every count doubled, as two scrapes of one process under two names make it."""
    return tables * 2


def late(dice: np.random.Generator, tables: Ints, part: float = 1.0) -> Ints:
    """Return the counts with this part of the candidate's of an interval counted in the next one instead.

    The last interval's are counted in the first: it was late before, too.
    """
    events = dice.binomial(tables[..., 3], part)
    requests = events + dice.binomial(tables[..., 2] - tables[..., 3], part)
    moved = np.stack([requests, events], axis=-1)
    found = tables.copy()
    found[..., 2:] += np.roll(moved, 1, axis=0) - moved
    return found


def damage(case: Case, runs: int, seed: int) -> Damage:
    """Return what happens to `runs` runs of a case."""
    found = [_one(case, runs, seed + 1000 * attempt) for attempt in range(case.tries)]
    judged, dispersion = zip(*found, strict=True)
    return Damage(
        case.name,
        runs,
        harmful=_ever([each.harmful < LOOKS for each in judged]),
        safe=_ever([each.safe < each.harmful for each in judged]),
        split_broken=_ever([each.split_broken < LOOKS for each in judged]),
        dispersion=float(np.median(dispersion)),
    )


def _ever(tries: Sequence[NDArray[np.bool_]]) -> float:
    """Return the share of runs of which something is so in any of the tries."""
    return float(np.any(tries, axis=0).mean())


def _one(case: Case, runs: int, seed: int) -> tuple[Judged, Floats | float]:
    """Return the judge's reading of one try, and the dispersion that it was divided by."""
    source = streams(case.behaviour, runs, seed)
    past = streams(Behaviour(pods=PODS), runs, seed + 1) if case.quiet else source
    dispersion = measured(past, case.history) if case.history else 1.0
    tables = counts(source, runs, share=case.share)
    if case.wrong:
        tables = case.wrong(np.random.default_rng(seed), tables)
    return judge(tables, dispersion), dispersion


def table(runs: int, seed: int, words: str = "") -> Iterator[str]:
    """Yield the table as Markdown, line by line as cases are done: those with the words in their names."""
    yield "| case | called harmful | called safe | split broken | dispersion |"
    yield "|---|---|---|---|---|"
    for case in (each for each in cases() if words in each.name):
        found = damage(case, runs, seed)
        shares = (found.harmful, found.safe, found.split_broken)
        cells = [f"{share:.1%} ± {found.error(share):.1%}" for share in shares]
        yield f"| {found.name} | {' | '.join(cells)} | {found.dispersion:.2g} |"
