# SPDX-License-Identifier: LGPL-2.1-or-later
"""What commands say and end with, whose domain stands still: 6, but where something was handed to it and may yet be taken."""

import pytest

from messaging import EXIT_TIMEOUT, EXIT_UNKNOWN, FAST, LOST_SOON, PATIENCE, eventually

COMMANDS = {"send": ("send", "2:inbox", "x"), "call": ("call", "2:upper", "x"), "ping": ("ping", "2", "--count", "1"),
            "connect": ("connect", "2:sort"), "run": ("run", "2:up")}
NOT_DONE = {"send": "it was not delivered", "call": "it was not delivered", "ping": "none of 1 was answered within",
            "connect": "there is no stream", "run": "the command was not run"}
NO_STATUS = 255
PATIENT = "[links]\nheartbeat = 10s\ndead-after = 30s\nsetup-timeout = 20s\n"


@pytest.fixture(name="stopping", params=[pytest.param(FAST, id="no link yet"), pytest.param(PATIENT, id="a link", marks=pytest.mark.unless(renewed="away")),
                                         pytest.param(LOST_SOON, id="a link that is away", marks=pytest.mark.unless(relayed="direct"))])
def domain_that_stands_still(request, nodes, host):
    """Domain 1, and whether what it sends is handed to domain 2 before that stands still."""
    one, two = nodes(1, 2, config=request.param).values()
    two.receiver("inbox")
    two.popen("serve", "upper", "--", "tr", "a-z", "A-Z", binds="upper")
    two.popen("listen", "sort", "--", "sort", binds="sort")
    two.popen("listen", "--run", "up", "--", "uptime", binds="up")
    if request.param != FAST:
        eventually(lambda: one.xenmsg("ping", "2", "--count", "1").returncode == 0, "they are linked")
    host.sim("pause", 2)
    if request.param == LOST_SOON:
        eventually(lambda: one.link_state(2) == "away", "it is away")
    yield one, request.param
    host.sim("unpause", 2)


def costs_an_unknown_outcome(one, words):
    """What has left lies in memory that domain 2 may still read."""
    before = one.link(2)["unacked"]
    process = one.popen(*words, "--timeout", str(2 * PATIENCE))
    eventually(lambda: one.link(2)["unacked"] > before, "it has left")
    said = process.communicate(timeout=60 * PATIENCE)[1].decode()
    assert process.returncode == EXIT_UNKNOWN and "can't be known" in said and said.count("\n") == 1, (words, said)


def test_a_domain_that_stands_still_has_one_exit_code(stopping):
    one, state = stopping
    for name, words in COMMANDS.items():
        if state == PATIENT and name == "send":  # a request waits for the word of its channel's opener
            costs_an_unknown_outcome(one, words)
            continue
        done = one.xenmsg(*words, "--timeout", "0.5") if name != "run" else one.xenmsg("run", "--timeout", "0.5", *words[1:])
        said = done.stderr.decode()
        assert said.count("\n") == 1 and "timed out" in said and words[1] in said, (name, said)
        assert done.returncode == (NO_STATUS if name == "run" else EXIT_TIMEOUT), (name, said)
        assert NOT_DONE[name] in said and ("away" in said) == (state == LOST_SOON), (name, said)


def test_what_never_left_for_it_is_never_delivered(one, two, host):
    inbox = two.receiver("inbox")
    host.sim("pause", 2)
    one.send("2:inbox", "late", "--timeout", "0.5", exit_code=EXIT_TIMEOUT)
    host.sim("unpause", 2)
    one.send("2:inbox", "after")
    assert inbox.process.stdout.readline() == b"after\n"
