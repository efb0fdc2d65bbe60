# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons and domains that come, go, stand still and die: the others see it, say it, and find them again."""

import os
import signal
import subprocess
import time

import pytest

from conftest import sleeps
from library import Connection, waiting_message
from messaging import EXIT_OK, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_UNREACHABLE, FAST, LOST_SOON, PATIENCE, deliver, eventually, stopped, tool, works

LOCKER = """
import fcntl, sys, time
device = open(sys.argv[1], "rb")
fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
time.sleep(600)
"""
ECONNRESET, ENOTCONN = 104, 107


def down(node, domid):
    """The node's daemon takes the domain for gone."""
    return node.xenmsg("send", f"{domid}:inbox", "x").returncode == EXIT_UNREACHABLE


@pytest.mark.unless(strict="zero")
def test_a_list_waits_seconds_for_a_domain_0_that_tells_nothing(nodes):
    """However long it is let have time to answer: 100 s here."""
    zero = nodes(0)[0]
    one = nodes(1, start=False, config=FAST.replace("setup-timeout = 20s", "setup-timeout = 200s"))[1]
    with stopped(zero.pid):
        one.start()
        done = one.xenmsg("peers", timeout=90)
    assert done.returncode == EXIT_OK, done


@pytest.mark.parametrize("restarted", [1, 2])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_daemon_that_is_restarted_is_found_again_with_no_help(nodes, restarted, how):
    pair = nodes(1, 2)
    works(pair[1], pair[2])
    for _ in range(2):
        getattr(pair[restarted], how)()
        pair[restarted].start()
        works(pair[1], pair[2])


@pytest.mark.unless(renewed="counts", away="counts")
@pytest.mark.parametrize("socket", ["same", "other"])
def test_a_second_daemon_is_refused_unnoticed_by_the_first(one, two, tmp_path, socket):
    """Seen by the time since when the link is up, which begins anew when it is resumed."""
    works(one, two)
    before = one.link(2), two.link(1)
    path = one.socket if socket == "same" else tmp_path / "s"
    second = one.run_command(tool("xenmsgd"), "--config", tmp_path / "xenmsgd-1.conf", "--socket", path)
    assert second.returncode == 1
    assert b"there can be only one" in second.stderr
    works(one, two)
    for link, now in zip(before, (one.link(2), two.link(1))):
        assert (now["since"], now["last_error"]) == (link["since"], link["last_error"])


