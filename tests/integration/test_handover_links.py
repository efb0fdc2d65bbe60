# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over while programs of this domain talk to those of others: its links are away for a moment, and resumed."""

import contextlib
import errno
import json

import pytest

from library import Connection
from messaging import LOST_SOON, eventually, stopped
from renewing import (all_are_delivered, call_under_hand_overs, content, ended, held_by, hold_no_more_than, posted, renew, renew_while,
                      send_under_hand_overs)

UNDER_WAY = 32  # messages of each direction


class Traffic:
    """Messages from one domain to an endpoint in another: each has an outcome, and each is compared when it comes."""
    def __init__(self, sender, receiver, endpoint="inbox", host=""):
        self.address = f"{host}{receiver.domid}:{endpoint}"
        self.sender, self.receiver = Connection(sender.socket), Connection(receiver.socket)
        assert self.receiver.handle(endpoint, self.take) == 0
        self.posted, self.outcomes, self.got, self.wrong = 0, [], 0, None

    def take(self, data):
        if data != content(self.got):
            self.wrong = self.wrong or (self.got, data[:20])
        self.got += 1

    def go_on(self):
        while self.posted - len(self.outcomes) < UNDER_WAY:
            result = self.sender.post(self.address, content(self.posted), self.outcomes.append)
            assert result in (0, -errno.EAGAIN), result
            if result:
                break
            self.posted += 1
        self.wait()

    def wait(self):
        assert self.sender.wait(0) >= 0 and self.receiver.wait(0) >= 0
        assert not self.wrong and not any(self.outcomes), (self.wrong, [outcome for outcome in self.outcomes if outcome])

    def finish(self):
        def all_ended():
            self.wait()
            return len(self.outcomes) == self.posted
        eventually(all_ended, "each message has an outcome", timeout=60)
        assert self.outcomes == [0] * self.posted
        assert self.got == self.posted
        self.sender.close()
        self.receiver.close()


def go_on_until_all_have_got(flows):
    def have_got():
        for flow in flows:
            flow.go_on()
        return all(flow.got for flow in flows)
    eventually(have_got, "all links are up", timeout=60)


def renew_under(node, *flows):
    """Lets all flows go on while the node hands over, and until each has got something since."""
    def go_on():
        for flow in flows:
            flow.go_on()
    renew_while(node, go_on, lambda: [flow.got for flow in flows])


@contextlib.contextmanager
def traffic(one, other, host_of_one="", host_of_other=""):
    """Both ways; at the end all has arrived."""
    flows = Traffic(one, other, host=host_of_other), Traffic(other, one, host=host_of_one)
    yield flows
    for flow in flows:
        flow.finish()


def test_a_message_under_way_to_another_domain_comes_once(one, two, memory):
    send_under_hand_overs(one, two, "2:inbox", (one, two))


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_traffic_both_ways_goes_on_over_hand_overs(one, two, memory, times):
    with traffic(one, two) as flows:
        for _ in range(times):
            renew_under(one, *flows)
            renew_under(two, *flows)


def test_what_waits_for_a_link_that_was_up_before_waits_on(one, two):
    """What the session before has counted is over."""
    with Connection(one.socket) as sender:
        with two.receiver("inbox", "--count", "1").process:
            assert sender.send("2:inbox", b"before") == 0
        two.stop()
        two.start()
        receiver = two.receiver("inbox")
        one.sees(two)
        with stopped(two.pid):
            outcomes = posted(sender, "2:inbox", 5)
            renew(one)
            assert outcomes == []
        all_are_delivered(outcomes, 5, sender)
    assert ended(receiver.process).split() == ["0", "1", "2", "3", "4"]


def test_a_hand_over_waits_for_greetings_under_way(one, two):
    """A peer that has heard this daemon's has a session, before this one has heard the peer's."""
    for _ in range(8):
        with traffic(one, two) as flows:
            renew_under(one, *flows)
        two.stop()
        two.start()


def test_calls_to_another_domain_in_service_are_answered(one, two, memory):
    call_under_hand_overs(one, two, "2:upper", (one, two))


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


def test_what_waits_for_a_link_waits_on(one, two):
    """There is none yet: the peer's daemon stands still before it could greet this one."""
    receiver = two.receiver("inbox")
    with Connection(one.socket) as sender:
        with stopped(two.pid):
            outcomes = posted(sender, "2:inbox", 5)
            eventually(lambda: one.link(2), "it wants a link")
            renew(one)
            assert outcomes == []
        all_are_delivered(outcomes, 5, sender)
    assert ended(receiver.process).splitlines() == ["0", "1", "2", "3", "4"]


def test_domain_0_hands_over_while_it_relays(guests, zero):
    """Neither guest may map, so all that they say to each other goes through the daemon that is replaced."""
    one, two = guests(2)
    with traffic(one, two) as flows:
        for node in (zero, one, zero, two):
            renew_under(node, *flows)


def test_many_links_are_resumed_at_once(nodes):
    hub, *others = nodes(1, 0, 2, 3).values()
    flows = [flow for other in others for flow in (Traffic(hub, other, f"from-{other.domid}"), Traffic(other, hub, f"to-{other.domid}"))]
    go_on_until_all_have_got(flows)
    for _ in range(3):
        renew_under(hub, *flows)
    for flow in flows:
        flow.finish()
    eventually(lambda: all(link["state"] == "up" and link["resumes"] for link in hub.status()["links"]), "all are up")


def test_others_see_no_daemon_that_goes(one, two, tmp_path):
    receiver = two.receiver("inbox")
    one.send("2:inbox", "x")
    path = tmp_path / "watched"
    with open(path, "wb") as file:
        watch = one.popen("watch", "--json", "2", stdout=file)
    told = lambda: [(event["kind"], event["event"]) for event in map(json.loads, path.read_text().splitlines())]  # noqa: E731
    eventually(lambda: ("domain", "up") in told(), "it is told")
    instance = two.instance()
    for _ in range(3):
        renew(two)
        one.send("2:inbox", "x")
    assert two.instance() == instance
    assert ("domain", "down") not in told() and "its daemon is gone" not in one.log.read_text()
    assert ended(receiver.process) == "x\n" * 4
    ended(watch)


@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_nothing_is_left_behind_by_hand_overs(one, two, memory, times):
    with Connection(two.socket) as receiver, Connection(one.socket) as sender:
        assert receiver.bind("inbox") == 0

        def hand_over():
            for node in (one, two):
                renew(node)
                outcomes = posted(sender, "2:inbox", 1)
                assert receiver.receive().data == b"0"
                all_are_delivered(outcomes, 1, sender, receiver)
        for _ in range(2):
            hand_over()
        before = held_by(one, two)
        for _ in range(times):
            hand_over()
        hold_no_more_than(before, one, two)


def test_a_session_is_sought_by_the_next_daemon_too(one, two):
    """This domain was restored, and the other end can't be reached yet, when the daemon hands over."""
    flow = Traffic(one, two)
    go_on_until_all_have_got([flow])
    with stopped(two.pid):
        flow.go_on()
        one.save_and_restore()
        renew(one)
        got = flow.got
        flow.go_on()
    eventually(lambda: flow.go_on() or flow.got > got, "it is resumed")
    flow.finish()
