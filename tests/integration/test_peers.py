# SPDX-License-Identifier: LGPL-2.1-or-later
"""How daemons find each other and get a vchan (daemon/peers/peers.h), with programs that are a daemon's lower half and no more."""

import errno
import itertools
import random
import signal

import pytest

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


# --- presence ---

@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_daemons_find_each_other_in_any_start_order(host, order):
    nodes = {}
    for domid in order:
        nodes[domid] = Node(host, domid, settled=False)
    for domid, other in itertools.permutations(order, 2):
        nodes[other].await_event(f"up {domid}")


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_daemons_find_each_other_one_after_the_other(host, order):
    nodes = {}
    for domid in order:
        nodes[domid] = Node(host, domid)
        for other in nodes:
            if other != domid:
                nodes[other].await_event(f"up {domid}")
                nodes[domid].await_event(f"up {other}")


def test_a_daemon_does_not_see_itself(host):
    one, two = Node(host, 1), Node(host, 2)
    assert one.await_event("up 1", "up 2") == "up 2"
    two.end()
    assert one.await_event("up 1", "down 2") == "down 2"


def test_a_daemon_that_stops_is_down_and_leaves_nothing(host):
    one, two = Node(host, 1), Node(host, 2)
    one.await_event("up 2")
    two.end()
    one.await_event("down 2")
    assert Tree(host, 2).read("/local/domain/2/data/xenmsg") is None


def test_a_daemon_that_is_killed_and_started_again_is_down_and_up(host):
    one, two = Node(host, 1), Node(host, 2)
    one.await_event("up 2")
    two.talk.kill()
    two = Node(host, 2)
    assert one.await_event("up 2", "down 2") == "down 2"
    assert one.await_event("up 2", "down 2") == "up 2"
    two.await_event("up 1")
    link(one, two)
    exchange(one, two)


@pytest.mark.parametrize("watcher", [0, 1])
def test_a_destroyed_domain_is_down(host, watcher):
    one, two = Node(host, watcher), Node(host, 2)
    one.await_event("up 2")
    two.await_event(f"up {watcher}")
    link(one, two)
    host.sim("destroy", 2)
    one.await_event("lost 2")
    one.await_event("down 2")


@pytest.mark.parametrize("watcher", [0, 1])
def test_a_domain_created_later_is_seen(host, watcher):
    one = Node(host, watcher)
    host.sim("create", "--name", "late")
    domid = next(domain["domid"] for domain in host.list()["domains"] if domain["name"] == "late")
    late = Node(host, domid)
    one.await_event(f"up {domid}")
    late.await_event(f"up {watcher}")


def settle(*nodes):
    for node in nodes:
        node.settle()


def test_endless_touching_does_not_happen(host):
    """Each answers a new presence once: then XenStore is quiet."""
    nodes = [Node(host, domid) for domid in (1, 2, 3)]
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.await_event(f"up {other.domid}")
    settle(*nodes, *nodes, *nodes)
    watcher, marker = Tree(host, 0), Tree(host, 1)
    assert watcher.talk.ok("watch", "/local/domain") == 0
    settle(*nodes)
    marker.talk.ok("write", "/local/domain/1/data/mark", 1, -1, "x")
    assert watcher.talk.ask("event") == "ok /local/domain"
    assert watcher.talk.ask("event") == "ok /local/domain/1/data/mark"


def test_private_presence_shows_itself_to_the_allowed_only(host):
    hidden = Node(host, 1, "private=2")
    two, three = Node(host, 2), Node(host, 3)
    two.await_event("up 1")
    hidden.await_event("up 2")
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/presence") is None
    two.await_event("up 3")
    three.connect(1)
    assert three.await_event("up 1", "failed 1").startswith(f"failed 1 {errno.EHOSTDOWN} ")
    link(two, hidden)


def test_private_presence_works_in_the_other_start_order(host):
    two = Node(host, 2)
    hidden = Node(host, 1, "private=2")
    two.await_event("up 1")
    hidden.await_event("up 2")
    link(hidden, two)
    exchange(hidden, two)


# --- endpoints ---

