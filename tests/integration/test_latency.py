# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long messages and calls to an endpoint took, as status and metrics tell it: from when its daemon had them."""

import errno
import shutil
import subprocess
import time

import pytest

from library import TOPIC, Connection
from messaging import PATIENCE, eventually
from renewing import process_until, renew
from test_activation import GATE, with_activations, xenmsg  # the fixture `started`  # noqa: F401  pylint: disable=unused-import
from test_calls import Server
from test_status import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import

HELD = 0.3  # seconds for which something is kept waiting, at least


def endpoint_of(node, name="inbox"):
    found, = (endpoint for endpoint in node.status()["endpoints"] if endpoint["name"] == name)
    return found


def count_of(node, what, name="inbox"):
    return (endpoint_of(node, name)[what] or {"count": 0})["count"]


def hold():
    """Lets the time pass that is to be found in the histogram."""
    until = time.monotonic() + HELD
    while time.monotonic() < until:
        time.sleep(HELD / 10)


def up_to(durations, seconds):
    return max(bucket["count"] for bucket in durations["buckets"] if bucket["up_to_us"] <= seconds * 1e6)


def receive_all(connection, count):
    for _ in range(count):
        assert not isinstance(connection.receive(), int)


@pytest.mark.usefixtures("memory")
def test_a_message_is_measured_until_it_was_taken(here, there, valid):
    with Connection(here.socket) as source, Connection(there.socket, binds="inbox") as target:
        assert endpoint_of(there)["taken"] is None
        ended = []
        for _ in range(5):
            assert source.post(f"{there.domid}:inbox", b"x" * 100, ended.append) == 0
        source.wait(0)
        eventually(lambda: endpoint_of(there)["messages"] == 5, "all have come")
        hold()
        receive_all(target, 5)
        process_until(lambda: len(ended) == 5, "all are delivered", source, target)
        taken = endpoint_of(there)["taken"]
        assert ended == [0] * 5 and taken["count"] == 1, "of a channel one at a time"
        assert taken["sum_us"] >= HELD * 1e6 and up_to(taken, HELD) == 0
        assert up_to(taken, 60) == 1
        assert endpoint_of(there)["answered"] is None
        valid(there.status())


@pytest.mark.usefixtures("memory")
def test_a_call_is_measured_until_its_own_answer(here, there, valid):
    address = f"{there.domid}:inbox"
    with Connection(here.socket) as source, Connection(there.socket, binds="inbox") as server:
        answers, calls = [], []
        for text in (b"slow", b"quick", b"quick too"):
            assert source.call_post(address, text, answers.append) == 0
            calls.append(server.take())
        for call in calls[1:]:
            assert call.reply(b"answer to " + call.data) == 0
        process_until(lambda: len(answers) == 2, "two answers", source, server)
        assert endpoint_of(there)["answered"] is None, "the slow one is measured"
        hold()
        assert calls[0].reply(b"answer to slow") == 0
        process_until(lambda: len(answers) == 3, "the third answer", source, server)
        answered = endpoint_of(there)["answered"]
        assert answers == [b"answer to quick", b"answer to quick too", b"answer to slow"]
        assert answered["count"] == 1 and answered["sum_us"] >= HELD * 1e6 and up_to(answered, HELD) == 0
        assert source.call_post(address, b"next", answers.append) == 0
        call = server.take()
        assert call.reply_error(5) == 0
        process_until(lambda: len(answers) == 4, "an error answers, too", source, server)
        assert count_of(there, "answered") == 2
        assert count_of(there, "taken") >= 2
        valid(there.status())


def test_a_call_that_its_caller_gives_up_is_counted(one, two):
    with Connection(one.socket) as source, Connection(two.socket, binds="inbox") as server:
        answers = []
        assert source.post("2:inbox", b"hello", lambda result: None) == 0
        receive_all(server, 1)
        process_until(lambda: count_of(two, "taken") == 1, "the link is there", source, server)
        timeout_ms = int(1000 * PATIENCE)  # enough to come there
        assert source.call_post("2:inbox", b"taken", answers.append, timeout_ms=timeout_ms) == 0
        process_until(lambda: endpoint_of(two)["messages"] == 2, "the call has come", source)
        call = server.take()
        process_until(lambda: answers, "the call is given up", source)
        process_until(lambda: count_of(two, "answered") == 1, "it is counted", source, server)
        assert answers == [-errno.ETIMEDOUT] and up_to(endpoint_of(two)["answered"], HELD / 2) == 0
        call.free()
        # One that nobody has taken is withdrawn from the ring.
        assert source.call_post("2:inbox", b"never taken", answers.append, timeout_ms=timeout_ms) == 0
        process_until(lambda: len(answers) == 2, "the second one is given up", source)
        process_until(lambda: count_of(two, "answered") == 2, "it is counted", source, server)
        assert up_to(endpoint_of(two)["answered"], HELD / 2) == 0


