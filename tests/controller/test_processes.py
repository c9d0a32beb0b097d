"""The data plane outlives its controller: started, adopted, changed and ended, with real processes.

Covered: every way a controller or a keeper can go, ports, children that fail, a real Envoy and Prometheus.
Not covered: what Envoy and Prometheus are told to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

import aiohttp
import pytest

from controller.standalone import processes as processes_module
from controller.standalone.control import KeeperError, NoKeeperError
from controller.standalone.envoy_server import envoy_binary, envoy_spec
from controller.standalone.layout import read_json, write_json
from controller.standalone.listening import LOOPBACK, holder, is_free, pick_port
from controller.standalone.processes import DataPlaneError, DataPlaneProcesses, PortTakenError
from controller.standalone.programs import MissingBinaryError
from controller.standalone.prometheus_server import prometheus_binary, prometheus_spec
from tests.support.processes import STARTER, alive, of_folder, script, server, until

FAILS = "import sys; print('cannot read the map', flush=True); sys.exit(7)"
FAILS_ONCE_TOLD = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
sys.exit("bind: address in use")
"""
NEVER_READY = "import time; time.sleep(600)"


@pytest.fixture
def processes(layout, monkeypatch):
    for patience in ("PORT_PATIENCE_S", "GONE_TIMEOUT_S"):  # a busy machine takes its time to end a process
        monkeypatch.setattr(processes_module, patience, 60.0)
    return DataPlaneProcesses(layout)


