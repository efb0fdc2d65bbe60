# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a gateway, another host's daemon, a guest and a program can't do to a daemon that knows of other hosts. The hosts are
those of test_hosts.py."""

import contextlib
import errno
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading

import pytest

from conftest import Conversation
from fake_gateway import Side
from frames import ASK, ASKS, GOODBYE, HELLO, KNOWS_HOSTS, PING, PONG, TOLD, UNASK, ask_payload, frame, link_hello_payload, u32
from gateway_rings import LOOK
from messaging import EXIT_DENIED, EXIT_ERROR, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNREACHABLE, GIVES_UP, PATIENCE, eventually
from polling import readable
from test_hosts import joined_hosts  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import

HOSTS_MAX = 16384
MORE = 1  # in the flags of TOLD


@pytest.fixture(name="gateway")
def gateway_of_one_host(hosts):
    """The daemon of a host's domain 0, and the connection of a gateway to it."""
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    side = Side(hosts.path(0))
    side.say(type="state", up=True, server="fake://here")
    yield node, side
    side.socket.close()


def tell(side, names, up=True):
    for name in names:
        side.say(type="host", host=name, instance="", up=up)


def test_invented_hosts_leave_room_in_the_log(gateway):
    node, side = gateway
    node.write_policy("")
    assert node.xenmsg("policy", "reload").returncode == 0
    tell(side, (f"host{number}" for number in range(1000)))
    eventually(lambda: len(node.json("hosts")) == 1001, "all are taken")
    node.send("host7/0:inbox", "x", exit_code=EXIT_DENIED)
    eventually(lambda: "denied: domain 0" in node.log.read_text(), "what others do is logged")
    assert node.log.read_text().count("is there") < 30


# ---- a gateway ----

JUNK = (b"", b"{", b"[]", b"null", b"7", b'"hello"', b'{"type":7}', b'{"type":"nothing"}', b'{"type":"host"}', b"\0", b"\xff" * 4096,
        b'{"type":"host","host":"","up":true}', b'{"type":"host","host":"-a","instance":"","up":true}',
        b'{"type":"host","host":["hostb"],"instance":{},"up":"yes"}', b'{"type":"host","host":"' + b"x" * 64 + b'","up":true}',
        b"[" * 4000, b'{"type":"connected","host":"hostb","id":1e400}', b'{"type":"incoming","host":"hostb","id":-1}')
# Those that can be read, but say what can't be.
WRONG = ({"type": "hello", "version": 1}, {"type": "welcome", "version": 1, "host": "hosta", "instance": ""},
         {"type": "connect", "host": "hostb", "id": 2}, {"type": "connected", "host": "hostb", "id": 2},
         {"type": "failed", "host": "hostb", "id": 2, "error": "EHOSTDOWN"}, {"type": "host", "host": "hosta", "instance": "", "up": True},
         {"type": "incoming", "host": "hosta", "id": 3}, {"type": "accept", "host": "hostb", "id": 4},
         {"type": "decline", "host": "hostb", "id": 4}, {"type": "failed", "host": "nobody", "id": 2 ** 53 - 1, "error": "E"})


def is_closed(side):
    try:
        while side.socket.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_what_a_gateway_says_ends_its_connection_at_most(hosts):
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    Side(hosts.path(0)).socket.close()
    eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    before = node.descriptors()
    for junk in JUNK:
        side = Side(hosts.path(0))
        side.socket.send(junk)
        with contextlib.suppress(BrokenPipeError):  # it may be closed already
            side.say(type="state", up=True, server="fake://here")
        side.socket.close()
        eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    for packet in WRONG:
        side = Side(hosts.path(0))
        side.say(**packet)
        side.socket.close()
        eventually(lambda: node.status()["hosts"]["gateway"] == "missing", "it has gone")
    eventually(lambda: node.descriptors() <= before, "no descriptor is kept")
    side = Side(hosts.path(0))
    side.say(type="state", up=True, server="fake://here")
    eventually(lambda: node.json("hosts")[0]["gateway"] == "connected", "the next one is served")
    side.socket.close()


