# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg trace: what becomes of messages, calls and streams, step by step, as each daemon on the way sees it."""

import errno
import json
import os
import re
import subprocess
import threading

import pytest

from frames import RELAYS
from library import TOPIC, Connection
from messaging import EXIT_DENIED, EXIT_ERROR, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE, eventually, given_time, stopped, tool
from polling import readable
from protocol import Program
from test_calls import Server
from test_cli_json import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from test_policy import rule
from test_shared import SHARED
from test_sight import settings
from test_views import NOBODY, As
from renewing import renew

ONLY_CALLS = 2


class Trace:
    """A `xenmsg trace` that has begun."""

    def __init__(self, node, *words):
        self.seen = []
        self.process = node.popen_command("timeout", str(60 * PATIENCE), tool("xenmsg"), "trace", "--json", *words, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE)
        assert b"from now on" in self.process.stderr.readline()

    def until(self, step, **fields):
        """The steps up to one that is so."""
        wanted = {"step": step, **fields}
        while not self.seen or any(self.seen[-1].get(field) != value for field, value in wanted.items()):
            line = self.process.stdout.readline()
            assert line, (wanted, self.seen)
            self.seen.append(json.loads(line))
        seen, self.seen = self.seen, []
        return seen


def told(steps, back=False):
    """What a trace says in one direction: the step and where, without a program's number."""
    return [(step["step"], step["where"] if step["where"].startswith("domain") else step["where"].split()[0])
            for step in steps if step["back"] == back]


def id_of(steps):
    """The one name that all of them have."""
    name, = {step["id"] for step in steps}
    return name


@pytest.mark.unless(relayed="direct")
def test_both_daemons_tell_the_steps_of_a_message_by_one_name(one, two, valid):
    two.receiver("inbox")
    one.send("2:inbox", "first")  # so that the link is up
    here, there = Trace(one, "2:inbox"), Trace(two, "inbox")
    one.send("2:inbox", "hello")
    sent, received = here.until("finished"), there.until("finished")
    assert told(sent) == [("opened", "domain 2"), ("came", "program"), ("sent", "domain 2"), ("taken", "domain 2"), ("finished", "program")]
    assert told(received) == [("opened", "program"), ("came", "domain 1"), ("sent", "program"), ("taken", "program"), ("finished", "domain 1")]
    assert id_of(sent) == id_of(received) and id_of(sent).startswith("1.") and {step["domid"] for step in received} == {2}
    assert [step.get("end") for step in sent] == [step.get("end") for step in received] == [None, 24, 24, 24, None]
    assert {step["address"] for step in sent + received} == {"2:inbox"} and {step["kind"] for step in sent} == {"message"}
    times = [step["time"] for step in sent]
    assert times == sorted(times) and sent[0]["time"] <= received[0]["time"] <= received[3]["time"] <= sent[3]["time"]
    valid("trace", [json.dumps(step) for step in sent + received])


@pytest.mark.unless(relayed="direct")
def test_a_call_that_has_its_answer_ends_without_an_error(one, two):
    two.popen("serve", "up", "--", "tr", "a-z", "A-Z")
    eventually(lambda: "up" in two.endpoints(), "it is bound")
    assert one.xenmsg("call", "2:up", "first").stdout == b"FIRST"
    here, there = Trace(one, "2:up"), Trace(two, "up")
    assert one.xenmsg("call", "2:up", "word").stdout == b"WORD"
    for trace, where in ((here, "domain 2"), (there, "program")):
        steps = trace.until("finished", back=True)
        assert told(steps, back=True)[-1] == ("finished", where), steps
        assert {step.get("error") for step in steps} == {None} and "ended" not in {step["step"] for step in steps}, steps


