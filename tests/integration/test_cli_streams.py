# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg connect, listen, run and forward, as people and scripts use them."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from messaging import EXIT_ERROR, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_USAGE, PATIENCE, eventually, feed, sleeps
from renewing import renew


def feed_until_it_ends(process, data):
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(data)
        process.stdin.close()


@pytest.mark.parametrize("command", ["serve", "listen"])
def test_options_behind_the_command_are_the_commands_own(one, command, tmp_path):
    out = tmp_path / "out"
    more = ["--jobs", "1"] if command == "serve" else []
    one.popen(command, "t", *more, "--quiet", "--", "sh", "-c", f'echo "$@" >{out}', "--", "--jobs", "-v", "--", binds="t")
    one.xenmsg("call" if command == "serve" else "connect", "self:t")
    eventually(lambda: out.exists() and out.read_text() == "--jobs -v --\n", "the command got its own options")


def test_a_command_stands_behind_two_dashes(one):
    for words in ("serve t true", "serve t --jobs 1 true", "serve t --", "serve t", "serve -- true", "listen t cat", "listen -- cat"):
        done = one.xenmsg(*words.split())
        assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1, done
    assert one.endpoints() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_runs_until_it_is_stopped_dies_of_that_signal(one, number):
    for command in ("recv t", "serve t -- cat", "listen t -- cat", "forward xen:t tcp:127.0.0.1:9"):
        process = one.popen(*command.split(), binds="t")
        process.send_signal(number)
        assert process.wait(timeout=30 * PATIENCE) in (-number, 128 + number), command
        eventually(lambda: "t" not in one.endpoints(), "the endpoint is gone")
        assert process.stderr.read() == b"", command


@pytest.mark.parametrize("command, words", [("exit 5", b"ended with status 5"), ("kill -9 $$", b"was killed by signal 9")])
def test_listen_says_how_its_commands_ended(one, command, words):
    listener = one.popen("listen", "t", "--", "sh", "-c", command, binds="t")
    for _ in range(2):
        one.xenmsg("connect", "self:t")
        assert listener.stderr.readline() == b"xenmsg: listen on t: a stream from domain 1: the command " + words + b"\n"


@pytest.mark.parametrize("command, words", [("connect", b"there is no stream"), ("run", b"the command was not run")])
def test_a_time_out_says_what_there_is_not(one, two, command, words):
    """Before, of a daemon that had been killed, that the stream was not delivered."""
    two.popen("listen", *["--run"] * (command == "run"), "t", "--", "true", binds="t")
    assert one.xenmsg(command, "2:t").returncode == 0
    two.kill()
    done = one.xenmsg(command, "--wait", "-t", "0.3", "2:t")
    assert done.returncode in (EXIT_TIMEOUT, 255) and (words in done.stderr or b"the receiver wasn't there" in done.stderr), done


# ---- the end of a stream ----

def test_connect_ends_when_the_other_side_does(one):
    one.popen("listen", "t", "--", "sh", "-c", "read line; echo got $line", binds="t")
    connect = one.popen("connect", "self:t", stdin=subprocess.PIPE)
    feed(connect, b"one\n")
    assert connect.wait(timeout=30 * PATIENCE) == 0  # though standard input is still open
    assert connect.stdout.read() == b"got one\n" and connect.stderr.read() == b""


def test_no_part_is_taken_for_the_whole_when_connect_ends(one):
    half = "import socket, sys; s = socket.socket(fileno=0); s.recv(3); s.send(b'x'); s.shutdown(socket.SHUT_WR); print(s.recv(9))"
    listener = one.popen("listen", "t", "--", sys.executable, "-c", half, binds="t")
    connect = one.popen("connect", "self:t", stdin=subprocess.PIPE)
    feed(connect, b"one")
    assert connect.wait(timeout=30 * PATIENCE) == 0
    eventually(lambda: b"ConnectionResetError" in listener.stderr.readline(), "it was told")


def test_connect_sends_a_file_to_a_side_that_says_nothing(one, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "out", "wb") as output, open(tmp_path / "in", "rb") as file:
        listener = one.popen("listen", "t", stdout=output, binds="t")  # its standard input has ended
        assert one.popen("connect", "self:t", stdin=file).wait(timeout=30 * PATIENCE) == 0
        assert listener.wait(timeout=30 * PATIENCE) == 0
    assert (tmp_path / "out").read_bytes() == data


