# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two PV guests, of which neither may map, talk through the daemon of domain 0 (doc/protocol.md, 5.8)."""

import contextlib
import errno
import json
import os
import socket
import threading
import time

import pytest

from frames import RELAYS
from library import Connection, Posts
from messaging import (EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, FAST, LOST_SOON, PATIENCE, Holder,
                       eventually, give_up_ring, given_time, of_turns, start_all)
from protocol import Timeout
from renewing import renew
from test_calls import echo
from test_names import knows
from test_policy import HOW, takes_rules
from test_resume import all_kinds, at_work, resumes

pytestmark = pytest.mark.usefixtures("no_kernel_bug")

MIB = 1 << 20
PASS_UNITS = of_turns("TURNS_PASS")
LARGEST_PIECE = of_turns("TURNS_PIECE") + of_turns("COST_VCHAN", "cost.h")  # at whose end a link gets other rings


def pattern(number, size):
    return bytes([number & 0xff]) * size


def receive(node, endpoint, count=1):
    """A thread that receives messages, and the list that they come to."""
    got, bound = [], threading.Event()

    def run():
        with Connection(node.socket, binds=endpoint) as receiver:
            bound.set()
            got.extend(receiver.receive(int(60000 * PATIENCE)) for _ in range(count))

    thread = threading.Thread(target=run)
    thread.start()
    assert bound.wait(20)
    return thread, got


def works(source, target, endpoint="inbox"):
    """A message goes from one to the other, with the true source on it."""
    thread, got = receive(target, endpoint)
    with Connection(source.socket) as sender:
        assert sender.send(f"{target.domid}:{endpoint}", b"hello") == 0
    thread.join()
    assert got[0].data == b"hello"
    assert (got[0].domid, got[0].uid, got[0].pid) == (source.domid, os.getuid(), os.getpid())


def is_relayed(source, target):
    return not any(link["role"] and link["peer"]["domid"] == other.domid
                   for node, other in ((source, target), (target, source)) for link in node.status()["links"])


# --- what goes through ---

def test_messages_go_both_ways_with_the_true_source(zero, guests):
    one, two = guests(2)
    works(one, two)
    works(two, one)
    assert is_relayed(one, two)
    receiver = two.popen("recv", "--json", "--count", "1", "named", binds="named")
    one.send(f"{guests.names[two.domid]}:named", "hello")  # by name
    message = json.loads(receiver.communicate(timeout=20 * PATIENCE)[0])
    assert (message["sender"]["domid"], message["sender"]["domain"]) == (one.domid, guests.names[one.domid])
    # Domain 0 talks to both as ever, and a domain to itself.
    works(zero, one)
    works(one, zero)
    works(one, one)


def test_a_pair_that_does_not_read_holds_no_other(zero, guests):
    one, two, three = guests(3)
    with Holder(two, "full") as holder, Connection(one.socket) as sender:
        outcomes = []
        result = 0
        while result == 0 and len(sender.callbacks) < 64:
            result = sender.post(f"{two.domid}:full", bytes(MIB), outcomes.append)
        assert result in (0, -errno.EAGAIN)

        def takes():
            """What is larger than 64 KiB waits in the library for OPENED, so the sender has to go on meanwhile."""
            with contextlib.suppress(Timeout):
                return sender.wait(0) >= 0 and holder.take(0.05)
        eventually(takes, "the first has come")
        for _ in range(5):
            works(one, three)
            works(three, one)
            works(three, two, "other")
            works(zero, two, "other")
        assert not outcomes


