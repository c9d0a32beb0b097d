"""Numpy is told to use one thread, in time and unless somebody chose another number."""

import os
import subprocess
import sys

from controller.threads import VARIABLE, use_one_thread


def test_one_thread_unless_somebody_says_otherwise(monkeypatch):
    monkeypatch.setenv(VARIABLE, "3")
    assert not use_one_thread()
    monkeypatch.delenv(VARIABLE)
    assert use_one_thread()
    assert not use_one_thread()


def test_the_command_line_says_so_before_numpy_is_there():
    told = f"print('numpy' in sys.modules, cli.os.environ.get('{VARIABLE}'))"
    seen = f"import sys, controller.cli as cli; cli.app = lambda: {told}; cli.main()"
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    run = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.split() == ["False", "1"]
