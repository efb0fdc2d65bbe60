# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where Xen (XSM) lets guests share no memory with each other, as SILO does, domain 0's daemon relays at once."""

import json

import pytest

from messaging import EXIT_OK, EXIT_UNREACHABLE, eventually
from test_relay import is_relayed, works

SILO = "Xen lets the two share no memory (XSM)"


@pytest.fixture(name="silo")
def host_with_silo(host):
    host.sim("xsm", "silo")


def why(source, target):
    [peer] = source.json("peers", str(target.domid))
    assert (peer["link"], peer["via"]) == ("relayed", 0), peer
    return peer["why"]


@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_guests_that_may_share_nothing_go_through_domain_0(host, nodes, silo, first, second):
    some = nodes(0, 1, 2)
    zero, one, two = some[0], some[first], some[second]
    works(one, two)
    works(two, one)
    assert is_relayed(one, two)
    assert why(one, two) == why(two, one) == SILO
    assert "WHY" in one.xenmsg("peers").stdout.decode() and SILO in one.xenmsg("peers").stdout.decode()
    assert one.xenmsg("ping", "--count", "1", str(two.domid)).returncode == EXIT_OK
    for what in (str(two.domid), f"{two.domid}:inbox", f"dom{two.domid}"):
        words = one.xenmsg("doctor", what).stdout.decode()
        assert SILO in words and "the hypervisor refuses an event channel" in words, words
    assert "direct" not in one.xenmsg("doctor", "0").stdout.decode()
    works(zero, one)
    works(two, zero)
    assert one.link(0)["state"] == two.link(0)["state"] == "up"
    # A call and a stream.
    server = two.popen("serve", "upper", "--", "tr", "a-z", "A-Z")
    eventually(lambda: "upper" in two.endpoints(), "it serves")
    assert one.xenmsg("call", f"{two.domid}:upper", "abc").stdout == b"ABC"
    server.terminate()
    server.wait()


@pytest.mark.unless(relayed="direct")
def test_a_single_pair_that_a_policy_forbids_is_relayed(host, nodes):
    some = nodes(0, 1, 2, 3)
    host.sim("xsm", "forbid", "1", "3")
    works(some[1], some[3])
    works(some[3], some[1])
    works(some[1], some[2])
    works(some[3], some[2])
    assert why(some[1], some[3]) == SILO
    assert some[1].link(2)["state"] == some[3].link(2)["state"] == "up"
    assert not is_relayed(some[1], some[2])


def test_what_is_allowed_again_goes_direct_with_the_next_daemon(host, nodes, silo):
    _, one, two = nodes(0, 1, 2).values()
    works(one, two)
    assert is_relayed(one, two)
    host.sim("xsm", "dummy")
    instance = two.instance()
    two.stop()
    two.start()
    eventually(lambda: two.instance() != instance and two.instance() in one.peers(), "the new daemon is seen")
    works(one, two)
    assert one.link(2)["state"] == "up" and not is_relayed(one, two)


@pytest.mark.unless(relayed="zero", strict="zero")
def test_without_a_daemon_in_domain_0_the_error_names_xsm(nodes, silo):
    one, two = nodes(1, 2).values()
    assert two.alive()
    words = one.send("2:inbox", "x", exit_code=EXIT_UNREACHABLE)
    assert "Xen lets domain 1 and domain 2 share no memory" in words and "no xenmsgd runs in domain 0" in words, words
    assert "map = yes" not in words, words


def test_xsm_with_wrong_words_says_how_it_is_used(host):
    for words in ((), ("sillo",), ("forbid",), ("forbid", "1"), ("allow", "1", "2", "3"), ("silo", "1")):
        done = host.sim("xsm", *words, check=False)
        assert done.returncode == 2 and "xsm" in done.stderr, (words, done)
        assert json.loads(host.sim("list", "--json").stdout)
