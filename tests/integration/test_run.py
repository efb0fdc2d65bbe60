# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg run: a command in another domain, with its standard input, output, error and exit status."""

import contextlib
import os
import signal
import subprocess

import pytest

from library import Connection
from messaging import EXIT_USAGE, PATIENCE, eventually, feed, tool

LOST = 255


def serve(node, *command, options=()):
    return node.popen("listen", "--run", *options, "t", "--", *command, binds="t")


@pytest.mark.parametrize("command, status", [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 128 + 9)])
def test_the_exit_status_travels_with_all_three_streams(one, two, command, status):
    serve(two, "sh", "-c", f"cat; echo problem >&2; {command}")
    done = one.xenmsg("run", "2:t", data=b"data")
    assert (done.returncode, done.stdout, done.stderr) == (status, b"data", b"problem\n")


def test_megabytes_go_both_ways_and_on_both_outputs(one, two):
    serve(two, "sh", "-c", "tee /dev/stderr")
    data = os.urandom(5_000_001)
    done = one.xenmsg("run", "2:t", data=data, timeout=120)
    assert done.returncode == 0 and done.stdout == data and done.stderr == data


def test_a_stream_that_nobody_reads_does_not_hold_the_others(one, two):
    """The command blocks on its standard output and reads no input; what it says on standard error arrives all the same."""
    serve(two, "sh", "-c", "head -c 3000000 /dev/zero & head -c 500000 /dev/zero >&2; exec 2>&-; wait; cat >/dev/null")
    with open("/dev/zero", "rb") as endless:
        caller = one.popen("run", "2:t", stdin=endless)
        assert len(caller.stderr.read(500000)) == 500000
        read = 0
        while read < 3000000:
            read += len(caller.stdout.read(100000))
        assert caller.poll() is None


def test_the_end_of_input_is_passed_on_and_input_holds_no_end(one, two):
    serve(two, "sh", "-c", "read line; echo $line; exit 3")
    caller = one.popen("run", "2:t", stdin=subprocess.PIPE)
    feed(caller, b"word\n")
    assert caller.wait(timeout=30 * PATIENCE) == 3  # though standard input is still open
    assert caller.stdout.read() == b"word\n"
    assert one.xenmsg("run", "2:t").stdout == b"\n"  # the end of file


def test_a_script_keeps_its_input_by_n(one, two):
    serve(two, "cat")
    for option in ("-n", "--no-input"):
        script = f"while read line; do xenmsg run {option} 2:t; echo $line; done"
        done = subprocess.run([*one.within, "sh", "-c", script.replace("xenmsg", str(one.tool("xenmsg")))], input=b"1\n2\n", stdout=subprocess.PIPE,
                              env=one.environment, timeout=60 * PATIENCE, check=True)
        assert done.stdout == b"1\n2\n", done


def test_a_child_that_holds_the_outputs_does_not_hold_the_caller(one, two):
    serve(two, "sh", "-c", "sleep 1000 & echo done; exit 4")
    done = one.xenmsg("run", "2:t")
    assert (done.returncode, done.stdout) == (4, b"done\n")


def test_a_reader_that_goes_ends_the_command_as_in_a_pipe(one, two):
    serve(two, "yes")
    caller = one.popen("run", "2:t")
    assert caller.stdout.read(2) == b"y\n"
    caller.stdout.close()
    assert caller.wait(timeout=30 * PATIENCE) in (1, 128 + signal.SIGPIPE)


def test_arguments_are_passed_as_they_are_and_only_if_it_says_so(one, two):
    listener = serve(two, "printf", "[%s]", options=["--args"])
    odd = ["-v", "--", "$(id)", "a b", "", "--timeout", "ä\n"]
    done = one.xenmsg("run", "2:t", *odd)
    assert (done.returncode, done.stdout.decode()) == (0, "".join(f"[{one}]" for one in odd))
    listener.terminate()
    listener.wait(timeout=30 * PATIENCE)
    eventually(lambda: "t" not in two.endpoints(), "t is free")
    serve(two, "sh", "-c", 'printf "[$*]${XENMSG_ID:+named}"')
    done = one.xenmsg("run", "2:t", "word")
    assert (done.returncode, done.stdout, done.stderr) == (LOST, b"", b"xenmsg: run 2:t: refused: that command takes no arguments\n")
    assert one.xenmsg("run", "2:t").stdout == b"[]named"
    assert one.xenmsg("run", "2:t", "x" * 20000).returncode == EXIT_USAGE


def test_what_fails_is_255_with_the_reason(one, two):
    two.popen("listen", "plain", "--", "cat", binds="plain")
    for address, words in (("2:none", b"no such endpoint"), ("2:plain", b"isn't served by 'xenmsg listen --run'")):
        done = one.xenmsg("run", address)
        assert done.returncode == LOST and words in done.stderr and done.stderr.count(b"\n") == 1, done
    assert one.xenmsg("run").returncode == EXIT_USAGE
    assert two.xenmsg("listen", "--args", "t", "--", "cat").returncode == EXIT_USAGE
    assert two.xenmsg("listen", "--run", "t").returncode == EXIT_USAGE


