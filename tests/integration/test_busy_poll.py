# SPDX-License-Identifier: LGPL-2.1-or-later
"""While answers come quickly over a link, its daemon finds them by looking, and nobody has to notify it."""

import os

import pytest

from messaging import BUILDDIR, FAST, deliver, eventually, is_sanitized

LIBRARY = os.path.join(BUILDDIR, ".libs", "libkeep-cpu.so")
ROUND_TRIPS = 300


def notifications_of_round_trips(one, two):
    before = one.link(two.domid)["rx"]
    result = one.xenmsg("ping", two.domid, "--count", ROUND_TRIPS, "--interval", 0)
    assert result.returncode == 0, result.stderr
    after = one.link(two.domid)["rx"]
    assert after["frames"] - before["frames"] >= ROUND_TRIPS
    return after["notifications"] - before["notifications"]


@pytest.mark.unless(relayed="direct")
@pytest.mark.skipif(is_sanitized(), reason="a sanitizer's library would have to come first")
def test_round_trips_in_a_row_need_fewer_notifications(nodes):
    both = nodes(1, 2, start=False, config=FAST + "busy-poll = 10ms\n")
    for node in both.values():
        node.environment = dict(node.environment, LD_PRELOAD=LIBRARY)
        node.start()
    one, two = both.values()

    def fewer():
        """On a new link, since looking in vain on a busy machine makes a link look less."""
        two.stop()
        two.start()
        one.sees(two)
        deliver(one, two)
        return notifications_of_round_trips(one, two) < ROUND_TRIPS * 9 // 10

    eventually(fewer, "answers are found by looking", timeout=120)


@pytest.mark.unless(relayed="direct")
def test_without_looking_each_round_trip_is_notified_of(nodes):
    one, two = nodes(1, 2, config=FAST + "busy-poll = 0\n").values()
    deliver(one, two)

    def three_in_a_row():
        """Where others have the processors an answer may come before its daemon sleeps."""
        return all(notifications_of_round_trips(one, two) >= ROUND_TRIPS * 9 // 10 for _ in range(3))

    eventually(three_in_a_row, "answers wake their daemon", timeout=120)