@pytest.fixture
def taken_port():
    """A loopback port on which this very process listens."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
async def start_controller(layout):
    """Start a controller of its own session that brings up specs; returns once they are ready."""
    started = []

    async def start(*specs):
        controller = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            STARTER,
            str(layout.root),
            json.dumps([spec.to_json() for spec in specs]),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        started.append(controller)
        assert await controller.stdout.readline() == b"up\n"
        return controller

    yield start
    for controller in started:
        if controller.returncode is None:
            controller.kill()
        await controller.communicate()


def pids(running):
    return {name: child.pid for name, child in running.children.items()}


# --- starting and adopting ---


@pytest.mark.real
async def test_a_second_ensure_adopts_what_runs(layout, processes):
    specs = [server("one"), server("two")]
    first = await processes.ensure(specs)
    second = await DataPlaneProcesses(layout).ensure(specs)
    assert (first.adopted, second.adopted) == (False, True)
    assert (second.pid, pids(second)) == (first.pid, pids(first))
    assert {child.state for child in second.children.values()} == {"ready"}


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
async def test_the_data_plane_outlives_its_controller(processes, start_controller, number):
    spec = server()
    controller = await start_controller(spec)
    before = await processes.status()
    os.killpg(controller.pid, number)  # the whole group, as a terminal does on Ctrl-C
    await controller.wait()
    after = await processes.status()
    assert (after.pid, pids(after)) == (before.pid, pids(before))
    assert pids(await processes.ensure([spec])) == pids(before)


@pytest.mark.real
async def test_two_controllers_at_once_get_one_keeper(layout):
    spec = server()
    one, two = await asyncio.gather(*(DataPlaneProcesses(layout).ensure([spec]) for _ in range(2)))
    assert (one.pid, pids(one)) == (two.pid, pids(two))


@pytest.mark.real
async def test_a_changed_spec_restarts_only_its_child(processes):
    kept, changed = server("kept"), server("changed", revision="a")
    before = await processes.ensure([kept, changed])
    after = await processes.ensure([kept, server("changed", port=changed.ports["web"], revision="b")])
    assert after.pid == before.pid
    assert pids(after)["kept"] == pids(before)["kept"]
    assert pids(after)["changed"] != pids(before)["changed"]
    assert after.children["changed"].restarts == 0  # it was asked for
    assert not alive(pids(before)["changed"])


@pytest.mark.real
async def test_what_is_no_longer_wanted_ends_and_what_is_new_starts(processes):
    kept, old, new = server("kept"), server("old"), server("new")
    before = await processes.ensure([kept, old])
    after = await processes.ensure([kept, new])
    assert set(after.children) == {"kept", "new"}
    assert pids(after)["kept"] == pids(before)["kept"]
    assert not alive(pids(before)["old"])


@pytest.mark.real
async def test_a_restart_on_demand_gives_a_new_process(processes):
    spec = server()
    before = await processes.ensure([spec])
    await processes.restart("server")
    after = await processes.ensure([spec])
    assert pids(after) != pids(before)
    with pytest.raises(KeeperError, match=r"refused: .*other"):
        await processes.restart("other")


# --- ending ---


@pytest.mark.real
async def test_stop_ends_everything_and_can_be_said_twice(layout, processes):
    running = await processes.ensure([server("one"), server("two")])
    assert await processes.stop() is True
    assert of_folder(layout.root) == {}
    assert not any(alive(pid) for pid in pids(running).values())
    assert await processes.status() is None
    assert await processes.stop() is False
    with pytest.raises(NoKeeperError):
        await processes.restart("one")


@pytest.mark.real
async def test_a_killed_keeper_takes_its_children_along_and_the_next_ensure_starts_anew(processes):
    spec = server()
    before = await processes.ensure([spec])
    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: not alive(before.pid) and not any(alive(pid) for pid in pids(before).values()))
    assert await processes.status() is None
    after = await processes.ensure([spec])
    assert not after.adopted
    assert after.pid != before.pid


@pytest.mark.real
async def test_a_keeper_that_is_just_being_killed_is_replaced_at_once(processes):
    spec = server()
    running = await processes.ensure([spec])
    for _ in range(5):
        os.kill(running.pid, signal.SIGKILL)  # and without waiting for its end
        before, running = running, await processes.ensure([spec])
        assert running.pid != before.pid
        await until(lambda: not alive(pids(before)["server"]))  # noqa: B023 - called in this turn


@pytest.mark.real
async def test_a_keeper_that_does_not_answer_is_told_and_can_be_stopped(processes, monkeypatch):
    running = await processes.ensure([server()])
    os.kill(running.pid, signal.SIGSTOP)
    monkeypatch.setattr(processes_module, "STOP_TIMEOUT_S", 0.2)
    with pytest.raises(KeeperError, match=rf"\(pid {running.pid}\) does not answer: `penstock down` ends it"):
        await processes_module.ask(processes._layout, {"do": "status"}, within=0.2)
    assert await processes.stop()
    await until(lambda: not any(alive(pid) for pid in pids(running).values()))


@pytest.mark.real
async def test_a_keeper_of_another_version_is_not_misread(processes, monkeypatch):
    await processes.ensure([server()])
    monkeypatch.setattr("controller.standalone.control.PROTOCOL", 2)
    with pytest.raises(KeeperError, match="another version"):
        await processes.status()
    assert await processes.stop()


async def test_a_stale_table_names_no_keeper(layout, processes):
    write_json(layout.keeper, {"pid": os.getpid(), "startTime": 1, "children": []})
    assert await processes.status() is None
    assert await processes.stop() is False


# --- ports ---


@pytest.mark.real
async def test_a_taken_port_is_named_with_its_process_and_nothing_is_started(
    layout, processes, taken_port, monkeypatch
):
    monkeypatch.setattr(processes_module, "PORT_PATIENCE_S", 0.0)
    with pytest.raises(PortTakenError) as caught:
        await processes.ensure([server("free"), server("prometheus", port=taken_port)])
    assert f"port {taken_port} (prometheus web) is already in use by " in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert of_folder(layout.root) == {}


@pytest.mark.real
async def test_a_port_that_another_process_took_in_the_last_moment_is_named(layout, processes, tmp_path):
    go, log = tmp_path / "go", layout.logs / "child.log"
    spec = script("child", FAILS_ONCE_TOLD, str(go), port=pick_port())
    starting = asyncio.ensure_future(processes.ensure([spec]))
    await until(log.exists)
    with socket.create_server((LOOPBACK, spec.ports["web"])):
        go.touch()
        with pytest.raises(DataPlaneError) as caught:
            await starting
    assert f"port {spec.ports['web']} (web) is already in use by" in str(caught.value)
    assert "\n    bind: address in use" in str(caught.value)


@pytest.mark.real
async def test_ports_are_remembered_while_it_runs_and_after_it_was_stopped(layout, processes):
    port = processes.port("server", "web")
    await processes.ensure([server("other"), server(port=port)])
    assert DataPlaneProcesses(layout).port("server", "web") == port
    await processes.stop()
    again = DataPlaneProcesses(layout)
    assert again.port("server", "web", preferred=pick_port()) == port
    assert again.port("server", "web", wanted=4711) == 4711
    assert again.port("server", "admin") != port


def test_a_remembered_port_that_somebody_else_has_by_now_is_given_up(layout, processes, taken_port):
    table = {"pid": os.getpid(), "startTime": 1, "children": [{"name": "a", "ports": {"web": taken_port}}]}
    write_json(layout.keeper, table)
    assert processes.port("a", "web") != taken_port


def test_a_preferred_port_is_given_when_it_is_free_only(taken_port):
    free = pick_port()
    assert pick_port(free) == free
    assert is_free(free)
    assert not is_free(taken_port)
    assert pick_port(taken_port) != taken_port


def test_the_holder_of_a_port_is_found(taken_port):
    assert holder(taken_port).endswith(f"(pid {os.getpid()})")
    assert holder(pick_port()) is None


def test_a_wildcard_listener_takes_the_loopback_port_too():
    with socket.create_server(("0.0.0.0", 0)) as listener:
        assert not is_free(listener.getsockname()[1])


# --- children that fail ---


@pytest.mark.real
async def test_a_child_that_ends_at_once_is_told_with_its_last_lines_and_nothing_stays(layout, processes):
    with pytest.raises(DataPlaneError) as caught:
        await processes.ensure([server("good"), script("bad", FAILS, port=pick_port())])
    assert "bad ends as soon as it is started (exit status 7)" in str(caught.value)
    assert "\n    cannot read the map" in str(caught.value)
    assert of_folder(layout.root) == {}


@pytest.mark.real
async def test_a_failing_newcomer_leaves_what_runs_alone(processes):
    good = server("good")
    before = await processes.ensure([good])
    with pytest.raises(DataPlaneError, match="bad ends as soon as"):
        await processes.ensure([good, script("bad", FAILS, port=pick_port())])
    assert pids(await processes.status())["good"] == pids(before)["good"]
    assert pids(await processes.ensure([good])) == pids(before)


@pytest.mark.real
async def test_a_child_that_does_not_get_ready_is_told_with_its_log(layout, processes):
    with pytest.raises(
        DataPlaneError, match=r"slow is not ready \(it is (starting|waiting)\); its log is .*slow\.log"
    ):
        await processes.ensure([script("slow", NEVER_READY, port=pick_port())], within=0.5)
    assert of_folder(layout.root) == {}


@pytest.mark.real
async def test_an_ensure_that_is_cancelled_ends_what_it_started(layout, processes):
    starting = asyncio.ensure_future(processes.ensure([script("slow", NEVER_READY, port=pick_port())]))
    await until(lambda: (read_json(layout.keeper) or {}).get("children"))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert of_folder(layout.root) == {}


@pytest.mark.real
async def test_an_ensure_that_is_cancelled_while_the_keeper_starts_leaves_no_keeper(layout, processes):
    starting = asyncio.ensure_future(processes.ensure([server()]))
    await until(lambda: any("standalone.keeper" in command for command in of_folder(layout.root).values()))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert of_folder(layout.root) == {}


@pytest.mark.real
async def test_a_keeper_that_cannot_start_says_why(layout, processes):
    layout.lock.mkdir()
    with pytest.raises(KeeperError, match="could not be started: IsADirectoryError"):
        await processes.ensure([server()])


# --- Envoy and Prometheus ---


def bootstrap(admin_port: int, port: int) -> dict:
    """An Envoy that answers 200 itself."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ]
        },
    }


