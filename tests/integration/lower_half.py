# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that are a daemon's lower half and no more (check_peers.c), and the hand that writes to XenStore beside them."""

import itertools

from conftest import wait_for

INSTANCE = "01234567-89ab-cdef-0123-456789abcdef"


class Node:
    def __init__(self, host, domid, *options, settled=True):
        self.host, self.domid = host, domid
        self.talk = host.converse(domid, "check-peers", *options)
        assert self.talk.first == f"ok {domid}"
        self.passed_over = []
        if settled:
            self.settle()

    def settle(self):
        """All that it has had to do in XenStore is done: requests are answered in turn, so the last answer says so."""
        self.connect(77)
        self.await_event("failed 77")

    def await_event(self, *starts):
        """The first event not yet asked for that begins with one of these."""
        while True:
            for event in self.passed_over:
                if any((event + " ").startswith(start + " ") for start in starts):
                    self.passed_over.remove(event)
                    return event
            line = self.talk.ask("next")
            assert line.startswith("ok ")
            self.passed_over.append(line[3:])

    def connect(self, peer):
        assert self.talk.ok("connect", peer) == 0

    def close(self, peer):
        assert self.talk.ok("close", peer) == 0

    def state(self, peer):
        return self.talk.ask("state", peer).split()[1]

    def await_state(self, peer, state):
        wait_for(lambda: self.state(peer) == state, f"state {state} of domain {peer}")

    def end(self):
        """In order: as a daemon that is told to stop."""
        self.talk.process.stdin.close()
        assert self.talk.process.wait(30) == 0


def exchange(one, other):
    one.talk.ok("send", other.domid, "ping")
    assert other.talk.ask("receive", one.domid) == "ok ping"
    other.talk.ok("send", one.domid, "pong")
    assert one.talk.ask("receive", other.domid) == "ok pong"


def link(one, other):
    """Connects from `one` and returns what the two say about it."""
    one.connect(other.domid)
    return one.await_event(f"connected {other.domid}"), other.await_event(f"connected {one.domid}")


class Tree:
    """The hand that writes to XenStore, in a domain's name."""

    def __init__(self, host, domid):
        self.domid = domid
        self.talk = host.converse(domid, "check-store")
        assert self.talk.first == "ok 0"

    def write(self, path, value, reader=-1):
        assert self.talk.ok("write", f"/local/domain/{self.domid}/data/xenmsg/{path}", self.domid, reader,
                            str(value).replace(" ", "%20")) == 0

    def remove(self, path=""):
        assert self.talk.ok("remove", f"/local/domain/{self.domid}/data/xenmsg{'/' + path if path else ''}") == 0

    def read(self, path):
        line = self.talk.ask("read", path)
        return line[3:] if line.startswith("ok") else None


def own_vchan(host, domid):
    """A program that makes one as the daemon does (check_own_vchan.c)."""
    own = host.converse(domid, "check-own-vchan")
    assert own.first == "ok 0"
    return own


def settle(*nodes):
    for node in nodes:
        node.settle()


def see_each_other(*nodes):
    for one, other in itertools.permutations(nodes, 2):
        one.await_event(f"up {other.domid}")


def pair(host, *options, domids=(1, 2)):
    """Two, or more, that see each other; by their numbers."""
    nodes = {domid: Node(host, domid, *options) for domid in domids}
    see_each_other(*nodes.values())
    return nodes


class ByHand:
    """A peer in domain 2 by hand, for a program in this domain: 3 grants to it, 1 maps."""

    def __init__(self, host, domid, *options):
        self.domid = domid
        self.tree = Tree(host, 2)
        self.tree.write("presence", f"1 {INSTANCE}")
        self.node = Node(host, domid, *options)
        self.write("endpoints", "")
        self.node.await_event("up 2")

    def write(self, leaf, value):
        """For the program."""
        self.tree.write(f"to/{self.domid}/{leaf}", value, self.domid)

    def hello(self, nonce, willing=1):
        self.write("hello", f"1 {INSTANCE} {nonce} {willing}")

    def mark(self):
        """All that was written before has been read."""
        self.write("endpoints", "mark")
        self.node.await_event("endpoints 2 mark")

    def offer(self, ref, port):
        """Answers the program's hello by nodes with these contents."""
        self.node.connect(2)
        nonce = wait_for(lambda: self.ours("hello"), "its hello").split()[2]
        self.hello("0123abcd", 0)
        self.write(f"{nonce}/event-channel", port)
        self.write(f"{nonce}/ring-ref", ref)

    def ours(self, leaf):
        """What the program has written for us."""
        return self.tree.read(f"/local/domain/{self.domid}/data/xenmsg/to/2/{leaf}")

    def nodes(self, nonce):
        """Of what it grants for this nonce of ours."""
        return [wait_for(lambda leaf=leaf: self.ours(f"{nonce}/{leaf}"), leaf) for leaf in ("ring-ref", "event-channel")]

    def await_state(self, state):
        self.node.await_state(2, state)


def granting(host, *options):
    """A peer by hand, to which domain 3 has granted pages for the link that both want."""
    peer = ByHand(host, 3, *options)
    peer.node.connect(2)
    peer.hello("00000001")
    peer.await_state("granted")
    return peer


def fails(node, peer, error):
    """The link with this peer does, with this error. Returns what is said of it."""
    told = node.await_event(f"failed {peer}")
    assert told.startswith(f"failed {peer} {error} "), told
    return told
