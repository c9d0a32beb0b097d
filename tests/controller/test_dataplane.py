"""The data plane follows the objects whatever happens on the way; Envoy's files are a fake here."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from controller.ports import Applied, ConflictError
from controller.standalone import dataplane
from controller.standalone.dataplane import EnvoyDataPlane
from controller.standalone.store import LocalStore
from istio.envoy.translate import Options
from tests.support.mesh import entry, rule, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Files:
    """Takes every translation; fails first, if told to."""

    def __init__(self) -> None:
        self.applied_versions: list[dict[str, str]] = []
        self.failure: Exception | None = None

    async def apply(self, translation: Any) -> None:
        if self.failure:
            raise self.failure
        self.applied_versions.append(translation.versions)

    async def applied(self, _obj: Any) -> Applied:
        return Applied(ok=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    store = await LocalStore.open(tmp_path / "store.db")
    for obj in (entry(endpoints=[(9001, "v1"), (9002, "v2")]), rule(), split(100, 0)):
        await store.put(obj, manager="folder")
    yield store
    await store.close()


@asynccontextmanager
async def running(plane: EnvoyDataPlane) -> AsyncIterator[None]:
    task = asyncio.create_task(plane.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is not ours to signal
            await asyncio.sleep(0.01)


async def test_a_failure_of_any_kind_is_told_and_tried_again(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dataplane, "REJECTED_RETRY_SECONDS", 0.01)
    files = Files()
    files.failure = OSError(28, "No space left on device")
    plane = EnvoyDataPlane(store, files, Options(folder="/etc/envoy"))  # type: ignore[arg-type]
    async with running(plane):
        await until(lambda: "No space left on device" in plane.problem)
        files.failure = None
        await until(lambda: files.applied_versions)
        await until(lambda: not plane.problem)
    assert "cannot be brought to Envoy" in caplog.text


async def test_a_watch_that_fell_behind_starts_again_with_all_objects(store: LocalStore) -> None:
    files = Files()
    plane = EnvoyDataPlane(store, files, Options(folder="/etc/envoy"))  # type: ignore[arg-type]
    watch, behind = store.watch, 1

    async def falling_behind(*args: Any) -> AsyncIterator[Any]:
        nonlocal behind
        async with aclosing(watch(*args)) as changes:
            async for change in changes:
                if behind:
                    behind -= 1
                    raise ConflictError("the changes are not known any more: list again")
                yield change

    store.watch = falling_behind  # type: ignore[assignment, method-assign]
    async with running(plane):
        await until(lambda: files.applied_versions)
        for weight in (1, 2):
            await store.put(split(100 - weight, weight), manager="folder")
            version = await store.version()
            await until(lambda: version in files.applied_versions[-1].values())  # noqa: B023
    assert not behind
