# SPDX-License-Identifier: LGPL-2.1-or-later
"""A link without a session that could go on, since a daemon of it has `resume-for = 0`. Whether a daemon hands over, the ring is lost
or a domain is saved and restored: all that is under way ends, each with what is certain of it, and the link is set up anew."""

import contextlib
import errno

import pytest

from library import Connection
from messaging import FAST, eventually, needs_systemd
from renewing import process_until, renew
from test_handover_streams import Stream
from test_restart import Service

pytestmark = pytest.mark.unless(relayed="direct", strict="zero", away="counts")

NEVER = FAST + "resume-for = 0\n"
MESSAGES, TAKEN = 40, 10
BYTES = 100000


class UnderWay:
    """From one domain to another: messages, of which some are taken, calls, of which one is in service, and a stream."""

    def __init__(self, source, target, mark):
        self.source, self.target = source, target
        self.sender, self.receiver, self.server = (Connection(node.socket) for node in (source, target, target))
        self.inbox, self.upper = f"inbox-{mark}", f"upper-{mark}"
        assert self.receiver.bind(self.inbox) == self.server.bind(self.upper) == 0
        self.outcomes, self.answers, self.got = [], [], []
        self.request, self.stream = None, None
        self.post(MESSAGES)
        self.take_until(lambda: self.outcomes[TAKEN - 1], "the first have come", TAKEN)
        for text in (b"in service", b"waits"):
            self.call(text)
        self.request = self.server.take()
        self.open_stream(mark)
        for way in (self.stream.there, self.stream.back):
            way.send(BYTES)
        self.stream.there.receive()

    def open_stream(self, mark):
        self.stream = Stream(self.source, self.target.domid, mark, self.target).accept()

    def post(self, count):
        for _ in range(count):
            ended = []
            assert self.sender.post(f"{self.target.domid}:{self.inbox}", b"%d" % len(self.outcomes), ended.append) == 0
            self.outcomes.append(ended)

    def call(self, text):
        ended = []
        assert self.sender.call_post(f"{self.target.domid}:{self.upper}", text, ended.append) == 0
        self.answers.append(ended)

    def take_until(self, condition, what, most=1000):
        def taken():
            assert self.sender.wait(0) >= 0
            while len(self.got) < most and not isinstance(got := self.receiver.receive(0), int):
                self.got.append(int(got.data))
            return condition()
        eventually(taken, what, timeout=60)

    def ends(self):
        """All of it, without a word of ours."""
        self.take_until(lambda: all(self.outcomes) and all(self.answers), "all have ended")
        for way in (self.stream.there, self.stream.back):
            eventually(lambda way=way: is_broken(way), "the stream has ended", timeout=60)

    def goes_anew(self, mark):
        """What is sent now arrives, and is all that comes."""
        before = len(self.outcomes)
        self.source.sees(self.target)  # by the number that it has now
        self.post(5)
        self.call(b"anew")
        self.take_until(lambda: all(self.outcomes), "the new ones have ended")
        assert self.outcomes[before:] == [[0]] * 5
        if self.request:
            self.request.free()
        while (request := self.server.take()).data != b"anew":  # the link took it over, and its caller didn't hear of that
            request.free()
        assert request.reply(b"ANEW") == 0
        request.free()
        process_until(lambda: self.answers[-1], "it is answered", self.sender, self.server)
        assert self.answers[-1] == [b"ANEW"]
        self.stream.close()
        self.open_stream(mark)
        self.stream.run(BYTES)
        self.stream.finish()

    def check(self):
        """None has two ends, or one that isn't so."""
        assert self.got == sorted(set(self.got)), self.got
        for number, ended in enumerate(self.outcomes):
            error, = ended
            assert error in (0, -errno.ECONNRESET, -errno.EHOSTDOWN, -errno.EHOSTUNREACH), (number, error)
            assert error == -errno.ECONNRESET or (number in self.got) == (error == 0), (number, error)
        assert self.outcomes[:TAKEN] == [[0]] * TAKEN
        for answer in self.answers[:2]:
            error, = answer
            assert error in (-errno.ECONNRESET, -errno.EHOSTDOWN, -errno.EHOSTUNREACH), self.answers
        assert self.answers[0] == [-errno.ECONNRESET]  # it was in service

    def close(self):
        self.stream.close()
        for connection in (self.sender, self.receiver, self.server):
            connection.close()


def is_broken(way):
    """It was ended by nobody, so it doesn't end in order."""
    try:
        assert not way.receive(), "an end of file that nobody has made"
    except ConnectionResetError:
        return True
    return False


def ends_and_goes_anew(nodes, happen):
    """Both ways, whichever end it happens to."""
    one, two = nodes
    for times, node in enumerate((one, two)):
        flows = UnderWay(one, two, 4 * times), UnderWay(two, one, 4 * times + 1)
        happen(node, flows)
        for flow in flows:
            flow.ends()
        for flow in flows:
            flow.goes_anew(flow.stream.seed + 2)
            flow.check()
            flow.close()
    for node in nodes:
        assert not any("link is resumed" in path.read_text() for path in node.logs)


@pytest.fixture(name="pair", params=[(1,), (2,), (1, 2)], ids=["mapping", "granting", "both"])
def domains_of_which_some_resume_nothing(request, nodes):
    """Not started yet."""
    pair = nodes(1, 2, start=False)
    for domid in request.param:
        pair[domid].config = NEVER
    return pair[1], pair[2]


def start(pair):
    for node in pair:
        node.start()
    pair[0].sees(pair[1])
    pair[1].sees(pair[0])


def test_a_hand_over_ends_what_cannot_be_resumed(pair):
    start(pair)
    ends_and_goes_anew(pair, lambda node, _: renew(node))


@needs_systemd
def test_a_restart_ends_what_cannot_be_resumed(pair, tmp_path):
    with contextlib.ExitStack() as stack:
        services = {}
        for node in pair:
            directory = tmp_path / str(node.domid)
            directory.mkdir()
            services[node] = stack.enter_context(Service(node, directory)).start()
        pair[0].sees(pair[1])
        pair[1].sees(pair[0])
        ends_and_goes_anew(pair, lambda node, _: services[node].restart())


def test_a_lost_ring_ends_what_cannot_be_resumed(pair, nodes):
    """The hello of one daemon vanishes from XenStore, so the other one lets go."""
    start(pair)
    zero = nodes(0, start=False)[0]

    def lose(node, flows):
        other = pair[0].domid + pair[1].domid - node.domid

        def has_ended():
            for flow in flows:
                flow.sender.wait(0)
            return all(flow.answers[0] for flow in flows) or store.take_away_hello(node, other)
        with zero.store() as store:
            eventually(has_ended, "the ring is lost")
    ends_and_goes_anew(pair, lose)


def test_a_restore_ends_what_cannot_be_resumed(pair, host):
    start(pair)
    ends_and_goes_anew(pair, lambda node, _: node.save_and_restore())
    assert host.list()["kernel_log"] == []
