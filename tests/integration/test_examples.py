# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples do what their first lines say, across domains; so do their twins in the shell."""

import os
import re
import subprocess

import pytest

from frames import DATA
from messaging import BINDIR, BUILDDIR, EXIT_ANSWERED, EXIT_TIMEOUT, EXIT_UNKNOWN, PATIENCE, SOURCES, Holder, eventually, given_time

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

    def __init__(self, node, tmp_path, name, *arguments):
        self.path = tmp_path / f"{name}-{node.domid}.out"
        with open(self.path, "wb") as file:
            command = node.command("env", f"PATH={PATH['PATH']}", f"PYTHONPATH={PYTHON}", example(name), *arguments)
            self.process = subprocess.Popen(command, env=node.environment, stdin=subprocess.PIPE, stdout=file,
                                            stderr=subprocess.STDOUT)
        node.children.append(self.process)

    def text(self):
        return self.path.read_text(errors="replace")

    def prints(self, words):
        eventually(lambda: words in self.text() or self.process.poll(), f"{words!r} is printed")
        assert words in self.text(), self.text()

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ends(self, code=0):
        """With the end of its input."""
        self.process.stdin.close()
        assert self.process.wait(60 * PATIENCE) == code, self.text()
        return self.text()


@pytest.mark.parametrize("name", ["loop", "sdevent", "glib", "libuv", "loop.py"])
def test_messages_go_both_ways_in_a_loop(nodes, tmp_path, name):
    both = nodes(1, 2)
    receiver = both[2].receiver("there", "--count", "2")
    run = Run(both[1], tmp_path, name, "mine", "2:there")
    eventually(lambda: "mine" in both[1].endpoints(), "mine is bound")
    both[2].send("1:mine", "to the loop")
    run.prints("from domain 2: to the loop")
    run.type("one line")
    eventually(lambda: any(link["tx"]["messages"] for link in both[1].status()["links"]), "the line is on its way")
    run.type("another")
    assert receiver.output() == b"one line\nanother\n"
    run.type("to nobody any more")
    assert "No such file or directory" in run.ends()