def test_endpoints_reach_peers_that_run_and_that_come_later(host):
    one, two = Node(host, 1), Node(host, 2)
    one.await_event("up 2")
    one.talk.ok("advertise", "print", "scan")
    assert two.await_event("endpoints 1") == "endpoints 1 print scan"
    three = Node(host, 3)
    assert three.await_event("endpoints 1") == "endpoints 1 print scan"
    one.talk.ok("advertise", "scan")
    assert two.await_event("endpoints 1") == "endpoints 1 scan"
    one.talk.ok("advertise")
    assert two.await_event("endpoints 1") == "endpoints 1"
    one.end()
    two.await_event("down 1")


@pytest.mark.parametrize("watcher", [0, 1])
def test_endpoints_of_another_daemon_are_told_anew_also_if_they_are_the_same(host, watcher):
    """Who hears that a daemon has gone takes its endpoints for gone, too."""
    one, two = Node(host, watcher), Node(host, 2)
    two.talk.ok("advertise", "inbox", "print")
    one.await_event("endpoints 2 inbox print")
    one.talk.process.send_signal(signal.SIGSTOP)  # it sees only what has become of it all
    two.talk.kill()
    other = Node(host, 2)
    other.talk.ok("advertise", "inbox", "print")
    one.talk.process.send_signal(signal.SIGCONT)
    one.await_event("down 2")
    one.await_event("up 2")
    one.await_event("endpoints 2 inbox print")


def test_nobody_but_the_peer_reads_what_is_meant_for_it(host):
    one, two = Node(host, 1), Node(host, 2)
    three = Tree(host, 3)
    assert three.talk.ok("watch", "/local/domain") == 0
    one.await_event("up 2")
    one.talk.ok("advertise", "secret")
    two.await_event("endpoints 1 secret")
    link(one, two)
    one.close(2)
    two.await_event("lost 1")
    Tree(host, 1).talk.ok("write", "/local/domain/1/data/mark", 1, -1, "x")
    seen = set()
    while "/local/domain/1/data/mark" not in seen:
        seen.add(three.talk.ask("event")[3:])
    assert not [path for path in seen if "/to/" in path]
    for leaf in ("", "/to", "/to/2", "/to/2/hello", "/to/2/endpoints"):
        assert three.read(f"/local/domain/1/data/xenmsg{leaf}") is None
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/to/2/endpoints") == "secret"
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/to/2") is None


# --- rendezvous ---

@pytest.mark.parametrize("asker, answerer, mapper", [(1, 2, 1), (2, 1, 1), (0, 2, 0), (3, 0, 0), (2, 3, 2)])
def test_roles_are_as_specified(host, asker, answerer, mapper):
    nodes = {asker: Node(host, asker), answerer: Node(host, answerer)}
    for one, other in ((asker, answerer), (answerer, asker)):
        nodes[one].await_event(f"up {other}")
    link(nodes[asker], nodes[answerer])
    mapped = {domid: host.domain(domid)["mapped_pages"] for domid in nodes}
    granted = {domid: host.domain(domid)["grants"]["used_pages"] for domid in nodes}
    granter = answerer if mapper == asker else asker
    assert mapped == {mapper: 33, granter: 0} and granted == {mapper: 0, granter: 33}
    exchange(nodes[asker], nodes[answerer])


@pytest.mark.parametrize("low, high, mapper", [("yes", "yes", 1), ("no", "yes", 2), ("yes", "no", 1)])
def test_map_setting_decides_who_maps(host, low, high, mapper):
    one, two = Node(host, 1, f"map={low}"), Node(host, 2, f"map={high}")
    one.await_event("up 2")
    said = link(one, two)
    assert said[mapper - 1].split()[2] == "mapped" and said[2 - mapper].split()[2] == "granted"
    exchange(one, two)


def test_dom0_that_may_not_map_grants(host):
    zero, two = Node(host, 0, "map=no"), Node(host, 2)
    zero.await_event("up 2")
    said = link(zero, two)
    assert said[0].split()[2] == "granted"
    exchange(zero, two)


def test_where_neither_may_map_the_error_names_the_setting(host):
    one, two = Node(host, 1, "map=no", "timeout=1000"), Node(host, 2, "map=no", "timeout=600000")
    one.await_event("up 2")
    for _ in range(2):
        one.connect(2)
        failed = one.await_event("failed 2")
        assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "map = yes" in failed and "[links]" in failed
    one.await_state(2, "idle")
    two.await_state(1, "idle")
    assert two.talk.ok("granted") == 0


