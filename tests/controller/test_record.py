"""Telling: once for each thing that is new, never in the way of the loop, and with a bounded memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from controller import latest
from controller.news import News
from controller.ports import ConflictError, NotFoundError, Ref, UnavailableError
from controller.record import Recorder
from controller.telemetry import Telemetry

REF = Ref("RolloutPolicy", "ml", "ranker")


class Events:
    """A store of which only the events are asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.told = error, list[tuple[str, ...]]()

    async def event(self, ref: Ref, *words: str) -> None:
        if self.error:
            raise self.error
        self.told.append((str(ref), *words))


def recorder(store: Any) -> Recorder:
    return Recorder(store, Telemetry(), News())


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("no answer"),
        NotFoundError('namespaces "ml" not found'),
        ConflictError("it was counted meanwhile"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
)
async def test_an_event_that_cannot_be_written_never_stops_whoever_tells(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await recorder(Events(error)).warn(REF, "ActionIgnored", "what you asked for will not happen")
    assert str(error) in caplog.text


async def test_what_stays_so_is_told_once_until_it_is_another_thing_or_over() -> None:
    store = Events()
    telling = recorder(store)
    for words in ("a", "a", "b", "b", "", "b"):
        await telling.warn_once(REF, "ActionIgnored", words)
    assert [told[-1] for told in store.told] == ["a", "b", "b"]


async def test_what_was_told_is_remembered_of_a_bounded_number_of_places(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(latest, "REMEMBERED", 3)
    telling = recorder(Events())
    with caplog.at_level(logging.WARNING):
        for name in ("lively", "a", "lively", "b", "lively", "c", "lively", "a"):
            telling.failure("internal", "it cannot be read", name)
    assert [line.getMessage().split()[1] for line in caplog.records] == ["lively:", "a:", "b:", "c:", "a:"]


async def test_a_rollout_that_is_gone_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    telling = recorder(Events())
    for _ in range(2):
        telling.failure("store", "no answer", "ml/ranker")
        telling.failure("store", "no answer", "ml/other")
        telling.forget("ml/ranker")
    assert [line.getMessage().split()[1] for line in caplog.records] == [
        "ml/ranker:",
        "ml/other:",
        "ml/ranker:",
    ]
