# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples do what their first lines say, across domains; so do their twins in the shell."""

import os
import re
import subprocess

import pytest

from frames import DATA
from messaging import BINDIR, BUILDDIR, EXIT_ANSWERED, EXIT_TIMEOUT, EXIT_UNKNOWN, PATIENCE, SOURCES, Holder, eventually, feed, given_time

PATH = {"PATH": f"{BINDIR}:{os.environ['PATH']}"}
PYTHON = os.environ.get("XENMSG_PYTHONDIR", "")


def example(name):
    path = os.path.join(SOURCES if name.endswith((".py", ".sh")) else BUILDDIR, "examples", name)
    if name in ("glib", "libuv", "sdevent") and not os.path.exists(path):
        pytest.skip("built without GLib, libuv or systemd")
    if name.endswith(".py") and not os.path.exists(os.path.join(PYTHON, "xenmsg", "_core.so")):
        pytest.skip("built without the Python module")
    return path


class Run:
    """An example in the background; its output, as it comes."""

    def __init__(self, node, name, *arguments, binds=()):
        self.path = node.directory / f"{name}-{node.domid}.out"
        with open(self.path, "wb") as file:
            self.process = node.popen_command("env", f"PATH={PATH['PATH']}", f"PYTHONPATH={PYTHON}", example(name), *arguments,
                                              stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, binds=binds)

    def text(self):
        return self.path.read_text(errors="replace")

    def prints(self, words):
        eventually(lambda: words in self.text() or self.process.poll(), f"{words!r} is printed")
        assert words in self.text(), self.text()

    def type(self, line):
        feed(self.process, line.encode() + b"\n")

    def ends(self, code=0):
        """With the end of its input."""
        self.process.stdin.close()
        assert self.process.wait(60 * PATIENCE) == code, self.text()
        return self.text()


@pytest.mark.parametrize("name", ["loop", "sdevent", "glib", "libuv", "loop.py"])
def test_messages_go_both_ways_in_a_loop(one, two, name):
    receiver = two.receiver("there", "--count", "2")
    run = Run(one, name, "mine", "2:there", binds="mine")
    two.send("1:mine", "to the loop")
    run.prints("from domain 2: to the loop")
    run.type("one line")
    eventually(lambda: any(link["tx"]["messages"] for link in one.status()["links"]), "the line is on its way")
    run.type("another")
    assert receiver.output() == b"one line\nanother\n"
    run.type("to nobody any more")
    assert "no such endpoint there" in run.ends()


