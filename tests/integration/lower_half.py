# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that are a daemon's lower half and no more (check_peers.c), and the hand that writes to XenStore beside them."""

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


def settle(*nodes):
    for node in nodes:
        node.settle()


def our_nonce(tree, me=1):
    path = f"/local/domain/{me}/data/xenmsg/to/{tree.domid}/hello"
    return wait_for(lambda: tree.read(path), "our hello").split()[2]


class Mapper:
    """A peer in domain 2 by hand, which domain 3 grants to."""

    def __init__(self, host, *options):
        self.tree = Tree(host, 2)
        self.tree.write("presence", f"1 {INSTANCE}")
        self.node = Node(host, 3, *options)
        self.tree.write("to/3/endpoints", "", 3)
        self.node.await_event("up 2")

    def hello(self, nonce, willing=1):
        self.tree.write("to/3/hello", f"1 {INSTANCE} {nonce} {willing}", 3)

    def is_granted(self, nonce):
        """Its hello is answered with pages."""
        self.hello(nonce)
        self.await_state("granted")

    def ours(self, leaf):
        return self.tree.read(f"/local/domain/3/data/xenmsg/to/2/{leaf}")

    def await_state(self, state):
        self.node.await_state(2, state)
