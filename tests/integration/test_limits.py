# SPDX-License-Identifier: LGPL-2.1-or-later
"""Limits: who takes too much gets ENOBUFS or waits, and the others notice nothing."""

import contextlib
import errno
import json
import os
import socket
import time

import pytest

from frames import RESET, frame, open_frame
from library import Connection
from messaging import FAST, PATIENCE, Holder, eventually, is_sanitized, open_to_others, stopped
from polling import readable
from protocol import Program

GREEDY = 1000
QUEUE_MAX = 32
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")


def limits(**values):
    return FAST + "[limits]\n" + "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in values.items())


class Greedy:
    """A process of another user that sends to many addresses at once and goes on trying."""

    def __init__(self, node, addresses, size, uid=GREEDY):
        open_to_others(node)
        Connection(node.socket).close()  # loads the library while it can be read
        self.results, write = os.pipe()
        stop, self.stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                os.close(self.stop)
                self.work(node.socket, addresses, size, write, stop)
            finally:
                os._exit(0)
        os.close(write)
        os.close(stop)

    @staticmethod
    def work(path, addresses, size, results, stop):
        with Connection(path) as conn:
            for address in addresses:
                def done(result, address=address):
                    os.write(results, json.dumps([address, result]).encode() + b"\n")
                result = conn.post(address, bytes(size), done)
                if result < 0:
                    done(result)
            while not readable([stop], 0):
                conn.wait(50)

    def refused(self, count):
        """Waits for so many refusals; all must be ENOBUFS."""
        data, end = b"", time.monotonic() + 20 * PATIENCE
        while data.count(b"\n") < count:
            assert time.monotonic() < end, data
            if readable([self.results], 0.2):
                more = os.read(self.results, 65536)
                assert more, data
                data += more
        answers = [json.loads(line) for line in data.splitlines()]
        assert {result for _, result in answers} == {-errno.ENOBUFS}, answers
        assert not readable([self.results], 0.3)
        return [address for address, _ in answers]

    def end(self):
        if self.pid:
            os.close(self.stop)
            os.waitpid(self.pid, 0)
            os.close(self.results)
            self.pid = None


@pytest.fixture(name="greedy")
def greedy_processes():
    started = []

    def start(*arguments, **more):
        started.append(Greedy(*arguments, **more))
        return started[-1]
    yield start
    for each in started:
        each.end()


def names(count):
    return [f"sleeper{i}" for i in range(count)]


def notices_nothing(sender, receiver, address):
    """Messages of somebody else go through at their usual pace."""
    with Connection(receiver.socket) as inbox, Connection(sender.socket) as conn:
        assert inbox.bind(address.split(":")[1]) == 0
        slowest = 0
        for _ in range(50):
            ended = []
            start = time.monotonic()
            assert conn.post(address, b"x" * 1000, ended.append) == 0
            assert hasattr(inbox.receive(), "data")
            eventually(lambda ended=ended: conn.wait(5) >= 0 and ended, "it is delivered")
            slowest = max(slowest, time.monotonic() - start)
            assert ended == [0]
        assert slowest < 2 * PATIENCE


def usage_of(node, uid):
    """What status says that this user is charged with."""
    for client in node.status()["clients"]:
        if client["uid"] == uid:
            return client["usage"]
    return None


def test_a_greedy_user_gets_enobufs_and_others_notice_nothing(nodes, greedy):
    two = nodes(2)[2]
    one = nodes(1, config=limits(max_channels_per_uid=8))[1]
    with Holder(two, *names(20)):
        taker = greedy(one, [f"2:{name}" for name in names(20)], 100)
        assert len(taker.refused(12)) == 12
        usage = usage_of(one, GREEDY)
        assert usage["channels_charged"] == 8 and usage["refused"] >= 12
        notices_nothing(one, two, "2:other")
        taker.end()
    # What it had is free again as soon as nobody waits for what it sent: another program of that user gets as much.
    eventually(lambda: not (one.link(2) or {}).get("channels"), "its channels have ended")
    with Holder(two, *names(9)):
        again = greedy(one, [f"2:{name}" for name in names(9)], 100)
        assert len(again.refused(1)) == 1


