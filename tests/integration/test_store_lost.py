# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon whose connection to XenStore is lost misses events, and can't read or write: what it missed it looks for afterwards."""

import contextlib
import os
import random
import threading
import time

import pytest

from lower_half import Node, Tree, exchange
from messaging import FAST, eventually, works
from protocol import PROBE, Program
from test_discovery import all_are_told, watches

LATER = FAST.replace("setup-timeout = 3s", "setup-timeout = 20s")


@contextlib.contextmanager
def away(node):
    """XenStore can't be connected to meanwhile, from this domain."""
    path = node.run_command("printenv", "XENSTORED_PATH").stdout.decode().strip()
    lost = "the connection to XenStore is lost"
    before = node.log.read_text().count(lost)
    os.rename(path, path + ".away")
    try:
        node.host.fault("lose-store", node.domid)
        with Program(node.socket) as program:
            program.request(PROBE, b"77")  # by which it notices at once
        eventually(lambda: node.log.read_text().count(lost) > before, "it notices")
        yield
    finally:
        os.rename(path + ".away", path)


def known_endpoints(node, domid):
    """What it knows of them by itself: it isn't made to ask."""
    return next((peer["endpoints"] for peer in node.status()["peers"] if peer["domid"] == domid and peer["up"]), None)


def sees(node, domid):
    return known_endpoints(node, domid) is not None


@pytest.mark.slow
def test_an_end_that_nothing_asks_for_is_noticed(host, nodes):
    one, two = nodes(1, 2).values()
    host.fault("lose-store", 1)
    eventually(lambda: "connected to XenStore again" in one.log.read_text(), "it notices", 30)
    works(two, one)


def test_what_is_to_be_watched_meanwhile_is_watched_afterwards(host, nodes):
    zero, one, three = nodes(0, 1, 3, start=False).values()
    zero.start()
    one.start()
    all_are_told(host, 1)
    with away(one):
        zero.stop()
        eventually(lambda: not any(link["state"] == "up" for link in one.status()["links"]), "its link with domain 0 ends")
    eventually(lambda: watches(host, 1) > 3, "it watches all for itself")
    three.start()
    one.sees(three)
    works(three, one)
