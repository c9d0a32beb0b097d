"""What one pass of the loop costs when many rollouts hold: CPU per rollout, queries, writes, memory.

    python -m bench.loop [--rollouts 100] [--looks 10] [--profile]

Every rollout has two metrics (errors, and latency at 11 edges), two healthy versions and a step that holds.
Each look takes in one interval: Prometheus' answers are parsed from bytes, judged, decided on and recorded in
a real history (SQLite); the objects lie in a real local store. Only passes of the loop are timed, on all
threads. Two states are measured: `holding`, where the controls' past told the dispersion, as it does of all
services but new ones; and `learning`, where they have none, so that every interval of every control is looked
at (for the first hour of a run). The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import resource
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from bench.answers import BELOW, EDGES, RATE, START, STEP, answer, kind_of
from controller.answers import Splitter
from controller.evidence import Collector
from controller.history import SqlHistory
from controller.loop import Loop
from controller.memory import look_for_cycles_less_often
from controller.news import News
from controller.past import MetricPast, Past
from controller.ports import Applied, Object, Reading, Ref
from controller.prometheus import reading_of
from controller.record import Recorder
from controller.standalone.store import LocalStore
from controller.telemetry import Telemetry
from controller.threads import use_one_thread
from policies.catalog import templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from bench.answers import Kind
    from controller.past import Question
    from controller.ports import Metrics

PEERS = {"Argo Rollouts": 3.1, "Flagger": 5.0}
"""CPU in ms per check of a rollout with as much to do, measured on a machine like this (bench/cluster)."""

KINDS: tuple[Kind, ...] = ("code", "le", "")


class Clock:
    """Time that the benchmark moves."""

    time = float(START)

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Proxies:
    async def applied(self, _obj: Object) -> Applied:
        return Applied(ok=True)


class Prometheus:
    """Answers as Prometheus does, in bytes that are made before the pass is timed."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = list(services)
        self._answers: dict[tuple[Kind, int, int], bytes] = {}
        self._splitters = {kind: Splitter() for kind in KINDS}
        self.queries = 0

    def prepare(self, start: int, end: int, step: int = STEP) -> None:
        """Make the answers for the instants from `start` to `end`."""
        instants = range(start, end + 1, step)
        self._answers = {(kind, start, end): answer(kind, self._services, instants) for kind in KINDS}

    async def read(self, query: str, *, start: int, end: int, step: int) -> Reading:
        self.queries += 1
        if "label_replace" in query:  # the controls have no past
            return Reading(())
        kind = kind_of(query)
        if (kind, start, end) not in self._answers:
            self.prepare(start, end, step)
        return reading_of(self._answers[kind, start, end], self._splitters[kind])


def manifests(name: str) -> list[Object]:
    """Return a policy that holds, its VirtualService and its endpoints."""
    meta = {"name": name, "namespace": "default"}
    route = [{"destination": {"host": name, "subset": "v1"}, "weight": 100}]
    route.append({"destination": {"host": name, "subset": "v2"}, "weight": 0})
    istio = {"apiVersion": "networking.istio.io/v1", "metadata": meta}
    subsets = [{"name": version, "labels": {"version": version}} for version in RATE]
    endpoints = [{"address": "127.0.0.1", "labels": {"version": version}} for version in RATE]
    spec = {
        "service": {"host": name}, "virtualService": {"name": name},
        "variants": [{"name": "stable", "subset": "v1"}, {"name": "candidate", "subset": "v2"}],
        "strategy": {"canary": {"steps": [{"weight": 20, "hold": "999h"}]}},
        "metrics": [
            {"template": "istio-error-rate", "margin": "25%"},
            {"template": "istio-latency", "edges": list(EDGES[:-1])},
        ],
        "decision": {"interval": f"{STEP}s", "deadline": "9999h"},
    }  # fmt: skip
    return [
        {"apiVersion": "penstock.dev/v1alpha1", "kind": "RolloutPolicy", "metadata": meta, "spec": spec},
        istio | {"kind": "VirtualService", "spec": {"hosts": [name], "http": [{"route": route}]}},
        istio | {"kind": "DestinationRule", "spec": {"host": name, "subsets": subsets}},
        istio | {"kind": "ServiceEntry", "spec": {"hosts": [name], "endpoints": endpoints}},
    ]


async def past(_metrics: Metrics, question: Question, *, done: Callable[[], None], **_: Executor) -> Past:
    """Return an hour and more of a control with one process, as if it had been read."""
    done()
    draw, intervals = np.random.default_rng(1), 400
    totals = draw.poisson(STEP * RATE["v1"], intervals)
    shares = {"proportion": [0.01], "histogram": [1 - share for share in BELOW[:-1]]}
    metrics = {
        metric.name: MetricPast(
            totals[:, None],
            np.stack([draw.binomial(totals, share) for share in shares[metric.kind]], axis=1)[:, None],
            np.ones(intervals, dtype=np.bool_),
        )
        for metric in question.design.metrics
    }
    return Past(question.arm, question.end - intervals * STEP, STEP, ("gateway",), metrics)


