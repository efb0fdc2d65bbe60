# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each command where things go wrong around it: standard output is full or closed, the daemon stops in the middle or says nothing
more, the locale is C, the terminal is narrow or none. Nothing is garbled, nothing is silent, nothing lasts."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import Host, children
from frames import GOODBYE, frame, u32
from messaging import (ALLOW_ALL, EXIT_DENIED, EXIT_ERROR, EXIT_NO_DAEMON, EXIT_OK, EXIT_TIMEOUT, EXIT_UNKNOWN, EXIT_USAGE, PATIENCE, Node,
                       eventually, tool, traced)
from test_cli_help import COMMANDS, POLICY
from test_cli_terminal import DOES_SOMETHING, HostileDaemon, Terminal

# A line of each command that prints something, with the domains of `pair`. What it prints to its end, or else what begins it.
PRINT = {"call": "call 2:upper word", "connect": "connect 2:sort", "run": "run 2:built", "peers": "peers", "endpoints": "endpoints",
         "status": "status", "doctor": "doctor", "ping": "ping 2 -n 1", "policy check": "policy check 2 x", "policy show": "policy show",
         "policy denied": "policy denied", "policy reload": "policy reload", "bench": "bench --seconds 0.1 2"}
INPUT = {PRINT["connect"]: b"b\na\n"}  # of one that reads it
GO_ON = {"recv": "recv inbox", "watch": "watch", "listen": "listen plain", "subscribe": "subscribe self:kept"}  # until they are stopped
PORTS = {"forward": "forward tcp:127.0.0.1:0 xen:2:sort", "exporter": "exporter --listen tcp:127.0.0.1:0"}  # the port, and then nothing
# Nothing on standard output, or tried in test_cli_large.py, test_top.py, test_top_host.py, test_handover.py, test_host_policy.py, test_trace.py and test_vchan.py.
ELSEWHERE = {"send", "publish", "serve", "top", "hosts", "daemon", "policy test", "trace", "vchan"}


def test_each_command_is_tried_here():
    assert PRINT.keys() | GO_ON.keys() | PORTS.keys() | ELSEWHERE == set(COMMANDS) - {"policy"} | set(POLICY)


@pytest.fixture(name="pair", scope="module")
def two_domains(tmp_path_factory):
    host = Host(3)
    folder = tmp_path_factory.mktemp("pair")
    policy = "[rule]\nfrom = 2\nto = secret\naction = deny\n" + ALLOW_ALL
    one, two = (Node(host, domid, folder, policy=policy) for domid in (1, 2))
    for node in (one, two):
        node.start()
    one.popen("publish", "--stay", "1h", "kept", "what is kept")
    two.popen("serve", "upper", "--", "tr", "a-z", "A-Z", binds="upper")
    two.popen("listen", "sort", "--", "sort", binds="sort")
    two.popen("listen", "--run", "built", "--", "echo", "built", binds="built")
    two.popen("bench", "--serve", binds=("bench", "bench-stream"))
    eventually(lambda: len(one.json("endpoints", "2")) == 5, "domain 1 sees them")
    two.send("1:secret", "x", exit_code=EXIT_DENIED)
    yield one, two
    for node in (one, two):
        node.end()
    host.stop()


def run(node, line):
    return subprocess.run(node.command(tool("xenmsg"), *line.split()), env=dict(node.environment, LC_ALL="C"), input=INPUT.get(line, b""),
                          capture_output=True, timeout=60 * PATIENCE, check=False)


FULL = 'exec "$@" >/dev/full', b"No space left on device"
CLOSED = 'exec "$@" >&-', b"Bad file descriptor"


