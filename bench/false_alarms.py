"""How often does a rule roll back a candidate that is identical to its control, and how fast a worse one?

    python -m bench.false_alarms [--runs 1000]

200 requests per second, 10 % to the candidate, 1 % errors in both, a look every 10 s for 30 minutes. All
rules see the same counts. The threshold rule is the usual one: a success rate of the candidate below 99 % in
an interval is a failed check, five failed checks roll back. The z-test is one-sided at 5 %, on the totals so
far, at every look.
"""

from __future__ import annotations

import argparse

import numpy as np

from analysis.judge import Design, Interval, MetricDesign, advance, fresh
from analysis.tables import Arm, Table

LOOKS, SECONDS, RATE, SHARE, ERRORS, ALPHA = 180, 10, 200, 0.1, 0.01, 0.05
FIVE_PERCENT = 1.6449
EFFECTS = (1.0, 1.5, 2.0, 3.0)


def counts(dice: np.random.Generator, runs: int, effect: float) -> np.ndarray:
    """Return (looks, runs, 4): requests and errors of control, then of candidate."""
    size = (LOOKS, runs)
    control = dice.poisson(RATE * SECONDS * (1 - SHARE), size)
    candidate = dice.poisson(RATE * SECONDS * SHARE, size)
    return np.stack(
        [control, dice.binomial(control, ERRORS), candidate, dice.binomial(candidate, ERRORS * effect)],
        axis=-1,
    )


def threshold(table: np.ndarray) -> np.ndarray:
    """Return the look at which each run is rolled back, LOOKS for never."""
    failed = table[..., 3] > 0.01 * table[..., 2]
    return first(failed.cumsum(axis=0) >= 5)


def repeated_z(table: np.ndarray) -> np.ndarray:
    """Return the same for a z-test on the totals, repeated at every look."""
    n_b, k_b, n_c, k_c = np.moveaxis(table.cumsum(axis=0), -1, 0)
    pooled = (k_b + k_c) / (n_b + n_c)
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n_b + 1 / n_c), 1e-300))
    return first((k_c / n_c - k_b / n_b) / error > FIVE_PERCENT)


def penstock(table: np.ndarray) -> np.ndarray:
    """Return the same for the judge of the loop, at 5 % over the whole run."""
    errors = MetricDesign("errors", "proportion")
    design = Design((errors,), false_rollback=ALPHA, false_promote=0.05, planned_looks=LOOKS, min_samples=0)
    states = [fresh(design)] * table.shape[1]
    for look, row in enumerate(table.tolist()):
        intervals = [
            [Interval(look, SHARE, {"errors": Table(look, Arm(n_b, (k_b,)), Arm(n_c, (k_c,)))})]
            for n_b, k_b, n_c, k_c in row
        ]
        states = advance([(design, state, new) for state, new in zip(states, intervals, strict=True)])
    return np.array([LOOKS if state.crossed_at is None else state.crossed_at for state in states])


def first(fired: np.ndarray) -> np.ndarray:
    """Return the first look at which each run fires, LOOKS for never."""
    return np.where(fired.any(axis=0), fired.argmax(axis=0), LOOKS)


def main() -> None:
    """Print a table: rollbacks of an identical candidate, then power and median time for real effects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rules = {"threshold < 99 %, 5 failed checks": threshold, "z-test at every look": repeated_z}
    rules["Penstock"] = penstock
    dice = np.random.default_rng(options.seed)
    tables = {effect: counts(dice, options.runs, effect) for effect in EFFECTS}
    print(f"{options.runs} runs each; rolled back within 30 min / median seconds until then")
    print(f"{'rule':36}" + "".join(f"{'identical' if e == 1 else f'errors x{e:g}':>24}" for e in EFFECTS))
    for name, rule in rules.items():
        cells = []
        for table in tables.values():
            stopped = rule(table)
            share = (stopped < LOOKS).mean()
            error = np.sqrt(share * (1 - share) / options.runs)
            when = f"{(np.median(stopped) + 1) * SECONDS:.0f} s" if share > 0.5 else "-"
            cells.append(f"{share:.1%} ±{error:.1%} / {when}")
        print(f"{name:36}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
