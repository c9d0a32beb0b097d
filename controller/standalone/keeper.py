"""The keeper: the small process under which Envoy and Prometheus run, so that they outlive the controller.

`python -m controller.standalone.keeper DIR` leaves a daemon of its own session behind and returns when its
control socket listens (or one runs already): neither SIGKILL of the controller nor Ctrl-C in its terminal
reaches it. There is one keeper per folder (flock). Its children end with it, also when it is killed: they are
started from its only thread, and the kernel ties them to that thread (`child.py`).

Control: one JSON request and one JSON reply, each a line, per connection to `.penstock/keeper.sock`:

    {"do": "status"}                     -> {"ok": true, "protocol", "pid", "children": [...]}
    {"do": "apply", "children": [spec]}  -> the same; starts, restarts and ends only what differs
    {"do": "restart", "name": NAME}      -> the same
    {"do": "stop"}                       -> {"ok": true} once every child has ended; then the keeper ends
    anything else                        -> {"ok": false, "error": "..."}

Standard library only and no threads: it stays below 20 MB and its children cannot lose their parent thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from controller.standalone.child import Child, ChildSpec, bound_log
from controller.standalone.layout import Layout, write_json

PROTOCOL = 1
"""Changes when a request or a reply does, so that a newer controller does not misread an older keeper."""

CLIENT_TIMEOUT_S = 2.0
REQUEST_BYTES = 1 << 20
LOCK_PATIENCE_S = 1.0
LONGEST_SLEEP_S = 10.0


class Keeper:
    """The loop: control requests in, children ticked, `keeper.json` kept up to date."""

    def __init__(self, layout: Layout, listener: socket.socket, wakeup: socket.socket) -> None:
        self.told_to_stop = False
        self._layout = layout
        self._children: dict[str, Child] = {}
        self._waiting_for_end: list[socket.socket] = []
        self._published: dict[str, dict[str, Any]] | None = None
        self._listener = listener
        self._wakeup = wakeup
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(wakeup, selectors.EVENT_READ)

    def run(self) -> None:
        """Keep the children until told to stop, then end them."""
        while True:
            if self.told_to_stop:
                for child in self._children.values():
                    child.want(None)
            due = self._tick()
            self._publish()
            if self.told_to_stop and not self._children:
                break
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                if key.fileobj is self._wakeup:
                    self._wakeup.recv(512)
                else:
                    self._serve()
        for connection in self._waiting_for_end:
            reply(connection, {"ok": True})

    def _tick(self) -> float:
        now = time.monotonic()
        due = min([child.tick(now) for child in self._children.values()], default=now + LONGEST_SLEEP_S)
        self._children = {name: child for name, child in self._children.items() if child.state != "stopped"}
        bound_log(self._layout.logs / "keeper.log")
        return due

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            connection.settimeout(CLIENT_TIMEOUT_S)
            request = json.loads(connection.makefile("rb").readline(REQUEST_BYTES))
        except (OSError, ValueError) as error:
            say(f"a control connection failed: {error}")
            return
        try:
            self._do(request)
        except (LookupError, TypeError, ValueError) as error:
            reply(connection, {"ok": False, "error": f"bad request: {error!r}"})
        else:
            if request["do"] == "stop":
                self._waiting_for_end.append(connection)
            else:
                reply(connection, self._report())

    def _do(self, request: dict[str, Any]) -> None:
        match request["do"]:
            case "status":
                pass
            case "apply" if not self.told_to_stop:
                self._apply([ChildSpec.from_json(value) for value in request["children"]])
            case "restart" if not self.told_to_stop:
                self._children[request["name"]].restart()
            case "stop":
                self.told_to_stop = True
            case unknown:
                raise ValueError(f"cannot do {unknown!r}{' while ending' if self.told_to_stop else ''}")

    def _apply(self, specs: list[ChildSpec]) -> None:
        wanted = {spec.name: spec for spec in specs}
        for name, child in self._children.items():
            child.want(wanted.get(name))
        for name, spec in wanted.items():
            if name not in self._children:
                self._children[name] = Child(spec, self._layout.logs / f"{name}.log")

    def _report(self) -> dict[str, Any]:
        statuses = [child.status() for child in self._children.values()]
        return {"ok": True, "protocol": PROTOCOL, "pid": os.getpid(), "children": statuses}

    def _publish(self) -> None:
        statuses = {name: child.status() for name, child in self._children.items()}
        if statuses == self._published:
            return
        before = self._published or {}
        for name, status in statuses.items():
            if status != before.get(name):
                say(describe(status))
        self._published = statuses
        if self.told_to_stop:
            return  # the table stays as it was, since it remembers the ports
        pid = os.getpid()
        table = {"pid": pid, "startTime": start_time(pid), "children": list(statuses.values())}
        try:
            write_json(self._layout.keeper, table)
        except OSError as error:  # a full disk must not end the data plane
            say(f"cannot write {self._layout.keeper}: {error}")


def say(line: str) -> None:
    """Write a line of the keeper's log; a disk that takes none is no reason to stop."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")
        sys.stderr.flush()


def reply(connection: socket.socket, answer: dict[str, Any]) -> None:
    """Send one line and close; a client that has gone is no concern of the keeper."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(json.dumps(answer).encode() + b"\n")


def describe(status: dict[str, Any]) -> str:
    """Return one line of the keeper's log."""
    last = f", last: {status['lastExit']}" if status["lastExit"] else ""
    return f"{status['name']}: {status['state']} pid={status['pid']} restarts={status['restarts']}{last}"


def start_time(pid: int) -> int | None:
    """Return when a living process started, in clock ticks since boot (proc(5), field 22), else None.

    A pid alone may have been given to another process since; with its start time it is unique.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])  # an ended one stays visible until its parent looks


def take_lock(layout: Layout) -> int | None:
    """Return the descriptor of this folder's lock, or None when another keeper holds it."""
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + LOCK_PATIENCE_S  # a keeper that is just ending lets go in a moment
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(lock)
                return None
            time.sleep(0.02)
        else:
            return lock


def listen(layout: Layout) -> socket.socket:
    """Return the listening control socket. Its address is relative, since AF_UNIX allows 107 bytes only."""
    os.chdir(layout.state)
    layout.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(layout.socket.name)
    listener.listen(16)
    return listener


def leave_terminal(layout: Layout) -> None:
    """Become the leader of a new session; input from nowhere, output to the keeper's log."""
    os.setsid()
    os.umask(0o077)
    log = os.open(layout.logs / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def serve(layout: Layout, listener: socket.socket) -> None:
    """Run the keeper in this process until it is told to stop."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # Envoy needs two for each request in flight
    wakeup, signalled = socket.socketpair()
    wakeup.setblocking(False)
    signalled.setblocking(False)
    signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    keeper = Keeper(layout, listener, wakeup)

    def stop(_number: int, _frame: object) -> None:
        keeper.told_to_stop = True

    signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    keeper.run()


def main(arguments: list[str]) -> int:
    """Start the keeper of a folder in the background; 0 also when it runs already."""
    layout = Layout(Path(arguments[0]))
    layout.create()
    lock = take_lock(layout)
    if lock is None:
        return 0
    listener = listen(layout)
    if os.fork():
        return 0  # the child shares the lock, so it stays taken
    leave_terminal(layout)
    serve(layout, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
