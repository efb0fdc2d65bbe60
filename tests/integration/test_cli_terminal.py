# SPDX-License-Identifier: LGPL-2.1-or-later
"""What others have written doesn't drive a terminal: commands escape it there, and print it as it is to pipes and files."""

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import termios
import threading

import pytest

from frames import (BIND, CALLS, DATA, HELLO, OPEN, OPENED, REPLY, Closed, answer_frames, bind_payload, bytes_of, frame,
                    receive_frame, told_frames, u32, u64, welcome)
from messaging import EXIT_OK, EXIT_USAGE, LOST_SOON, PATIENCE, Holder, eventually, stopped, tool
from polling import readable

# A title, a cleared screen, DEL, C1's CSI, and text from right to left.
EVIL = "\x1b]0;owned\x07\x1b[2J\x00\r\x7f\u009b31m\u202eevil"
SHOWN = r"\u001b]0;owned\u0007\u001b[2J\u0000\u000d\u007f\u009b31m\u202eevil"
NAME = EVIL.replace("\x00", "")  # as a text of C
DOES_SOMETHING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd]")


class Terminal:
    """A command whose output and errors are one."""

    def __init__(self, node, *arguments, columns=80, command=None):
        self.master, end = os.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        self.process = subprocess.Popen(command or node.command(tool("xenmsg"), *arguments), env=dict(node.environment, TERM="xterm"), stdin=end,
                                        stdout=end, stderr=end)
        node.children.append(self.process)
        os.close(end)
        self.seen = b""

    def read(self, until=None):
        """What it shows to its end, or until something is there."""
        with contextlib.suppress(OSError):  # a terminal's end gives EIO
            while not (until and until in self.seen):
                assert readable([self.master], 30 * PATIENCE), self.seen
                self.seen += os.read(self.master, 65536)
        return self.seen.replace(b"\r\n", b"\n").decode(errors="replace")

    def end(self):
        text = self.read()
        self.process.wait(timeout=30 * PATIENCE)
        os.close(self.master)
        return text


@pytest.mark.parametrize("columns", [80, 40])
def test_no_message_looks_like_the_line_that_says_who_sent_it(one, columns):
    forged = "xenmsg: 2026-01-01 12:00:00: 5 bytes to inbox from domain 0 (dom0), uid 0, pid 1"
    receiver = Terminal(one, "recv", "--verbose", "--count", "3", "inbox", columns=columns)
    receiver.read(b"inbox")
    for text in (forged, "x\n" + forged, "x" * columns + "\t" * 3 + "\u4e16" * columns + forged):
        one.send("self:inbox", text)
    lines = receiver.end().split("\n")
    assert len([line for line in lines if "from domain" in line and not line.startswith("  ")]) == 3, lines
    assert all(line.startswith("  ") or "xenmsg" in line for line in lines if line), lines
    shown = [line[2:] for line in lines if line.startswith("  ")]
    assert "".join(shown).count(forged) == 3, lines
    # No line is so long that the terminal would break it.
    assert all(len(line.expandtabs()) + line.count("\u4e16") < columns for line in lines if line.startswith("  ")), lines


def test_an_error_is_broken_between_words(one):
    words = one.xenmsg("send", "9:inbox", "x").stderr.decode()
    for columns in (80, 40):
        shown = Terminal(one, "send", "9:inbox", "x", columns=columns).end()
        assert " ".join(shown.split()) == words.strip() and shown.count("\n") > 1
        assert all(len(line) <= columns and line.startswith(" " * 8 if at else "xenmsg: ") for at, line in enumerate(shown.splitlines())), shown


def is_escaped(text, whose=""):
    assert not DOES_SOMETHING.search(text), (whose, text)
    assert r"\u202e" in text and r"\u009b" in text, (whose, text)


# ---- what another domain sends ----

