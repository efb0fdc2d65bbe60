# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a hand-over ends, and tells so; and connections that have hardly begun, which it doesn't."""

import contextlib
import errno
import json
import mmap
import os

import pytest

from frames import (BECOMES_STREAM, BIND, CALLS, CANCEL, DATA, HEADER, MEMORY, MESSAGES, REPLY, RESET, SHARED, STREAM, WELCOME, bind_payload, frame,
                    hello, question_frames, message, open_frame, u64)
from library import Connection
from messaging import eventually, stopped
from polling import readable
from protocol import Program, Timeout, seal
from renewing import Waiting, renew, took_over
from test_limits import limits, memory_of
from test_resume import at_work, numbered


def is_served(program):
    program.bind("late", number=7)


def moves(program):
    """Into the memory that the next daemon offers."""
    assert program.receive_from_socket().kind == MEMORY
    memory = program.descriptors[3]
    other = mmap.mmap(memory, len(program.memory))
    other[:] = program.memory[:]
    for ring in program.rings:
        ring.release()
        ring.memory, ring.words = other, memoryview(other)[ring.control:ring.control + 256].cast("I")
    program.memory.close()
    program.memory = other
    seal(memory)


@pytest.mark.parametrize("sent", [0, 5, HEADER.size, HEADER.size + 3])
def test_a_connection_with_a_part_of_its_hello_goes_on(one, sent):
    whole = hello()
    with Program(one.socket, greet=False) as program:
        program.send_bytes(whole[:sent])
        renew(one)
        program.send_bytes(whole[sent:])
        assert program.expect(WELCOME)
        is_served(program)


def test_a_connection_that_is_to_be_a_stream_goes_on(one):
    """It was welcomed, and says then to whom."""
    with Connection(one.socket, binds="inbox") as listener, Program(one.socket, greet=False) as program:
        program.send_bytes(hello(flags=BECOMES_STREAM))
        assert program.expect(WELCOME)
        renew(one)
        program.send_bytes(open_frame(0, "self:nobody", kind=STREAM))
        got = program.receive()
        assert got.channel == 0 and got.u32() == errno.ENOENT, got


@pytest.mark.parametrize("has", ["sealed", "said"])
def test_a_connection_that_has_not_rung_yet_goes_on(one, has):
    """Its memory is ready, or its first frame lies there; the daemon before had heard nothing of that."""
    with Program(one.socket, shared=True) as program:
        if has == "said":
            program.out.put(frame(BIND, bind_payload("early", MESSAGES), channel=1))
        renew(one)
        moves(program)
        if has == "sealed":
            program.out.put(frame(BIND, bind_payload("early", MESSAGES), channel=1))
        program.notify()
        got = program.expect(REPLY, channel=1)
        assert got.u32() == 0, got
        is_served(program)


@pytest.mark.parametrize("renewals", [1, 3])
def test_a_connection_that_has_not_sealed_yet_goes_on(one, monkeypatch, renewals):
    """It hasn't got as far as to look at its memory, in which nothing was then, so it gets no other."""
    monkeypatch.setattr("protocol.seal", lambda memory: None)
    with Program(one.socket, shared=True) as program:
        for _ in range(renewals):
            renew(one)
        seal(program.descriptors[0])
        is_served(program)


def test_a_connection_whose_first_channel_needs_a_link_goes_on(nodes):
    """Its OPEN is taken as late as that: the link that it asks for goes over, too."""
    one, two = nodes(1, 2).values()
    with Program(two.socket) as receiver, Program(one.socket, shared=True) as program:
        receiver.bind("inbox")
        program.out.put(open_frame(0, "2:inbox"))
        renew(one)
        moves(program)
        program.notify()
        program.data(0, message(b"hello"))
        assert receiver.expect(DATA).payload == message(b"hello")


def test_a_connection_that_seals_between_two_daemons_goes_on(installed, monkeypatch):
    node, install = installed
    monkeypatch.setattr("protocol.seal", lambda memory: None)
    with Program(node.socket, shared=True) as program:
        with install.nobody_reads():
            seal(program.descriptors[0])
        eventually(lambda: took_over(node) == 1, "the next daemon has taken over")
        moves(program)
        program.notify()
        is_served(program)


def test_a_cancel_whose_receiver_has_gone_ends_nobody_else(one):
    """The daemon still has it, since its sender hasn't answered the RESET that tells."""
    with Program(one.socket) as other, Program(one.socket) as sender:
        other.bind("other")
        receiver = Program(one.socket)
        receiver.bind("inbox")
        sender.open("self:inbox")
        sender.data(0, message(b"cancelled"))
        receiver.expect(DATA)
        sender.send_bytes(frame(CANCEL, u64(0), channel=0))
        receiver.expect(CANCEL)
        receiver.close()
        sender.expect(RESET, channel=0)
        renew(one)
        is_served(other)
        sender.query("status")