def test_what_came_before_the_connection_was_lost_is_written(one, two):
    listener = serve(two, "sh", "-c", "head -c 150000 /dev/zero; echo up >&2; exec sleep 1000")
    caller = one.popen("run", "2:t", stdin=subprocess.PIPE)
    assert caller.stderr.readline() == b"up\n"  # all else is in the pipe and in the caller
    listener.terminate()
    assert len(caller.stdout.read()) >= 150000 - 65536  # but for what the pipe there held
    assert caller.wait(timeout=30 * PATIENCE) == LOST
    assert b"the listener there has ended; how the command ended can't be known" in caller.stderr.read()


@pytest.mark.parametrize("whose, why", [(0, b"the xenmsgd of this domain has ended"), (1, b"its domain, or the xenmsgd there, is gone")])
def test_why_the_connection_was_lost_is_told(one, two, whose, why):
    serve(two, "sh", "-c", "echo up; exec sleep 1000")
    caller = one.popen("run", "2:t", stdin=subprocess.PIPE)
    assert caller.stdout.readline() == b"up\n"
    (one, two)[whose].stop()
    assert caller.wait(timeout=30 * PATIENCE) == LOST
    assert why + b"; how the command ended can't be known" in caller.stderr.read()


def test_a_domain_with_many_commands_leaves_room_for_others(one, two):
    listener = two.popen_command("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", tool("xenmsg"), "listen", "--run", "t", "--", "cat",
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, binds="t")
    callers = [one.popen("run", "2:t", stdin=subprocess.PIPE) for _ in range(3)]
    eventually(lambda: [caller.poll() for caller in callers].count(LOST) == 1, "one is refused")
    assert b"from domain 1 is refused: too many are open" in listener.stderr.readline()
    assert [caller.stderr.read() for caller in callers if caller.poll() == LOST] == [b"xenmsg: run 2:t: refused: too many are open\n"]
    assert b"the stream broke behind the program there: over a limit" in one.xenmsg("connect", "2:t").stderr
    assert two.xenmsg("run", "self:t", data=b"x").stdout == b"x"
    for caller in callers:
        if caller.poll() is None:
            caller.stdin.close()
            assert caller.wait(timeout=30 * PATIENCE) == 0
    assert one.xenmsg("run", "2:t", data=b"x").stdout == b"x"


def test_who_speaks_otherwise_harms_only_himself(one, two):
    listener = serve(two, "cat")
    for data in (b"GET / HTTP/1.0\r\n\r\n", b"\1\0\6\0xrun\2\0", b"\1\0\6\0xrun\1\0" * 2, b"\3\1\1\0x",
                 b"\1\0\6\0xrun\1\0" + b"\4\1\4\0\1\0\0\0", b"\1\0\6\0xrun\1\0" + b"\6\0\1\0\0"):
        with Connection(one.socket) as conn:
            stream = conn.connect("2:t")
            assert stream >= 0
            os.write(stream, data)
            with contextlib.suppress(ConnectionResetError):
                while os.read(stream, 4096):
                    pass
            os.close(stream)
        done = one.xenmsg("run", "2:t", data=b"x")
        assert (done.returncode, done.stdout) == (0, b"x"), (data, done, listener.poll())


def test_a_server_that_leaves_its_outputs_open_is_not_waited_for(one, two):
    with Connection(two.socket) as server:
        server.listen("t")
        caller = one.popen("run", "2:t")
        stream = server.accept(20000)
        assert stream >= 0
        os.write(stream, b"\2\0\6\0xrun\1\0" + b"\3\1\5\0words" + b"\3\2\0\0" + b"\6\0\1\0\0")
        assert caller.wait(timeout=30 * PATIENCE) == LOST
        assert caller.stdout.read() == b"words" and b"breaks the protocol" in caller.stderr.read()
        os.close(stream)


def test_who_asks_for_nothing_is_broken_off(one, two):
    serve(two, "cat")
    with Connection(one.socket) as conn:
        stream = conn.connect("2:t")
        os.write(stream, b"\1\0")
        os.set_blocking(stream, True)
        with pytest.raises(ConnectionResetError):  # after 5 s
            os.read(stream, 100)
        os.close(stream)


def test_a_command_that_does_not_listen_to_sigterm_is_killed(one, two, tmp_path):
    """So is a child of one that does, when it has gone."""
    trap, child = "trap '' TERM;", f"{tmp_path}/child-"
    serve(two, "sh", "-c", f"case $XENMSG_SENDER_DOMID in 1) {trap} ;; esac; ({trap} exec sleep 1000) & "
                           f"echo $$ $! >{child}$XENMSG_SENDER_DOMID; echo up; wait")
    callers = [node.popen("run", "2:t") for node in (one, two)]
    for caller in callers:
        assert caller.stdout.readline() == b"up\n"
    for caller in callers:
        caller.kill()
        caller.wait()
    pids = [pid for domid in (1, 2) for pid in (tmp_path / f"child-{domid}").read_text().split()]
    assert len(pids) == 4
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "all are killed")
