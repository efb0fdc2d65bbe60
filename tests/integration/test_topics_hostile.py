# SPDX-License-Identifier: LGPL-2.1-or-later
"""Topics under attack: one that subscribes and ends without a pause, never reads, or publishes without an end, takes nobody's turns.

The scene is that of test_time.py. Nothing is asserted in seconds: what is counted is the work that others had before a bystander's turn,
in units, that the calls of others go on, and that the attack does what it is for.
"""

import errno
import json
import os

import pytest

from library import ENDED, MISSED, SUBSCRIBED, TOPIC, WAITING, Connection
from messaging import eventually
from test_protocol_link import met_peer  # the fixture `met`  # noqa: F401  pylint: disable=unused-import
from test_status import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from test_time import ATTACKER, GIVE_UP, program, stages  # the fixture `stage`  # noqa: F401  pylint: disable=unused-import
from test_topics import Heard, account, expect, publish, publish_many, receive, subscriber, topic, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
LIMITS = pytest.mark.unless(small="limits")


def attack_with(scene, name, sessions, address, node=None, uid=ATTACKER):
    attack = scene.hostile(*program(uid, node or scene.one, name, sessions, address))
    assert attack.first.startswith("ok "), attack.first
    return attack


def others_go_on(scene, *attacks):
    """While each of the attacks does so many things."""
    scene.calls_go_on("attacked", lambda: all(attack.count() >= goal for attack, goal in attacks))
    scene.turns_were_kept()
    for attack, _ in attacks:
        attack.end()
    scene.calls_go_on("afterwards", lambda: True)
    scene.turns_were_kept()


@pytest.mark.parametrize("name, sessions", [("subscribe-storm", 60), pytest.param("subscribe-storm", 250, marks=[pytest.mark.slow, LIMITS]),
                                            ("subscribe-bounds", 60)])
def test_a_storm_of_subscriptions_takes_nobodys_turns(stage, name, sessions):
    """Also with bounds of any number: none, the smallest, the largest, and bits that nobody knows."""
    scene, = stage()
    heard = Heard(scene.one)
    publisher = heard.conn
    conn = subscriber(scene.nodes[1])
    attack = attack_with(scene, name, sessions, "1:news")
    publish_many(publisher, 500, 100)
    assert account(conn, 500) == 0
    others_go_on(scene, (attack, 30000))
    publish_many(publisher, 100, 100)
    assert account(conn, 100) == 0
    heard.until(1)
    assert len(heard.counts) < 10000, "who comes and goes between is not told"


def test_who_says_how_many_it_is_takes_nobodys_turns(stage):
    """A program may subscribe as daemons do. What it says then is bounded, and takes its own turns."""
    scene, = stage()
    heard = Heard(scene.one)
    attack = attack_with(scene, "subscribe-counts", 60, "1:news")
    others_go_on(scene, (attack, 30000))
    heard.until(0)
    assert 0 < len(heard.counts) < 10000


@LIMITS
@pytest.mark.parametrize("where", ["within", "between"])
def test_a_thousand_bounds_of_one_keep_nobody(stage, where):
    """Of programs that never read, beside a publisher that goes on."""
    scene, = stage()
    there = scene.nodes[where == "between"]
    publisher = Connection(scene.one.socket)
    for number in range(20):
        assert publisher.bind(f"news-{number}", TOPIC) == 0
    attack = attack_with(scene, "subscribe-ones", 60, "1:news", there)
    eventually(lambda: attack.count() >= 60 * 20, "they have subscribed", GIVE_UP)
    some = [subscriber(there, f"1:news-{number}") for number in (0, 1)]
    for number in range(200):
        for name in range(20):
            publish(publisher, b"%d" % number, name=f"news-{name}")
    for conn in some:
        assert account(conn, 200) == 0
    others_go_on(scene, (attack, 60 * 20))


@LIMITS
@pytest.mark.parametrize("sessions", [60, pytest.param(250, marks=pytest.mark.slow)])
def test_topics_by_the_thousand_take_nobodys_turns(stage, sessions):
    scene, = stage()
    waiting = attack_with(scene, "subscribe-absent", 30, "1:n")
    binding = attack_with(scene, "topics", sessions, "n")
    # Who watches sees them come and go.
    others_go_on(scene, (waiting, 10000), (binding, 10000))


@LIMITS
@pytest.mark.parametrize("where", ["within", "between"])
def test_subscribers_that_never_read_keep_nobody(stage, where):
    scene, = stage()
    there = scene.nodes[where == "between"]
    publisher = topic(scene.one)
    deaf = [attack_with(scene, name, 60, "1:news", there) for name in ("subscribe-unread", "subscribe-unread-plain")]
    conn = subscriber(there)
    for attack in deaf:
        eventually(lambda attack=attack: attack.count() >= 60, "they have subscribed", GIVE_UP)
    for first in range(0, 2000, 100):
        publish_many(publisher, 100, 8000, first)
    account(conn, 2000)
    others_go_on(scene, *((attack, 60) for attack in deaf))
    publish_many(publisher, 100, 100)
    assert account(conn, 100) == 0, "those that never read keep nothing from who does"


