# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons of earlier versions and this one on the same host: each can do with the other what both know. tests/interop/run builds
the earlier ones, and says in XENMSG_OLD where they are; without it there is nothing to test."""

import contextlib
import errno
import hashlib
import json
import os
import signal
import tempfile

import pytest

from frames import message
from library import Connection
from messaging import EXIT_ERROR, EXIT_NO_ENDPOINT, PATIENCE, Holder, Node, eventually
from protocol import Program

OLD = [path for path in os.environ.get("XENMSG_OLD", "").split(":") if path]
TIMEOUT = 60 * PATIENCE
DATA = bytes(range(256)) * 8192  # 2 MiB


class AnyNode(Node):
    """A domain whose daemon and command are of an earlier version, or of this one."""

    def __init__(self, programs, *arguments, **more):
        super().__init__(*arguments, **more)
        self.programs = programs
        self.is_old = None  # of its daemon: its commands may change meanwhile

    def start(self, wait=True):
        self.is_old = self.programs is not None
        return super().start(wait)

    def status(self):
        with Program(self.socket) as program:
            return json.loads(program.query("status" if self.is_old else "status all"))

    def json(self, *arguments):
        """The first of them printed one list, not an object a line."""
        done = self.xenmsg(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        if done.stdout.startswith(b"["):
            return json.loads(done.stdout)
        return [json.loads(line) for line in done.stdout.splitlines()]


def add_node(nodes, domid, programs=None):
    nodes.by_domid[domid] = AnyNode(programs, nodes.host, domid, nodes.tmp_path)
    return nodes.by_domid[domid]


@pytest.fixture(name="old_and_new", params=[(old, domid) for old in OLD for domid in (1, 2)],
                ids=lambda param: f"{os.path.basename(os.path.dirname(param[0]))[:7]}-{'maps' if param[1] == 1 else 'grants'}")
def old_and_new_nodes(nodes, request):
    """Two domains with one daemon each; the lower domid maps."""
    programs, domid = request.param
    old, new = add_node(nodes, domid, programs), add_node(nodes, 3 - domid)
    for node in (old, new):
        node.start()
    return old, new


def both_ways(one, two):
    return ((one, two), (two, one))


def received(sender, receiver, data):
    """What comes of a message. It goes to a file, since it counts as taken only when it was printed."""
    with tempfile.TemporaryFile() as output:
        inbox = receiver.receiver("inbox", "--raw", "--count", "1", stdout=output)
        try:
            sender.send(f"{receiver.domid}:inbox", None, data=data)
            assert inbox.process.wait(timeout=TIMEOUT) == 0
        finally:
            inbox.stop()
        output.seek(0)
        return output.read()


@contextlib.contextmanager
def running(node, *words, **options):
    process = node.popen(*words, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)


def bound(node, endpoint):
    eventually(lambda: endpoint in node.endpoints(), f"{endpoint} of domain {node.domid} is bound")


def lists(node, other, endpoint):
    return any(line["domid"] == other.domid and endpoint in line.values() for line in node.json("endpoints"))


def test_messages(old_and_new):
    for sender, receiver in both_ways(*old_and_new):
        for data in (b"x", DATA):
            assert received(sender, receiver, data) == data
        lines = b"".join(b"line %d\n" % number for number in range(1000))
        inbox = receiver.receiver("lines", "--count", "1000")
        sender.send(f"{receiver.domid}:lines", None, "--lines", data=lines)
        assert inbox.output() == lines  # less than a pipe takes
        sender.send(f"{receiver.domid}:none", "x", exit_code=EXIT_NO_ENDPOINT)


def test_calls(old_and_new):
    for caller, server in both_ways(*old_and_new):
        with running(server, "serve", "echo", "--", "cat"):
            bound(server, "echo")
            done = caller.xenmsg("call", f"{server.domid}:echo", data=DATA[:100000])
            assert (done.returncode, done.stdout) == (0, DATA[:100000]), done.stderr


def test_programs_of_one_version_use_a_daemon_of_the_other(old_and_new):
    """With its library: what both know goes on as between those of one version. Before the first release libraries didn't seal the
    memory that they share, so they use none with a daemon that wants it sealed."""
    old, new = old_and_new
    of_old, of_new = old.programs, None
    for node, programs in ((new, of_old), (old, of_new)):
        node.programs = programs  # of the commands from now on; the daemon runs
        node.environment = dict(node.environment, XENMSG_NO_SHARED_MEMORY="1")
    for sender, receiver in (*both_ways(old, new), (new, new), (old, old)):
        assert received(sender, receiver, DATA[:300000]) == DATA[:300000]
        with running(receiver, "serve", "echo", "--", "cat"):
            bound(receiver, "echo")
            done = sender.xenmsg("call", f"{receiver.domid}:echo", data=b"hello")
            assert (done.returncode, done.stdout) == (0, b"hello"), done.stderr
        with running(receiver, "listen", "bytes", "--", "cat"):
            bound(receiver, "bytes")
            done = sender.xenmsg("connect", f"{receiver.domid}:bytes", data=b"there and back")
            assert (done.returncode, done.stdout) == (0, b"there and back"), done.stderr


def test_streams(old_and_new):
    for caller, listener in both_ways(*old_and_new):
        with running(listener, "listen", "bytes", "--", "sh", "-c", "sha256sum; cat /dev/null"):
            bound(listener, "bytes")
            done = caller.xenmsg("connect", f"{listener.domid}:bytes", data=DATA)
            assert done.returncode == 0, done.stderr
            assert done.stdout.split()[0].decode() == hashlib.sha256(DATA).hexdigest()


def test_each_discovers_the_other_and_its_endpoints(old_and_new):
    for one, other in both_ways(*old_and_new):
        with running(other, "recv", "printer"):
            bound(other, "printer")
            eventually(lambda one=one, other=other: lists(one, other, "printer"), "it lists the other's endpoint")
            assert other.domid in [peer["domid"] for peer in one.json("peers")]
        eventually(lambda one=one, other=other: not lists(one, other, "printer"), "it has gone again")


def test_the_newer_one_offers_a_session_as_the_older_has_it(old_and_new, nodes):
    """A ring that is lost ends what went over it, with ECONNRESET for what may have arrived; the next message goes over another."""
    old, new = old_and_new
    assert received(old, new, b"x") == b"x"
    for times in range(3):
        with Holder(old, "sleeper") as sleeper, Connection(new.socket) as sender:
            results = []
            assert sender.post(f"{old.domid}:sleeper", b"x", results.append) == 0
            assert sleeper.take() == message(b"x")
            eventually(lambda: sender.wait(10) >= 0 and results == [0], "the first one is taken")
            for _ in range(2):
                assert sender.post(f"{old.domid}:sleeper", b"x", results.append) == 0
            eventually(lambda: sender.wait(10) >= 0 and old.status()["endpoints"][0]["queued"], "the others have arrived")
            with nodes(0, start=False)[0].store() as store:
                # Either daemon's hello in turn: the other one lets go of the ring, or finds it closed.
                gone = (old, new)[times % 2]
                eventually(lambda: store.take_away_hello(gone, 3 - gone.domid) or (sender.wait(50) >= 0 and len(results) == 3),
                           "each has its outcome")
            assert results == [0, -errno.ECONNRESET, -errno.ECONNRESET]
        link = new.link(old.domid)
        assert link is None or (link["state"] != "away" and link["resumes"] == 0)
        for sender, receiver in both_ways(old, new):
            assert received(sender, receiver, b"again") == b"again"
    assert "resumed" not in new.log.read_text()


def test_a_domain_that_stands_still_has_lost_its_link(old_and_new, host):
    old, new = old_and_new
    assert received(old, new, b"x") == b"x"
    for still, other in both_ways(old, new):
        host.sim("pause", still.domid)
        eventually(lambda still=still, other=other: other.link_state(still.domid) in (None, "idle"),
                   "the link is given up", 60)  # by dead-after, which is 20 s in the old one
        host.sim("unpause", still.domid)
        for sender, receiver in both_ways(old, new):
            eventually(lambda sender=sender, receiver=receiver:
                       sender.xenmsg("send", f"{receiver.domid}:none", "x").returncode == EXIT_NO_ENDPOINT, "it answers again")


@pytest.mark.parametrize("restarted", ["old", "new"])
def test_a_daemon_is_upgraded_and_set_back(old_and_new, restarted):
    """A daemon of the other version comes under the same domid: no link, name or session of the one before is believed."""
    old, new = old_and_new
    assert received(old, new, b"x") == b"x"
    node = old if restarted == "old" else new
    programs = old.programs
    for other in (None, programs) if node is old else (programs, None):
        node.stop()
        node.programs = other
        node.start()
        eventually(lambda: old.xenmsg("send", f"{new.domid}:none", "x").returncode == EXIT_NO_ENDPOINT, "it reaches the other")
        for sender, receiver in both_ways(old, new):
            assert received(sender, receiver, b"again") == b"again"


@pytest.mark.parametrize("programs", OLD, ids=lambda path: os.path.basename(os.path.dirname(path))[:7])
@pytest.mark.parametrize("zero_is_old", [True, False], ids=["domain 0 is older", "a guest is older"])
def test_domain_0_tells_what_the_guests_understand(nodes, programs, zero_is_old):
    """Names, and who is there: by domain 0, or by the guest's own watch where one of the two doesn't know the other way."""
    every = {domid: add_node(nodes, domid, programs if domid == (0 if zero_is_old else 1) else None) for domid in (2, 0, 1)}
    for node in every.values():
        node.start()
    one, two = every[1], every[2]
    # The first of the older ones doesn't ask who is there: it hears of those that come later, or when it writes to them.
    one.send("2:none", "x", exit_code=EXIT_NO_ENDPOINT)
    for reader, other in both_ways(one, two):
        eventually(lambda reader=reader, other=other:
                   any(peer["domid"] == other.domid and peer["name"] for peer in reader.json("peers")), "it has heard the other's name")
        names = {peer["domid"]: peer["name"] for peer in reader.json("peers")}
        assert received(reader, other, b"x") == b"x"
        inbox = other.receiver("byname", "--count", "1")
        reader.send(f"{names[other.domid]}:byname", "hello")
        assert inbox.output() == b"hello\n"
    # What only one of the two knows is said.
    if zero_is_old:
        done = one.xenmsg("hosts")
        assert done.returncode == EXIT_ERROR and b"older than this one" in done.stderr, done
    # A daemon and an endpoint that come later are seen by whoever watches.
    with running(one, "watch", "--json", "2") as watch_one:
        def changed():
            """The next change; where its list ends only a newer daemon tells."""
            event = json.loads(watch_one.stdout.readline())["event"]
            return event if event != "listed" else changed()
        assert changed() == "up"
        two.stop()
        assert changed() == "down"
        two.start()
        assert changed() == "up"
    # Domain 0's daemon is restarted, and goes on telling.
    every[0].stop()
    every[0].start()
    for reader, other in both_ways(one, two):
        assert received(reader, other, b"x") == b"x"
        eventually(lambda reader=reader: (reader.link(0) or {"state": None})["state"] == "up", "it is linked with domain 0")