async def measure(
    folder: Path, rollouts: int, looks: int, profile: cProfile.Profile | None, state: str = "holding"
) -> dict[str, Any]:
    """Return what `looks` passes over so many rollouts cost, whose dispersion is known or being learnt."""
    known = patch("controller.baseline.read_past", past) if state == "holding" else nullcontext()
    with known:
        return {"state": state, **await _measure(folder, rollouts, looks, profile)}


async def _measure(
    folder: Path, rollouts: int, looks: int, profile: cProfile.Profile | None
) -> dict[str, Any]:
    names = [f"service-{number}" for number in range(rollouts)]
    clock, prometheus, telemetry = Clock(), Prometheus(names), Telemetry()
    store = await LocalStore.open(folder / "store.db", clock=clock.now)
    history = await SqlHistory.open(f"sqlite:///{folder / 'history.db'}")
    loop = Loop(
        store=store, history=history, dataplane=Proxies(), clock=clock,
        collector=Collector(prometheus, history, templates(), telemetry),
        recorder=Recorder(store, telemetry, News()),
    )  # fmt: skip
    try:
        await _fill(store, names)
        for seconds in (0, 0.2, 0.2, 3 * STEP, STEP):  # start, confirm, and the first intervals
            clock.time += seconds
            await loop.look()
            await _rest()
        prometheus.queries, version = 0, int(await store.version())
        cpu, wall = await _passes(loop, clock, prometheus, looks, profile)
        written = int(await store.version()) - version
    finally:
        await store.close()
        await history.close()
    return {
        "rollouts": rollouts,
        "looks": looks,
        "cpu_ms_per_check": round(1000 * cpu / rollouts / looks, 4),
        "wall_ms_per_look": round(1000 * wall / looks, 1),
        "queries_per_look": prometheus.queries / looks,
        "store_writes_per_look": written / looks,
        "max_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


async def _rest() -> None:
    """Let what goes on beside the loop come to its end: the pasts that are read."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


async def _fill(store: LocalStore, names: list[str]) -> None:
    objects = [obj for name in names for obj in manifests(name)]
    changes = {Ref(o["kind"], "default", o["metadata"]["name"]): (lambda _, new=o: new) for o in objects}
    await store.change(changes, manager="bench")


async def _passes(
    loop: Loop, clock: Clock, prometheus: Prometheus, looks: int, profile: cProfile.Profile | None
) -> tuple[float, float]:
    cpu = wall = 0.0
    for _ in range(looks):
        clock.time += STEP
        newest = int(clock.time - 1) // STEP * STEP
        prometheus.prepare(newest - STEP, newest)
        before = time.process_time(), time.perf_counter()
        with profile or nullcontext():
            await loop.look()
        cpu += time.process_time() - before[0]
        wall += time.perf_counter() - before[1]
    return cpu, wall


def main() -> None:
    """Print the cost beside that of a few rollouts, so that what does not grow can be seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=100)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, and no table")
    options = parser.parse_args()
    if use_one_thread():  # as `penstock` does; for numpy it is too late here
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same program
    look_for_cycles_less_often()  # as `penstock up` does
    profile = cProfile.Profile() if options.profile else None
    cases = [("holding", options.rollouts)] if profile else _cases(options.rollouts)
    results = []
    for state, size in cases:
        with tempfile.TemporaryDirectory() as folder:
            results.append(asyncio.run(measure(Path(folder), size, options.looks, profile, state)))
    if profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    else:
        _print_table(results)
    print(json.dumps(results))


def _cases(rollouts: int) -> list[tuple[str, int]]:
    """Return what is measured: few holding, to see what does not grow; all holding; all learning."""
    sizes = sorted({max(1, rollouts // 10), rollouts})
    return [*(("holding", size) for size in sizes), ("learning", rollouts)]


def _print_table(results: list[dict[str, Any]]) -> None:
    print(f"{'':24}" + "".join(f"{one['state']:>12}" for one in results))
    for key in list(results[0])[1:]:
        print(f"{key:24}" + "".join(f"{one[key]:>12}" for one in results))
    cost = next(one for one in reversed(results) if one["state"] == "holding")["cpu_ms_per_check"]
    print()
    for name, figure in PEERS.items():
        print(f"{name:16} {figure} ms per check: {figure / cost:.1f} times as much as holding")


if __name__ == "__main__":
    main()