def test_pv_guests_do_not_map_by_themselves(host):
    host.sim("create", "--name", "pv-a", "--type", "pv")
    host.sim("create", "--name", "pv-b", "--type", "pv")
    domids = {domain["name"]: domain["domid"] for domain in host.list()["domains"]}
    a, b = Node(host, domids["pv-a"]), Node(host, domids["pv-b"])
    two = Node(host, 2)
    a.await_event(f"up {b.domid}")
    a.connect(b.domid)
    assert "map = yes" in a.await_event(f"failed {b.domid}")
    a.await_event("up 2")
    said = link(a, two)
    assert said[0].split()[2] == "granted"


def test_both_ask_at_once(host):
    one, two = Node(host, 1), Node(host, 2)
    one.await_event("up 2")
    two.await_event("up 1")
    one.connect(2)
    two.connect(1)
    one.await_event("connected 2")
    two.await_event("connected 1")
    exchange(one, two)


def test_a_link_with_oneself_does_not_exist(host):
    one = Node(host, 1)
    one.connect(1)
    assert one.await_event("failed 1").startswith(f"failed 1 {errno.EHOSTUNREACH} ")


@pytest.mark.parametrize("domid", [3, 99, 32751, 32752, 4294967295])
def test_missing_domain_or_daemon_is_told_at_once(host, domid):
    one = Node(host, 1, "timeout=600000")
    one.connect(domid)
    assert one.await_event(f"failed {domid}").startswith(f"failed {domid} {errno.EHOSTDOWN} ")
    assert one.state(domid) == "unknown"
    # dom0 sees every domain, and says the same.
    zero = Node(host, 0, "timeout=600000")
    zero.connect(domid)
    assert zero.await_event(f"failed {domid}").startswith(f"failed {domid} {errno.EHOSTDOWN} ")


@pytest.mark.parametrize("closer", [1, 2])
def test_a_closed_link_is_lost_to_the_other_and_can_be_made_again(host, closer):
    nodes = {1: Node(host, 1), 2: Node(host, 2)}
    nodes[1].await_event("up 2")
    nodes[2].await_event("up 1")
    other = 3 - closer
    for asker in (1, 2, closer):
        link(nodes[asker], nodes[3 - asker])
        exchange(nodes[1], nodes[2])
        nodes[closer].close(other)
        nodes[other].await_event(f"lost {closer}")
        for domid in (1, 2):
            wait_for(lambda domid=domid: host.domain(domid)["event_channels"]["used"] == 0, "the ports to be closed")


@pytest.mark.parametrize("closer", [1, 2])
def test_a_link_closed_and_asked_for_in_one_breath_comes_again(host, closer):
    nodes = {1: Node(host, 1), 2: Node(host, 2)}
    nodes[1].await_event("up 2")
    nodes[2].await_event("up 1")
    other = 3 - closer
    link(nodes[1], nodes[2])
    for _ in range(20):
        nodes[closer].close(other)
        nodes[closer].connect(other)
        nodes[other].await_event(f"lost {closer}")
        nodes[closer].await_event(f"connected {other}")
        nodes[other].await_event(f"connected {closer}")
        exchange(nodes[1], nodes[2])


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_daemons_link_is_made_again_by_the_next(host, killed):
    nodes = {1: Node(host, 1), 2: Node(host, 2)}
    other = 3 - killed
    nodes[1].await_event("up 2")
    link(nodes[1], nodes[2])
    nodes[killed].talk.kill()
    nodes[killed] = Node(host, killed)
    nodes[other].await_event(f"lost {killed}")
    nodes[other].await_event(f"up {killed}")
    link(nodes[other], nodes[killed])
    exchange(nodes[1], nodes[2])


@pytest.mark.parametrize("killed", [1, 2])
def test_a_daemon_that_died_without_notice_is_reported(host, killed):
    """Its leaves stay: only time tells. Then the next daemon is found."""
    nodes = {1: Node(host, 1, "timeout=300"), 2: Node(host, 2, "timeout=300")}
    other = 3 - killed
    nodes[1].await_event("up 2")
    nodes[2].await_event("up 1")
    nodes[killed].talk.kill()
    nodes[other].connect(killed)
    assert nodes[other].await_event(f"failed {killed}").startswith(f"failed {killed} {errno.EHOSTUNREACH} ")
    nodes[killed] = Node(host, killed)
    nodes[other].await_event(f"down {killed}")
    nodes[other].await_event(f"up {killed}")
    link(nodes[other], nodes[killed])
    assert nodes[other].talk.ok("granted") in (0, 33)


