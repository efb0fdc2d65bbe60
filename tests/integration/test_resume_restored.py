# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session outlives save and restore of a guest, whether it grants or maps: under another number, with stale and torn pages, and a daemon that
runs on before it hears of anything. Nothing is lost, nothing comes twice, the order is kept; programs see a pause."""

import time

import pytest

from messaging import PATIENCE, eventually
from test_resume import resumed, traffic


def save_and_restore(host, node, *, stale=0, seed=1, resume=()):
    host.sim("suspend", node.domid, "--stale", stale, "--seed", seed)
    node.domid = int(host.sim("resume", node.domid, *resume).stdout)


def knows_its_number(node):
    eventually(lambda: node.status()["domid"] == node.domid, "the daemon knows its new number")


@pytest.mark.parametrize("saved, other", [(1, 0), (2, 1), (1, 2)], ids=["of domain 0", "of a guest", "that maps"])
def test_a_guest_goes_on_under_its_new_number(nodes, host, saved, other):
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        for times in (1, 2):
            save_and_restore(host, pair[saved])
            knows_its_number(pair[saved])
            resumed(pair[other], pair[saved].domid, times)
            goes_on()
    assert host.list()["kernel_log"] == []


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("saved, other", [(1, 0), (2, 1), (1, 2)], ids=["of domain 0", "of a guest", "that maps"])
def test_nothing_stale_or_torn_is_taken_for_data_before_the_restore_is_known(nodes, host, saved, other, seed):
    """XenStore says nothing for a while, and the daemon finds what the peer had written some time before the save."""
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        save_and_restore(host, pair[saved], stale=5 * seed, seed=seed, resume=("--unaware", 700))
        knows_its_number(pair[saved])
        resumed(pair[other], pair[saved].domid, 1)
        goes_on()
    assert host.list()["kernel_log"] == []
