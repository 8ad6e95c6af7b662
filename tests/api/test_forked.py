"""What the web process computes once, in a process of its own, before it serves."""

import subprocess
import sys

import pytest

from api import forked

FUNCTION = """
import sys
from api import forked

def function():
    {}

print(forked.compute(function))
"""


def test_what_a_function_returns_comes_back_whole():
    assert forked.compute(lambda: b"x" * 1_000_000) == b"x" * 1_000_000


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [("sys.exit(2)", 2, b""), ("raise ValueError('no')", 1, b"ValueError: no\n")],
)
def test_a_process_ends_as_what_it_computes_there_ends(root, line, status, error):
    command = [sys.executable, "-c", FUNCTION.format(line)]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (status, b"")
    assert done.stderr.endswith(error)


def test_what_a_process_has_printed_is_printed_once(root):
    line = "print('before'); forked.compute(lambda: None); print('after')"
    command = [sys.executable, "-c", f"from api import forked; {line}"]
    assert subprocess.run(command, cwd=root, capture_output=True, check=True).stdout == b"before\nafter\n"
