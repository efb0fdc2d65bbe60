# SPDX-License-Identifier: LGPL-2.1-or-later
"""What it costs to be there: in XenStore, each domain pays for what it has to do with, and nothing for all the others."""

import contextlib
import json
import time

import pytest

from lower_half import INSTANCE, Node, Tree, exchange, link
from messaging import ALLOW_ALL, EXIT_LIMIT, EXIT_UNREACHABLE, FAST, TOLD_WATCHES, eventually, stopped, works
from protocol import Program
from renewing import renew


def counted(host):
    """What each domain has asked XenStore, and what it was told, once ten looks in a row have found the same."""
    looks = []

    def settled():
        looks.append({domain["domid"]: domain["xenstore"] for domain in host.list()["domains"]})
        return len(looks) > 10 and all(look == looks[-1] for look in looks[-11:])

    eventually(settled, "nothing happens in XenStore any more", 60)
    return looks[-1]


def watching(node):
    """A function that reads what a watch on all domains tells until it has said of one that it is up, or down."""
    watch, seen = node.popen("watch", "*", "--json"), {}

    def see(domid, up):
        while seen.get(domid) is not up:
            event = json.loads(watch.stdout.readline())
            if event["kind"] == "domain":
                seen[event["domid"]] = event["event"] == "up"
    return see


def all_are_told(host, count, met=0):
    """Each guest has been told of what changed before by domain 0's daemon, and has given up its watch on all domains. It watches by
    itself those with which it has had links, so many at most."""
    eventually(lambda: all(domain["xenstore"]["watches"] <= TOLD_WATCHES + met for domain in host.list()["domains"]
                           if 0 < domain["domid"] <= count), "domain 0 tells all guests")


def await_link(zero, domid):
    def is_up():
        link = zero.link(domid)
        return link and link["state"] == "up"
    eventually(is_up, f"domain 0 has its link with domain {domid}")


def start_many(nodes, policy=None):
    """Of a host whose guests have all started at once and have their links with domain 0. Its daemon is there by then: who starts
    earlier hears of each other domain, until that daemon tells it."""
    every = nodes.by_domid
    for node in every.values():
        node.policy = policy
        node.start(wait=node.domid == 0)
    for node in every.values():
        node.wait_ready()
    eventually(lambda: sum(one["state"] == "up" for one in every[0].status()["links"]) == len(every) - 1, "all are linked", 60)
    return nodes.host, every


