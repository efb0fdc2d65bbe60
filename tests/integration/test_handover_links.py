# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over while programs of this domain talk to those of others: its links are away for a moment, and resumed."""

import pytest

from library import Connection
from messaging import EXIT_UNREACHABLE, LOST_SOON, eventually, resident, stopped, works
from renewing import all_are_delivered, ended, held_by, hold_no_more_than, post, posted, process_until, renew
from test_resume import at_work, messages, numbered, traffic
from test_shared import SHARED, received


def renew_each(nodes, goes_on):
    """All goes on after each."""
    for node in nodes:
        renew(node)
        goes_on()


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_traffic_both_ways_goes_on_over_hand_overs(one, two, memory, times):
    with traffic(one, two) as goes_on:
        renew_each(times * (one, two), goes_on)


def test_who_is_there_is_known_after_a_hand_over(nodes):
    """By a guest where no daemon runs in domain 0, of one whose daemon stands still."""
    one, two = nodes(1, 2).values()
    receiver = two.receiver("inbox")
    eventually(lambda: b"inbox" in one.xenmsg("endpoints", "2").stdout, "it is listed")
    with stopped(two.pid):
        for _ in range(2):
            renew(one)
            assert b"inbox" in one.xenmsg("endpoints", "2").stdout
    receiver.stop()


@pytest.mark.unless(relayed="zero", renewed="time")
def test_who_was_seen_to_die_is_not_believed_after_it(zero, one):
    """What it has left stands there, as nobody takes it away."""
    eventually(lambda: one.link_state(0) == "up", "there is a link")
    zero.kill()
    eventually(lambda: one.link_state(0) != "up", "it is seen to die")
    for _ in range(2):
        assert "no xenmsgd runs in it" in one.send("0:inbox", "x", exit_code=EXIT_UNREACHABLE)
        renew(one)
    assert 0 not in dict(one.peers_by_number())
    zero.start()
    works(zero, one)


def test_a_hand_over_waits_for_greetings_under_way(one, two):
    """A peer that has heard this daemon's has a session, before this one has heard the peer's."""
    for _ in range(8):
        with messages(one, two) as goes_on:
            renew_each((one,), goes_on)
        two.stop()
        two.start()


@pytest.mark.unless(relayed="direct")
def test_a_link_that_is_away_is_resumed_after_several(nodes):
    """The peer's daemon stands still, so that none of these hand-overs finds it."""
    one, two = nodes(1, 2, config=LOST_SOON).values()
    receiver = two.receiver("inbox")
    with Connection(one.socket) as sender:
        assert sender.send("2:inbox", b"before") == 0
        with stopped(two.pid):
            outcomes = posted(sender, "2:inbox", 5)
            for _ in range(3):
                renew(one)
            assert one.link(2)["state"] == "away"
        all_are_delivered(outcomes, 5, sender)
    assert ended(receiver.process).splitlines() == ["before", "0", "1", "2", "3", "4"]


@pytest.mark.parametrize("was_up", [False, True])
def test_what_waits_for_a_link_waits_on(one, two, was_up):
    """The peer's daemon stands still before it could greet this one. What a session before has counted is over."""
    with Connection(one.socket) as sender:
        if was_up:
            with two.receiver("inbox", "--count", "1").process:
                assert sender.send("2:inbox", b"before") == 0
            two.stop()
            two.start()
        receiver = two.receiver("inbox")
        one.sees(two)
        with stopped(two.pid):
            outcomes = posted(sender, "2:inbox", 5)
            eventually(lambda: one.link(2), "it wants a link")
            renew(one)
            assert outcomes == []
        all_are_delivered(outcomes, 5, sender)
    assert ended(receiver.process).split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("first, times", [(2, 5), pytest.param(20, 500, marks=pytest.mark.slow)])
def test_nothing_is_left_behind_by_hand_overs(one, two, memory, first, times):
    """Of traffic within a domain, and over a link, which is resumed each time."""
    with Connection(one.socket) as sender, Connection(one.socket, binds="inbox") as near, Connection(two.socket, binds="inbox") as far:
        def hand_over(number):
            for node in (one, two):
                outcomes = []
                for address in ("self:inbox", "2:inbox"):
                    post(address, b"%d" % number, outcomes, sender)
                renew(node)
                for receiver in (near, far):
                    process_until(lambda receiver=receiver: getattr(receiver.receive(50), "data", None) == b"%d" % number, "it comes", sender)
                all_are_delivered(outcomes, 2, sender, near, far)
        for number in range(first):
            hand_over(number)
        eventually(lambda: all(link["state"] == "up" for link in one.status()["links"]), "what a link holds is counted")
        before, memory_before = held_by(one, two), resident(one.pid)
        for number in range(first, first + times):
            hand_over(number)
        hold_no_more_than(before, one, two)
        assert resident(one.pid) < 1.5 * memory_before


def test_a_session_is_sought_by_the_next_daemon_too(one, two):
    """This domain was restored, and the other end can't be reached yet, when the daemon hands over."""
    with at_work(*numbered(one, two, "numbers")) as goes_on:
        with stopped(two.pid):
            one.save_and_restore()
            renew(one)
        goes_on()


@pytest.mark.unless(relayed="direct")
def test_what_one_hasnt_taken_goes_on_though_its_sender_is_away(nodes, memory):
    """The sender's daemon stands still, so that the link stays away after the hand-over."""
    one, two = nodes(1, 2, config=LOST_SOON).values()
    with Connection(one.socket) as sender, Connection(two.socket) as heir:
        leaver = Connection(two.socket)
        assert leaver.bind("work", SHARED) == 0
        outcomes = posted(sender, "2:work", 5)
        assert received(leaver, 1) == [b"0"]
        assert heir.bind("work", SHARED) == 0
        with stopped(one.pid):
            renew(two)
            assert two.link_state(1) == "away"
            leaver.close()
            assert received(heir, 4) == [b"%d" % number for number in range(1, 5)]
        all_are_delivered(outcomes, 5, sender, heir)


@pytest.mark.unless(relayed="direct", strict="zero")
def test_why_a_link_cannot_be_made_is_handed_over(nodes):
    """Whoever was refused asks for the reason a moment later, perhaps of the next daemon."""
    one, _ = nodes(1, 2, config="[links]\nmap = no\n").values()
    assert one.xenmsg("send", "2:inbox", "x").returncode == EXIT_UNREACHABLE

    def reasons():
        status = one.status()
        return [about["last_error"] for about in status["links"] + status["failures"] if "may map" in (about["last_error"] or "")]
    before = reasons()
    assert before
    for _ in range(2):
        renew(one)
        assert reasons() == before
