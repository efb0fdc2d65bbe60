# SPDX-License-Identifier: LGPL-2.1-or-later
"""One session that carries many byte streams (doc/protocol.md, 6.1), over its socket and by shared memory: every byte in order,
half-close, back-pressure, breaks, limits and policy, and what comes to an end with what."""

import contextlib
import errno
import hashlib
import os
import socket
import threading
import time

import pytest

from frames import (ACCEPT, BECOMES_STREAM, BIND, CANCEL, DATA, HOSTS, INITIAL_LIMIT, MUX, OPENED, PING, SHARED_MEMORY, UNBIND,
                    STREAM, STREAMS, bind_payload, credit_frame, fin_frame, frame, hello, open_frame, reset_frame, u64)
from library import Connection
from messaging import EXIT_OK, FAST, LOST_SOON, PATIENCE, eventually
from mux import Mux, pair, quiet, turn, until
from protocol import EPROTO
from test_activation import with_activations  # the fixture `started`  # noqa: F401  pylint: disable=unused-import
from test_policy import rule
from test_resume import resumed

MIB = 1 << 20


@pytest.fixture(name="shared", params=[pytest.param(False, id="socket"),
                                       pytest.param(True, id="shared", marks=pytest.mark.unless(renewed="memory"))])
def _shared(request):
    return request.param


@pytest.fixture(name="mux")
def _mux(shared):
    with contextlib.ExitStack() as stack:
        yield lambda node, **options: stack.enter_context(Mux(node, shared, **options))


def sha(data):
    return hashlib.sha256(data).digest()


def account(node, kind="uid"):
    accounts = [each for each in node.status()["accounts"] if each["kind"] == kind]
    return {resource: sum(each[resource]["used"] for each in accounts if each[resource])
            for resource in ("channels", "queued_bytes", "endpoints", "descriptors", "memory", "clients")}


def given_back(*nodes, going_on=()):
    """Nothing of any channel is charged any more. Who is `going_on` answers what still comes meanwhile."""
    def is_given_back(node, kind):
        turn(*going_on)
        return (account(node, kind)["channels"], account(node, kind)["queued_bytes"]) == (0, 0)

    for node in nodes:
        for kind in ("uid", "peer"):
            eventually(lambda node=node, kind=kind: is_given_back(node, kind),
                       f"what {kind}s had of domain {node.domid} is given back")


