# SPDX-License-Identifier: LGPL-2.1-or-later
"""How two daemons get a vchan (daemon/peers/rendezvous.c), with programs that are a daemon's lower half."""

import errno
import signal

import pytest

from conftest import row, wait_for
from lower_half import INSTANCE, ByHand, Node, Tree, exchange, fails, granting, link, own_vchan, pair, settle

KEPT = 33  # pages: offered in vain, but who can say that nobody has mapped them?

# --- rendezvous ---

def test_roles_are_as_specified(make_host):
    for asker, answerer, mapper in ((1, 2, 1), (2, 1, 1), (0, 2, 0), (3, 0, 0), (2, 3, 2)):
        host = make_host()
        with row((asker, answerer)):
            nodes = pair(host, domids=(asker, answerer))
            link(nodes[asker], nodes[answerer])
            mapped = {domid: host.domain(domid)["mapped_pages"] for domid in nodes}
            granted = {domid: host.domain(domid)["grants"]["used_pages"] for domid in nodes}
            granter = answerer if mapper == asker else asker
            assert mapped == {mapper: 33, granter: 0} and granted == {mapper: 0, granter: 33}
            exchange(nodes[asker], nodes[answerer])


@pytest.mark.parametrize("low, low_maps, high_maps, mapper", [(1, "yes", "yes", 1), (1, "no", "yes", 2), (1, "yes", "no", 1), (0, "no", "auto", 2)])
def test_map_setting_decides_who_maps(host, low, low_maps, high_maps, mapper):
    one, two = Node(host, low, f"map={low_maps}"), Node(host, 2, f"map={high_maps}")
    one.await_event("up 2")
    said = dict(zip((low, 2), link(one, two)))
    assert {domid: told.split()[2] for domid, told in said.items()} == {mapper: "mapped", low + 2 - mapper: "granted"}
    exchange(one, two)


def test_where_neither_may_map_is_known_until_a_daemon_changes(host):
    one, two = Node(host, 1, "map=no", "timeout=1000"), Node(host, 2, "map=no", "timeout=600000")
    one.await_event("up 2")
    one.connect(2)
    assert one.await_event("failed 2") == f"failed 2 {errno.ENOLINK} neither domain 1 nor domain 2 may map the other's pages"
    assert one.talk.error("connect", 2) == two.talk.error("connect", 1) == errno.ENOLINK
    one.await_state(2, "idle")
    two.await_state(1, "idle")
    assert one.talk.error("connect", 2) == errno.ENOLINK
    assert two.talk.ok("granted") == 0
    two.end()
    two = Node(host, 2, "map=yes", "timeout=600000")
    one.await_event("down 2")
    one.await_event("up 2")
    said = link(one, two)
    assert said[0].split()[2] == "granted"


def test_pv_guests_do_not_map_by_themselves(host):
    host.sim("create", "--name", "pv-a", "--type", "pv")
    host.sim("create", "--name", "pv-b", "--type", "pv")
    domids = {domain["name"]: domain["domid"] for domain in host.list()["domains"]}
    a, b = Node(host, domids["pv-a"]), Node(host, domids["pv-b"])
    two = Node(host, 2)
    a.await_event(f"up {b.domid}")
    a.connect(b.domid)
    fails(a, b.domid, errno.ENOLINK)
    a.await_event("up 2")
    said = link(a, two)
    assert said[0].split()[2] == "granted"


def test_a_link_with_oneself_does_not_exist(host):
    one = Node(host, 1)
    one.connect(1)
    fails(one, 1, errno.EHOSTUNREACH)


def test_missing_domain_or_daemon_is_told_at_once(host):
    """dom0 sees every domain, and says the same."""
    one, zero = (Node(host, domid, "timeout=600000") for domid in (1, 0))
    for domid in (3, 99, 32751, 32752, 4294967295):
        for node in (one, zero):
            node.connect(domid)
            fails(node, domid, errno.EHOSTDOWN)
        assert one.state(domid) == "unknown", domid


@pytest.mark.parametrize("closer", [1, 2])
def test_a_closed_link_is_lost_to_the_other_and_made_again(host, closer):
    nodes = pair(host)
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
    nodes = pair(host)
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
def test_a_daemon_that_died_without_notice_is_reported(host, killed):
    """Its leaves stay: only time tells. Then the next daemon is found."""
    nodes, other = pair(host, "timeout=300"), 3 - killed
    nodes[killed].talk.kill()
    nodes[other].connect(killed)
    fails(nodes[other], killed, errno.EHOSTUNREACH)
    nodes[killed] = Node(host, killed)
    nodes[other].await_event(f"down {killed}")
    nodes[other].await_event(f"up {killed}")
    link(nodes[other], nodes[killed])
    assert nodes[other].talk.ok("granted") in (0, 33)


