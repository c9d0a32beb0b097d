"""All cases, cut into parts that several processes work on. The result does not depend on how many do."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from bench.decision_quality.figures import rows
from bench.decision_quality.goals import judged
from bench.decision_quality.rules import Stops, stops
from controller.memory import look_for_cycles_less_often

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.decision_quality.cases import Case
    from bench.decision_quality.figures import Row

PART = 500
"""Runs that are drawn and judged together. Another number gives other runs."""


class Sizes(NamedTuple):
    """How many runs a case has: for medians, for small chances, and for Kayenta's judge, which is slow."""

    medians: int
    chances: int
    kayenta: int


class Part(NamedTuple):
    """Some runs of a case; Kayenta's judge sees the first `few` of them."""

    case: Case
    seed: tuple[int, ...]
    runs: int
    few: int


def measure(cases: Iterable[Case], sizes: Sizes, *, seed: int, jobs: int) -> list[Row]:
    """Return the figures of the cases, in their order, with goals. Progress goes to stderr."""
    parts = [part for case in cases for part in _parts(case, sizes, seed)]
    found: defaultdict[Case, list[Stops]] = defaultdict(list)
    for part, each in zip(parts, _work(parts, jobs), strict=True):
        found[part.case].append(each)
    return [judged(row) for case, those in found.items() for row in rows(case, _joined(those))]


def _parts(case: Case, sizes: Sizes, seed: int) -> Iterator[Part]:
    """Return the parts of a case. Every case has dice of its own, whichever other cases there are."""
    runs = sizes.chances if case.about_chance else sizes.medians
    for number, begin in enumerate(range(0, runs, PART)):
        few = min(max(sizes.kayenta - begin, 0), PART)
        dice = (seed, crc32(case.name.encode()), number)
        yield Part(case, dice, min(PART, runs - begin), few)


def _work(parts: Sequence[Part], jobs: int) -> Iterator[Stops]:
    """Return what came of each part, in order."""
    if jobs == 1:
        yield from _told(map(_one, parts), parts)
        return
    spawn = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=look_for_cycles_less_often) as pool:
        yield from _told(pool.map(_one, parts), parts)


def _told(results: Iterable[Stops], parts: Sequence[Part]) -> Iterator[Stops]:
    """Return the results, telling on one line how far they are."""
    begin = time.monotonic()
    for done, (part, result) in enumerate(zip(parts, results, strict=True), start=1):
        line = f"{done} of {len(parts)} parts, {time.monotonic() - begin:.0f} s: {part.case.name}"
        print(f"\r{line[:100]:100}", end="\n" if done == len(parts) else "", file=sys.stderr, flush=True)
        yield result


def _one(part: Part) -> Stops:
    return stops(part.case, part.runs, part.seed, part.few)


def _joined(parts: Sequence[Stops]) -> Stops:
    """Return what came of all parts of a case."""
    looks, dispersions = (
        {name: np.concatenate([each[name] for each in those if name in each]) for name in those[0]}
        for those in zip(*parts, strict=True)
    )
    return Stops(looks, dispersions)
