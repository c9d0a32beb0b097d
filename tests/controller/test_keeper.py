"""One child's life on an injected clock, and the keeper as a real process.

The controller's side (start, adopt, stop, ports) is covered in test_processes.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.standalone import child as child_module
from controller.standalone import keeper as keeper_module
from controller.standalone.child import Backoff, Child, ChildSpec, bound_log, exit_words, probe, tail
from controller.standalone.control import KeeperError, ask, keeper_pid
from controller.standalone.keeper import start_time
from controller.standalone.layout import Layout
from controller.standalone.listening import pick_port
from controller.standalone.processes import DataPlaneProcesses
from tests.support.processes import alive, of_folder, script, server, until

SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@pytest.fixture
def make_child(tmp_path):
    """Children that are ended with the test."""
    made: list[Child] = []

    def make(code: str) -> Child:
        made.append(Child(script("child", code, port=1), tmp_path / "child.log"))
        return made[-1]

    yield make
    for child in made:
        if child.status()["pid"]:
            child._process.kill()
            child._process.wait()


@pytest.fixture
def answers(monkeypatch):
    """What every probe finds: an HTTP status or None."""
    found: list[int | None] = [None]
    monkeypatch.setattr(child_module, "probe", lambda _url: found[0])
    return found


def wait_for_end(child: Child) -> None:
    child._process.wait()


# --- waiting and words ---


def test_the_wait_doubles_from_a_fifth_of_a_second_to_ten_seconds():
    backoff = Backoff()
    assert [backoff.next() for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    backoff.reset()
    assert backoff.next() == 0.2


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "killed by signal 9 (Killed)"),
        (-35, "killed by signal 35"),
    ],
)
def test_an_end_is_told_in_words(code, words):
    assert exit_words(code).startswith(words)


def test_the_tail_holds_the_last_lines_since_the_start(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("of an earlier life\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.writelines(f"line {number}\n\n" for number in range(20))
    assert tail(log, start) == [f"line {number}" for number in range(12, 20)]
    assert tail(log, log.stat().st_size) == []


def test_the_tail_of_a_log_that_was_cut_meanwhile_is_what_is_left(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("short\n")
    assert tail(log, 10_000) == ["short"]
    assert tail(tmp_path / "none.log", 0) == []


def test_a_log_beyond_its_bound_is_moved_and_its_writer_goes_on_in_the_new_one(tmp_path):
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 101)
        bound_log(log, limit=101)
        assert log.stat().st_size == 101
        writer.write(b"y")
        bound_log(log, limit=101)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 101 + b"y"


@pytest.mark.real
@pytest.mark.parametrize(
    ("reply", "expected"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", 200), (b"HTTP/1.1 503 No\r\n\r\n", 503), (b"hello\r\n", None), (b"", None)],
)
def test_a_probe_tells_ready_from_alive_from_silent(reply, expected, monkeypatch):
    monkeypatch.setattr(child_module, "PROBE_TIMEOUT_S", 60)
    code = SERVER_WITH_REPLY.format(reply=reply)
    port = pick_port()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, str(port)], stdout=subprocess.PIPE
    ) as process:
        try:
            process.stdout.readline()
            assert probe(f"http://127.0.0.1:{port}/ready") == expected
        finally:
            process.kill()
    assert probe(f"http://127.0.0.1:{port}/ready") is None


SERVER_WITH_REPLY = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("up", flush=True)
    connection, _ = server.accept()
    connection.recv(4096)
    connection.sendall({reply})
    connection.close()
"""


# --- one child on an injected clock ---


@pytest.mark.real
def test_a_child_that_ends_is_started_again_only_when_its_wait_is_over(make_child, answers):
    child = make_child("print('port is taken'); raise SystemExit(3)")
    now = 100.0
    for failures, wait in ((1, 0.2), (2, 0.4), (3, 0.8)):
        child.tick(now)
        wait_for_end(child)
        assert child.tick(now) == pytest.approx(now + wait)
        assert child.tick(now + 0.9 * wait) == pytest.approx(now + wait)
        status = child.status()
        assert (status["state"], status["pid"]) == ("waiting", None)
        assert (status["failures"], status["restarts"]) == (failures, failures)
        assert (status["lastExit"], status["lastLines"]) == ("exit status 3", ["port is taken"])
        now += wait


@pytest.mark.real
@pytest.mark.parametrize(("healthy_for", "wait"), [(29.0, 0.4), (30.0, 0.2)])
def test_the_wait_starts_anew_after_thirty_healthy_seconds(make_child, answers, healthy_for, wait):
    child = make_child(SLEEP)
    answers[0] = 200
    child.tick(0.0)
    child._process.kill()
    wait_for_end(child)
    assert child.tick(1.0) == pytest.approx(1.2)
    child.tick(1.2)
    child.tick(2.0)
    assert child.status()["state"] == "ready"
    child.tick(2.0 + healthy_for)
    child._process.kill()
    wait_for_end(child)
    assert child.tick(40.0) == pytest.approx(40.0 + wait)


@pytest.mark.real
def test_a_child_that_was_ready_and_answers_no_more_is_killed_in_the_end(make_child, answers):
    child = make_child(SLEEP)
    child.tick(0.0)
    answers[0] = 200
    child.tick(1.0)
    answers[0] = None
    for second in range(2, 61):
        child.tick(float(second))
    assert child.status()["state"] == "unready"
    assert child._process.poll() is None
    child.tick(61.0)
    wait_for_end(child)
    child.tick(62.0)
    assert child.status()["lastExit"] == "killed, since it had stopped answering"