def test_a_peer_that_goes_while_a_link_is_made_is_told_at_once(host):
    peer = ByHand(host, 1, "timeout=600000")
    peer.node.connect(2)
    peer.hello("0123abcd", 0)
    peer.await_state("await")
    peer.tree.remove()
    fails(peer.node, 2, errno.EHOSTDOWN)
    peer.node.await_event("down 2")


def test_a_stalled_xenstore_is_told_by_the_timeout(host):
    one, two = Node(host, 1, "timeout=3000"), Node(host, 2)
    one.await_event("up 2")
    host.fault("stall-store", 1, "on")
    one.connect(2)
    fails(one, 2, errno.EHOSTUNREACH)
    host.fault("stall-store", 1, "off")
    link(two, one)


# --- pages ---

def test_without_pages_the_link_fails_and_says_so(host):
    three, one = Node(host, 3, "timeout=300"), Node(host, 1)
    three.await_event("up 1")
    host.fault("grant-limit", 3, 0)
    three.connect(1)
    assert three.await_event("failed 1") == f"failed 1 {errno.EHOSTUNREACH} no grant pages free"
    host.fault("grant-limit", 3, 1024)
    three.connect(1)
    while three.await_event("connected 1", "failed 1").startswith("failed"):
        three.connect(1)  # within 300 ms, which may be too short for a busy machine
    one.await_event("connected 3")


@pytest.mark.parametrize("asker", [2, 3], ids=["who maps", "who grants"])
def test_after_a_lack_of_pages_a_link_comes_when_asked_again(host, asker):
    """Though the peer has given up the answer to an attempt that goes on here for ten time-outs."""
    nodes = pair(host, "timeout=2000", domids=(2, 3))
    one, other = nodes[asker], nodes[5 - asker]
    host.fault("grant-limit", 3, 0)
    one.connect(other.domid)
    one.await_event(f"failed {other.domid}")
    nodes[3].await_state(2, "idle")
    host.fault("grant-limit", 3, 1024)
    one.connect(other.domid)
    assert one.await_event(f"connected {other.domid}", f"failed {other.domid}").startswith("connected")
    exchange(one, other)


# --- the table of states in daemon/peers/peers_internal.h, cells that the tests above leave out ---

def test_idle_answers_a_hello_once_and_takes_back_its_own(host):
    peer = ByHand(host, 3, "timeout=600000")
    peer.hello("00000001")
    peer.await_state("granted")
    wait_for(lambda: peer.ours("hello") and peer.ours("00000001/ring-ref"), "our leaves")
    first = peer.ours("hello")
    peer.tree.remove("to/3/hello")
    peer.await_state("idle")
    wait_for(lambda: peer.ours("hello") is None and peer.ours("00000001/ring-ref") is None, "our leaves to be removed")
    assert peer.node.talk.ok("granted") == KEPT
    peer.hello("00000002")
    peer.await_state("granted")
    wait_for(lambda: peer.ours("hello") not in (None, first), "our new hello")


def test_granted_begins_again_for_a_new_nonce(host):
    peer = granting(host, "timeout=600000")
    peer.hello("00000002")
    wait_for(lambda: peer.ours("00000002/ring-ref") and not peer.ours("00000001/ring-ref"), "the new nodes")
    assert peer.node.talk.ok("granted") == 33


def test_granted_times_out(host):
    peer = ByHand(host, 3, "timeout=300")
    peer.node.connect(2)
    peer.hello("00000001")
    fails(peer.node, 2, errno.EHOSTUNREACH)
    assert peer.node.talk.ok("granted") == KEPT
    wait_for(lambda: peer.ours("hello") is None, "our hello to be withdrawn")
    # The same hello is not answered again by itself, but it is when a link is wanted.
    settle(peer.node)
    assert peer.node.state(2) == "idle"
    peer.node.connect(2)
    peer.await_state("granted")


def test_a_peer_that_waits_for_pages_and_goes_leaves_the_queue(host):
    peer = ByHand(host, 3, "min=65536", "timeout=600000")
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