@pytest.mark.parametrize("how", [[], ["--json"]])
def test_recv_escapes_what_is_sent(one, how):
    terminal = Terminal(one, "--quiet", "recv", "inbox", "--count", "2", *how)
    eventually(lambda: "inbox" in one.endpoints(), "it is bound")
    one.send("self:inbox", None, data=EVIL.encode())
    one.send("self:inbox", None, data="grüße\tand\nmore\xff".encode("latin-1") if not how else "grüße".encode())
    text = terminal.end()
    is_escaped(text)
    if how:
        assert json.loads(text.splitlines()[0])["text"] == EVIL and "grüße" in text
    else:
        assert text == SHOWN + "\n" + "gr\\xfc\\xdfe\tand\nmore\\xff\n"


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_call_escapes_the_reply(one, how):
    one.popen("serve", "echo", "--", "cat", binds="echo")
    text = Terminal(one, "call", "self:echo", NAME.replace("\x7f", ""), *how).end()
    is_escaped(text)
    if how:
        assert json.loads(text)["text"] == NAME.replace("\x7f", "")


def test_raw_and_pipes_have_it_as_it_is(one):
    one.popen("serve", "echo", "--", "cat", binds="echo")
    sent = NAME.replace("\r", "")  # the terminal makes something else of it
    assert Terminal(one, "call", "self:echo", sent, "--raw").end() == sent
    assert one.xenmsg("call", "self:echo", NAME).stdout == NAME.encode()
    terminal = Terminal(one, "--quiet", "recv", "inbox", "--count", "1", "--raw")
    inbox = one.receiver("pipe", "--count", "1")
    eventually(lambda: "inbox" in one.endpoints(), "it is bound")
    for endpoint in "inbox", "pipe":
        one.send(f"self:{endpoint}", None, data=sent.encode())
    assert terminal.end() == sent and inbox.output() == sent.encode() + b"\n"


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_subscribe_escapes_what_is_published(one, how):
    one.popen("publish", "--stay", "1h", "news", "-", data=EVIL.encode())
    shown = Terminal(one, "--quiet", "subscribe", "self:news", "--count", "1", *how).end()
    is_escaped(shown)
    if how:
        assert json.loads(shown.splitlines()[-1])["text"] == EVIL
    else:
        assert shown == SHOWN + "\n"


# ---- what a daemon says, whose words may be another one's ----