def test_a_loop_sends_a_file_in_order_and_ends_with_its_daemon(nodes, tmp_path):
    one, two = nodes(1, 2).values()
    loop = ["env", f"PYTHONPATH={PYTHON}", example("loop.py"), "mine", "2:there"]
    lines = b"".join(b"%d\n" % i for i in range(2000)) + b"x" * 200000 + b"\nthe last"
    (tmp_path / "lines").write_bytes(lines)
    with open(tmp_path / "received", "wb") as file:
        receiver = two.receiver("there", "--count", "2002", stdout=file)
    one.sees(two)
    with open(tmp_path / "lines", "rb") as file:
        done = subprocess.run(one.command(*loop), env=one.environment, stdin=file, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    receiver.output()
    assert (tmp_path / "received").read_bytes() == lines + b"\n"
    done = subprocess.run(one.command(*loop), env=one.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    run = Run(one, tmp_path, "loop.py", "mine", "2:there")
    eventually(lambda: "mine" in one.endpoints(), "mine is bound")
    assert one.xenmsg("call", "self:mine", "x").returncode not in (0, EXIT_UNKNOWN), "it takes no calls"
    one.kill()
    assert "loop: " in run.ends(1)


IN_C = pytest.mark.parametrize("name", ["loop", "sdevent", "glib", "libuv"])


@IN_C
def test_each_line_is_a_message_however_it_is_read(nodes, tmp_path, name):
    one, = nodes(1).values()
    receiver = one.receiver("there", "--count", "1003")
    run = Run(one, tmp_path, name, "mine", "self:there")
    lines = b"".join(b"%d\n" % number for number in range(1000))
    run.process.stdin.write(lines + b"half")
    run.process.stdin.flush()
    eventually(lambda: "mine" in one.endpoints(), "mine is bound")
    run.process.stdin.write(b" a line\n\nthe last one")
    run.ends()
    assert receiver.output() == lines + b"half a line\n\nthe last one\n"


@IN_C
def test_a_loop_closes_its_connection_before_it_ends(nodes, tmp_path, name):
    one, = nodes(1).values()
    holder = Holder(one, "there")
    run = Run(one, tmp_path, name, "mine", "self:there")
    run.type("this is never taken")
    assert b"this is never taken" in holder.expect(DATA).payload
    if name in ("sdevent", "glib"):
        run.process.stdin.close()
        run.process.terminate()
        assert run.process.wait(60 * PATIENCE) == 0, run.text()
    else:
        one.kill()
        assert run.process.wait(60 * PATIENCE) == 1, run.text()
    assert "self:there: Connection reset by peer\n" in run.text()
    holder.close()


@IN_C
def test_a_loop_whose_input_is_no_pipe_ends_and_says_so(nodes, name):
    one, = nodes(1).values()
    run = one.popen_command("env", f"PATH={PATH['PATH']}", example(name), "mine", "self:there", stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = run.communicate(timeout=60 * PATIENCE)[1]
    assert (run.returncode, b"use a pipe" in error) == ((0, False) if name == "glib" else (1, True)), error


def test_a_thousand_calls_at_once_and_none_for_who_has_gone(nodes, tmp_path):
    from python_module import LONG, xenmsg  # pylint: disable=import-outside-toplevel
    both = nodes(1, 2)
    run = Run(both[2], tmp_path, "busy", "work")
    eventually(lambda: "work" in both[2].endpoints(), "work is bound")
    both[1].sees(both[2])

    def late(seconds):
        given_up = both[1].xenmsg("call", "--timeout", seconds, "2:work", "1000000")
        return given_up.returncode != EXIT_TIMEOUT and given_up  # else it wasn't there yet
    assert given_time(late).returncode == EXIT_UNKNOWN
    run.prints("stopped: the caller has gone; 0 left")
    with xenmsg.blocking.open(both[1].socket) as conn:
        calls = [conn.begin_call("2:work", b"1000000") for _ in range(100)] + [conn.begin_call("2:work", b"3000") for _ in range(1000)]
        assert all(bytes(conn.wait(call, LONG)) == b"done" for call in calls[100:])
        assert all([call.withdraw() for call in calls[:100]])
        for call in calls[:100]:
            with pytest.raises(xenmsg.TimedOut):
                conn.wait(call, LONG)
    eventually(lambda: run.text().count("stopped: ") == 101, "the work for who has given up is stopped")
    assert max(int(most) for most in re.findall(r"done; (\d+) at once", run.text())) >= 1000
    assert both[1].xenmsg("call", "2:work", "tomorrow, perhaps, or later").returncode == EXIT_ANSWERED


def test_a_deadline_is_kept_by_trying_only_what_is_safe(nodes, tmp_path):
    one, two = nodes(1, 2).values()
    one.sees(two)

    def call(*words):
        return one.run_command("env", f"PATH={PATH['PATH']}", example("deadline"), *words).stdout.decode()
    early = Run(one, tmp_path, "deadline", "2:work", "1", "60000")
    Run(two, tmp_path, "busy", "work")
    assert early.ends() == "done\n", "it was called again until it was there"
    assert given_time(lambda seconds: "it may have been done" in call("2:work", "100000", str(int(1000 * seconds))))
    assert call("2:nobody", "x", "300").endswith("it was not done, and never will be\n")
    for text in ("not a number at all", "abc", "-1", ""):
        assert call("2:work", text, "60000") == "error 1 of the service: not a number\n"


def test_a_proxy_passes_on_answers_errors_and_who_gives_up(nodes, tmp_path):
    one, two, three = nodes(1, 2, 3).values()
    Run(two, tmp_path, "proxy", "front", "3:work")
    served = Run(three, tmp_path, "busy", "work")
    eventually(lambda: "front" in two.endpoints() and "work" in three.endpoints(), "both are bound")
    one.sees(two)
    two.sees(three)
    calls = [one.popen("call", "2:front", "500") for _ in range(10)]
    assert [call.communicate(timeout=60 * PATIENCE)[0] for call in calls] == [b"done"] * 10
    refused = one.xenmsg("call", "2:front", "not a number at all")
    assert refused.returncode == EXIT_ANSWERED and b"not a number" in refused.stderr

    def is_stopped(seconds):
        code = one.xenmsg("call", "--timeout", seconds, "2:front", "1000000").returncode
        assert code in (EXIT_UNKNOWN, EXIT_TIMEOUT), code  # the latter if it wasn't there yet
        return "stopped: the caller has gone; 0 left" in served.text()
    given_time(is_stopped)


def test_an_agent_lives_through_the_deaths_of_its_daemons(nodes, tmp_path):
    one, = nodes(1).values()
    run = Run(one, tmp_path, "agent", "agent")
    for daemons in (1, 2, 3):
        eventually(lambda: "agent" in one.endpoints(), "agent is bound")
        assert one.xenmsg("call", "self:agent", "x").stdout == b"%d calls by way of %d daemons" % (daemons, daemons)
        one.kill()
        eventually(lambda: run.text().count("is lost") == daemons, "the loss is told")
        one.start()
        eventually(lambda: run.text().count("there is a daemon again") == daemons, "so is its end")


@pytest.mark.parametrize("name", ["agent", "mirror"])
def test_who_is_refused_by_the_next_daemon_ends(nodes, tmp_path, name):
    one, = nodes(1).values()
    run = Run(one, tmp_path, name, "mine")
    eventually(lambda: "mine" in one.endpoints(), "mine is bound")
    one.kill()
    one.write_policy("[bind]\nname = mine\nuid = *\naction = deny\n", "60-refuse.conf")
    one.start()
    assert re.search(f"^{name}: mine: (Permission denied|policy doesn.t let)", run.ends(1), re.M)


def test_pings_are_answered(nodes, tmp_path):
    both = nodes(1, 2)
    Run(both[2], tmp_path, "ping", "echo")
    eventually(lambda: "echo" in both[2].endpoints(), "echo is bound")
    run = Run(both[1], tmp_path, "ping", "2:echo", "pong", "3")
    assert run.ends().count("from domain 2") == 3


@pytest.mark.parametrize("first, second", [(1, 2), (2, 1)])
def test_two_meet_by_a_name_in_either_order(nodes, tmp_path, first, second):
    both = nodes(1, 2)
    early = Run(both[first], tmp_path, "rendezvous", "meeting", "25")
    eventually(lambda: "meeting" in both[first].endpoints(), "the first one is there")
    late = Run(both[second], tmp_path, "rendezvous", "meeting", "25")
    texts = {first: early.ends(), second: late.ends()}
    assert texts[1].startswith("found meeting in domain 2\n") and texts[2].startswith("found by domain 1\n")
    assert all(text.endswith("25 there, 25 back\n") for text in texts.values())


def test_two_meet_by_a_name_in_the_shell(nodes, tmp_path):
    both = nodes(1, 2)
    begins = Run(both[1], tmp_path, "rendezvous.sh", "begin", "meeting", "3")
    Run(both[2], tmp_path, "rendezvous.sh", "wait", "meeting")
    assert begins.ends().endswith("found meeting in domain 2\n3 there, 3 back\n")


@pytest.mark.parametrize("host_name", ["prepare-save", "prepare-save.sh"])
def test_all_guests_prepare_for_a_save(nodes, tmp_path, host_name):
    four = nodes(0, 1, 2, 3)
    flag = tmp_path / "fails"
    guests = [Run(four[1], tmp_path, "prepare-save", "guest", "echo ran"),
              Run(four[2], tmp_path, "prepare-save.sh", "guest", f"[ ! -e {flag} ]")]
    guests[0].prints("nobody saves\n")
    host = Run(four[0], tmp_path, host_name, "host", "3", "600")
    for domid, guest in enumerate(guests, 1):
        guest.prints("prepared\n")
        host.prints(f"domain {domid} is ready\n")
    four[1].kill()
    four[1].start()
    eventually(lambda: len(re.findall("prepared\n|can't tell", guests[0].text())) == 2, "what is kept comes again")
    assert guests[0].text().count("ran\n") == 1
    guests.append(Run(four[3], tmp_path, "prepare-save", "guest", f"[ ! -e {flag} ]"))  # which comes late
    text = host.ends()
    assert text.endswith("3 of 3 are ready\n") and text.count(" is ready\n") == 3
    flag.touch()
    host = Run(four[0], tmp_path, host_name, "host", "3", "600")
    host.prints("domain 1 is ready\n")
    guests[1].prints("ended with status 1")
    guests[2].prints("has failed\n")
    assert host.process.poll() is None and host.text().count(" is ready\n") == 1
    assert subprocess.run([example("prepare-save.sh"), "nonsense"], check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_chat_reaches_everybody_in_the_room(nodes, tmp_path):
    three = nodes(1, 2, 3)
    one, two = Run(three[1], tmp_path, "chat", "bar"), Run(three[2], tmp_path, "chat", "bar")
    shell = Run(three[3], tmp_path, "chat.sh", "bar")
    for run, others in ((one, (2, 3)), (two, (1, 3))):
        for other in others:
            run.prints(f"domain {other}: (comes in)\n")
    eventually(lambda: "bar" in three[3].xenmsg("endpoints", "1").stdout.decode(), "domain 3 sees the room of domain 1")
    eventually(lambda: "bar" in three[3].xenmsg("endpoints", "2").stdout.decode(), "domain 3 sees the room of domain 2")
    one.type("hello from one")
    two.prints("domain 1: hello from one\n")
    shell.prints("domain 1: hello from one\n")
    shell.type("hello from the shell")
    one.prints("domain 3: hello from the shell\n")
    two.prints("domain 3: hello from the shell\n")
    two.ends()
    one.prints("domain 2: (leaves)\n")
    one.ends()


@pytest.mark.parametrize("size", [0, 5000000])
def test_a_copied_file_is_the_same_and_shows_progress(nodes, tmp_path, size):
    both = nodes(1, 2)
    data = os.urandom(size)
    (tmp_path / "original").write_bytes(data)
    receiver = Run(both[2], tmp_path, "copy", "--receive", "files", tmp_path / "copied")
    eventually(lambda: "files" in both[2].endpoints(), "files is bound")
    sender = Run(both[1], tmp_path, "copy", tmp_path / "original", "2:files")
    text = sender.ends()
    receiver.ends()
    assert (tmp_path / "copied").read_bytes() == data
    if size:
        assert text.startswith("1 % 65536 of 5000000 bytes\n2 %") and text.endswith("\n100 % 5000000 of 5000000 bytes\n")


def test_a_mirror_gives_back_what_comes_on_each_stream(nodes, tmp_path):
    both = nodes(1, 2)
    run = Run(both[2], tmp_path, "mirror", "glass")
    eventually(lambda: "glass" in both[2].endpoints(), "glass is bound")
    streams = [(os.urandom(1 + 500000 * i), both[1].popen("connect", "2:glass", stdin=subprocess.PIPE)) for i in range(4)]
    for data, stream in streams:
        assert stream.communicate(data, timeout=30 * PATIENCE)[0] == data
        assert stream.returncode == 0
    assert run.text() == 4 * "a stream from uid 0 of domain 1\n"
    refused = Run(both[2], tmp_path, "mirror", "glass")
    assert "glass: a program has bound this endpoint already" in refused.ends(1)
    assert "no-,name: Invalid argument" in Run(both[2], tmp_path, "mirror", "no-,name").ends(1)


def test_a_mirror_goes_on_with_the_next_daemon(nodes, tmp_path):
    one, two = nodes(1, 2).values()
    run = Run(two, tmp_path, "mirror", "glass")
    eventually(lambda: "glass" in two.endpoints(), "glass is bound")
    for times in range(3):
        done = one.xenmsg("connect", "--wait", "2:glass", data=b"%d" % times)
        assert (done.returncode, done.stdout) == (0, b"%d" % times), done.stderr
        two.kill()
        two.start()
        eventually(lambda: "glass" in two.endpoints(), "glass is bound again")
    assert run.text() == 3 * "a stream from uid 0 of domain 1\n"


def test_a_file_is_copied_in_the_shell(nodes, tmp_path):
    both = nodes(1, 2)
    data = os.urandom(300000)
    with open(tmp_path / "copied", "wb") as file:
        listener = both[2].popen("listen", "files", stdout=file)
    eventually(lambda: "files" in both[2].endpoints(), "files is bound")
    assert both[1].xenmsg("connect", "2:files", data=data).returncode == 0
    assert listener.wait(30) == 0
    assert (tmp_path / "copied").read_bytes() == data


def test_a_copy_to_nobody_says_so(nodes, tmp_path):
    both = nodes(1, 2)
    (tmp_path / "original").write_bytes(b"x")
    assert "copy: 2:files: No such file or directory" in Run(both[1], tmp_path, "copy", tmp_path / "original", "2:files").ends(1)


def test_a_copy_that_fails_says_where_and_leaves_nothing(nodes, tmp_path):
    both = nodes(1, 2)
    (tmp_path / "original").write_bytes(bytes(5000000))

    def receiving(path):
        run = Run(both[2], tmp_path, "copy", "--receive", "files", path)
        eventually(lambda: "files" in both[2].endpoints(), "files is bound")
        return run
    receiver = receiving("/nonexistent/copied")
    assert "copy: 2:files: " in Run(both[1], tmp_path, "copy", tmp_path / "original", "2:files").ends(1), "SIGPIPE"
    assert "copy: /nonexistent/copied.part: No such file or directory" in receiver.ends(1)
    assert "copy: /nonexistent/x: No such file" in Run(both[1], tmp_path, "copy", "/nonexistent/x", "2:files").ends(1)
    eventually(lambda: "files" not in both[2].endpoints(), "the first receiver is gone")
    receiver = receiving(tmp_path / "copied")
    both[1].xenmsg("connect", "2:files", data=(100).to_bytes(8, "little") + b"too short")
    assert "copy: files: it ended too early" in receiver.ends(1)
    assert not list(tmp_path.glob("copied*"))


def test_the_loops_twin_in_the_shell_does_the_same(nodes):
    both = nodes(1, 2)
    there, here = both[2].receiver("there", "--count", "2"), both[1].receiver("mine", "--count", "1")
    both[2].send("1:mine", "to the shell")
    assert here.output() == b"to the shell\n"
    assert both[1].xenmsg("send", "--lines", "2:there", data=b"one line\nanother\n").returncode == 0
    assert there.output() == b"one line\nanother\n"


@pytest.mark.parametrize("size", [5000, 32768, 65520, 100000])
def test_blocks_come_whole_from_writer_to_reader(nodes, tmp_path, size):
    one, two = nodes(1, 2).values()
    receiver = Run(two, tmp_path, "blocks", "in")
    eventually(lambda: "in" in two.endpoints(), "in is bound")
    data = os.urandom(3000000)
    done = one.run_command(example("blocks"), "2:in", str(size), data=data)
    assert done.returncode == 0, done.stderr
    assert receiver.process.wait(30) == 0
    assert receiver.path.read_bytes() == data
    assert one.run_command(example("blocks"), "2:in", "0").returncode == 2