def test_a_peer_that_goes_while_a_link_is_made_is_told_at_once(host):
    one = Node(host, 1, "timeout=600000")
    two = Tree(host, 2)
    two.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    two.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    one.await_state(2, "await")
    two.remove()
    assert one.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTDOWN} ")
    one.await_event("down 2")


def test_a_stalled_xenstore_is_told_by_the_timeout(host):
    one, two = Node(host, 1, "timeout=300"), Node(host, 2)
    one.await_event("up 2")
    host.fault("stall-store", 1, "on")
    one.connect(2)
    assert one.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTUNREACH} ")
    host.fault("stall-store", 1, "off")
    link(two, one)


# --- pages ---

def test_short_pages_make_smaller_rings(host):
    one, two = Node(host, 1), Node(host, 2)
    host.fault("grant-limit", 2, 20)
    one.await_event("up 2")
    said = link(one, two)
    assert said == ("connected 2 mapped 17", "connected 1 granted 17")
    exchange(one, two)


def test_the_last_page_makes_the_single_page_layout(host):
    one, two = Node(host, 1), Node(host, 2)
    host.fault("grant-limit", 2, 1)
    one.await_event("up 2")
    assert link(one, two)[1] == "connected 1 granted 1"
    exchange(one, two)


def test_links_wait_in_turn_for_pages(host):
    """Domain 3 grants to 0, 1 and 2."""
    three = Node(host, 3, "min=65536", "timeout=60000")
    others = [Node(host, domid) for domid in (0, 1, 2)]
    for other in others:
        three.await_event(f"up {other.domid}")
        other.await_event("up 3")
    host.fault("grant-limit", 3, 40)
    link(three, others[0])
    for other in others[1:]:
        three.connect(other.domid)
        three.await_state(other.domid, "pages")
    assert three.talk.ok("granted") == 33
    three.close(0)
    three.await_event("connected 1")
    others[1].await_event("connected 3")
    assert three.state(2) == "pages"
    three.close(1)
    three.await_event("connected 2")
    exchange(three, others[2])


def test_without_pages_the_link_fails_and_says_so(host):
    three, one = Node(host, 3, "timeout=300"), Node(host, 1)
    three.await_event("up 1")
    host.fault("grant-limit", 3, 0)
    three.connect(1)
    assert three.await_event("failed 1") == f"failed 1 {errno.EHOSTUNREACH} no grant pages free"
    host.fault("grant-limit", 3, 1024)
    link(three, one)


# --- hostile values ---

BAD = ["", "x", "1", "1 ", f"1  {INSTANCE}", f"01 {INSTANCE}", "1 0123", f"-1 {INSTANCE}", f"99999999999999999999 {INSTANCE}",
       f"1 {INSTANCE[:-1]}g", "1 %ff%fe%80", f"1 {INSTANCE}%0a", "A" * 1500, "%01" * 600]


@pytest.mark.parametrize("watcher", [0, 1])
def test_bad_presence_is_absence(host, watcher):
    one, tree = Node(host, watcher), Tree(host, 2)
    for value in BAD:
        tree.write("presence", value)
        tree.write("presence", f"1 {INSTANCE} and more")
        assert one.await_event("up 2", "down 2") == "up 2"
        tree.write("presence", value)
        assert one.await_event("up 2", "down 2") == "down 2"