def begin(node, line, how):
    return node.popen_command("sh", "-c", how[0], "sh", tool("xenmsg"), *line.split(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("how", [FULL, CLOSED], ids=["full", "closed"])
def test_what_cannot_be_printed_is_told_in_one_line(pair, how):
    for line in PRINT.values():
        done = pair[0].run_command("sh", "-c", how[0], "sh", tool("xenmsg"), *line.split(), data=INPUT.get(line, b""))
        assert done.returncode != EXIT_OK and done.stderr.count(b"\n") == 1 and how[1] in done.stderr, done


@pytest.mark.parametrize("how", [FULL, CLOSED], ids=["full", "closed"])
@pytest.mark.parametrize("line", GO_ON.values(), ids=GO_ON)
def test_what_goes_on_ends_when_its_output_cannot_be_written(pair, line, how):
    node, endpoint = pair[0], line.split()[-1]
    process = begin(node, line, how)
    if endpoint not in ("watch", "self:kept"):
        eventually(lambda: endpoint in node.endpoints(), "it is bound")
        node.xenmsg("connect" if endpoint == "plain" else "send", f"self:{endpoint}", data=b"x")
    assert process.wait(timeout=60 * PATIENCE) == EXIT_ERROR
    assert how[1] in process.stderr.read()


@pytest.mark.parametrize("how", [FULL, CLOSED], ids=["full", "closed"])
@pytest.mark.parametrize("line", PORTS.values(), ids=PORTS)
def test_a_port_that_cannot_be_told_is_an_error(pair, line, how):
    process = begin(pair[0], line, how)
    assert process.wait(timeout=60 * PATIENCE) == EXIT_ERROR
    told, failed = process.stderr.read().splitlines()
    assert b"listens on port" in told and failed == b"xenmsg: can't write to standard output: " + how[1]


@pytest.mark.parametrize("how", [FULL, CLOSED], ids=["full", "closed"])
def test_serve_needs_no_standard_output(pair, how):
    node = pair[0]
    process = begin(node, "serve up -- tr a-z A-Z", how)
    eventually(lambda: "up" in node.endpoints(), "it is bound")
    for _ in range(2):
        done = node.xenmsg("call", "self:up", "word")
        assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, b"WORD", b"")
    process.terminate()
    assert process.wait(timeout=60 * PATIENCE) and process.stderr.read() == b""


@pytest.mark.parametrize("columns", [40, 1])
def test_narrow_terminals_are_no_matter(pair, columns):
    """What is written doesn't depend on how wide the terminal is, but for progress, which is drawn over, and for tables in parts,
    each of which has the first column."""
    for name, line in PRINT.items():
        if name == "connect":  # it reads the terminal, too
            continue
        terminal = Terminal(pair[0], *line.split(), columns=columns)
        text = terminal.end()
        assert terminal.process.returncode in (EXIT_OK, EXIT_ERROR), (line, text)
        words = lambda each: [re.sub(r"[\d.:-]+", "0", word) for word in re.sub(r"[^\n]*\r", "", each).split()]
        wide = run(pair[0], line)
        if name == "bench":
            assert "stream-trip" in text
        elif name not in ("status", "doctor"):  # which tell what goes on at the moment
            assert set(words(text)) == set(words((wide.stdout + wide.stderr).decode())), (line, text)


def test_the_locale_c_garbles_nothing(pair):
    for line in PRINT.values():
        done = run(pair[0], line)
        assert done.returncode in (EXIT_OK, EXIT_ERROR) and not DOES_SOMETHING.search(done.stdout.decode()), done


# ---- payloads ----

EVERY = bytes(range(256))


@pytest.mark.parametrize("how", ["", "--raw", "--json", "--format %{payload}", "--exec cat", "--exec cat --confirm"])
def test_a_message_of_every_byte_arrives_as_it_was(pair, how):
    one, two = pair
    inbox = two.receiver("every", "--count", "1", *how.split())
    eventually(lambda: "every" in [entry["name"] for entry in one.json("endpoints", "2")], "domain 1 sees it")
    one.send("2:every", None, data=EVERY)
    got = inbox.output()
    if how == "--json":
        assert base64.b64decode(json.loads(got)["base64"]) == EVERY and json.loads(got)["size"] == 256
    else:
        assert got == EVERY + (b"\n" if how in ("", "--format %{payload}") else b"")
    eventually(lambda: "every" not in [entry["name"] for entry in one.json("endpoints", "2")], "it is gone")


def test_calls_and_streams_of_every_byte_come_back_as_they_were(pair):
    one, two = pair
    served = [two.popen(*words) for words in (["serve", "same", "--", "cat"], ["listen", "stream", "--", "cat"],
                                              ["listen", "--run", "command", "--", "cat"])]
    eventually(lambda: {"same", "stream", "command"} <= {entry["name"] for entry in one.json("endpoints", "2")}, "domain 1 sees them")
    for words in (["call", "2:same"], ["connect", "2:stream"], ["run", "2:command"]):
        done = one.xenmsg(*words, data=EVERY)
        assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, EVERY, b""), words
    assert base64.b64decode(json.loads(one.xenmsg("call", "--json", "2:same", data=EVERY).stdout)["base64"]) == EVERY
    for process in served:
        process.terminate()