def test_it_is_seen_who_is_talked_to_through_domain_0(zero, guests):
    one, two, three = guests(3)
    done = one.xenmsg("ping", str(two.domid), "--count", "3")  # before anything else was sent
    assert done.returncode == EXIT_OK and done.stdout.count(b"us") >= 3, done
    works(one, two)
    peer, = (peer for peer in one.json("peers") if peer["domid"] == two.domid)
    assert (peer["link"], peer["via"], peer["up"]) == ("relayed", 0, True)
    assert all(peer["via"] is None for peer in zero.json("peers"))

    def is_used():
        """A hand-over forgets a link that doesn't go on, and a ping makes none."""
        works(one, two)
        link = one.link(two.domid)
        return link and (link["state"], link["via"]) == ("relayed", 0) and b"via 0" in one.xenmsg("status").stdout
    eventually(is_used, "status tells of it")
    assert one.link(0)["via"] is None
    renew(one)
    assert [peer["link"] for peer in one.json("peers") if peer["domid"] == two.domid] == ["relayed"]
    table = one.xenmsg("peers").stdout.decode().splitlines()
    assert "VIA" in table[0] and any(line.split()[:2] == [str(two.domid), guests.names[two.domid]] and " relayed " in line
                                     for line in table)
    works(one, three)
    steps = [step["text"].split(", ")[0] for step in one.json("doctor", two.domid, three.domid) if step["step"] == "direct"]
    assert steps == [f"there is no link with domain {other.domid}" for other in (two, three)]


# --- errors ---

