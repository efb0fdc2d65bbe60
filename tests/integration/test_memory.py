# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory as the kernel counts it: a daemon in a cgroup with a limit, as its unit is (MemoryMax=), isn't killed for what others keep."""

import contextlib
import os
import subprocess

import pytest

from conftest import Conversation
from messaging import PATIENCE, eventually, open_to_others, tool
from test_limits import GREEDY, limits

KEPT_MIN = 256 << 10  # of what a program shares: the ring to it
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
              pytest.mark.skipif(PATIENCE != 1, reason="sanitizers keep what is freed")]


class MemoryCgroup:
    """What its processes may have of the kernel's memory, as a unit's MemoryMax= says."""

    def __init__(self):
        version1 = os.path.isdir("/sys/fs/cgroup/memory")
        self.root = "/sys/fs/cgroup/memory" if version1 else "/sys/fs/cgroup"
        self.dir = f"{self.root}/xenmsg-test-{os.getpid()}"
        self.limit, self.current = (f"{self.dir}/memory.{name}" for name in
                                    (("limit_in_bytes", "usage_in_bytes") if version1 else ("max", "current")))
        try:
            os.mkdir(self.dir)
        except OSError as error:
            pytest.skip(f"no cgroup can be made here: {error}")
        if not os.path.exists(self.limit):
            self.end()
            pytest.skip("cgroups don't count memory here")

    def takes(self, pid, limit):
        for path, value in ((self.limit, limit), (f"{self.dir}/cgroup.procs", pid)):
            with open(path, "w", encoding="ascii") as file:
                file.write(str(value))

    def used(self):
        with open(self.current, encoding="ascii") as file:
            return int(file.read())

    def end(self):
        with open(f"{self.dir}/cgroup.procs", encoding="ascii") as file:
            left = file.read().split()
        for pid in left:
            with contextlib.suppress(ProcessLookupError), open(f"{self.root}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(pid)
        os.rmdir(self.dir)


@pytest.fixture(name="cgroup")
def cgroups():
    cgroup = MemoryCgroup()
    yield cgroup
    cgroup.end()


def test_memory_that_a_program_keeps_kills_no_daemon(nodes, cgroup):
    """It has the daemon fill its ring, ends the session and keeps the ring, as often as it may: in the daemon's cgroup there is room for
    fifteen, and its account has memory for six."""
    node, = nodes(1, config=limits(max_memory=32 << 20)).values()
    open_to_others(node)
    cgroup.takes(node.pid, 6 << 20)
    before = cgroup.used()
    program = Conversation(subprocess.Popen([tool("hostile-program"), str(GREEDY), node.socket, "keeps", "1", "-"],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    try:
        program.answer()
        eventually(lambda: "shares no memory" in node.log.read_text() or node.status() is None, "it gets no more", 60)
        kept = program.ok("count")[2]
        assert kept > 0 and cgroup.used() - before >= kept * KEPT_MIN, "to the kernel it is the daemon that has these"
    finally:
        program.kill()
