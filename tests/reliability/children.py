"""Real child processes of tests: fresh, offline, one thread each unless asked, and never waited for without end."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]


def started(code, *arguments, threads=1, within=(), **environment):
    """A Python process that runs ``code``, perhaps ``within`` another command; it leads a group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)} | environment
    command = [*within, sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def ended(child, *, timeout=120):
    """Its exit status, what it printed and what it complained of."""
    try:
        shown, complaints = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        shown, complaints = child.communicate()
        raise AssertionError(f"still running after {timeout} s: {complaints}") from None
    return child.returncode, shown, complaints


def is_gone(child, *, timeout=30):
    """Whether nothing is left of its group; what is left after so many seconds is killed."""
    until = time.monotonic() + timeout
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(child.pid, 0)
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGKILL)
        return False
    return True


def run(code, *arguments, timeout=120, **options):
    """What ``code`` prints, as a process of its own that must end well."""
    status, shown, complaints = ended(started(code, *arguments, **options), timeout=timeout)
    assert status == 0, complaints
    return shown