@pytest.mark.skipif(not shutil.which("strace"), reason="there is no strace")
@pytest.mark.parametrize("error", ("ENOSYS", "EPERM"))
def test_an_emulator_or_a_filter_may_lack_newer_system_calls(pair, error):
    one, two = pair
    missing = traced("-f", "-e", f"inject=preadv2,pidfd_open,rt_sigpending:error={error}", tool("xenmsg"))
    served = [two.popen_command(*missing, *words, binds=words[-3])
              for words in (["serve", "same", "--", "cat"], ["listen", "--run", "command", "--", "cat"])]
    for words in (["call", "--wait", "2:same"], ["run", "--wait", "2:command"]):
        done = one.run_command(*missing, *words, data=b"same")
        assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, b"same", b""), words
    for call in ("eventfd2", "fcntl"):  # there is no way without
        done = one.run_command(*traced("-f", "-e", f"inject={call}:error={error}", tool("xenmsg")), "call", "2:same")
        assert done.returncode == 1 and b"a system call that this takes is missing or forbidden here" in done.stderr, done
    for process in served:
        process.terminate()


def test_a_terminal_gets_every_byte_of_a_message_escaped(pair):
    one = pair[0]
    terminal = Terminal(one, "recv", "inbox", "--count", "1")
    eventually(lambda: "inbox" in one.endpoints(), "it is bound")
    one.send("self:inbox", None, data=EVERY)
    text = terminal.end()
    assert not DOES_SOMETHING.search(text) and r"\u001b" in text and r"\xff" in text and "ABC" in text


# ---- the daemon ----

class Stops(HostileDaemon):
    """Welcomes, and then ends, or says nothing more."""

    def __init__(self, path, silent):
        self.silent = silent
        super().__init__(path)

    def take(self, connection, got):
        if not self.silent:
            connection.close()


LINES = {**PRINT, "send": "send 2:inbox x", "serve": "serve --once a -- cat", "listen": "listen --once a", "hosts": "hosts",
         "policy denied": "policy denied", "watch": "watch --once", "recv": "recv --once inbox",
         "subscribe": "subscribe --once 2:news", "publish": "publish news x", "daemon": "daemon renew", "trace": "trace inbox"}


def test_a_daemon_that_stops_in_the_middle_is_told(tmp_path):
    with Stops(tmp_path / "sock", silent=False) as daemon:
        for line in LINES.values():
            done = daemon.asked(*line.split())
            said = done.stderr.decode()
            if line == "doctor":
                assert done.returncode != EXIT_OK and b"FAIL  daemon" in done.stdout and said == "", done
                continue
            codes = {"send": {EXIT_NO_DAEMON, EXIT_UNKNOWN}, "call": {EXIT_NO_DAEMON, EXIT_UNKNOWN}, "bench": {EXIT_NO_DAEMON, EXIT_UNKNOWN}, "run": {255}}
            assert done.returncode in codes.get(line.split()[0], {EXIT_NO_DAEMON}) and done.stdout == b"" and said.count("\n") == 1, done
            assert any(words in said for words in ("xenmsgd has gone away", "no xenmsgd there", "can't be known")), done


def test_a_daemon_that_says_nothing_more_costs_the_time_out(tmp_path):
    with Stops(tmp_path / "sock", silent=True) as daemon:
        for name in ("send", "call", "connect", "run", "ping"):
            begun = time.monotonic()
            command, *words = LINES[name].split()
            done = daemon.asked(command, "--timeout", "0.3", *words)
            assert done.returncode in (EXIT_TIMEOUT, EXIT_UNKNOWN, 255) and done.stderr.count(b"\n") == 1, done
            assert time.monotonic() - begun < 4 * PATIENCE, name


# ---- as an adversary ----

WRONG = ["--nonsense", "-Z", "--socket", "--socket=", "--version=1", "--help=x", "--json=1", "--", "\x1b[2J", "\u202e", "x" * 2000]


@pytest.mark.parametrize("command", [each for each in [*COMMANDS, *POLICY] if each != "policy"])
def test_wrong_options_are_told_in_one_harmless_line(alone, command):
    # At a terminal, with no daemon there: what was typed is shown again.
    for wrong in WRONG:
        terminal = Terminal(alone, command=[tool("xenmsg"), *command.split(), wrong])
        os.write(terminal.master, b"\x04")
        text = terminal.end().replace("^D\x08\x08", "")
        codes = (EXIT_USAGE, 126, 127) if command == "vchan" else (EXIT_USAGE, EXIT_NO_DAEMON, 255, 1)  # it takes a word for a program's name
        assert terminal.process.returncode in codes, (wrong, terminal.process.returncode, text)
        assert not DOES_SOMETHING.search(text) and (len(re.findall(r"^(?! {8})", text.rstrip("\n"), re.M)) <= 1 or command == "doctor"), (wrong, text)


