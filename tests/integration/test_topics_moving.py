# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom an address means while domains are restored, renamed, and made anew: what a topic's subscribers get then."""

import os

import pytest

from frames import DATA, FIN, SUBSCRIBE, SUBSCRIBE_LEAVE, credit_frame, fin_frame, u32
from library import ENDED, KEPT, PATTERN, RETAIN, SUBSCRIBED, WAITING, Connection, Message
from messaging import PATIENCE, eventually
from protocol import Program
from renewing import renew
from test_calls import echo
from test_names import knows
from test_topics import expect, publish, receive, subscriber, topic, until


def take_for(conn, last):
    """What comes until this payload: notices, and payloads with who has sent them."""
    got = []
    while not got or got[-1][0] != last:
        message = receive(conn)
        got.append((message.notice.kind if message.notice else message.data, message.domid))
    return got


def payloads(got):
    return [what for what, _ in got if isinstance(what, bytes)]


def test_a_pattern_gets_each_message_once_over_restores(one, two):
    publisher = topic(two)
    conn = Connection(one.socket)
    assert conn.subscribe("*:news", 0, PATTERN) == 0
    expect(conn, SUBSCRIBED)
    for number in range(3):
        publish(publisher, b"%d before" % number)
        two.save_and_restore()
        publish(publisher, b"%d after" % number)
        one.sees(two)
        eventually(lambda: conn.wait(0) >= 0 and [each["address"] for each in one.status()["subscriptions"]] == [f"{two.domid}:news"],
                   "one subscription is left", 60 * PATIENCE)
        publish(publisher, b"%d last" % number)
        all_of = take_for(conn, b"%d last" % number)
        got = payloads(all_of)
        assert got == [b"%d before" % number, b"%d after" % number, b"%d last" % number], all_of


def subscribe(program, address, flags=0):
    assert program.request(SUBSCRIBE, u32(flags) + address.encode()) == (0, b"")


def told_until(program, last, *frames):
    """What comes up to this, behind these frames, of channels that the program ends when the daemon has."""
    told, frames = b"", list(frames)
    while last not in told:
        frame = frames.pop() if frames else program.receive()
        if frame.kind == DATA:
            told += frame.payload
        if frame.kind == FIN:
            program.send_bytes(credit_frame(frame.channel, frame.u64()) + fin_frame(frame.channel, 0))
    return told


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("hands_over", [False, True], ids=["goes on", "hands over"])
def test_what_was_told_to_end_comes_before_what_comes_behind(one, two, hands_over):
    """By a program that subscribes to the domain's new number before it has taken all that was told of the old one."""
    publisher, other = topic(two), Connection(one.socket)
    with Program(one.socket) as program:
        subscribe(program, "2:news")
        program.expect(DATA)
        two.save_and_restore()
        one.sees(two)
        publish(publisher, b"after")
        end = program.expect(FIN)  # what comes next names another number
        subscribe(program, "2:news", SUBSCRIBE_LEAVE)
        subscribe(program, f"{two.domid}:news")
        if hands_over:
            renew(one)
        assert other.subscribe(f"{two.domid}:news") == 0
        until(other, SUBSCRIBED)
        publish(publisher, b"last")
        assert receive(other).data == b"last"
        told = told_until(program, b"last", end)
        assert 0 < told.find(b"after") < told.find(b"last"), told


def test_the_next_daemon_tells_a_publisher_s_number_of_now(one, two):
    """In a channel that names the one of before."""
    publisher, conn = topic(two), subscriber(one, "2:news")
    two.save_and_restore()
    eventually(lambda: one.status()["subscriptions"][0]["address"] == f"{two.domid}:news", "it follows")
    renew(one)
    publish(publisher, b"hello")
    assert take_for(conn, b"hello") == [(b"hello", two.domid)]


def test_who_waits_for_an_own_topic_waits_over_a_restore(nodes):
    one = nodes(1, policy="")[1]
    conn = subscriber(one, "self:news", WAITING)
    live = topic(one, "other")
    other = subscriber(one, "self:other")
    one.save_and_restore()
    live.close()
    expect(other, WAITING)
    for name, waits in ("news", conn), ("other", other):
        publisher = topic(one, name)
        until(waits, SUBSCRIBED)
        publish(publisher, b"hello", name=name)
        message = receive(waits)
        assert (message.data, message.domid) == (b"hello", one.domid)


def made_anew(nodes, host, node, name):
    """The domain of this name is destroyed, and another one has the name."""
    node.kill()
    host.sim("destroy", node.domid)
    domid = int(host.sim("create", "--name", name).stdout)
    return nodes(domid)[domid]


def hears(conn, publisher, domid, *before):
    """Who publishes by now is heard behind what was before."""
    until(conn, SUBSCRIBED)
    publish(publisher, b"now")
    got = take_for(conn, b"now")
    assert [each for each in got if isinstance(each[0], bytes)] == [*before, (b"now", domid)], got


def test_a_name_means_the_domain_that_was_made_anew(nodes, host, zero):
    host.sim("rename", 2, "web")
    one, web = nodes(1, 2).values()
    publish(topic(web, flags=RETAIN), b"of before")
    old = subscriber(one, "web:news")
    assert payloads(take_for(old, b"of before"))
    web = made_anew(nodes, host, web, "web")
    publisher = topic(web, flags=RETAIN)
    publish(publisher, b"kept")
    hears(old, publisher, web.domid, (b"kept", web.domid))
    late = subscriber(one, "web:news")
    expect(late, KEPT)
    assert take_for(late, b"now") == [(b"now", web.domid)]


