# SPDX-License-Identifier: LGPL-2.1-or-later
"""The header xensim.h, by which projects in C test on simulated hosts."""

import os
import signal
import subprocess

import pytest

from conftest import children, has_ended, program, wait_for


@pytest.fixture(name="environment")
def fixture_environment():
    return dict(os.environ, XENSIM=program("xensim"))


def test_the_example_in_c_passes(environment):
    done = subprocess.run([program("examples/xensim-test")], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stderr


def test_a_host_ends_with_a_test_in_c_that_is_killed(environment):
    with subprocess.Popen([program("examples/xensim-test")], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as test:
        hosts = wait_for(lambda: children(test.pid), "its host")
        test.send_signal(signal.SIGKILL)
    for pid in hosts:
        wait_for(lambda pid=pid: has_ended(pid), "the end of its host")


def test_without_xensim_there_is_an_error(environment):
    environment["XENSIM"] = "/nonexistent/xensim"
    done = subprocess.run([program("examples/xensim-test")], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 1 and done.stderr.startswith("/nonexistent/xensim: No such file")
