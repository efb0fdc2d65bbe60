# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of messages and calls between hosts is what becomes of them within one: time-outs, what is withdrawn, slow and
dead receivers, limits. A test of `way` does the same in each of its ways and expects the same."""

import errno
import itertools
import os
import signal
import subprocess
import time

import pytest

from frames import CALLS, DATA, MESSAGES, reset_frame
from library import Connection, taking
from messaging import (EXIT_ERROR, EXIT_LIMIT, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_UNREACHABLE, FAST, PATIENCE,
                       eventually, given_time, stopped)
from protocol import Program

RING = 1 << 20  # a host link's, in each direction


class Way:
    """From a guest to one: to itself, to another one, also through domain 0, or to one of another host."""

    def __init__(self, sender, receiver, domain):
        self.sender, self.receiver, self.domain = sender, receiver, domain

    def to(self, endpoint):
        return f"{self.domain}:{endpoint}"


BETWEEN = ("link", "host")
ANYWHERE = ("itself", *BETWEEN, "domain-0")


@pytest.fixture(name="way", params=BETWEEN)
def way_between_guests(request):
    if request.param == "host":
        here, there = request.getfixturevalue("hosts")(guests=1)
        return Way(here[1], there[1], "hostb/1")
    if request.param == "domain-0":
        request.getfixturevalue("zero")
        one, two = request.getfixturevalue("guests")(2)
    else:
        one, two = request.getfixturevalue("nodes")(1, 2).values()
    receiver = one if request.param == "itself" else two
    return Way(one, receiver, receiver.domid)


def ended(conn, results, count=1):
    eventually(lambda: conn.wait(50) >= 0 and len(results) == count, "all have an outcome")
    return results


# ---- what is broken off ----

@pytest.mark.parametrize("command", ["send", "call"])
@pytest.mark.parametrize("how, words", [("leaves", "the program there has died, or left"), ("ends", "the program there has ended it"),
                                        pytest.param("stops", "its domain, or the xenmsgd there, is gone", marks=pytest.mark.unless(renewed="uncertain"))])
@pytest.mark.parametrize("way", ANYWHERE, indirect=True)
def test_who_has_ended_a_channel_is_told_to_its_sender(way, command, how, words):
    """As far as the last daemon on the way knows it. Before, it was \"the receiver or a daemon died\" of all."""
    if how == "stops" and way.sender is way.receiver:
        pytest.skip("the sender's own daemon says nothing more")
    holder = Program(way.receiver.socket)
    holder.bind("inbox", kinds=MESSAGES if command == "send" else CALLS)
    sender = way.sender.popen(command, way.to("inbox"), "x")
    held = holder.expect(DATA)
    if how == "leaves":
        holder.close()
    elif how == "ends":
        holder.send_bytes(reset_frame(held.channel, errno.ECONNRESET))
    else:
        way.receiver.stop()
    assert sender.wait(timeout=90 * PATIENCE) == EXIT_UNKNOWN  # whose link was away then is waited for as long as resume-for, 60 s
    assert words in sender.stderr.read().decode()


# ---- what is given up ----

@pytest.mark.unless(renewed="uncertain")
@pytest.mark.parametrize("way", ANYWHERE, indirect=True)
def test_a_message_that_is_not_taken_in_time_is_withdrawn(way):
    with Connection(way.receiver.socket, binds="sleeper") as sleeper, Connection(way.sender.socket) as sender:
        answers = []
        assert sender.post(way.to("sleeper"), b"first", answers.append) == 0
        assert sleeper.receive().data == b"first"
        assert ended(sender, answers) == [0]
        assert sender.send(way.to("sleeper"), b"in vain", 300) == -errno.ETIMEDOUT
        assert sender.post(way.to("sleeper"), b"in time", answers.append) == 0
        assert sleeper.receive().data == b"in time"  # and not the one that was given up
        assert ended(sender, answers, 2) == [0, 0]


@pytest.mark.unless(renewed="uncertain")
@pytest.mark.parametrize("way", ANYWHERE, indirect=True)
def test_posted_calls_that_time_out_hear_if_they_were_taken(way):
    with Connection(way.receiver.socket, binds="work") as server, Connection(way.sender.socket) as caller:
        timeout_ms = 2000
        while not calls_time_out_in_time(way, server, caller, timeout_ms):
            timeout_ms *= 4


