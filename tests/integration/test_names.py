# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains by name and UUID: dom0's daemon knows them from XenStore and tells the guests' daemons."""

import json
import os
import signal

import pytest

from frames import DATA, OPEN, message
from messaging import EXIT_DENIED, EXIT_OK, EXIT_UNREACHABLE, FAST, TOLD_WATCHES, Holder, Node, deliver, eventually, start_all, works
from protocol import Program
from renewing import ended, renew


def known(node):
    """The names that a node's daemon knows of all peers, and its own."""
    status = node.status_with_all_peers()
    return {peer["domid"]: peer["name"] or "" for peer in status["peers"]} | {status["domid"]: status["name"] or ""}


def knows(node, names):
    eventually(lambda: names.items() <= known(node).items(),
               f"domain {node.domid} knows {names}; it knows {known(node)}")


def receives(receiver, sender, address):
    """What `xenmsg recv --json` says of the sender of a message to this address."""
    # The sender's daemon learns its own name from XenStore, the receiver's from domain 0, in no order: both are looked at again.
    eventually(lambda: known(receiver).get(sender.domid) == known(sender)[sender.domid] != "",
               f"domains {receiver.domid} and {sender.domid} agree on the sender's name")
    inbox = receiver.receiver("inbox", "--count", "1", "--json")
    eventually(lambda: sender.xenmsg("send", address, "x").returncode == EXIT_OK, f"{address} is reached")
    return json.loads(inbox.output())["sender"]


def uuid_of(host, domid):
    return host.run(domid, "/bin/cat", "/sys/hypervisor/uuid").stdout.strip()


def test_guests_reach_each_other_by_name_and_uuid(zero, one, two, host):
    for sender, receiver in ((one, two), (two, one), (zero, one), (one, zero)):
        name = host.domain(receiver.domid)["name"]
        got = receives(receiver, sender, f"{name}:inbox")
        assert (got["domid"], got["domain"]) == (sender.domid, host.domain(sender.domid)["name"])
    for sender, receiver in ((one, two), (zero, two), (two, two)):
        address = f"{uuid_of(host, receiver.domid)}:inbox"
        assert receives(receiver, sender, address)["domid"] == sender.domid
        assert receives(receiver, sender, address.upper().replace("INBOX", "inbox"))["domid"] == sender.domid


def test_the_listings_show_names_and_uuids(zero, one, two, host):
    knows(one, {0: "Domain-0", 1: "dom1", 2: "dom2"})
    peers = {peer["domid"]: peer for peer in one.json("peers")}
    assert (peers[2]["name"], peers[2]["uuid"]) == ("dom2", uuid_of(host, 2))
    for node in (zero, one):
        for asked in (uuid_of(host, 2), uuid_of(host, 2).upper(), "dom2", "2"):
            assert [peer["domid"] for peer in node.json("peers", asked)] == [2], asked
    assert peers[0]["name"] == "Domain-0"
    status = one.status()
    assert status["name"] == "dom1"
    assert {peer["domid"]: peer["uuid"] for peer in status["peers"]}[2] == uuid_of(host, 2)
    assert one.link(0)["peer"]["name"] == "Domain-0"
    with Holder(two, "print"):
        eventually(lambda: b"print" in one.xenmsg("endpoints").stdout, "the endpoint is advertised")
        listed = one.json("endpoints", "dom2")
        assert ("dom2", 2, None) in [(each["domain"], each["domid"], each["visible_to"]) for each in listed]
        assert b"dom2" in one.xenmsg("endpoints").stdout
    assert one.xenmsg("ping", "--count", "1", "dom2").returncode == EXIT_OK


@pytest.mark.unless(renewed="counts", away="counts")
def test_a_link_with_dom0_comes_by_itself_and_is_never_idle(nodes):
    """Seen by the time since when it is up, which begins anew when it is resumed."""
    zero, one = nodes(0, 1, config=FAST + "idle-close = 300ms\n").values()
    eventually(lambda: one.link_state(0) == "up", "the link is up")
    before = one.link(0)
    eventually(lambda: one.link(0)["rx"]["frames"] > before["rx"]["frames"] + 10, "ten heartbeats have passed")
    assert one.link(0)["since"] == before["since"] and zero.link_state(1) == "up"


