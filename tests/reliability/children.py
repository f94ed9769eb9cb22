"""Real child processes of tests: fresh, offline, one thread each unless asked, and never waited for without end."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def started(code, *arguments, threads=1, within=(), **environment):
    """A Python process that runs ``code``, perhaps ``within`` another command."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)} | environment
    command = [*within, sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(child, *, timeout=120):
    """Its exit status, what it printed and what it complained of."""
    try:
        shown, complaints = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        shown, complaints = child.communicate()
        raise AssertionError(f"still running after {timeout} s: {complaints}") from None
    return child.returncode, shown, complaints


def run(code, *arguments, timeout=120, **options):
    """What ``code`` prints, as a process of its own that must end well."""
    status, shown, complaints = ended(started(code, *arguments, **options), timeout=timeout)
    assert status == 0, complaints
    return shown