@pytest.mark.parametrize("sessions", [1, 60])
def test_who_publishes_without_an_end_keeps_nobody(stage, sessions):
    scene, = stage()
    attack = attack_with(scene, "publish", sessions, "flood")
    eventually(lambda: "flood" in scene.one.endpoints(), "it is bound")
    some = [subscriber(node, "1:flood") for node in scene.nodes]
    others_to_come = [Connection(node.socket) for node in scene.nodes]
    for conn in some:  # gets what there is, and is told of the rest
        messages = [receive(conn) for _ in range(2000)]
        assert {message.notice.kind for message in messages if message.notice} <= {MISSED}
        # A gap may be told by two notices, one of each log.
        assert sum(not message.notice for message in messages) > 100, "there are messages between the gaps"
    for conn in others_to_come:
        assert conn.subscribe("1:flood") == 0
        until(conn, SUBSCRIBED)
    others_go_on(scene, (attack, 200000))


def test_who_works_for_another_one_has_no_more_turns(stage):
    """What a user's subscribers cost another one's topic is theirs, and goes on no longer for that."""
    scene, = stage()
    publishing = attack_with(scene, "publish", 1, "flood")
    eventually(lambda: "flood" in scene.one.endpoints(), "it is bound")
    others_go_on(scene, (publishing, 50000), *((attack_with(scene, "subscribe-storm", 20, "1:flood", uid=uid), 3000)
                                               for uid in (ATTACKER + 10, ATTACKER + 11)))


@LIMITS
def test_a_refusal_reaches_all_in_turns(one):
    """Who is denied by a reload is told, however many there are."""
    publisher = topic(one)
    some = [subscriber(one) for _ in range(100)]
    one.set_policy("[rule]\nfrom = *\nto = *\naction = deny\n")
    with Connection(one.socket) as other:
        assert other.bind("other", TOPIC) == 0
    for conn in some:
        until(conn, 4)
    publisher.close()


# ---- a daemon that lies ----

MOST, MOST_LISTENERS = 1 << 62, (1 << 32) - 1


@pytest.mark.parametrize("met", ["grant"], indirect=True)
def test_a_peer_that_lies_of_its_listeners_harms_only_itself(met):
    node, _, peer = met
    heard, other = Heard(node), Heard(node, "other")
    own = subscriber(node)
    heard.until(1)
    assert peer.ask(f"listen news {MOST_LISTENERS}") == "ok taken"
    heard.until(1 + MOST_LISTENERS)
    assert peer.ask(f"listen news 0 {MOST_LISTENERS} 7 {MOST_LISTENERS}") == "ok taken"
    heard.until(1 + 2 * MOST_LISTENERS)
    assert peer.ask("listen news 5 x") == f"ok reset {errno.EPROTO}"
    assert peer.ask("listen news x") == f"ok reset {errno.EPROTOTYPE}"
    heard.until(1 + 2 * MOST_LISTENERS)
    publish(heard.conn, b"to all")
    assert receive(own).data == b"to all"
    assert peer.ask("close") == "ok closed"
    heard.until(1)
    assert other.counts == []


@pytest.mark.parametrize("met", ["grant"], indirect=True)
def test_a_peer_that_lies_of_what_was_missed_harms_only_itself(met, valid):
    node, domid, peer = met
    publisher, own = topic(node), subscriber(node)
    assert peer.ask(f"topic 1,0,{MOST}") == "ok 1"
    conn = subscriber(node, f"{domid}:lies")
    command = node.popen("subscribe", "--json", f"{domid}:lies")
    assert json.loads(command.stdout.readline())["count"] == MOST
    half = MOST // 2
    assert peer.ask(f"tell 2,0,{half} =one 2,0,{half - 2} 2,1,1 =two") == "ok 5"
    for count, unknown, text in (half, 0, b"one"), (half - 2, 0, None), (1, 1, b"two"):
        expect(conn, MISSED, count=count, unknown=unknown)
        assert text is None or receive(conn).data == text
        told = json.loads(command.stdout.readline())
        assert (told["notice"], told["count"], told["unknown"]) == ("missed", count, bool(unknown))
        assert text is None or json.loads(command.stdout.readline())["text"] == text.decode()
    valid(node.status())
    publish_many(publisher, 200, 100)
    assert account(own, 200) == 0
    late = subscriber(node, f"{domid}:lies")  # of the same replica, behind all that
    assert conn.wait(0) == late.wait(0) == 0
    assert peer.ask("close") == "ok closed"
    for each in conn, late:
        expect(each, WAITING)


@pytest.mark.parametrize("met", ["grant"], indirect=True)
def test_a_peer_that_says_what_no_topic_says_is_heard_no_more(met):
    node, domid, peer = met
    publisher, own = topic(node), subscriber(node)
    for words in "=early", "1,0,0=payload", "9,0,0", "request=", f"1,0,{MOST + 1}":
        with Connection(node.socket) as conn:
            assert peer.ask(f"topic {words}") == "ok 1"
            assert conn.subscribe(f"{domid}:lies") == -errno.EPROTO, words
    assert peer.ask("topic 1,0,0") == "ok 1"
    for words in "1,0,0", "4,0,0", "request=", "2,0,1=payload", f"2,0,{MOST + 1}", f"2,0,{(1 << 64) - 500}":
        with subscriber(node, f"{domid}:lies") as conn:
            assert peer.ask(f"tell {words}") == "ok 1"
            expect(conn, ENDED, error=-errno.EPROTO)
    conn = subscriber(node, f"{domid}:lies")
    assert peer.ask("tell =honest") == "ok 1"
    assert receive(conn).data == b"honest"
    publish(publisher, b"own")
    assert receive(own).data == b"own"
    assert peer.ask("close") == "ok closed"