def exchange(near, far, size, *muxes):
    """Both ends send as much at once, and then end."""
    data = [os.urandom(MIB) * (size // MIB) for _ in range(2)]
    for stream, bytes_ in zip((near, far), data):
        stream.keeps = False
        stream.write(bytes_)
        stream.end()
    until(lambda: near.ended and far.ended, *muxes, seconds=120)
    assert (far.digest.digest(), near.digest.digest()) == (sha(data[0]), sha(data[1]))


def listening(nodes, mux, target="2", config=FAST):
    """Domains 1 and 2, a session in domain 1, and one in the target ("2" or "self"), which has bound `t`."""
    one, two = nodes(1, 2, config=config).values()
    client, server = mux(one), mux(two if target == "2" else one)
    server.listen("t")
    return one, two, client, server


# ---- data ----

@pytest.mark.parametrize("target", ["2", "self"])
def test_ten_megabytes_each_way_at_once_arrive_as_they_were(one, two, mux, target):
    client, server = mux(one), mux(two if target == "2" else one)
    server.listen("sink")
    near, far = pair(client, server, f"{target}:sink")
    assert (far.domid, far.uid, far.pid, far.endpoint) == (1, os.getuid(), os.getpid(), "sink")
    exchange(near, far, 10 * MIB, client, server)
    given_back(one, two)


class Pump(threading.Thread):
    """Writes to a socket and reads from it at once; `read` is what has come."""

    def __init__(self, stream, data):
        super().__init__(daemon=True)
        self.stream, self.data, self.read = stream, data, b""
        stream.settimeout(60 * PATIENCE)
        self.start()

    def run(self):
        def write():
            self.stream.sendall(self.data)
            self.stream.shutdown(socket.SHUT_WR)
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        digest = hashlib.sha256()
        while data := self.stream.recv(MIB):
            digest.update(data)
        writer.join()
        self.read = digest.digest()


@pytest.mark.parametrize("way", ["to a socket", "from a socket"])
@pytest.mark.parametrize("target", ["2", "self"])
def test_one_end_may_be_a_socket(one, two, mux, way, target):
    other = two if target == "2" else one
    with Connection((other if way == "to a socket" else one).socket) as program:
        if way == "to a socket":
            client = mux(one)
            assert program.listen("t") == 0
            near = client.connect(f"{target}:t")
            turn(client)
            fd = program.accept()
        else:
            client = mux(other)
            client.listen("t")
            fd = program.connect(f"{target}:t")
            near = client.accept()
            assert (near.domid, near.uid, near.pid) == (1, os.getuid(), os.getpid())
        assert fd >= 0
        with socket.socket(fileno=fd) as stream:
            data = [os.urandom(MIB) * 10 for _ in range(2)]
            pump = Pump(stream, data[0])
            near.keeps = False
            near.write(data[1])
            near.end()
            until(lambda: near.ended, client, seconds=120)
            pump.join(30 * PATIENCE)
            assert (near.digest.digest(), pump.read) == (sha(data[0]), sha(data[1]))
    given_back(one, two)


@pytest.mark.parametrize("target", ["2", "self"])
def test_an_empty_stream_ends_at_both_ends(nodes, mux, target):
    one, two, client, server = listening(nodes, mux, target)
    near = client.connect(f"{target}:t")
    near.end()  # before it is known whether there is one
    far = server.accept(client)
    far.end()
    until(lambda: near.ended and far.ended, client, server)
    given_back(one, two)


MANY = "[limits]\nmax-queued-bytes = 4G\n"


@pytest.mark.unless(small="limits")
def test_two_thousand_streams_at_once_are_kept_apart(nodes, mux):
    one, two = nodes(1, 2, config=FAST + MANY).values()
    client, server = mux(one), mux(two)
    server.listen("t")
    server.adopt = lambda stream: stream.write(b"hello")
    before = [node.descriptors() for node in (one, two)]
    streams = [client.connect("2:t") for _ in range(2000)]
    for number, stream in enumerate(streams):
        stream.write(b"%d " % number)
    until(lambda: len(server.incoming) == 2000 and all(far.data.endswith(b" ") for far in server.incoming), client, server,
          seconds=90)
    assert sorted(int(far.data) for far in server.incoming) == list(range(2000))
    until(lambda: all(near.data == b"hello" for near in streams), client, server, seconds=90)
    # One more costs a channel, and neither of the daemons a descriptor.
    assert all(node.descriptors() <= count + 8 for node, count in zip((one, two), before))
    assert account(one)["channels"] == 2000 and account(two, "peer")["channels"] == 2000
    for far in server.incoming:
        far.write(far.data)
        far.end()
    until(lambda: all(near.at_end() for near in streams), client, server, seconds=90)
    assert [near.data for near in streams] == [b"hello%d " % number for number in range(2000)]
    for near in streams:
        near.end()
    until(lambda: not (client.streams or server.streams), client, server, seconds=90)
    given_back(one, two)


@pytest.mark.parametrize("target", ["2", "self"])
@pytest.mark.parametrize("ends", ["fin", "reset", "either"])
def test_numbers_are_used_again_and_again(nodes, mux, target, ends):
    one, two, client, server = listening(nodes, mux, target)

    def answer(stream):
        stream.write(b"answer")
        if ends == "fin":
            stream.end()
    server.adopt = answer
    open_, done, end = [], 0, time.monotonic() + 60 * PATIENCE
    while done < 1500:
        assert time.monotonic() < end, (done, client, server)
        while len(open_) < 20:
            near = client.connect(f"{target}:t")
            near.write(b"question")
            open_.append(near)
        turn(client, server)
        server.incoming.clear()
        for near in open_:
            if near.data == b"answer" and not (near.fin_sent or near.reset_sent):
                if ends == "reset" or (ends == "either" and done % 2):
                    near.break_off()
                else:
                    near.end()
                    for far in list(server.streams.values()) if ends == "either" else ():
                        far.end()
        ended = [near for near in open_ if near.is_over()]
        assert all(near.data == b"answer" for near in ended)
        done += len(ended)
        open_ = [near for near in open_ if not near.is_over()]
    assert client.highest < 200
    for stream in open_:
        if not stream.reset_sent:
            stream.break_off()
    until(lambda: not (client.streams or server.streams), client, server)
    given_back(one, two, going_on=(client, server))  # the last ones may not have come to the server yet


# ---- back-pressure ----

@pytest.mark.parametrize("target", ["2", "self"])
def test_who_gives_no_credit_stops_his_sender_and_nobody_else(nodes, mux, target):
    one, two, client, server = listening(nodes, mux, target)
    slow, stuck = pair(client, server, f"{target}:t")
    stuck.reads = False
    slow.write(bytes(8 * MIB))
    quiet(client, server)
    assert slow.sent == slow.limit <= INITIAL_LIMIT == stuck.received
    near, far = pair(client, server, f"{target}:t")
    exchange(near, far, 3 * MIB, client, server)
    assert slow.sent <= INITIAL_LIMIT
    stuck.read_on()
    slow.end()
    until(stuck.at_end, client, server)
    assert stuck.received == 8 * MIB
    stuck.end()
    until(lambda: slow.ended and stuck.ended, client, server)
    given_back(one, two)


@pytest.mark.parametrize("target", ["2", "self"])
def test_a_session_that_reads_nothing_stops_its_senders_alone(one, two, mux, target):
    """What waits for it in the daemon is what its channels reserve."""
    other = two if target == "2" else one
    client, deaf, server = mux(one), mux(other), mux(other)
    deaf.listen("deaf")
    server.listen("t")
    streams = [pair(client, deaf, f"{target}:deaf")[0] for _ in range(50)]
    deaf.takes = False
    for stream in streams:
        stream.write(bytes(2 * MIB))
    quiet(client)
    assert all(stream.sent <= INITIAL_LIMIT for stream in streams)
    held = account(one)["queued_bytes"]
    near, far = pair(client, server, f"{target}:t")
    exchange(near, far, 3 * MIB, client, server)
    assert account(one)["queued_bytes"] <= held + 2 * MIB
    assert one.xenmsg("ping", "--count", "1", "2").returncode == EXIT_OK
    deaf.takes = True
    until(lambda: all(stream.received == 2 * MIB for stream in deaf.streams.values()), client, deaf, seconds=90)
    deaf.close()
    until(lambda: all(stream.is_over() for stream in streams), client)
    given_back(one, two)


# ---- breaks ----

@pytest.mark.parametrize("target", ["2", "self"])
@pytest.mark.parametrize("who", ["opener", "acceptor"])
def test_what_was_sent_before_a_break_comes_before_it(nodes, mux, target, who):
    one, two, client, server = listening(nodes, mux, target)
    for size in (0, 1, 5000, INITIAL_LIMIT):
        near, far = pair(client, server, f"{target}:t")
        breaks, sees = (near, far) if who == "opener" else (far, near)
        sees.reads = False
        data = os.urandom(size)
        breaks.write(data)
        until(lambda breaks=breaks: not breaks.queue and not breaks.mux.outbox, client, server)
        breaks.break_off(errno.EIO)
        until(lambda sees=sees, breaks=breaks: sees.reset and breaks.ended, client, server)
        assert sees.reset in ((errno.EIO,) if who == "acceptor" else (errno.EIO, errno.ECONNRESET))
        assert sees.data == data, (len(sees.data), len(data))
    given_back(one, two)


@pytest.mark.parametrize("target", ["2", "self"])
@pytest.mark.parametrize("who", ["opener", "acceptor"])
def test_a_session_that_dies_breaks_streams_behind_what_it_sent(nodes, mux, target, who):
    one, two, client, server = listening(nodes, mux, target)
    pairs = [pair(client, server, f"{target}:t") for _ in range(20)]
    if who == "acceptor":
        pairs = [(far, near) for near, far in pairs]
    dies, lives = pairs[0][0].mux, pairs[0][1].mux
    for number, (stream, _) in enumerate(pairs):
        stream.write(b"%d" % number * 1000)
    until(lambda: not any(stream.queue for stream, _ in pairs) and not dies.outbox, dies)
    if dies.rings:
        until(lambda: dies.out.consumer == dies.out.producer, dies)
    dies.close()
    until(lambda: all(stream.reset for _, stream in pairs), lives)
    for number, (_, stream) in enumerate(pairs):
        assert stream.reset == (errno.ECONNRESET if who == "opener" else errno.ENOENT)  # with the program the endpoint has gone
        if who == "opener":
            assert stream.data == b"%d" % number * 1000
        else:
            assert (b"%d" % number * 1000).startswith(stream.data)
    given_back(one, two)


@pytest.mark.parametrize("whose", ["own", "other"])
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_daemon_that_ends_breaks_the_streams(nodes, mux, whose, how):
    one, two, client, server = listening(nodes, mux, config=FAST + "resume-for = 10s\n")  # who is killed while away may come back so long
    near, far = pair(client, server, "2:t")
    near.write(b"before")
    until(lambda: far.data == b"before", client, server)
    far.reads = False
    near.write(bytes(MIB))
    quiet(client, server)
    ends, lives = (one, (server, far)) if whose == "own" else (two, (client, near))
    getattr(ends, how)()
    until(lambda: lives[1].reset, lives[0])
    assert lives[1].reset in (errno.ECONNRESET, errno.EHOSTUNREACH, errno.EHOSTDOWN) and not lives[0].over
    gone = client if whose == "own" else server
    until(lambda: gone.over, gone)
    given_back(lives[0].node)


# ---- policy ----

def reload(node, text):
    node.set_policy(text)


def test_what_policy_denies_is_eacces_and_ends_if_denied_later(nodes, mux):
    one, two = nodes(1, 2, start=False).values()
    two.policy = rule("1", "open*")
    for node in (one, two):
        node.start()
    two.sees(one)
    client, server = mux(one), mux(two)
    server.listen("open")
    server.listen("closed")
    denied = client.connect("2:closed")
    until(denied.is_over, client, server)
    assert denied.reset == errno.EACCES and not server.incoming
    near, far = pair(client, server, "2:open")
    kept = mux(two)
    kept.listen("open-too")
    other = pair(client, kept, "2:open-too")
    near.write(b"before")
    until(lambda: far.data == b"before", client, server)
    reload(two, rule("1", "open-too"))
    until(lambda: near.reset and far.reset, client, server)
    assert (near.reset, far.reset) == (errno.EACCES, errno.EACCES)
    exchange(*other, MIB, client, kept)
    reload(two, rule("1", "open"))
    exchange(*pair(client, server, "2:open"), MIB, client, server)
    given_back(one, two)


# ---- limits ----

def opens(client, server, address, count):
    """Opens so many; returns those that were accepted, and those that were refused."""
    streams = [client.connect(address) for _ in range(count)]
    until(lambda: all(stream.opened or stream.is_over() for stream in streams), client, server)
    return [stream for stream in streams if not stream.is_over()], [stream for stream in streams if stream.is_over()]


@pytest.mark.parametrize("limit, whose", [("max-channels = 40", 1), ("max-queued-bytes = 6M", 1),
                                          ("max-channels = 40", 2), ("max-queued-bytes = 6M", 2)])
def test_over_a_limit_streams_are_enobufs_until_others_end(nodes, mux, limit, whose):
    both = nodes(1, 2, start=False)
    both[whose].config += f"[limits]\n{limit}\n"
    for node in both.values():
        node.start()
    both[1].sees(both[2])
    client, server = mux(both[1]), mux(both[2])
    server.listen("t")
    accepted, refused = opens(client, server, "2:t", 40)
    assert {stream.reset for stream in refused} == {errno.ENOBUFS} and 10 <= len(accepted) < 40
    for stream in accepted[:5]:
        stream.break_off()
    until(lambda: all(stream.ended for stream in accepted[:5]), client, server)
    again = []

    def passes():
        again.extend(opens(client, server, "2:t", 5 - len(again))[0])
        return len(again) == 5
    eventually(passes, "what the others had is given back")
    until(lambda: len(server.incoming) == len(accepted) + len(again), client, server)
    for near, far in zip(again, server.incoming[-5:]):
        exchange(near, far, MIB, client, server)
    client.close()
    until(lambda: not server.streams, server)
    given_back(*both.values())


def test_a_session_gives_all_back_when_it_ends(one, two, mux):
    before = {node: (account(node), node.descriptors()) for node in (one, two)}
    client, server = mux(one), mux(two)
    server.listen("t")
    pairs = [pair(client, server, "2:t") for _ in range(30)]
    for near, far in pairs:
        far.reads = False
        near.write(bytes(100000))
    quiet(client, server)
    assert account(one)["channels"] == 30 and account(one)["queued_bytes"] >= 30 * INITIAL_LIMIT
    assert account(two)["endpoints"] == 1
    listed = one.status()["clients"]
    assert max(each["channels"] for each in listed) == 30
    assert one.xenmsg("status").returncode == EXIT_OK
    client.close()
    server.close()
    for node, (usage, descriptors) in before.items():
        eventually(lambda node=node, usage=usage: account(node) == usage, "all is given back")
        eventually(lambda node=node, count=descriptors: node.descriptors() <= count + 4, "descriptors too")
    given_back(one, two)


# ---- what ends with what ----

@pytest.mark.parametrize("target", ["2", "self"])
def test_unbind_ends_the_endpoints_streams_and_no_others(one, two, mux, target):
    client, server = mux(one), mux(two if target == "2" else one)
    server.listen("one")
    server.listen("two")
    ending = [pair(client, server, f"{target}:one") for _ in range(5)]
    staying = pair(client, server, f"{target}:two")
    outgoing = pair(server, server, "self:two")
    for near, _ in ending:
        near.write(b"before")
    until(lambda: all(far.data == b"before" for _, far in ending), client, server)
    server.unbind("one")
    until(lambda: all(near.reset and far.reset for near, far in ending), client, server)
    assert {stream.reset for both in ending for stream in both} <= {errno.ENOENT, errno.ECONNRESET}
    exchange(*staying, MIB, client, server)
    exchange(*outgoing, MIB, server)
    server.listen("one")
    exchange(*pair(client, server, f"{target}:one"), MIB, client, server)
    given_back(one, two)


# ---- other ways ----

def test_streams_that_wait_for_a_program_that_is_started(started, mux):
    activation, one, two = started(t="exec sleep 1000")
    clients = mux(one), mux(two)
    near = [client.connect("1:t") for client in clients]
    data = os.urandom(MIB)
    for stream in near:
        stream.write(data)
        stream.end()
    for _ in range(3):
        quiet(*clients)
    activation.waiting("t", 2)
    assert all(stream.sent <= INITIAL_LIMIT for stream in near)
    server = mux(one)
    server.listen("t")
    far = [server.accept(*clients) for _ in near]
    until(lambda: all(stream.at_end() for stream in far), server, *clients)
    assert all(stream.data == data for stream in far)
    for stream in far:
        stream.write(data[::-1])
        stream.end()
    until(lambda: all(stream.ended for stream in near), server, *clients)
    assert all(stream.data == data[::-1] for stream in near)
    assert activation.starts("t") == 1
    given_back(one, two)


def test_streams_go_through_domain_0(zero, guests, mux):
    one, two = guests(2)
    client, server = mux(one), mux(two)
    server.listen("t")
    near, far = pair(client, server, f"{two.domid}:t")
    assert (far.domid, far.uid, far.pid) == (one.domid, os.getuid(), os.getpid())
    exchange(near, far, 5 * MIB, client, server)
    near, far = pair(client, server, f"{two.domid}:t")
    near.write(b"before")
    until(lambda: far.data == b"before", client, server)
    zero.kill()
    until(lambda: near.reset and far.reset, client, server)
    given_back(one, two)


@pytest.mark.parametrize("near_domid, far_domid", [(0, 0), (1, 1)])
def test_streams_go_to_another_host(hosts, mux, near_domid, far_domid):
    here, there = hosts(guests=1)
    client, server = mux(here[near_domid]), mux(there[far_domid])
    server.listen("t", STREAMS | HOSTS)
    near, far = pair(client, server, f"hostb/{far_domid}:t")
    assert far.name.split("\0")[1] == "hosta" and far.domid == near_domid
    exchange(near, far, 5 * MIB, client, server)
    near, far = pair(client, server, f"hostb/{far_domid}:t")
    far.break_off(errno.EIO)
    until(lambda: near.reset, client, server)
    given_back(here[near_domid], there[far_domid])


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("paused", [1, 2])
def test_a_domain_that_stands_still_is_a_pause_and_nothing_else(nodes, host, mux, paused):
    both = nodes(1, 2, config=LOST_SOON)
    other = both[3 - paused]
    client, server = mux(both[1]), mux(both[2])
    server.listen("t")
    pairs = [pair(client, server, "2:t") for _ in range(10)]
    data = os.urandom(MIB) * 4
    for near, far in pairs:
        for stream in (near, far):
            stream.keeps = False
            stream.write(data)
    until(lambda: pairs[0][1].received > MIB, client, server)
    for times in (1, 2):
        host.sim("pause", paused)
        eventually(lambda: other.link_state(paused) == "away" or turn(client, server), "the other one calls it away")
        host.sim("unpause", paused)
        resumed(other, paused, times)
        if times == 1:
            received = pairs[5][1].received
            until(lambda: pairs[5][1].received > received or pairs[5][1].received == len(data), client, server)
    for near, far in pairs:
        near.end()
        far.end()
    until(lambda: not (client.streams or server.streams), client, server, seconds=120)
    assert {stream.digest.digest() for both_ends in pairs for stream in both_ends} == {sha(data)}
    assert not any(stream.reset for both_ends in pairs for stream in both_ends)
    given_back(*both.values())


def test_a_daemon_stops_with_many_streams_in_flight(nodes, mux):
    one, two, client, server = listening(nodes, mux)
    pairs = [pair(client, server, "2:t") for _ in range(50)]
    for near, far in pairs:
        near.write(bytes(300000))
        far.write(bytes(300000))
        far.reads = False
    quiet(client, server)
    server.takes = False
    two.stop()  # which must end with status 0
    until(lambda: all(near.reset for near, _ in pairs), client)
    one.stop()


# ---- bad input ----

def data_frame(channel, data, messages=0):
    return frame(DATA, data, channel=channel, messages=messages)


def violations():
    """What a session may not send when it has opened channel 0, has accepted channel 1, and neither has carried anything."""
    return {
        "a message's channel": open_frame(2, "self:inbox", kind=1),
        "a call's channel": open_frame(2, "self:inbox", kind=2),
        "a channel of no kind": open_frame(2, "self:t", kind=0),
        "a channel of an unknown kind": open_frame(2, "self:t", kind=4),
        "a number of the daemon's": open_frame(3, "self:t", STREAM),
        "a number in use": open_frame(0, "self:t", STREAM),
        "a number that is too large": open_frame(65536, "self:t", STREAM),
        "OPENED": frame(OPENED, u64(65536, 65536), channel=1),
        "OPENED of its own": frame(OPENED, u64(65536, 65536), channel=0),
        "CREDIT beyond what has come": credit_frame(1, 1),
        "CREDIT far beyond": credit_frame(0, 1 << 63),
        "CREDIT that is too short": frame(17 + 2, b"1234", channel=1),
        "FIN with another total": fin_frame(0, 1),
        "a second FIN": fin_frame(0, 0) + fin_frame(0, 0),
        "DATA behind FIN": fin_frame(1, 0) + data_frame(1, b"x"),
        "DATA of no channel": data_frame(44, b"x"),
        "DATA beyond the limit": data_frame(0, bytes(65536)) + data_frame(0, b"x"),
        "CANCEL": frame(CANCEL, u64(0), channel=0),
        "CANCEL by who has accepted": frame(CANCEL, u64(8), channel=1),
        "a second RESET": reset_frame(0, 5) + reset_frame(0, 5) + data_frame(0, b"x"),
        "a second HELLO": hello(flags=MUX),
        "ACCEPT": frame(ACCEPT, u64(1)),
        "a frame of a link": frame(PING, u64(1)),
        "an unknown frame": frame(99, b"what?"),
        "BIND that is too short": frame(BIND, b"\4", channel=3),
        "a frame that is too long": frame(DATA, b"", channel=0, length=1 << 20),
    }


HARMLESS = {"a second RESET"}  # it answers the daemon's


def test_a_violation_ends_that_session_and_nothing_else(one, two, mux):
    good, server = mux(one), mux(two)
    server.listen("t")
    other = pair(good, server, "2:t")
    for what, bytes_ in violations().items():
        bad, client = mux(one), mux(two)
        bad.listen("bad")
        near, far = pair(bad, server, "2:t")
        out, come = pair(client, bad, "1:bad")
        assert (near.number, come.number) == (0, 1)
        bad.reads = False
        bad.put(bytes_)
        if bad.rings and what == "a frame that is too long":
            bad.out.put(bytes(bad.outbox))
            bad.outbox.clear()
            bad.notify()
        if what in HARMLESS:
            until(lambda: far.reset, bad, server, client)
            bad.close()
        else:
            until(lambda: bad.over, bad, client)  # without the server, which would give credit for more
            assert bad.over == "closed" or bad.over[0] in (EPROTO, errno.EBUSY), (what, bad.over)
        until(lambda: far.reset and out.reset, server, client)
        client.close()
    exchange(*other, MIB, good, server)
    given_back(one, two)


def test_an_endpoint_for_anything_but_streams_is_einval(nodes, mux):
    session = mux(nodes(1)[1])
    for kinds in (0, 1, 2, 3, 5, 6, 7, 8, 12, 0x80000000, 0x80000001, 0x80000005, 0x20000004, 0xFFFFFFFF):
        assert session.request(BIND, bind_payload(b"t", kinds))[0] == errno.EINVAL, kinds
    session.listen("t")
    assert session.request(BIND, bind_payload(b"t", STREAMS))[0] == errno.EEXIST
    assert session.request(BIND, bind_payload(b"not a name", STREAMS))[0] == errno.EINVAL
    exchange(*pair(session, session, "self:t"), MIB, session)


def test_requests_are_answered_as_ever(one, two, mux):
    session = mux(one)
    assert session.request(UNBIND, b"t")[0] == errno.ENOENT
    assert two.alive()


def test_flags_of_a_stream_and_of_many_are_a_streams(one, shared):
    """Bit 1 makes the connection a stream; what else the HELLO has says nothing then."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20 * PATIENCE)
        connection.connect(one.socket)
        connection.sendall(hello(flags=MUX | BECOMES_STREAM | (SHARED_MEMORY if shared else 0)))
        assert connection.recv(16)[4] == 2
        assert connection.recv(40, socket.MSG_WAITALL)[4:8] == bytes(4)
    assert one.alive()
