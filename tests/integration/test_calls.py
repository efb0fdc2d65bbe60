# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls: each gets its own answer or one clear error, whatever becomes of the server, the caller and those between them."""

import errno
import os
import random
import signal
import threading

import pytest

from library import FATE_DONE, Connection, holds_nobody_for_long, program
from messaging import EXIT_ANSWERED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNKNOWN, EXIT_USAGE, FAST, PATIENCE, eventually


class Server:
    """`xenmsg serve` in the background."""

    def __init__(self, node, endpoint, *command, jobs=None):
        options = [] if jobs is None else ["--jobs", str(jobs)]
        self.process = node.popen("serve", *options, endpoint, "--", *command, binds=endpoint)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=20 * PATIENCE)
        return out, err, self.process.returncode


def echo(conn, count):
    """Answers `count` calls in a thread of its own."""
    def work():
        for _ in range(count):
            request = conn.take()
            assert request.reply(request.data) == 0
            request.free()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# ---- the command ----

@pytest.mark.parametrize("caller, server", [(1, 1), (1, 2), (2, 1), (0, 2), (2, 0)])
def test_a_call_is_answered_within_a_domain_and_across(nodes, memory, caller, server):
    both = nodes(*sorted({caller, server}))
    Server(both[server], "up", "tr", "a-z", "A-Z")
    done = both[caller].xenmsg("call", f"{server}:up", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, b"HELLO", b"")
    done = both[caller].xenmsg("call", f"{server}:up", data=b"from stdin\n")
    assert done.stdout == b"FROM STDIN\n"


def test_large_requests_and_replies_come_whole(one, two, memory, tmp_path):
    Server(two, "cat", "cat")
    data = random.Random(7).randbytes(5_000_001)
    file = tmp_path / "request"
    file.write_bytes(data)
    done = one.xenmsg("call", "--file", file, "2:cat", timeout=120)
    assert done.returncode == EXIT_OK, done.stderr
    assert done.stdout == data


def test_the_command_is_told_who_calls(here, there):
    Server(there, "who", "sh", "-c", 'echo $XENMSG_SENDER_DOMID $XENMSG_SENDER_UID $XENMSG_SENDER_PID "[${XENMSG_SENDER_NAME-unset}]"')
    domid, uid, pid, name = here.xenmsg("call", f"{there.domid}:who", "").stdout.decode().split()
    assert (domid, uid) == ("1", str(os.getuid()))
    assert int(pid) > 1
    assert name != "[unset]"


@pytest.mark.parametrize("command, says, status", [
    (["sh", "-c", "echo partial; exit 3"], "status 3", 3),
    (["sh", "-c", "exit 255"], "status 255", 255),
    (["sh", "-c", "kill -KILL $$"], "signal 9", 128 + signal.SIGKILL),
])
def test_a_command_that_fails_is_an_error_with_its_exit_status(one, command, says, status):
    server = Server(one, "fail", *command)
    done = one.xenmsg("call", "--exit-status", "self:fail", "x")
    assert (done.returncode, done.stdout) == (status, b"")
    with Connection(one.socket) as caller:
        results = []
        assert caller.call_post("self:fail", b"x", lambda _: results.append(caller.last)) == 0
        eventually(lambda: caller.wait(50) >= 0 and results, "it is answered")
        [result] = results
        assert result[:4] == (-errno.EREMOTEIO, FATE_DONE, errno.EIO, status) and result.reason and result.data is None
    done = one.xenmsg("call", "self:fail", "x")
    assert (done.returncode, done.stdout) == (EXIT_ANSWERED, b"")
    assert b"the server answered with an error: its command's exit status is %d\n" % status in done.stderr
    _, err, code = server.stop()
    assert says in err.decode() and "domain 1" in err.decode()
    assert code in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_without_an_exit_status_it_is_255_and_0_if_all_went_well(one):
    Server(one, "fine", "cat")
    done = one.xenmsg("call", "--exit-status", "self:fine", "x")
    assert (done.returncode, done.stdout) == (EXIT_OK, b"x")
    assert one.xenmsg("call", "--exit-status", "self:none", "x").returncode == 255
    assert one.xenmsg("call", "--exit-status", "--socket", "/nowhere", "self:fine", "x").returncode == 255
    assert one.xenmsg("call", "--exit-status").returncode == EXIT_USAGE
    with Connection(one.socket, binds="own") as server:
        calling = one.popen("call", "--exit-status", "self:own", "x")
        request = server.take()
        assert request.reply_error(errno.EDOM) == 0
        assert calling.wait(timeout=30 * PATIENCE) == 255
        request.free()