@pytest.mark.parametrize("shared", [False, True], ids=["socket", "shared"])
def test_who_cancels_again_and_again_ends_nobody_else(one, shared):
    """It has as much on one channel as it may, wants each message back many times, and reads no answer."""
    count, size = 2700, len(message(b"x"))
    with (at_work(*numbered(one, one, "own")) as goes_on, Program(one.socket, shared) as sink,
          Program(one.socket, shared) as hostile):
        sink.bind("sink")
        hostile.open("self:sink")
        with contextlib.suppress(OSError, Timeout):  # it may be cut off
            for first in range(0, count, 100):
                hostile.send_bytes(100 * frame(DATA, message(b"x"), channel=0, messages=1))
            for first in range(0, 10 * count, 100):
                hostile.send_bytes(b"".join(frame(CANCEL, u64(number % count * size + size - 8), channel=0) for number in range(first, first + 100)))
                if first % count == 0:
                    goes_on()
        renew(one)
        goes_on()
        assert "can't be taken" not in one.log.read_text()


def test_a_begun_answer_that_nobody_reads_begins_again(nodes):
    """Its next pieces would tell of another daemon."""
    many = 3000  # so that their list is more than a socket takes
    one = nodes(1, config=limits(max_endpoints=60000))[1]
    waiting = Waiting(one)
    with Program(one.socket) as owner, Program(one.socket) as slow:
        for number in range(many):
            owner.bind(f"{number:05}-{'x' * 57}")
        slow.send_bytes(question_frames(2, "status all", "status all"))
        eventually(lambda: readable([slow.socket], 0), "the answer has begun")
        renew(one)
        renew(one)
        error, text = slow.told(2)
        assert error == 0 and len(json.loads(text)["endpoints"]) > many
    waiting.come()


def test_a_question_to_another_daemon_goes_on_with_the_next_one(one, two):
    assert one.xenmsg("ping", "2").returncode == 0
    with Program(one.socket) as program:
        with stopped(two.pid):
            program.send_bytes(question_frames(4, "ping", to="2"))
            program.query("status")
            renew(one)
        assert program.told(4) == (0, b"{}")


# ---- memory that was left ----

def memory_used(node):
    return memory_of(node, os.getuid())["used"]


def goes_on(program):
    """In other memory. Returns what it had, of which it keeps the descriptor."""
    moves(program)
    had, program.descriptors[0] = program.descriptors[0], program.descriptors.pop(3)
    program.notify()
    program.query("status")
    return had


def test_memory_that_a_program_keeps_is_paid_for_after_it(one):
    """Of a session that is over, and of one that has moved to other memory."""
    with Program(one.socket, shared=True) as program:
        size = len(program.memory)
        usual = memory_used(one)
        with Program(one.socket, shared=True) as over:
            kept = os.dup(over.descriptors[0])
        eventually(lambda: memory_used(one) == usual + size, "it is charged")
        renew(one)
        had = goes_on(program)
        renew(one)
        assert memory_used(one) >= usual + 2 * size
        eventually(lambda: memory_used(one) == usual + 2 * size, "who has asked for a hand-over has gone")
        os.close(kept)
        os.close(had)
        eventually(lambda: memory_used(one) == usual, "all is given back")


def test_who_keeps_more_than_it_may_is_ended_and_nobody_else(nodes):
    """Each hand-over gives it other memory, and it keeps what it had. There is no room for that and what the two have.
    What lies with it at an endpoint that it shares goes to the next program."""
    one, kept = nodes(1, config=limits(max_memory=16 << 20))[1], []
    with (Program(one.socket) as asker, Connection(one.socket, binds="inbox") as other,
          Program(one.socket, shared=True) as program):
        assert asker.query("renew")
        kept.append(goes_on(program))
        program.bind("work", kinds=MESSAGES | CALLS | SHARED)
        outcomes = []
        assert other.post("self:work", b"goes on", outcomes.append) == 0
        eventually(lambda: other.wait(10) >= 0 and program.deliveries.ready(), "it lies there")
        assert other.bind("work", 4096) == 0
        assert asker.query("renew")
        error, text = program.goodbye()
        assert error == errno.ENOBUFS and "keeps that of before the last hand-over" in text
        assert other.post("self:inbox", b"x", lambda error: None) == 0
        assert {other.receive().data for _ in range(2)} == {b"x", b"goes on"}
        eventually(lambda: other.wait(10) >= 0 and outcomes, "it has an outcome")
        assert outcomes == [0]
    for memory in kept:
        os.close(memory)