class HostileDaemon:
    """Answers each question with texts that are meant for the terminal."""


    def __init__(self, path):
        self.path = str(path)
        self.name = NAME
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=[self.listener.accept()[0]], daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(Closed, OSError):
            while True:
                got = receive_frame(connection)
                if got.kind == HELLO:
                    connection.sendall(welcome())
                else:
                    self.take(connection, got)

    def take(self, connection, got):
        if got.kind == OPEN:
            connection.sendall(frame(OPENED, u64(65536, 1 << 24) + bytes(4), channel=got.channel))
        elif got.kind == DATA and got.payload[8:14] == b"watch ":
            connection.sendall(b"".join(told_frames(got.channel, 1, u32(1, 2) + NAME.encode())))
        elif got.kind == DATA:
            connection.sendall(b"".join(self.tell(got)))

    piece = None

    def tell(self, got):
        """The answer to a question, in pieces where it has some."""
        size, = struct.unpack_from("<I", got.payload)
        question, number = got.payload[8:8 + size], struct.unpack_from("<I", got.payload, len(got.payload) - 4)[0]
        if question == b"ping":
            return answer_frames(got.channel, number, NAME, error=113)
        return answer_frames(got.channel, number, json.dumps(self.answer(question), ensure_ascii=False).encode(), piece=self.piece)

    @staticmethod
    def reply(question, text="", error=0):
        return frame(REPLY, u32(error, 0) + bytes_of(text), channel=question.channel)

    def answer(self, question):
        name = self.name
        link = {"peer": {"domid": 2, "name": name}, "domid": 2, "name": name, "uuid": name, "version": name, "host": name,
                "link": name, "state": name, "via": name, "last_error": name, "endpoint": name, "kind": name, "visible_to": [name]}
        if question.startswith(b"status"):
            return {"domid": 1, "name": name, "version": name, "uptime_s": 1, "links": [link], "clients": [link],
                    "endpoints": [dict(link, uid=0, pid=1, queued=0)], "policy": {"error": name}, "grants": {"used_pages": name},
                    "accounts": [{"kind": name, "id": 2, "host": name}], "instance": name, "peers": [link], "streams": [link]}
        if question.startswith(b"policy"):
            return {"allow": False, "file": name, "line": 1, "reason": name, "undecided": True}
        return [link]

    def asked(self, *words, **options):
        """A command that talks to it."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run([tool("xenmsg"), "--socket", self.path, *words], timeout=60 * PATIENCE, check=False,
                              env=dict(os.environ, LC_ALL="C"), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@pytest.fixture(name="hostile")
def hostile_daemon(tmp_path):
    with HostileDaemon(tmp_path / "sock") as daemon:
        yield daemon


def test_what_a_daemon_says_is_escaped(alone, hostile):
    for command in ("peers", "endpoints", "hosts", "policy check 2 inbox", "peers --json", "endpoints --json", "hosts --json",
                    "policy check 2 inbox --json", "status", "status --json", "status --metrics", "doctor", "doctor --json", "ping 2",
                    "watch", "watch --json"):
        terminal = Terminal(alone, *command.split(), "--socket", hostile.path)
        if command.startswith("watch"):
            terminal.read(until=b"evil")
            terminal.process.send_signal(signal.SIGTERM)
        is_escaped(terminal.end(), command)


def test_top_escapes_what_a_daemon_says(alone, hostile):
    hostile.name = "\u202e\u009b"  # the columns are narrow
    terminal = Terminal(alone, "top", "--socket", hostile.path)
    terminal.read(until=rb"\u202e\u009b")
    terminal.process.send_signal(signal.SIGTERM)
    assert not re.search("[\x80-\x9f\u202e\ufffd]", terminal.end())  # ncurses has escape sequences of its own


# ---- who waits is told ----

@pytest.mark.unless(relayed="direct")
def test_who_waits_at_a_terminal_is_told_for_what(nodes):
    one, two = nodes(1, 2, config=LOST_SOON).values()
    with Holder(two, "lazy") as lazy:
        assert lazy.request(BIND, bind_payload("work", CALLS), number=2)[0] == 0
        for words, state in ((("send", "2:lazy", "x"), "taken"), (("call", "2:work", "x"), "answered")):
            terminal = Terminal(one, *words)
            assert f"{words[1]}: not yet {state}; Ctrl-C gives up" in terminal.read(until=b"XENMSG_TIMEOUT")
            terminal.process.send_signal(signal.SIGINT)
            assert "interrupted" in terminal.end()
        with stopped(two.pid):
            eventually(lambda: one.link_state(2) == "away", "its daemon doesn't answer")
            terminal = Terminal(one, "send", "2:lazy", "x", "--timeout", "60")
            assert "send to 2:lazy: not yet taken: its domain is away, and waited for\n" in terminal.read(until=b"waited for\r\n")
            terminal.process.send_signal(signal.SIGTERM)
            terminal.end()


@pytest.mark.parametrize("words, missing", [("connect 2:shell", "no stream"), ("run 2:shell", "no answer"), ("ping 2", "no answer"),
                                            ("bench 2", "no answer")])
@pytest.mark.unless(relayed="direct")
def test_who_connects_or_measures_is_told_what_is_missing(nodes, words, missing):
    one, two = nodes(1, 2, config=LOST_SOON).values()
    one.xenmsg("ping", "2", "-n", "1")
    command, address = words.split()
    with stopped(two.pid):
        eventually(lambda: one.link_state(2) == "away", "its daemon doesn't answer")
        subject = {"connect": "connect to", "bench": "bench"}.get(command, command) + f" {address}" + ":bench" * (command == "bench")
        for option, ending in ((["-t", "500"], "after 500 s, by --timeout, it gives up"), ([], "Ctrl-C gives up, and --timeout or")):
            if command in ("ping", "bench") and not option:
                ending = "after 10 s, by --timeout"
            terminal = Terminal(one, command, *option, address)
            assert f"xenmsg: {subject}: {missing} yet: its domain is away, and waited for; {ending}" in terminal.read(until=b"imeout")
            terminal.process.send_signal(signal.SIGINT)
            terminal.end()
        # Nobody watches the errors of these.
        assert b"yet" not in one.xenmsg(command, "-t", "3", address).stderr


def test_a_ping_has_taken_all_the_time_that_it_was_waited_for(nodes):
    one, two = nodes(1, 2).values()
    with stopped(two.pid):
        terminal = Terminal(one, "ping", "2", "-n", "1")
        terminal.read(until=b"yet")
    assert float(re.search(r"^2: ([0-9.]+) us", terminal.end(), re.M)[1]) >= 2e6  # it says so behind 2 s


def test_no_daemon_is_waited_for_where_none_can_be(alone):
    for command in "send", "call", "connect", "run":
        assert "is running yet" not in Terminal(alone, command, "--socket", "/" + "x" * 200, "--wait", "2:x", *["y"] * (command != "connect")).end()


def test_a_terminal_is_told_if_no_rule_lets_another_domain_in(nodes):
    one = nodes(1, policy="[rule]\nfrom = 2\nto = open\naction = allow\n[rule]\nfrom = 3\nto = *\naction = deny\n")[1]
    for command in ("recv", "serve", "listen", "listen --run"):
        words = command.split()
        for name in ("closed", "open"):
            terminal = Terminal(one, *words, name, *([] if command in ("recv", "listen") else ["--", "cat"]))
            said = terminal.read(until=b"\n")
            assert f"bound 1:{name}" in said and ("no rule lets another domain of this host in" in said) == (name == "closed")
            terminal.process.terminate()
            terminal.end()


def test_a_terminal_is_told_what_is_bound_and_what_is_read(one):
    for command in ("recv", "serve", "listen"):
        terminal = Terminal(one, command, "box", *(["--", "cat"] if command == "serve" else []))
        assert "bound 1:box\n" in terminal.read(until=b"\r\n")
        if command == "recv":
            typing = Terminal(one, "send", "self:box")
            assert "what you type is the message; Ctrl-D ends it" in typing.read(until=b"\r\n")
            os.write(typing.master, b"typed\n\x04")
            typing.end()
            assert "typed" in terminal.read(until=b"typed")
        terminal.process.terminate()
        terminal.end()


def test_the_environment_has_a_time_out_too(one):
    plain, given = one.environment, dict(one.environment, XENMSG_TIMEOUT="200ms")
    with Holder(one, "lazy"):
        one.environment = given
        assert b"timed out" in one.xenmsg("send", "self:lazy", "x").stderr
        assert one.xenmsg("send", "--no-wait", "self:lazy", "x").returncode == EXIT_OK
        assert one.xenmsg("send", "--no-wait", "--timeout", "1", "self:lazy", "x").returncode == EXIT_USAGE
        for value in ("soon", "-1", "0"):
            one.environment = dict(plain, XENMSG_TIMEOUT=value)
            done = one.xenmsg("send", "self:lazy", "x")
            assert done.returncode == EXIT_USAGE and "XENMSG_TIMEOUT is a number of seconds from 0.001 to" in done.stderr.decode()
    one.environment = plain


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("columns", [80, 70])
def test_a_table_or_a_finding_fits_into_its_terminal(one, two, columns):
    """What is too wide stands in parts below each other, and words stay whole."""
    assert one.xenmsg("ping", "--count", "1", "2").returncode == EXIT_OK
    plain = one.xenmsg("status").stdout.decode()
    shown = Terminal(one, "status", columns=columns).end()
    heads = re.findall(r"^ACCOUNT .*$", shown, re.M)
    assert max(map(len, plain.splitlines())) > columns >= max(map(len, shown.splitlines())), shown
    assert [head for line in heads for head in line.split()[1:]] == re.search(r"^ACCOUNT (.*)$", plain, re.M)[1].split()
    found = Terminal(one, "doctor", "2:nowhere", columns=columns).end()
    assert max(map(len, found.splitlines())) <= columns and "xenmsg policy check" in re.sub(r"\s+", " ", found), found
    one.set_policy("[rule]\nfrom = 2\nto = box\naction = allow\n")
    denied = Terminal(one, "policy", "check", "2", "nowhere", columns=columns).end()
    assert max(map(len, denied.splitlines())) <= columns and "xenmsg policy reload" in re.sub(r"\s+", " ", denied), denied


def test_each_part_of_a_table_tells_its_rows_apart(one):
    for name in ("alpha", "beta", "gamma"):
        one.receiver(name)
    parts = Terminal(one, "endpoints", columns=36).end().strip().split("\n\n")
    assert len(parts) > 1 and all(len(set(part.splitlines())) == 4 for part in parts), parts
