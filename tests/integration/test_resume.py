# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session outlives its vchan: while two daemons live, programs see a pause and nothing else when the link is lost. Nothing is
lost, nothing comes twice, the order is kept: of messages, calls and streams, in both directions, whoever grants or maps."""

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import struct
import threading
import time
import types

import pytest

from library import Connection, waiting_message
from messaging import EXIT_NO_ENDPOINT, FAST, LOST_SOON, PATIENCE, eventually, give_up_ring, stopped, works
from modes import hold

pytestmark = pytest.mark.unless(relayed="direct")

LONG = int(60 * PATIENCE)
WINDOW = 200  # messages on their way at once


class Worker(threading.Thread):
    """Does something over and over until it is told to finish; an error in it is the test's."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.error, self.count = work, None, 0
        self.finishing = threading.Event()
        self.start()

    def run(self):
        try:
            self.work(self)
        except BaseException as error:  # pylint: disable=broad-exception-caught
            self.error = error

    def finish(self):
        self.finishing.set()
        self.join(LONG)
        assert not self.is_alive(), "it doesn't end"
        if self.error:
            raise self.error

    def goes_on(self):
        """It does something more than now."""
        before = self.count
        eventually(lambda: self.error or self.count > before + 2, "it goes on")
        if self.error:
            raise self.error


def size_of(number):
    return number * 7919 % 9000


def numbered(sender, receiver, endpoint):
    """Messages with numbers, of several sizes, all of which must be delivered, once and in order."""
    bound = threading.Event()
    sent = []
    address = f"{receiver.domid}:{endpoint}"  # as at the beginning: a channel goes on under a new number

    def receive(worker):
        with Connection(receiver.socket, binds=endpoint) as inbox:
            bound.set()
            while not worker.finishing.is_set() or worker.count < len(sent):
                got = inbox.receive(200)
                if isinstance(got, int):
                    assert got == -errno.ETIMEDOUT, got
                    continue
                number, size = struct.unpack_from("<QI", got.data)
                assert number == worker.count, f"message {number} instead of {worker.count}"
                assert got.data[12:] == bytes([number % 251]) * size
                worker.count += 1

    def send(worker):
        assert bound.wait(LONG)
        results = []
        with Connection(sender.socket) as program:
            while not worker.finishing.is_set():
                while len(sent) - len(results) < WINDOW:
                    size = size_of(len(sent))
                    data = struct.pack("<QI", len(sent), size) + bytes([len(sent) % 251]) * size
                    posted = program.post(address, data, results.append)
                    if posted == -errno.EAGAIN:
                        break
                    assert posted == 0
                    sent.append(size)
                program.wait(50)
                worker.count = len(results)
                assert not any(results), results
            end = time.monotonic() + LONG
            while len(results) < len(sent):
                assert time.monotonic() < end, "not all have an outcome"
                program.wait(50)
            assert not any(results), results

    return [Worker(send), Worker(receive)]


def calling(caller, server, endpoint):
    address = f"{server.domid}:{endpoint}"

    def serve(worker):
        with Connection(server.socket, binds=endpoint) as program:
            while not worker.finishing.is_set():
                got = program.take(100)
                if not isinstance(got, int):
                    assert got.reply(got.data[::-1]) == 0
                    got.free()
                    worker.count += 1

    def call(worker):
        with Connection(caller.socket) as program:
            eventually(lambda: endpoint in server.endpoints(), "it serves")
            while not worker.finishing.is_set():
                request = struct.pack("<Q", worker.count) * (1 + worker.count * 37 % 900)
                assert program.call(address, request, 1000 * LONG) == request[::-1]
                worker.count += 1

    return [Worker(call), Worker(serve)]


def streaming(writer, reader, endpoint):
    digests = {}

    def read(worker):
        with Connection(reader.socket) as program:
            assert program.listen(endpoint) == 0
            digest = hashlib.sha256()
            with socket.socket(fileno=program.accept(1000 * LONG)) as stream:
                stream.settimeout(LONG)
                while data := stream.recv(65536):
                    digest.update(data)
                    worker.count += 1
            digests["read"] = digest.hexdigest()
            assert digests["read"] == digests["written"]

    def write(worker):
        with Connection(writer.socket) as program:
            eventually(lambda: endpoint in reader.endpoints(), "it listens")
            digest = hashlib.sha256()
            with socket.socket(fileno=program.connect(f"{reader.domid}:{endpoint}")) as stream:
                stream.settimeout(LONG)
                while not worker.finishing.is_set():
                    data = os.urandom(1 + worker.count * 911 % 40000)
                    digest.update(data)
                    digests["written"] = digest.hexdigest()
                    stream.sendall(data)
                    worker.count += 1

    return [Worker(write), Worker(read)]


