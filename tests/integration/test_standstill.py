# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons stand still for moments, as on a busy machine, while their links begin and while they hand over: nobody gets an error of
that, nothing is lost, and nothing comes twice."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from messaging import FAST
from renewing import renew
from test_handover_topics import Published
from test_resume import abroad, messages
from test_topics import subscriber, topic

CONFIG = FAST.replace("heartbeat = 200ms", "heartbeat = 100ms")  # the shortest there is, so that one falls into each moment
ROUNDS = 3


@contextlib.contextmanager
def standstills(chance, nodes):
    """Meanwhile one or two of these daemons at a time stand still for a moment."""
    over = threading.Event()

    def halt(chance):
        while not over.is_set():
            pid = chance.choice(nodes).pid
            os.kill(pid, signal.SIGSTOP)
            time.sleep(chance.choice((0.002, 0.01, 0.05, 0.3)))
            os.kill(pid, signal.SIGCONT)
            time.sleep(chance.choice((0, 0.005, 0.03)))

    threads = [threading.Thread(target=halt, args=(random.Random(chance.random()),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def talk(one, other, host_of_one, host_of_other, renewed):
    """Messages both ways and what is published, from the first on which a link is made for."""
    address = f"{abroad(one, host_of_one).domid if host_of_one else one.domid}:news"
    with topic(one) as publisher, subscriber(other, address) as conn:
        published = Published(publisher, conn)
        with messages(one, other, host_of_one, host_of_other) as goes_on:
            for node in renewed:
                renew(node)
                goes_on()
                published.go_on()
            published.finish()


def meet_again(seed, one, other, nodes, host_of_one=None, host_of_other=None):
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        with standstills(chance, nodes):
            talk(one, other, host_of_one, host_of_other, chance.sample(nodes, 2))
        restarted = chance.choice((one, other))
        restarted.stop()
        restarted.start()
        for node in nodes:
            node.sees(*(peer for peer in nodes if peer.host is node.host and peer is not node))


@pytest.mark.parametrize("seed", range(2))
def test_daemons_that_stand_still_cost_no_error(nodes, seed):
    one, other = nodes(1, 2, config=CONFIG).values()
    meet_again(seed, one, other, [one, other])


@pytest.mark.parametrize("seed", range(2))
def test_nor_do_they_where_domain_0_is_between(nodes, guests, seed):
    zero = nodes(0, config=CONFIG)[0]
    one, other = guests(2, config=CONFIG)
    meet_again(seed, one, other, [zero, one, other])


@pytest.mark.parametrize("seed", range(2))
def test_nor_do_they_between_hosts(hosts, seed):
    here, there = hosts(guests=1, config=CONFIG)
    meet_again(seed, here[1], there[1], [*here.values(), *there.values()], "hosta", "hostb")
