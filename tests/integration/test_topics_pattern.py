# SPDX-License-Identifier: LGPL-2.1-or-later
"""All domains' topics of one name: they come and go, and so do the subscriptions to them."""

import errno
import json
import signal
import subprocess

import pytest

from library import ENDED, NOT_SUBSCRIBED, PATTERN, RETAIN, SUBSCRIBED, WAITING, Connection
from messaging import PATIENCE, eventually
from python_module import LONG, run, xenmsg
from test_topics import publish, receive, topic

MOST = 256  # subscriptions of a program


def all_of(node, pattern="*:news", queue=0):
    conn = Connection(node.socket)
    assert conn.subscribe(pattern, queue, PATTERN) == 0
    return conn


def told(conn):
    """The next thing that comes: from where, and what."""
    message = receive(conn)
    return message.endpoint, message.notice.kind if message.notice else message.data


def collect(conn, count):
    """So many things, by where they come from."""
    found = {}
    for _ in range(count):
        address, what = told(conn)
        found.setdefault(address, []).append(what)
    return found


def subscriptions(node):
    return {entry["address"] for entry in node.status()["subscriptions"]}


def test_all_domains_topics_of_a_name_come(nodes, memory):
    some = nodes(1, 2, 3)
    some[1].sees(some[2], some[3])
    publishers = {domid: topic(node, flags=RETAIN) for domid, node in some.items() if domid != 3}
    for domid, conn in publishers.items():
        publish(conn, b"from %d" % domid)
    conn = all_of(some[1])
    kept = 5
    assert collect(conn, 6) == {f"{domid}:news": [SUBSCRIBED, kept, b"from %d" % domid] for domid in (1, 2)}
    late = topic(some[3])
    assert told(conn) == ("3:news", SUBSCRIBED)
    publish(late, b"here, too")
    assert told(conn) == ("3:news", b"here, too")
    other = topic(some[3], "other")
    publish(other, b"not this", name="other")
    publish(publishers[2], b"more")
    assert told(conn) == ("2:news", b"more")


def test_who_has_gone_is_unsubscribed_from_behind_its_last(one, two):
    conn = all_of(one)
    for number in range(3):
        publisher = topic(two)
        assert told(conn) == ("2:news", SUBSCRIBED)
        publish(publisher, b"%d" % number, b"last")
        publisher.close()
        eventually(lambda: "news" not in two.endpoints(), "it has gone")
        assert [told(conn) for _ in range(3)] == [("2:news", b"%d" % number), ("2:news", b"last"), ("2:news", WAITING)]
        eventually(lambda: conn.wait(0) >= 0 and not subscriptions(one), "nobody waits for it")


def test_a_domain_that_comes_again_is_subscribed_to(one, two):
    conn = all_of(one)
    for how in two.stop, two.kill:
        topic(two)
        assert told(conn) == ("2:news", SUBSCRIBED)
        how()
        assert told(conn) == ("2:news", WAITING)
        two.start()
        one.sees(two)
    publisher = topic(two)
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(publisher, b"again")
    assert told(conn) == ("2:news", b"again")