def test_own_nodes_that_others_remove_are_there_again_at_once(make_host):
    for removed in ("to/2/hello", "to/2/00000001/ring-ref", "to/2/00000001", "to/2", "to", "presence", ""):
        host = make_host()
        with row(removed):
            peer = granting(host, "timeout=600000")
            zero, ours = Tree(host, 0), "/local/domain/3/data/xenmsg"
            leaves = {leaf: wait_for(lambda leaf=leaf: zero.read(f"{ours}/{leaf}"), leaf)  # pylint: disable=cell-var-from-loop
                      for leaf in ("presence", "to/2/hello", "to/2/00000001/ring-ref", "to/2/00000001/event-channel")}
            settle(peer.node)
            assert zero.talk.ok("remove", f"{ours}/{removed}".rstrip("/")) == 0
            wait_for(lambda: {leaf: zero.read(f"{ours}/{leaf}") for leaf in leaves} == leaves, "all to be there again")  # pylint: disable=cell-var-from-loop
            assert peer.node.state(2) == "granted"


def test_hellos_that_vanish_in_a_row_do_not_hold_up_a_link(host):
    """The new one of one end goes when the other end has seen it already, and waits for what it leads to."""
    nodes = pair(host, "timeout=600000")
    zero = host.converse(0, "check-store")
    for end in (1, 2, 1, 2):
        link(nodes[1], nodes[2])
        nodes[end].close(3 - end)
        nodes[3 - end].await_event(f"lost {end}")
        nodes[3 - end].close(end)
        for domid in (1, 2):
            nodes[domid].connect(3 - domid)
        for domid in (end, 3 - end):
            zero.ok("remove", f"/local/domain/{domid}/data/xenmsg/to/{3 - domid}/hello")
        for domid in (1, 2):
            nodes[domid].await_event(f"connected {3 - domid}")
        settle(*nodes.values())
        for domid in (1, 2):  # it may have been removed when they were connected already
            nodes[domid].close(3 - domid)
        settle(*nodes.values())
        for node in nodes.values():
            node.passed_over = [event for event in node.passed_over if not event.startswith(("lost", "connected"))]


def test_connected_is_lost_when_the_peers_hello_changes(make_host):
    for change in ("nonce", "instance", "gone", "bad"):
        host = make_host()
        with row(change):
            peer = ByHand(host, 3, "timeout=600000")
            peer.hello("00000001")
            own = own_vchan(host, 2)
            assert own.ok("map", 3, *peer.nodes("00000001")) == 0
            peer.node.await_event("connected 2")
            if change == "nonce":
                peer.hello("00000002")
            elif change == "instance":
                peer.tree.write("presence", f"1 {INSTANCE[:-1]}0")
            elif change == "gone":
                peer.tree.remove("to/3/hello")
            else:
                peer.write("hello", "%ff")
            peer.node.await_event("lost 2")
            assert own.ok("awaitstate", 2) == 0
            if change == "nonce":
                peer.await_state("granted")


def test_a_mapper_that_slept_sees_the_end_of_its_older_vchan(host):
    """It lies in the pages, which are granted again."""
    peer = ByHand(host, 3, "timeout=600000")
    tools = []
    for nonce in ("00000001", "00000002"):
        peer.hello(nonce)
        tools.append(own_vchan(host, 2))
        assert tools[-1].ok("map", 3, *peer.nodes(nonce)) == 0
        peer.node.await_event("connected 2")
        if nonce == "00000001":
            tools[0].process.send_signal(signal.SIGSTOP)
    tools[0].process.send_signal(signal.SIGCONT)
    assert tools[0].ok("awaitstate", 2) == 0
    assert tools[0].ok("close") == 0
    assert tools[1].ok("state") == 1 and peer.node.state(2) == "connected"
    assert peer.node.talk.ok("granted") == 33


def test_all_pairs_come_about_though_xenstore_was_too_slow(make_host):
    """Every request has failed, and nobody asks again: each attempt goes on from where it was."""
    host = make_host(30)
    nodes = {domid: Node(host, domid, "timeout=3000", settled=False) for domid in range(1, 31)}
    pairs = [(domid, domid % 30 + 1) for domid in nodes] + [(domid, domid + 2) for domid in range(1, 29)]
    for domid, other in pairs:
        nodes[domid].await_event(f"up {other}")
        nodes[domid].connect(other)
    for domid, other in pairs:
        nodes[domid].await_event(f"connected {other}")
        nodes[domid].close(other)
    settle(*nodes.values())
    host.fault("stall-store", 0, "on")
    for domid, other in pairs:
        nodes[domid].passed_over = [event for event in nodes[domid].passed_over if not event.startswith("connected")]
        nodes[domid].connect(other)
    for domid, other in pairs:
        nodes[domid].await_event(f"failed {other}")
    host.fault("stall-store", 0, "off")
    for domid, other in pairs:
        nodes[domid].await_event(f"connected {other}")
