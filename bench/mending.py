"""How long a split that is right again is held for wrong, and how often a wrong one is taken for right.

    python -m bench.mending [--runs 400] [--seed 1]

What is behind the figures of "The traffic is split as intended" in docs/assumptions.md: first the test for
"right again" alone (`analysis.mending`), then whole runs, half an hour with 100 requests per second, whose
split is wrong in minutes 5 to 10: called safe by then, and ever.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.design import Design, Interval, MetricDesign
from analysis.judge import advance, fresh
from analysis.kinds import kinds
from analysis.mending import Mending
from analysis.simulate import Behaviour, Streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.hypergeometric import Floats, Ints

SHARES = (0.05, 0.2, 0.5)
TILTS = (1.1, 1.2, 1.3, 1.5, 2.0)
FINE, COARSE = 100, 1000
"""Requests in an interval: to see the delay finely, and as at a hundred per second."""
HOUR = 360
"""Intervals in which a wrong split may be taken for right."""
LOOKS, SECONDS = 180, 10
WRONG = range(30, 60)
MARGIN = 0.5


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| intended share | requests until a right split is called right: median | 90 % |")
    print("|---|---|---|")
    for share in SHARES:
        looks = 1 + recoveries(1.0, share, FINE, options.runs, options.seed)
        print(
            f"| {100 * share:g} % | {FINE * np.median(looks):,.0f} | {FINE * np.quantile(looks, 0.9):,.0f} |"
        )
    print("\n| odds wrong by | " + " | ".join(f"{100 * share:g} %" for share in SHARES) + " |")
    print("|---" * (1 + len(SHARES)) + "|")
    for tilt in TILTS:
        found = [recoveries(tilt, share, COARSE, options.runs, options.seed) for share in SHARES]
        print(f"| {tilt} | " + " | ".join(f"{100 * (each < HOUR).mean():.1f} %" for each in found) + " |")
    print("\n| candidate | mended | safe in the end | ever safe |")
    print("|---|---|---|---|")
    for name, effect in (("identical", 1.0), ("at the margin", 1 + MARGIN)):
        told = " | ".join(f"{100 * each:.1f} %" for each in whole_runs(effect, options.runs, options.seed))
        print(f"| {name} | {told} |")


def recoveries(tilt: float, share: float, total: int, runs: int, seed: int) -> Ints:
    """Return in which interval each run calls its split right, whose odds are wrong by `tilt`."""
    rng = np.random.default_rng((seed, round(1000 * share), round(1000 * tilt)))
    tilted = tilt * share / (1 - share + tilt * share)
    drawn = rng.binomial(total, tilted, (runs, HOUR)).tolist()
    return np.array([_recovery(candidates, share, total) for candidates in drawn])


def _recovery(candidates: Sequence[int], share: float, total: int) -> int:
    state = Mending((), (0.0, 0.0), ())
    for look, candidate in enumerate(candidates):
        state = state.after(Interval(look, share, {}, (total - candidate, candidate)))
        if state.is_right:
            return look
    return len(candidates)


def whole_runs(effect: float, runs: int, seed: int) -> tuple[float, float, float]:
    """Return the shares of the runs that were mended, that are safe in the end, and that were ever so."""
    design = Design((MetricDesign("errors", "proportion", margin=MARGIN),), 0.01, 0.05, LOOKS, 100)
    streams = Streams(design, Behaviour(effect=effect, rps=100.0), runs, (seed,))
    states, safe = [fresh(design)] * runs, np.zeros(runs, dtype=bool)
    now = safe
    for look in range(LOOKS):
        drawn = streams.draw(_shares(look, runs), SECONDS, SECONDS * look)
        intervals = [replace(each, intended=0.2) for each in drawn]
        states = advance([(design, s, [i]) for s, i in zip(states, intervals, strict=True)])
        now = np.array([kind == "Safe" for kind in kinds(design, states)])
        safe |= now
    mended = np.array([s.mending is not None and s.mending.since is not None for s in states])
    return float(mended.mean()), float(now.mean()), float(safe.mean())


def _shares(look: int, runs: int) -> Floats:
    """Return what the candidate really gets: 10 % instead of 20 % while the split is wrong."""
    return np.full(runs, 0.1 if look in WRONG else 0.2)


if __name__ == "__main__":
    main()