def test_the_end_of_a_server_leaves_the_next_call_measured(one):
    with Connection(one.socket) as source:
        answers = []
        for upto in (1, 2):
            with Connection(one.socket) as server:
                assert server.bind_next("inbox") == 0
                assert source.call_post("self:inbox", b"lost", answers.append) == 0
                server.take()
            process_until(lambda: len(answers) == upto, "the call is lost", source)
        with Connection(one.socket) as server:
            assert server.bind_next("inbox") == 0
            assert source.call_post("self:inbox", b"answered", answers.append) == 0
            assert server.take().reply(b"yes") == 0
            process_until(lambda: len(answers) == 3, "the answer", source, server)
            assert answers[2] == b"yes" and count_of(one, "answered") == 1


def test_what_is_published_is_not_measured(one):
    with Connection(one.socket) as publisher, Connection(one.socket) as subscriber:
        assert publisher.bind("inbox", TOPIC) == 0
        assert subscriber.subscribe("self:inbox") == 0
        assert publisher.send("self:inbox", b"news") == 0
        eventually(lambda: subscriber.receive().data == b"news", "the news")
        endpoint = endpoint_of(one)
        assert endpoint["taken"] is None and endpoint["answered"] is None and endpoint["messages"] == 1


def test_they_are_those_of_the_daemon_before_too(one):
    with Connection(one.socket) as source, Connection(one.socket, binds="inbox") as target:
        ended = []

        def goes(count):
            assert source.post("self:inbox", b"x", ended.append) == 0
            source.wait(0)
            receive_all(target, 1)
            process_until(lambda: len(ended) == count, "it is delivered", source, target)
        goes(1)
        assert count_of(one, "taken") == 1
        renew(one)
        assert count_of(one, "taken") == 1 and endpoint_of(one)["messages"] == 1
        goes(2)
        assert count_of(one, "taken") == 2 and ended == [0, 0]


def test_what_waits_for_its_program_is_measured_with_its_start(started):
    activation, one, _ = started(up=GATE + xenmsg("serve up -- cat"))
    caller = one.popen("call", "self:up", "hello")
    activation.waiting("up")
    hold()
    activation.open_gate("up")
    assert caller.wait(30 * PATIENCE) == 0
    for what in ("taken", "answered"):
        eventually(lambda: count_of(one, what, "up") == 1, what)  # pylint: disable=cell-var-from-loop
        assert up_to(endpoint_of(one, "up")[what], HELD) == 0


def test_metrics_have_the_histograms(one, two):
    server = Server(two, "inbox", "cat")
    assert one.xenmsg("call", "2:inbox", "hello").returncode == 0
    eventually(lambda: count_of(two, "answered") and count_of(two, "taken"), "both are counted")
    text = two.xenmsg("status", "--metrics").stdout.decode()
    server.stop()
    for name in ("taken", "answered"):
        lines = [line for line in text.splitlines() if line.startswith(f"xenmsg_endpoint_{name}_seconds")]
        bounds = [float(line.split('le="')[1].split('"')[0]) for line in lines if "_bucket" in line]
        assert bounds == sorted(bounds) and bounds[0] == 25e-6 and bounds[-2:] == [60.0, float("inf")]
        assert lines[-1] == f'xenmsg_endpoint_{name}_seconds_count{{endpoint="inbox"}} 1'
        assert f"# TYPE xenmsg_endpoint_{name}_seconds histogram" in text
        assert 0 < float(lines[-2].split()[1]) < 60
    if shutil.which("promtool"):
        linted = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
        assert linted.returncode == 0 and not linted.stderr, linted.stderr.decode()
