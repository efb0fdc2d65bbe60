# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg send and recv, as people and scripts use them."""

import array
import errno
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import termios
import threading
import time

import pytest

from library import TOPIC, Connection
from messaging import (EXIT_ANSWERED, EXIT_ERROR, EXIT_LIMIT, EXIT_NO_DAEMON, EXIT_NO_ENDPOINT, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_USAGE,
                       PATIENCE, eventually, feed, given_time, sleeps, stopped, tool)


@pytest.fixture(name="shared", params=[True, False], ids=["shared memory", "socket"], autouse=True)
def both_kinds_of_hop(request, monkeypatch, host):
    value = "0" if request.param else "1"
    monkeypatch.setitem(host.environment, "XENMSG_NO_SHARED_MEMORY", value)
    return request.param


HOW = [], ["--raw"], ["--json"]  # how recv prints


def test_json_is_an_object_a_line_with_text_or_base64(one):
    inbox = one.receiver("inbox", "--json", "--count", "3")
    one.send("self:inbox", "grüße\n\"quoted\"")
    one.send("self:inbox", None, data=b"\xff\x00\xfe")
    one.send("self:inbox", "")
    first, second, third = [json.loads(line) for line in inbox.output().splitlines()]
    assert first["text"] == "grüße\n\"quoted\"" and "base64" not in first
    assert first["endpoint"] == "inbox" and first["size"] == len("grüße\n\"quoted\"".encode())
    assert first["sender"]["domid"] == 1 and first["sender"]["uid"] == os.getuid() and first["sender"]["pid"] > 0
    assert second["base64"] == "/wD+" and "text" not in second
    assert third["text"] == "" and third["size"] == 0


def test_raw_prints_payloads_and_nothing_else(one):
    inbox = one.receiver("inbox", "--raw", "--count", "3")
    for data in (b"one", b"\x00\xff\n", b""):
        one.send("self:inbox", None, data=data)
    assert inbox.output() == b"one\x00\xff\n"


def test_a_format_prints_who_has_sent_it_and_when(one):
    begun = time.time()
    inbox = one.receiver("inbox", "--count", "2", "--format", r"%{time}|%{address}|%{domain}|%{uid}|%{size}|%{payload}|%{host}")
    for data in (b"one\x00\xff\n", b""):
        one.send("self:inbox", None, data=data)
    first, second = inbox.output().split(b"|-\n")[:2]
    when, *rest = first.split(b"|")
    assert rest == [b"1", b"dom1", str(os.getuid()).encode(), b"6", b"one\x00\xff\n"] and second.endswith(b"|0|")
    assert int(begun) <= time.mktime(time.strptime(when.decode(), "%Y-%m-%d %H:%M:%S")) <= time.time()
    inbox = one.receiver("inbox", "--count", "1", "--json")
    one.send("self:inbox", "x")
    assert begun <= json.loads(inbox.output())["time"] <= time.time() + 0.001


def test_who_wants_to_know_more_is_told_who_sent_what(one):
    inbox = one.receiver("inbox", "--count", "1", "-v")
    one.send("self:inbox", "hello")
    out, err = inbox.process.communicate(timeout=30 * PATIENCE)
    assert out == b"hello\n" and f": 5 bytes to inbox from domain 1 (dom1), uid {os.getuid()}, pid ".encode() in err


def test_lines_arrive_in_order_without_their_newlines(one):
    inbox = one.receiver("inbox", "--json", "--count", "4")
    one.send("self:inbox", None, "--lines", data=b"one\n\nthree\nunfinished")
    assert [json.loads(line)["text"] for line in inbox.output().splitlines()] == ["one", "", "three", "unfinished"]


def test_lines_are_sent_as_they_come(one):
    inbox = one.receiver("inbox")
    sender = one.popen("send", "--lines", "self:inbox", stdin=subprocess.PIPE)
    for line in (b"one\n", b"two\n"):
        feed(sender, line)
        assert inbox.process.stdout.readline() == line
    sender.stdin.close()
    assert sender.wait(timeout=30 * PATIENCE) == 0