def all_kinds(source, target):
    """From one domain to another."""
    return numbered(source, target, "numbers") + calling(source, target, "calls") + streaming(source, target, "stream")


@contextlib.contextmanager
def at_work(*workers):
    """Yields a function that waits until each has done something more."""
    def goes_on():
        for worker in workers:
            worker.goes_on()

    goes_on()
    yield goes_on
    for worker in workers:  # who sends comes before who receives
        worker.finish()


def abroad(node, host):
    """The node as another host knows it."""
    return types.SimpleNamespace(domid=f"{host}/{node.domid}", socket=node.socket, endpoints=node.endpoints)


def messages(one, two, host_of_one=None, host_of_two=None, mark=""):
    """Numbered ones at work in both directions, also between hosts."""
    there = abroad(two, host_of_two) if host_of_two else two
    back = abroad(one, host_of_one) if host_of_one else one
    return at_work(*numbered(one, there, f"numbers-2{mark}"), *numbered(two, back, f"numbers-1{mark}"))


def traffic(one, two, mark=""):
    """All of it at work in both directions, at endpoints with this mark."""
    workers = []
    for start, name in ((numbered, "numbers"), (calling, "calls"), (streaming, "stream")):
        workers += start(one, two, f"{name}-2{mark}") + start(two, one, f"{name}-1{mark}")
    return at_work(*workers)


def resumes(node, domid):
    link = node.link(domid)
    return link["resumes"] if link else 0


def resumed(node, domid, times):
    eventually(lambda: node.link_state(domid) == "up" and resumes(node, domid) >= times, "the link is resumed")


def is_anew(node, logged):
    """Whether the link that came up when so much had been logged goes on with nothing. Later ones may be resumed (LOST_SOON)."""
    return re.search("link is (up|resumed)", node.log.read_text()[logged:])[1] == "up"


@pytest.mark.parametrize("paused", [1, 2], ids=["mapping", "granting"])
def test_a_domain_still_for_longer_than_dead_after_goes_on(nodes, host, paused):
    pair = nodes(1, 2, config=LOST_SOON)
    other = pair[3 - paused]
    with traffic(pair[1], pair[2]) as goes_on:
        for times in (1, 2):
            host.sim("pause", paused)
            eventually(lambda: other.link_state(paused) == "away", "the other one calls it away")
            listed = [peer for peer in other.json("peers") if peer["domid"] == paused]
            count = resumes(other, paused)
            assert [(peer["link"], peer["resumes"]) for peer in listed] == [("away", count)] and count >= times - 1
            assert abs(time.time() - listed[0]["since"]) < 60 * PATIENCE
            for command in ("status", "peers"):
                text = other.xenmsg(command).stdout.decode()
                assert re.search(rf"away since \d\d:\d\d:\d\d, resumes {count}\b", text), text
            host.sim("unpause", paused)
            resumed(other, paused, count + 1)
            goes_on()


@pytest.mark.parametrize("still", [1, 2], ids=["mapping", "granting"])
def test_a_daemon_that_stands_still_goes_on_where_it_was(nodes, still):
    pair = nodes(1, 2, config=LOST_SOON)
    other = pair[3 - still]
    with traffic(pair[1], pair[2]) as goes_on:
        with stopped(pair[still].pid):
            eventually(lambda: other.link_state(still) == "away", "the other one calls it away")
        resumed(other, still, 1)
        goes_on()


@pytest.mark.parametrize("end", [1, 2], ids=["its own", "the other's"])
def test_a_hidden_peer_does_not_seem_dead_before_its_hello(nodes, end):
    pair = nodes(1, 2, start=False)
    hidden, other = pair[1], pair[2]
    hidden.config += "presence = private\n"
    for node in (other, hidden):
        node.start()
    hidden.send("2:none", "x", exit_code=EXIT_NO_ENDPOINT)  # only so does the other one know of it
    zero = nodes(0, start=False)[0]
    with traffic(hidden, other) as goes_on, zero.store() as store:
        for times in range(1, 6):
            give_up_ring(store, [pair[end]], hidden, other, times)
        goes_on()


def test_who_watches_hears_that_a_domain_is_away_and_then_up(nodes, host):
    one, two = nodes(1, 2, config=LOST_SOON).values()
    works(one, two)
    with contextlib.closing(one.popen("watch", "--json", "2").stdout) as told:
        def next_of_domain():
            """Endpoints of the test before may still come and go."""
            lines = map(json.loads, iter(told.readline, b""))
            return next(line["event"] for line in lines if line["kind"] == "domain" and line["domid"] == 2)

        assert next_of_domain() == "up"
        for _ in range(2):
            host.sim("pause", 2)
            assert next_of_domain() == "away"
            host.sim("unpause", 2)
            assert next_of_domain() == "up"