def address(port: int) -> dict:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


class Client:
    """It asks without a break until it is ended, and keeps the status of every answer."""

    def __init__(self, url):
        self.statuses = []
        self._url, self._done = url, asyncio.Event()
        self._asking = asyncio.ensure_future(self._ask())

    async def _ask(self):
        async with aiohttp.ClientSession() as session:
            while not self._done.is_set():
                async with session.get(self._url) as answer:
                    self.statuses.append(answer.status)
                await asyncio.sleep(0.001)

    async def more(self):
        """Wait for some more answers, or for the first request that has none."""
        goal = len(self.statuses) + 50
        await until(lambda: len(self.statuses) >= goal or self._asking.done())

    async def end(self):
        self._done.set()
        await self._asking


@pytest.mark.real
async def test_envoy_answers_every_request_while_its_starter_is_killed_and_the_next_one_adopts(
    layout, processes, start_controller
):
    admin_port, port = pick_port(), pick_port()
    spec = envoy_spec(layout, bootstrap(admin_port, port), admin_port=admin_port, concurrency=1)
    controller = await start_controller(spec)
    envoy = pids(await processes.status())
    client = Client(f"http://{LOOPBACK}:{port}/")
    await client.more()
    controller.kill()
    await controller.wait()
    await client.more()
    assert pids(await processes.ensure([spec])) == envoy
    await client.more()
    await client.end()
    assert set(client.statuses) == {200}