@pytest.mark.real
@pytest.mark.parametrize("answer", [503, None])
def test_a_child_that_needs_long_to_get_ready_is_left_alone(make_child, answers, answer):
    child = make_child(SLEEP)
    answers[0] = answer
    for tenth in range(1000):
        child.tick(tenth / 10)
    assert child.status()["state"] == "starting"
    assert child._process.poll() is None


@pytest.mark.real
def test_a_child_that_ignores_sigterm_is_killed_after_five_seconds(make_child, answers, tmp_path):
    child = make_child(STUBBORN)
    child.tick(0.0)
    while tail(tmp_path / "child.log", 0) != ["deaf"]:
        time.sleep(0.01)
    before = time.monotonic()
    child.want(None)
    after = time.monotonic()
    child.tick(before + 4.9)
    assert (child.status()["state"], child._process.poll()) == ("stopping", None)
    child.tick(after + 5.1)
    wait_for_end(child)
    child.tick(after + 5.2)
    assert child.status()["state"] == "stopped"


def test_a_program_that_is_not_there_is_a_failure_like_any_other(tmp_path):
    child = Child(ChildSpec("gone", (str(tmp_path / "gone"),), "http://127.0.0.1:1/"), tmp_path / "gone.log")
    child.tick(0.0)
    assert child.status()["state"] == "waiting"
    assert "could not be started" in child.status()["lastExit"]


# --- the keeper as a process ---


@pytest.mark.real
async def test_a_killed_child_is_started_again(layout):
    spec = server()
    processes = DataPlaneProcesses(layout)
    first = (await processes.ensure([spec])).children["server"]
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: not alive(first.pid))
    second = (await processes.ensure([spec])).children["server"]
    assert second.pid != first.pid
    assert (second.restarts, second.failures, second.ports) == (1, 0, spec.ports)
    assert second.last_exit == "killed by signal 9 (Killed)"
    assert "last: killed by signal 9" in (layout.logs / "keeper.log").read_text()


@pytest.mark.real
async def test_there_is_one_keeper_per_folder(layout):
    running = await DataPlaneProcesses(layout).ensure([server()])
    again = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "controller.standalone.keeper", str(layout.root)
    )
    assert await again.wait() == 0
    assert (await DataPlaneProcesses(layout).status()).pid == running.pid == keeper_pid(layout)


@pytest.mark.real
async def test_bad_requests_are_refused_in_words_and_the_keeper_goes_on(layout):
    running = await DataPlaneProcesses(layout).ensure([server()])
    for request in (
        {"do": "dance"},
        {"do": "apply"},
        {"do": "apply", "children": [{"argv": []}]},
        {},
        [],
        None,
    ):
        with pytest.raises(KeeperError, match="bad request"):
            await ask(layout, request)
    for garbage in (b"", b"\n", b"{", b"\xff\xfe\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(layout.socket))
            client.sendall(garbage)
    after = await DataPlaneProcesses(layout).status()
    assert (after.pid, after.children["server"].pid) == (running.pid, running.children["server"].pid)


@pytest.mark.real
async def test_a_child_with_an_impossible_spec_does_not_end_the_keeper(layout):
    good = server()
    running = await DataPlaneProcesses(layout).ensure([good])
    bad = {**server("bad").to_json(), "argv": [None, 1]}
    await ask(layout, {"do": "apply", "children": [good.to_json(), bad]})
    statuses = (await DataPlaneProcesses(layout).status()).children
    assert statuses["server"].pid == running.children["server"].pid
    assert "could not be started" in statuses["bad"].last_exit


@pytest.mark.real
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_keeper_and_its_children(layout, number):
    running = await DataPlaneProcesses(layout).ensure([server("one"), server("two")])
    os.kill(running.pid, number)
    await until(
        lambda: not of_folder(layout.root) and not any(alive(c.pid) for c in running.children.values())
    )
    assert await DataPlaneProcesses(layout).status() is None


@pytest.mark.real
async def test_a_folder_deeper_than_a_socket_address_may_be_long_works_too(layout):
    deep = Layout(layout.root / ("d" * 120))
    deep.root.mkdir()
    deep.create()
    running = await DataPlaneProcesses(deep).ensure([server()])
    assert running.ready
    assert await DataPlaneProcesses(deep).stop()


def proc_status(pid: int) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@pytest.mark.real
async def test_the_keeper_is_small(layout):
    running = await DataPlaneProcesses(layout).ensure([server()])
    facts = proc_status(running.pid)
    assert int(facts["VmRSS"].split()[0]) < 20_000
    assert int(facts["Threads"]) == 1


def test_a_start_time_tells_a_process_from_a_later_one_with_its_pid():
    assert start_time(os.getpid()) == start_time(os.getpid())
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""], stdin=subprocess.DEVNULL)
    assert start_time(process.pid) > start_time(os.getpid())
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but not looked after: a zombie
    assert start_time(process.pid) is None
    process.wait()
    assert start_time(process.pid) is None


def test_a_full_disk_does_not_end_the_keeper(tmp_path, monkeypatch, capsys):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper_module, "write_json", full)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as wakeup:
        keeper = keeper_module.Keeper(Layout(tmp_path), listener, wakeup)
        keeper._publish()
        keeper._selector.close()
    assert "No space left on device" in capsys.readouterr().err