def test_a_loop_sends_a_file_in_order_and_ends_with_its_daemon(one, two, tmp_path):
    loop = ["env", f"PYTHONPATH={PYTHON}", example("loop.py"), "mine", "2:there"]
    lines = b"".join(b"%d\n" % i for i in range(2000)) + b"x" * 200000 + b"\nthe last"
    (tmp_path / "lines").write_bytes(lines)
    with open(tmp_path / "received", "wb") as file:
        receiver = two.receiver("there", "--count", "2002", stdout=file)
    with open(tmp_path / "lines", "rb") as file:
        done = subprocess.run(one.command(*loop), env=one.environment, stdin=file, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    receiver.output()
    assert (tmp_path / "received").read_bytes() == lines + b"\n"
    done = subprocess.run(one.command(*loop), env=one.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    run = Run(one, "loop.py", "mine", "2:there", binds="mine")
    assert one.xenmsg("call", "self:mine", "x").returncode not in (0, EXIT_UNKNOWN), "it takes no calls"
    one.kill()
    assert "loop: " in run.ends(1)


IN_C = pytest.mark.parametrize("name", ["loop", "sdevent", "glib", "libuv"])


@IN_C
def test_each_line_is_a_message_however_it_is_read(one, name):
    receiver = one.receiver("there", "--count", "1003")
    run = Run(one, name, "mine", "self:there")
    lines = b"".join(b"%d\n" % number for number in range(1000))
    feed(run.process, lines + b"half")
    eventually(lambda: "mine" in one.endpoints(), "mine is bound")
    run.process.stdin.write(b" a line\n\nthe last one")
    run.ends()
    assert receiver.output() == lines + b"half a line\n\nthe last one\n"


@IN_C
def test_a_loop_closes_its_connection_before_it_ends(one, name):
    holder = Holder(one, "there")
    run = Run(one, name, "mine", "self:there")
    run.type("this is never taken")
    assert b"this is never taken" in holder.expect(DATA).payload
    if name in ("sdevent", "glib"):
        run.process.stdin.close()
        run.process.terminate()
        assert run.process.wait(60 * PATIENCE) == 0, run.text()
    else:
        one.kill()
        assert run.process.wait(60 * PATIENCE) == 1, run.text()
    assert "self:there: the receiver or a daemon died; " in run.text()
    holder.close()


@IN_C
def test_a_loop_whose_input_is_no_pipe_ends_and_says_so(one, name):
    run = one.popen_command("env", f"PATH={PATH['PATH']}", example(name), "mine", "self:there", stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = run.communicate(timeout=60 * PATIENCE)[1]
    assert (run.returncode, b"use a pipe" in error) == ((0, False) if name == "glib" else (1, True)), error


def test_a_thousand_calls_at_once_and_none_for_who_has_gone(one, two):
    from python_module import LONG, xenmsg  # pylint: disable=import-outside-toplevel
    run = Run(two, "busy", "work", binds="work")

    def late(seconds):
        given_up = one.xenmsg("call", "--timeout", seconds, "2:work", "1000000")
        return given_up.returncode != EXIT_TIMEOUT and given_up  # else it wasn't there yet
    assert given_time(late).returncode == EXIT_UNKNOWN
    run.prints("stopped: the caller has gone; 0 left")
    with xenmsg.blocking.open(one.socket) as conn:
        calls = [conn.begin_call("2:work", b"1000000") for _ in range(100)] + [conn.begin_call("2:work", b"3000") for _ in range(1000)]
        assert all(bytes(conn.wait(call, LONG)) == b"done" for call in calls[100:])
        assert all([call.withdraw() for call in calls[:100]])
        for call in calls[:100]:
            with pytest.raises(xenmsg.TimedOut):
                conn.wait(call, LONG)
    eventually(lambda: run.text().count("stopped: ") == 101, "the work for callers that gave up is stopped")
    assert max(int(most) for most in re.findall(r"done; (\d+) at once", run.text())) >= 1000
    assert one.xenmsg("call", "2:work", "tomorrow, perhaps, or later").returncode == EXIT_ANSWERED


def test_a_deadline_is_kept_by_trying_only_what_is_safe(one, two):
    def call(*words):
        return one.run_command("env", f"PATH={PATH['PATH']}", example("deadline"), *words).stdout.decode()
    early = Run(one, "deadline", "2:work", "1", "60000")
    Run(two, "busy", "work")
    assert early.ends() == "done\n", "it was called again until it was there"
    assert given_time(lambda seconds: "it may have been done" in call("2:work", "100000", str(int(1000 * seconds))))
    assert call("2:nobody", "x", "300").endswith("it was not done, and never will be\n")
    for text in ("not a number at all", "abc", "-1", ""):
        assert call("2:work", text, "60000") == "error 1 of the service: not a number\n"


def test_a_proxy_passes_on_answers_errors_and_who_gives_up(one, two, three):
    Run(two, "proxy", "front", "3:work", binds="front")
    served = Run(three, "busy", "work", binds="work")
    calls = [one.popen("call", "2:front", "500") for _ in range(10)]
    assert [call.communicate(timeout=60 * PATIENCE)[0] for call in calls] == [b"done"] * 10
    refused = one.xenmsg("call", "2:front", "not a number at all")
    assert refused.returncode == EXIT_ANSWERED and b"not a number" in refused.stderr

    def is_stopped(seconds):
        code = one.xenmsg("call", "--timeout", seconds, "2:front", "1000000").returncode
        assert code in (EXIT_UNKNOWN, EXIT_TIMEOUT), code  # the latter if it wasn't there yet
        return "stopped: the caller has gone; 0 left" in served.text()
    given_time(is_stopped)


def test_an_agent_lives_through_the_deaths_of_its_daemons(one):
    run = Run(one, "agent", "agent")
    for daemons in (1, 2, 3):
        eventually(lambda: "agent" in one.endpoints(), "agent is bound")
        assert one.xenmsg("call", "self:agent", "x").stdout == b"%d calls by way of %d daemons" % (daemons, daemons)
        one.kill()
        eventually(lambda: run.text().count("is lost") == daemons, "the loss is told")
        one.start()
        eventually(lambda: run.text().count("there is a daemon again") == daemons, "so is its end")


@pytest.mark.parametrize("name", ["agent", "mirror"])
def test_who_is_refused_by_the_next_daemon_ends(one, name):
    run = Run(one, name, "mine", binds="mine")
    one.kill()
    one.write_policy("[bind]\nname = mine\nuid = *\naction = deny\n", "60-refuse.conf")
    one.start()
    assert re.search(f"^{name}: mine: (Permission denied|policy doesn.t let)", run.ends(1), re.M)


def test_pings_are_answered(one, two):
    Run(two, "ping", "echo", binds="echo")
    run = Run(one, "ping", "2:echo", "pong", "3")
    assert run.ends().count("from domain 2") == 3


@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_two_meet_by_a_name_in_either_order(nodes, first, second):
    both = nodes(1, 2)
    early = Run(both[first], "rendezvous", "meeting", "25", binds="meeting")
    late = Run(both[second], "rendezvous", "meeting", "25")
    texts = {first: early.ends(), second: late.ends()}
    assert texts[1].startswith("found meeting in domain 2\n") and texts[2].startswith("found by domain 1\n")
    assert all(text.endswith("25 there, 25 back\n") for text in texts.values())


def test_two_meet_by_a_name_in_the_shell(one, two):
    begins = Run(one, "rendezvous.sh", "begin", "meeting", "3")
    Run(two, "rendezvous.sh", "wait", "meeting")
    assert begins.ends().endswith("found meeting in domain 2\n3 there, 3 back\n")


@pytest.mark.parametrize("host_name", ["prepare-save", "prepare-save.sh"])
def test_all_guests_prepare_for_a_save(zero, one, two, three, tmp_path, host_name):
    flag = tmp_path / "fails"
    guests = [Run(one, "prepare-save", "guest", "echo ran"),
              Run(two, "prepare-save.sh", "guest", f"[ ! -e {flag} ]")]
    guests[0].prints("nobody saves\n")
    host = Run(zero, host_name, "host", "3", "600")
    for domid, guest in enumerate(guests, 1):
        guest.prints("prepared\n")
        host.prints(f"domain {domid} is ready\n")
    one.kill()
    one.start()
    eventually(lambda: len(re.findall("prepared\n|can't tell", guests[0].text())) == 2, "what is kept comes again")
    assert guests[0].text().count("ran\n") == 1
    guests.append(Run(three, "prepare-save", "guest", f"[ ! -e {flag} ]"))  # which comes late
    text = host.ends()
    assert text.endswith("3 of 3 are ready\n") and text.count(" is ready\n") == 3
    flag.touch()
    host = Run(zero, host_name, "host", "3", "600")
    host.prints("domain 1 is ready\n")
    guests[1].prints("ended with status 1")
    guests[2].prints("has failed\n")
    assert host.process.poll() is None and host.text().count(" is ready\n") == 1
    assert subprocess.run([example("prepare-save.sh"), "nonsense"], check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_chat_reaches_everybody_in_the_room(one, two, three):
    first, second = Run(one, "chat", "bar"), Run(two, "chat", "bar")
    shell = Run(three, "chat.sh", "bar")
    for run, others in ((first, (2, 3)), (second, (1, 3))):
        for other in others:
            run.prints(f"domain {other}: (comes in)\n")
    for domid in "12":
        eventually(lambda domid=domid: "bar" in three.xenmsg("endpoints", domid).stdout.decode(), f"domain 3 sees the room of domain {domid}")
    first.type("hello from one")
    second.prints("domain 1: hello from one\n")
    shell.prints("domain 1: hello from one\n")
    shell.type("hello from the shell")
    first.prints("domain 3: hello from the shell\n")
    second.prints("domain 3: hello from the shell\n")
    second.ends()
    first.prints("domain 2: (leaves)\n")
    first.ends()


@pytest.mark.parametrize("size", [0, 5000000])
def test_a_copied_file_is_the_same_and_shows_progress(one, two, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "original").write_bytes(data)
    receiver = Run(two, "copy", "--receive", "files", tmp_path / "copied", binds="files")
    sender = Run(one, "copy", tmp_path / "original", "2:files")
    text = sender.ends()
    receiver.ends()
    assert (tmp_path / "copied").read_bytes() == data
    if size:
        assert text.startswith("1 % 65536 of 5000000 bytes\n2 %") and text.endswith("\n100 % 5000000 of 5000000 bytes\n")


def test_a_mirror_gives_back_what_comes_on_each_stream(one, two):
    run = Run(two, "mirror", "glass", binds="glass")
    streams = [(os.urandom(1 + 500000 * i), one.popen("connect", "2:glass", stdin=subprocess.PIPE)) for i in range(4)]
    for data, stream in streams:
        assert stream.communicate(data, timeout=30 * PATIENCE)[0] == data
        assert stream.returncode == 0
    assert run.text() == 4 * "a stream from uid 0 of domain 1\n"
    refused = Run(two, "mirror", "glass")
    assert "glass: a program has bound this endpoint already" in refused.ends(1)
    assert "no-,name: an endpoint's name is" in Run(two, "mirror", "no-,name").ends(1)


def test_a_mirror_goes_on_with_the_next_daemon(one, two):
    run = Run(two, "mirror", "glass", binds="glass")
    for times in range(3):
        done = one.xenmsg("connect", "--wait", "2:glass", data=b"%d" % times)
        assert (done.returncode, done.stdout) == (0, b"%d" % times), done.stderr
        two.kill()
        two.start()
        eventually(lambda: "glass" in two.endpoints(), "glass is bound again")
    assert run.text() == 3 * "a stream from uid 0 of domain 1\n"


def test_a_copy_that_fails_says_where_and_leaves_nothing(one, two, tmp_path):
    (tmp_path / "original").write_bytes(bytes(5000000))
    assert "copy: 2:files: No such file or directory" in Run(one, "copy", tmp_path / "original", "2:files").ends(1)
    receiver = Run(two, "copy", "--receive", "files", "/nonexistent/copied", binds="files")
    assert "copy: 2:files: " in Run(one, "copy", tmp_path / "original", "2:files").ends(1), "SIGPIPE"
    assert "copy: /nonexistent/copied.part: No such file or directory" in receiver.ends(1)
    assert "copy: /nonexistent/x: No such file" in Run(one, "copy", "/nonexistent/x", "2:files").ends(1)
    eventually(lambda: "files" not in two.endpoints(), "the first receiver is gone")
    receiver = Run(two, "copy", "--receive", "files", tmp_path / "copied", binds="files")
    one.xenmsg("connect", "2:files", data=(100).to_bytes(8, "little") + b"too short")
    assert "copy: files: it ended too early" in receiver.ends(1)
    assert not list(tmp_path.glob("copied*"))


@pytest.mark.parametrize("size", [5000, 32768, 65520, 100000])
def test_blocks_come_whole_from_writer_to_reader(one, two, size):
    receiver = Run(two, "blocks", "in", binds="in")
    data = os.urandom(3000000)
    done = one.run_command(example("blocks"), "2:in", str(size), data=data)
    assert done.returncode == 0, done.stderr
    assert receiver.process.wait(30) == 0
    assert receiver.path.read_bytes() == data
    assert one.run_command(example("blocks"), "2:in", "0").returncode == 2


def test_the_examples_compile_without_a_warning():
    """Who copies one has other options than we have."""
    folder = os.path.join(SOURCES, "examples")
    libraries = subprocess.run(["pkg-config", "--cflags", "libevent", "glib-2.0", "libuv", "libsystemd"], capture_output=True, text=True,
                               check=True).stdout.split()
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".c")):
        done = subprocess.run(["cc", "-std=gnu11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *libraries, "-I", os.path.join(SOURCES, "include"),
                               "-I", os.path.join(SOURCES, "sim", "commands"), os.path.join(folder, name)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (name, done.stderr)
