# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over while programs have byte streams, within its domain and to others: they see a pause and nothing else."""

import random
import socket

import pytest

from frames import STREAM, open_frame
from library import Connection
from messaging import eventually, stopped
from renewing import ended, process_until, renew, renew_while
from test_streams import RawStream

UNIT = 1 << 16


def content(seed):
    """An endless row of bytes, the same for each seed."""
    rng = random.Random(seed)
    while True:
        yield rng.randbytes(UNIT)


class Way:
    """One direction of a stream: what goes in is compared where it comes out."""
    def __init__(self, source, sink, seed):
        self.source, self.sink = source, sink
        self.to_send, self.expected = content(seed), content(seed)
        self.rest, self.awaited, self.sent, self.got = b"", b"", 0, 0

    def send(self, most):
        """As much as there is room for."""
        while self.sent < most:
            self.rest = self.rest or next(self.to_send)
            try:
                size = self.source.send(self.rest[:most - self.sent])
            except BlockingIOError:
                return
            self.rest = self.rest[size:]
            self.sent += size

    def receive(self):
        """All that is there. True: it has ended."""
        while True:
            try:
                data = self.sink.recv(UNIT)
            except BlockingIOError:
                return False
            if not data:
                return True
            while len(self.awaited) < len(data):
                self.awaited += next(self.expected)
            assert self.awaited.startswith(data), f"other bytes than were sent, behind {self.got}"
            self.awaited = self.awaited[len(data):]
            self.got += len(data)

    def run(self, most):
        self.send(most)
        assert not self.receive(), f"it has ended, after {self.got} of {self.sent}"
        return self.got


class Stream:
    """Both ends of a stream, whose programs are here."""
    callee = None

    def __init__(self, node, target, seed=0, listens=None):
        self.server = Connection((listens or node).socket)
        assert self.server.listen(f"pipe{seed}") == 0
        self.caller = RawStream(node.socket, open_frame(0, f"{target}:pipe{seed}", STREAM)).socket
        self.seed = seed

    def accept(self):
        fd = self.server.accept()
        assert fd >= 0, fd
        reply = RawStream.answer(self)
        assert reply == 0, reply
        self.callee = socket.socket(fileno=fd)
        self.caller.setblocking(False)
        self.callee.setblocking(False)
        self.there, self.back = Way(self.caller, self.callee, self.seed), Way(self.callee, self.caller, ~self.seed)
        return self

    @property
    def socket(self):
        return self.caller

    def run(self, most=1 << 62):
        return self.there.run(most), self.back.run(most)

    def finish(self):
        """What is under way arrives, and then the end of each way."""
        self.caller.shutdown(socket.SHUT_WR)
        eventually(self.there.receive, "the way there ends", timeout=60)
        self.callee.close()
        eventually(self.back.receive, "the way back ends", timeout=60)
        assert (self.there.got, self.back.got) == (self.there.sent, self.back.sent)
        self.close()

    def close(self):
        self.caller.close()
        if self.callee:
            self.callee.close()
        self.server.close()


class Pair:
    """Where a stream leads from and to, and which daemons it passes."""
    def __init__(self, nodes, target):
        nodes = nodes(1) if target == "self" else nodes(1, 2)
        self.nodes, self.target = list(nodes.values()), target
        self.one, self.two = self.nodes[0], self.nodes[-1]
        self.streams = []

    def stream(self, seed=0):
        self.streams.append(Stream(self.one, self.target, seed, self.two))
        return self.streams[-1]

    def has_none(self):
        eventually(lambda: not self.one.status()["streams"] and not self.two.status()["streams"], "nothing is left of any")

    def renew(self):
        for node in self.nodes:
            renew(node)


@pytest.fixture(name="pair", params=["self", "2"], ids=["within", "to_another"])
def within_a_domain_or_between(nodes, request):
    pair = Pair(nodes, request.param)
    yield pair
    for stream in pair.streams:
        stream.close()


def renew_under(node, streams):
    """Lets all streams go on while the node hands over, and until each has got something since."""
    def go_on():
        for stream in streams:
            stream.run()
    renew_while(node, go_on, lambda: [way.got for stream in streams for way in (stream.there, stream.back)])