def test_who_may_open_event_channels_cannot_lock_the_daemon_out(nodes):
    """Many may be let at that device, such as programs of libxenvchan's; and a lock is anybody's who can open the file."""
    one = nodes(1, start=False)[1]
    locker = one.popen_command("python3", "-c", LOCKER, "/dev/xen/evtchn", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert locker.stdout.readline() == b"locked\n"
    one.start()
    assert locker.poll() is None


def test_a_daemon_waits_for_the_one_before_it_to_end(one, two):
    works(one, two)
    first, pid = one.daemon, one.pid
    os.kill(pid, signal.SIGSTOP)
    one.start(wait=False)
    eventually(lambda: "waiting" in one.log.read_text(), "the second daemon waits")
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    assert first.wait(timeout=30 * PATIENCE) == 0
    eventually(lambda: one.log.read_text().count("listening"), "the second daemon listens")
    one.wait_ready()
    works(one, two)


def test_a_killed_daemon_leaves_no_stale_endpoint_behind(one, two):
    works(one, two)
    with Connection(two.socket, binds="old") as receiver:
        eventually(lambda: b"old" in one.xenmsg("endpoints", "2").stdout, "the endpoint is advertised")
        two.kill()
        assert receiver.receive(1000) == -ENOTCONN
    two.start()
    eventually(lambda: b"old" not in one.xenmsg("endpoints", "2").stdout, "the endpoint has gone")
    works(one, two)


@pytest.mark.parametrize("killed", [1, 2], ids=["mapping", "granting"])
def test_a_send_to_a_killed_daemon_ends_as_where_none_ever_was(nodes, killed):
    """Who saw its vchan die knows, domain 0 and the guest; and that removes its leaves, by which a guest without a link knows."""
    pair = nodes(0, 1, 2, 3, config=FAST + "resume-for = 1h\n")
    node, other = pair.pop(killed), pair.pop(3 - killed)
    works(node, other)
    eventually(lambda: pair[0].link_state(killed) == "up", "domain 0 has a link with it")
    node.kill()
    assert pair[3].link_state(killed) is None
    for sender in (other, pair[0], pair[3], other):
        began = time.monotonic()
        assert "no xenmsgd runs in it" in sender.send(f"{killed}:sleeper", "x", exit_code=EXIT_UNREACHABLE)
        assert time.monotonic() - began < 5 * PATIENCE, "it waits for a link"
    assert down(other, killed)
    node.start()
    works(node, other)


@pytest.mark.parametrize("resume_for", [pytest.param("1h", marks=pytest.mark.unless(relayed="direct")), "1s"])
def test_a_destroyed_domain_is_told_by_xenstore(nodes, host, resume_for):
    """It may have been saved, so what was under way waits for resume-for, and what is new as long as its time-out lets it."""
    one, two = nodes(1, 2, config=FAST + f"resume-for = {resume_for}\n").values()
    works(one, two)
    with waiting_message(one, two) as (sender, results):
        host.sim("destroy", 2)
        two.daemon.wait()
        two.daemon = two.pid = None
        if resume_for == "1h":
            eventually(lambda: one.link_state(2) == "away", "the link is away")
            assert one.xenmsg("send", "--timeout", "0.2", "2:sleeper", "y").returncode == EXIT_TIMEOUT
            assert sender.wait(0) >= 0 and not results
            return
        eventually(lambda: sender.wait(50) >= 0 and results, "the send has ended")
        assert results == [-ECONNRESET]
    eventually(lambda: down(one, 2), "the domain is known to be gone")
    link = one.link(2)
    assert not link or (link["state"] == "idle" and link["channels"] == link["pages"] == 0), link
    deliver(one, one)


@pytest.mark.unless(relayed="direct")
def test_heartbeats_miss_who_stands_still_and_find_it_again(nodes, host):
    """Where sessions aren't resumed."""
    one, two = nodes(1, 2, config=LOST_SOON + "resume-for = 0\n").values()
    works(one, two)
    with waiting_message(one, two) as (sender, results):
        host.sim("pause", 2)
        eventually(lambda: sender.wait(50) >= 0 and results, "the heartbeats have found it dead")
        assert results == [-ECONNRESET]
        link = one.link(2)
        assert not link or link["last_error"]
        host.sim("unpause", 2)
    eventually(lambda: one.xenmsg("send", "2:none", "x").returncode == 3, "it answers again")
    works(one, two)


@pytest.mark.unless(renewed="counts", away="counts")
@pytest.mark.parametrize("deaf", [1, 2])
def test_a_lost_event_is_made_good_by_the_next_heartbeat(nodes, host, deaf):
    """Else what waits in the ring would wait until the link is taken for dead, for who is asked to be woken isn't woken twice. Seen by
    the time since when the link is up, which begins anew when a daemon hands over."""
    one, two = nodes(1, 2, config="[links]\nheartbeat = 1s\ndead-after = 1h\n").values()
    works(one, two)
    before = one.link(2)["since"], two.link(1)["since"]
    for _ in range(3):
        host.fault("lose-event", deaf, 1)
        deliver(one, two)
    assert (one.link(2)["since"], two.link(1)["since"]) == before


@pytest.mark.unless(renewed="counts", idle="counts", away="counts", still="counts")
def test_an_idle_daemon_wakes_for_heartbeats_only(nodes):
    """With an hour between them it doesn't wake at all, though links, a program and an endpoint are there. A hand-over wakes it."""
    def settled():
        before = [sleeps(node.pid) for node in all_nodes]
        time.sleep(0.5)  # what has to be seen is that nothing happens
        return [sleeps(node.pid) for node in all_nodes] == before

    all_nodes = list(nodes(0, 1, 2, config="[links]\nheartbeat = 1h\ndead-after = 3h\n").values())
    works(all_nodes[1], all_nodes[2])
    with Connection(all_nodes[1].socket, binds="quiet") as program:
        eventually(lambda: settled() and settled() and settled(), "nothing happens any more, and no timer of a second or so")


@pytest.mark.unless(renewed="counts", relayed="direct", away="counts")
def test_who_waits_for_pages_looks_for_them_once_a_second(nodes, host):
    """Seen by how often the daemon sleeps, which it does in a hand-over, too."""
    one, two = nodes(1, 2, config="[links]\nheartbeat = 1h\ndead-after = 3h\nsetup-timeout = 60s\n").values()
    host.fault("grant-limit", 2, 0)
    sender = one.popen("send", "2:inbox", "x")
    eventually(lambda: "the link with domain 1 waits" in two.log.read_text(), "it waits for pages")
    before = sleeps(two.pid)
    time.sleep(1)  # what has to be seen is that next to nothing happens
    assert sleeps(two.pid) - before < 100
    with Connection(two.socket, binds="inbox") as receiver:
        host.fault("grant-limit", 2, 1024)
        assert receiver.receive().data == b"x"
    assert sender.wait(20 * PATIENCE) == 0


@pytest.mark.unless(relayed="direct")
def test_who_waits_for_an_event_channel_gets_the_next_free_one(nodes, host):
    one, two, three = nodes(1, 2, 3, config="[links]\nsetup-timeout = 60s\n").values()
    works(one, three)
    host.fault("evtchn-limit", 3, host.domain(3)["event_channels"]["used"])
    with Connection(three.socket, binds="inbox") as receiver:
        sender = two.popen("send", "3:inbox", "x")
        eventually(lambda: "the link with domain 2 waits" in three.log.read_text(), "it waits for a port")
        one.stop()
        assert receiver.receive().data == b"x"
    assert sender.wait(20 * PATIENCE) == 0


def ways_to_say(nodes):
    """A domain of two of which none may map, and domain 0 doesn't relay; and by which words it knows the other one."""
    nodes(0, config=FAST + "relay = no\n")  # it tells the names
    one, _ = nodes(1, 2, config=FAST + "map = no\n").values()
    eventually(lambda: any(peer["domid"] == 2 and peer["name"] == "dom2" and peer["uuid"] for peer in one.status()["peers"]),
               "domain 1 has been told the name of domain 2")
    uuid = next(peer["uuid"] for peer in one.status()["peers"] if peer["domid"] == 2)
    return one, ("2", "dom2", uuid, uuid.upper())


def test_neither_may_map_names_the_setting(nodes):
    one, domains = ways_to_say(nodes)
    for domain in domains:
        for command in ("send", f"{domain}:inbox", "x"), ("call", f"{domain}:inbox", "x"), ("connect", f"{domain}:inbox"):
            done = one.xenmsg(*command)
            assert done.returncode == EXIT_UNREACHABLE and b"set map = yes under [links]" in done.stderr, (command, done.stderr)
    deliver(one, one)


def test_neither_may_map_names_the_setting_to_who_pings(nodes):
    one, domains = ways_to_say(nodes)
    for domain in domains:
        done = one.xenmsg("ping", domain)
        assert done.returncode == EXIT_UNREACHABLE and b"set map = yes under [links]" in done.stderr, done.stderr
        done = one.xenmsg("doctor", domain)
        assert done.returncode != EXIT_OK and b"set map = yes under [links]" in done.stdout + done.stderr


@pytest.mark.unless(strict="zero", relayed="zero")
def test_an_idle_link_is_closed_and_made_again(nodes):
    one, two = nodes(1, 2, config=FAST + "idle-close = 1s\n").values()
    works(one, two)
    eventually(lambda: one.link_state(2) not in ("up", "connected"), "the idle link is closed")
    eventually(lambda: sum(node.status()["grants"]["used_pages"] for node in (one, two)) == 0, "its pages are given back")
    works(one, two)


def test_a_daemon_that_stops_in_order_tells_its_programs(one, two):
    inbox = two.receiver("inbox")
    one.send("2:inbox", "x")
    two.stop()
    inbox.process.wait(20 * PATIENCE)
    assert inbox.process.returncode != 0
    assert inbox.process.stderr.read()


def test_a_lost_send_has_its_own_exit_code(one, two):
    with Connection(two.socket, binds="sleeper") as sleeper:
        send = one.popen("send", "2:sleeper", "x")
        eventually(lambda: two.status()["endpoints"][0]["queued"], "it has arrived")
        two.kill()
        _, err = send.communicate(timeout=30 * PATIENCE)
    assert send.returncode == EXIT_UNKNOWN, err
    assert b"2:sleeper" in err
