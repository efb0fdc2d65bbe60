# SPDX-License-Identifier: LGPL-2.1-or-later
"""Messages arrive: whole, once, in order, from who they say, whatever was started first."""

import json
import os
import random

import pytest

from frames import BIND, DATA, GOODBYE, OPEN, RESET, UNBIND, credit_frame, frame, message
from library import Connection, taking
from messaging import EXIT_LIMIT, EXIT_NO_DAEMON, EXIT_NO_ENDPOINT, EXIT_UNREACHABLE, EXIT_USAGE, eventually
from protocol import Program

LIMIT = 16 * 1024 * 1024
ENOENT, ETIMEDOUT = 2, 110


def deliver(sender, receiver, endpoint="inbox", text="hello"):
    inbox = receiver.receiver(endpoint, "--count", "1")
    sender.send(f"{receiver.domid}:{endpoint}", text)
    assert inbox.output().decode() == text + "\n"


def test_a_daemon_that_starts_later_is_found_with_no_help(nodes, one):
    two = nodes(2, start=False)[2]
    one.send("2:inbox", "too early", exit_code=EXIT_UNREACHABLE)
    two.start()
    deliver(one, two)
    deliver(two, one)


SIZES = [0, 1, 7, 8, 9, 63, 64, 4095, 4096, 65535, 65536, 65537, 1024 * 1024, LIMIT - 1, LIMIT]


def test_messages_of_every_size_arrive_whole(here, there):
    noise = random.Random(1).randbytes(LIMIT)
    with Connection(here.socket) as sender, Connection(there.socket, binds="sizes") as receiver:
        with taking(receiver, len(SIZES)) as got:
            for size in SIZES:
                assert sender.send(f"{there.domid}:sizes", noise[LIMIT - size:], 60000) == 0, size
        assert [len(each.data) for each in got] == SIZES
        assert all(each.data == noise[LIMIT - len(each.data):] for each in got)


def test_a_message_over_the_limit_is_refused_and_nothing_else(here, there, tmp_path):
    too_large = tmp_path / "large"
    too_large.write_bytes(bytes(LIMIT + 1))
    inbox = there.receiver("inbox", "--count", "1")
    error = here.send(f"{there.domid}:inbox", None, "--file", too_large, exit_code=EXIT_LIMIT)
    assert str(LIMIT) in error and "max-message" in error
    here.send(f"{there.domid}:inbox", "small")
    assert inbox.output() == b"small\n"


def test_messages_of_one_sender_keep_their_order(one, two):
    count = 5000
    lines = b"".join(b"line %d\n" % number for number in range(count))
    inbox = two.receiver("inbox", "--count", count)
    one.send("2:inbox", None, "--lines", data=lines)
    assert inbox.output() == lines


def test_a_small_message_is_not_held_up_by_a_large_one(one, two):
    ended = []
    with Connection(one.socket) as sender, Connection(two.socket, binds="large") as large, Connection(two.socket, binds="small") as small:
        with taking(large, 1), taking(small, 1):
            assert sender.post("2:large", bytes(LIMIT), lambda result: ended.append(("large", result))) == 0
            assert sender.post("2:small", bytes(64), lambda result: ended.append(("small", result))) == 0
            assert eventually(lambda: sender.wait(100) >= 0 and ended[1:] and ended, "both end", 60) == [("small", 0), ("large", 0)]


def test_programs_that_send_and_do_not_read_get_their_answers(one, two):
    """Each fills the other's inbox, and is still told what becomes of what it sends."""
    with Connection(one.socket, binds="left") as left, Connection(two.socket, binds="right") as right:
        for sender, address in ((left, "2:right"), (right, "1:left")):
            while sender.post(address, bytes(60000), lambda result: None) == 0:
                sender.wait(0)
        assert left.send("2:nobody", b"x") == -ENOENT
        assert right.send("1:nobody", b"x") == -ENOENT