def test_a_send_with_a_time_out_to_who_is_away_ends_in_time(nodes, host):
    one, two = nodes(1, 2, config=LOST_SOON).values()
    works(one, two)
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        results = []
        assert sender.post("2:inbox", b"first", results.append) == 0
        assert receiver.receive().data == b"first"
        eventually(lambda: sender.wait(10) >= 0 and results == [0], "it is delivered")
        host.sim("pause", 2)
        eventually(lambda: one.link_state(2) == "away", "it is away")
        assert sender.send("2:inbox", b"in vain", 500) == -errno.ETIMEDOUT
        host.sim("unpause", 2)
        resumed(one, 2, 1)
        assert sender.post("2:inbox", b"last", results.append) == 0
        assert receiver.receive().data == b"last"
        eventually(lambda: sender.wait(10) >= 0 and results == [0, 0], "it is delivered")


def test_a_peer_that_is_away_for_too_long_has_ended(nodes, host):
    one, two = nodes(1, 2, config=LOST_SOON + "resume-for = 2s\n").values()
    works(one, two)
    with waiting_message(one, two) as (sender, results):
        later = []
        host.sim("pause", 2)
        eventually(lambda: one.link_state(2) == "away", "it is away")
        logged = len(one.log.read_text())
        assert sender.post("2:sleeper", b"y", later.append) == 0
        eventually(lambda: sender.wait(50) >= 0 and results and later, "it has ended")
        assert results == [-errno.ECONNRESET]
        assert later[0] in (-errno.EHOSTUNREACH, -errno.EHOSTDOWN)  # it was never sent out
        host.sim("unpause", 2)
    eventually(lambda: one.xenmsg("send", "2:none", "x").returncode == 3, "it answers again")
    works(one, two)
    assert is_anew(one, logged)


def test_a_daemon_that_was_restarted_while_away_has_no_session(nodes):
    one, two = nodes(1, 2, config=LOST_SOON + "resume-for = 1h\n").values()
    works(one, two)
    with waiting_message(one, two) as (sender, results):
        hold(two.pid)
        eventually(lambda: one.link_state(2) == "away", "it is away")
        assert not results
        logged = len(one.log.read_text())
        two.kill()
        two.start()
        eventually(lambda: sender.wait(50) >= 0 and results, "it has its outcome")
        assert results == [-errno.ECONNRESET]
    works(one, two)
    assert is_anew(one, logged)


@pytest.mark.parametrize("how, delays", [("killed", range(0, 18, 2))] + [("destroyed", (delay,)) for delay in (0, 3, 8)],
                         ids=["killed", "destroyed at once", "destroyed", "destroyed late"])
@pytest.mark.parametrize("ended", [1, 2], ids=["mapping", "granting"])
def test_a_peer_that_ends_in_a_resume_leaves_what_is_certain(nodes, host, ended, how, delays):
    """A loss, and then the end, later and later: at any moment of it. What was taken was delivered, the rest has an error."""
    pair = nodes(1, 2, config=FAST + f"resume-for = {'1h' if how == 'killed' else '2s'}\n")
    peer, survivor, zero = pair[ended], pair[3 - ended], nodes(0, start=False)[0]
    for delay in delays:
        results = [[] for _ in range(40)]
        with Connection(survivor.socket) as sender, Connection(peer.socket, binds="inbox") as receiver, zero.store() as store:
            for number, done in enumerate(results):
                assert sender.post(f"{ended}:inbox", b"%d" % number, done.append) == 0
            assert [receiver.receive(LONG * 1000).data for _ in range(10)] == [b"%d" % number for number in range(10)]
            eventually(lambda: sender.wait(10) >= 0 and sum(map(len, results)) >= 10, "what was taken has an outcome")
            before = resumes(survivor, ended)
            eventually(lambda: survivor.link_state(ended) != "up" or resumes(survivor, ended) > before
                       or store.take_away_hello(peer, 3 - ended), "it is lost")
            time.sleep(delay / 1000)
            if how == "killed":
                peer.kill()
                peer.start()
            else:
                host.sim("destroy", ended)
                peer.daemon.wait()
                peer.daemon = peer.pid = None
            eventually(lambda: sender.wait(10) >= 0 and all(results), "all have an outcome")
        assert results[:10] == [[0]] * 10
        assert {error for done in results[10:] for error in done} <= {-errno.ECONNRESET, -errno.EHOSTDOWN}
        assert all(len(done) == 1 for done in results)
        if how == "killed":
            works(pair[1], pair[2])
    assert host.list()["kernel_log"] == []
