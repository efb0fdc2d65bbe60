# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over while messages, calls and streams wait for a program that is started on demand: they wait on, and come once."""

import contextlib
import errno
import os
import socket
import time

import pytest

from frames import STREAM, open_frame
from library import Connection
from messaging import EXIT_NO_ENDPOINT, PATIENCE, eventually, is_built_with_systemd, tool
from renewing import post, process_until, renew
from service_manager import Systemd
from test_activation import GATE, Activation, have_gone, xenmsg
from test_restart import Service
from test_streams import RawStream


class Place:
    """A domain whose daemon hands over, in one way or the other."""

    def __init__(self, node, directory, restarts):
        self.node, self.restarts = node, restarts
        self.activation = Activation(node, directory)
        self.service = Service(node, directory) if restarts else None
        self.systemd = self.service.systemd if restarts else None

    def start(self):
        (self.service or self.node).start()

    def hand_over(self, times=2):
        for _ in range(times):
            if self.service:
                self.service.restart()
            else:
                renew(self.node)


@pytest.fixture(name="place", params=["renewed", "restarted"])
def domain_whose_daemon_hands_over(nodes, tmp_path, request):
    restarts = request.param == "restarted"
    if restarts and not is_built_with_systemd():
        pytest.skip("built without systemd")
    place = Place(nodes(1, start=False)[1], tmp_path, restarts)
    with place.service or contextlib.nullcontext():
        yield place


def test_all_that_waits_for_a_command_waits_on(place, nodes, memory):
    """Messages, calls, also of another domain, and a stream: each comes once and in order. A command that is still a child isn't started
    again."""
    commands = {"inbox": f"recv --count 5 inbox > {place.activation.output('inbox')}", "rev": "serve --once rev -- rev",
                "far": "serve --once far -- rev", "pipe": "listen --once pipe -- cat"}
    for name, words in commands.items():
        place.activation.add(name, GATE + xenmsg(words))
    place.start()
    other, outcomes, answers, far = nodes(2)[2], [], [], []
    other.sees(place.node)
    with (Connection(place.node.socket) as sender, Connection(other.socket) as caller,
          RawStream(place.node.socket, open_frame(0, "self:pipe", STREAM)) as stream):
        stream.socket.settimeout(60 * PATIENCE)
        stream.socket.sendall(b"before ")
        for number in range(5):
            post("self:inbox", b"%d" % number, outcomes, sender)
        assert sender.call_post("self:rev", b"ab", answers.append) == caller.call_post("1:far", b"cd", far.append) == 0
        for name in commands:  # one channel has all messages
            process_until(lambda name=name: place.activation.about(name)["waiting"] == 1, "it waits", sender, caller)
        pid = place.activation.pid("inbox")
        place.hand_over()
        assert not outcomes and not answers and not far
        if not place.restarts:
            assert place.activation.about("inbox")["state"] == "starting" and place.activation.pid("inbox") == pid
        stream.socket.sendall(b"after")
        stream.socket.shutdown(socket.SHUT_WR)
        for name in commands:
            place.activation.open_gate(name)
        process_until(lambda: len(outcomes) == 5 and answers and far, "all have ended", sender, caller)
        got = b"".join(iter(lambda: stream.socket.recv(100), b""))
    assert outcomes == [0] * 5 and answers == [b"ba"] and far == [b"dc"]
    assert got.endswith(b"before after")  # behind the frame that says that it is open
    eventually(lambda: place.activation.output("inbox").read_text().split() == list("01234"), "all have come")
    for name in commands:
        assert place.activation.about(name)["starts"] == (3 if place.restarts else 1)
        assert place.restarts or place.activation.starts(name) == 1


def test_a_unit_is_waited_for_on(place, tmp_path):
    """To systemd it is asked for again, which changes nothing."""
    if not is_built_with_systemd():
        pytest.skip("built without systemd")
    systemd = place.systemd
    if not systemd:
        systemd = Systemd(tmp_path)
        systemd.start()
        place.node.environment = dict(place.node.environment, DBUS_SYSTEM_BUS_ADDRESS=systemd.address)
    place.activation.write("inbox", "user = root\nunit = inbox.service\ntimeout = 600s\n")
    environment = "".join(f"export {key}={place.node.environment[key]}\n" for key in ("XENSIM_DIR", "LD_LIBRARY_PATH") if key in place.node.environment)
    command = " ".join(place.node.command(tool("xenmsg"), "recv", "--once", "--count", "1", "inbox"))
    script = place.activation.script("inbox", f"{environment}while [ ! -e {place.activation.directory}/inbox.sh.go ]; do sleep 0.05; done\n"
                                              f"exec {command} >> {place.activation.output('inbox')}")
    (systemd.folder / "inbox.service").symlink_to(script)
    place.start()
    outcomes = []
    try:
        with Connection(place.node.socket) as sender:
            post("self:inbox", b"by a unit", outcomes, sender)
            place.activation.waiting("inbox")
            place.activation.pid("inbox")
            place.hand_over()
            place.activation.open_gate("inbox")
            process_until(lambda: outcomes, "it has ended", sender)
        assert outcomes == [0]
        eventually(lambda: place.activation.output("inbox").read_text() == "by a unit\n", "it has come")
        assert place.activation.starts("inbox") == place.activation.about("inbox")["starts"] == 1
    finally:
        if not place.systemd:
            systemd.stop()