def test_three_daemons_tell_what_domain_0_relays_by_one_name(zero, guests):
    sender, receiver = guests(2)
    receiver.receiver("inbox")
    address = f"{receiver.domid}:inbox"
    sender.send(address, "first")
    traces = [Trace(node, address) for node in (sender, zero, receiver)]
    sender.send(address, "hello")
    here, between, there = (trace.until("finished") for trace in traces)
    assert told(here)[:4] == [("opened", "domain 0"), ("came", "program"), ("sent", "domain 0"), ("taken", "domain 0")]
    assert told(between) == [("opened", f"domain {receiver.domid}"), ("came", f"domain {sender.domid}"), ("sent", f"domain {receiver.domid}"),
                             ("taken", f"domain {receiver.domid}"), ("finished", f"domain {sender.domid}")]
    assert told(there)[:4] == [("opened", "program"), ("came", "domain 0"), ("sent", "program"), ("taken", "program")]
    assert id_of(here + between + there).startswith(f"{sender.domid}.")
    assert {step["address"] for step in here + between + there} == {address}


@pytest.mark.unless(relayed="direct", renewed="counts")
def test_domain_0_traces_what_its_guests_see(nodes):
    zero, one, two = nodes(0, 1, 2, config=settings("full")).values()
    two.receiver("inbox")
    one.send("2:inbox", "first")
    trace = Trace(zero, "--domains", "1,dom2", "2:inbox")
    for _ in range(2):
        one.send("2:inbox", "hello")
        steps = []
        while {step["domid"] for step in steps if step["step"] == "taken"} != {1, 2}:
            steps += trace.until("taken")
        name, = {step["id"] for step in steps if step["step"] == "taken"}
        for domid, where in ((1, ["domain 2", "program", "domain 2"]), (2, ["program", "domain 1", "program"])):
            mine = [step for step in steps if step["domid"] == domid and step["id"] == name]
            assert [step["step"] for step in mine][:4] == ["opened", "came", "sent", "taken"]
            assert [step["where"].split()[0] if "program" in step["where"] else step["where"] for step in mine][:3] == where


@pytest.mark.unless(relayed="direct")
def test_a_guest_tells_domain_0_alone_and_only_if_it_may(nodes, peer_in):
    zero, one = nodes(0, 1, config=settings("links")).values()
    done = zero.xenmsg("trace", "--domains", "1", "*")
    assert done.returncode == EXIT_DENIED and b"host-sight = full" in done.stderr, done
    assert one.xenmsg("trace", "--domains", "0", "*").returncode == EXIT_DENIED
    for wrong in ("", "1,", ",1", "1 2", ",".join("1" * 33)):
        assert zero.xenmsg("trace", "--domains", wrong, "*").returncode == EXIT_USAGE, wrong
    assert zero.xenmsg("trace", "--domains", "0", "*").returncode == EXIT_USAGE
    assert zero.xenmsg("trace", "--domains", "77", "*").returncode == EXIT_UNREACHABLE
    peer = peer_in(2, "grant", 1, RELAYS)
    assert peer.ask("question", "trace *", 20) == f"ok {errno.EACCES}"
    assert peer.ask("close") == "ok closed"
    assert one.alive()


def test_a_guest_that_lies_does_domain_0_no_harm(nodes, peer_in, tmp_path):
    zero, = nodes(0, config=settings("full")).values()
    peer = peer_in(1, "grant", 0, RELAYS)
    for lie, code in (
            (b"", EXIT_ERROR), (b"{}", EXIT_ERROR), (b"[3]", EXIT_ERROR), (b'[{"step":7}]', EXIT_ERROR), (b"[" * 60, EXIT_ERROR),
            (b"[]x", EXIT_ERROR),
            (b'[{"step":"sent","id":"\\u001b[2J","domid":0,"end":"x","where":[],"time":{}}]', EXIT_OK)):
        (tmp_path / "lie").write_bytes(lie)
        assert peer.ask("lie", tmp_path / "lie").startswith("ok")
        done = zero.xenmsg("trace", "-n", "1", "--domains", "1", "*")
        assert done.returncode == code and len(done.stderr.splitlines()) == 1, (lie, done)
        assert b"\x1b" not in done.stdout + done.stderr and (code != EXIT_OK or b" domain 1: " in done.stdout), (lie, done)
    assert peer.ask("close") == "ok closed"