def test_connect_stays_open_when_the_other_side_ends_halfway(one):
    half = "import socket, sys; s = socket.socket(fileno=0); s.send(b'x'); s.shutdown(socket.SHUT_WR); data = s.recv(99, socket.MSG_WAITALL);" \
           " print(data, file=sys.stderr)"
    listener = one.popen("listen", "t", "--", sys.executable, "-c", half, binds="t")
    connect = one.popen("connect", "--keep-open", "self:t", stdin=subprocess.PIPE)
    assert connect.stdout.read() == b"x"  # it has ended
    assert connect.poll() is None
    connect.stdin.write(b"later")
    connect.stdin.close()
    assert connect.wait(timeout=30 * PATIENCE) == 0
    assert listener.stderr.readline() == b"b'later'\n"


EARLY = {"sed": ("sed", "2q"), "head": ("head", "-c", "1000000", "/dev/zero"),
         "read": ("sh", "-c", "read -r line; seq 1 $line; seq 100000"), "closes": ("sh", "-c", "echo one; exec <&-; sleep 0.2; seq 100000")}


@pytest.mark.parametrize("command", EARLY)
@pytest.mark.parametrize("keep_open", [False, True])
def test_all_that_came_before_enough_arrives_and_is_no_death(one, command, keep_open):
    """Before, what didn't fit into the socket was lost, and connect ended with 8."""
    one.popen("listen", "t", "--", *EARLY[command], binds="t")
    numbers = "".join(f"{i}\n" for i in range(1, 100001)).encode()
    expected = {"sed": b"1\n2\n", "head": bytes(1000000), "read": b"1\n" + numbers, "closes": b"one\n" + numbers}[command]
    for _ in range(3):
        done = one.xenmsg("connect", *["--keep-open"] * keep_open, "self:t", data=numbers * 10)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == expected


@pytest.fixture(name="far", params=["next", "relayed", "abroad"])
def _far(request):
    """Two domains, and how the first one calls the second."""
    if request.param == "next":
        return *request.getfixturevalue("nodes")(1, 2).values(), "2"
    if request.param == "relayed":
        request.getfixturevalue("zero")
        here, there = request.getfixturevalue("guests")(2)
        return here, there, str(there.domid)
    here, there = request.getfixturevalue("hosts")(guests=1)
    return here[1], there[1], "hostb/1"


NUMBERS = "".join(f"{i}\n" for i in range(1, 200001)).encode()


@pytest.mark.parametrize("command", ["sed", "head"])
def test_what_came_before_enough_arrives_from_far_away(far, command):
    here, there, domain = far
    there.popen("listen", "t", "--", *EARLY[command], binds="t")
    there.popen("listen", "--run", "r", "--", *EARLY[command], binds="r")
    expected = {"sed": b"1\n2\n", "head": bytes(1000000)}[command]
    for words in (["connect", f"{domain}:t"], ["connect", "--keep-open", f"{domain}:t"], ["run", f"{domain}:r"]):
        for _ in range(2):
            done = here.xenmsg(*words, data=NUMBERS * 5)
            assert (done.returncode, done.stderr, len(done.stdout)) == (0, b"", len(expected)), words
            assert done.stdout == expected


def test_run_has_the_status_of_a_command_that_reads_no_input(far):
    here, there, domain = far
    there.popen("listen", "--run", "r", "--", "sh", "-c", "head -c 1000000 /dev/zero; head -c 100000 /dev/zero >&2; exit 7", binds="r")
    for _ in range(3):
        done = here.xenmsg("run", f"{domain}:r", data=NUMBERS * 5)
        assert (done.returncode, len(done.stdout), len(done.stderr)) == (7, 1000000, 100000)


def test_a_reader_far_away_that_has_enough_ends_the_writer(far):
    here, there, domain = far
    there.popen("listen", "t", "--", "yes", binds="t")
    for words in (["connect", f"{domain}:t"], ["connect", "--keep-open", f"{domain}:t"]):
        connect = here.popen(*words, stdin=subprocess.PIPE)
        assert connect.stdout.readline() == b"y\n"
        connect.stdout.close()
        assert connect.wait(timeout=30 * PATIENCE) == 0


@pytest.mark.parametrize("renewed", ["here", "there"])
def test_what_came_before_enough_arrives_over_a_hand_over(nodes, renewed):
    """The command has read all that it wants, and writes behind the hand-over; then its reader goes on."""
    one, two = nodes(1, 2).values()
    two.popen("listen", "t", "--", "sh", "-c", "read -r line; exec <&-; echo $line; sleep 0.3; head -c 3000000 /dev/zero", binds="t")
    connect = one.popen("connect", "2:t", stdin=subprocess.PIPE)
    writer = threading.Thread(target=feed_until_it_ends, args=(connect, NUMBERS))
    writer.start()
    assert connect.stdout.readline() == b"1\n"
    for _ in range(2):
        renew({"here": one, "there": two}[renewed])
        assert len(connect.stdout.read(1000000)) == 1000000
    assert len(connect.stdout.read()) == 1000000
    writer.join()
    assert connect.wait(timeout=30 * PATIENCE) == 0, connect.stderr.read()


