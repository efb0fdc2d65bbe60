# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons and domains that come, go, stand still and die: the others see it, say it, and find them again."""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from library import Connection
from messaging import EXIT_OK, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_UNREACHABLE, FAST, PATIENCE, deliver, eventually, tool, works

LOCKER = """
import fcntl, sys, time
device = open(sys.argv[1], "rb")
fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked", flush=True)
time.sleep(600)
"""
ECONNRESET, EHOSTDOWN, EHOSTUNREACH, ENOTCONN = 104, 112, 113, 107


def down(node, domid):
    """The node's daemon takes the domain for gone."""
    return node.xenmsg("send", f"{domid}:inbox", "x").returncode == EXIT_UNREACHABLE


@pytest.mark.parametrize("restarted", [1, 2])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_daemon_that_is_restarted_is_found_again_with_no_help(nodes, restarted, how):
    pair = nodes(1, 2)
    works(pair[1], pair[2])
    for _ in range(2):
        getattr(pair[restarted], how)()
        pair[restarted].start()
        works(pair[1], pair[2])


def test_both_daemons_killed_and_restarted(nodes):
    one, two = nodes(1, 2).values()
    works(one, two)
    one.kill()
    two.kill()
    two.start()
    one.start()
    works(one, two)


@pytest.mark.parametrize("socket", ["same", "other"])
def test_a_second_daemon_is_refused_unnoticed_by_the_first(nodes, tmp_path, socket):
    one, two = nodes(1, 2).values()
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


def test_a_killed_daemon_leaves_no_lock_behind(nodes):
    one = nodes(1)[1]
    one.kill()
    one.start()
    assert "another xenmsgd" not in one.log.read_text()


def test_a_daemon_waits_for_the_one_before_it_to_end(nodes):
    one, two = nodes(1, 2).values()
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


def test_a_killed_daemon_leaves_no_stale_endpoint_behind(nodes):
    one, two = nodes(1, 2).values()
    works(one, two)
    with Connection(two.socket) as receiver:
        assert receiver.bind("old") == 0
        eventually(lambda: b"old" in one.xenmsg("endpoints", "2").stdout, "the endpoint is advertised")
        two.kill()
        assert receiver.receive(1000) == -ENOTCONN
    two.start()
    eventually(lambda: b"old" not in one.xenmsg("endpoints", "2").stdout, "the endpoint has gone")
    works(one, two)


def test_a_message_to_a_daemon_that_dies_has_one_outcome(nodes):
    one, two = nodes(1, 2).values()
    with Connection(one.socket) as sender, Connection(two.socket) as sleeper:
        assert sleeper.bind("sleeper") == 0
        results = []
        for _ in range(20):
            assert sender.post("2:sleeper", bytes(3000), results.append) == 0  # in all less than the first credit
        eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"] >= 20 * 3000,
                   "they lie at the receiver's daemon")
        two.kill()
        eventually(lambda: sender.wait(50) >= 0 and len(results) == 20, "each has its outcome")
        assert set(results) == {-ECONNRESET}
        sender.wait(100)
        assert len(results) == 20


@pytest.mark.parametrize("receiver_domid", [1, 2], ids=["within", "between"])
def test_a_receiver_that_exits_leaves_each_sender_one_outcome(nodes, receiver_domid):
    pair = nodes(1, 2)
    with Connection(pair[1].socket) as sender:
        with Connection(pair[receiver_domid].socket) as receiver:
            assert receiver.bind("inbox") == 0
            results = []
            for _ in range(20):
                assert sender.post(f"{receiver_domid}:inbox", bytes(5000), results.append) == 0
            for _ in range(5):
                assert receiver.receive().data == bytes(5000)
        eventually(lambda: sender.wait(50) >= 0 and len(results) == 20, "each has its outcome")
        # what was taken was delivered, and for the others nobody need be in doubt: the daemon is alive
        assert results[:5] == [0] * 5
        assert all(result < 0 for result in results[5:]), results


def test_a_killed_receiver_is_no_longer_an_endpoint(nodes):
    one, two = nodes(1, 2).values()
    inbox = two.receiver("inbox")
    one.send("2:inbox", "one")
    inbox.process.kill()
    inbox.process.wait()
    os.kill(two.pid, 0)
    eventually(lambda: one.xenmsg("send", "--timeout", "2", "2:inbox", "x").returncode == 3, "the endpoint has gone")
    deliver(one, two)  # the name is free


