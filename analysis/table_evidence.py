"""The evidence in tables of counts after each of their intervals, for many tables at once.

The e-processes are those of `analysis.eprocess` and, for a latency margin, of `analysis.margin`. A table has
the same result, bit for bit, in any company.

All evidence until interval t is divided by the dispersion phi >= 1 that is known at t. Wherever that comes
from, it cannot add false alarms to those of phi = 1: for x >= 0, mean(x^(1/phi)) <= mean(x)^(1/phi) (Jensen),
so the divided mixture reaches 1/alpha only where the plain one has reached (1/alpha)^phi.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analysis.confidence import NODES
from analysis.design import MetricDesign
from analysis.eprocess import (
    advance_restart,
    log_harm,
    log_mean,
    log_sum_exp,
    restart_log_rest,
    restart_log_weight,
    safe_log_prior,
    safe_odds_ratios,
)
from analysis.hypergeometric import log_likelihood_ratios
from analysis.margin import log_e_safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.design import Layout
    from analysis.hypergeometric import Floats, Ints

_AT_ONCE = 20_000
"""About so many 2x2 tables are worked on together; more would cost memory and gain nothing."""


class Question(NamedTuple):
    """What is asked of one table."""

    counts: Ints
    """(intervals, lanes, 4): n_b, k_b, n_c, k_c."""
    edges: tuple[float, ...]
    """One per lane; none if there is one lane without an edge."""
    null: float
    alternatives: tuple[float, ...]
    margin: float | None
    """A fraction, of the odds; with edges, of the time."""
    planned: int | None
    """Looks over which the restart half is spread; None: there is no such half."""
    dispersion: Floats
    """(intervals,): known at each of them."""


class Answer(NamedTuple):
    """The evidence of one table. Floats are natural logarithms, divided by the dispersion."""

    path: Floats
    """(intervals,): the e-values for the alternatives."""
    likelihood: Floats
    """(lanes, nodes): Lambda of `analysis.confidence` at the end."""
    gains: Floats
    """(lanes, alternatives): the likelihood ratios at the end."""
    safe: Floats | None
    """(intervals,): the e-values against "worse than the margin"; -inf where nothing tells of it."""


def answers(questions: Sequence[Question]) -> list[Answer]:
    """Return what every table says."""
    found: list[Answer] = []
    for _, batch in groupby(zip(_batches(questions), questions, strict=True), key=lambda pair: pair[0]):
        found += _answers([question for _, question in batch])
    return found


def _batches(questions: Sequence[Question]) -> Iterator[int]:
    """Yield the number of each question's batch."""
    rows = 0
    for question in questions:
        yield rows // _AT_ONCE
        rows += question.counts[..., 0].size


def _answers(questions: Sequence[Question]) -> list[Answer]:
    ratios = _all_log_ratios(questions)
    paths = _paths(questions, ratios)
    return [_answer(*parts) for parts in zip(questions, ratios, paths, strict=True)]


def _answer(question: Question, ratios: Floats, path: Floats) -> Answer:
    last = ratios / (question.dispersion[-1] if len(path) else 1.0)
    return Answer(
        path=path * bool(ratios.any()),
        likelihood=last[:, :, : NODES.size].sum(axis=0),
        gains=_gains(question, last).sum(axis=0),
        safe=_safe_path(question, ratios),
    )


def _all_log_ratios(questions: Sequence[Question]) -> list[Floats]:
    """Return (intervals, lanes, odds ratios) of every table; those with equal odds ratios in one call.

    The odds ratios are the nodes, the null, the alternatives, then for a margin of the odds the same two.
    """
    groups: dict[tuple[float, ...], list[int]] = {}
    for row, question in enumerate(questions):
        margin = () if question.margin is None or question.edges else _margin_odds_ratios(question.margin)
        groups.setdefault((question.null, *question.alternatives, *margin), []).append(row)
    found: dict[int, Floats] = {}
    for odds_ratios, rows in groups.items():
        counts = np.concatenate([questions[row].counts.reshape(-1, 4) for row in rows])
        ratios = _log_ratios(counts, np.concatenate([np.exp(NODES), odds_ratios]))
        ends = np.cumsum([questions[row].counts[..., 0].size for row in rows])
        for row, own in zip(rows, np.split(ratios, ends[:-1]), strict=True):
            found[row] = own.reshape(*questions[row].counts.shape[:2], ratios.shape[1])
    return [found[row] for row in range(len(questions))]


def _margin_odds_ratios(margin: float) -> tuple[float, ...]:
    return (1 + margin, *safe_odds_ratios(1 + margin))