class Refuses(HostileDaemon):
    """Whatever it is asked, in words that may be another domain's."""

    def take(self, connection, got):
        connection.sendall(self.reply(got, self.name, 13) if got.kind >= 32 else frame(GOODBYE, u32(13) + self.name.encode()))


def test_words_of_a_hostile_daemon_are_escaped(alone, tmp_path):
    with Refuses(tmp_path / "sock") as daemon:
        for command in ("send 2:x y", "call 2:x y", "connect 2:x", "run 2:x", "bench 2", "recv a", "serve a -- cat", "listen a", "policy show",
                        "policy denied", "policy reload", "endpoints 2", "peers x", "watch *:x", "doctor 2:x", "trace x"):
            terminal = Terminal(alone, "--socket", daemon.path, *command.split())
            eventually(lambda: terminal.process.poll() is not None, f"{command} ends", timeout=60)  # pylint: disable=cell-var-from-loop
            text = terminal.end()
            assert terminal.process.returncode != EXIT_OK and not DOES_SOMETHING.search(text), (command, text)


# Becomes a program that inherits signals as pools of workers, judges and old session managers have them.
BLOCKS = "import os, signal, sys; stop = {signal.SIGINT, signal.SIGTERM}; signal.pthread_sigmask(signal.SIG_BLOCK, stop | {signal.SIGCHLD});"
BEGINS = {"as usual": "import os, sys;", "blocked": BLOCKS, "ignored": "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"}


@pytest.mark.parametrize("how", BEGINS)
def test_a_command_may_inherit_any_signals(pair, tmp_path, how):
    one, two = pair

    def start(node, *words, **options):
        return node.popen_command("python3", "-c", f"{BEGINS[how]} os.execv(sys.argv[1], sys.argv[1:])", node.tool("xenmsg"), *words,
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)

    def lines(name):
        return (tmp_path / name).read_text().count("\n") if (tmp_path / name).exists() else 0
    servers = [start(two, "listen", "echo", "--", "cat", binds="echo"), start(two, "listen", "--run", "cat", "--", "cat", binds="cat"),
               start(two, "serve", "mask", "--", "grep", "SigBlk", "/proc/self/status", binds="mask"),
               start(two, "recv", "--confirm", "ok", "--exec", "true", binds="ok"),
               start(two, "recv", "each", "--exec", f"echo >>{tmp_path}/each", binds="each")]
    assert one.xenmsg("connect", "2:echo", data=b"word").stdout == b"word"
    assert one.xenmsg("run", "2:cat", data=b"word").stdout == b"word"
    assert re.fullmatch(rb"SigBlk:\s0+\n", one.xenmsg("call", "2:mask", "").stdout)
    one.send("2:ok", "word", "-t", "30")
    one.send("2:each", None, "--lines", data=b"1\n2\n3\n")
    eventually(lambda: lines("each") == 3, "a command has run for each message")
    two.popen("publish", "--each", "--stay", "600", "news", "a", "b", "c", binds="news")
    reader = start(one, "subscribe", "-n", "3", "2:news", "--exec", f"echo >>{tmp_path}/news")
    assert reader.wait(timeout=30 * PATIENCE) == 0, reader.stderr.read()
    assert lines("news") == 3
    for server in servers:
        server.terminate()
        assert server.wait(timeout=30 * PATIENCE) == -signal.SIGTERM, server.args


FIRST = {"serve": ("serve up -- {}", "call 2:up word"), "listen": ("listen up -- {}", "connect 2:up"), "run": ("listen --run up -- {}", "run 2:up"),
         "recv": ("recv up --exec {}", "send 2:up word"), "ping": ("ping 1 -n 1000000", None)}


@pytest.mark.parametrize("what", FIRST)
def test_the_first_process_of_a_container_reaps_and_ends(pair, tmp_path, what):
    one, two = pair
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\n(sleep 0.1; true) </dev/null >/dev/null 2>&1 &\n")
    command.chmod(0o755)
    words, asks = FIRST[what]
    first = two.popen_command("unshare", "--pid", "--fork", *([] if os.geteuid() == 0 else ["--map-root-user"]), two.tool("xenmsg"),
                              *words.format(command).split(), binds="up" if asks else (), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if asks:
        for _ in range(3):
            assert one.xenmsg(*asks.split()).returncode == EXIT_OK
    else:
        assert first.stdout.readline()
    init = children(first.pid)[0]
    eventually(lambda: len(children(init)) == 1, "only the process that does the work is left")
    os.kill(init, signal.SIGTERM)
    assert first.wait(timeout=30 * PATIENCE) == 128 + signal.SIGTERM
