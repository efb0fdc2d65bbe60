# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands at the limits of their process, and with standard descriptors as other programs may leave them."""

import os
import signal
import subprocess

import pytest

from installed import is_sanitized
from messaging import (EXIT_ANSWERED, EXIT_ERROR, EXIT_LIMIT, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNKNOWN, PATIENCE, eventually, open_to_others,
                       sleeps)

SHORT = (["send", "self:in", "x"], ["call", "self:up", "x"], ["connect", "self:cat"], ["run", "self:run"], ["status"], ["endpoints"],
         ["ping", "--count", "1", "self"], ["doctor"], ["peers"], ["policy", "check", "1", "in"], ["bench", "--seconds", "0.1", "self:bench"])
LASTING = (["recv", "mine"], ["serve", "mine", "--", "cat"], ["listen", "mine", "--", "cat"], ["forward", "xen:mine", "tcp:127.0.0.1:9"],
           ["publish", "mine"], ["subscribe", "self:topic"], ["watch"], ["bench", "--serve", "mine"])


@pytest.fixture(name="served")
def _served(one):
    one.popen("recv", "in", binds="in")
    one.popen("serve", "up", "--", "cat", binds="up")
    one.popen("listen", "cat", "--", "cat", binds="cat")
    one.popen("listen", "--run", "run", "--", "cat", binds="run")
    one.popen("bench", "--serve", binds="bench")
    return one


def shell(node, script, words):
    """Runs a command by a shell, which sets up what it finds."""
    return node.run_command("bash", "-c", script, node.tool("xenmsg"), *words)


@pytest.mark.parametrize("limit", [*range(6, 14), 16])
def test_a_lack_of_descriptors_is_called_by_its_name(served, limit):
    """Before, it was "that is no xenmsgd", and the daemon logged that memory isn't sealed; or libevent ended the command."""
    for words in SHORT:
        done = shell(served, f'ulimit -n {limit}; exec "$0" "$@"', words)
        assert done.returncode in (EXIT_OK, EXIT_ERROR, 255), (words, done)
        assert done.returncode == EXIT_OK or b"Too many open files" in done.stderr, (words, done)
        assert done.stderr.count(b"\n") <= 1 and b"[err]" not in done.stderr, (words, done)
    for words in LASTING:
        done = shell(served, f'ulimit -n {limit}; exec timeout -k 1 {0.5 * PATIENCE} "$0" "$@"', words)
        assert done.returncode == 124 or b"Too many open files" in done.stderr, (words, done)
    assert "is cut off" not in served.log.read_text(), served.log.read_text()


@pytest.mark.parametrize("limit", ["-f 0", "-c 0", "-s 256", *([] if is_sanitized() else ["-v 60000"])])
def test_commands_work_at_limits_that_they_do_not_reach(served, limit):
    for words in SHORT:
        done = shell(served, f'ulimit {limit}; exec "$0" "$@"', words)
        assert done.returncode == EXIT_OK, (words, done)


AS_OTHER = ("setpriv", "--reuid", "65534", "--clear-groups", "bash", "-c", 'ulimit -u 1; exec "$0" "$@"')


@pytest.mark.parametrize("serves, asks", [("serve mine -- cat", "call self:mine x"), ("listen mine -- cat", "connect self:mine"),
                                          ("listen --run mine -- cat", "run self:mine"), ("recv --exec cat mine", "send self:mine x")])
def test_a_lack_of_processes_is_called_by_its_name(one, serves, asks):
    open_to_others(one)
    server = one.popen_command(*AS_OTHER, one.tool("xenmsg"), *serves.split(), binds="mine", stderr=subprocess.PIPE)
    done = one.xenmsg(*asks.split())
    assert done.returncode in (EXIT_UNKNOWN, EXIT_ANSWERED, 255), done
    assert b"ulimit -u" in server.stderr.readline()


WITH_TERMINAL = (["top"], ["recv", "mine"], ["publish", "mine"], ["subscribe", "self:topic"], ["watch"], ["connect", "self:cat"],
                 ["run", "self:run"], ["send", "self:in"], ["send", "--lines", "self:in"], ["call", "self:up"], ["ping", "self"])


@pytest.mark.parametrize("words", WITH_TERMINAL, ids=" ".join)
@pytest.mark.parametrize("leads", [False, True])
def test_a_command_ends_with_its_terminal(served, words, leads):
    """Before, top went on, and took a CPU for itself; who leads the terminal's session is told by SIGHUP."""
    master, end = os.openpty()
    command = [*["setsid", "-c"] * leads, *served.command(served.tool("xenmsg"), *words)]
    process = subprocess.Popen(command, env=dict(served.environment, TERM="xterm"), stdin=end, stdout=end, stderr=end)
    served.children.append(process)
    os.close(end)
    if words == ["top"]:
        os.read(master, 1)
    eventually(lambda: sleeps(process.pid), "it waits")
    os.close(master)
    assert process.wait(timeout=30 * PATIENCE) in ([-signal.SIGHUP, EXIT_ERROR] if leads else [EXIT_OK, EXIT_ERROR])


def test_a_file_that_may_not_grow_is_an_error_and_no_death(served, tmp_path):
    for words in ["call", "self:up", "x"], ["status"], ["endpoints"]:
        done = shell(served, f'ulimit -f 0; "$0" "$@" >{tmp_path}/out', words)
        assert done.returncode == EXIT_ERROR and b"ulimit -f" in done.stderr, (words, done)


def test_no_message_is_delivered_whose_command_cannot_run(one):
    """Before, it was delivered, and recv died of SIGXFSZ."""
    receiver = one.popen_command("bash", "-c", 'ulimit -f 0; exec "$0" recv --once --exec cat mine', one.tool("xenmsg"), binds="mine",
                                 stderr=subprocess.PIPE)
    assert one.xenmsg("send", "self:mine", "x").returncode not in (EXIT_OK, EXIT_NO_ENDPOINT)
    assert receiver.wait(timeout=30 * PATIENCE) == EXIT_ERROR
    assert b"ulimit -f" in receiver.stderr.read()


@pytest.mark.parametrize("command", [["send", "--lines", "self:in"], ["send", "self:in"], ["call", "self:up"], ["connect", "self:cat"]])
def test_who_reads_a_pipe_that_does_not_block_waits_for_it(served, command):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = served.popen(*command, stdin=reading)
    os.close(reading)
    with open(f"/proc/{process.pid}/wchan", encoding="ascii") as wchan:
        eventually(lambda: wchan.seek(0) == 0 and "poll" in wchan.read() or process.poll() is not None, "it waits")
    os.write(writing, b"late\n")
    os.close(writing)
    assert process.wait(timeout=30 * PATIENCE) == EXIT_OK, process.stderr.read()


@pytest.mark.parametrize("how", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_closed_or_full_descriptors_end_in_a_status_of_the_list(served, how):
    for words in SHORT:
        done = shell(served, f'exec "$0" "$@" {how}', words)
        assert 0 <= done.returncode <= EXIT_LIMIT or done.returncode == 255, (words, done)
        assert ">" in how or done.returncode in (EXIT_OK, EXIT_ERROR), (words, done)


def test_a_command_may_complain_though_standard_error_is_closed(one):
    server = one.popen_command("bash", "-c", 'exec "$0" serve --once mine -- sh -c "echo a note >&2 || exit 9; cat" <&- >&- 2>&-',
                               one.tool("xenmsg"), binds="mine")
    done = one.xenmsg("call", "self:mine", "hello")
    assert (done.returncode, done.stdout.strip()) == (EXIT_OK, b"hello"), done.stderr
    server.terminate()
