# SPDX-License-Identifier: LGPL-2.1-or-later
"""What SIGINT and SIGTERM do to a command that waits for an outcome: it settles it, says it, and dies of the signal."""

import signal
import subprocess

import pytest

from messaging import PATIENCE, eventually, feed, sleeps, stopped


@pytest.fixture(name="shared", params=[True, False], ids=["shared memory", "socket"])
def both_kinds_of_hop(request, monkeypatch, host):
    monkeypatch.setitem(host.environment, "XENMSG_NO_SHARED_MEMORY", "0" if request.param else "1")
    return request.param


def arrived(node, endpoint, count):
    """Waits until so many messages and calls have come to an endpoint, whether they are taken or not."""
    eventually(lambda: any(each["name"] == endpoint and each.get("messages", 0) >= count
                           for each in node.status()["endpoints"]), f"{count} have come to {endpoint}")


def signals(process, which):
    """A mask of proc(5), as a set of numbers."""
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith(which))
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


def died(process, number):
    """What a command has said that has died of a signal."""
    process.wait(timeout=30 * PATIENCE)  # its standard input may still be open
    said = process.communicate(timeout=30 * PATIENCE)[1].decode()
    assert process.returncode in (-number, 128 + number), (process.returncode, said)
    assert said.count("\n") == 1 and "interrupted" in said, said
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_send_is_withdrawn(one, shared, number):
    inbox = one.receiver("inbox")
    with stopped(inbox.process.pid):
        sender = one.popen("send", "self:inbox", "late")
        arrived(one, "inbox", 1)
        sender.send_signal(number)
        # What has left for a program that shares no memory can only be taken back by that program, and it sleeps.
        assert ("it was not delivered" if shared else "whether it was delivered can't be known") in died(sender, number)
    one.send("self:inbox", "after")
    if shared:
        assert inbox.process.stdout.readline() == b"after\n"


def test_an_interrupted_call_says_whether_it_was_taken(one, tmp_path):
    server = one.popen("serve", "--jobs", "1", "work", "--", "sh", "-c", f"cat >>{tmp_path}/ran; echo >>{tmp_path}/ran; exec sleep 1000", binds="work")
    taken = one.popen("call", "self:work", "first")
    eventually(lambda: (tmp_path / "ran").exists() and (tmp_path / "ran").read_text() == "first\n", "it runs")
    waits = one.popen("call", "self:work", "second")
    arrived(one, "work", 2)
    waits.send_signal(signal.SIGINT)
    assert "it was not delivered" in died(waits, signal.SIGINT)
    taken.send_signal(signal.SIGTERM)
    assert "the request was taken, and may have been carried out" in died(taken, signal.SIGTERM)
    server.terminate()
    server.wait(timeout=30 * PATIENCE)
    assert (tmp_path / "ran").read_text() == "first\n"


def test_interrupted_lines_are_withdrawn_and_counted(one):
    inbox, sender = one.receiver("inbox"), one.popen("send", "--lines", "self:inbox", stdin=subprocess.PIPE)
    feed(sender, b"one\ntwo\n")
    assert inbox.process.stdout.readline() + inbox.process.stdout.readline() == b"one\ntwo\n"
    eventually(lambda: sleeps(inbox.process.pid), "it has taken what it has printed, and waits")
    with stopped(inbox.process.pid):
        feed(sender, b"three\nfour\nfive\nunfini")
        arrived(one, "inbox", 5)
        sender.send_signal(signal.SIGINT)
        assert "lines delivered: 2, not delivered: 3\n" in died(sender, signal.SIGINT)
    one.send("self:inbox", "after")
    assert inbox.process.stdout.readline() == b"after\n"


def interrupted_twice(one, command):
    """What a command says whose second signal comes while its daemon doesn't settle what the first one has withdrawn."""
    before = sum(each.get("messages", 0) for each in one.status()["endpoints"])
    process = one.popen(*command, "self:inbox", data=b"x\n")
    arrived(one, "inbox", before + 1)
    with stopped(one.pid):
        process.send_signal(signal.SIGINT)
        eventually(lambda: signal.SIGINT not in signals(process, "ShdPnd") and sleeps(process.pid), "it obeys the first")
        process.send_signal(signal.SIGINT)
        return died(process, signal.SIGINT)


@pytest.mark.parametrize("command", [["send"], ["call"], ["send", "--lines"]])
def test_a_second_signal_kills_at_once_and_is_told(one, command):
    receiver = one.popen("serve" if command == ["call"] else "recv", "inbox", *(["--", "cat"] if command == ["call"] else []), binds="inbox")
    with stopped(receiver.pid):
        # A machine that stands still for 3 s between the two lets the command end by itself.
        eventually(lambda: "interrupted again" in interrupted_twice(one, command), "the second one kills")


@pytest.mark.parametrize("arguments, words", [(["send", "self:x"], "it was not delivered"), (["call", "self:x"], "it was not delivered"),
                                              (["connect", "self:x"], "there was no stream yet"), (["run", "self:x"], "was not run")])
def test_what_is_interrupted_before_it_began_says_so(one, arguments, words):
    with stopped(one.pid):
        process = one.popen(*arguments, stdin=subprocess.PIPE)
        eventually(lambda: signal.SIGINT in signals(process, "SigCgt"), "it catches the signal")
        process.send_signal(signal.SIGINT)
        assert words in died(process, signal.SIGINT)


def test_an_interrupted_connect_breaks_the_stream(one):
    reads = "import os\ntry:\n while os.read(0, 9): print('got', flush=True)\n print('end')\nexcept ConnectionResetError: print('broken')"
    listener = one.popen("listen", "t", "--", "sh", "-c", f'exec python3 -c "{reads}" >&2', binds="t")
    process = one.popen("connect", "self:t", stdin=subprocess.PIPE)
    feed(process, b"a part")
    assert listener.stderr.readline() == b"got\n"
    process.send_signal(signal.SIGINT)
    assert "the other side sees a stream that breaks" in died(process, signal.SIGINT)
    assert listener.stderr.readline() == b"broken\n"


def test_an_interrupted_run_says_what_becomes_of_its_command(one, tmp_path):
    one.popen("listen", "--run", "t", "--", "sh", "-c", f"trap 'echo >{tmp_path}/end; exit' TERM; echo up; while :; do sleep 0.02; done", binds="t")
    process = one.popen("run", "self:t", stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert "the command gets SIGTERM" in died(process, signal.SIGINT)
    eventually((tmp_path / "end").exists, "it has got it")


@pytest.mark.parametrize("command", ("recv x", "listen x", "listen x -- cat", "serve x -- cat", "subscribe self:x", "watch", "ping self"))
def test_the_first_process_of_a_container_ends_when_it_is_told(one, command):
    process = one.popen(*command.split(), stdin=subprocess.PIPE)
    eventually(lambda: signal.SIGTERM in signals(process, "SigCgt"), "it catches what the kernel would keep from it")


def test_a_signal_that_is_ignored_from_the_start_stays_so(one):
    one.popen("listen", "echo", "--", "cat", binds="echo")
    process = one.popen_command("sh", "-c", 'trap "" INT; exec "$@"', "sh", one.tool("xenmsg"), "connect", "self:echo",
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for word in b"one\n", b"two\n":
        feed(process, word)
        assert process.stdout.readline() == word
        process.send_signal(signal.SIGINT)
    process.stdin.close()
    assert process.wait(timeout=30 * PATIENCE) == 0