def test_time_outs_go_on(place):
    """That of a sender, and that of a command that never binds; longer ones, where the machine is so slow that they end before."""
    place.activation.add("never", "exec sleep 1000")
    for seconds in (2, 8, 32):
        place.activation.add(f"late-{seconds}", "exec sleep 1000", timeout=f"{seconds + 1}s")
    place.start()
    for seconds in (2, 8, 32):
        name, outcomes, late = f"late-{seconds}", [], []
        with Connection(place.node.socket) as sender:
            begun = time.monotonic()
            assert sender.post_timed("self:never", b"x", 1000 * seconds, outcomes.append) == 0
            post(f"self:{name}", b"x", late, sender)
            process_until(lambda name=name, outcomes=outcomes: outcomes or all(place.activation.about(each)["waiting"] for each in ("never", name)),
                          "both wait", sender)
            place.hand_over(1)
            is_in_time = time.monotonic() < begun + seconds
            process_until(lambda outcomes=outcomes, late=late: outcomes and late, "they have ended", sender)
            about = place.activation.about(name)
        if is_in_time:
            break
    assert is_in_time and outcomes == [-errno.ETIMEDOUT] and late == [-errno.ENOENT]
    assert about["reason"] == f"the command hasn't bound the endpoint within {1000 * seconds + 1000} ms"


def test_a_file_that_has_gone_ends_what_waits_for_it(place):
    place.activation.add("gone", "exec sleep 1000")
    place.activation.add("inbox", GATE + xenmsg(f"recv --count 1 inbox > {place.activation.output('inbox')}"))
    place.start()
    outcomes, others = [], []
    with Connection(place.node.socket) as sender:
        post("self:gone", b"x", outcomes, sender)
        post("self:inbox", b"stays", others, sender)
        place.activation.waiting("gone")
        place.activation.waiting("inbox")
        (place.activation.directory / "gone.conf").unlink()
        place.hand_over(1)
        process_until(lambda: outcomes, "it has ended", sender)
        place.activation.open_gate("inbox")
        process_until(lambda: others, "the other one arrives", sender)
    assert outcomes == [-errno.ENOENT] and others == [0]
    assert "gone" not in {entry["name"] for entry in place.node.status()["endpoints"]}


def test_a_pause_goes_on(place):
    place.activation.add("fails", "exit 3")
    place.start()
    for _ in range(2):  # each pause is longer
        eventually(lambda: place.activation.about("fails")["state"] == "activatable", "it may be started")
        place.node.send("self:fails", "x", exit_code=EXIT_NO_ENDPOINT)
    before = place.activation.starts("fails")
    place.hand_over(1)
    about = place.activation.about("fails")
    assert about["starts"] == 2 and about["state"] in ("failed", "activatable")
    assert about["state"] == "activatable" or "status 3" in about["reason"]
    assert place.activation.starts("fails") == before
    eventually(lambda: place.activation.about("fails")["state"] == "activatable", "it may be started again")


@pytest.fixture(name="renewable")
def daemon_that_can_run_another(installed, tmp_path):
    """(node, install, its activation)"""
    node, install = installed
    node.stop()
    activation = Activation(node, tmp_path)
    return node, install, activation


def test_a_command_that_ends_between_two_daemons_is_missed(renewable):
    node, install, activation = renewable
    activation.add("inbox", "exec sleep 1000")
    node.start()
    outcomes = []
    with Connection(node.socket) as sender:
        post("self:inbox", b"x", outcomes, sender)
        pid = activation.pid("inbox")
        # A shell would reap it.
        install.first("--take-over", "exec python3 -c 'import os, sys; os.kill(%d, 9); os.execv(sys.argv[1], sys.argv[1:])' %s \"$@\""
                      % (pid, tool("xenmsgd")))
        renew(node)
        process_until(lambda: outcomes, "it has ended", sender)
    assert outcomes == [-errno.ENOENT]
    assert "signal 9" in activation.about("inbox")["reason"]


def test_a_command_that_has_bound_or_was_stopped_is_reaped(renewable):
    """By the next daemon, whose child it is."""
    node, _, activation = renewable
    activation.add("inbox", xenmsg(f"recv --count 2 inbox > {activation.output('inbox')}"))
    activation.add("deaf", "trap '' TERM\nwhile :; do sleep 0.05; done", timeout="1s")
    node.start()
    node.send("self:inbox", "before")
    node.send("self:deaf", "x", exit_code=EXIT_NO_ENDPOINT)
    bound, deaf = activation.pid("inbox"), activation.pid("deaf")
    renew(node)
    node.send("self:inbox", "after")
    eventually(lambda: activation.output("inbox").read_text() == "before\nafter\n", "both have come")
    have_gone(bound, deaf)
    eventually(lambda: activation.about("inbox")["state"] == "activatable", "it may be started again")


def test_a_command_that_lives_on_is_not_started_a_second_time(renewable):
    node, _, activation = renewable
    activation.add("inbox", xenmsg("recv --once --count 1 inbox") .removeprefix("exec ") + f" >> {activation.output('inbox')}\n{GATE}"
                   + xenmsg(f"recv --once --count 1 inbox >> {activation.output('inbox')}"))
    node.start()
    node.send("self:inbox", "first")
    eventually(lambda: activation.about("inbox")["state"] == "lingering", "it has unbound")
    outcomes = []
    with Connection(node.socket) as sender:
        post("self:inbox", b"second", outcomes, sender)
        activation.waiting("inbox")
        renew(node)
        assert activation.about("inbox")["state"] == "lingering"
        activation.open_gate("inbox")
        process_until(lambda: outcomes, "it has ended", sender)
    assert outcomes == [0] and activation.starts("inbox") == 1
    eventually(lambda: activation.output("inbox").read_text() == "first\nsecond\n", "both have come")