def test_a_pattern_ends_as_a_whole(one):
    publisher = topic(one)
    conn = all_of(one)
    assert told(conn) == ("1:news", SUBSCRIBED)
    assert conn.subscribe("*:news", 0, PATTERN) == -errno.EEXIST
    assert conn.subscribe("*:*", 0, PATTERN) == conn.subscribe("news", 0, PATTERN) == -errno.EINVAL
    assert conn.unsubscribe("*:other") == -errno.ENOENT
    assert conn.unsubscribe("*:news") == 0
    eventually(lambda: not subscriptions(one), "nobody subscribes")
    assert conn.unsubscribe("*:news") == -errno.ENOENT
    publish(publisher, b"unheard")
    assert conn.subscribe("1:news") == 0
    assert told(conn) == ("1:news", SUBSCRIBED)
    over = []
    conn.on_change(lambda change: over.append((change.kind, change.error, change.endpoint)))
    assert conn.subscribe("*:news", 0, PATTERN) == conn.subscribe("[1-3]:news", 0, PATTERN) == 0
    eventually(lambda: conn.wait(0) >= 0 and over == 2 * [(NOT_SUBSCRIBED, -errno.EEXIST, b"1:news")], "each is told")
    publish(publisher, b"once")
    assert told(conn) == ("1:news", b"once")
    assert conn.unsubscribe("1:news") == 0
    assert told(conn) == ("1:news", SUBSCRIBED), "a pattern has it now"
    assert conn.subscribe("1:news") == -errno.EEXIST
    assert conn.unsubscribe("*:news") == 0
    assert told(conn) == ("1:news", SUBSCRIBED), "and now the other one"
    publish(publisher, b"again")
    assert told(conn) == ("1:news", b"again")


def test_a_pattern_leaves_a_renamed_domain_and_takes_it_back(nodes, host, zero):
    host.sim("rename", 2, "web-1")
    one, two = nodes(1, 2).values()
    publisher = topic(two)
    conn = all_of(one, "web-*:news")
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(publisher, b"of web")
    host.sim("rename", 2, "db-1")
    assert [told(conn) for _ in range(2)] == [("2:news", b"of web"), ("2:news", WAITING)]
    eventually(lambda: conn.wait(0) >= 0 and not subscriptions(one), "nobody subscribes")
    publish(publisher, b"of db")
    host.sim("rename", 2, "web-2")
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(publisher, b"of web again")
    assert told(conn) == ("2:news", b"of web again")


def test_who_is_denied_and_allowed_again_is_taken_back(one, two):
    """Though it is seen all the time."""
    publisher = topic(two)
    conn = all_of(one)
    assert told(conn) == ("2:news", SUBSCRIBED)
    two.set_policy("[rule]\nfrom = *, */*\nuid = 12345\nto = *\naction = allow\n")
    assert told(conn) == ("2:news", ENDED)
    two.set_policy("[rule]\nfrom = *, */*\nto = *\naction = allow\n")
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(publisher, b"allowed again")
    assert told(conn) == ("2:news", b"allowed again")


def lines_of(command):
    return iter(lambda: json.loads(command.stdout.readline()), None)


def test_what_is_no_topic_or_is_full_is_passed_over(nodes):
    """A line says so, once, and the others go on."""
    some = nodes(1, 2, 3)
    here = some[1]
    here.sees(some[2], some[3])
    plain = Connection(some[2].socket, binds="news")
    command = here.popen("subscribe", "--json", "*:news", stderr=subprocess.PIPE)
    line = command.stderr.readline().decode()
    assert "subscribe to 2:news: " in line and "topic" in line
    publisher = topic(some[3])
    rows = lines_of(command)
    row = next(rows)
    assert (row["address"], row["notice"]) == ("3:news", "subscribed")
    publish(publisher, b"hello")
    row = next(rows)
    assert (row["address"], row["text"], row["sender"]["domid"]) == ("3:news", "hello", 3)
    plain.close()
    eventually(lambda: 2 not in {each["domid"] for each in here.json("endpoints")}, "domain 1 knows that it has gone")
    second = topic(some[2])
    assert (row := next(rows))["address"] == "2:news" and row["notice"] == "subscribed"
    publish(second, b"now it is one")
    assert next(rows)["text"] == "now it is one"
    command.send_signal(signal.SIGTERM)
    assert command.communicate(timeout=20 * PATIENCE)[1] == b""


