"""Tables of counts in long form, as text: what a version's pods did in each interval."""

from __future__ import annotations

import numpy as np

HEADER = "interval,variant,series,total,events"


def long_text(*rows, header=HEADER):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)])


def pods(rng, variant, count, intervals, *, rate=0.01, requests=200, cluster=1):
    """Return rows of a variant whose errors come in clusters of equal size."""
    rows = []
    for interval in intervals:
        for pod in range(count):
            total = int(rng.poisson(requests))
            events = cluster * int(rng.binomial(total // cluster, rate))
            rows.append((interval, variant, f"{variant}-{pod}", total, events))
    return rows


def mesh(seed, *candidates, intervals=60, history=0, cluster=1):
    """Return a text: nine pods of the control with 1 % errors, and a pod per candidate (name, error rate)."""
    rng = np.random.default_rng(seed)
    rows = pods(rng, "control", 9, range(intervals), cluster=cluster)
    for name, rate in candidates:
        rows += pods(rng, name, 1, range(intervals), rate=rate, cluster=cluster)
    rows += pods(rng, "history", 9, range(-history, 0), cluster=cluster)
    return long_text(*rows)
