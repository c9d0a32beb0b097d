"""A real Prometheus that holds a past which a test has made up."""

import subprocess
import time
import urllib.error
import urllib.request

import pytest

from controller.standalone.listening import pick_port
from controller.standalone.programs import MissingBinaryError
from controller.standalone.prometheus_server import prometheus_binary

PATIENCE_SECONDS = 90


def prometheus_with(exposition, folder):
    """A real Prometheus whose blocks hold an OpenMetrics text; skips where there is none."""
    try:
        binary = prometheus_binary()
    except MissingBinaryError as error:
        pytest.skip(str(error))
    promtool = binary.with_name("promtool")
    if not promtool.exists():
        pytest.skip("no promtool beside the Prometheus of this machine")
    folder.mkdir()
    (folder / "past.om").write_text(exposition)
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", "past.om", "data"],
        cwd=folder, check=True, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    return Running(binary, folder)


class Running:
    """A Prometheus on a free port of loopback, as a context; it keeps what is years old."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.port = binary, folder, pick_port()

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{self.port}"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        url, deadline = f"http://127.0.0.1:{self.port}", time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=PATIENCE_SECONDS):
                    return url
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
        self.__exit__()
        raise AssertionError("Prometheus is not ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