def test_who_waits_for_a_send_handles_no_message_meanwhile(one):
    with Connection(one.socket) as program:
        got, ended = [], []
        assert program.handle("inbox", got.append) == 0
        assert program.send("self:inbox", b"sent", 200) == -ETIMEDOUT
        assert got == []
        assert program.post("self:inbox", b"posted", ended.append) == 0
        eventually(lambda: program.wait(100) >= 0 and ended, "the outcome")
        assert ended == [0] and got == [b"posted"]


def test_the_senders_identity_is_stamped(here, there):
    inbox = there.receiver("inbox", "--count", "1", "--json")
    with Program(here.socket) as program:  # claims to be domain 0, user 0, process 0
        stream = message(b"who am I?")
        program.open(f"{there.domid}:inbox")
        program.data(0, stream)
        program.consumed(0, len(stream))
    got = json.loads(inbox.output())
    assert got["text"] == "who am I?"
    sender = got["sender"]
    assert (sender["domid"], sender["uid"], sender["pid"]) == (1, os.getuid(), os.getpid())


LEAVE = {
    "unbind": lambda program: program.send_bytes(frame(UNBIND, b"inbox", channel=2)),
    "unbind and more": lambda program: program.send_bytes(frame(UNBIND, b"inbox", channel=2)
                                                          + frame(BIND, b"\1\0\0\0inbox", channel=3)),
    "goodbye": lambda program: program.send_bytes(frame(GOODBYE, bytes(4))),
    "close": lambda program: program.socket.close(),
}


@pytest.mark.unless(renewed="memory")
@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_what_was_released_before_its_receiver_left_is_delivered(one, leave):
    stream = message(b"the only one")
    for _ in range(20):
        with Program(one.socket) as sender, Program(one.socket, shared=True) as receiver:
            receiver.bind("inbox")
            sender.open("self:inbox")
            sender.data(0, stream)
            receiver.expect(OPEN)
            assert receiver.receive(receiver.deliveries).payload == stream  # takes and releases it
            leave(receiver)
            sender.consumed(0, len(stream))


@pytest.mark.unless(renewed="memory")
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "socket"])
def test_what_an_unbound_endpoint_never_took_ends_in_enoent(one, shared):
    """Its program unbinds before it looks at what has come: that is certain, though it was handed to it."""
    stream = message(b"the one that was taken")
    for taken in (0, len(stream)):
        with Program(one.socket) as sender, Program(one.socket, shared=shared) as receiver:
            receiver.bind("inbox")
            sender.open("self:inbox")
            if taken:
                sender.data(0, stream)
                number = receiver.expect(OPEN).channel
                assert receiver.receive(receiver.deliveries if shared else None).kind == DATA
                if not shared:
                    receiver.send_bytes(credit_frame(number, taken))
                sender.consumed(0, taken)
            sender.data(0, message(b"too late"))
            if shared:
                eventually(receiver.deliveries.ready, "it has come")
            else:
                receiver.expect(DATA)
            receiver.send_bytes(frame(UNBIND, b"inbox", channel=2))
            reset = sender.expect(RESET)
            assert (reset.u32(), reset.u64(8), reset.u64(16)) == (ENOENT, taken, taken)


def test_errors_have_their_exit_codes(one, two, tmp_path):
    one.send("2:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    one.send("self:nobody", "x", exit_code=EXIT_NO_ENDPOINT)
    one.send("77:inbox", "x", exit_code=EXIT_UNREACHABLE)
    one.send("3:inbox", "x", exit_code=EXIT_UNREACHABLE)  # a domain without a daemon
    one.send("32752:inbox", "x", exit_code=EXIT_UNREACHABLE)  # a name, for no domid is that large
    for malformed in ("inbox", ":inbox", "2:", "2:-inbox", "2:in box", "2:" + "x" * 64, "2:inbox:more"):
        one.send(malformed, "x", exit_code=EXIT_USAGE)
    one.send("2:" + "x" * 63, "x", exit_code=EXIT_NO_ENDPOINT)
    done = one.xenmsg("--socket", tmp_path / "nothing", "send", "2:inbox", "x")
    if done.returncode == EXIT_USAGE:  # options may also have to follow the command
        done = one.xenmsg("send", "--socket", tmp_path / "nothing", "2:inbox", "x")
    assert done.returncode == EXIT_NO_DAEMON, done.stderr