def test_hosts_tell_a_message_by_one_name(hosts):
    here, there = hosts()
    there.receiver("inbox")
    here.send("hostb/0:inbox", "first")
    sent, received = Trace(here, "hostb/0:inbox"), Trace(there, "inbox")
    here.send("hostb/0:inbox", "hello")
    sent, received = sent.until("finished"), received.until("finished")
    assert [step["where"] for step in sent][:3] == ["host hostb", "program " + sent[0]["id"].split(".")[1], "host hostb"]
    assert f"hosta/{id_of(sent)}" == id_of(received) and received[1]["where"] == "host hosta"


def test_a_message_within_a_domain_is_seen_once(one):
    one.receiver("inbox")
    trace = Trace(one, "inbox")
    one.send("self:inbox", "hello")
    steps = trace.until("taken")
    assert told(steps) == [("opened", "program"), ("came", "program"), ("sent", "program"), ("taken", "program")]
    assert steps[1]["messages"] == 1 and steps[1]["where"] != steps[2]["where"] == steps[3]["where"] and steps[0]["address"] == "1:inbox"


@pytest.mark.unless(relayed="direct")
def test_a_call_is_seen_there_and_back(one, two):
    two.popen("serve", "up", "--", "tr", "a-z", "A-Z", binds="up")
    assert one.xenmsg("call", "2:up", data=b"x").stdout == b"X"
    trace = Trace(one, "2:up")
    assert one.xenmsg("call", "2:up", data=b"x").stdout == b"X"
    steps = trace.until("taken", back=True)
    assert told(steps)[:4] == [("opened", "domain 2"), ("came", "program"), ("sent", "domain 2"), ("taken", "domain 2")]
    assert told(steps, back=True) == [("came", "domain 2"), ("sent", "program"), ("taken", "program")]
    assert {step["kind"] for step in steps} == {"call"}


def test_a_stream_is_seen_both_ways(one, two):
    two.popen("listen", "echo", "--", "cat", binds="echo")
    trace = Trace(two, "echo")
    assert one.xenmsg("connect", "2:echo", data=bytes(50000)).stdout == bytes(50000)
    steps = trace.until("taken", back=True, end=50000)
    assert {step["kind"] for step in steps} == {"stream"} and id_of(steps).startswith("1.")
    assert max(step["end"] for step in steps if step["step"] == "came" and not step["back"]) == 50000


@pytest.mark.unless(relayed="direct")
def test_what_ends_a_message_is_told_with_the_rule(one, two):
    one.send("2:nothing", "x", exit_code=EXIT_NO_ENDPOINT)
    two.write_policy(rule("1", "closed", "deny"), name="00-deny.conf")
    assert two.xenmsg("policy", "reload").returncode == EXIT_OK
    here, there = Trace(one, "2:closed"), Trace(two, "1")
    one.send("2:nothing", "x", exit_code=EXIT_NO_ENDPOINT)
    step, = there.until("refused")
    assert (step["error"], step["address"], step["where"], step.get("file")) == ("ENOENT", "2:nothing", "domain 1", None)
    one.send("2:closed", "x", exit_code=EXIT_DENIED)
    step, = there.until("refused")
    assert (step["error"], os.path.basename(step["file"]), step["line"]) == ("EACCES", "00-deny.conf", 1)
    steps = here.until("ended", back=True)
    assert steps[-1]["error"] == "EACCES" and id_of(steps) == step["id"]


@pytest.mark.unless(renewed="uncertain")
def test_a_message_that_is_not_taken_in_time_is_cancelled(one):
    with Connection(one.socket) as sender, Connection(one.socket, binds="inbox") as receiver:
        trace = Trace(one, "inbox")

        def cancelled(seconds):
            assert sender.send("self:inbox", b"x", int(1000 * seconds)) == -errno.ETIMEDOUT
            steps = [step for step in trace.until("cancelled") if step["step"] != "opened"]
            return any(step["step"] == "sent" for step in steps) and steps  # else the daemon didn't get to it in time
        steps = given_time(cancelled)
        assert told(steps) == [("came", "program"), ("sent", "program"), ("cancelled", "program")]
        assert steps[-1]["end"] == steps[0]["end"]