def test_errors_are_those_of_a_link(zero, guests):
    one, two = guests(2)
    works(one, two)
    one.send(f"{two.domid}:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    two.stop()
    one.send(f"{two.domid}:inbox", "x", exit_code=EXIT_UNREACHABLE)
    two.start()
    eventually(lambda: one.xenmsg("send", f"{two.domid}:nobody", "x").returncode == EXIT_NO_ENDPOINT, "it is back")
    works(one, two)


@pytest.mark.unless(relayed="zero", strict="zero")
def test_without_a_daemon_in_domain_0_the_error_says_so(nodes, guests):
    one, two = guests(2)
    for _ in range(2):
        words = one.send(f"{two.domid}:inbox", "x", exit_code=EXIT_UNREACHABLE)
        assert "no xenmsgd runs in domain 0" in words and "map = yes" in words, words
    nodes(0)
    eventually(lambda: "no xenmsgd" not in one.xenmsg("send", f"{two.domid}:inbox", "x").stderr.decode(),
               "domain 0's daemon is there")
    works(one, two)


def test_where_domain_0_may_not_map_the_error_names_the_setting(nodes, guests):
    zero, (one,) = nodes(0, start=False)[0], guests(1, start=False)
    zero.config = FAST + "map = no\n"
    start_all(zero, one)
    for source, target in ((zero, one), (one, zero)):
        for command in (("send", f"{target.domid}:inbox", "x"), ("ping", str(target.domid))):
            done = source.xenmsg(*command)
            assert done.returncode == EXIT_UNREACHABLE and b"set map = yes under [links]" in done.stderr, done


def test_channels_end_with_domain_0s_daemon_and_begin_again(zero, guests):
    one, two = guests(2)
    with Holder(two, "inbox") as holder, Connection(one.socket) as sender, Connection(two.socket) as server:
        outcomes, answers = [], []
        assert server.bind("work") == server.listen("stream") == 0
        here = socket.socket(fileno=sender.connect(f"{two.domid}:stream"))
        there = socket.socket(fileno=server.accept())
        assert sender.post(f"{two.domid}:inbox", b"before", outcomes.append) == 0
        assert sender.call_post(f"{two.domid}:work", b"x", answers.append) == 0
        request = server.take()
        assert b"before" in holder.expect(18).payload  # handed to it, not taken
        zero.kill()
        while not (outcomes and answers):
            assert sender.wait(20000) >= 0
        assert outcomes == answers == [-errno.ECONNRESET]
        eventually(lambda: server.wait(20) >= 0 and not request.wants_reply(), "the server hears of it")
        request.free()
        for end in (here, there):
            end.settimeout(20 * PATIENCE)
            with pytest.raises(ConnectionResetError):
                end.recv(1)
            end.close()
    zero.start()
    eventually(lambda: one.link_state(0) == two.link_state(0) == "up",
               "the links are there again")
    works(one, two)


@pytest.mark.unless(relayed="direct")
def test_new_channels_go_direct_once_one_may_map(zero, guests):
    one, two = guests(2)
    works(one, two)
    assert is_relayed(one, two)
    two.stop()
    two.config = FAST + "map = yes\n"
    two.start()
    eventually(lambda: two.instance() in one.peers(), "the new daemon is seen")
    works(one, two)
    assert (one.link(two.domid)["role"], two.link(one.domid)["role"]) == ("grants", "maps")
    two.stop()
    two.config = FAST
    two.start()
    eventually(lambda: two.instance() in one.peers(), "the next daemon is seen")
    works(one, two)
    assert is_relayed(one, two)


# --- when a link is lost, or a guest restored ---

@pytest.mark.parametrize("lost", ["source", "destination", "both"])
def test_what_waits_for_room_is_relayed_when_a_link_is_resumed(zero, guests, lost):
    """Nobody reads, so every window on the way is full; then domain 0 loses a link, or both, again and again."""
    one, two = guests(2)
    ends = {"source": (one,), "destination": (two,), "both": (one, two)}[lost]
    sizes = [1 + number * 7919 % 200000 for number in range(80)]
    outcomes, end = [], time.monotonic() + 60 * PATIENCE
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver, zero.store() as store:
        posted, got = 0, 0

        def post():
            """Returns how many it takes."""
            nonlocal posted
            before, result = posted, 0
            while posted < len(sizes) and result == 0:
                result = sender.post(f"{two.domid}:inbox", pattern(posted, sizes[posted]), outcomes.append)
                assert result in (0, -errno.EAGAIN)
                posted += result == 0
            assert sender.wait(10) >= 0
            return posted - before

        def take():
            nonlocal got
            while isinstance(message := receiver.receive(10), int):
                assert message == -errno.ETIMEDOUT and time.monotonic() < end
                post()  # which goes on with what waits in the program, too
            assert message.data == pattern(got, sizes[got])
            got += 1

        eventually(lambda: not any(post() for _ in range(10)), "it takes no more")
        assert 0 < posted < len(sizes)
        for times in range(1, 9):
            for node in ends:
                give_up_ring(store, [node], zero, node, times)
                post()
            post()
            for _ in range(3):
                take()
        while got < len(sizes):
            post()
            take()
        eventually(lambda: sender.wait(10) >= 0 and receiver.wait(0) >= 0 and len(outcomes) == len(sizes), "all have an outcome")
    assert not any(outcomes)


@pytest.mark.unless(renewed="restores")
def test_relayed_traffic_goes_on_if_its_destination_is_restored(host, nodes, guests):
    """Under traffic; and what domain 0 has been asked to relay before anybody could see it go arrives, too."""
    zero = nodes(0, config=LOST_SOON)[0]
    one, two = guests(2)
    with at_work(*all_kinds(one, two)) as goes_on:
        def restore(times):
            two.save_and_restore()
            eventually(lambda: resumes(zero, two.domid) >= times, "its link is resumed")
            goes_on()

        with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver, Connection(zero.socket, binds="last") as last:
            results = []
            host.sim("pause", two.domid)
            eventually(lambda: zero.link_state(two.domid) == "away", "it is away")
            assert sender.post(f"{two.domid}:inbox", b"meanwhile", results.append) == 0
            assert sender.post("0:last", b"behind it", results.append) == 0
            assert last.receive().data == b"behind it"
            restore(1)
            assert receiver.receive().data == b"meanwhile"
            eventually(lambda: sender.wait(10) >= 0 and len(results) == 2, "they have an outcome")
            assert results == [0, 0]
        for times in (2, 3):
            restore(times)


@pytest.mark.parametrize("may_map", [False, True], ids=["neither may map", "a link could be made"])
def test_what_is_opened_to_a_saved_guest_waits_in_domain_0(host, nodes, guests, zero, may_map):
    """By its name, UUID and number, also if rules are read anew; after the restore, too, before its daemon has heard of that."""
    one, two = nodes(1, 2).values() if may_map else guests(2)
    old, name = two.domid, "dom2" if may_map else guests.names[two.domid]
    addresses = (name, host.domain(old)["uuid"], str(old))
    eventually(lambda: "tells the names" in one.log.read_text(), "the names are told")
    eventually(lambda: zero.link_state(old) == "up", "domain 0 has a session with it")
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        posts, pings, unknown = Posts(sender, receiver), [], []
        def send_in_vain(seconds):
            """Once more, if domain 0 hasn't said within 0.25 s more whether it was taken, as while it hands over (xenmsg_send(3))."""
            result = sender.send(f"{name}:inbox", str(seconds).encode(), int(1000 * seconds))
            return unknown.append(str(seconds)) if result == -errno.ECONNRESET else result

        host.sim("suspend", old)
        eventually(lambda: f"domain {old} is away" in one.log.read_text(), "it is known to be away")
        for _ in range(3):
            pings.append(one.xenmsg("ping", "--timeout", "0.1", name).returncode)
            assert zero.xenmsg("policy", "reload").returncode == 0
        posts.post(*addresses)
        in_vain = given_time(send_in_vain, 0.1)
        two.resume("--unaware", 1000)
        posts.post(*addresses)
        posts.are_delivered(unknown)
    assert in_vain == -errno.ETIMEDOUT and pings == 3 * [EXIT_TIMEOUT], (in_vain, pings)


@pytest.mark.parametrize("who", ["domain_0", "guest"])
def test_a_saved_guest_is_led_to_after_a_hand_over(host, nodes, zero, who):
    """By its name, UUID and number, which XenStore has forgotten; the guest that asks has no link with it."""
    one, two = nodes(1, 2).values()
    addresses = ("dom2", host.domain(2)["uuid"], "2")
    knows(one, {2: "dom2"})
    eventually(lambda: zero.link_state(2) == "up", "domain 0 has a session with it")
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        posts = Posts(sender, receiver)
        host.sim("suspend", 2)
        eventually(lambda: "domain 2 is away" in one.log.read_text(), "it is known to be away")
        for _ in range(2):
            renew(zero if who == "domain_0" else one)
            eventually(lambda: one.link_state(0) == "up", "domain 0 is there")
            posts.post(*addresses)
        two.resume("--unaware", 200)
        posts.are_delivered()


@pytest.mark.parametrize("way", ["name", "uuid", "number"])
def test_what_is_opened_at_once_to_a_saved_guest_waits_too(host, nodes, zero, two, way):
    """Before domain 0 has said that it is away, to a guest that hasn't looked it up before."""
    address = {"name": "dom2", "uuid": host.domain(2)["uuid"], "number": "2"}[way]
    eventually(lambda: zero.link_state(2) == "up", "domain 0 has a session with it")
    one = nodes(1)[1]
    eventually(lambda: "tells the names of" in one.log.read_text(), "the names are told")
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        posts = Posts(sender, receiver)
        host.sim("suspend", 2)
        for _ in range(50):  # the first ones while domain 0 hears of it itself
            posts.post(address)
        two.resume("--unaware", 200)
        posts.are_delivered()


def test_relayed_traffic_goes_on_if_its_source_is_restored(zero, guests):
    """Under traffic: nothing is lost, nothing comes twice, the order is kept, and nobody hears of it but by the new number."""
    one, two = guests(2)
    with at_work(*all_kinds(one, two)) as goes_on:
        for times in (1, 2, 3):
            old = one.domid
            one.save_and_restore()
            eventually(lambda times=times: resumes(zero, one.domid) >= times, "its link is resumed")
            goes_on()
            assert not zero.link(old)
            # What is opened and what goes on is one domain's, by its new number, at both: nobody else has anything.
            for node in (zero, two):
                payers = {account["id"] for account in node.status()["accounts"] if account["kind"] == "peer" and
                          account["channels"]["used"]}
                assert payers <= {0, one.domid}, payers


def test_an_answer_through_domain_0_names_its_server_of_now(zero, guests):
    one, two = guests(2)
    address = f"{two.domid}:echo"
    with Connection(one.socket) as caller, Connection(two.socket, binds="echo") as server:
        def answers():
            answering = echo(server, 1)
            assert caller.call(address, b"x") == b"x"
            answering.join()
            return caller.answerer == two.domid

        assert answers()
        for node in two, one, two:
            node.save_and_restore()
            eventually(answers, "it is told")


def test_relayed_traffic_goes_on_when_both_ends_are_restored(zero, guests):
    pair = guests(2)
    with at_work(*all_kinds(*pair)) as goes_on:
        for times in (1, 2):
            for node in pair:
                node.suspend()
            for node in pair:
                node.resume()
            for node in pair:
                eventually(lambda node=node, times=times: resumes(zero, node.domid) >= times, "its link is resumed")
            goes_on()


@pytest.mark.parametrize("rules", ["[rule]\nfrom = {}\nto = inbox\naction = allow\n[rule]\nfrom = *\nto = *\naction = deny\n",
                                   "[relay]\nfrom = {}\nto = *\naction = allow\n[relay]\nfrom = *\nto = *\naction = deny\n"],
                         ids=["destination", "domain 0"])
def test_rules_about_a_new_number_count_for_what_it_had_opened(zero, guests, rules):
    one, two = guests(2)
    ruler = zero if "relay" in rules else two
    ruler.set_policy(rules.format(one.domid))
    results = []
    with Connection(one.socket) as sender, Holder(two, "inbox") as holder:
        assert sender.post(f"{two.domid}:inbox", b"x" * 9, results.append) == 0
        holder.expect(18)
        one.save_and_restore()
        eventually(lambda: sender.wait(10) >= 0 and results, "it has an outcome")
    assert results == [-errno.ECONNRESET]  # it had been handed over
    one.send(f"{two.domid}:inbox", "x", exit_code=EXIT_DENIED)


# --- who may ---

def test_the_receivers_policy_is_asked_about_the_true_source(zero, guests):
    one, two = guests(2, start=False)
    three, = guests(1, start=False)
    three.policy = f"[rule]\nfrom = {guests.names[one.domid]}\nto = inbox\naction = allow\n"
    start_all(one, two, three)
    eventually(lambda: three.link_state(0) == "up", "names are told")
    works(one, three)
    two.send(f"{three.domid}:inbox", "x", exit_code=EXIT_DENIED)
    assert [(denied["from"], denied["to"]) for denied in three.status()["denied"]] == [(str(two.domid), "inbox")]
    # Domain 0 only carries it.
    zero.send(f"{three.domid}:inbox", "x", exit_code=EXIT_DENIED)


@HOW
def test_domain_0_may_forbid_a_pair_one_way_and_ends_its_traffic(zero, guests, how):
    one, two, three = guests(3)
    works(one, two)
    with Holder(two, "inbox") as holder, Connection(one.socket) as sender:
        outcomes = []
        assert sender.post(f"{two.domid}:inbox", b"x", outcomes.append) == 0
        holder.expect(18)
        takes_rules(zero, f"[relay]\nfrom = {guests.names[one.domid]}\nto = {two.domid}\naction = deny\n", how, "10-relay.conf")
        while not outcomes:
            assert sender.wait(20000) >= 0
        assert outcomes == [-errno.ECONNRESET]  # it had been handed over
    for command in ("send", "call", "connect", "subscribe"):
        done = one.xenmsg(command, f"{two.domid}:inbox", data=b"x")
        assert done.returncode == EXIT_DENIED and b"in domain 0, which passes it on" in done.stderr, done
    works(two, one)
    works(one, three)
    answer, = zero.xenmsg("policy", "check", "--json", str(one.domid), f"{guests.names[two.domid]}:inbox").stdout.splitlines()
    answer = json.loads(answer)
    assert (answer["allow"], answer["to"], answer["line"]) == (False, two.domid, 1) and answer["file"].endswith("10-relay.conf")
    for source, target, code in ((one, two, EXIT_DENIED), (two, one, EXIT_OK), (one, three, EXIT_OK)):
        assert zero.xenmsg("policy", "check", str(source.domid), f"{target.domid}:inbox").returncode == code
    assert one.xenmsg("policy", "check", "0", f"{two.domid}:inbox").returncode == EXIT_USAGE
    assert [(denied["from"], denied["to"]) for denied in zero.status()["denied"]] == [(str(one.domid), f"{two.domid}:inbox")]


def held(node, domid, resource="channels"):
    return sum(account[resource]["used"] for account in node.status()["accounts"]
               if account["kind"] == "peer" and account["id"] == domid)


def test_the_source_pays_in_domain_0_and_where_it_ends(zero, guests):
    one, two = guests(2)
    with Holder(two, "full"), Connection(one.socket) as sender:
        assert sender.post(f"{two.domid}:full", bytes(MIB), lambda result: None) == 0
        eventually(lambda: held(zero, one.domid) == 1 and held(two, one.domid) == 1, "it is charged")
        assert held(zero, one.domid, "queued_bytes") >= 65536 and held(two, one.domid, "queued_bytes") >= 65536
        assert held(zero, two.domid) == held(two, 0) == held(zero, 0) == 0
    eventually(lambda: held(zero, one.domid) == held(two, one.domid) == 0, "it is given back")


# --- one that lies at an end ---

def test_a_guest_can_ask_domain_0_for_nothing_but_another_guest(zero, guests, peer_in):
    two, = guests(1)
    liar = guests.domid()
    peer = peer_in(liar, "grant", 0, RELAYS)
    with Holder(zero, "inbox"):
        for address, error in (("0:inbox", errno.EINVAL), (f"{liar}:inbox", errno.EINVAL), ("self:inbox", errno.EINVAL),
                               (f"{guests.names[two.domid]}:inbox", errno.EINVAL), (":inbox", errno.EINVAL),
                               ("99999:inbox", errno.EINVAL), (f"{two.domid}:{two.domid}:inbox", errno.EINVAL),
                               (f"{two.domid}:" + "x" * 300, errno.EINVAL), (f"{two.domid}:nobody", errno.ENOENT),
                               ("777:inbox", errno.EHOSTDOWN)):
            assert peer.ask("send", address, "5") == f"ok reset {error}", address
    # What it says of itself, domid 4711, counts for nothing.
    thread, got = receive(two, "inbox")
    assert peer.ask("send", f"{two.domid}:inbox", "500") == "ok delivered"
    thread.join()
    assert (got[0].domid, got[0].uid, len(got[0].data)) == (liar, 1000, 500)
    assert peer.ask("close") == "ok closed"


@pytest.mark.parametrize("way, address", [("opens-reset", "{}:sink"), ("opens-refused", "{}:nobody"), ("queries", "{}:xenmsg")])
def test_a_guest_that_floods_domain_0_takes_nobodys_turn(host, zero, guests, way, address):
    one, two = guests(2)
    works(one, two)
    with Holder(two, "sink"):
        attack = host.converse(guests.domid(), "hostile-peer", 0, f"flood-{way}", address.format(two.domid), env=host.FOR_STOCK)
        assert attack.first == "CONNECTED"
        while attack.ok("count")[1] < 5000:  # answers
            works(one, two)
            works(two, one)
            works(zero, two)
        assert attack.ok("count")[2] == 1  # nothing of this is illegal
        attack.process.stdin.close()
        assert attack.process.wait(30 * PATIENCE) == 0
    for node in (zero, two):
        assert node.status()["time"]["longest_pass_units"] <= PASS_UNITS + LARGEST_PIECE
    eventually(lambda: not held(zero, one.domid) and not held(zero, two.domid), "nothing is left")


@pytest.mark.unless(renewed="stock", relayed="direct")
@pytest.mark.parametrize("address", ["1:inbox", "2:inbox", "0:inbox"])
def test_nobody_but_domain_0_speaks_for_others(one, peer_in, address):
    """The peer, of stock libraries, looks for a hello once, which a daemon that hands over takes back for a moment."""
    peer = peer_in(2, "grant", 1, RELAYS)
    with Holder(one, "inbox"):
        assert peer.ask("send", address, "5") == f"ok reset {errno.EACCES}"
        assert "which only domain 0 may" in one.log.read_text()
        assert peer.ask("close") == "ok closed"
