# SPDX-License-Identifier: LGPL-2.1-or-later
"""What waits for its receiver (--wait, XENMSG_WAIT): start order doesn't matter, whatever way leads there."""

import signal

import pytest

from messaging import ALLOW_ALL, EXIT_DENIED, EXIT_NO_DAEMON, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE, eventually

SERVE = {"send": ("recv", "--count", "1", "late"), "call": ("serve", "late", "--", "tr", "a-z", "A-Z"),
         "connect": ("listen", "late", "--", "sort"), "run": ("listen", "--run", "late", "--", "sort")}
PRINTS = {"send": b"", "call": b"WORD", "connect": b"word\n", "run": b"word\n"}


def begin(node, command, address, *options):
    """A command that waits, with its input."""
    words = [command, "--wait", *options, address] + (["word"] if command in ("send", "call") else [])
    return node.popen(*words, data=b"word\n" if command in ("connect", "run") else b"")


def end(process, command):
    out, err = process.communicate(timeout=60 * PATIENCE)
    assert (process.returncode, out, err) == (EXIT_OK, PRINTS[command], b""), (process.returncode, out, err)


def waits(node, process):
    """Until it has tried in vain: it was answered, and has no channel but the one by which it watches."""
    clients = lambda: [client for client in node.status()["clients"] if client["pid"] == process.pid]
    eventually(lambda: any(client["channels"] == 1 and client["usage"]["frames_out"] >= 3 for client in clients()), "it waits")


def waiting(node, command, address):
    """A command that has begun, and waits."""
    process = begin(node, command, address)
    waits(node, process)
    return process


def goes(process, command, node):
    """What waited goes when it is served there."""
    node.popen(*SERVE[command])
    end(process, command)


@pytest.mark.parametrize("command", SERVE)
def test_what_waits_for_an_endpoint_goes_when_it_is_bound(here, there, command):
    goes(waiting(here, command, f"{there.domid}:late"), command, there)


@pytest.mark.parametrize("command", SERVE)
def test_what_waits_outlives_the_daemon_here(one, command):
    process = waiting(one, command, "self:late")
    one.kill()
    one.start()
    one.popen(*SERVE[command])
    out, err = process.communicate(timeout=60 * PATIENCE)
    assert (process.returncode, out) == (EXIT_OK, PRINTS[command]), (process.returncode, out, err)
    assert b"self:late: xenmsgd is lost" in err.splitlines()[0]


@pytest.mark.parametrize("command", SERVE)
def test_what_waits_for_the_daemon_here_goes(nodes, command):
    one = nodes(1, start=False)[1]
    process = begin(one, command, "self:late")
    assert begin(one, command, "self:late", "--timeout", "0.3").wait(60 * PATIENCE) == (255 if command == "run" else EXIT_NO_DAEMON)
    assert process.poll() is None
    one.start()
    goes(process, command, one)


@pytest.mark.parametrize("command", SERVE)
def test_what_waits_for_a_daemon_elsewhere_goes(nodes, one, command):
    two = nodes(2, start=False)[2]
    process = waiting(one, command, "2:late")
    two.start()
    goes(process, command, two)


def test_what_waits_for_a_name_that_nobody_has_yet_goes(host, nodes, zero, one):
    process, here = waiting(one, "send", "fresh:late"), waiting(zero, "call", "fresh:late2")
    domid = int(host.sim("create", "--name", "fresh").stdout)
    two = nodes(domid)[domid]
    two.popen("serve", "late2", "--", "tr", "a-z", "A-Z")
    goes(process, "send", two)
    end(here, "call")


def test_what_waits_for_a_uuid_goes(zero, one, two):
    uuid = [peer["uuid"] for peer in zero.json("peers") if peer["domid"] == 2][0]
    eventually(lambda: one.xenmsg("ping", "-n", "1", uuid).returncode == EXIT_OK, "it is known by its UUID")
    goes(waiting(one, "send", f"{uuid}:late"), "send", two)


@pytest.mark.usefixtures("zero")
@pytest.mark.parametrize("command", SERVE)
def test_what_waits_for_a_guest_that_domain_0_relays_to_goes(host, nodes, command):
    domids = [int(host.sim("create", "--name", name, "--type", "pv").stdout) for name in ("a", "b")]
    source = nodes(domids[0])[domids[0]]
    process = waiting(source, command, "b:late")
    goes(process, command, nodes(domids[1])[domids[1]])
    assert [peer["via"] for peer in source.json("peers") if peer["domid"] == domids[1]] == [0]