def test_who_is_denied_by_a_reload_ends_alone(nodes):
    some = nodes(1, 2)
    here, there = some.values()
    here.sees(there)
    publishers = [topic(node) for node in some.values()]
    conn = all_of(here)
    assert collect(conn, 2) == {"1:news": [SUBSCRIBED], "2:news": [SUBSCRIBED]}
    there.set_policy("[rule]\nfrom = *\nto = *\naction = deny\n")
    assert told(conn) == ("2:news", ENDED)
    eventually(lambda: 2 not in {each["domid"] for each in here.json("endpoints")}, "domain 1 knows that it is denied")
    publish(publishers[0], b"goes on")
    assert told(conn) == ("1:news", b"goes on")
    there.set_policy("[rule]\nfrom = *\nto = *\naction = allow\n")
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(publishers[1], b"allowed again")
    assert told(conn) == ("2:news", b"allowed again")


@pytest.mark.unless(renewed="time")
def test_a_pattern_stays_with_the_next_daemon(nodes):
    """Also what went while there was none is noticed."""
    some = nodes(1, 2, 3)
    here = some[1]
    here.sees(some[2], some[3])
    publishers = [topic(some[domid]) for domid in (2, 3)]
    command = here.popen("subscribe", "--json", "*:news")
    rows = lines_of(command)
    assert {(row["address"], row["notice"]) for row in (next(rows) for _ in range(2))} == {
        ("2:news", "subscribed"), ("3:news", "subscribed")}
    here.stop()
    publishers[0].close()
    eventually(lambda: "news" not in some[2].endpoints(), "it has gone")
    here.start()
    here.sees(some[2], some[3])
    eventually(lambda: subscriptions(here) == {"3:news"}, "it subscribes to the one that is there", 60 * PATIENCE)
    while (row := next(rows)).get("notice") != "subscribed":
        assert "notice" in row
    publish(publishers[1], b"hello")
    while (row := next(rows)).get("text") != "hello":
        assert "notice" in row
    assert row["address"] == "3:news"


@pytest.mark.unless(small="limits")
def test_more_topics_than_there_is_room_for_are_told(one, two):
    """The rest goes on, and one that had no room gets that of the next that goes."""
    first = topic(one)
    conn = Connection(one.socket)
    over = []
    conn.on_change(lambda change: over.append((change.kind, change.error, change.endpoint)))
    for number in range(MOST - 1):
        assert conn.subscribe(f"1:absent-{number}") == 0
    assert conn.subscribe("*:news", 0, PATTERN) == 0
    for _ in range(MOST - 1):
        assert told(conn)[1] == WAITING
    assert told(conn) == ("1:news", SUBSCRIBED)
    second = topic(two)
    eventually(lambda: conn.wait(0) >= 0 and over == [(NOT_SUBSCRIBED, -errno.ENOBUFS, b"2:news")], "it is told")
    publish(first, b"goes on")
    assert told(conn) == ("1:news", b"goes on")
    first.close()
    assert told(conn) == ("1:news", WAITING)
    assert told(conn) == ("2:news", SUBSCRIBED)
    publish(second, b"hello")
    assert told(conn) == ("2:news", b"hello")
    assert len(over) == 1


def test_python_hears_all_domains(one, two):
    plain = Connection(one.socket, binds="news")
    publisher = topic(two)

    def is_all(items):
        assert {(item.endpoint, item.kind.name, item.errno) for item in items} == {
            ("1:news", "ENDED", errno.EPROTOTYPE), ("2:news", "SUBSCRIBED", 0)}

    with xenmsg.blocking.open(one.socket) as conn, conn.subscribe("*:news", pattern=True) as all_news:
        is_all([all_news.next(LONG) for _ in range(2)])
        publish(publisher, b"hello")
        assert bytes(all_news.next(LONG).data) == b"hello"

    async def listen():
        async with xenmsg.open(one.socket) as conn, conn.subscribe("*:news", pattern=True) as all_news:
            is_all([await all_news.next(LONG) for _ in range(2)])
            publish(publisher, b"hello")
            assert bytes((await all_news.next(LONG)).data) == b"hello"
    run(listen())