def test_the_first_line_that_fails_is_named(one):
    inbox = one.receiver("inbox", "--count", "2")
    done = one.xenmsg("send", "--lines", "--timeout", "20", "self:inbox", data=b"1\n2\n3\n4\n")
    assert done.returncode == 3
    assert b"line 3" in done.stderr and b"self:inbox" in done.stderr and done.stderr.count(b"\n") == 1
    assert inbox.output() == b"1\n2\n"


def test_a_file_of_every_size_arrives_whole(one, tmp_path):
    expected = b""
    with open(tmp_path / "received", "wb") as received:
        inbox = one.receiver("inbox", "--raw", "--count", "4", stdout=received)
        for size in (0, 1, 65536, 3000001):
            path = tmp_path / f"file-{size}"
            path.write_bytes(os.urandom(size))
            expected += path.read_bytes()
            one.send("self:inbox", None, "--file", path)
        assert inbox.process.wait(timeout=30 * PATIENCE) == 0
    assert (tmp_path / "received").read_bytes() == expected


def test_a_dash_is_standard_input(one):
    inbox = one.receiver("inbox", "--count", "3")
    for arguments in (["-"], ["--file", "-"], ["--lines", "-"]):
        assert one.xenmsg("send", "self:inbox", *arguments, data=b"from there").returncode == 0
    assert inbox.output() == 3 * b"from there\n"
    one.popen("serve", "echo", "--", "cat", binds="echo")
    for arguments in (["-"], ["--file", "-"]):
        assert one.xenmsg("call", "self:echo", *arguments, data=b"from there").stdout == b"from there"


def test_a_missing_file_is_named(one, tmp_path):
    done = one.xenmsg("send", "--file", tmp_path / "missing", "self:inbox")
    assert done.returncode == 1 and b"missing: No such file" in done.stderr


@pytest.mark.parametrize("how", [[], ["--lines"]])
def test_a_standard_input_that_is_closed_is_named(one, how):
    done = one.run_command("sh", "-c", 'exec "$@" <&-', "sh", tool("xenmsg"), "send", "self:inbox", *how)
    assert done.returncode == EXIT_ERROR and done.stderr == b"xenmsg: standard input: Bad file descriptor\n", done


@pytest.mark.unless(renewed="uncertain")
def test_a_time_out_is_definite(one, shared):
    inbox = one.receiver("inbox", "--count", "2")
    one.send("self:inbox", "taken")
    assert inbox.process.stdout.readline() == b"taken\n"
    with stopped(inbox.process.pid):
        if shared:
            assert "not delivered" in one.send("self:inbox", "late", "--timeout", "0.3", exit_code=EXIT_TIMEOUT)
        else:
            # What has left for a program that shares no memory can only be taken back by that program, and it sleeps.
            late = lambda seconds: one.xenmsg("send", "self:inbox", "late", "--timeout", seconds).returncode
            given_time(lambda seconds: late(seconds) == EXIT_UNKNOWN, 0.3)
    if shared:
        one.send("self:inbox", "after")
        assert inbox.output() == b"after\n"


@pytest.mark.unless(renewed="uncertain")
@pytest.mark.parametrize("command", ["send", "call"])
def test_a_time_out_is_kept_though_the_other_domain_stands_still(one, two, command):
    two.popen("serve", "inbox", "--", "cat") if command == "call" else two.receiver("inbox")
    eventually(lambda: "inbox" in two.endpoints(), "it is bound")
    assert one.xenmsg(command, "2:inbox", "taken").returncode == 0
    with stopped(two.pid):
        def late(seconds):
            started = time.monotonic()
            done = one.xenmsg(command, "2:inbox", "late", "--timeout", seconds)
            assert time.monotonic() - started >= seconds
            return (command == "call" or done.returncode != EXIT_TIMEOUT) and done  # else the machine stood still, and it hadn't left yet
        done = given_time(late, 1)
    # A call with a time-out says so to its server, if that is known to know properties: so it hadn't left yet.
    assert done.returncode == (EXIT_UNKNOWN if command == "send" else EXIT_TIMEOUT)
    assert b"timed out" in done.stderr and b"died" not in done.stderr
    assert (b"can't be known" in done.stderr) == (command == "send")


