# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a message costs in the steady state of a pipelined sender, in the real processes from end to end."""

import os
import subprocess
import time

import pytest

from messaging import BUILDDIR, LOST_SOON, PATIENCE, eventually, is_sanitized, tool

LIBRARY = os.path.join(BUILDDIR, ".libs", "libcount.so")


class Cost:
    """Allocations and system calls of a process since it was made (of those calls what Linux counts: reads, writes and sleeps)."""

    def __init__(self, pid, counts):
        self.pid, self.counts = pid, counts
        self.allocations_before, self.calls_before = self.allocations(), self.calls()

    def allocations(self):
        return int.from_bytes((self.counts / str(self.pid)).read_bytes()[:8], "little")

    def held(self):
        return int.from_bytes((self.counts / str(self.pid)).read_bytes()[16:24], "little")

    def calls(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            for file, names in (("io", ("syscr", "syscw")), ("status", ("voluntary_ctxt_switches",))):
                with open(f"/proc/{self.pid}/task/{task}/{file}", encoding="utf-8") as lines:
                    total += sum(int(line.split(":")[1]) for line in lines if line.split(":")[0] in names)
        return total

    def since(self):
        return self.allocations() - self.allocations_before, self.calls() - self.calls_before


def pid_of(node, process):
    """The program that `xensim exec` and libtool's script became in the end."""
    eventually(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("bench-chain"), f"domain {node.domid} runs bench-chain")
    return process.pid


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer has an allocator of its own")
@pytest.mark.parametrize("size", [64, 65536])
def test_a_pipelined_message_takes_no_allocation_or_system_call(nodes, tmp_path, size):
    both = nodes(1, 2, start=False)
    for node in both.values():
        node.environment = dict(node.environment, COUNT_DIR=str(tmp_path), LD_PRELOAD=LIBRARY)
        node.start()
    one, two = both.values()
    one.sees(two)
    server = two.popen_command(tool("bench-chain"), "server", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    client = one.popen_command(tool("bench-chain"), "client", "2", "stream", size, "1000", stdin=subprocess.DEVNULL)
    eventually(lambda: (link := one.link(2)) and link["tx"]["messages"] > 1000, "it is under way")
    pids = {"sender": pid_of(one, client), "its daemon": one.pid, "the other daemon": two.pid, "receiver": pid_of(two, server)}

    pause = 0.3

    def is_steady():
        """Sooner or later all queues have found their size."""
        nonlocal pause
        before = one.link(2)["tx"]["messages"]  # an answer of its daemon takes memory, too
        costs = {name: Cost(pid, tmp_path) for name, pid in pids.items()}
        time.sleep(pause)  # what it costs meanwhile is what is measured
        spent = {name: cost.since() for name, cost in costs.items()}
        sent = one.link(2)["tx"]["messages"] - before
        print(size, sent, spent)
        assert client.poll() is None
        if sent <= 1000:  # a slow machine needs longer
            pause *= 2
        # heartbeats cost some; and for a message that fills the ring the reader may sleep
        return sent > 1000 and all(allocations < 20 + sent / 100 and (calls < 20 + sent / 10 or size > 64)
                                   for allocations, calls in spent.values())

    eventually(is_steady, "messages take neither memory nor system calls")
    client.kill()


MOVES = 80  # half of which is more than the 32 allocations by which two moments differ anyway


@pytest.mark.skipif(is_sanitized(), reason="a sanitizer has an allocator of its own")
def test_moves_leave_no_memory_behind(host, nodes, tmp_path):
    """After ten of them all queues and tables have found their size. A program that has gone is known for resume-for, and in the log for a minute."""
    both = nodes(0, 2, start=False, config=LOST_SOON + "resume-for = 10s\n[daemon]\nlog-level = error\n")
    for node in both.values():
        node.environment = dict(node.environment, COUNT_DIR=str(tmp_path), LD_PRELOAD=LIBRARY)
        node.start()
    zero, two = both.values()
    zero.sees(two)
    costs = {"domain 0": Cost(zero.pid, tmp_path), "the domain that moves": Cost(two.pid, tmp_path)}

    def move(times):
        for _ in range(times):
            host.sim("suspend", two.domid)
            two.domid = int(host.sim("resume", two.domid).stdout)
            eventually(lambda: (zero.link(two.domid) or {}).get("state") == "up", "the link goes on")
            assert zero.xenmsg("ping", "--count", 1, "--timeout", 20 * PATIENCE, two.domid).returncode == 0
        return {name: cost.held() for name, cost in costs.items()}

    before = move(10)
    after = move(MOVES)
    print(before, after)
    assert all(0 < held < 100000 for held in before.values())

    def nothing_is_left():
        now = {name: cost.held() for name, cost in costs.items()}
        return all(now[name] - before[name] < MOVES // 2 for name in now)

    eventually(nothing_is_left, f"what {MOVES} moves took is freed", timeout=60)