def test_a_greedy_peer_gets_enobufs_and_others_notice_nothing(nodes, greedy):
    two = nodes(2, config=limits(max_channels_per_peer=8))[2]
    one, three = nodes(1, 3).values()
    with Holder(two, *names(20)):
        taker = greedy(one, [f"2:{name}" for name in names(20)], 100)
        assert len(taker.refused(12)) == 12
        notices_nothing(three, two, "2:other")
        notices_nothing(two, three, "3:other")
        assert two.link(1)["channels"] <= 20
        # The peer has used up its account, whoever in it tries.
        with Connection(one.socket) as conn:
            assert conn.send("2:sleeper19", b"x") == -errno.ENOBUFS


def test_memory_that_is_waited_for_never_exceeds_the_account(nodes, greedy):
    two = nodes(2)[2]
    one = nodes(1, config=limits(max_queued_bytes_per_uid="1M"))[1]
    with Holder(two, *names(20)):
        # A window of 64 KiB each: room for 16.
        taker = greedy(one, [f"2:{name}" for name in names(20)], 200000)
        refused = taker.refused(4)
        assert len(refused) == 4
        usage = usage_of(one, GREEDY)
        assert usage["bytes_charged"] <= 1 << 20, usage
        notices_nothing(one, two, "2:other")


def test_windows_grow_only_while_the_account_has_room(nodes):
    two = nodes(2)[2]
    one = nodes(1, config=limits(max_queued_bytes_per_uid="256K"))[1]
    with Connection(two.socket) as receiver, Connection(one.socket) as sender:
        assert receiver.bind("inbox") == 0
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
        assert 65536 <= most <= 256 << 10


def test_clients_and_endpoints_are_bounded_for_each_user_alone(nodes):
    one = nodes(1, config=limits(max_clients_per_uid=40, max_endpoints_per_uid=5))[1]
    with Connection(one.socket) as conn:
        assert [conn.bind(f"e{i}") for i in range(7)] == [0] * 5 + [-errno.ENOBUFS] * 2
        assert conn.unbind("e0") == 0 and conn.bind("e6") == 0


def memory_of(node, uid):
    """What status says of its account's memory."""
    return next(each["memory"] for each in node.status()["accounts"] if (each["kind"], each["id"]) == ("uid", uid))


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_that_a_program_keeps_is_charged_until_it_is_gone(nodes):
    """The kernel counts its pages as the daemon's. So it can't be had again and again."""
    node, = nodes(1, config=limits(max_memory_per_uid=16 << 20)).values()

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


def test_a_newcomer_waits_behind_few_others(nodes):
    """However many want to come in while the daemon is busy: the kernel lets them wait outside of the queue."""
    node, = nodes(1).values()
    with stopped(node.pid), contextlib.ExitStack() as stack:
        queued = 0
        with contextlib.suppress(BlockingIOError):
            while queued <= 2 * QUEUE_MAX:
                newcomer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                newcomer.setblocking(False)
                newcomer.connect(node.socket)
                queued += 1
        assert 1 <= queued <= QUEUE_MAX + 1
    Connection(node.socket).close()


def test_refusals_that_nobody_answers_cost_next_to_nothing(nodes):
    """The numbers stay in use at both ends, so there are at most 32768 of them; a bit each is what they take."""
    node = nodes(1)[1]
    with Program(node.socket) as first:
        first.open("1:nobody", 0)
        first.expect(RESET, channel=0)
    before = resident(node.pid)
    with Program(node.socket) as program:
        for base in range(0, 65536, 512):
            program.send_bytes(b"".join(open_frame(number, "1:nobody") for number in range(base, base + 512, 2)))
            for number in range(base, base + 512, 2):
                assert program.expect(RESET, channel=number).u32() == errno.ENOENT
        grown = resident(node.pid) - before
        program.send_bytes(frame(RESET, bytes(24), channel=6))
        program.open("1:nobody", 6)  # answered: it may be used again
        assert program.expect(RESET, channel=6).u32() == errno.ENOENT
        program.open("1:nobody", 8)  # not answered
        assert program.goodbye()[0] == errno.EPROTO
    if not is_sanitized():  # it keeps what was freed
        assert grown < 4 * 1024 * 1024 * PATIENCE, grown