@pytest.mark.unless(strict="rules")
def test_a_name_that_moves_takes_its_subscribers_along(nodes, host, zero):
    host.sim("rename", 2, "web")
    one, two, three = nodes(1, 2, 3).values()
    publishers = [topic(node) for node in (two, three)]
    conn = subscriber(one, "web:news")
    publish(publishers[0], b"before")
    assert receive(conn).data == b"before"
    host.sim("rename", 2, "other")
    host.sim("rename", 3, "web")
    assert until(conn, WAITING).unknown
    hears(conn, publishers[1], 3)
    publish(publishers[0], b"not of web")
    publish(publishers[1], b"of web")
    assert receive(conn).data == b"of web"


def test_a_number_means_its_domain_until_there_is_another_one(nodes, host):
    one, two = nodes(1, 2).values()
    publisher = topic(two)
    conn = subscriber(one, "2:news")
    two.save_and_restore()
    publish(publisher, b"restored")
    assert [(b"restored", two.domid)] == take_for(conn, b"restored")
    host.sim("create", "--domid", 2, "--name", "second")
    second = nodes(2)[2]
    other = topic(second)
    hears(conn, other, 2)
    late = subscriber(one, "2:news")
    publish(publisher, b"of before")
    publish(other, b"hello")
    assert receive(conn).data == receive(late).data == b"hello"


def test_ended_is_the_end_though_the_daemon_comes_again(one):
    with Connection(one.socket, binds="plain"), Connection(one.socket, reconnect=True) as conn:
        assert conn.subscribe("1:later") == 0
        expect(conn, WAITING)
        plain = Connection(one.socket, binds="later")
        expect(conn, ENDED)
        plain.close()
        one.kill()
        one.start()
        publisher = topic(one, "later")
        eventually(lambda: conn.subscribe("1:other") == 0, "it has come back", 60)
        publish(publisher, b"unheard", name="later")
        assert receive(conn).endpoint == "1:other"
        assert not [each for each in one.status()["subscriptions"] if each["address"] == "1:later"]


def test_an_open_channel_names_its_sender_s_number_of_now(nodes):
    pair = nodes(1, 2)
    conns = {node: Connection(node.socket, binds="inbox") for node in pair.values()}
    one, two = pair.values()
    for _ in range(2):
        for sender in one, two:
            outcomes = []
            assert conns[sender].post("2:inbox", b"hello", outcomes.append) == 0
            assert receive(conns[two]).domid == sender.domid
            eventually(lambda: conns[two].wait(0) >= 0 and conns[sender].wait(0) >= 0 and outcomes == [0], "it is told")  # pylint: disable=cell-var-from-loop
        one.save_and_restore()
        two.sees(one)


@pytest.mark.unless(relayed="direct")
def test_an_answer_names_its_server_s_number_of_now(nodes):
    one, two = nodes(1, 2).values()
    with Connection(one.socket) as caller, Connection(two.socket, binds="echo") as server:
        def answers():
            answering = echo(server, 1)
            assert caller.call("2:echo", b"x") == b"x"
            answering.join()
            return caller.answerer == two.domid

        assert answers()
        for _ in range(2):
            two.save_and_restore()
            eventually(answers, "it is told")


def who_says_hello(sender, receiver, address="2:inbox"):
    """The number and the name of the domain that a message names, which goes over the channel that there is."""
    got = []
    assert sender.post(address, b"hello", lambda _: None) == 0
    eventually(lambda: sender.wait(0) >= 0 and isinstance(got.append(receiver.receive(10)) or got[-1], Message), "it comes")
    return got[-1].domid, got[-1].domain


def test_an_open_channel_names_its_sender_s_name_of_now(zero, one, two, host):
    """In a message that is used again, too."""
    knows(two, {1: "dom1"})
    sender, receiver = Connection(one.socket), Connection(two.socket, binds="inbox")

    assert who_says_hello(sender, receiver) == (1, "dom1")
    for name in "work", "play":
        host.sim("rename", 1, name)
        eventually(lambda: who_says_hello(sender, receiver) == (1, name), f"its messages come from {name}")  # pylint: disable=cell-var-from-loop


def test_a_stream_names_its_opener_as_of_when_it_is_accepted(zero, nodes, host):
    one, two = nodes(1, 2).values()
    sender, listener = Connection(one.socket), Connection(two.socket, binds="inbox")
    assert listener.listen("in") == 0
    caller = one.popen("connect", "2:in")
    eventually(lambda: any(each.get("endpoint") == "in" for each in two.status()["streams"]), "it waits")
    assert who_says_hello(sender, listener)[0] == 1  # and the library has INCOMING
    one.save_and_restore()
    host.sim("rename", one.domid, "work")
    eventually(lambda: who_says_hello(sender, listener) == (one.domid, "work"), "it is known anew")
    fd, _, domid, _ = listener.accept_peer()
    assert (domid, listener.opener_domain) == (one.domid, "work")
    os.close(fd)
    caller.wait(timeout=20 * PATIENCE)
