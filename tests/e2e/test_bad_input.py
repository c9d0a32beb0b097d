"""Bad manifests, at the start and in the middle of a run: said in words, refused, without consequences."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import yaml

from tests.support.standalone import Standalone, policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

NOT_YAML = "kind: [RolloutPolicy\n  :::\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standalone]:
    async with Standalone(tmp_path_factory.mktemp("input")) as stack:
        yield stack


def typo(stack: Standalone) -> tuple[str, str, tuple[str, ...]]:
    text = stack.read("policy.yaml").replace("falseRollback", "falseRolback")
    line = next(at for at, line in enumerate(text.splitlines(), 1) if "falseRolback" in line)
    return "policy.yaml", text, ("policy.yaml", f"'line': {line}", "falseRolback", "falseRollback")


def unknown_subset(stack: Standalone) -> tuple[str, str, tuple[str, ...]]:
    text = stack.read("policy.yaml").replace("subset: v2", "subset: v3")
    return "policy.yaml", text, ("policy.yaml", "v3", "DestinationRule")


def two_policies(_: Standalone) -> tuple[str, str, tuple[str, ...]]:
    return "second.yaml", yaml.safe_dump(policy(name="second")), ("second", "ranker", "route")


def not_yaml(_: Standalone) -> tuple[str, str, tuple[str, ...]]:
    return "notes.yaml", NOT_YAML, ("notes.yaml", "YAML")


@pytest.mark.parametrize("mistake", [typo, unknown_subset, two_policies, not_yaml])
async def test_a_bad_file_in_the_middle_of_a_run_is_named_and_changes_nothing(
    stack: Standalone, mistake: Callable[[Standalone], tuple[str, str, tuple[str, ...]]]
) -> None:
    run, weights = await stack.under_way(), await stack.weights()
    name, text, words = mistake(stack)
    before = stack.read(name) if (stack.folder / name).exists() else None
    stack.write(name, text)
    await stack.until_found("error", *words)
    await stack.flowing()
    assert await stack.run() == run
    assert await stack.weights() == weights
    assert name in stack.said()
    put_back(stack, name, before)
    await stack.eventually(lambda: good_again(stack), "no more findings")
    assert await stack.run() == run
    assert stack.load.lost == {}


async def test_weights_that_do_not_sum_to_100_are_named_and_set_right(stack: Standalone) -> None:
    run, weights = await stack.under_way(), await stack.weights()
    text = stack.read("route.yaml")
    stack.write("route.yaml", text.replace("weight: 0", "weight: 20"))
    await stack.until_found("route.yaml", "do not sum to 100", "120")
    await stack.until_event("DriftCorrected", "folder changed the weights to stable 100%, candidate 20%")
    await stack.under_way()
    assert await stack.weights() == weights
    assert (await stack.run()).id == run.id
    stack.write("route.yaml", text)
    await stack.eventually(lambda: good_again(stack), "no more findings")
    assert stack.load.lost == {}


async def test_a_run_can_be_aborted_while_a_file_is_bad(stack: Standalone) -> None:
    await stack.under_way()
    stack.write("notes.yaml", NOT_YAML)
    await stack.until_found("notes.yaml")
    await stack.abort()
    put_back(stack, "notes.yaml", None)
    await stack.fresh_run()
    assert stack.load.lost == {}


async def test_what_is_good_at_the_start_works_and_the_rest_starts_when_it_is_put_right(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with Standalone(tmp_path_factory.mktemp("start"), start=False) as stack:
        good = copy.deepcopy(stack.policy)
        _, text, _ = typo(stack)
        stack.write("policy.yaml", text)
        stack.write("notes.yaml", NOT_YAML)
        await stack.up()
        assert "falseRollback" in stack.said()
        assert "notes.yaml" in stack.said()
        async with stack.load:
            await stack.flowing()
            assert await stack.weights() == [100, 0]
            assert (await stack.get("/v1/rollouts"))["items"] == []
            stack.write("policy.yaml", good)
            await stack.under_way()
            assert stack.load.lost == {}


def put_back(stack: Standalone, name: str, text: str | None) -> None:
    if text is None:
        (stack.folder / name).unlink()
    else:
        stack.write(name, text)


async def good_again(stack: Standalone) -> Any:
    return not await stack.findings()