@pytest.mark.parametrize("command, to", [(command, "self:inbox") for command in ("send", "call", "connect", "subscribe", "bench")] +
                         [("ping", "self"), ("recv", "inbox")])
def test_a_time_out_is_kept_though_the_local_daemon_stands_still(one, command, to):
    with stopped(one.pid):
        started = time.monotonic()
        done = one.xenmsg(command, to, "--timeout", "1")
        took = time.monotonic() - started
    assert done.returncode == EXIT_TIMEOUT and 1 <= took < 10, took
    assert b"xenmsgd doesn't answer" in done.stderr


def test_no_wait_hands_over_and_ends(one):
    inbox = one.receiver("inbox", "--count", "10")
    for number in range(10):
        one.send("self:inbox", str(number), "--no-wait")
    assert sorted(inbox.output().split()) == [b"%d" % number for number in range(10)]


def test_no_wait_takes_what_always_fits_and_says_so_of_more(one):
    inbox = one.receiver("inbox", "--raw", "--count", "1")
    for size in (65521, 65536, 1000000):
        said = one.send("self:inbox", None, "--no-wait", data=b"x" * size, exit_code=EXIT_LIMIT)
        assert f"{size} bytes, --no-wait takes 65520" in said
    one.send("self:inbox", None, "--no-wait", data=b"x" * 65520)
    assert inbox.output() == b"x" * 65520


def test_recv_ends_with_a_time_out_of_its_own(one):
    done = one.xenmsg("recv", "--timeout", "1", "inbox")
    assert done.returncode == EXIT_TIMEOUT and b"inbox" in done.stderr and done.stdout == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_recv_prints_all_that_it_took_before_a_signal_under_load(one, number):
    inbox = one.receiver("inbox")
    outcomes, printed, sent = {}, [], 0
    reader = threading.Thread(target=lambda: printed.extend(int(line) for line in inbox.process.stdout))
    reader.start()
    with Connection(one.socket) as sender:
        for enough in (lambda: len(printed) > 1000, lambda: inbox.process.poll() is not None):
            while not enough():  # it is kept supplied without a pause
                if sent - len(outcomes) < 300:
                    sender.post("self:inbox", b"%d" % sent, lambda result, at=sent: outcomes.__setitem__(at, result))
                    sent += 1
                else:
                    sender.wait(100)
            inbox.process.send_signal(number)
        eventually(lambda: sender.wait(10) >= 0 and len(outcomes) == sent, "every message has its outcome")
    assert inbox.process.wait() in (-number, 128 + number)
    reader.join()
    assert printed == list(range(len(printed)))
    delivered = [at for at, result in outcomes.items() if result == 0]
    assert set(delivered) <= set(printed)


def test_recv_dies_of_a_signal_though_nobody_reads_its_output(one):
    for number, (how, size) in enumerate(itertools.product(HOW, (1000, 1 << 20))):
        process = one.receiver(f"inbox{number}", *how).process
        pipe = process.stdout.fileno()
        with Connection(one.socket) as sender:
            for _ in range(2 + (1 << 17) // size):
                sender.post(f"self:inbox{number}", b"x" * size, lambda _: None)

            def full():
                """As many bytes as go in, and no more for a while."""
                sender.wait(50)  # pylint: disable=cell-var-from-loop
                before = readable(pipe)  # pylint: disable=cell-var-from-loop
                sender.wait(100)  # pylint: disable=cell-var-from-loop
                return 30000 < before == readable(pipe)  # pylint: disable=cell-var-from-loop
            eventually(full, "the pipe is full")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30 * PATIENCE) in (-signal.SIGTERM, 128 + signal.SIGTERM), how