def test_what_waits_says_behind_whom(one, two, valid):
    two.receiver("inbox")
    trace, steps = Trace(one, "2:inbox"), []
    with stopped(two.pid):  # so there can be no link yet
        for _ in range(6):
            one.popen("send", "2:inbox", "hello")
            steps += trace.until("queued")
    queued = [step for step in steps if step["step"] == "queued"]
    names = [step["id"] for step in queued]
    assert len(set(names)) == 6
    assert [(step["channels_ahead"], step["behind"]) for step in queued] == [(i, names[:min(i, 3)]) for i in range(6)]
    valid("trace", [json.dumps(step) for step in steps])
    while len([step for step in steps if step["step"] == "taken"]) < 6:
        steps += trace.until("taken")


def test_what_a_full_ring_keeps_back_says_whose_bytes_lie_there(one):
    with Connection(one.socket, binds="inbox") as receiver:
        process = one.popen_command("timeout", str(60 * PATIENCE), tool("xenmsg"), "trace", "inbox", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.readline()
        senders = [Connection(one.socket) for _ in range(20)]
        for sender in senders:  # as much as each may have under way
            assert sender.post("self:inbox", b"x" * 60000, lambda _: None) == 0
            sender.wait(0)
        line = process.stdout.readline().decode()
        while " queued for program " not in line or ", behind " not in line:  # the ring has what is taken in some ms
            line = process.stdout.readline().decode()
        name = rf"1[.]{os.getpid()}[.]1"
        assert re.search(rf", behind {name}(, {name})*( and \d+ or more others)?$", line), line
        process.terminate()
        process.communicate()
        for sender in senders:
            sender.close()


@pytest.mark.unless(relayed="direct")
def test_what_waits_for_a_link_is_told(one, two):
    two.receiver("inbox")
    trace = Trace(one, "2:inbox")
    with stopped(two.pid):  # so there can be no link yet
        one.popen("send", "2:inbox", "hello")
        steps = trace.until("queued")
    steps += trace.until("taken")
    assert told(steps) == [("opened", "domain 2"), ("came", "program"), ("queued", "domain 2"), ("sent", "domain 2"), ("taken", "domain 2")]
    assert steps[2]["bytes_queued"] == 24


def test_one_channel_or_message_is_traced_by_its_name(one, two):
    two.receiver("inbox")
    with Connection(one.socket) as sender:
        everything = Trace(one, "*")
        assert sender.send("2:inbox", b"x", 20000) == 0
        name = id_of(everything.until("taken"))
        channel, second = Trace(two, name), Trace(two, f"{name}@48")
        for _ in range(3):
            assert sender.send("2:inbox", b"x", 20000) == 0
        assert [step["end"] for step in channel.until("taken", end=72) if step["step"] == "came"] == [48, 72]
        assert [(step["step"], step["end"]) for step in second.until("taken")] == [("came", 48), ("sent", 48), ("taken", 48)]


def test_who_traces_is_an_administrator(one):
    error, text = As(NOBODY).refused(one, "trace *")
    assert error == errno.EPERM and "may trace" in text


def may_trace(node):
    with Program(node.socket) as program:
        return program.ask("trace x")[0] == 0


def test_the_sender_learns_what_its_messages_are_called(one, two):
    two.receiver("inbox")
    trace = Trace(two, "inbox")
    for options, text, ends in (((), b"x", [24]), (("--no-wait",), b"x", [24]), (("--lines",), b"a\nb\nc\n", [24, 48, 72]),
                                (("--lines", "--no-wait"), b"a\nb\n", [24, 48]), (("--lines", "-t", "30"), b"a\nb\n", [24, 48])):
        done = one.xenmsg("send", "--trace", *options, "2:inbox", data=text)
        assert done.returncode == EXIT_OK and done.stderr == b"", done
        names = done.stdout.decode().split()
        name = names[0].partition("@")[0]
        assert names == [f"{name}@{end}" for end in ends]
        assert trace.until("taken", id=name, end=ends[-1])


def test_the_receiver_learns_the_same_names(here, there, memory):
    address = f"{there.domid}:inbox"
    with Connection(here.socket) as sender, Connection(there.socket, binds="inbox") as receiver:
        trace = Trace(there, "inbox")
        outcomes = []
        for count, size in enumerate((1, 100, 10000), 1):
            assert sender.post(address, b"x" * size, outcomes.append) == 0
            name = sender.sent_name(address)
            sender.wait(0)
            assert receiver.receive().name == name
            eventually(lambda: [sender.wait(10), receiver.wait(10)] and len(outcomes) == count, "its outcome")  # pylint: disable=cell-var-from-loop
            channel, _, end = name.partition("@")
            assert trace.until("taken", id=channel, end=int(end))
        answers = []
        assert sender.call_post(address, b"question", answers.append) == 0
        name = sender.sent_name(address, ONLY_CALLS)
        call = receiver.take()
        assert call.name == name and call.reply(b"answer") == 0
        eventually(lambda: [sender.wait(10), receiver.wait(10)] and answers, "the answer")
        channel, _, end = name.partition("@")
        trace.until("taken", id=channel, end=int(end), back=False)
        call.free()


@pytest.mark.usefixtures("memory")
def test_the_acceptor_of_a_stream_learns_its_name(here, there):
    with Connection(here.socket) as opener, Connection(there.socket) as acceptor:
        assert acceptor.listen("pipe") == 0
        trace = Trace(there, "pipe")
        thread = threading.Thread(target=lambda: os.close(opener.connect(f"{there.domid}:pipe")))
        thread.start()
        fd, _, _, name = acceptor.accept_peer()
        thread.join()
        os.close(fd)
        assert id_of(trace.until("opened")) == name and name.startswith(f"{here.domid}.{os.getpid()}.")


def test_domain_0_passes_names_on_to_the_receiver(zero, guests):
    sender, receiver = guests(2)
    address = f"{receiver.domid}:inbox"
    with Connection(sender.socket) as source, Connection(receiver.socket, binds="inbox") as target:
        assert source.post(address, b"x", lambda _: None) == 0
        name = source.sent_name(address)
        source.wait(0)
        trace = Trace(zero, address)
        assert target.receive().name == name
        trace.until("taken", id=name.partition("@")[0])


def test_another_host_is_in_the_name_that_its_receiver_learns(hosts):
    here, there = hosts(guests=1)
    with Connection(here[1].socket) as source, Connection(there[1].socket, binds="inbox") as target:
        assert source.post("hostb/1:inbox", b"x", lambda _: None) == 0
        name = source.sent_name("hostb/1:inbox")
        source.wait(0)
        assert target.receive().name == f"hosta/{name}"


def test_what_has_no_name_says_so(one):
    with Connection(one.socket) as sender, Connection(one.socket) as first, Connection(one.socket) as second:
        # The second program's offsets aren't the sender's.
        assert first.bind("work", SHARED) == 0
        outcomes = []
        for text in (b"first", b"second"):
            assert sender.post("self:work", text, outcomes.append) == 0
        sender.wait(0)
        assert first.receive().name.endswith("@24")
        assert second.bind("work", SHARED) == 0
        first.close()
        message = second.receive()
        assert (message.data, message.name) == (b"second", -errno.ENODATA)
    with Connection(one.socket) as publisher, Connection(one.socket) as subscriber:
        assert publisher.bind("news", TOPIC) == 0 and subscriber.subscribe("self:news") == 0
        assert publisher.send("self:news", b"news") == 0
        message = subscriber.receive()
        while message.data != b"news":
            message = subscriber.receive()
        assert message.name == -errno.ENODATA


def test_commands_tell_the_name_of_what_came(one, two, tmp_path, valid):
    receiver = two.receiver("inbox", "--json", "--count", "1")
    sent = one.xenmsg("send", "--trace", "2:inbox", "x").stdout.decode().strip()
    out = receiver.output()
    assert valid("recv", out.decode().splitlines())[0]["id"] == sent
    receiver = two.receiver("inbox", "--format", "%{id}", "--count", "1")
    sent = one.xenmsg("send", "--trace", "2:inbox", "x").stdout.decode().strip()
    assert receiver.output().decode().strip() == sent
    trace = Trace(two, "up")
    server = Server(two, "up", "sh", "-c", "echo $XENMSG_ID")
    called = one.xenmsg("call", "2:up", "x").stdout.decode().strip()
    step = trace.until("taken", back=False)[-1]
    assert called == f"{step['id']}@{step['end']}"
    server.stop()
    told_to = tmp_path / "id"
    two.receiver("inbox", "--count", "1", "--exec", f"echo $XENMSG_ID >{told_to}")
    sent = one.xenmsg("send", "--trace", "2:inbox", "x").stdout.decode().strip()
    eventually(lambda: told_to.exists() and told_to.read_text() == f"{sent}\n", "the command has run")


def test_what_can_not_be_traced_is_told(one):
    assert one.xenmsg("trace", "nobody:x").returncode == EXIT_UNREACHABLE
    for wrong in ("1:", "a b", "", "1:in/box"):
        assert one.xenmsg("trace", wrong).returncode == EXIT_USAGE, wrong
    assert one.xenmsg("trace").returncode == EXIT_USAGE
    with Program(one.socket) as program:
        for i in range(16):
            assert program.query(f"trace t{i}") == "[]"
        error, text = program.ask("trace more")
        assert error == errno.EUSERS and b"too many" in text
    eventually(lambda: may_trace(one), "those have ended")


@pytest.mark.unless(renewed="counts")
def test_a_tracer_that_does_not_read_is_told_what_it_missed(one):
    one.receiver("inbox")
    with Program(one.socket) as tracer, Connection(one.socket) as sender:
        assert json.loads(tracer.query("trace inbox")) == []
        sent = 1500
        for _ in range(sent):
            assert sender.send("self:inbox", b"x", 20000) == 0
        steps = []
        while not steps or steps[-1]["step"] != "missed":
            steps += json.loads(tracer.query("trace inbox"))
        missed = steps.pop()["count"]
        assert missed > 1000 and steps[0]["step"] == "opened"
        # What comes behind that is told.
        assert sender.send("self:inbox", b"x", 20000) == 0
        later = []
        while not later or later[-1]["step"] != "taken":
            later += json.loads(tracer.query("trace inbox"))
        assert later[0]["step"] == "came" and later[0]["end"] == 24 * (sent + 1)
        assert missed + len(steps) == 1 + 3 * sent


def test_a_trace_ends_after_so_many_steps_and_is_for_people_too(one):
    one.receiver("inbox")
    process = one.popen_command("timeout", str(60 * PATIENCE), tool("xenmsg"), "trace", "-n", "2", "inbox", stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
    process.stderr.readline()
    one.send("self:inbox", "hello")
    out, _ = process.communicate()
    opened, came = out.decode().splitlines()
    assert process.returncode == EXIT_OK
    assert " domain 1: 1." in opened and " -> 1:inbox message opened to program " in opened
    assert "@24 -> 1:inbox message came from program " in came and came.endswith(", 24 bytes with headers, 1 message")


def test_names_stay_when_a_daemon_of_their_way_is_renewed(guests, zero):
    """The receiver's daemon and domain 0 have them of other daemons."""
    one, two = guests(2)
    two.receiver("inbox")
    address = f"{two.domid}:inbox"
    with Connection(one.socket) as sender:
        assert sender.send(address, b"first") == 0
        names = set()
        for renewed in (None, two, zero):
            if renewed:
                renew(renewed)
            traces = [Trace(node, address) for node in (one, zero, two)]
            assert sender.send(address, b"again") == 0
            for trace in traces:
                names.add(id_of(trace.until("taken")).split("@")[0])
                trace.process.terminate()
    assert len(names) == 1, names


def test_a_trace_goes_on_with_the_next_daemon(one):
    one.receiver("inbox")
    trace = Trace(one, "inbox")
    one.send("self:inbox", "hello")
    trace.until("finished")
    assert one.xenmsg("daemon", "renew").returncode == EXIT_OK
    trace.seen.clear()

    def prints():  # once it has asked the next one
        one.send("self:inbox", "hello")
        return readable([trace.process.stdout], 0.1)
    eventually(prints, "the next daemon tells")
    assert told(trace.until("taken"))[-1] == ("taken", "program")