@pytest.mark.parametrize("command", SERVE)
def test_what_waits_for_an_endpoint_of_another_host_goes(hosts, command):
    here, there = hosts(guests=1)
    goes(waiting(here[1], command, "hostb/1:late"), command, there[1])


def test_many_receivers_each_get_what_waited_in_order(one, two):
    """Also when the one before has ended in between: of all lines each arrives once, and none before an earlier one."""
    lines = [str(number) for number in range(60)]
    sender = one.popen("send", "--wait", "--lines", "2:late", data="".join(f"{line}\n" for line in lines).encode())
    waits(one, sender)
    got = []
    for _ in range(6):
        receiver = two.popen("recv", "--count", "10", "late")
        got += receiver.communicate(timeout=20 * PATIENCE)[0].decode().split()
    assert sender.communicate(timeout=60 * PATIENCE)[1] == b"" and sender.returncode == EXIT_OK
    assert got == lines


def test_a_time_out_says_for_certain_that_it_never_comes(one, two):
    for command in ("send", "call", "connect"):
        process = begin(one, command, "2:late", "--timeout", "0.3")
        said = process.communicate(timeout=60 * PATIENCE)[1].decode()
        assert process.returncode == EXIT_TIMEOUT and "2:late" in said and said.count("\n") == 1, said
    receiver = two.popen("recv", "--timeout", "0.5", "late")
    assert receiver.communicate(timeout=60 * PATIENCE)[0] == b""


def test_a_signal_withdraws_what_waits(one, two):
    process = waiting(one, "send", "2:late")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60 * PATIENCE)[1].decode()
    assert "interrupted" in said and "not delivered" in said and "can't be known" not in said, said
    receiver = two.popen("recv", "--timeout", "0.5", "late")
    assert receiver.communicate(timeout=60 * PATIENCE)[0] == b""


def test_it_goes_on_waiting_with_the_next_daemon(one, two):
    """Of a connection that outlives its daemon; of another one it ends, and for certain."""
    module = pytest.importorskip("python_module")
    with module.xenmsg.blocking.open(one.socket, reconnect=True) as conn, module.xenmsg.blocking.open(one.socket) as mortal:
        outcomes = [each.post("2:late", b"word", wait=True) for each in (conn, mortal)]

        def have_tried():  # they hear of it only while they wait
            for each, outcome in zip((conn, mortal), outcomes):
                with pytest.raises(module.xenmsg.TimedOut):
                    each.wait(outcome, module.SHORT)
            return sum(client["channels"] == 1 and client["usage"]["frames_out"] >= 3 for client in one.status()["clients"]) >= 2

        eventually(have_tried, "both have tried in vain")
        one.kill()
        with pytest.raises(module.xenmsg.Error) as caught:
            mortal.wait(outcomes[1], module.LONG)
        assert caught.value.fate == module.xenmsg.Fate.NOT_DONE
        one.start()
        receiver = two.receiver("late", "--count", "1")
        conn.wait(outcomes[0], module.LONG)
        assert receiver.output() == b"word\n"


def test_what_is_certain_is_told_at_once(nodes, one):
    nodes(2, policy="[rule]\nfrom = 1\nto = closed\naction = deny\n" + ALLOW_ALL)
    one.send("2:closed", "x", "--wait", exit_code=EXIT_DENIED)
    one.send("hostb/2:x", "x", "--wait", exit_code=EXIT_UNREACHABLE)
    assert one.xenmsg("send", "--wait", "--no-wait", "2:x", "x").returncode == EXIT_USAGE
    one.send("2:late", "x", exit_code=EXIT_NO_ENDPOINT)


def test_who_waits_asks_nobody_again_and_again(one, two):
    """Only what it waits for makes it try, whatever else comes and goes."""
    process = waiting(one, "send", "2:late")
    for number in range(3):
        other = two.receiver(f"other{number}")
        eventually(lambda name=other.endpoint: name in [entry["name"] for entry in one.json("endpoints", "2")], "domain 1 sees it")
        other.stop()
    # OPEN, the message, what answers the RESET, and the same of its watch.
    assert [client["usage"]["frames_in"] for client in one.status()["clients"] if client["pid"] == process.pid] == [5]
    goes(process, "send", two)