def calls_time_out_in_time(way, server, caller, timeout_ms):
    """Of 200 calls 60 are taken and 20 answered; False: the machine was too slow for that, and nothing is known."""
    results = {}

    def note(result, number):
        assert number not in results
        results[number] = (result, "may have been carried out" in caller.last.reason)
    begin = time.monotonic()
    for number in range(200):
        assert caller.call_post(way.to("work"), b"%d" % number, lambda result, at=number: note(result, at), timeout_ms) == 0
    requests = list(itertools.takewhile(lambda taken: not isinstance(taken, int), (server.take(timeout_ms) for _ in range(60))))
    for request in requests[:20]:
        request.reply(request.data)
    eventually(lambda: caller.wait(50) >= 0 and results.keys() >= set(range(20)), "those end", timeout=20 + timeout_ms / 1000)
    in_time = time.monotonic() - begin < timeout_ms / 1000
    eventually(lambda: caller.wait(50) >= 0 and len(results) == 200, "all have ended", timeout=20 + timeout_ms / 1000)
    if in_time:
        assert [results[number] for number in range(20)] == [(b"%d" % number, False) for number in range(20)]
        assert {results[number] for number in range(20, 60)} == {(-errno.ETIMEDOUT, True)}
        assert {results[number] for number in range(60, 200)} == {(-errno.ETIMEDOUT, False)}
        # What was cancelled isn't received, and the server hears that a taken one is given up.
        eventually(lambda: server.receive(0) == -errno.EAGAIN and not requests[40].wants_reply(), "the server hears of it")
    for request in requests:
        request.free()
    return in_time


@pytest.mark.unless(renewed="uncertain")
def test_a_time_out_is_kept_though_the_other_daemon_stands_still(way):
    """A message, and a call whose channel is open, leave at once: nobody can say whether they were taken."""
    way.receiver.receiver("inbox")
    with Connection(way.receiver.socket, binds="work") as server, Connection(way.sender.socket) as caller:
        answers = []
        assert caller.call_post(way.to("work"), b"first", answers.append) == 0
        request = server.take()
        request.reply(request.data)
        request.free()
        assert ended(caller, answers) == [b"first"]
        assert way.sender.xenmsg("send", way.to("inbox"), "taken").returncode == EXIT_OK

        def late(seconds):
            done = way.sender.xenmsg("send", way.to("inbox"), "late", "--timeout", seconds)
            return done.returncode != EXIT_TIMEOUT and done  # else it hadn't left yet
        with stopped(way.receiver.pid):
            done = given_time(late, 1)
            assert done.returncode == EXIT_UNKNOWN and b"timed out" in done.stderr and b"can't be known" in done.stderr, done
            given_time(lambda seconds: caller.call(way.to("work"), b"late", int(1000 * seconds)) == -errno.ECONNRESET)
            assert "doesn't say whether it was taken" in caller.last.reason


def test_a_time_out_is_kept_though_nothing_gets_to_the_host(hosts):
    here, there = hosts()
    with Connection(there.socket, binds="inbox") as inbox, Connection(here.socket) as sender:
        results = []
        assert sender.post("hostb/0:inbox", b"before", results.append) == 0
        assert inbox.receive().data == b"before"
        assert ended(sender, results) == [0]
        hosts.gateway.pause(True)
        given_time(lambda seconds: sender.send("hostb/0:inbox", b"late", int(1000 * seconds)) == -errno.ECONNRESET)
        hosts.gateway.pause(False)
        assert sender.post("hostb/0:inbox", b"after", results.append) == 0  # behind the withdrawal
        got = []

        def received():
            sender.wait(0)  # it may have to move to other memory first
            message = inbox.receive(50)
            got.extend([] if isinstance(message, int) else [message.data])
            return got[-1:] == [b"after"]
        eventually(received, "what was posted last comes")
        assert got in ([b"after"], [b"late", b"after"])  # it was taken before the withdrawal came
        assert ended(sender, results, 2) == [0, 0]


