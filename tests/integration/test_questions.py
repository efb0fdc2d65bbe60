# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon answers at an endpoint of its own: a question to it is a call."""

import errno
import json

import pytest

from frames import CALL, DATA, PROPERTIES, REQUEST, RESET, frame, message, open_frame, question_frames
from messaging import ALLOW_ALL, EXIT_ERROR, eventually
from protocol import Program
from renewing import renew
from test_limits import limits


def test_a_question_to_the_daemon_is_a_call(two, one):
    two.write_policy(ALLOW_ALL)
    asked = one.xenmsg("call", "self:xenmsg", "status")
    assert json.loads(asked.stdout)["domid"] == 1
    refused = one.xenmsg("call", "self:xenmsg", "nonsense")
    assert refused.returncode != 0 and b"error 22: a query is status" in refused.stderr
    assert one.xenmsg("send", "self:xenmsg", "status").returncode != 0
    refused = one.xenmsg("call", "2:xenmsg", "status")  # its own programs alone ask, and domain 0's
    assert refused.returncode != 0 and b"error 13: a domain tells only domain 0 how it is" in refused.stderr
    assert one.xenmsg("call", "2:xenmsg", "ping").stdout == b"{}"
    assert "xenmsg" not in one.endpoints() and "xenmsg" not in two.endpoints()
    bound = one.xenmsg("recv", "xenmsg")
    assert bound.returncode == EXIT_ERROR and b"xenmsgd answers there itself" in bound.stderr


@pytest.mark.unless(small="limits", renewed="counts")
def test_who_has_no_channel_left_can_ask(nodes):
    one, _ = nodes(1, 2, config=limits(max_channels=8)).values()
    with Program(one.socket) as program, Program(one.socket) as another:
        program.bind("inbox")
        for number in range(0, 20, 2):
            program.open("self:inbox", number)
        assert program.expect(RESET).u32() == errno.ENOBUFS
        assert json.loads(program.query("status"))["domid"] == 1
        assert another.ask("status")[0] == errno.ENOBUFS  # there is one more, not two
        program.close()
        eventually(lambda: another.ask("status")[0] == 0, "the channels are given back")
    with Program(one.socket) as program:  # another domain's daemon, too
        program.bind("inbox")
        for number in range(0, 20, 2):
            program.open("self:inbox", number)
        program.send_bytes(question_frames(40, "ping", to="2"))
        assert program.told(40) == (0, b"{}")


BAD = {
    "a message that is no request": (message(b"status", kind=REQUEST + 1), errno.EPROTO),
    "one that is far too long": (message(b"x" * 8192, kind=REQUEST), errno.EMSGSIZE),
    "properties that are none": (message(b"\xff" * 8, kind=REQUEST | PROPERTIES), errno.EPROTO),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_ends_its_channel_alone(one, what):
    sent, error = BAD[what]
    with Program(one.socket) as program:
        program.send_bytes(open_frame(2, "self:xenmsg", CALL) + frame(DATA, sent, channel=2))
        assert program.expect(RESET, channel=2).u32() == error
        assert program.ask(b"x" * 600)[0] == program.ask(b"status\0")[0] == errno.EINVAL
        assert json.loads(program.query("status"))["domid"] == 1


def test_many_questions_are_answered_over_a_hand_over(one):
    count = 400
    with Program(one.socket) as program:
        program.send_bytes(question_frames(2, *["status all" if i % 2 else "peers" for i in range(count)]))
        renew(one)
        error, text = program.told(2)
        assert error == 0 and json.loads(text)["domid"] == 1


def test_an_asker_that_reads_nothing_holds_nobody(one):
    with Program(one.socket) as greedy, Program(one.socket) as program:
        greedy.send_bytes(open_frame(2, "self:xenmsg", CALL))
        for _ in range(500):
            greedy.send_bytes(frame(DATA, message(b"status all", kind=REQUEST, number=1), channel=2))
        assert json.loads(program.query("status"))["domid"] == 1
        greedy.close()
        assert json.loads(program.query("status"))["domid"] == 1