@pytest.mark.parametrize("times", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_every_byte_arrives_over_hand_overs_both_ways(pair, times):
    streams = [pair.stream(seed).accept() for seed in range(3)]
    for _ in range(times):
        for node in pair.nodes:
            renew_under(node, streams)
    for stream in streams:
        stream.finish()


def test_a_stream_that_isnt_fetched_yet_waits_on(pair):
    """And then goes on without the session that has fetched it."""
    stream = pair.stream()
    eventually(lambda: pair.two.status()["streams"], "it waits")
    for _ in range(2):
        pair.renew()
    stream.accept().run(1 << 20)
    stream.server.close()
    pair.renew()
    stream.run(2 << 20)
    stream.finish()


def test_a_call_to_a_domain_that_stands_still_waits_on(one, two):
    with Connection(two.socket) as server:
        assert server.listen("pipe0") == 0
        with stopped(two.pid):
            caller = RawStream(one.socket, open_frame(0, "2:pipe0", STREAM))
            def states():
                return [stream["state"] for stream in one.status()["streams"]]
            eventually(lambda: states() == ["calling"], "it calls")
            for _ in range(2):
                renew(one)
            assert states() == ["calling"]
        with caller, socket.socket(fileno=server.accept()) as callee:
            assert caller.answer() == 0
            callee.sendall(b"here")
            assert caller.socket.recv(4, socket.MSG_WAITALL) == b"here"


def test_one_way_that_has_ended_stays_so_and_the_other_open(pair):
    stream = pair.stream().accept()
    stream.there.send(1 << 20)
    process_until(lambda: not stream.there.receive() and stream.there.got == stream.there.sent, "it arrives")
    stream.caller.shutdown(socket.SHUT_WR)
    eventually(stream.there.receive, "the way there has ended")
    for size in (1000, 2000, 300000):
        pair.renew()
        eventually(lambda size=size: stream.back.run(size) == size, "the way back goes on", timeout=60)
        assert stream.there.receive()
    stream.callee.close()
    eventually(stream.back.receive, "and ends")
    pair.has_none()


def test_what_its_writer_has_left_behind_arrives(pair):
    """It has written all that fits in all buffers, and closes."""
    stream = pair.stream().accept()
    def is_full():
        before = stream.there.sent
        stream.there.send(1 << 62)
        return stream.there.sent == before and stream.there.sent
    eventually(is_full, "there is no more room")
    for _ in range(2):
        pair.renew()
    stream.caller.close()
    for _ in range(2):
        pair.renew()
    eventually(stream.there.receive, "all comes, and the end", timeout=60)
    assert stream.there.got == stream.there.sent
    stream.callee.close()
    pair.has_none()


@pytest.mark.parametrize("size", [0, 1000, 400000])
def test_a_stream_that_its_program_breaks_ends_behind_its_bytes(pair, size):
    """Also if the other one doesn't read meanwhile."""
    stream = pair.stream().accept()
    stream.there.send(size)
    pair.renew()
    stream.caller.setblocking(True)
    socket.send_fds(stream.caller, [b"\0"], [0])  # as xenmsg_break() does
    stream.caller.close()
    for _ in range(2):
        pair.renew()
    with pytest.raises(ConnectionResetError):
        eventually(stream.there.receive, "it breaks", timeout=60)
    assert stream.there.got == stream.there.sent
    pair.has_none()


def test_a_program_that_dies_meanwhile_breaks_its_stream_alone(pair):
    """It has left bytes unread, so its stream has broken and not ended."""
    streams = [pair.stream(seed).accept() for seed in range(2)]
    streams[0].back.send(100000)
    def something_is_there():
        try:
            return streams[0].caller.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
    eventually(something_is_there, "something is there for it")
    pair.renew()
    streams[0].caller.close()
    pair.renew()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        eventually(lambda: streams[0].back.send(1 << 62), "it breaks", timeout=60)
    streams[1].run(1 << 20)
    streams[1].finish()


def test_descriptors_stay_the_same_with_streams(pair):
    kept = pair.stream(99).accept()

    def held():
        return [node.descriptors() for node in pair.nodes]

    def round_trip():
        pair.renew()
        stream = pair.stream().accept()
        stream.run(1000)
        stream.finish()
        kept.run(kept.there.sent + 1000)
    round_trip()
    before = held()
    for _ in range(10):
        round_trip()
    eventually(lambda: all(now <= was for now, was in zip(held(), before)), f"they hold no more than {before}: {held()}")
    kept.finish()