def readable(fd):
    """How many bytes lie in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def test_programs_that_are_started_get_signals_as_usual(one):
    blocked = "grep SigBlk /proc/self/status"
    inbox = one.receiver("inbox", "--count", "1", "--exec", blocked)
    one.send("self:inbox", "x")
    assert inbox.output().split()[1].strip(b"0") == b""
    listener = one.popen("listen", "status", "--", *blocked.split(), binds="status")
    assert one.xenmsg("connect", "self:status").stdout.split()[1].strip(b"0") == b""
    listener.send_signal(signal.SIGTERM)
    assert listener.wait(timeout=30 * PATIENCE) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_an_interrupted_ping_sums_up(one):
    ping = one.popen("ping", "self", "--count", "100", "--interval", "60")
    assert ping.stdout.readline().startswith(b"self: ")
    ping.send_signal(signal.SIGINT)
    assert ping.wait(timeout=30 * PATIENCE) in (-signal.SIGINT, 128 + signal.SIGINT)
    assert ping.stdout.read().startswith(b"1 of 1 answered; least ")


@pytest.mark.parametrize("how", HOW)
def test_recv_takes_nothing_that_nobody_will_read(one, how):
    inbox = one.receiver("inbox", *how)
    one.send("self:inbox", "read")
    assert b"read" in os.read(inbox.process.stdout.fileno(), 4096)
    outcomes = []
    # Between its look at the reader and the end of its look for messages it takes one.
    eventually(lambda: sleeps(inbox.process.pid), "it waits for the next message")
    with Connection(one.socket) as sender:
        with stopped(inbox.process.pid):
            sender.post("self:inbox", b"late", outcomes.append)
            inbox.process.stdout.close()
        eventually(lambda: sender.wait(100) >= 0 and outcomes, "it has an outcome")
    assert outcomes == [-errno.ENOENT]
    assert inbox.process.wait(timeout=30 * PATIENCE) == 1
    assert b"recv on inbox: nobody reads standard output any more" in inbox.process.stderr.read()
    inbox.process.stdout = None


def test_recv_ends_when_its_reader_does(one):
    inbox = one.receiver("inbox")
    inbox.process.stdout.close()
    assert inbox.process.wait(timeout=30 * PATIENCE) == 1  # though nothing comes
    inbox.process.stdout = None
    one.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)


def test_recv_tells_when_the_daemon_goes(one):
    inbox = one.receiver("inbox")
    one.kill()
    assert inbox.process.wait(timeout=30 * PATIENCE) == EXIT_NO_DAEMON
    assert b"inbox" in inbox.process.stderr.read()


def test_exec_gets_the_payload_and_who_sent_it(one, tmp_path):
    out = tmp_path / "out"
    command = f'(echo "$XENMSG_ENDPOINT $XENMSG_SENDER_DOMID $XENMSG_SENDER_UID $XENMSG_SENDER_GID"; cat; echo) >>{out}'
    inbox = one.receiver("inbox", "--count", "2", "--exec", command)
    one.send("self:inbox", "one")
    one.send("self:inbox", "$(two)")
    inbox.output()
    stamp = f"inbox 1 {os.getuid()} {os.getgid()}\n"
    assert out.read_text() == f"{stamp}one\n{stamp}$(two)\n"


def test_one_recv_takes_what_comes_to_several_endpoints(one):
    inbox = one.popen("recv", "a", "b", "c", "--format", "%{endpoint} %{payload}", "--count", "4", binds=("a", "b", "c"))
    for name in "bacb":
        one.send(f"self:{name}", name.upper())
    out, _ = inbox.communicate(timeout=30 * PATIENCE)
    assert inbox.returncode == 0 and out == b"b B\na A\nc C\nb B\n"
    done = one.xenmsg("recv", "a", "b", "--timeout", "1")  # which is for binding them, too
    assert done.returncode == EXIT_TIMEOUT and b"recv on a, b: no message" in done.stderr


def test_several_commands_run_at_a_time(one, tmp_path):
    command = f'cd "{tmp_path}"; read -r name; touch "begun-$name"; until [ -e "go-$name" ]; do sleep 0.01; done; exit "$name"'
    inbox = one.receiver("inbox", "--exec", command, "--jobs", "3", "--count", "4")
    begun = lambda: sorted(path.name[6:] for path in tmp_path.glob("begun-*"))
    for name in range(3):
        one.send("self:inbox", f"{name}")
    eventually(lambda: begun() == ["0", "1", "2"], "three have begun")
    one.send("self:inbox", None, "--no-wait", data=b"3")
    (tmp_path / "go-1").touch()
    eventually(lambda: len(begun()) == 4, "the fourth begins when one has ended")
    assert inbox.process.poll() is None
    for name in (0, 2, 3):
        (tmp_path / f"go-{name}").touch()
    _, err = inbox.process.communicate(timeout=30 * PATIENCE)
    assert inbox.process.returncode == 0
    assert sorted(re.findall(rb"ended with status (\d)", err)) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("words", [["recv"], ["recv", "--confirm"], ["subscribe"]], ids=" ".join)
def test_what_waits_for_a_command_to_end_costs_nothing(one, tmp_path, words):
    """It took a whole CPU while the next message was there: each look found it again."""
    command = f'cd "{tmp_path}"; touch begun; until [ -e go ]; do sleep 0.01; done'
    with Connection(one.socket) as sender:
        if words == ["subscribe"]:
            assert sender.bind("news", TOPIC) == 0
            reader = one.popen("subscribe", "self:news", "--exec", command, "--count", "3")
            eventually(lambda: sender.send("self:news", b"x") == 0 and (tmp_path / "begun").exists(), "it has subscribed")
            sender.send("self:news", b"x")
        else:
            reader = one.receiver("inbox", "--exec", command, "--count", "3", *words[1:]).process
            for _ in range(3):
                sender.post("self:inbox", b"x", lambda result: None)
            eventually(lambda: sender.wait(0) >= 0 and (tmp_path / "begun").exists(), "the first has begun")
        eventually(lambda: all(sleeps(reader.pid) for _ in range(50)), "it sleeps")
        (tmp_path / "go").touch()
        if words == ["subscribe"]:
            sender.send("self:news", b"x")
        eventually(lambda: sender.wait(0) >= 0 and reader.poll() is not None, "all are handled")
    assert reader.returncode == 0


def test_the_end_of_one_of_several_commands_is_told_at_once(one):
    inbox = one.receiver("inbox", "--exec", "exit 7", "--jobs", "2")
    one.send("self:inbox", "x")
    assert b"ended with status 7" in inbox.process.stderr.readline()


def test_a_failing_exec_is_told_and_goes_on(one):
    inbox = one.receiver("inbox", "--count", "2", "--exec", "exit 7")
    one.send("self:inbox", None, data=bytes(1000000))
    one.send("self:inbox", "x")
    assert inbox.process.wait(timeout=30 * PATIENCE) == 0
    assert inbox.process.stderr.read().count(b"status 7") == 2


def test_what_cannot_be_written_is_given_back(one):
    for number, (how, size) in enumerate(itertools.product(HOW, (1, 1000000))):
        inbox = f"inbox{number}"
        with open("/dev/full", "wb") as full:
            process = one.popen("recv", *how, inbox, stdout=full, binds=inbox)
        # Of what came in several frames some were released before: then it isn't for the sender to know.
        one.send(f"self:{inbox}", None, data=b"x" * size, exit_code=EXIT_ANSWERED if size < 65536 else EXIT_UNKNOWN)
        assert process.wait(timeout=30 * PATIENCE) == 1, how
        assert b"can't write to standard output: No space left" in process.stderr.read(), how


@pytest.mark.parametrize("size", [1, 1000000])
def test_what_is_confirmed_is_delivered_when_the_command_ended(one, tmp_path, size):
    seen, go = tmp_path / "seen", tmp_path / "go"
    inbox = one.receiver("inbox", "--count", "2", "--confirm", "--exec",
                         f"wc -c >{seen}; until [ -s {go} ]; do sleep 0.02; done; status=$(cat {go}); rm {go}; exit $status")
    for status, result in (("7", -errno.EREMOTEIO if size < 65536 else -errno.ECONNRESET), ("0", 0)):
        outcomes = []
        with Connection(one.socket) as sender:
            sender.post("self:inbox", b"x" * size, outcomes.append)
            eventually(lambda sender=sender: sender.wait(50) >= 0 and seen.exists() and seen.read_text().strip() == str(size),
                       "the command has it")
            assert not outcomes
            go.write_text(f"{status}\n")
            eventually(lambda sender=sender, outcomes=outcomes: sender.wait(50) >= 0 and outcomes, "it has an outcome")
        assert outcomes == [result]
        eventually(lambda: not go.exists(), "the command has seen it")
        seen.unlink()
    inbox.process.wait(timeout=30 * PATIENCE)
    assert b"ended with status 7; the message is given back" in inbox.process.stderr.read()


def test_what_is_given_back_is_told_and_what_comes_later_taken(one):
    inbox = one.receiver("inbox", "--confirm", "--exec", 'read -r line; [ "$line" = good ]')
    for _ in range(2):
        one.send("self:inbox", "good")
        assert "given it back" in one.send("self:inbox", "bad", exit_code=EXIT_ANSWERED)
        assert "line 2" in one.send("self:inbox", None, "--lines", data=b"good\nbad\n", exit_code=EXIT_ANSWERED)


def test_what_is_withdrawn_while_looked_at_is_not_delivered(one, tmp_path, shared):
    seen, go = tmp_path / "seen", tmp_path / "go"
    inbox = one.receiver("inbox", "--confirm", "--exec", f"echo >{seen}; until [ -s {go} ]; do sleep 0.02; done")

    def is_seen(seconds):
        one.send("self:inbox", "x", "--timeout", str(seconds), exit_code=EXIT_TIMEOUT)
        return seen.exists()
    given_time(is_seen, 1)
    go.write_text("0\n")
    assert b"its sender had given up" in inbox.process.stderr.readline()


@pytest.mark.unless(renewed="uncertain")
def test_what_waits_for_a_command_can_be_withdrawn(one, tmp_path, shared):
    ran, go = tmp_path / "ran", tmp_path / "go"
    inbox = one.receiver("inbox", "--count", "2", "--exec", f"cat >>{ran}; until [ -e {go} ]; do sleep 0.02; done")
    one.send("self:inbox", "first")
    one.send("self:inbox", "late", "--timeout", "0.5", exit_code=EXIT_TIMEOUT)
    go.touch()
    one.send("self:inbox", "second")
    inbox.output()
    assert ran.read_text() == "firstsecond"


def test_progress_is_for_terminals_only(one, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(2000000))
    inbox = one.receiver("inbox", "--count", "1", "--exec", "cat >/dev/null")
    with stopped(inbox.process.pid):
        master, slave = pty.openpty()
        process = subprocess.Popen(one.command(tool("xenmsg"), "send", "--file", path, "self:inbox"), env=one.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
        os.close(slave)
        seen = b""
        end = time.monotonic() + 30
        while b"1.9 MiB" not in seen and time.monotonic() < end:
            seen += os.read(master, 4096)
    assert process.wait(timeout=30 * PATIENCE) == 0
    os.close(master)
    assert process.stdout.read() == b""
    process.stdout.close()


WRONG = (
    ["send"], ["send", "self"], ["send", "self:x", "a", "b"], ["send", "--lines", "self:x", "a"],
    ["send", "--timeout", "soon", "self:x", "a"], ["send", "--timeout", "-1", "self:x", "a"],
    ["send", "--no-wait", "--timeout", "1", "self:x", "a"], ["send", "--nonsense"], ["send", "--file"],
    ["recv"], ["recv", "--jobs", "2", "a"], ["recv", "--jobs", "2", "--confirm", "--exec", "x", "a"], ["recv", "a.b"], ["recv", ""],
    ["recv", "x" * 64], ["recv", "a", "b", "a"], ["recv", "a", "b:c"], ["subscribe", "self:a", "self:a"],
    ["recv", "--count", "0", "a"], ["recv", "--count", "-1", "a"], ["recv", "--json", "--raw", "a"], ["recv", "--confirm", "a"], ["send", "self:x", "--file", ""], ["recv", "--exec", "", "a"], ["listen", "a", "--"], ["listen", "--run", "a", "--"], ["nonsense"],
    ["forward", "xen:a", "xen:self:a"], ["forward", "xen:a", "xen:1:a"], ["forward", "tcp:localhost:9", "tcp:[localhost]:9"], [])


def test_wrong_usage_is_one_line_that_points_to_help(one):
    for arguments in WRONG:
        done = one.xenmsg(*arguments)
        assert done.returncode == EXIT_USAGE and done.stdout == b"", done
        assert done.stderr.count(b"\n") == 1 and b"--help" in done.stderr and b"?;" not in done.stderr, done