def test_bad_hello_is_no_hello(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    for value in BAD + [f"1 {INSTANCE}", f"1 {INSTANCE} 0123abc 1", f"1 {INSTANCE} 0123ABCD 1", f"1 {INSTANCE} 0123abcd",
                        f"1 {INSTANCE} 0123abcd 2", f"1 {INSTANCE} 0123abcd yes", f"1 {INSTANCE} ../../.. 1"]:
        tree.write("to/1/hello", value, 1)
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.state(2) == "idle"
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0 more", 1)
    one.await_state(2, "await")


def test_bad_endpoints_are_none(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    for value in ["a  b", "a b%20", ".", "a/b", "a%ffb", "b" * 64, "-a", "a%0ab", "+1 a"]:
        tree.write("to/1/endpoints", "good", 1)
        assert one.await_event("endpoints 2") == "endpoints 2 good"
        tree.write("to/1/endpoints", value, 1)
        assert one.await_event("endpoints 2") == "endpoints 2"
    tree.write("to/1/endpoints", "a b +12", 1)
    assert one.await_event("endpoints 2") == "endpoints 2 a b"


def test_another_major_version_is_named(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("presence", f"2 {INSTANCE} something else")
    one.connect(2)
    failed = one.await_event("failed 2", "up 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "protocol 2" in failed and "same version" in failed
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    tree.write("to/1/hello", "3 what ever", 1)
    failed = one.await_event("failed 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "protocol 3" in failed and "same version" in failed


def our_nonce(tree, me=1):
    path = f"/local/domain/{me}/data/xenmsg/to/{tree.domid}/hello"
    return wait_for(lambda: tree.read(path), "our hello").split()[2]


@pytest.mark.parametrize("value", ["0", "-1", "x", "4294967296", "1x", " 1", "%ff", "00001", "99999"])
def test_bad_nodes_make_no_link(host, value):
    one, tree = Node(host, 1, "timeout=500"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/ring-ref", value, 1)
    tree.write(f"to/1/{nonce}/event-channel", value, 1)
    assert one.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTUNREACH} ")
    assert host.domain(1)["event_channels"]["used"] == 0 and host.domain(1)["mapped_pages"] == 0


def test_rings_of_impossible_size_make_no_link(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    xen = host.xen(2)
    memory, ref = xen.ok("share", 1, 1, 1)
    handle = xen.ok("evtchn-open")
    port = xen.ok("bind-unbound", handle, 1)
    xen.ok("poke", memory, 16, 40)
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/ring-ref", ref, 1)
    tree.write(f"to/1/{nonce}/event-channel", port, 1)
    failed = one.await_event("failed 2")
    assert failed.startswith(f"failed 2 {errno.EHOSTUNREACH} ") and "impossible" in failed


def test_nodes_may_appear_one_after_the_other(host):
    one, tree = Node(host, 1, "timeout=600000"), Tree(host, 2)
    own = host.converse(2, "check-own-vchan", "server", 1, "/local/domain/2/data/elsewhere", 4096, 4096)
    ref, port = (tree.read(f"/local/domain/2/data/elsewhere/{node}") for node in ("ring-ref", "event-channel"))
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    nonce = our_nonce(tree)
    tree.write("to/1/hello", f"1 {INSTANCE} 0123abcd 0", 1)
    tree.write(f"to/1/{nonce}/event-channel", port, 1)
    tree.write(f"to/1/{nonce}/ring-ref", ref, 1)
    assert one.await_event("connected 2", "failed 2") == "connected 2 mapped 3"
    assert own.ok("awaitstate", 1) == 0
    tree.remove("to/1/hello")
    one.await_event("lost 2")
    assert own.ok("awaitstate", 2) == 0


def test_a_peer_that_connects_and_goes_gets_one_grant_a_nonce(host):
    """A hostile mapper can't make the granter work in a loop."""
    three, tree = Node(host, 3, "timeout=600000"), Tree(host, 2)
    tree.write("presence", f"1 {INSTANCE}")
    three.await_event("up 2")
    three.connect(2)
    tree.write("to/3/hello", f"1 {INSTANCE} 0123abcd 1", 3)
    ref, port = (wait_for(lambda node=node: tree.read(f"/local/domain/3/data/xenmsg/to/2/0123abcd/{node}"), node)
                 for node in ("ring-ref", "event-channel"))
    own = host.converse(2, "check-own-vchan", "none")
    assert own.ok("map", 3, ref, port) == 0
    assert own.ok("close") == 0
    three.close(2)
    assert three.talk.ok("granted") == 0
    three.connect(2)
    three.await_state(2, "hello")
    # The same hello again, as a dead daemon's would stay: nothing is granted for it.
    tree.write("to/3/hello", f"1 {INSTANCE} 0123abcd 1", 3)
    tree.write("to/3/endpoints", "mark", 3)
    three.await_event("endpoints 2 mark")
    assert three.state(2) == "hello" and three.talk.ok("granted") == 0
    tree.write("to/3/hello", f"1 {INSTANCE} 99999999 1", 3)
    three.await_state(2, "granted")


def test_a_hello_of_an_earlier_daemon_is_not_answered(host):
    one, tree = Node(host, 1), Tree(host, 2)
    tree.write("to/1/hello", f"1 {INSTANCE[::-1].replace('-', '0')[:8]}-{INSTANCE[9:]} 0123abcd 0", 1)
    one.await_event("up 2")
    tree.write("presence", f"1 {INSTANCE}")
    one.await_event("down 2")
    one.await_event("up 2")
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.state(2) in ("idle", "hello")
    assert host.domain(1)["mapped_pages"] == 0


def test_a_peer_that_changes_its_leaves_in_a_loop_costs_bounded_work(host):
    one, tree = Node(host, 1), Tree(host, 2)
    for number in range(300):
        tree.write("presence", f"1 {INSTANCE[:-4]}{number:04x}")
    tree.write("to/1/endpoints", "mark", 1)
    one.await_event("endpoints 2 mark")
    assert one.talk.ok("events") < 1200
    three = Node(host, 3)
    one.await_event("up 3")
    link(one, three)


# --- what is left ---

def test_links_and_peers_that_ended_leave_no_node_page_or_port(host):
    nodes = {domid: Node(host, domid) for domid in (0, 1, 2)}
    for a, b in itertools.permutations(nodes, 2):
        nodes[a].await_event(f"up {b}")
    for a, b in itertools.combinations(nodes, 2):
        link(nodes[a], nodes[b])
    for node in nodes.values():
        assert node.talk.ok("nodes") == 1 + 2 * 2  # presence, and two leaves for each peer
    for node in nodes.values():
        node.end()
    for domid in nodes:
        domain = host.domain(domid)
        assert domain["grants"]["used_pages"] == domain["mapped_pages"] == domain["event_channels"]["used"] == 0
        assert Tree(host, domid).read(f"/local/domain/{domid}/data/xenmsg") is None


# --- the table of states in daemon/peers/peers_internal.h, cells that the tests above leave out ---

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

    def ours(self, leaf):
        return self.tree.read(f"/local/domain/3/data/xenmsg/to/2/{leaf}")

    def await_state(self, state):
        self.node.await_state(2, state)


def test_idle_answers_a_hello_once_and_takes_its_own_back_with_it(host):
    peer = Mapper(host, "timeout=600000")
    peer.hello("00000001")
    peer.await_state("granted")
    wait_for(lambda: peer.ours("hello") and peer.ours("00000001/ring-ref"), "our leaves")
    first = peer.ours("hello")
    peer.tree.remove("to/3/hello")
    peer.await_state("idle")
    wait_for(lambda: peer.ours("hello") is None and peer.ours("00000001/ring-ref") is None, "our leaves to be removed")
    assert peer.node.talk.ok("granted") == 0
    peer.hello("00000002")
    peer.await_state("granted")
    wait_for(lambda: peer.ours("hello") not in (None, first), "our new hello")


def test_granted_begins_again_for_a_new_nonce(host):
    peer = Mapper(host, "timeout=600000")
    peer.node.connect(2)
    peer.await_state("hello")
    peer.hello("00000001")
    peer.await_state("granted")
    peer.hello("00000002")
    wait_for(lambda: peer.ours("00000002/ring-ref") and not peer.ours("00000001/ring-ref"), "the new nodes")
    assert peer.node.talk.ok("granted") == 33


def test_granted_goes_back_to_hello_when_the_peers_vanishes(host):
    peer = Mapper(host, "timeout=600000")
    peer.node.connect(2)
    peer.hello("00000001")
    peer.await_state("granted")
    peer.tree.remove("to/3/hello")
    peer.await_state("hello")
    assert peer.node.talk.ok("granted") == 0 and peer.ours("hello")


def test_granted_times_out(host):
    peer = Mapper(host, "timeout=300")
    peer.node.connect(2)
    peer.hello("00000001")
    assert peer.node.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTUNREACH} ")
    assert peer.node.talk.ok("granted") == 0
    wait_for(lambda: peer.ours("hello") is None, "our hello to be withdrawn")
    # The same hello is not answered again by itself, but it is when a link is wanted.
    settle(peer.node)
    assert peer.node.state(2) == "idle"
    peer.node.connect(2)
    peer.await_state("granted")


def test_granted_fails_when_the_peer_is_gone(host):
    peer = Mapper(host, "timeout=600000")
    peer.node.connect(2)
    peer.hello("00000001")
    peer.await_state("granted")
    peer.tree.remove("presence")
    peer.tree.remove()
    assert peer.node.await_event("failed 2").startswith(f"failed 2 {errno.EHOSTDOWN} ")
    assert peer.node.talk.ok("granted") == 0


def test_a_peer_that_waits_for_pages_and_goes_leaves_the_queue(host):
    peer = Mapper(host, "min=65536", "timeout=600000")
    one = Node(host, 1)
    peer.node.await_event("up 1")
    host.fault("grant-limit", 3, 0)
    peer.hello("00000001")
    peer.await_state("pages")
    peer.node.connect(1)
    peer.node.await_state(1, "pages")
    peer.tree.remove("to/3/hello")
    peer.await_state("idle")
    host.fault("grant-limit", 3, 1024)
    peer.node.await_event("connected 1")
    exchange(peer.node, one)


def test_disconnecting_ends_an_attempt_in_silence(host):
    peer = Mapper(host, "timeout=600000")
    peer.node.connect(2)
    peer.hello("00000001")
    peer.await_state("granted")
    assert peer.node.talk.ok("disconnect", 2) == 0
    assert peer.node.state(2) == "idle" and peer.node.talk.ok("granted") == 0
    settle(peer.node)
    assert peer.node.state(2) == "idle" and peer.ours("hello") is None
    assert not [event for event in peer.node.passed_over if event.startswith("failed 2")]


@pytest.mark.parametrize("change", ["nonce", "instance", "gone", "bad"])
def test_connected_is_lost_when_the_peers_hello_changes(host, change):
    peer = Mapper(host, "timeout=600000")
    peer.hello("00000001")
    ref = wait_for(lambda: peer.ours("00000001/ring-ref"), "the first node")
    port = wait_for(lambda: peer.ours("00000001/event-channel"), "the second node")
    own = host.converse(2, "check-own-vchan", "none")
    assert own.ok("map", 3, ref, port) == 0
    peer.node.await_event("connected 2")
    if change == "nonce":
        peer.hello("00000002")
    elif change == "instance":
        peer.tree.write("presence", f"1 {INSTANCE[:-1]}0")
    elif change == "gone":
        peer.tree.remove("to/3/hello")
    else:
        peer.tree.write("to/3/hello", "%ff", 3)
    peer.node.await_event("lost 2")
    assert own.ok("awaitstate", 2) == 0
    if change == "nonce":
        peer.await_state("granted")


@pytest.mark.parametrize("seed", range(4))
def test_random_comings_and_goings_end_in_links(host, seed):
    """Whatever they have been through: who is there is found, and gets a link that works."""
    chance = random.Random(seed)
    nodes = {domid: Node(host, domid) for domid in (0, 1, 2)}
    for _ in range(120):
        one, other = chance.sample(sorted(nodes), 2)
        act = chance.choice(["connect", "connect", "connect", "close", "close", "breath", "kill", "end"])
        if act == "connect":
            nodes[one].connect(other)
        elif act == "close":
            nodes[one].close(other)
        elif act == "breath":
            nodes[one].close(other)
            nodes[one].connect(other)
        elif chance.random() < 0.3:
            if act == "kill":
                nodes[one].talk.kill()
            else:
                nodes[one].end()
            nodes[one] = Node(host, one, settled=chance.random() < 0.5)
    settle(*nodes.values(), *nodes.values())
    for one, other in itertools.combinations(nodes.values(), 2):
        # What is under way comes to its end first, or it would be taken for what is asked for now.
        wait_for(lambda a=one, b=other: a.state(b.domid) == b.state(a.domid) and a.state(b.domid) in ("idle", "connected"),
                 "the rendezvous to rest")
        one.close(other.domid)
        wait_for(lambda a=one, b=other: a.state(b.domid) == b.state(a.domid) == "idle", "the link to end")
        one.settle()
        other.settle()
        one.passed_over.clear()
        other.passed_over.clear()
        link(one, other)
        exchange(one, other)