def _log_ratios(counts: Ints, odds_ratios: Floats) -> Floats:
    n_b, k_b, n_c, k_c = counts.T
    return log_likelihood_ratios(n_c, k_c, n_b, k_b, odds_ratios)


def _gains(question: Question, ratios: Floats) -> Floats:
    first = NODES.size + 1
    return ratios[:, :, first : first + len(question.alternatives)] - ratios[:, :, first - 1, None]


def _paths(questions: Sequence[Question], ratios: Sequence[Floats]) -> list[Floats]:
    """Return every table's ln E: a path per value of its dispersion, read where that value is known."""
    parts = [(row, phi) for row, question in enumerate(questions) for phi in np.unique(question.dispersion)]
    gains = [_gains(questions[row], ratios[row] / phi) for row, phi in parts]
    flat = [gain.reshape(len(gain), -1) for gain in gains]
    together = mixture_paths(flat, [questions[row].planned for row, _ in parts])
    paths = [np.zeros(len(question.counts)) for question in questions]
    for (row, phi), path in zip(parts, together, strict=True):
        known = questions[row].dispersion == phi
        paths[row][known] = path[known]
    return paths


def mixture_paths(increments: Sequence[Floats], planned: Sequence[int | None]) -> list[Floats]:
    """Return `analysis.eprocess.mixture_path` of every element, bit for bit; equal widths go together."""
    paths = [log_mean(np.cumsum(own, axis=0)) for own in increments]
    groups: dict[int, list[tuple[int, int]]] = {}
    for row, looks in enumerate(planned):
        if looks is not None:
            groups.setdefault(increments[row].shape[1], []).append((row, looks))
    for group in groups.values():
        together = _restart_paths([increments[row] for row, _ in group], [looks for _, looks in group])
        for (row, _), path in zip(group, together.T, strict=True):
            paths[row] = path[: len(increments[row])].copy()
    return paths


def _restart_paths(increments: Sequence[Floats], planned: Sequence[int]) -> Floats:
    """Return ln E of both halves, (intervals of the longest, elements)."""
    longest = max(map(len, increments))
    steps = np.zeros((longest, len(increments), increments[0].shape[1]))
    for column, own in enumerate(increments):
        steps[: len(own), column] = own
    start, log_restart = np.cumsum(steps, axis=0), np.full(steps.shape[1:], -math.inf)
    path = np.zeros(steps.shape[:2])
    for look, step in enumerate(steps, start=1):
        weight = np.array([restart_log_weight(look, looks) for looks in planned])[:, None]
        rest = np.array([restart_log_rest(look, looks) for looks in planned])[:, None]
        log_restart = advance_restart(log_restart, weight, step)
        path[look - 1] = log_harm(start[look - 1], log_restart, rest)
    return path


def _safe_path(question: Question, ratios: Floats) -> Floats | None:
    """Return ln of the e-values against "worse than the margin" after every interval."""
    if question.margin is None:
        return None
    if question.edges:
        return _safe_edges(question)
    first = NODES.size + 1 + len(question.alternatives)
    gains = np.cumsum(ratios[:, 0, first + 1 :] - ratios[:, 0, first, None], axis=0)
    return log_sum_exp(gains / question.dispersion[:, None] + safe_log_prior(1 + question.margin))


def _safe_edges(question: Question) -> Floats:
    """Return the same for a margin of the time."""
    layout = margin_layout(question.edges, question.margin)
    near, far = np.array(layout.pairs, dtype=np.int64).reshape(-1, 2).T
    crossed = np.concatenate([question.counts[:, near, :2], question.counts[:, far, 2:]], axis=-1)
    ratios = _log_ratios(crossed.reshape(-1, 4), layout.pair_odds_ratios)
    pairs = np.cumsum(ratios.reshape(*crossed.shape[:2], layout.pair_odds_ratios.size), axis=0)
    arms = arm_counts(question.counts).cumsum(axis=0)
    dispersion = np.repeat(question.dispersion[:, None], len(question.edges), axis=1)
    return log_e_safe(layout, arms, pairs / dispersion[:, :1, None], dispersion)


def margin_layout(edges: tuple[float, ...], margin: float | None) -> Layout:
    """Return which edges are compared for a latency margin."""
    return MetricDesign("table", "histogram", edges, margin).layout


def arm_counts(counts: Ints) -> Ints:
    """Return (intervals, 2, 1 + lanes): control and candidate; requests, then events, from (.., lanes, 4)."""
    return np.concatenate([counts[:, :1, ::2], counts[:, :, 1::2]], axis=1).swapaxes(1, 2)