@pytest.mark.unless(renewed="uncertain")
def test_a_command_whose_caller_gives_up_is_told(way, tmp_path):
    started, ended_by = tmp_path / "started", tmp_path / "stopped"
    serving = way.receiver.popen("serve", "--jobs", "1", "slow", "--", "sh", "-c",
                                 f"trap 'echo >{ended_by}; exit' TERM; echo x >>{started}; while :; do sleep 0.02; done", binds="slow")
    running = way.sender.popen("call", way.to("slow"), "first")
    eventually(started.exists, "the first call runs")
    done = way.sender.xenmsg("call", "--timeout", "0.3", way.to("slow"), "second")
    assert done.returncode == EXIT_TIMEOUT and b"may have been carried out" not in done.stderr, done
    running.send_signal(signal.SIGKILL)
    eventually(ended_by.exists, "the command whose caller died is told")
    assert started.read_text() == "x\n"
    ended_by.unlink()

    def third(seconds):
        done = way.sender.xenmsg("call", "--timeout", seconds, way.to("slow"), "third")
        return started.read_text() != "x\n" and done  # else its command hadn't begun
    done = given_time(third, 1)
    assert done.returncode == EXIT_UNKNOWN and b"may have been carried out" in done.stderr, done
    eventually(ended_by.exists, "the command whose caller gave up is told")
    serving.terminate()


# ---- exit codes ----

@pytest.mark.parametrize("command", ("send", "call", "connect", "run"))
def test_errors_have_the_same_exit_codes(way, command):
    absent = way.to("nobody").replace("/1:", "/9:").replace("2:", "9:")
    for address, code in ((way.to("nobody"), EXIT_NO_ENDPOINT), (absent, EXIT_UNREACHABLE)):
        done = way.sender.xenmsg(command, address, data=b"x")
        assert done.returncode == (255 if command == "run" else code), (address, done)
    calls = way.receiver.popen("serve", "calls", "--", "cat", binds="calls")
    done = way.sender.xenmsg(command, way.to("calls"), data=b"x")
    assert done.returncode == {"call": EXIT_OK, "run": 255}.get(command, EXIT_ERROR), done
    calls.terminate()


def test_a_stream_whose_daemon_dies_is_not_one_that_ends(way):
    listening = way.receiver.popen("listen", "stream", "--", "cat", binds="stream")
    connected = way.sender.popen("connect", way.to("stream"), stdin=subprocess.PIPE)
    connected.stdin.write(b"x\n")
    connected.stdin.flush()
    assert connected.stdout.readline() == b"x\n"
    way.receiver.kill()
    assert connected.wait(timeout=30 * PATIENCE) == EXIT_UNKNOWN
    listening.wait(timeout=30 * PATIENCE)


# ---- who doesn't read, and who dies ----

@pytest.mark.parametrize("way", ANYWHERE, indirect=True)
def test_a_reader_that_sleeps_delays_nobody_else(way):
    with Connection(way.sender.socket) as sender, Connection(way.sender.socket) as other, \
            Connection(way.receiver.socket) as sleeper, Connection(way.receiver.socket) as reader:
        assert sleeper.bind("sleeper") == 0
        assert reader.bind("reader") == 0
        results, posted = [], 0
        while sender.post(way.to("sleeper"), bytes(60000), results.append) == 0:
            posted += 1
            sender.wait(0)
        with taking(reader, 20):
            for _ in range(10):
                assert other.send(way.to("reader"), b"from another program") == 0
                assert sender.send(way.to("reader"), b"from the same program") == 0
        assert results == []
        with taking(sleeper, posted):
            eventually(lambda: sender.wait(100) >= 0 and len(results) == posted, "all are delivered", timeout=60)
        assert results == [0] * posted


def test_a_receiver_that_ends_leaves_certain_and_unsure_messages(way):
    with Connection(way.sender.socket) as sender:
        results = []
        with Connection(way.receiver.socket, binds="inbox") as receiver:
            assert sender.post(way.to("inbox"), b"taken", results.append) == 0
            assert receiver.receive().data == b"taken"
            assert ended(sender, results) == [0]
            for _ in range(3):
                assert sender.post(way.to("inbox"), b"not taken", results.append) == 0
            sender.wait(100)
        ended(sender, results, 4)
        # What lay before it may have been seen; what hadn't reached it certainly wasn't.
        assert set(results[1:]) <= {-errno.ECONNRESET, -errno.ENOENT}, results
        assert sender.send(way.to("inbox"), b"nobody") == -errno.ENOENT