def test_a_name_that_its_domain_may_write_is_not_its_name(zero, one, two):
    """As a dom0less host has them: the nodes `name` and `vm` are the guest's."""
    knows(two, {1: "dom1"})
    with zero.store() as store:
        for node in ("name", "vm"):
            path = f"/local/domain/1/{node}"
            store.write(path, store.read(path), "n1")
    knows(two, {1: ""})
    with one.store() as store:
        store.write("name", "admin")
        store.write("vm", "/vm/00000000-0000-0000-0000-000000000001")
    knows(one, {1: "admin"})
    assert "the name of domain 1 in XenStore isn't taken" in zero.log.read_text()
    assert known(two)[1] == "" and two.xenmsg("ping", "--count", "1", "admin").returncode != EXIT_OK
    eventually(lambda: {peer["domid"]: peer["uuid"] for peer in two.json("peers")}[1] is None, "nor is that its UUID")
    with zero.store() as store:
        store.write("/local/domain/1/name", "web", "n0", "r1")
    knows(two, {1: "web"})


@pytest.mark.unless(strict="renames")
def test_a_rename_is_followed(zero, one, two, host):
    knows(one, {2: "dom2"})
    host.sim("rename", 2, "work")
    for node in (zero, one, two):
        knows(node, {2: "work"})
    assert receives(two, one, "work:inbox")["domain"] == "dom1"
    assert receives(two, two, "work:inbox")["domain"] == "work"
    error = one.send("dom2:inbox", "x", exit_code=EXIT_UNREACHABLE)
    assert "no domain of that name is known here" in error
    # the name goes to another domain
    host.sim("rename", 2, "old-work")
    host.sim("rename", 1, "work")
    for node in (zero, one, two):
        knows(node, {1: "work", 2: "old-work"})
    assert receives(one, two, "work:inbox")["domain"] == "old-work"


@pytest.mark.unless(strict="renames")
@pytest.mark.parametrize("name", ["17", "self", "a:b", "with space", "11111111-2222-4333-8444-555555555555"])
def test_a_name_that_means_something_else_in_an_address_is_none(nodes, host, name):
    zero, one = nodes(0, 1, 2)[0], nodes.by_domid[1]
    knows(one, {2: "dom2"})
    with zero.store() as store:
        store.write("/local/domain/2/name", name)
    knows(one, {2: ""})
    deliver(one, nodes.by_domid[2])
    assert receives(nodes.by_domid[2], one, uuid_of(host, 2) + ":inbox")["domain"] == "dom1"


def test_new_and_destroyed_domains_are_followed(nodes, host, tmp_path):
    one = nodes(0, 1, config=FAST + "resume-for = 5s\n")[1]  # a send to one that has just been destroyed waits so long
    knows(one, {0: "Domain-0"})
    domid = int(host.sim("create", "--name", "fresh").stdout)
    fresh = Node(host, domid, tmp_path)
    nodes.by_domid[domid] = fresh
    fresh.start()
    knows(one, {domid: "fresh"})
    knows(fresh, {1: "dom1", domid: "fresh"})
    assert receives(fresh, one, "fresh:inbox")["domain"] == "dom1"
    host.sim("destroy", domid)
    fresh.daemon.wait()
    fresh.daemon = fresh.pid = None
    eventually(lambda: "no domain of that name" in one.xenmsg("send", "fresh:inbox", "x").stderr.decode(), "it is unknown")
    again = int(host.sim("create", "--name", "fresh").stdout)
    assert again != domid
    nodes.by_domid[again] = Node(host, again, tmp_path).start()
    assert receives(nodes.by_domid[again], one, "fresh:inbox")["domain"] == "dom1"


