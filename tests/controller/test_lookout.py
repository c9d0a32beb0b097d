"""When pods are looked at, and that nobody waits long for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from controller.lookout import AT_ONCE, PATIENCE, Lookout
from controller.ports import Ref
from tests.support.virtual_time import run
from tests.support.workloads import pod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.ports import Object

MANY = 3 * AT_ONCE
CRASHING = pod(waiting="CrashLoopBackOff", restarts=4)


class Pods:
    """A store that has pods, and may not answer; and a recorder of what fails."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.asked: list[str] = []
        self.failed: list[str] = []

    async def pods(self, namespace: str, _: Mapping[str, str]) -> list[Object]:
        self.asked.append(namespace)
        if self.silent:
            await asyncio.Event().wait()
        return [CRASHING]

    def failure(self, _kind: str, _text: str, about: str) -> None:
        self.failed.append(about)

    def recovered(self, *_: str) -> None:
        """Nothing is told of it."""


def coming(number: int) -> Any:
    """A rollout whose new candidate lacks pods."""
    key = f"ns{number:02}/ranker"
    interval = SimpleNamespace(seconds=5.0)
    spec = SimpleNamespace(decision=SimpleNamespace(interval=interval))
    return SimpleNamespace(
        key=key, ref=Ref("RolloutPolicy", key.partition("/")[0], "ranker"), run=None, unready=None,
        coming=SimpleNamespace(revision="r1", labels={"app": "ranker"}),
        entry=SimpleNamespace(policy=SimpleNamespace(spec=spec)), failing={},
    )  # fmt: skip


async def looked(looking: Lookout, now: float, rollouts: int = MANY) -> list[Any]:
    """Return rollouts after a look at their pods."""
    found = [coming(number) for number in range(rollouts)]
    await looking.look_after(found, now)
    return found


def test_all_lists_of_a_pass_together_have_the_time_of_one() -> None:
    """An API server that lists no pods must not hold up a rollback behind them, for each of many."""

    async def story() -> None:
        store: Any = Pods(silent=True)
        began = asyncio.get_running_loop().time()
        await looked(Lookout(store, store), 100.0)
        assert asyncio.get_running_loop().time() - began < PATIENCE + 1
        assert len(store.asked) == AT_ONCE
        assert len(store.failed) == AT_ONCE, "of whom nothing was asked, nothing is told"

    run(story())


def test_who_was_not_asked_about_is_the_first_at_the_next_pass() -> None:
    async def story() -> None:
        store: Any = Pods(silent=True)
        looking = Lookout(store, store)
        for now in (100.0, 105.0, 110.0):
            await looked(looking, now)
        assert store.asked == [f"ns{number:02}" for number in range(MANY)]

    run(story())


def test_what_was_found_holds_while_nothing_newer_is_known() -> None:
    async def story() -> None:
        store: Any = Pods(silent=False)
        looking, asked = Lookout(store, store), coming(0)
        await looked(looking, 100.0, 1)
        store.silent = True
        (later,) = await looked(looking, 105.0, 1)
        looking.remind([asked])
        assert later.failing.keys() == asked.failing.keys() == {"CrashLoop"}

    run(story())


async def test_of_another_revision_nothing_is_known_yet() -> None:
    store: Any = Pods(silent=False)
    looking, newer = Lookout(store, store), coming(0)
    await looked(looking, 100.0, 1)
    newer.coming.revision = "r2"
    looking.remind([newer])
    assert newer.failing == {}
