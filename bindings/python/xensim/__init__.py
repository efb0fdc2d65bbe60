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

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["Host", "XensimError"]

T = TypeVar("T")


class XensimError(Exception):
    """What xensim has said on stderr."""


def _command() -> str:
    return os.environ.get("XENSIM", "xensim")


def _base() -> str:
    # A short path, since sockets' names are bounded, and in memory, since a host has many small files.
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if base and len(base) < 40 and os.access(base, os.W_OK | os.X_OK):
            return base
    return "/tmp"


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return (file.read().splitlines() or [""])[-1]


class Host:
    """A simulated host. Its end is that of all that runs there. store: whose XenStore it has, oxenstored's or xenstored's."""

    def __init__(self, guests: int = 2, store: str = "oxenstored") -> None:
        self.dir: str | None = tempfile.mkdtemp(prefix="xensim-", dir=_base())
        self.environment = dict(os.environ, XENSIM_DIR=str(self.dir))
        self._processes: list[subprocess.Popen[Any]] = []
        try:
            self.xensim("start", "--domains", guests, "--store", store)
        except BaseException:
            shutil.rmtree(self.dir, ignore_errors=True)
            raise

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def xensim(self, *words: object) -> str:
        """Runs a command of xensim(1), and returns what it prints: `host.xensim("pause", 1)`."""
        done = subprocess.run([_command(), *map(str, words)], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise XensimError(done.stderr.strip() or f"xensim {words[0]} failed with {done.returncode}")
        return done.stdout

    def popen(self, domid: int | str, *command: object, **options: Any) -> subprocess.Popen[Any]:
        """Starts a program in a domain: the arguments of subprocess.Popen, which it returns."""
        process = subprocess.Popen([_command(), "exec", str(domid), "--", *map(str, command)], env=self.environment, **options)
        self._processes.append(process)
        return process

    def run(self, domid: int | str, *command: object, timeout: float = 60, **options: Any) -> str:
        """Runs a program in a domain to its end, and returns what it prints; subprocess.CalledProcessError if it fails."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return str(subprocess.run([_command(), "exec", str(domid), "--", *map(str, command)], env=self.environment, timeout=timeout,
                                  stdout=subprocess.PIPE, text=True, check=True, **options).stdout)

    def daemon(self, domid: int, *, allow: str | None = None, timeout: float = 60) -> subprocess.Popen[Any]:
        """Starts xenmsgd in a domain, and returns its process when it answers. allow: the endpoints there that all domains may
        reach, as a rule has them: "inbox", "in*, out", "*"."""
        home = os.path.join(str(self.dir), f"dom-{domid}")
        log, path = os.path.join(home, "xenmsgd.log"), os.path.join(home, "xenmsg.sock")
        if allow is not None:
            rules = os.path.join(home, "root/etc/xenmsg/policy.d")
            os.makedirs(rules, exist_ok=True)
            with open(os.path.join(rules, "xensim.conf"), "w", encoding="utf-8") as file:
                file.write(f"[rule]\nfrom = *\nto = {allow}\naction = allow\n")
        with open(log, "ab") as out:
            process = self.popen(domid, "xenmsgd", stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def answers() -> bool:
            if process.poll() is not None:
                raise XensimError(f"xenmsgd of domain {domid} has ended: {_last_line(log)}")
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(path) == 0

        self.wait_for(answers, f"xenmsgd of domain {domid}", timeout)
        return process

    def create(self, *options: object) -> int:
        """Makes one more guest: `host.create("--type", "pv")`. Returns its domid."""
        return int(self.xensim("create", *options))

    def fault(self, kind: str, domid: int, *value: object) -> None:
        """Lets something go wrong: `host.fault("refuse-grant", 1, 2)`."""
        self.xensim("fault", kind, domid, *value)

    def state(self) -> Any:
        """All that `xensim list --json` tells."""
        return json.loads(self.xensim("list", "--json"))

    def domain(self, domid: int) -> Any:
        """What it tells of one domain, or None."""
        return next((domain for domain in self.state()["domains"] if domain["domid"] == domid), None)

    def wait_for(self, condition: Callable[[], T], what: str = "what the test waits for", timeout: float = 30) -> T:
        """Waits until condition() is true, and returns its value."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > end:
                raise TimeoutError(f"{what} has not come in {timeout} s")
            time.sleep(0.01)
        return value

    def stop(self) -> list[str]:
        """Ends the host, and returns what a real guest's kernel would have complained about, line by line."""
        if not self.dir:
            return []
        complaints: list[str] = self.state()["kernel_log"]
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
    def make_xen_host() -> Iterator[Callable[..., Host]]:
        """Makes hosts, of any size, for one test."""
        hosts: list[Host] = []

        def make(guests: int = 2, store: str = "oxenstored") -> Host:
            hosts.append(Host(guests, store))
            return hosts[-1]

        yield make
        complaints = [line for host in hosts for line in host.stop()]
        assert not complaints, "a guest's kernel would have complained: " + "; ".join(complaints)

    @pytest.fixture
    def xen_host(make_xen_host: Callable[..., Host]) -> Host:  # pylint: disable=redefined-outer-name
        """A host with domain 0 and the guests 1 and 2."""
        return make_xen_host()