@pytest.mark.unless(strict="zero", relayed="zero")
def test_without_a_daemon_in_dom0_names_say_what_is_missing(nodes, one, two, host):
    deliver(one, two)
    error = one.send("dom2:inbox", "x", exit_code=EXIT_UNREACHABLE)
    assert "no domain of that name is known here; names need xenmsgd in domain 0" in error
    done = one.xenmsg("ping", "--count", "1", "dom2")
    assert done.returncode == EXIT_UNREACHABLE and b"names need xenmsgd in domain 0" in done.stderr
    # its own it knows by itself
    assert receives(one, one, "dom1:inbox")["domain"] == "dom1"
    assert receives(one, one, uuid_of(host, 1) + ":inbox")["domain"] == "dom1"
    # and the others' as soon as there is one
    nodes(0)
    assert receives(two, one, "dom2:inbox")["domain"] == "dom1"


@pytest.mark.unless(relayed="zero", strict="renames")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_names_survive_a_restart_of_dom0s_daemon(zero, one, two, host, how):
    knows(one, {2: "dom2"})
    knows(two, {1: "dom1"})
    getattr(zero, how)()
    eventually(lambda: one.link_state(0) != "up", "the link is down")
    assert receives(two, one, "dom2:inbox")["domain"] == "dom1"
    host.sim("rename", 2, "work")
    zero.start()
    knows(one, {2: "work"})
    assert receives(two, one, "work:inbox")["domain"] == "dom1"


@pytest.mark.unless(relayed="zero")
@pytest.mark.parametrize("asker", [0, 1], ids=["domain_0", "guest"])
def test_names_survive_a_hand_over_of_who_asks(zero, one, two, host, asker):
    """Without a link there; and nobody tells a guest again, since domain 0's daemon isn't there."""
    node = (zero, one)[asker]
    receiver = two.receiver("inbox", "--count", "1")
    knows(node, {2: "dom2"})
    if asker:
        zero.stop()
    for _ in range(2):
        renew(node)
    node.send("dom2:inbox", "hello")
    assert receiver.output() == b"hello\n"


@pytest.mark.parametrize("name", ["SQL server 2", "b\u00fcro", "77"])
def test_a_name_that_cannot_stand_in_an_address_is_in_the_log(zero, host, name):
    host.sim("rename", 2, "plain")
    with zero.store() as store:
        store.write("/local/domain/2/name", name)
    eventually(lambda: f"domain 2 is called '{name}', which can't stand in an address" in zero.log.read_text(), "it is told")


def test_a_domain_without_a_daemon_is_told_from_an_unknown_name(nodes):
    one = nodes(0, 1)[1]
    knows(one, {0: "Domain-0"})
    eventually(lambda: "no xenmsgd" in one.send("dom2:inbox", "x", exit_code=EXIT_UNREACHABLE), "the domain is known")
    assert "no domain of that name" in one.send("dom9:inbox", "x", exit_code=EXIT_UNREACHABLE)


@pytest.mark.unless(strict="renames")
def test_watchers_see_names_and_renames(zero, one, two, host):
    knows(one, {2: "dom2"})
    watcher = one.popen("watch", "--json", "*")
    by_name = one.popen("watch", "--json", "work")

    def until(process, event):
        seen = {}
        while not event.items() <= seen.items():
            seen = json.loads(process.stdout.readline())

    until(watcher, {"event": "up", "kind": "domain", "domid": 2, "name": "dom2"})
    host.sim("rename", 2, "work")
    until(watcher, {"event": "up", "kind": "domain", "domid": 2, "name": "work"})
    until(by_name, {"event": "up", "kind": "domain", "domid": 2, "name": "work"})
    with Holder(two, "print"):
        until(watcher, {"event": "up", "kind": "endpoint", "domid": 2, "name": "print", "domain": "work"})
        until(by_name, {"event": "up", "kind": "endpoint", "domid": 2, "name": "print", "domain": "work"})
        host.sim("rename", 2, "play")
        until(by_name, {"event": "down", "kind": "endpoint", "domid": 2, "name": "print"})
        until(by_name, {"event": "down", "kind": "domain", "domid": 2, "name": "work"})
    ended(watcher)
    ended(by_name)