@pytest.mark.parametrize("count", (1, 3, 200))
def test_descriptors_of_a_gateway_are_closed(hosts, count):
    [node] = hosts(count=1, join=False, config=GIVES_UP)
    before = node.descriptors()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        side = Side(hosts.path(0))
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        socket.send_fds(side.socket, [b'{"type":"incoming","host":"hostb","id":3}'], [theirs.fileno()] * count)
        theirs.close()
        assert is_closed(side)
        side.socket.close()
        ours.close()
    eventually(lambda: node.descriptors() <= before, "no descriptor is kept")


def test_a_gateway_that_tells_of_hosts_without_end_holds_nobody(gateway):
    """Of more hosts than the table has, and of the same one again and again; programs watch and send."""
    node, side = gateway
    tell(side, ["hostb"])
    process = node.popen("watch", "hostb/*")  # of a host that never answers
    tell(side, (f"n{number}" for number in range(HOSTS_MAX + 1000)))
    for number in range(3000):
        tell(side, ["hostb"], up=bool(number % 2))
    node.send("self:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    eventually(lambda: len(node.json("hosts")) == HOSTS_MAX + 1, "as many as there may be are taken")
    assert node.xenmsg("peers", "hostb").returncode == EXIT_UNREACHABLE
    assert process.wait(timeout=30 * PATIENCE) == EXIT_UNREACHABLE
    process.communicate()


# ---- a guest ----

def test_a_guest_that_asks_on_and_reads_nothing_holds_nobody(hosts):
    [nodes] = hosts(count=1, guests=2, join=False)
    nodes[1].stop()
    # Python's own leaks are none of ours, where the tests run sanitized.
    quiet = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    process = hosts.nodes[0].host.spawn(1, sys.executable, os.path.join(os.path.dirname(__file__), "link_peer.py"), "grant", 0,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet)
    peer = Conversation(process)
    try:
        assert peer.answer() == "ok met"
        for kind, name in ((3, ""), (1, "hostb"), (2, "hosta/0"), (2, "x" * 300)):
            assert peer.ask(f"flood {kind} {name or '/'} 3000").startswith("ok")
            assert nodes[2].json("hosts")[0]["host"] == "hosta"
            assert nodes[0].json("hosts")[0]["host"] == "hosta"
    finally:
        process.kill()
    eventually(lambda: not (nodes[0].link(1) or {"state": "idle"})["state"] == "up", "it has gone")
    eventually(lambda: not any((account["kind"], account["id"]) == ("peer", 1) and account["queued_bytes"]["used"]
                               for account in nodes[0].status()["accounts"]), "nothing is kept for it")


# ---- another host's daemon ----

class FarDaemon(threading.Thread):
    """What leads to hostb, and its daemon, which says of what it is asked what `lie` makes of it: bytes of frames. [5.3, 5.11, 7]"""

    def __init__(self, path, lie):
        super().__init__()
        self.lie, self.side, self.talk = lie, Side(path), None
        self.asked, self.withdrawn, self.told, self.goodbyes, self.version = [], [], {}, [], 0
        self.wake, self.woken = os.pipe()
        self.lock = threading.RLock()
        self.reset()
        self.side.say(type="state", up=True, server="fake://here")
        self.side.say(type="host", host="hostb", instance="", up=True)
        self.start()

    def reset(self):
        self.sequence = 0

    def say(self, kind, *payloads):
        with self.lock:
            frames = b""
            for payload in payloads:
                frames += frame(kind, payload, sequence=self.sequence)
                self.sequence += 1
            self.talk.put(frames)

    def run(self):
        while True:
            ready = readable([self.wake, self.side.socket], LOOK)
            if self.wake in ready:
                return
            try:
                if self.side.socket in ready:
                    self.on_packet()
                if self.talk:
                    self.on_bytes()
            except (EOFError, OSError):
                if self.talk:
                    self.talk.close()
                self.talk = None

    def on_packet(self):
        packet, passed = self.side.hear()
        if packet["type"] == "connect":
            self.talk = passed
            self.reset()
            self.side.say(type="connected", host="hostb", id=packet["id"])
            self.say(HELLO, link_hello_payload(b"i" * 16, bytes(16), KNOWS_HOSTS | ASKS, version=b"liar"))

    def on_bytes(self):
        has_ended = self.talk.has_ended()
        while got := self.talk.next_frame():
            self.take(got.kind, got.payload)
        if has_ended:
            raise EOFError

    def take(self, kind, payload):
        if kind == PING:
            self.say(PONG, payload)
        elif kind == ASK:
            number, _, known, what = struct.unpack_from("<IIQI", payload)
            self.asked.append((number, known, what))
            for told in self.lie(number, what):
                self.say(TOLD, told)
        elif kind == UNASK:
            self.withdrawn.append(struct.unpack("<I", payload)[0])
        elif kind == TOLD:
            number, error, version = struct.unpack_from("<IIQ", payload)
            self.told[number] = error
            self.version = version or self.version
        elif kind == GOODBYE:
            self.goodbyes.append(struct.unpack_from("<I", payload)[0])

    def ask(self, kind, text, *numbers, known=0):
        self.say(ASK, *(ask_payload(number, kind, text, known) for number in numbers))

    def close(self):
        os.write(self.woken, b"x")
        self.join()
        os.close(self.wake)
        os.close(self.woken)
        self.side.socket.close()
        if self.talk:
            self.talk.close()


def told(number, entries=(), error=0, version=5, flags=0, domid=0, count=None, name=b""):
    body = b"".join(struct.pack("<IB", value, len(text)) + text for value, text in entries)
    return struct.pack("<IIQIIIB", number, error, version, flags, domid, len(entries) if count is None else count, len(name)) + name + body


def parts(number, count):
    return [told(number, [(1, b"n%04d" % (20 * part + i)) for i in range(20)], flags=MORE) for part in range(count)]


# What it says of the endpoints of a domain, and what a program then has. A malformed frame ends the session.
LIES = {
    "nothing wrong": (lambda number: [told(number, [(1, b"a"), (2, b"b")])], EXIT_OK),
    "out of order": (lambda number: [told(number, [(1, b"b"), (2, b"a")])], EXIT_ERROR),
    "twice": (lambda number: [told(number, [(1, b"a"), (2, b"a")])], EXIT_ERROR),
    "the part twice": (lambda number: [told(number, [(1, b"a")], flags=MORE)] * 2, EXIT_ERROR),
    "two versions": (lambda number: [told(number, [(1, b"a")], flags=MORE), told(number, [(1, b"b")], version=6)], EXIT_ERROR),
    "without end": (lambda number: parts(number, 300), EXIT_ERROR),
    "nothing without end": (lambda number: [told(number, flags=MORE)] * 1000, EXIT_ERROR),
    "no endpoint": (lambda number: [told(number, [(1, b"a/b")])], EXIT_UNREACHABLE),
    "a domain's name": (lambda number: [told(number, [(1, b"a.b")])], EXIT_ERROR),
    "an error that is none": (lambda number: [told(number, error=0xffffffff)], EXIT_ERROR),
    "more than there is": (lambda number: [told(number, [(1, b"a")], count=7)], EXIT_UNREACHABLE),
    "a domid that is none": (lambda number: [told(number, [(1, b"a")], domid=0x10000)], EXIT_UNREACHABLE),
    "a short frame": (lambda number: [b"x" * 11], EXIT_UNREACHABLE),
    "somebody else's answer": (lambda number: [told(number + 1, [(1, b"x")]), told(number, [(1, b"a")])], EXIT_OK),
    "an answer behind the answer": (lambda number: [told(number, [(1, b"a")]), told(number, [(1, b"b")])], EXIT_OK),
}


@pytest.fixture(name="liar")
def far_daemon_that_lies(hosts):
    """The nodes of a host with a guest, and a function that makes hostb's daemon lie."""
    [nodes] = hosts(count=1, guests=1, join=False)
    made = []

    def lying(lie):
        made.append(FarDaemon(hosts.path(0), lie))
        return made[-1]

    yield nodes, lying
    for far in made:
        far.close()


@pytest.mark.parametrize("asker", (0, 1))
def test_a_host_that_lies_is_answered_for_with_an_error(liar, asker):
    nodes, lying = liar
    said = {}
    far = lying(lambda number, what: said["lie"](number))
    for name, (lie, code) in LIES.items():
        said["lie"] = lie
        done = nodes[asker].xenmsg("endpoints", "hostb/work")
        assert done.returncode == code and (done.stdout == b"") == (code != EXIT_OK), (name, done)
    assert all(node.alive() for node in nodes.values())
    assert far.asked


def test_a_host_without_answers_holds_a_question_until_it_goes(liar):
    nodes, lying = liar
    far = lying(lambda number, what: [])
    processes = [nodes[0].popen("peers", "hostb"), nodes[1].popen("endpoints", "hostb/0")]
    eventually(lambda: len(far.asked) == 2, "both are asked")
    far.side.say(type="host", host="hostb", instance="", up=False)
    for process in processes:
        assert process.wait(timeout=30 * PATIENCE) == EXIT_UNREACHABLE
        process.communicate()


def test_a_host_that_changes_its_answers_fast_is_read_in_turns(liar):
    nodes, lying = liar
    versions = itertools.count(1)

    def flip(number, what):
        version = next(versions)
        return [told(number, [(0, b"zero")] if what == 1 else [(1, b"a" if version % 2 else b"b")], version=version)]

    far = lying(flip)
    process = nodes[0].popen("watch", "hostb/0:*")
    lines = [process.stdout.readline().decode().split()[:3] for _ in range(2000)]
    # Nothing comes twice without having gone.
    up = set()
    for event, _, name in lines:
        assert (name in up) == (event == "down"), name
        (up.add if event == "up" else up.discard)(name)
    nodes[0].send("self:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    process.kill()
    process.communicate()
    assert far.asked


def test_questions_of_a_host_are_answered_with_what_it_may_know(liar):
    nodes, lying = liar
    far = lying(lambda number, what: [told(number)])
    assert nodes[0].xenmsg("peers", "hostb").returncode == EXIT_OK  # the link is up
    cases = {1: (3, b"", errno.EINVAL), 2: (0, b"", errno.EINVAL), 3: (2, b"self", errno.EINVAL), 4: (2, b"hostc/1", errno.EINVAL),
             5: (2, b"", errno.EINVAL), 6: (2, b"x" * 400, errno.EINVAL), 7: (2, b"77", errno.EHOSTDOWN), 8: (2, b"1", 0), 9: (1, b"", 0),
             10: (2, b"1\0" + b"w" * 300 + b"\0hostc", 0), 11: (255, b"\0\0\0", errno.EINVAL)}
    for number, (kind, text, _) in cases.items():
        far.ask(kind, text, number)
    eventually(lambda: set(far.told) >= set(cases), "all are answered")
    assert {number: far.told[number] for number in cases} == {number: error for number, (_, _, error) in cases.items()}
    # Of those that rest until something changes there are as many as its account pays for, and they hold nobody else.
    far.ask(1, b"", 20)
    eventually(lambda: 20 in far.told, "the version is known")
    far.told.clear()
    far.ask(1, b"", *range(5000), known=far.version)
    eventually(lambda: errno.ENOBUFS in far.told.values(), "it has too many")
    assert set(far.told.values()) == {errno.ENOBUFS}
    assert nodes[1].xenmsg("peers", "hosta").returncode == EXIT_OK
    far.say(UNASK, *(u32(number) for number in range(5000)))
    far.ask(1, b"", 6000)
    eventually(lambda: far.told.get(6000) == 0, "there is room again")
    # The same number again, before there is an answer, ends the session.
    far.ask(1, b"", 1, 1, known=far.version)
    eventually(lambda: far.goodbyes, "the session has ended")
    assert nodes[0].xenmsg("peers", "hostb").returncode == EXIT_OK