@pytest.mark.unless(renewed="counts", away="counts")
@pytest.mark.parametrize("count", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_requests_to_xenstore_do_not_grow_with_the_domains(many, count):
    """Measured: 63 requests of each guest and 47 of domain 0 for each. It was 183 with 10 guests, 383 with 25, and 2676 with 100. A
    guest has 27 events, where it had 1121 with 100, and domain 0 has 29 for each. They start one after the other: of guests that all
    start at once each waits for all the others, and the longer that takes, the more often it writes its hello. Who hands over asks again."""
    nodes = many(count)
    host, every = nodes.host, nodes.by_domid
    every[0].start()
    for domid in range(1, count + 1):
        every[domid].start()
        await_link(every[0], domid)
        all_are_told(host, domid)
    found = counted(host)
    guests = [found[domid] for domid in range(1, count + 1)]
    assert max(one["requests"] for one in guests) <= 100
    assert max(one["writes"] for one in guests) <= 8
    assert max(one["watches"] for one in guests) <= TOLD_WATCHES + 1
    assert max(one["nodes"] for one in guests) <= 20  # 12 of them are the toolstack's
    assert found[0]["requests"] <= 55 * count + 70
    assert max(one["events"] for one in guests) <= 35
    assert found[0]["events"] <= 30 * count + 70


@pytest.mark.unless(renewed="counts", away="counts")
def test_a_domain_that_joins_costs_little_and_is_reached_at_once(many):
    """Who hands over asks XenStore for more than that."""
    nodes = many(6)
    host, every = start_many(nodes, ALLOW_ALL)
    domid = int(host.sim("create").stdout)
    all_are_told(host, 6)
    before = counted(host)
    late = nodes(domid, start=False)[domid].start()
    await_link(every[0], domid)
    after = counted(host)
    for guest in range(1, 7):
        assert after[guest]["requests"] == before[guest]["requests"]
        assert after[guest]["events"] == before[guest]["events"]
    for one, other in ((late, every[3]), (every[4], late)):
        inbox = other.receiver("inbox", "--count", "1")
        one.send(f"{other.domid}:inbox", "hello")
        assert inbox.output() == b"hello\n"


@pytest.mark.unless(renewed="late", relayed="zero", strict="zero")
def test_a_list_has_all_whoever_started_first(host, nodes):
    """A list waits for as long as answers come: one of a daemon that hands over is later, and then the next list has it."""
    one, two, three = nodes(1, 2, 3, start=False).values()
    for node in (two, one, three):
        node.start()
    assert [peer["domid"] for peer in one.status()["peers"]] == []
    for node in (one, two, three):
        others = {1, 2, 3} - {node.domid}
        assert {peer["domid"] for peer in node.json("peers") if peer["up"]} == others  # in its first answer
    assert host.domain(1)["xenstore"]["requests"] < 150


@pytest.mark.unless(renewed="late")
def test_the_first_answer_of_a_list_has_the_endpoints_of_all(nodes):
    one, two, three = nodes(1, 2, 3, start=False).values()
    for node in (two, three, one):
        node.start()
    with Program(two.socket) as early, Program(three.socket) as late, Program(one.socket) as program:
        early.bind("early")
        late.bind("late")
        listed = program.query("endpoints")
        assert '"early"' in listed and '"late"' in listed


def test_a_watch_tells_of_those_that_run_and_of_those_that_come(host, nodes):
    one, two, three = nodes(1, 2, 3, start=False).values()
    two.start()
    one.start()
    see = watching(one)
    see(2, True)
    three.start()
    see(3, True)
    host.sim("destroy", 2)
    two.kill()
    see(2, False)
    three.stop()
    see(3, False)


# --- guests that domain 0 tells what changes, in place of a watch on all domains ---

def watches(host, domid):
    return host.domain(domid)["xenstore"]["watches"]


@pytest.mark.unless(renewed="counts")
def test_guests_that_are_told_watch_nobody_and_see_all(host, nodes):
    """A guest whose domain 0 hands over may watch for itself until it is told again."""
    every = nodes(0, 1, 2, 3)
    one, two, three = every[1], every[2], every[3]
    two.set_policy("[rule]\nfrom = 1\nto = secret\naction = allow\n[rule]\nfrom = *\nto = public\naction = allow\n")
    all_are_told(host, 3)
    with Program(two.socket) as program:
        program.bind("secret")
        program.bind("public")
        for node, names in ((one, {"secret", "public"}), (three, {"public"})):
            eventually(lambda node=node, names=names: {entry["name"] for entry in node.json("endpoints")} == names, "all is listed")
        watch = three.popen("watch", "*", "--json")
        seen = {}

        def see(*what, event):
            while seen.get(what) != event:
                line = json.loads(watch.stdout.readline())
                seen[line["kind"], line["domid"]] = line["event"]
        see("endpoint", 2, event="up")
        see("domain", 2, event="up")
    see("endpoint", 2, event="down")
    two.stop()
    see("domain", 2, event="down")
    two.start()
    see("domain", 2, event="up")
    host.sim("destroy", 1)
    one.kill()
    see("domain", 1, event="down")
    assert watches(host, 3) == TOLD_WATCHES


def test_a_watch_hears_of_who_is_told_only_afterwards(host, nodes):
    """Domain 2 asks for all before domain 0 tells domain 1 of changes, which hears of that when it does."""
    every = nodes(0, 1, 2, start=False)
    zero, one, two = every.values()
    zero.start()
    two.start()
    eventually(lambda: watches(host, 2) <= TOLD_WATCHES, "domain 0 tells domain 2")
    one.policy = "[rule]\nfrom = 2\nto = secret\naction = allow\n"
    with contextlib.ExitStack() as stack:
        with stopped(zero.pid):
            one.start()
            program = stack.enter_context(Program(one.socket))
            program.bind("secret")
            watch = two.popen("watch", "*", "--json")
            eventually(lambda: Tree(host, 0).read("/local/domain/2/data/xenmsg/asks"), "it asks for all")
        while json.loads(watch.stdout.readline()).get("name") != "secret":
            pass


@pytest.mark.unless(renewed="counts", away="counts")
@pytest.mark.parametrize("how", ["bound", "allowed", "named", pytest.param("forgotten", marks=pytest.mark.unless(relayed="direct"))])
def test_a_watch_hears_of_what_is_for_it_only_later(host, nodes, how):
    """When domain 2 asked, domain 1 had nothing for it: it has bound nothing, its policy allows nothing, or not by that name;
    or it has had to do with domain 2 since, and no more. What a hand-over tells anew would hide that."""
    zero, one, two = nodes(0, 1, 2, start=False, config="[daemon]\nlog-level = debug\n" + FAST + "idle-close = 1s\n").values()
    rule = f"[rule]\nfrom = {'late' if how == 'named' else 2}\nto = secret\naction = allow\n"
    one.policy = "" if how == "allowed" else rule
    two.policy = ALLOW_ALL
    for node in (zero, one, two):
        node.start()
    all_are_told(host, 2)
    with Program(one.socket) as program:
        program.bind("early" if how in ("bound", "forgotten") else "secret")
        watch = two.popen("watch", "*", "--json")
        eventually(lambda: Tree(host, 0).read("/local/domain/2/data/xenmsg/asks"), "it asks for all")
        counted(host)
        if how == "allowed":
            one.set_policy(rule)
        elif how == "named":
            host.sim("rename", 2, "late")
        elif how == "forgotten":
            assert one.xenmsg("ping", "--count", "1", "2").returncode == 0
            eventually(lambda: "domain 2 is forgotten" in one.log.read_text(), "domain 1 forgets domain 2")
        if how in ("bound", "forgotten"):
            program.bind("secret")
        eventually(lambda: [entry["name"] for entry in two.json("endpoints", "1")] == ["secret"], "it is listed")
        while json.loads(watch.stdout.readline()).get("name") != "secret":
            pass


@pytest.mark.unless(relayed="zero")
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_guests_watch_themselves_while_domain_0_has_no_daemon(host, nodes, how):
    every = nodes(0, 1, 2, 3)
    zero, one, two, three = every.values()
    all_are_told(host, 3)
    works(one, two)
    getattr(zero, how)()
    works(one, two)  # their link stays
    works(three, two)
    eventually(lambda: watches(host, 1) > TOLD_WATCHES + 1, "domain 1 watches all")
    eventually(lambda: renew(one) or watches(host, 1) > TOLD_WATCHES + 1, "none of its daemons that hand over at once waits for domain 0 anew")
    zero.start()
    all_are_told(host, 3, met=2)
    works(one, three)


@pytest.mark.unless(relayed="zero")
def test_hand_overs_in_a_row_wait_for_a_dead_domain_0_but_once(host, nodes):
    nodes(0)[0].kill()  # what it has shown stays
    one = nodes(1, config="[links]\nsetup-timeout = 4s\n")[1]
    eventually(lambda: watches(host, 1) > TOLD_WATCHES or renew(one), "domain 1 watches all")


@pytest.mark.unless(relayed="zero", renewed="zero")
def test_guests_that_want_a_link_need_no_word_of_domain_0(host, nodes):
    """Its daemon stands still: nobody tells one what the other one has written, whose own attempt is seconds old."""
    zero, one, two = nodes(0, 1, 2, config="[links]\nsetup-timeout = 3s\n").values()
    all_are_told(host, 2)
    with stopped(zero.pid):
        assert two.xenmsg("ping", "--count", "1", "1").returncode == EXIT_UNREACHABLE
        before = host.domain(2)["xenstore"]["writes"]
        eventually(lambda: host.domain(2)["xenstore"]["writes"] > before, "its hello is written once more, and not again for a while")
        assert one.xenmsg("ping", "--count", "1", "2").returncode == 0
    eventually(lambda: watches(host, 1) == TOLD_WATCHES + 1, "the watch is given up")


@pytest.mark.unless(relayed="zero", renewed="zero")
@pytest.mark.parametrize("renewed", [False, True], ids=["", "renewed"])
def test_a_link_is_made_again_without_domain_0(host, nodes, renewed):
    """Its daemon stands still: who is called hears of the other one's hello by itself."""
    zero, one, two, three = nodes(0, 1, 2, 3, config=FAST + "idle-close = 1s\n").values()
    all_are_told(host, 3)
    for other in (two, three):
        works(one, other)
    eventually(lambda: all(other.link_state(1) != "up" for other in (two, three)), "the links are closed")
    with stopped(zero.pid):
        if renewed:
            renew(one)
        for other in (two, three):
            assert one.xenmsg("ping", "--count", "1", str(other.domid)).returncode == 0



def test_a_hello_that_nobody_saw_is_followed_by_another(host):
    """As while its reader isn't told of changes yet, or has just lost its connection to XenStore. It may also have answered the
    first one, and given up."""
    one = Node(host, 1)
    hand = Tree(host, 2)
    hand.write("presence", f"1 {INSTANCE}")
    one.await_event("up 2")
    one.connect(2)
    first = eventually(lambda: hand.read("/local/domain/1/data/xenmsg/to/2/hello"), "it wants a link")
    eventually(lambda: hand.read("/local/domain/1/data/xenmsg/to/2/hello") not in (None, first), "another one")
    one.close(2)


@pytest.mark.slow
def test_one_of_many_guests_lists_and_watches_them_all(many):
    """More than a guest may have watches."""
    count = 140
    host, every = start_many(many(count))
    all_are_told(host, count)
    one = every[1]
    before = counted(host)
    assert {peer["domid"] for peer in one.json("peers") if peer["up"]} == set(range(count + 1)) - {1}
    assert len(one.json("endpoints")) == 0
    after = counted(host)
    assert after[1]["requests"] - before[1]["requests"] <= 5 * count + 20
    assert all(after[domid]["requests"] == before[domid]["requests"] for domid in range(2, count + 1))
    see = watching(one)
    for domid in (2, count):
        see(domid, True)
        every[domid].stop()
        see(domid, False)
        every[domid].start()
        see(domid, True)
    host.sim("destroy", 3)
    every[3].kill()
    see(3, False)
    assert watches(host, 1) == TOLD_WATCHES
    assert "quota" not in one.log.read_text()


# --- between the lower halves alone ---

def test_who_wants_nothing_knows_nobody_and_is_found_by_who_asks(host):
    one, two, three = Node(host, 1, "few=yes"), Node(host, 2, "few=yes"), Node(host, 3, "few=yes")
    for node in (one, two, three):
        node.settle()
        assert not any(event.startswith("up") for event in node.passed_over)
        assert node.talk.ok("nodes") == 1
    assert one.talk.ok("all") == 0
    one.await_event("all")
    assert {"up 2", "up 3"} <= set(one.passed_over)
    assert one.talk.ok("all") == 1
    two.await_event("up 1")
    three.await_event("up 1")
    assert "up 3" not in two.passed_over and "up 2" not in three.passed_over


@pytest.mark.parametrize("first", [1, 3])
def test_a_link_needs_nobody_to_know_anybody(host, first):
    second = 4 - first
    nodes = {domid: Node(host, domid, "few=yes") for domid in (first, second)}
    link(nodes[1], nodes[3])
    exchange(nodes[1], nodes[3])


def test_who_starts_later_is_known_to_who_wants_all_and_knows_it(host):
    one = Node(host, 1)
    two = Node(host, 2, "few=yes")
    one.await_event("up 2")
    two.await_event("up 1")
    one.talk.ok("advertise", "inbox")
    assert two.await_event("endpoints 1 inbox")
    two.talk.ok("advertise", "print")
    assert one.await_event("endpoints 2 print")


def test_a_private_daemon_neither_asks_nor_answers(host):
    hidden, two = Node(host, 1, "private=3"), Node(host, 2)
    hidden.settle()
    assert Tree(host, 2).read("/local/domain/1/data/xenmsg/asks") is None
    two.settle()
    assert "up 1" not in two.passed_over
    assert Tree(host, 0).read("/local/domain/1/data/xenmsg/to/2/endpoints") is None


def asked(host):
    """Domain 2, what stands in for domain 1, and a watch of it on the leaf that is the answer."""
    two = Node(host, 2, "few=yes")
    hand = Tree(host, 1)
    hand.write("presence", f"1 {INSTANCE}")
    watcher = host.xen(1)
    answer = "/local/domain/2/data/xenmsg/to/1/endpoints"
    watcher.ok("xs-watch", answer)
    watcher.ok("xs-event", 20000)  # of the watch itself
    return two, hand, watcher, answer


def test_who_asks_again_is_answered_again(host):
    """Its connection to XenStore may have been lost, and the event of the first answer with it."""
    two, hand, watcher, answer = asked(host)
    for _ in range(3):
        hand.write("asks", f"1 {INSTANCE}")
        assert watcher.ok("xs-event", 20000).startswith(answer)
    two.settle()


def test_who_was_known_before_it_asks_is_answered_too(host):
    """What was written for it then had the daemon that it has taken over from."""
    two, hand, watcher, answer = asked(host)
    hand.write("to/2/endpoints", "")
    two.await_event("up 1")
    two.settle()
    while answer in watcher.ok("xs-event", 500):
        pass
    hand.write("asks", f"1 {INSTANCE}")
    assert watcher.ok("xs-event", 20000).startswith(answer)


def test_asking_again_and_again_makes_others_do_little_more(host):
    """A peer that is known was answered already, and is so once more in each second."""
    two = Node(host, 2, "few=yes")
    hand = Tree(host, 1)
    hand.write("presence", f"1 {INSTANCE}")
    hand.write("asks", f"1 {INSTANCE}")
    two.await_event("up 1")
    two.settle()
    before, begun = host.domain(2)["xenstore"]["requests"], time.monotonic()
    for turn in range(200):
        hand.write("asks", f"1 {turn}")
    two.settle()
    spent, seconds = host.domain(2)["xenstore"]["requests"] - before, time.monotonic() - begun
    assert spent < 20 + 4 * seconds


# --- endpoints for all, and for some ---

FOR_ONE = "[rule]\nfrom = 2\nto = secret\naction = allow\n[rule]\nfrom = *\nto = public\naction = allow\n"


def leaf(host, path):
    return Tree(host, 0).read(f"/local/domain/{path}")


@pytest.mark.unless(away="counts", renewed="counts")
def test_an_endpoint_for_all_costs_one_write_for_any_number(nodes, host):
    every = nodes(0, 1, 2, 3)
    one = every[1]
    all_are_told(host, 3)
    for node in every.values():
        assert {peer["domid"] for peer in node.json("peers") if peer["up"]} == {0, 1, 2, 3} - {node.domid}
    before = counted(host)
    with Program(one.socket) as program:
        program.bind("public")
        for other in (every[0], every[2], every[3]):
            eventually(lambda other=other: "public" in str(other.status()["peers"]), f"domain {other.domid} sees it")
        after = counted(host)
        assert after[1]["writes"] - before[1]["writes"] == 1
        assert after[3]["writes"] == before[3]["writes"]
        assert leaf(host, "1/data/xenmsg/endpoints") == "public +0:1"
        assert Tree(host, 3).read("/local/domain/1/data/xenmsg/endpoints") == "public +0:1"
    eventually(lambda: "public" not in str(every[3].status()["peers"]), "it is seen going")


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("domids", [(3, 2, 1), (3, 2, 1, 0)], ids=["alone", "told"])
def test_an_endpoint_for_one_is_in_no_leaf_that_others_read(nodes, host, domids):
    three, two, one, *zero = nodes(*domids, start=False).values()
    one.policy = FOR_ONE
    for node in (*zero, one, two, three):
        node.start()
    with Program(one.socket) as program:
        program.bind("secret")
        program.bind("public")
        program.bind("hidden")

        def listed(node):
            return {entry["name"] for entry in node.json("endpoints")}
        eventually(lambda: listed(two) == {"secret", "public"} and listed(three) == {"public"}, "each sees what is for it")
        assert leaf(host, "1/data/xenmsg/endpoints") == "public +0:1"
        assert leaf(host, "1/data/xenmsg/to/2/endpoints") == "secret +0:1"
        assert not leaf(host, "1/data/xenmsg/to/3/endpoints")
        # It becomes one for nobody else, and then for all.
        one.set_policy("[rule]\nfrom = 2\nto = *\naction = allow\n")
        eventually(lambda: leaf(host, "1/data/xenmsg/endpoints") == "", "nothing is for all")
        eventually(lambda: not three.json("endpoints"), "domain 3 sees none")
        eventually(lambda: len(two.json("endpoints")) == 3, "domain 2 sees all")
        one.set_policy(ALLOW_ALL)
        eventually(lambda: len(three.json("endpoints")) == 3 and len(two.json("endpoints")) == 3, "all see all")
        eventually(lambda: leaf(host, "1/data/xenmsg/to/2/endpoints") == "", "nothing is for domain 2 alone")
        # The next daemon finds what the one before has written, and other rules.
        one.set_policy(FOR_ONE)
        eventually(lambda: leaf(host, "1/data/xenmsg/to/2/endpoints") == "secret +0:1", "it is for domain 2 alone")
        one.write_policy("[rule]\nfrom = 3\nto = *\naction = allow\n")
        renew(one)
        eventually(lambda: not two.json("endpoints") and len(three.json("endpoints")) == 3, "they see what is for them")
        assert not leaf(host, "1/data/xenmsg/to/2/endpoints")


def test_a_leaf_tells_kinds_or_does_not(one, host):
    """As xenmsgd writes it, without them, and with what can't be."""
    hand = Tree(host, 2)
    hand.write("presence", f"1 {INSTANCE}")
    for value, kinds in (("a b c d +0:1247", ["message", "call", "stream", "any"]), ("a b", [None, None]), ("a b +3", [None, None]),
                         ("a b +0:1", [None, None]), ("a b +0:19", [None, None]), ("a +12:2", ["call"]), ("a +0:0", [None]),
                         ("a b +0.1:10", ["message", "topic"])):
        hand.write("to/1/endpoints", value, 1)
        eventually(lambda kinds=kinds: [json.loads(entry)["kind"] for entry in one.xenmsg("endpoints", "2", "--json").stdout.splitlines()] == kinds,
                   value)


def test_a_leaf_without_room_for_all_says_so(one, host):
    hand = Tree(host, 2)
    hand.write("presence", f"1 {INSTANCE}")
    hand.write("to/1/endpoints", "a b +3:11", 1)
    eventually(lambda: one.xenmsg("endpoints", "2").returncode == EXIT_LIMIT, "there is more than is told")
    done = one.xenmsg("endpoints", "--json", "2")
    assert [json.loads(line)["whole"] for line in done.stdout.splitlines()] == [False, False]
    assert done.returncode == EXIT_LIMIT and b"isn't whole" in done.stderr
    done = one.xenmsg("endpoints", "2:c")
    assert done.returncode == EXIT_LIMIT and b"no such" not in done.stderr
    assert [peer.get("whole") for peer in one.status()["peers"] if peer["domid"] == 2] == [False]
    watch = one.popen("watch", "--json", "2:c")
    rows = map(json.loads, iter(watch.stdout.readline, b""))

    def told():
        row = next(rows)
        return row["event"], row["name"]
    assert told() == ("listed", "more")
    for _ in range(2):  # as often as it changes
        hand.write("to/1/endpoints", "a b c +0:111", 1)
        assert [told(), told()] == [("up", "c"), ("listed", None)]
        assert len(one.json("endpoints", "2")) == 3
        hand.write("to/1/endpoints", "a b +1:11", 1)
        assert [told(), told()] == [("down", "c"), ("listed", "more")]
    renew(one)
    hand.write("to/1/endpoints", "a b +0:11", 1)
    assert told() == ("listed", None)
    watch.kill()
    assert watch.communicate()[1].count(b"there is more") == 3


def test_a_private_daemon_has_no_leaf_for_all(nodes, host):
    one, two = nodes(1, 2, start=False).values()
    one.config += "presence = private\npeers = 2\n"
    one.start()
    two.start()
    with Program(one.socket) as program:
        program.bind("inbox")
        eventually(lambda: leaf(host, "1/data/xenmsg/to/2/endpoints") == "inbox +0:1", "domain 2 is told")
    assert leaf(host, "1/data/xenmsg/endpoints") is None


def test_a_list_is_answered_though_xenstore_stands_still(host, one):
    host.fault("stall-store", 1, "on")
    try:
        assert one.xenmsg("peers", timeout=20).returncode == 0
    finally:
        host.fault("stall-store", 1, "off")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_domain_0_tells_after_its_restart_of_those_known_before(host, nodes, how):
    every = nodes(0, 1, 2)
    zero, one, two = every.values()
    all_are_told(host, 2)
    works(one, two)
    zero.stop()
    zero.start()
    all_are_told(host, 2, met=1)
    getattr(two, how)()
    two.start()
    works(one, two)
    assert "did not answer" not in one.log.read_text() + two.log.read_text()