def test_a_command_that_can_not_be_run_is_an_error_at_the_start(one, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("not executable")
    for server in ("serve", "listen"):
        for command in ("no-such-command-here", plain, tmp_path):
            done = one.xenmsg(server, "x", "--", command)
            assert done.returncode == EXIT_USAGE and f"'{command}' can't be run" in done.stderr.decode(), done
    assert one.endpoints() == []


def test_commands_that_read_nothing_or_leave_a_child_answer(one):
    Server(one, "deaf", "sh", "-c", "echo done; exec 0<&-; (exec 2>/dev/null; sleep 1000) &")
    done = one.xenmsg("call", "self:deaf", data=b"x" * 1_000_000)
    assert (done.returncode, done.stdout) == (EXIT_OK, b"done\n")


def test_jobs_run_at_once_but_no_more_than_asked_for(one, tmp_path):
    log = tmp_path / "log"
    go = tmp_path / "go"
    script = f"echo + >>{log}; while [ ! -e {go} ]; do sleep 0.02; done; echo - >>{log}; cat"
    Server(one, "work", "sh", "-c", script, jobs=3)
    calls = [one.popen("call", "self:work", str(i)) for i in range(8)]
    eventually(lambda: log.exists() and log.read_text().count("+") == 3, "three commands run")
    go.touch()
    for i, call in enumerate(calls):
        out, err = call.communicate(timeout=60 * PATIENCE)
        assert (call.returncode, out) == (EXIT_OK, str(i).encode()), err
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert running == 0 and most == 3


# ---- what goes wrong ----

def test_a_caller_who_reads_no_replies_holds_up_nobody_for_long(nodes):
    """`xenmsg serve` gives each of its calls an outcome, and goes on."""
    node = nodes(1, config=FAST + "[limits]\nmax-message = 1M\n")[1]
    server = Server(node, "big", "sh", "-c", "head -c 1000000 /dev/zero", jobs=2)
    results = []
    with Connection(node.socket) as greedy:
        for _ in range(30):
            assert greedy.call_post("self:big", b"", lambda _: results.append(greedy.last)) == 0
        for _ in range(2):
            done = node.xenmsg("call", "--timeout", "40", "self:big")
            assert done.returncode == EXIT_OK and len(done.stdout) == 1000000, done.stderr
        eventually(lambda: greedy.wait(50) >= 0 and len(results) == 30, "each call has its outcome", timeout=60)
    refused = [(result.error, result.code) for result in results if result.error]
    assert refused and set(refused) == {(-errno.EREMOTEIO, errno.ENOBUFS)}, refused
    assert all(len(result.data) == 1000000 for result in results if not result.error)
    _, err, _ = server.stop()
    assert b"the caller doesn't read" in err


def test_a_user_with_many_sleeping_callers_holds_nobody_for_long(nodes):
    one, two = nodes(1, 2, config=FAST + "[limits]\nmax-message = 1M\n").values()
    Server(one, "big", "sh", "-c", "head -c 1000000 /dev/zero", jobs=2)

    def call():
        done = two.xenmsg("call", "--timeout", "200", "1:big", timeout=250)
        assert (done.returncode, len(done.stdout)) == (EXIT_OK, 1000000), done.stderr
    holds_nobody_for_long(call, one, "self:big", places=2)


def test_a_server_that_dies_with_a_call_is_a_lost_connection(here, there, memory):
    process = program(there, "c.bind('work'); print('bound'); r = c.take(); print('taken'); c.wait(100000); c.wait(100000)\n")
    assert process.stdout.readline() == b"bound\n"
    call = here.popen("call", f"{there.domid}:work", "x")
    assert process.stdout.readline() == b"taken\n"
    process.kill()
    _, err = call.communicate(timeout=30 * PATIENCE)
    assert call.returncode == EXIT_UNKNOWN
    assert b"can't be known" in err
    assert here.xenmsg("call", f"{there.domid}:work", "x").returncode == EXIT_NO_ENDPOINT


def test_a_reply_is_given_once_and_only_to_who_waits(one, two, memory):
    with Connection(two.socket, binds="work") as server, Connection(one.socket) as caller:
        results = []
        for text in (b"a", b"b", b"c"):
            assert caller.call_post("2:work", text, lambda _: results.append(caller.last[:3] + caller.last[5:])) == 0
        first, second, third = server.take(), server.take(), server.take()
        assert third.reply(b"C") == 0
        assert third.reply(b"C") == -errno.EALREADY
        assert third.reply_error(errno.EIO) == -errno.EALREADY
        assert first.reply_error(0) == -errno.EINVAL
        assert first.reply_error(65536) == -errno.EINVAL
        assert first.reply_error(60000, b"and why") == 0
        second.free()
        eventually(lambda: caller.wait(50) >= 0 and len(results) == 3, "all are answered")
        answered = -errno.EREMOTEIO, FATE_DONE
        assert results == [(0, FATE_DONE, 0, b"C"), (*answered, 60000, b"and why"), (*answered, errno.ECANCELED, None)]
        assert caller.post("2:work", b"no call", lambda _: None) == 0
        caller.wait(0)
        message = server.take()
        assert not message.wants_reply()
        assert message.reply(b"x") == -errno.EINVAL
        message.free()
        first.free()
        third.free()


@pytest.mark.parametrize("size", [10, 60_000])
def test_a_server_that_answers_and_leaves_has_answered(one, two, size):
    # Together more than the link holds, so some of it waits in the daemons when the server goes.
    callers = [Connection(one.socket) for _ in range(8)]
    results = []
    with Connection(two.socket, binds="once") as server:
        for caller in callers:
            assert caller.call_post("2:once", b"x", results.append) == 0
        for _ in callers:
            request = server.take()
            assert request.reply(b"y" * size) == 0
            request.free()
        server.wait(0)
    for number, caller in enumerate(callers):
        eventually(lambda: caller.wait(50) >= 0 and len(results) > number,  # pylint: disable=cell-var-from-loop
                   "it is answered")
        caller.close()
    assert results == [b"y" * size] * len(callers)


def test_replies_beyond_the_limit(nodes):
    small = nodes(1, config=FAST + "[limits]\nmax-message = 64K\n")[1]
    with Connection(small.socket, binds="work") as server, Connection(small.socket) as caller:
        results = []
        caller.call_post("self:work", b"x", results.append)
        request = server.take()
        assert request.reply(b"x" * 65537) == -errno.EMSGSIZE
        assert request.wants_reply()
        assert request.reply(b"x" * 65536) == 0
        request.free()
        eventually(lambda: server.wait(0) >= 0 and caller.wait(50) >= 0 and results, "it is answered")
        assert len(results[0]) == 65536
        assert caller.call("self:work", b"x" * 65537) == -errno.EMSGSIZE


# ---- many ----

def test_thousands_of_calls_at_once_are_answered_in_any_order(here, there, memory):
    address = f"{there.domid}:work"
    count = 3000
    with Connection(there.socket, binds="work") as server, Connection(here.socket) as caller:
        answers, requests = {}, []

        def post(i):
            return caller.call_post(address, b"%d" % i, lambda result: answers.setdefault(i, []).append(result))
        i = 0
        while i < count or len(requests) < count:
            if i < count:
                result = post(i)
                assert result in (0, -errno.EAGAIN)
                i += result == 0
            caller.wait(0)
            request = server.take(0 if i < count else 100)
            if not isinstance(request, int):
                requests.append(request)
        assert not answers
        random.Random(3).shuffle(requests)
        for request in requests:
            assert request.reply(b"<" + request.data + b">") == 0
            request.free()

        def all_are_answered():
            server.wait(0)
            caller.wait(20)
            return len(answers) == count
        eventually(all_are_answered, "all are answered", timeout=60)
        assert all(answers[n] == [b"<%d>" % n] for n in range(count))


def test_large_replies_wait_for_who_reads_late_and_hold_nobody(one, two, memory):
    data = random.Random(1).randbytes(200_000)
    with Connection(two.socket, binds="work") as server, Connection(one.socket) as lazy, Connection(one.socket) as other:
        results = []
        for _ in range(100):
            assert lazy.call_post("2:work", b"x", results.append) == 0
        for _ in range(100):
            request = server.take()
            assert request.reply(data) == 0
            request.free()
        thread = echo(server, 1)
        assert other.call("2:work", b"quick") == b"quick"
        thread.join()

        def all_have_come():
            server.wait(0)
            lazy.wait(20)
            return len(results) == 100
        eventually(all_have_come, "all have come", timeout=60)
        assert all(result == data for result in results)
