# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a year brings to daemons that nobody looks after: often the same, clocks that are set, disks that are full, and a quiet log."""

import os
import struct
import subprocess
import time

import pytest

from library import Connection
from messaging import BUILDDIR, EXIT_LOST, PATIENCE, deliver, eventually, is_sanitized, resident, start_all, tool, works
from renewing import renew

pytestmark = pytest.mark.slow
DAY = 86400
SET_DAY = os.path.join(BUILDDIR, ".libs", "libset-day.so")
MORE = 2 << 20  # what the allocator's own habits may make of memory


def open_files(node):
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_a_hundred_saves_and_restores_leave_nothing_behind(nodes, host):
    one, two = nodes(1, 2).values()
    sizes = []
    for number in range(100):
        one.save_and_restore()
        works(one, two)
        if number in (9, 99):
            eventually(lambda: len(two.status()["links"]) == 1, "the number of before is forgotten")
            sizes.append((resident(one.pid), resident(two.pid)))
            if number == 9:
                files = open_files(one), open_files(two)
    eventually(lambda: (open_files(one), open_files(two)) <= files, "nothing more is open than was")
    if not is_sanitized():  # its allocator keeps what is freed
        assert all(now < before + MORE for before, now in zip(*sizes)), sizes
    assert host.list()["kernel_log"] == []


def test_ten_thousand_programs_leave_nothing_behind(nodes):
    one, two = nodes(1, 2).values()
    with Connection(two.socket) as receiver:
        assert receiver.bind("inbox") == 0
        taken = 0
        before = None
        for each in (500, 9500):
            # each of them a process of its own, from its start to its end
            senders = [one.popen_command("sh", "-c", f"for n in $(seq {each // 4}); do {tool('xenmsg')} send 2:inbox $n || exit; done",
                                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
            for _ in range(each // 4 * 4):
                receiver.receive()
                taken += 1
            for sender in senders:
                assert sender.wait(60 * PATIENCE) == 0, sender.stderr.read()
            eventually(lambda: one.status()["totals"]["clients"] == 1, "all have gone but the asker")
            if before:
                eventually(lambda: (open_files(one), open_files(two)) <= files, "nothing more is open than was")
                assert is_sanitized() or all(now < was + MORE for was, now in zip(before, (resident(one.pid), resident(two.pid))))
            before, files = (resident(one.pid), resident(two.pid)), (open_files(one), open_files(two))
        assert taken == 10000


def test_the_clock_of_the_day_may_be_set_by_a_day(nodes, tmp_path):
    """Whatever waits, waits as long as it should, and no link takes it for a restore."""
    day = tmp_path / "day"
    day.write_bytes(struct.pack("<q", 0))
    one, two = nodes(1, 2, start=False).values()
    for node in (one, two):
        node.environment = dict(node.environment, LD_PRELOAD=SET_DAY, DAY_FILE=str(day))
        node.start()
    works(one, two)
    frames = one.link(2)["tx"]["frames"]
    with Connection(two.socket) as receiver:
        assert receiver.bind("slow") == 0
        for off in (DAY, -DAY, 0):
            began = time.monotonic()
            waiting = one.popen("call", "--timeout", "2s", "2:slow", "x")
            unanswered = receiver.take()
            with open(day, "r+b") as file:  # in place: it's mapped
                file.write(struct.pack("<q", off))
            assert abs(int(one.run_command("date", "+%s").stdout) - time.time() - off) < 60 * PATIENCE
            assert waiting.wait(30 * PATIENCE) == EXIT_LOST, waiting.stderr.read()
            assert 1.9 < time.monotonic() - began < 20 * PATIENCE
            unanswered.free()
            works(one, two)
            assert one.link(2)["tx"]["frames"] > frames, "it is the same link"
            frames = one.link(2)["tx"]["frames"]
    for node in (one, two):
        assert "restored" not in node.log.read_text() and "lost" not in node.log.read_text()


def test_a_log_that_can_not_be_written_stops_nobody(nodes):
    one, two = nodes(1, 2, start=False).values()
    one.within = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")
    start_all(one, two)
    works(one, two)
    for _ in range(3):
        assert one.xenmsg("daemon", "renew").returncode == 0
        works(one, two)
    two.kill()
    two.start()
    works(one, two)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount what will be full")
def test_a_run_that_is_full_stops_nobody(nodes):
    one, two = nodes(1, 2, start=False).values()
    run = os.path.join(one.environment["XENSIM_DIR"], "dom-1/root/run")
    os.makedirs(run, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "full", run], check=True)
    try:
        start_all(one, two)
        works(one, two)
        with open(os.path.join(run, "fill"), "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        for _ in range(3):
            renew(one)
            works(one, two)
        one.kill()
        one.start()
        works(one, two)
        one.stop()
    finally:
        subprocess.run(["umount", "--lazy", run], check=True)


def test_fifty_guests_that_do_nothing_wrong_log_nothing(many):
    """Links come and go, programs too, domains are renewed, saved and restored: at the default level a day of it has room in 100 lines."""
    nodes = many(50)
    for node in nodes.by_domid.values():
        node.config = "[links]\nheartbeat = 1s\nidle-close = 1s\n"
    start_all(*nodes.by_domid.values())
    guests = [nodes.by_domid[domid] for domid in range(1, 51)]
    zero = nodes.by_domid[0]

    def lines():
        return sum(node.log.read_text().count("\n") for node in nodes.by_domid.values())

    def a_round():
        for one, other in zip(guests[::2], guests[1::2]):
            works(one, other)
            deliver(one, zero)
        # What leads to domain 0 stays: it tells names.
        eventually(lambda: all(node.link_state(other.domid) != "up" for node, other in zip(guests[::2], guests[1::2])), "idle links are closed")
    a_round()
    before = lines()
    for _ in range(3):
        a_round()
    assert lines() == before, zero.log.read_text() + guests[0].log.read_text()


def test_a_number_that_was_another_domains_is_a_new_one(nodes, host):
    """Behind the highest number come those that domains had before, here while others still remember them."""
    one, two = nodes(1, 2).values()
    works(one, two)
    with Connection(two.socket) as receiver:
        assert receiver.bind("inbox") == 0
        waiting = one.popen("call", "--timeout", "60s", "2:inbox", "x")
        unanswered = receiver.take()
        two.kill()
        host.sim("destroy", 2)
        assert waiting.wait(60 * PATIENCE) == EXIT_LOST, waiting.stderr.read()
        unanswered.free()
    assert host.sim("create", "--domid", "32751").stdout.strip() == "32751"
    last = nodes(32751)[32751]
    works(one, last)
    last.save_and_restore()
    assert last.domid == 2, "the first one that is free"
    works(one, last)
    assert "from 1 to 32751" in host.sim("create", "--domid", "32752", check=False).stderr
    assert "there is a domain 2" in host.sim("create", "--domid", "2", check=False).stderr
    eventually(lambda: [domid for domid, _ in one.peers_by_number()] == [2], "nobody else is known")
