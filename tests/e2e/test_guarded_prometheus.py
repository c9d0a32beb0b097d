"""`penstock run` and `penstock up` with a Prometheus that wants a token, a tenant and trust in its authority.

Both are asked by their health page whether Prometheus answers them; `run` needs no Kubernetes to say so. The
token is rotated while they run. What they say to the terminal has no secret in it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from cluster.access import write_kubeconfig
from controller.standalone.listening import pick_port
from tests.support.certificates import Authority
from tests.support.guarded_prometheus import GuardedPrometheus, guarded_prometheus
from tests.support.standalone import ROOT, Standalone
from tests.support.watched import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

FIRST, SECOND, TENANT = "first-token-of-all", "second-token-of-all", "tenant-of-ours"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def guarded(authority: Authority) -> Iterator[GuardedPrometheus]:
    with guarded_prometheus(authority.server()) as guarded:
        guarded.wants = {"Authorization": f"Bearer {FIRST}", "X-Scope-OrgID": TENANT}
        yield guarded


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(FIRST)
    return path


async def rotated(api: str, guarded: GuardedPrometheus, token: Path) -> None:
    """See that the token is good, is refused when it is old, and is good again when it was rotated."""
    async with aiohttp.ClientSession(api) as session:

        async def says(wanted: str) -> None:
            said = ""
            async with asyncio.timeout(PATIENCE):
                while not said.endswith(wanted):
                    await asyncio.sleep(0.1)
                    with suppress(aiohttp.ClientConnectionError):  # it does not serve yet
                        async with session.get("/healthz") as response:
                            said = (await response.json())["parts"]["prometheus"]

        await says("ok")
        guarded.wants = {"Authorization": f"Bearer {SECOND}", "X-Scope-OrgID": TENANT}
        await says(f"answers 401 Unauthorized; asked with the token from {token}, the header X-Scope-OrgID")
        await asyncio.to_thread(token.write_text, SECOND)
        await says("ok")


def assert_no_secret(said: str) -> None:
    assert "Penstock serves" in said
    assert not [secret for secret in (FIRST, SECOND, TENANT) if secret in said]


async def test_up_asks_with_the_token_of_the_moment(
    authority: Authority, guarded: GuardedPrometheus, token: Path, tmp_path: Path
) -> None:
    options = (
        "--prometheus-url", guarded.url, "--prometheus-token-file", str(token),
        "--prometheus-header", f"X-Scope-OrgID={TENANT}", "--prometheus-ca-file", str(authority.certificate),
    )  # fmt: skip
    async with Standalone(tmp_path, options=options, load=False) as stack:
        await rotated(stack.api, guarded, token)
        assert_no_secret(stack.said())


@asynccontextmanager
async def running(kubeconfig: Path, env: dict[str, str]) -> AsyncIterator[str]:
    """Run `penstock run` until the block ends; yields its address."""
    address = f"127.0.0.1:{pick_port()}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    options = ("--kubeconfig", str(kubeconfig), "--history-url", "none", "--api-address", address)
    with kubeconfig.with_name("log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller.cli", "run", *options), cwd=ROOT, env={**inherited, **env},
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://{address}"
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_run_asks_with_the_token_of_the_moment(
    authority: Authority, guarded: GuardedPrometheus, token: Path, tmp_path: Path
) -> None:
    env = {
        "PENSTOCK_PROMETHEUS_URL": guarded.url,
        "PENSTOCK_PROMETHEUS_TOKEN_FILE": str(token),
        "PENSTOCK_PROMETHEUS_HEADERS": f"X-Scope-OrgID={TENANT}\n",
        "PENSTOCK_PROMETHEUS_CA_FILE": str(authority.certificate),
    }
    nowhere = {"url": "https://127.0.0.1:1", "ca": authority.certificate, "token": "none"}
    async with running(write_kubeconfig(tmp_path / "kubeconfig", **nowhere), env) as api:
        await rotated(api, guarded, token)
    assert_no_secret((tmp_path / "log").read_text())
