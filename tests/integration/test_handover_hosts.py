# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over while programs of its host talk to those of another one, over NATS. Its gateway goes on and notices nothing of it;
the link with the other host is resumed."""

import pytest

from library import Connection
from messaging import EXIT_OK, eventually, is_built_with_systemd, stopped
from renewing import all_are_delivered, ended, posted, renew
from test_handover_links import renew_each
from test_handover_topics import Published, renew_under
from joined_hosts import IN, OUT, STRICT
from test_hosts_lists import watching
from test_hosts_promise import account_of
from test_hosts_nats import hosts_over_nats  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import
from test_restart import Service
from test_resume import messages
from test_topics import subscriber, topic
from test_trace import Trace


def sees_no_end(hosts):
    """No host was gone for the other one, and no gateway has lost its daemon."""
    for nodes, gateway in zip(hosts.nodes, hosts.gateways):
        log = nodes.by_domid[0].log.read_text()
        assert " is gone" not in log and log.count("a gateway to other hosts is there") == 1, log
        assert "tried again" not in gateway.log(), gateway.log()


def both_ways(here, there):
    return messages(here, there, "hosta", "hostb")


@pytest.mark.parametrize("times", [1, pytest.param(25, marks=pytest.mark.slow)])
def test_who_relays_between_guests_of_hosts_may_hand_over(hosts, times):
    """Domain 0 at either end, which has no rules of its own but whom it lets out, and the guests' daemons."""
    here, there = hosts(guests=1, policy=STRICT)
    with both_ways(here[1], there[1]) as goes_on:
        renew_each(times * (here[0], there[0], here[1], there[1], here[0]), goes_on)
    sees_no_end(hosts)


def test_all_that_is_published_on_another_host_comes(hosts):
    here, there = hosts(guests=1)
    with topic(here[1]) as publisher, subscriber(there[1], "hosta/1:news") as conn:
        published = Published(publisher, conn)
        for node in (here[0], there[0], here[1], there[1]):
            renew_under(node, published)
        published.finish()


@pytest.mark.parametrize("asker", [0, 1], ids=["in_domain_0", "in_a_guest"])
def test_watches_of_another_host_are_told_of_changes_alone(hosts, asker):
    """Whoever on the way hands over, who asks or who is asked. No link ends of that."""
    here, there = hosts(guests=1)
    there[1].receiver("print")
    next_line = watching(here[asker], "hostb/1:*")
    assert [next_line(), next_line()] == ["up host hostb", "up endpoint hostb/1:print"]
    Trace(here[asker], "nothing")  # a question that is handed over, too
    for times, node in enumerate((here[0], there[0], there[1], here[1])):
        renew(node)
        there[1].receiver(f"after-{times}")
        assert next_line() == f"up endpoint hostb/1:after-{times}"
    for nodes in (here, there):
        assert not any("link is down" in node.log.read_text() for node in nodes.values())


@pytest.mark.parametrize("asker", [0, 1], ids=["in_domain_0", "in_a_guest"])
def test_a_domain_there_that_hands_over_is_there_all_along(hosts, asker):
    """Its name, too, though the next daemon reads that again."""
    here, there = hosts(guests=1, policy=IN + OUT + "[see]\nfrom = hosta/*\ndomain = *\naction = allow\n")
    there[0].receiver("print")
    next_line = watching(here[asker], "hostb/*")
    assert {next_line() for _ in range(4)} == {"up host hostb", "up domain hostb/0", "up domain hostb/1", "up endpoint hostb/0:print"}
    for times, node in enumerate((there[0], there[1], there[0])):
        renew(node)
        there[1].receiver(f"after-{times}")
        assert next_line() == f"up endpoint hostb/1:after-{times}"


def test_a_question_outlives_those_that_pass_it_on(hosts):
    """Whoever has asked asks the next daemon; who is asked stands still, so that the answer is still to come."""
    here, there = hosts(guests=1)
    there[1].receiver("print")
    assert here[1].xenmsg("endpoints", "hostb/1").returncode == EXIT_OK  # so that there are links
    with stopped(there[1].pid):
        asking = here[1].popen("endpoints", "hostb/1")
        for node in (here[0], there[0], here[0]):
            eventually(lambda: account_of(there[0], "hosta")["queued_bytes"]["used"] > 16384, "it has come to the other host")
            renew(node)
    out, err = asking.communicate(timeout=60)
    assert (asking.returncode, err) == (EXIT_OK, b"") and b"print" in out


@pytest.mark.parametrize("far", [True, False], ids=["to_another_host", "through_domain_0"])
def test_what_waits_for_domain_0_or_a_host_waits_on(hosts, far):
    """There is no link to the daemon that is to take it: that one stands still before it could greet."""
    here, there = hosts(guests=2)
    node, silent, address = (here[0], there[0], "hostb/0:inbox") if far else (here[1], here[0], "hostb/0:inbox")
    receiver = there[0].receiver("inbox")
    with Connection(node.socket) as sender:
        with stopped(silent.pid):
            renew(node)  # so that a link that was there is away
            outcomes = posted(sender, address, 5)
            for _ in range(2):
                renew(node)
            assert outcomes == []
        all_are_delivered(outcomes, 5, sender)
    assert ended(receiver.process).split() == ["0", "1", "2", "3", "4"]


def test_a_gateway_that_is_killed_in_between_is_a_pause(hosts):
    here, there = hosts()
    with both_ways(here, there) as goes_on:
        for node, gateway in zip((here, there), hosts.gateways):
            gateway.kill()
            renew(node)
            gateway.start()
            goes_on()
            renew_each((node,), goes_on)


def test_hosts_and_the_gateway_are_listed_as_before(hosts):
    here, there = hosts()
    receiver = there.receiver("inbox")
    here.send("hostb/0:inbox", "x")
    listed = lambda: [{name: value for name, value in host.items() if name != "link"} for host in here.json("hosts")]  # noqa: E731
    before = listed()
    renew(here)
    assert len(before) == 2 and listed() == before
    here.send("hostb/0:inbox", "x")
    assert here.json("hosts")[1]["link"]["resumes"] == 1
    assert ended(receiver.process) == "x\nx\n"


@pytest.mark.skipif(not is_built_with_systemd(), reason="built without systemd")
def test_a_restart_of_domain_0_is_a_pause_too(hosts, tmp_path):
    here, there = hosts(join=False)
    here.stop()
    with Service(here, tmp_path) as service:
        service.start()
        hosts.join()
        receiver = there.receiver("inbox")
        with Connection(here.socket) as sender:
            assert sender.send("hostb/0:inbox", b"before") == 0
            for _ in range(3):
                with stopped(receiver.process.pid):
                    outcomes = posted(sender, "hostb/0:inbox", 5)
                    service.restart()
                all_are_delivered(outcomes, 5, sender)
        assert ended(receiver.process).splitlines() == ["before", *"012340123401234"]
        assert "tried again" not in hosts.gateways[0].log()
