# SPDX-License-Identifier: LGPL-2.1-or-later
"""Simulated Xen hosts in the tests of your project, with pytest or without.

In conftest.py: `pytest_plugins = ["xensim"]`. Then a test has the fixture `xen_host`, a host of its own with domain 0 and the guests
1 and 2, or makes others by `make_xen_host(guests=5)`. Whatever a test leaves there is killed at its end, and a kernel that would have
complained fails it.

    def test_a_guest_says_hello(xen_host):
        xen_host.run(1, "xenstore-write", "data/hello", "world")
        assert xen_host.run(0, "xenstore-read", "/local/domain/1/data/hello") == "world\n"

Without pytest: `with Host(guests=2) as host: ...`. It needs the command xensim and nothing else; the environment's XENSIM names
another one than the one on the PATH.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time

__all__ = ["Host", "XensimError"]


class XensimError(Exception):
    """What xensim has said on stderr."""


def _command():
    return os.environ.get("XENSIM", "xensim")


def _base():
    # A short path, since sockets' names are bounded, and in memory, since a host has many small files.
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if base and len(base) < 40 and os.access(base, os.W_OK | os.X_OK):
            return base
    return "/tmp"


class Host:
    """A simulated host. Its end is that of all that runs there. store: whose XenStore it has, oxenstored's or xenstored's."""

    def __init__(self, guests=2, store="oxenstored"):
        self.dir = tempfile.mkdtemp(prefix="xensim-", dir=_base())
        self.environment = dict(os.environ, XENSIM_DIR=self.dir)
        self._processes = []
        try:
            self.xensim("start", "--domains", guests, "--store", store)
        except BaseException:
            shutil.rmtree(self.dir, ignore_errors=True)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def xensim(self, *words):
        """Runs a command of xensim(1), and returns what it prints: `host.xensim("pause", 1)`."""
        done = subprocess.run([_command(), *map(str, words)], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise XensimError(done.stderr.strip() or f"xensim {words[0]} failed with {done.returncode}")
        return done.stdout

    def popen(self, domid, *command, **options):
        """Starts a program in a domain: the arguments of subprocess.Popen, which it returns."""
        process = subprocess.Popen([_command(), "exec", str(domid), "--", *map(str, command)], env=self.environment, **options)
        self._processes.append(process)
        return process

    def run(self, domid, *command, timeout=60, **options):
        """Runs a program in a domain to its end, and returns what it prints; subprocess.CalledProcessError if it fails."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([_command(), "exec", str(domid), "--", *map(str, command)], env=self.environment, timeout=timeout,
                              stdout=subprocess.PIPE, text=True, check=True, **options).stdout

    def create(self, *options):
        """Makes one more guest: `host.create("--type", "pv")`. Returns its domid."""
        return int(self.xensim("create", *options))

    def fault(self, kind, domid, *value):
        """Lets something go wrong: `host.fault("refuse-grant", 1, 2)`."""
        self.xensim("fault", kind, domid, *value)

    def state(self):
        """All that `xensim list --json` tells."""
        return json.loads(self.xensim("list", "--json"))

    def domain(self, domid):
        """What it tells of one domain, or None."""
        return next((domain for domain in self.state()["domains"] if domain["domid"] == domid), None)

    def wait_for(self, condition, what="what the test waits for", timeout=30):
        """Waits until condition() is true, and returns its value."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"{what} has not come in {timeout} s")
            time.sleep(0.01)
        return value

    def stop(self):
        """Ends the host, and returns what a real guest's kernel would have complained about, line by line."""
        if not self.dir:
            return []
        complaints = self.state()["kernel_log"]
        self.xensim("stop")
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = None
        return complaints


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def make_xen_host():
        """Makes hosts, of any size, for one test."""
        hosts = []

        def make(guests=2, store="oxenstored"):
            hosts.append(Host(guests, store))
            return hosts[-1]

        yield make
        complaints = [line for host in hosts for line in host.stop()]
        assert not complaints, "a guest's kernel would have complained: " + "; ".join(complaints)

    @pytest.fixture
    def xen_host(make_xen_host):  # pylint: disable=redefined-outer-name
        """A host with domain 0 and the guests 1 and 2."""
        return make_xen_host()