@pytest.mark.real
async def test_envoy_says_what_it_does_not_accept_in_its_bootstrap(layout, processes):
    admin_port = pick_port()
    broken = {**bootstrap(admin_port, pick_port()), "clusterz": []}
    with pytest.raises(DataPlaneError, match=r"(?s)envoy ends as soon as it is started.*clusterz"):
        await processes.ensure([envoy_spec(layout, broken, admin_port=admin_port)])


@pytest.mark.real
async def test_prometheus_gets_ready_and_another_configuration_restarts_it(layout, processes):
    port = pick_port()
    specs = [
        prometheus_spec(layout, {"global": {"scrape_interval": interval}}, port=port)
        for interval in ("5s", "5s", "7s")
    ]
    before, same, after = [await processes.ensure([spec]) for spec in specs]
    assert pids(before) == pids(same) != pids(after)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/api/v1/status/config") as answer,
    ):
        assert "scrape_interval: 7s" in (await answer.json())["data"]["yaml"]


def test_a_bootstrap_is_part_of_what_makes_two_envoys_equal(layout, tmp_path):
    binary = tmp_path / "envoy"
    specs = [
        envoy_spec(layout, bootstrap(9901, port), admin_port=9901, binary=binary, concurrency=2)
        for port in (1, 1, 2)
    ]
    assert specs[0] == specs[1] != specs[2]
    assert specs[0].argv[0] == str(binary)
    assert specs[0].argv[-2:] == ("--concurrency", "2")
    assert read_json(layout.xds / "bootstrap.json") == bootstrap(9901, 2)


@pytest.fixture
def program(tmp_path):
    """A function that makes an executable file below the test's folder."""

    def make(*parts):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    return make


def test_prometheus_is_found_by_name_then_on_the_path_then_in_the_cache(program, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    named, found = program("own", "prom"), program("bin", "prometheus")
    cached = program("cache", "penstock", "prometheus", "usr", "bin", "prometheus")
    at_home = program("home", ".cache", "penstock", "prometheus", "usr", "bin", "prometheus")
    path, cache = {"PATH": str(found.parent)}, {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert prometheus_binary({"PENSTOCK_PROMETHEUS": str(named), **path, **cache}) == named
    assert prometheus_binary({**path, **cache}) == found
    assert prometheus_binary(cache) == cached
    assert prometheus_binary({}) == at_home


def test_envoy_is_found_by_name_then_in_the_wheel_then_on_the_path(program, monkeypatch):
    named, found = program("own", "envoy"), program("bin", "envoy")
    environment = {"PATH": str(found.parent)}
    assert envoy_binary({"PENSTOCK_ENVOY": str(named), **environment}) == named
    assert envoy_binary(environment).parts[-3:] == ("envoy", "_bin", "envoy")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert envoy_binary(environment) == found


def test_a_missing_program_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingBinaryError, match=r"no Envoy found: run `make setup`.*PENSTOCK_ENVOY"):
        envoy_binary({})
    with pytest.raises(MissingBinaryError, match=r"no Prometheus found: run `make setup`.*--prometheus-url"):
        prometheus_binary({})


@pytest.mark.parametrize(
    ("find", "variable"), [(envoy_binary, "PENSTOCK_ENVOY"), (prometheus_binary, "PENSTOCK_PROMETHEUS")]
)
def test_a_named_program_that_cannot_be_run_is_an_error_not_a_hint(tmp_path, find, variable):
    (tmp_path / "text").write_text("")
    for name in ("text", "missing", "."):
        with pytest.raises(MissingBinaryError, match=rf"\(from {variable}\) is not an executable file"):
            find({variable: str(tmp_path / name), "PATH": os.environ["PATH"]})
