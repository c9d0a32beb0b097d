"""What a step of many rollouts costs, and how large their state is. Times depend on the machine."""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from analysis.judge import Design, MetricDesign, advance, fresh
from analysis.simulate import Behaviour, Streams
from bench.decision_quality.figures import Row
from bench.decision_quality.rules import PENSTOCK
from controller.memory import look_for_cycles_less_often

ROLLOUTS, REPEATS = 10_000, 5
SPEED = "Speed / a step of 10,000 rollouts with errors and 8 latency edges, one core"
METRIC = "Speed / state of a metric with 8 edges, as JSON"
ROLLOUT = "Speed / state of a rollout with errors and 8 latency edges, as JSON"
_EDGES = (25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)
_DESIGN = Design(
    (
        MetricDesign("errors", "proportion"),
        MetricDesign("latency", "histogram", edges=_EDGES, unit="milliseconds"),
    ),
    false_rollback=0.05,
    false_promote=0.05,
    planned_looks=180,
    min_samples=0,
)


def measure(rollouts: int = ROLLOUTS) -> list[Row]:
    """Measure both; with fewer rollouts than 10,000 the time is scaled up.

    The time is the median of several steps, in a process set up like the controller's. It has no Monte Carlo
    error, so it is held to its goal as it is.
    """
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=look_for_cycles_less_often) as pool:
        state, costs = pool.submit(_steps, rollouts).result()
    scaled = np.array(costs) * (ROLLOUTS / rollouts)
    sizes = {METRIC: state["metrics"][1], ROLLOUT: state}
    return [
        Row(SPEED, PENSTOCK, "CPU seconds", float(np.median(scaled)), None),
        *(Row(case, PENSTOCK, "bytes", float(len(json.dumps(each))), None) for case, each in sizes.items()),
    ]


def _steps(rollouts: int) -> tuple[dict[str, Any], list[float]]:
    """Return the state of one rollout after several steps, and the CPU seconds of each step."""
    streams, states, costs = Streams(_DESIGN, Behaviour(), rollouts, (1,)), [fresh(_DESIGN)] * rollouts, []
    for look in range(1, REPEATS + 1):
        intervals = streams.draw(np.full(rollouts, 0.1), 10.0, look)
        batch = [(_DESIGN, state, [new]) for state, new in zip(states, intervals, strict=True)]
        begin = time.process_time()
        states = advance(batch)
        costs.append(time.process_time() - begin)
    return states[0].to_dict(), costs