@pytest.mark.parametrize("keep_open", [False, True])
def test_a_reader_that_has_enough_ends_the_writer_at_the_far_end(one, keep_open):
    one.popen("listen", "t", "--", "yes", binds="t")
    connect = one.popen("connect", *["--keep-open"] * keep_open, "self:t", stdin=subprocess.PIPE)
    assert connect.stdout.readline() == b"y\n"
    connect.stdout.close()
    assert connect.wait(timeout=30 * PATIENCE) == 0  # though standard input is still open


def test_what_is_sent_arrives_though_the_answer_is_read_no_more(one):
    listener = one.popen("listen", "t", "--", "sh", "-c", "echo answer; cat >&2", binds="t")
    connect = one.popen("connect", "self:t", stdin=subprocess.PIPE)
    connect.stdout.close()
    feed(connect, b"one\n")
    assert listener.stderr.readline() == b"one\n"
    connect.stdin.write(b"last\n")
    connect.stdin.close()
    assert listener.stderr.readline() == b"last\n"
    assert connect.wait(timeout=30 * PATIENCE) == 0


def test_who_closes_without_a_word_has_not_taken_the_input(one):
    one.popen("listen", "t", "--", "true", binds="t")
    done = one.xenmsg("connect", "self:t", data=bytes(3000000))
    assert done.returncode == EXIT_UNKNOWN and b"receiver or a daemon died" not in done.stderr


def test_connect_ends_at_once_while_the_other_side_does_not_read(one):
    one.popen("listen", "t", "--", "sh", "-c", "echo up; exec sleep 1000", binds="t")
    with open("/dev/zero", "rb") as zeros:
        connect = one.popen("connect", "self:t", stdin=zeros)
    assert connect.stdout.readline() == b"up\n"
    eventually(lambda: sleeps(connect.pid), "nothing more goes")
    connect.terminate()
    assert connect.wait(timeout=5 * PATIENCE) == -signal.SIGTERM


# ---- forward ----

def test_a_place_that_cannot_be_is_refused(one):
    bad_ports = (("tcp:127.0.0.1:99999", "xen:self:x"), ("tcp:127.0.0.1:65536", "xen:self:x"), ("xen:x", "tcp:127.0.0.1:99999"),
                 ("xen:x", "tcp:127.0.0.1:0"), ("tcp:127.0.0.1:99999999999999999999999", "xen:self:x"))
    others = (("tcp:1", "xen:2:x"), ("file:x", "xen:2:x"), ("unix:", "xen:2:x"), ("xen:2:x", "xen:2:x"), ("unix:/tmp/x", "xen:x"),
              ("unix:/" + "x" * 200, "xen:2:x"))
    for places in bad_ports + others:
        done = one.xenmsg("forward", *places)
        assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1, done
        assert b" port" in done.stderr or places in others, done
    for source, target, meant in (("/run/x", "2:web", "unix:/run/x"), ("localhost:80", "2:web", "tcp:localhost:80"), ("web", "2:web", "xen:web"),
                                  ("tcp:[::1]:1", "2:web", "xen:2:web"), ("xen:web", "[::1]:80", "tcp:[::1]:80"), ("xen:web", "5:80", "xen:5:80")):
        assert f"; try {meant};".encode() in one.xenmsg("forward", source, target).stderr
    assert one.endpoints() == []


def test_which_port_was_chosen_is_told(one):
    forward = one.popen("forward", "tcp:127.0.0.1:0", "xen:self:none")
    told = re.fullmatch(r"xenmsg: forward: tcp:127.0.0.1:0 listens on port (\d+)\n", forward.stderr.readline().decode())
    with socket.create_connection(("127.0.0.1", int(told[1]))) as client:
        with contextlib.suppress(ConnectionResetError):  # nobody has bound the target
            assert client.recv(1) == b""
    assert b"xen:self:none can't be reached: no such endpoint there" in forward.stderr.readline()


def test_a_host_that_is_not_known_is_called_so(one):
    done = one.xenmsg("forward", "tcp:nobody.invalid:9", "xen:self:x")
    assert done.returncode == EXIT_ERROR
    assert done.stderr == b"xenmsg: forward: can't listen on tcp:nobody.invalid:9: no such host or service is known\n"
    forward = one.popen("forward", "tcp:127.0.0.1:0", "tcp:nobody.invalid:9")
    port = int(forward.stderr.readline().rsplit(b" ", 1)[1])
    with socket.create_connection(("127.0.0.1", port)):
        assert b"tcp:nobody.invalid:9 can't be reached: no such host or service is known" in forward.stderr.readline()
