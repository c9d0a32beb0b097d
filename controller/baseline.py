"""Reads what the controls of starting runs did before, beside the loop, which never waits for it.

A run's evidence waits for the answer a little (`PATIENCE`), so that the first interval is judged by what is
known; then it begins by the assumption, and an answer that comes later holds from then on. A past that cannot
be read is tried again a few times. Few are read at once, so that many starting runs are no storm.

A past of hundreds of series is a second of computing and more. That is done in a thread of its own, one thing
at a time, so that looks, lease renewals and answers to requests go on in between.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.past import read_past
from controller.ports import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from controller.learning import Lessons
    from controller.past import Past, Question
    from controller.ports import Metrics
    from controller.telemetry import Telemetry

log = logging.getLogger("penstock")

PATIENCE = 30.0
"""Seconds that the evidence of a run waits for the control's past."""
PAUSES = (60.0, 300.0, 900.0)
"""Seconds until the next try after each failure; after the last there is none."""
AT_ONCE = 2
"""Pasts that are read at the same time."""


@dataclass(eq=False)
class _Reading:
    """The reading for one run; `failures` of it so far, and when to try again."""

    question: Question
    task: asyncio.Task[Lessons]
    asked: float
    failures: int = 0
    again: float | None = None


class Baselines:
    """The controls' pasts, by run."""

    def __init__(self, metrics: Metrics, telemetry: Telemetry) -> None:
        self._metrics, self._telemetry = metrics, telemetry
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.aside: Executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="past")
        """Where what is read is computed; its thread ends when nobody has this object any more."""
        self._readings: dict[str, _Reading] = {}

    def ask(
        self, run: str, question: Question, teach: Callable[[Past], Lessons], now: float
    ) -> Lessons | str | None:
        """Return what `teach` makes of a run's past, why there is none in words, or None until it is known.

        Reading begins with the first call, again when there is another question, and some time after a
        failure.
        """
        reading = self._readings.get(run)
        if reading is not None and reading.question != question:
            reading.task.cancel()
            reading = None
        if reading is None:
            reading = self._readings[run] = _Reading(question, self._start(question, teach), now)
        elif reading.again is not None and now >= reading.again:
            reading.task, reading.again = self._start(question, teach), None
        return self._answer(run, reading, now)

    def waits(self, run: str, now: float) -> bool:
        """Tell whether the evidence of a run should still wait for its past."""
        reading = self._readings.get(run)
        return reading is not None and not reading.task.done() and now < reading.asked + PATIENCE

    def keep(self, runs: Iterable[str]) -> None:
        """Forget all runs but these."""
        kept = set(runs)
        for run in self._readings.keys() - kept:
            self._readings.pop(run).task.cancel()

    def _start(self, question: Question, teach: Callable[[Past], Lessons]) -> asyncio.Task[Lessons]:
        return asyncio.create_task(self._read(question, teach))

    async def _read(self, question: Question, teach: Callable[[Past], Lessons]) -> Lessons:
        def count() -> None:
            for name in {template.metadata.name for template in question.read_by.values()}:
                self._telemetry.queries.labels(name).inc()

        async with self._slots:
            past = await read_past(self._metrics, question, done=count, aside=self.aside)
            return await asyncio.get_running_loop().run_in_executor(self.aside, teach, past)

    def _answer(self, run: str, reading: _Reading, now: float) -> Lessons | str | None:
        if not reading.task.done() or reading.task.cancelled():
            return None
        error = reading.task.exception()
        if error is None:
            self._readings.pop(run)
            return reading.task.result()
        if reading.again is None and reading.failures < len(PAUSES):
            if not isinstance(error, UnavailableError):
                log.error("the control's past cannot be read", exc_info=error)
            reading.again = now + PAUSES[reading.failures]
            reading.failures += 1
        return f"the control's past cannot be read: {error}"
