# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each event in each state of a subscription: what was published comes once or is told to be missing, and then comes whoever is meant by now."""

import errno
import itertools
import threading

import pytest

from library import ENDED, KEPT, MISSED, PATTERN, RETAIN, SUBSCRIBED, WAITING, Connection
from messaging import ALLOW_ALL, eventually
from renewing import renew
from test_topics import publish, topic
from test_topics_everywhere import SESSION, lose_link
from test_topics_moving import made_anew

DENY_ALL = "[rule]\nfrom = *, */*\nto = *\naction = deny\n"
STATES = "trying", "live", "waiting", "bounded", "kept", "pattern"


class Cell:
    """Domain 1 subscribes to `news` of the domain that is called web, which is 2 at first."""
    def __init__(self, host, nodes, state):
        host.sim("rename", 2, "web")
        self.host, self.nodes, self.state = host, nodes, state
        _, self.one, self.two, self.three = nodes(0, 1, 2, 3, config=SESSION).values()
        self.web, self.publisher, self.got = self.two, None, []
        self.trying, self.ended = None, False
        self.address = "w*b:news" if state == "pattern" else "web:news"
        self.conn = Connection(self.one.socket, reconnect=True)

    def bind(self, node=None):
        self.web = node or self.web
        self.publisher = topic(self.web, flags=RETAIN if self.state == "kept" else 0)

    def subscribe(self):
        queue, flags = 4 if self.state == "bounded" else 0, PATTERN if self.state == "pattern" else 0
        eventually(lambda: self.conn.subscribe(self.address, queue, flags) == 0, "it may subscribe", 60)

    def take(self, timeout):
        """The next thing, if something comes."""
        if self.state == "trying" and self.trying.is_alive():
            return None
        message = self.conn.receive(timeout)
        if isinstance(message, int):
            assert message == -errno.ETIMEDOUT, message
            return None
        self.got.append((message.notice, message.domid, message.data))
        if message.notice and message.notice.kind == ENDED and self.state != "pattern":
            assert self.conn.unsubscribe(self.address) == 0
            self.ended = True
        return self.got[-1]

    def prepare(self):
        if self.state != "waiting":
            self.bind()
        if self.state == "trying":
            self.trying = threading.Thread(target=self.subscribe)
            self.trying.start()
            return
        self.subscribe()
        while not (notice := self.take(20000)[0]) or notice.kind != (SUBSCRIBED if self.publisher else WAITING):
            pass  # it may have waited for a link before
        if self.publisher:
            publish(self.publisher, *(b"before %d" % number for number in range(3)))

    def check(self):
        """One is heard at last, of who is meant; and nothing was doubled, or lost without a word."""
        if self.trying:
            self.trying.join()
        if not self.publisher:
            self.bind()
        for number in itertools.count():
            assert number < 100, self.got
            if self.ended:
                self.ended = False
                self.subscribe()
            publish(self.publisher, b"end %d" % number)
            while told := self.take(300):
                if told[2].startswith(b"end"):
                    assert told[1] == self.web.domid, self.got
                    break
            else:
                continue
            break
        payloads, kept, excused = [], False, self.state == "trying"
        for notice, _, data in self.got:
            if not notice and not kept:
                payloads.append(data)
            excused |= bool(notice and (notice.unknown or notice.kind in (MISSED, ENDED)))
            kept = bool(notice and notice.kind == KEPT)
        assert len(payloads) == len(set(payloads)), self.got
        lost = {b"before %d" % number for number in range(3)} - set(payloads)
        assert self.state == "waiting" or not lost or excused, self.got


def publisher_ends_and_returns(cell):
    if cell.publisher:
        cell.publisher.close()
    cell.bind()


def publisher_s_domain_is_restored(cell):
    cell.web.save_and_restore()


def publisher_s_domain_is_made_anew(cell):
    cell.bind(made_anew(cell.nodes, cell.host, cell.web, "web"))


def publisher_s_domain_is_renamed(cell):
    cell.host.sim("rename", 2, "other")
    cell.host.sim("rename", 3, "web")
    cell.bind(cell.three)


def own_domain_is_restored(cell):
    cell.one.save_and_restore()


def daemon_here_hands_over(cell):
    renew(cell.one)


def daemon_there_hands_over(cell):
    renew(cell.two)


def all_are_denied_and_allowed(cell):
    cell.two.set_policy(DENY_ALL)
    cell.take(500)
    cell.two.set_policy(ALLOW_ALL)


def it_is_no_topic_for_a_while(cell):
    if cell.publisher:
        cell.publisher.close()
    with Connection(cell.two.socket, binds="news"):
        cell.take(500)
    cell.bind()


def link_is_lost(cell):
    lose_link(cell.one, cell.two) if cell.two.link_state(1) == "up" else None


def own_daemon_is_killed(cell):
    cell.one.kill()
    cell.one.start()


def program_subscribes_a_second_time(cell):
    other = Connection(cell.one.socket)
    assert other.subscribe("2:news") == other.subscribe("web:news") == 0


EVENTS = [publisher_ends_and_returns, publisher_s_domain_is_restored, publisher_s_domain_is_made_anew, publisher_s_domain_is_renamed,
          own_domain_is_restored, daemon_here_hands_over, daemon_there_hands_over, all_are_denied_and_allowed, it_is_no_topic_for_a_while,
          link_is_lost, own_daemon_is_killed, program_subscribes_a_second_time]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_what_comes_is_whole_or_told_and_of_who_is_meant(host, nodes, event, state):
    cell = Cell(host, nodes, state)
    cell.prepare()
    event(cell)
    cell.check()
