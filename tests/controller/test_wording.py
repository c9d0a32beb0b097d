"""Changes of the verdict's word alone are written now and then, all else at once, and the last always."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.conditions import with_conditions
from controller.decision import Case, Decision
from controller.inventory import Entry, Inventory, ref_of
from controller.news import News
from controller.record import Recorder
from controller.rollout import Rollout
from controller.status import Status
from controller.telemetry import Telemetry
from controller.view import rollout_view
from controller.wording import APART, only_rewords
from controller.writer import Writer
from tests.support.situations import NOW, judged, open_run, policy, world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.ports import Object, Ref

KINDS = ("Safe", "Undecided", "NoData", "Harmful", "Invalid")
Look = tuple[int, str, str]
"""Seconds since the look before, verdict, reason to hold."""


class Stored:
    """A store with one policy, which counts what is written."""

    def __init__(self) -> None:
        meta = {"name": "ranker", "namespace": "ml", "uid": "u", "generation": 1, "resourceVersion": "1"}
        spec = policy().model_dump(mode="json", by_alias=True, exclude_none=True)
        self.obj: Object = {**spec, "metadata": meta, "status": open_run().dump()}
        self.writes: list[tuple[float, Status, Status]] = []
        """When, what stood there before, and what was written."""
        self.now = NOW

    async def patch_status(self, ref: Ref, status: Object, *, resource_version: str) -> Object:
        self.writes.append((self.now, Status.of(self.obj), Status.model_validate(status)))
        meta = self.obj["metadata"] | {"resourceVersion": str(int(resource_version) + 1)}
        self.obj = {**self.obj, "metadata": meta, "status": status}
        return self.obj

    async def patch(self, *_: Any, **__: Any) -> Object:
        """Take the finalizer: of no interest here."""
        return self.obj


async def written(looks: Sequence[Look]) -> tuple[Stored, list[Status]]:
    """Return the store after looks at a run that holds, and what each would have written by itself."""
    store = Stored()
    inventory = Inventory(store, Mock())  # type: ignore[arg-type]
    writer = Writer(store, Recorder(store, Telemetry(), News()))  # type: ignore[arg-type]
    wanted = []
    for seconds, kind, reason in looks:
        store.now += seconds
        inventory._take(ref_of(store.obj), store.obj)
        entry: Entry = inventory.policies["ml/ranker"]
        decision = Decision("Hold", reason, "", entry.status, notable=False)
        case = Case(entry.policy, entry.status, world(), judged(kind), store.now)
        wanted.append(with_conditions(decision, case.world, case.judgement, now=store.now, generation=1))
        await writer.carry_out(Rollout(entry, Mock()), case, decision)
    return store, wanted


LOOKS = st.lists(
    st.tuples(
        st.integers(1, 20),
        st.sampled_from(KINDS) | st.sampled_from(KINDS[:2]),
        st.sampled_from(["Holding", "Holding", "ProvingSafety"]),
    ),
    min_size=1,
    max_size=60,
)


@given(LOOKS)
def test_words_alone_are_written_a_minute_apart_and_all_else_at_once(looks: list[Look]) -> None:
    async def told() -> None:
        store, wanted = await written(looks)
        words = [at for at, before, after in store.writes if only_rewords(before, after)]
        assert all(later - sooner >= APART for sooner, later in pairwise(words))
        last = Status.of(store.obj)
        assert last == wanted[-1] or only_rewords(last, wanted[-1])

    asyncio.run(told())


@given(LOOKS)
def test_when_it_turns_no_more_the_last_word_is_written_within_a_minute(looks: list[Look]) -> None:
    async def told() -> None:
        _, kind, reason = looks[-1]
        store, wanted = await written([*looks, *[(20, kind, reason)] * 4])
        assert Status.of(store.obj) == wanted[-1]
        assert store.writes[-1][0] <= store.now - 20, "then there is nothing left to write"

    asyncio.run(told())


async def test_a_clock_that_was_set_back_does_not_hold_words_back() -> None:
    turns = [(1, "Safe"), (1, "Undecided"), (1, "Safe"), (-7200, "Safe")]
    store, wanted = await written([(*turn, "Holding") for turn in turns])
    assert Status.of(store.obj) == wanted[-1]


@pytest.mark.parametrize("outcome", [None, "Promoted"])
def test_the_view_has_the_newest_word_of_an_open_run(outcome: str | None) -> None:
    status = open_run(outcome=outcome).model_copy(update={"verdict": "Undecided"}).dump()
    view = rollout_view({"status": {**status, "lastVerdict": {"kind": "Safe"}}})
    assert view.verdict == ("Undecided" if outcome else "Safe")