def test_rules_may_name_domains_and_follow_renames(nodes, host):
    rules = "[rule]\nfrom = friend\nto = *\naction = allow\n"
    zero, one, two = nodes(0, 1, 2, start=False).values()
    two.policy = rules
    start_all(zero, one, two)
    knows(two, {1: "dom1"})
    with Holder(two, "inbox") as inbox:
        one.send("2:inbox", "x", exit_code=EXIT_DENIED)
        host.sim("rename", 1, "friend")
        knows(two, {1: "friend"})
        with Program(one.socket) as program:
            program.open("2:inbox")
            program.data(0, message(b"hello"))
            assert inbox.expect(DATA).payload == message(b"hello")
            # The open channel ends with the name that allowed it.
            host.sim("rename", 1, "stranger")
            reset = program.expect(21)  # RESET
            assert reset.u32() == 13  # EACCES
        one.send("2:inbox", "x", exit_code=EXIT_DENIED)


def test_names_that_rules_need_may_come_while_a_daemon_starts(nodes):
    """Domain 0 may tell them before there is anybody in whose channels they could decide something."""
    zero, one = nodes(0, 1, start=False).values()
    one.policy = "[rule]\nfrom = friend\nto = *\naction = allow\n"
    zero.start()
    for _ in range(25):
        one.start()
        one.stop()


def test_the_plain_socket_has_the_name_behind_the_endpoint(zero, one, two):
    knows(two, {1: "dom1"})
    with Holder(two, "inbox") as inbox, Program(one.socket) as program:
        program.open("2:inbox")
        assert inbox.expect(OPEN).payload[20:] == b"inbox\0dom1"
    assert zero.alive()


@pytest.mark.parametrize("saved", [1, 2])
def test_names_follow_a_restored_domain_to_its_new_number(nodes, saved):
    pair = nodes(0, 1, 2)
    other = pair[3 - saved]
    assert receives(pair[saved], other, f"dom{saved}:inbox")["domain"] == f"dom{3 - saved}"
    pair[saved].save_and_restore()
    knows(other, {pair[saved].domid: f"dom{saved}"})
    assert receives(pair[saved], other, f"dom{saved}:inbox")["domain"] == f"dom{3 - saved}"
    assert receives(other, pair[saved], f"dom{3 - saved}:inbox")["domain"] == f"dom{saved}"


def test_guests_without_each_others_names_hear_of_their_links(nodes, host):
    """They have nothing else to hear of each other by: a guest that is told by domain 0 watches nobody else."""
    zero, one, two = nodes(0, 1, 2, start=False).values()
    zero.policy = "[see]\nfrom = *\ndomain = *\naction = deny\n"
    start_all(zero, one, two)
    eventually(lambda: all(host.domain(guest)["xenstore"]["watches"] <= TOLD_WATCHES for guest in (1, 2)), "domain 0 tells them")
    works(one, two)
    with Program(two.socket) as program:
        program.bind("print")
        eventually(lambda: ("print", 2) in [(entry["name"], entry["domid"]) for entry in one.json("endpoints")], "it is listed")
    assert known(one)[2] == known(two)[1] == ""
    two.stop()
    eventually(lambda: not any(peer["up"] for peer in one.json("peers") if peer["domid"] == 2), "its end is seen")


def test_a_guest_learns_only_the_names_that_domain_0_lets_it_see(zero, one, two):
    knows(one, {2: "dom2"})
    zero.write_policy("[see]\nfrom = 1\ndomain = 2\naction = deny\n", "10-see.conf")
    os.kill(zero.pid, signal.SIGHUP)
    eventually(lambda: known(one).get(2) == "", "domain 1 is not told of domain 2 any more")
    knows(two, {1: "dom1"})
    done = one.xenmsg("send", "dom2:inbox", "x")
    assert done.returncode == EXIT_UNREACHABLE, done.stderr
    zero.write_policy("", "10-see.conf")
    os.kill(zero.pid, signal.SIGHUP)
    knows(one, {2: "dom2"})