def test_a_destroyed_domain_is_told_by_xenstore(nodes, host):
    """It may have been saved, so what was under way waits for resume-for, and what is new as long as its time-out lets it."""
    one, two = nodes(1, 2, config=FAST + "resume-for = 3s\n").values()
    works(one, two)
    with Connection(one.socket) as sender, Connection(two.socket) as sleeper:
        assert sleeper.bind("sleeper") == 0
        results = []
        assert sender.post("2:sleeper", b"x", results.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"], "it has arrived")
        host.sim("destroy", 2)
        two.daemon.wait()
        two.daemon = two.pid = None
        eventually(lambda: one.link(2)["state"] == "away", "the link is away")
        assert one.xenmsg("send", "--timeout", "0.2", "2:sleeper", "y").returncode == EXIT_TIMEOUT
        assert not results
        eventually(lambda: sender.wait(50) >= 0 and results, "the send has ended")
        assert results == [-ECONNRESET]
    eventually(lambda: down(one, 2), "the domain is known to be gone")
    link = one.link(2)
    assert not link or (link["state"] == "idle" and link["channels"] == link["pages"] == 0), link
    deliver(one, one)


def test_a_domain_made_after_one_was_destroyed_is_found(nodes, host):
    one, two = nodes(1, 2).values()
    works(one, two)
    host.sim("destroy", 2)
    two.daemon.wait()
    two.daemon = two.pid = None
    host.sim("create", "--name", "fresh")
    fresh = max(domain["domid"] for domain in host.list()["domains"])
    assert fresh > 3
    new = nodes(fresh)[fresh]
    works(one, new)


def test_a_paused_domain_is_only_slow(nodes, host):
    one, two = nodes(1, 2, config="[links]\nheartbeat = 1s\ndead-after = 60s\n").values()
    with Connection(one.socket) as sender, Connection(two.socket) as receiver:
        assert receiver.bind("inbox") == 0
        host.sim("pause", 2)
        results = []
        for number in range(100):
            assert sender.post("2:inbox", b"%d" % number, results.append) == 0
        sender.wait(300)
        host.sim("unpause", 2)
        assert [receiver.receive().data for _ in range(100)] == [b"%d" % number for number in range(100)]
        eventually(lambda: sender.wait(50) >= 0 and len(results) == 100, "all are delivered")
        assert results == [0] * 100


def test_heartbeats_miss_who_stands_still_and_find_it_again(nodes, host):
    """Where sessions aren't resumed."""
    one, two = nodes(1, 2, config=FAST + "resume-for = 0\n").values()
    works(one, two)
    with Connection(one.socket) as sender, Connection(two.socket) as sleeper:
        assert sleeper.bind("sleeper") == 0
        results = []
        assert sender.post("2:sleeper", b"x", results.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"], "it has arrived")
        host.sim("pause", 2)
        eventually(lambda: sender.wait(50) >= 0 and results, "the heartbeats have found it dead")
        assert results == [-ECONNRESET]
        link = one.link(2)
        assert not link or link["last_error"]
        host.sim("unpause", 2)
    eventually(lambda: one.xenmsg("send", "2:none", "x").returncode == 3, "it answers again")
    works(one, two)


@pytest.mark.parametrize("deaf", [1, 2])
def test_a_lost_event_is_made_good_by_the_next_heartbeat(nodes, host, deaf):
    """Else what waits in the ring would wait until the link is taken for dead, for who is asked to be woken isn't woken twice."""
    one, two = nodes(1, 2, config="[links]\nheartbeat = 1s\ndead-after = 1h\n").values()
    works(one, two)
    before = one.link(2)["since"], two.link(1)["since"]
    for _ in range(3):
        host.fault("lose-event", deaf, 1)
        deliver(one, two)
    assert (one.link(2)["since"], two.link(1)["since"]) == before


def sleeps(node):
    """How often a daemon has gone to sleep."""
    total = 0
    for task in os.listdir(f"/proc/{node.pid}/task"):
        with open(f"/proc/{node.pid}/task/{task}/status", encoding="utf-8") as status:
            total += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt"))
    return total


def test_an_idle_daemon_wakes_for_heartbeats_only(nodes):
    """With an hour between them it doesn't wake at all, though links, a program and an endpoint are there."""
    def settled():
        before = [sleeps(node) for node in all_nodes]
        time.sleep(0.5)  # what has to be seen is that nothing happens
        return [sleeps(node) for node in all_nodes] == before

    all_nodes = list(nodes(0, 1, 2, config="[links]\nheartbeat = 1h\ndead-after = 3h\n").values())
    works(all_nodes[1], all_nodes[2])
    with Connection(all_nodes[1].socket) as program:
        assert program.bind("quiet") == 0
        eventually(settled, "nothing happens any more")
        assert settled() and settled()  # no timer of a second or so either


def test_who_waits_for_pages_looks_for_them_once_a_second(nodes, host):
    one, two = nodes(1, 2, config="[links]\nheartbeat = 1h\ndead-after = 3h\nsetup-timeout = 60s\n").values()
    host.fault("grant-limit", 2, 0)
    sender = one.popen("send", "2:inbox", "x")
    eventually(lambda: "the link with domain 1 waits" in two.log.read_text(), "it waits for pages")
    before = sleeps(two)
    time.sleep(1)  # what has to be seen is that next to nothing happens
    assert sleeps(two) - before < 100
    with Connection(two.socket) as receiver:
        assert receiver.bind("inbox") == 0
        host.fault("grant-limit", 2, 1024)
        assert receiver.receive().data == b"x"
    assert sender.wait(20) == 0


def test_who_waits_for_an_event_channel_gets_the_next_free_one(nodes, host):
    one, two, three = nodes(1, 2, 3, config="[links]\nsetup-timeout = 60s\n").values()
    works(one, three)
    host.fault("evtchn-limit", 3, host.domain(3)["event_channels"]["used"])
    with Connection(three.socket) as receiver:
        assert receiver.bind("inbox") == 0
        sender = two.popen("send", "3:inbox", "x")
        eventually(lambda: "the link with domain 2 waits" in three.log.read_text(), "it waits for a port")
        one.stop()
        assert receiver.receive().data == b"x"
    assert sender.wait(20) == 0


def test_sends_during_the_death_of_a_link_all_end(nodes):
    one, two = nodes(1, 2).values()
    outcomes = {}
    stop = threading.Event()

    def send(number):
        counts = outcomes.setdefault(number, {})
        with Connection(one.socket) as sender:
            while not stop.is_set():
                result = sender.send("2:inbox", bytes(100), 5000)
                counts[result] = counts.get(result, 0) + 1

    def receive(socket):
        try:
            with Connection(socket) as receiver:
                assert receiver.bind("inbox") == 0
                while True:
                    got = receiver.receive(200)
                    if got == -ENOTCONN or stop.is_set():
                        return
        except AssertionError:
            pass

    senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for thread in senders:
        thread.start()
    for _ in range(5):
        receiver = threading.Thread(target=receive, args=(two.socket,))
        receiver.start()
        eventually(lambda: any(counts.get(0, 0) for counts in outcomes.values()), "messages are delivered")
        for counts in outcomes.values():
            counts[0] = 0
        two.kill()
        receiver.join()
        two.start()
    stop.set()
    for thread in senders:
        thread.join(60)
        assert not thread.is_alive()
    assert set().union(*outcomes.values()) <= {0, -2, -ECONNRESET, -EHOSTDOWN, -EHOSTUNREACH, -110}, outcomes


def test_neither_may_map_names_the_setting(nodes):
    nodes(0, config=FAST + "relay = no\n")  # it tells the names
    one, _ = nodes(1, 2, config=FAST + "map = no\n").values()
    eventually(lambda: any(peer["domid"] == 2 and peer["name"] == "dom2" and peer["uuid"] for peer in one.status()["peers"]),
               "domain 1 has been told the name of domain 2")
    uuid = next(peer["uuid"] for peer in one.status()["peers"] if peer["domid"] == 2)
    for domain in ("2", "dom2", uuid, uuid.upper()):
        for command in (["send", f"{domain}:inbox", "x"], ["call", f"{domain}:inbox", "x"], ["connect", f"{domain}:inbox"],
                        ["ping", domain]):
            done = one.xenmsg(*command)
            assert done.returncode == EXIT_UNREACHABLE and b"set map = yes under [links]" in done.stderr, (command, done.stderr)
        done = one.xenmsg("doctor", domain)
        assert done.returncode != EXIT_OK and b"set map = yes under [links]" in done.stdout + done.stderr
    deliver(one, one)


@pytest.mark.parametrize("one_maps, two_maps", [("yes", "no"), ("no", "yes")])
def test_who_may_map_does(nodes, one_maps, two_maps):
    one, two = nodes(1, 2, start=False).values()
    one.config = FAST + f"map = {one_maps}\n"
    two.config = FAST + f"map = {two_maps}\n"
    one.start()
    two.start()
    works(one, two)
    assert one.link(2)["role"] == ("maps" if one_maps == "yes" else "grants")


def test_private_presence_is_seen_by_the_named_peers_only(nodes):
    one, two, three = nodes(1, 2, 3, start=False).values()
    one.config = FAST + "presence = private\npeers = 2\n"
    for node in (one, two, three):
        node.start()
    works(one, two)
    three.send("1:inbox", "x", exit_code=EXIT_UNREACHABLE)
    assert all(peer["domid"] != 1 or not peer["up"] for peer in three.status()["peers"])


def test_an_idle_link_is_closed_and_made_again(nodes):
    one, two = nodes(1, 2, config=FAST + "idle-close = 1s\n").values()
    works(one, two)
    eventually(lambda: not one.link(2) or one.link(2)["state"] not in ("up", "connected"), "the idle link is closed")
    eventually(lambda: sum(node.status()["grants"]["used_pages"] for node in (one, two)) == 0, "its pages are given back")
    works(one, two)


def test_watch_reports_daemons_and_endpoints_that_come_and_go(nodes):
    one, two = nodes(1, 2, start=False).values()
    one.start()
    domains, endpoints = one.popen("watch", "--json", "2"), one.popen("watch", "--json", "*:print*")
    two.start()
    assert json.loads(domains.stdout.readline())["domid"] == 2
    printer = two.receiver("printer")
    line = json.loads(endpoints.stdout.readline())
    assert line["domid"] == 2 and "printer" in line.values()
    printer.stop()
    assert json.loads(endpoints.stdout.readline()) != line
    two.stop()
    assert json.loads(domains.stdout.readline())["domid"] == 2
    for process in (domains, endpoints):
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_peers_and_ping(nodes):
    one, two = nodes(1, 2).values()
    works(one, two)
    peers = one.json("peers")
    assert 2 in [peer["domid"] for peer in peers]
    done = one.xenmsg("ping", "2", "--count", "3")
    assert done.returncode == 0 and len(done.stdout.splitlines()) >= 3
    assert one.xenmsg("ping", "77", "--count", "1").returncode == EXIT_UNREACHABLE


def test_a_daemon_that_stops_in_order_tells_its_programs(nodes):
    one, two = nodes(1, 2).values()
    inbox = two.receiver("inbox")
    one.send("2:inbox", "x")
    two.stop()
    inbox.process.wait(20)
    assert inbox.process.returncode != 0
    assert inbox.process.stderr.read()


def test_nothing_is_left_of_a_daemon_that_stopped(nodes, host):
    one, two = nodes(1, 2).values()
    works(one, two)
    for node in (one, two):
        node.stop()
    for domid in (1, 2):
        domain = host.domain(domid)
        assert domain["grants"]["used_pages"] == domain["event_channels"]["used"] == domain["mapped_pages"] == 0, domain
        with nodes.by_domid[domid].store() as store:
            assert "xenmsg" not in store.list("data")


def test_a_lost_send_has_its_own_exit_code(nodes):
    one, two = nodes(1, 2).values()
    with Connection(two.socket) as sleeper:
        assert sleeper.bind("sleeper") == 0
        send = one.popen("send", "2:sleeper", "x")
        eventually(lambda: two.status()["endpoints"][0]["queued"], "it has arrived")
        two.kill()
        _, err = send.communicate(timeout=30 * PATIENCE)
    assert send.returncode == EXIT_UNKNOWN, err
    assert b"2:sleeper" in err
