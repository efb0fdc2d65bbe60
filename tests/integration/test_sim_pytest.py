# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python module xensim, by which other projects test with pytest on simulated hosts."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import program
from messaging import SOURCES

SOURCE = pathlib.Path(SOURCES)
MODULES = os.environ.get("XENMSG_PYTHONDIR") or str(SOURCE / "bindings" / "python")
KERNEL_BUG = """
def test_closes_what_it_had_before_the_save(xen_host):
    program = "import ctypes as c; x = c.CDLL('libxenevtchn.so.1'); x.xenevtchn_open.restype = c.c_void_p;" \\
        "h = c.c_void_p(x.xenevtchn_open(None, 0)); assert x.xenevtchn_bind_unbound_port(h, 2) > 0; print(1, flush=True); input()"
    inside = xen_host.popen(1, "/usr/bin/python3", "-c", program, stdin=-1, stdout=-1)
    assert inside.stdout.readline() == b"1\\n"
    xen_host.xensim("suspend", 1)
    xen_host.xensim("resume", 1)
    inside.communicate(b"\\n")
"""


def pytest_in(directory, *words):
    """What the project there prints when it is tested, and the hosts that it has left."""
    hosts = directory / "hosts"
    hosts.mkdir()
    path = os.path.dirname(program("xensim")) + ":" + os.environ["PATH"]
    environment = dict(os.environ, XENSIM=program("xensim"), PATH=path, PYTHONPATH=MODULES, XDG_RUNTIME_DIR=str(hosts))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(directory)], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False, cwd=directory)
    return done, list(hosts.iterdir())


def test_the_examples_pass_and_leave_nothing(tmp_path):
    for file in (SOURCE / "examples/xensim-pytest").glob("*.py"):
        shutil.copy(file, tmp_path)
    done, left = pytest_in(tmp_path)
    assert done.returncode == 0 and ("5 passed" in done.stdout or "3 passed, 2 skipped" in done.stdout), done.stdout
    assert not left


def test_the_page_shows_a_test_that_passes(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["xensim"]\n')
    (tmp_path / "test_page.py").write_text(re.search(r"^```python\n(.*?)^```", (SOURCE / "doc/xensim.md").read_text(), re.M | re.S).group(1))
    done, left = pytest_in(tmp_path)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    assert not left


def test_what_a_kernel_would_complain_of_fails_a_test(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["xensim"]\n')
    (tmp_path / "test_bug.py").write_text(KERNEL_BUG)
    done, left = pytest_in(tmp_path)
    assert done.returncode == 1 and "kernel BUG: close of an event channel bound before the save" in done.stdout, done.stdout
    assert not left


def test_a_failed_test_leaves_no_host(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["xensim"]\n')
    (tmp_path / "test_fails.py").write_text(
        "def test_fails(make_xen_host):\n    make_xen_host(3).popen(3, 'sleep', '1000')\n    assert make_xen_host().run(9, 'true')\n")
    done, left = pytest_in(tmp_path)
    assert done.returncode == 1 and "no domain 9" in done.stdout + done.stderr, done.stdout
    assert not left


DAEMON = """
import pytest
import xensim

def test_a_daemon_answers_when_it_is_there(xen_host):
    for domid, allow in ((1, None), (2, "in*")):
        xen_host.daemon(domid, allow=allow)
    receiver = xen_host.popen(2, "xenmsg", "recv", "--count", "1", "inbox", stdout=-1, text=True)
    xen_host.run(1, "xenmsg", "send", "--wait", "2:inbox", "hello")
    assert receiver.communicate(timeout=60)[0] == "hello\\n"
    with pytest.raises(xensim.XensimError, match="has ended: "):
        xen_host.daemon(0, allow="x\\nnonsense")
"""


@pytest.mark.skipif(not os.access(os.path.join(os.environ.get("XENMSG_SBINDIR", ""), "xenmsgd"), os.X_OK), reason="on what is installed")
def test_a_daemon_is_ready_when_it_is_there(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["xensim"]\n')
    (tmp_path / "test_daemon.py").write_text(DAEMON)
    done, left = pytest_in(tmp_path)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    assert not left
