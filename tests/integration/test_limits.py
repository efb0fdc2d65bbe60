# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits: one that takes too much gets ENOBUFS or waits, and the others notice nothing."""

import contextlib
import errno
import os
import socket
import statistics
import time

import pytest

from frames import RESET, frame, open_frame
from library import Connection
from messaging import FAST, PATIENCE, Holder, eventually, is_sanitized, resident, stopped
from protocol import Program

GREEDY = 1000
QUEUE_MAX = 32
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"), pytest.mark.unless(small="limits")]


def limits(**values):
    return FAST + "[limits]\n" + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in values.items())


@pytest.fixture(name="greedy")
def greedy_programs(user):
    """greedy(node, addresses, size): a program of another user that sends to all of them at once and goes on trying."""
    def start(node, addresses, size):
        def work(path, tell, stopped):
            with Connection(path) as conn:
                for address in addresses:
                    result = conn.post(address, bytes(size), tell)
                    if result < 0:
                        tell(result)
                while not stopped():
                    conn.wait(50)
        return user(GREEDY, node, work)
    return start


def is_refused(program, count):
    """So often and no more, each time with ENOBUFS."""
    assert [program.next() for _ in range(count)] == [-errno.ENOBUFS] * count
    assert not program.says_more(0.3)


def names(count):
    return [f"sleeper{i}" for i in range(count)]


def notices_nothing(sender, receiver, address):
    """Messages of somebody else go through at their usual pace; a busy machine may keep one of them for long."""
    with Connection(receiver.socket) as inbox, Connection(sender.socket) as conn:
        assert inbox.bind(address.split(":")[1]) == 0
        took = []
        for _ in range(50):
            ended = []
            start = time.monotonic()
            assert conn.post(address, b"x" * 1000, ended.append) == 0
            assert hasattr(inbox.receive(), "data")
            eventually(lambda ended=ended: conn.wait(5) >= 0 and ended, "it is delivered")
            took.append(time.monotonic() - start)
            assert ended == [0]
        assert statistics.median(took) < PATIENCE


def usage_of(node, uid):
    """What status says that this user is charged with."""
    for client in node.status()["clients"]:
        if client["uid"] == uid:
            return client["usage"]
    return None


def test_a_greedy_user_gets_enobufs_and_others_notice_nothing(nodes, two, greedy):
    one = nodes(1, config=limits(max_channels=16))[1]
    with Holder(two, *names(20)):
        taker = greedy(one, [f"2:{name}" for name in names(20)], 100)
        is_refused(taker, 12)
        usage = usage_of(one, GREEDY)
        assert usage["channels_charged"] == 8 and usage["refused"] >= 12
        notices_nothing(one, two, "2:other")
        taker.end()
    # What it had is free again as soon as nobody waits for what it sent: another program of that user gets as much.
    eventually(lambda: not (one.link(2) or {}).get("channels"), "its channels have ended")
    with Holder(two, *names(9)):
        again = greedy(one, [f"2:{name}" for name in names(9)], 100)
        is_refused(again, 1)


def test_memory_that_is_waited_for_never_exceeds_the_account(nodes, two, greedy):
    one = nodes(1, config=limits(max_queued_bytes="2M"))[1]
    with Holder(two, *names(20)):
        # A window of 64 KiB each: room for 16.
        taker = greedy(one, [f"2:{name}" for name in names(20)], 200000)
        is_refused(taker, 4)
        usage = usage_of(one, GREEDY)
        assert usage["bytes_charged"] <= 1 << 20, usage
        notices_nothing(one, two, "2:other")


def test_windows_grow_only_while_the_account_has_room(nodes, two):
    one = nodes(1, config=limits(max_queued_bytes="512K"))[1]
    with Connection(two.socket, binds="inbox") as receiver, Connection(one.socket) as sender:
        most = 0
        for _ in range(40):
            ended = []
            for _ in range(3):
                assert sender.post("2:inbox", bytes(60000), ended.append) == 0
            for _ in range(3):
                eventually(lambda ended=ended: sender.wait(1) >= 0 and hasattr(receiver.receive(20), "data"), "it arrives")
            eventually(lambda ended=ended: sender.wait(1) >= 0 and len(ended) == 3, "all are delivered")
            assert ended == [0] * 3
            most = max(most, usage_of(one, 0)["bytes_charged"])
        assert 65536 <= most <= (256 << 10) + 2 * 65536  # and what the asker has


def memory_of(node, uid):
    """What status says of its account's memory."""
    return next(each["memory"] for each in node.status()["accounts"] if (each["kind"], each["id"]) == ("uid", uid))


def test_memory_that_a_program_keeps_is_charged_until_it_is_gone(nodes):
    """The kernel counts its pages as the daemon's. So it can't be had again and again."""
    node, = nodes(1, config=limits(max_memory=32 << 20)).values()

    def used():
        return memory_of(node, os.getuid())["used"]
    before = used()
    kept = []
    for _ in range(30):
        with Program(node.socket, shared=True) as program:
            if not program.rings:
                break
            kept.append(os.dup(program.descriptors[0]))
    else:
        pytest.fail("there is memory without an end")
    size = os.fstat(kept[0]).st_size
    eventually(lambda: used() - before < (len(kept) + 1) * size, "what isn't kept is given back")
    assert used() >= len(kept) * size, "what is kept is charged"
    for descriptor in kept:
        os.close(descriptor)
    eventually(lambda: used() <= before, "nothing is charged any more")
    with Program(node.socket, shared=True) as program:
        assert program.rings, "there is memory again"


def test_a_newcomer_waits_behind_few_others(one):
    """However many want to come in while the daemon is busy: the kernel lets them wait outside of the queue."""
    with stopped(one.pid), contextlib.ExitStack() as stack:
        queued = 0
        with contextlib.suppress(BlockingIOError):
            while queued <= 2 * QUEUE_MAX:
                newcomer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                newcomer.setblocking(False)
                newcomer.connect(one.socket)
                queued += 1
        assert 1 <= queued <= QUEUE_MAX + 1
    Connection(one.socket).close()


def test_refusals_that_nobody_answers_cost_next_to_nothing(one):
    """The numbers stay in use at both ends, so there are at most 32768 of them; a bit each is what they take."""
    with Program(one.socket) as first:
        first.open("1:nobody", 0)
        first.expect(RESET, channel=0)
    before = resident(one.pid)
    with Program(one.socket) as program:
        for base in range(0, 65536, 512):
            program.send_bytes(b"".join(open_frame(number, "1:nobody") for number in range(base, base + 512, 2)))
            for number in range(base, base + 512, 2):
                assert program.expect(RESET, channel=number).u32() == errno.ENOENT
        grown = resident(one.pid) - before
        program.send_bytes(frame(RESET, bytes(24), channel=6))
        program.open("1:nobody", 6)  # answered: it may be used again
        assert program.expect(RESET, channel=6).u32() == errno.ENOENT
        program.open("1:nobody", 8)  # not answered
        assert program.goodbye()[0] == errno.EPROTO
    if not is_sanitized():  # it keeps what was freed
        assert grown < 4 * 1024 * 1024 * PATIENCE, grown
