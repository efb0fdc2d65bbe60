# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever types the wrong word is told the right one: each command for each kind of endpoint, options, and words of other tools."""

import itertools
import subprocess

import pytest

from frames import BIND, CALLS, MESSAGES, bind_payload
from messaging import EXIT_ERROR, EXIT_OK, EXIT_UNKNOWN, EXIT_USAGE, eventually, given_time
from protocol import Program

SERVERS = {"recv": ["recv", "x"], "serve": ["serve", "x", "--", "cat"], "listen": ["listen", "x"],
           "listen, each": ["listen", "x", "--", "sh", "-c", "exec sleep 1000"], "listen --run": ["listen", "--run", "x", "--", "cat"]}
CLIENTS = {"send": ["send", "x"], "call": ["call", "x"], "connect": ["connect"], "run": ["run"]}
TO_SEND, TO_CALL, TO_CONNECT = (f"that endpoint takes {kind}s: xenmsg {verb} {{}}:x" for kind, verb in (
    ("message", "send"), ("call", "call"), ("stream", "connect")))
# What is said to those that don't fit each other, by the domain, and the exit code.
WRONG = {
    ("send", "serve"): (TO_CALL, EXIT_ERROR),
    ("send", "listen"): (TO_CONNECT, EXIT_ERROR),
    ("call", "recv"): (TO_SEND, EXIT_ERROR),
    ("call", "listen"): (TO_CONNECT, EXIT_ERROR),
    ("connect", "recv"): (TO_SEND, EXIT_ERROR),
    ("connect", "serve"): (TO_CALL, EXIT_ERROR),
    ("connect", "listen --run"): ("a server of 'xenmsg run' does if something else calls it", EXIT_UNKNOWN),
    ("run", "recv"): (TO_SEND, 255),
    ("run", "serve"): (TO_CALL, 255),
    ("run", "listen"): ("'xenmsg listen' without --run serves that endpoint; try xenmsg connect", 255),
    ("run", "listen, each"): ("If a plain 'xenmsg listen' serves it: xenmsg connect {}:x", 255),
}
WRONG |= {(client, other): WRONG[client, "listen"] for client in ("send", "call") for other in ("listen, each", "listen --run")}

RIGHT = {("send", "recv"), ("call", "serve"), ("connect", "listen"), ("connect", "listen, each"), ("run", "listen --run")}


def test_each_verb_is_tried_with_each_server():
    assert WRONG.keys() | RIGHT == set(itertools.product(CLIENTS, SERVERS))


@pytest.mark.parametrize("server", SERVERS)
def test_the_wrong_verb_names_the_right_one(one, two, server):
    serving = two.popen(*SERVERS[server], stdin=subprocess.PIPE, binds="x")
    eventually(lambda: "x" in [entry["name"] for entry in one.json("endpoints", "2")], "its kind is known")
    tried = [(*CLIENTS[client], *WRONG[client, server]) for client in CLIENTS if (client, server) in WRONG]
    for (word, *rest, said, code), (node, domain) in itertools.product(tried, ((one, "2"), (two, "self"))):
        said = said.format(domain)

        def tries(seconds):
            # pylint: disable=cell-var-from-loop
            done = node.xenmsg(word, *(["-t", seconds] if word == "run" else []), f"{domain}:x", *rest)
            return (word != "run" or said in done.stderr.decode()) and done  # else there was no time to connect
        done = given_time(tries, 1)
        assert done.returncode == code and said in done.stderr.decode() and done.stderr.count(b"\n") == 1, (said, done)
        if server == "listen" and word == "run":  # it takes one stream, and it was that
            serving.wait(timeout=60)
            serving = two.popen(*SERVERS[server], stdin=subprocess.PIPE, binds="x")


def test_where_several_kinds_are_taken_all_verbs_are_named(one, two):
    with Program(two.socket) as program:
        assert program.request(BIND, bind_payload("x", MESSAGES | CALLS), 1)[0] == 0
        eventually(lambda: "x" in [entry["name"] for entry in one.json("endpoints", "2")], "it is seen")
        said = one.xenmsg("connect", "2:x").stderr.decode()
        assert "that endpoint takes messages and calls: xenmsg send or call 2:x" in said and said.count("\n") == 1


def test_who_says_nothing_to_a_run_server_is_broken_off(one):
    """At a terminal nothing comes, and nothing ends."""
    one.popen("listen", "--run", "x", "--", "cat", binds="x")
    silent = one.popen("connect", "self:x", stdin=subprocess.PIPE)
    assert silent.wait(timeout=60) == EXIT_UNKNOWN
    assert b"a server of 'xenmsg run' does if something else calls it" in silent.stderr.read()


def test_xensim_names_what_was_meant(host):
    for typed, meant in (
            ("statr", "did you mean 'start'?"), ("ls", "did you mean 'list'?"), ("save 1", "did you mean 'suspend'?"),
            ("restore 1", "did you mean 'resume'?"), ("shutdwon 1", "did you mean 'shutdown'?"), ("console 1", "did you mean 'exec'?"),
            ("list --jsno", "did you mean '--json'?"), ("create --nmae x", "did you mean '--name'?"),
            ("start --domans 2", "did you mean '--domains'?"), ("run --domians=2 -- true", "did you mean '--domains'?"),
            ("exec 1 ls", "usage: xensim exec"), ("fault lose-evnet 1", "did you mean 'lose-event'?"), ("zzzzzz", "unknown command 'zzzzzz'")):
        done = host.sim(*typed.split(), check=False)
        assert done.returncode == EXIT_USAGE and meant in done.stderr and done.stderr.count("\n") == 1, done


def test_xensim_leaves_the_options_of_others_alone(host):
    done = host.run(1, "echo", "--domians")
    assert (done.returncode, done.stdout) == (EXIT_OK, "--domians\n")