def test_the_death_of_the_servers_daemon_is_a_lost_connection(way):
    with Connection(way.receiver.socket, binds="work") as server, Connection(way.sender.socket) as caller:
        results = []
        assert caller.call_post(way.to("work"), b"x", results.append) == 0
        request = server.take()
        way.receiver.kill()
        assert ended(caller, results) == [-errno.ECONNRESET]
        assert server.wait(20000) == -errno.ENOTCONN
        assert request.reply(b"late") in (-errno.ENOTCONN, -errno.ECANCELED)
        request.free()
    way.receiver.start()
    serving = way.receiver.popen("serve", "work", "--", "cat")
    eventually(lambda: way.sender.xenmsg("call", way.to("work"), "again").stdout == b"again", "it is reached again")
    serving.terminate()


# ---- limits ----

def account_of(node, name):
    """What status of this node says of the account of another host."""
    return next((account for account in node.status()["accounts"] if account.get("host") == name), None)


def test_who_sends_too_much_from_another_host_gets_enobufs(hosts):
    first, there, third = hosts(count=3, config=(FAST, FAST + "[limits]\nmax-channels = 16\n", FAST))
    names = [f"sleeper{number}" for number in range(12)]
    with Connection(there.socket) as sleeper, Connection(first.socket) as greedy:
        results = []
        for name in names:
            assert sleeper.bind(name) == 0
        for name in names:
            assert greedy.post(f"hostb/0:{name}", b"x", results.append) == 0
        assert ended(greedy, results, 4) == [-errno.ENOBUFS] * 4
        account = account_of(there, "hosta")
        assert account["kind"] == "peer" and account["channels"]["used"] == 8 and account["channels"]["refused"] == 4
        assert "host hosta gets ENOBUFS" in there.log.read_text()
        assert first.xenmsg("send", "hostb/0:sleeper0", "one more").returncode == EXIT_LIMIT
        inbox = there.receiver("inbox", "--count", "1")
        third.send("hostb/0:inbox", "notices nothing")
        assert b"notices nothing" in inbox.output()
        metrics = there.xenmsg("status", "--metrics").stdout.decode()
        assert f'kind="peer",id="{account["id"]}",host="hosta",resource="channels"}} 8' in metrics


def test_in_a_guest_it_is_the_host_that_pays_too(hosts):
    here, there = hosts(guests=1)
    with Connection(there[1].socket, binds="sleeper") as sleeper, Connection(here[1].socket) as sender:
        assert sender.post("hostb/1:sleeper", bytes(60000), lambda _: None) == 0
        eventually(lambda: sender.wait(20) >= 0 and account_of(there[1], "hosta"), "it is charged")
        assert account_of(there[1], "hosta")["channels"]["used"] == 1


def test_rings_of_a_host_link_are_charged_to_the_gateways_user(hosts):
    here, there = hosts()
    inbox = there.receiver("inbox", "--count", "2")

    def memory():
        return next(account["memory"]["used"] for account in here.status()["accounts"]
                    if (account["kind"], account["id"]) == ("uid", os.getuid()))
    here.send("hostb/0:inbox", "x")
    eventually(lambda: memory() >= 2 * RING, "they are charged")
    hosts.gateway.close()
    eventually(lambda: memory() < 2 * RING, "they are given back")
    hosts.join()
    here.send("hostb/0:inbox", "x")
    assert inbox.output().count(b"x") == 2


def test_without_memory_for_the_rings_a_host_is_not_reached(hosts):
    here, _ = hosts(config=FAST + "[limits]\nmax-memory = 4M\n")
    done = here.xenmsg("send", "hostb/0:inbox", "x")
    assert done.returncode == EXIT_UNREACHABLE, done
    log = hosts.nodes[0].tmp_path / "xenmsgd-0-1.log"
    assert "max-memory" in log.read_text()
