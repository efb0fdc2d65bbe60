# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg peers, endpoints, ping, watch and status, and what all commands share."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

from library import Connection
from messaging import (EXIT_ERROR, EXIT_LIMIT, EXIT_NO_DAEMON, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE,
                       advised, eventually, tool)


def test_peers_lists_who_is_there(one, two):
    one.xenmsg("ping", "--count", "1", "2")
    eventually(lambda: b"\n2 " in one.xenmsg("peers").stdout, "domain 2 is listed")
    heading = one.xenmsg("peers").stdout.decode().splitlines()[0].split()
    assert [word for word in heading if word not in ("VIA", "WHY")] == ["DOMID", "NAME", "UUID", "VERSION", "LINK", "RTT_US"]
    peers = {peer["domid"]: peer for peer in one.json("peers")}
    assert peers[2]["link"] in ("up", "relayed")
    alone, = one.json("peers", "2")
    # A number is no host. The round trip is measured again and again.
    assert {**alone, "rtt_us": 0} == {**peers[2], "rtt_us": 0} and one.xenmsg("peers", "2").stdout.decode().splitlines()[1].startswith("2 ")
    two.stop()
    eventually(lambda: not [peer for peer in one.json("peers") if peer["domid"] == 2 and peer["up"]], "domain 2 is gone")


def test_listings_are_in_the_order_of_the_domids(nodes):
    one, *others = nodes(1, 3, 0, 2).values()

    def domids(listing):
        return [entry["domid"] for entry in one.json(listing)]

    with contextlib.ExitStack() as programs:
        for other in others:
            other.xenmsg("ping", "--count", "1", "1")
            programs.enter_context(Connection(other.socket, binds=f"from-{other.domid}"))
        eventually(lambda: set(domids("endpoints")) == {0, 2, 3}, "all endpoints are seen")
        assert domids("peers") == domids("endpoints") == [0, 2, 3]
        status = one.status()
        assert [peer["domid"] for peer in status["peers"]] == [0, 2, 3] and [link["peer"]["domid"] for link in status["links"]] in ([0, 2, 3], [0])


def test_endpoints_lists_what_can_be_reached(one, two):
    two.receiver("print")
    two.receiver("scan")
    one.receiver("log")

    def listed(*domain):
        return sorted((entry["domid"], entry["name"]) for entry in one.json("endpoints", *domain))

    eventually(lambda: listed() == [(1, "log"), (2, "print"), (2, "scan")], "all three are listed")
    assert listed("2") == [(2, "print"), (2, "scan")]
    assert listed("self") == [(1, "log")]
    table = [line.split() for line in one.xenmsg("endpoints", "2").stdout.decode().splitlines()]
    assert table[0] == ["DOMID", "DOMAIN", "NAME", "KIND", "VISIBLE_TO"]
    assert sorted((row[0], row[2], row[4]) for row in table[1:]) == [("2", "print", "-"), ("2", "scan", "-")]


def test_endpoints_tells_kinds_and_who_has_bound_what(one):
    started = {"log": one.receiver("log").process, "upper": one.popen("serve", "upper", "--", "cat"), "sort": one.popen("listen", "sort")}
    programs = {"log": "xenmsg-recv", "upper": "xenmsg-serve", "sort": "xenmsg-listen"}
    bound = eventually(lambda: (all_ := {entry["name"]: entry for entry in one.json("endpoints")}).keys() == started.keys() and all_, "all")
    assert {name: entry["kind"] for name, entry in bound.items()} == {"log": "message", "upper": "call", "sort": "stream"}
    assert {name: (entry["uid"], entry["pid"], entry["comm"]) for name, entry in bound.items()} == {
        name: (0, process.pid, programs[name]) for name, process in started.items()}
    head, *rows = [line.split() for line in one.xenmsg("endpoints").stdout.decode().splitlines()]
    assert head == ["DOMID", "DOMAIN", "NAME", "KIND", "VISIBLE_TO", "USER", "PID", "PROGRAM"]
    assert {tuple(row[5:]) for row in rows} == {("root", str(process.pid), programs[name]) for name, process in started.items()}


def test_lists_have_the_fields_that_are_chosen(one, two):
    one.receiver("log")
    two.receiver("inbox")
    eventually(lambda: len(one.json("endpoints")) == 2, "both are listed")
    assert one.xenmsg("endpoints", "-o", "kind,address", "self").stdout == b"KIND     ADDRESS\nmessage  1:log\n"
    done = one.xenmsg("endpoints", "--format", r"<%{address}>\t%{program} 100%%\\n\n%{started}|")
    assert done.stdout == b"<1:log>\txenmsg-recv 100%\\n\n-|\n<2:inbox>\t- 100%\\n\n-|\n", done
    assert one.xenmsg("peers", "-odomid,version", "2").stdout.splitlines()[1].split()[:1] == [b"2"]
    assert one.xenmsg("endpoints", "--fields=started,user", "self").stdout.split() == [b"STARTED", b"USER", b"-", b"root"]
    for address in one.xenmsg("endpoints", "--format", "%{address}").stdout.decode().split():
        one.send(address, "hello")  # it is taken as it is
    assert [entry["address"] for entry in one.json("endpoints")] == ["1:log", "2:inbox"]


def test_lists_take_patterns_as_watch_does(one, two):
    for node, endpoint in ((one, "log"), (one, "print"), (two, "print"), (two, "scan")):
        node.receiver(endpoint)
    listed = lambda *words: one.xenmsg("endpoints", "--format", "%{address}", *words).stdout.decode().split()
    eventually(lambda: len(listed()) == 4, "all are listed")
    expected = {"*:print": ["1:print", "2:print"], "2:*": ["2:print", "2:scan"], "self:p*": ["1:print"], "?": listed(), "d*:log": ["1:log"],
                "2:print": ["2:print"], "[13]:*": ["1:log", "1:print"], "7*": []}
    assert {pattern: listed(pattern) for pattern in expected} == expected
    assert one.json("endpoints", "*:scan")[0]["address"] == "2:scan"
    assert b"endpoints 7*: there are none" in one.xenmsg("endpoints", "7*").stderr
    assert one.xenmsg("endpoints", "2:none").returncode == EXIT_NO_ENDPOINT
    domids = lambda *words: one.xenmsg("peers", "--format", "%{domid}", *words).stdout.split()
    assert b"2" in domids("*") and domids("[2-9]") == [b"2"] and domids("x*") == [] and b"there are none" in one.xenmsg("peers", "x*").stderr


def test_status_counts_in_words_and_sizes_for_people(one, two):
    two.receiver("inbox")
    one.send("2:inbox", "hello")
    text = one.xenmsg("status").stdout.decode()
    assert re.search(r"^\d peers?, \d links?, 0 endpoints, 1 client$", text, re.M) and "{" not in text, text
    head, row = next((line.split(), below.split()) for line, below in itertools.pairwise(text.splitlines()) if line.startswith("ACCOUNT"))
    used = dict(zip(head[-7:], row[-7:]))
    assert re.fullmatch(r"\d+K?/\d+M", used["QUEUED_BYTES"]) and re.fullmatch(r"[\d.]+[KM]?/[\d.]+[MG]", used["MEMORY"]), (head, row)
    assert isinstance(one.status()["accounts"][0]["memory"]["used"], int)


def refused(*words):
    """What is said of wrong usage, which is one line."""
    done = subprocess.run([tool("xenmsg"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_USAGE and done.stdout == "" and done.stderr.count("\n") == 1, done
    return done.stderr


def test_a_choice_that_cannot_be_is_wrong_usage():
    for words, said in (
            (["endpoints", "-o", "adress"], "no field 'adress'; did you mean 'address'?"),
            (["peers", "-o", "domid,xyzzy"], "no field 'xyzzy', but host, domid,"), (["peers", "-o", ""], "--fields needs a value, not ''"),
            (["hosts", "-o", "host,"], "no field ''"), (["watch", "--format", "%{nmae}"], "did you mean 'name'?"),
            (["recv", "x", "--format", "%{"], "stands {FIELD}"), (["recv", "x", "--format", "%x"], "stands {FIELD}"),
            (["recv", "x", "--format", "5 %"], "stands {FIELD}"), (["endpoints", "--json", "-o", "name"], "exclude each other"),
            (["watch", "--format", "x", "-o", "name"], "exclude each other"), (["recv", "x", "--raw", "--format", "x"], "exclude each other")):
        assert said in refused(*words), words


def test_watch_prints_the_fields_that_are_chosen(one, two):
    watches = [one.popen("watch", "2:*", *how) for how in (["-o", "address,event"], ["--format", "%{event} %{address}!"])]
    two.receiver("inbox")
    assert [watch.stdout.readline() for watch in watches] == [b"2:inbox up\n", b"up 2:inbox!\n"]


def test_ping_counts_and_sums_up(nodes):
    one = nodes(1, 2)[1]
    done = one.xenmsg("ping", "--count", "3", "--interval", "0", "2")
    assert done.returncode == EXIT_OK
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 4 and lines[3].startswith("3 of 3 answered")
    done = one.xenmsg("ping", "9", "--count", "1")
    assert done.returncode == EXIT_UNREACHABLE and b"9" in done.stderr and done.stdout == b""
    assert one.xenmsg("ping", "self", "--count", "1").returncode == EXIT_OK


def lines_until(process, wanted, timeout=30):
    """Reads lines until one of them is wanted; all of them."""
    lines, gives_up = [], threading.Timer(timeout * PATIENCE, process.kill)
    gives_up.start()
    for line in process.stdout:
        lines.append(line.decode().rstrip("\n"))
        if wanted(lines[-1]):
            gives_up.cancel()
            return lines
    raise AssertionError((lines, process.stderr.read()))


def test_watch_prints_comings_and_goings_as_they_happen(one, two):
    watch = one.popen("watch")
    lines_until(watch, lambda line: line.startswith("up domain 2"))
    inbox = two.receiver("inbox")
    lines_until(watch, lambda line: line.startswith("up endpoint 2:inbox"))
    inbox.stop()
    lines_until(watch, lambda line: line.startswith("down endpoint 2:inbox"))
    two.stop()
    lines_until(watch, lambda line: line.startswith("down domain 2"))
    watch.send_signal(signal.SIGINT)
    assert watch.wait(timeout=30 * PATIENCE) in (-signal.SIGINT, 128 + signal.SIGINT)


def test_watch_of_a_pattern_reports_only_what_matches(one, two):
    watch = one.popen("watch", "--json", "*:pr*")
    two.receiver("scan")
    two.receiver("print")
    first = json.loads(lines_until(watch, lambda line: '"up"' in line)[-1])
    assert first == {"event": "up", "kind": "endpoint", "address": "2:print", "host": None, "domid": 2, "domain": first["domain"], "name": "print"}
    watch.terminate()
    watch.wait(timeout=30 * PATIENCE)


def test_a_bad_pattern_is_wrong_usage(one):
    for pattern in ("", "2:", ":x", "2:a:b", "a b", "2:a b", "2:a.b", "h/x:y:z", "x" * 300, "2:" + "x" * 300):
        for command in ("watch",) + (("endpoints",) if pattern.startswith("2:") else ()):
            done = one.xenmsg(command, pattern)
            assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1, done


def test_who_mistypes_a_command_is_told_the_nearest():
    for typed, meant in (("sned", "send"), ("recieve", None), ("rcv", "recv"), ("stauts", "status"), ("endpoint", "endpoints"),
                         ("pign", "ping"), ("peer", "peers"), ("xyzzy", None), ("", None), ("s" * 5000, None)):
        for words in ([typed], ["help", typed]):
            said = refused(*words)
            assert f"there is no command '{typed}'" in said
            assert (f"did you mean '{meant}'? Try" in said) if meant else "did you mean" not in said, said


def test_words_of_other_tools_lead_to_the_command():
    for typed, meant in (("ls", "'endpoints'"), ("sub", "'subscribe'"), ("pub", "'publish'"), ("info", "'status'"),
                         ("logs", advised("log", "xenmsgd"))):
        assert meant in refused(typed), typed


def test_who_mistypes_an_option_is_told_the_nearest():
    for words, meant in ((["send", "--timout", "1"], "--timeout"), (["recv", "--jsn"], "--json"), (["recv", "--cuont=2"], "--count"),
                         (["--sockt"], "--socket"), (["policy", "chek"], "check"), (["policy", "relaod"], "reload"),
                         (["send", "--xyzzy"], None), (["policy", "xyzzy"], None)):
        said = refused(*words)
        assert (f"did you mean '{meant}'? Try" in said) if meant else "did you mean" not in said, said


def test_who_mistypes_an_endpoint_is_told_the_nearest(one, two):
    two.receiver("inbox")
    eventually(lambda: any(each["name"] == "inbox" for each in one.json("endpoints", "2")), "it can be seen")
    for words in (["send", "2:inobx", "x"], ["call", "2:inbx", "x"], ["connect", "2:nbox"], ["endpoints", "2:inbx"]):
        done = one.xenmsg(*words)
        assert done.returncode == EXIT_NO_ENDPOINT and b"did you mean 2:inbox?" in done.stderr, done
    assert b"line 1: no such endpoint there; did you mean 2:inbox?" in one.xenmsg("send", "--lines", "2:inbo", data=b"x\n").stderr
    assert b"did you mean" not in one.xenmsg("send", "2:elsewhere", "x").stderr


def test_who_binds_what_is_bound_is_told_by_whom(one):
    holder = one.receiver("inbox").process
    for words, what in ((["recv", "inbox"], "bind inbox"), (["serve", "inbox", "--", "cat"], "serve inbox"), (["listen", "inbox"], "listen on inbox")):
        done = one.xenmsg(*words)
        assert done.returncode == EXIT_ERROR and f"{what}: xenmsg-recv (pid {holder.pid}, user root) has bound" in done.stderr.decode(), done


def test_who_mistypes_a_domain_is_told_the_nearest(nodes, host):
    one, host_names = nodes(0, 1, 2)[1], {"2": "work"}
    host.sim("rename", 2, host_names["2"])
    eventually(lambda: one.xenmsg("ping", "work", "--count", "1").returncode == 0, "its name is known")
    for words, meant in ((["send", "wrok:inbox", "x"], "work:inbox"), (["call", "wrk:x", "x"], "work:x"), (["connect", "works:x"], "work:x"),
                         (["run", "owrk:x"], "work:x"), (["ping", "wrok"], "work"), (["endpoints", "wrok"], "work"),
                         (["doctor", "wrok"], "work"), (["policy", "check", "wrok", "x"], "work")):
        done = one.xenmsg(*words)
        assert f"did you mean {meant}?" in (done.stdout + done.stderr).decode(), (words, done)
    for words in (["ping", "elsewhere"], ["send", "9:x", "x"], ["ping", "hosta/work"]):
        assert b"did you mean" not in one.xenmsg(*words).stderr, words


def test_no_address_or_endpoint_is_wrong_usage_everywhere(one):
    """It isn't asked of the daemon, whose words know of errors alone."""
    reaching = (["send"], ["call"], ["connect"], ["run"], ["subscribe"])
    binding = (["recv"], ["serve"], ["listen"], ["publish"])
    for commands, kind, wrong in ((reaching, "address", ("", ":", "2", "2:", ":x", "2:a.b", "a/b/c:x", "2:a:b", "2 :x")),
                                  (binding, "endpoint", ("", ":", "a b", "a.b", "_x", "*", "a" * 64))):
        for words in commands:
            for text in wrong:
                behind = ["x"] if words == ["publish"] else ["--", "true"] if words[0] in ("serve", "listen") else []
                done = one.xenmsg(*words, text, *behind)
                said = done.stderr.decode()
                assert done.returncode == EXIT_USAGE and said.startswith(f"xenmsg: bad {kind} '{text}': "), (words, text, done)
                assert said.endswith(f"; try 'xenmsg {words[0]} --help'\n") and said.count("\n") == 1, said


def test_a_list_without_entries_says_so_on_standard_error(one):
    done = one.xenmsg("endpoints")
    assert done.returncode == 0 and done.stdout == b"" and b"endpoints: there are none" in done.stderr
    assert one.xenmsg("endpoints", "--json").stderr == one.xenmsg("-q", "endpoints").stderr == b""


def test_without_a_daemon_every_command_says_so(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "XENMSG_SOCKET"}
    socket = str(tmp_path / "nobody")
    for command in (["send", "self:x", "y"], ["recv", "x"], ["peers"], ["endpoints"], ["ping", "2"], ["watch"], ["status"]):
        for arguments, variables in ((command[:1] + ["--socket", socket] + command[1:], {}),
                                     (["--socket", socket] + command, {}), (command, {"XENMSG_SOCKET": socket})):
            done = subprocess.run([tool("xenmsg"), *arguments], capture_output=True, check=False, env=dict(environment, **variables))
            assert done.returncode == EXIT_NO_DAEMON and done.stdout == b"", done
            assert done.stderr.count(b"\n") == 1 and socket.encode() in done.stderr, done


def test_a_setuid_program_believes_no_environment_of_its_user(nodes):
    """A set-uid program would speak with whoever the user says."""
    if os.getuid() != 0:
        pytest.skip("only root can run a program as somebody else")
    one, = nodes(1).values()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program = os.path.join(directory, "xenmsg")
        for mode, code in ((0o755, EXIT_OK), (0o4755, EXIT_NO_DAEMON)):
            shutil.copy(tool("xenmsg"), program)
            os.chmod(program, mode)
            done = subprocess.run([program, "peers"], capture_output=True, check=False, user=65534 if mode & 0o4000 else 0,
                                  env=dict(os.environ, XENMSG_SOCKET=one.socket))
            assert done.returncode == code, done
        assert one.socket.encode() not in done.stderr and b"/run/xenmsg/xenmsg.sock" in done.stderr


def test_a_word_behind_peers_is_a_domain_before_it_is_a_host(zero, one, two, host):
    host.sim("rename", 2, "web")
    eventually(lambda: one.xenmsg("peers", "web").stdout.splitlines()[1:], "domain 2 is listed by its name")
    nearly, nobody = one.xenmsg("peers", "wbe"), one.xenmsg("peers", "hostb")
    assert nearly.returncode == nobody.returncode == EXIT_UNREACHABLE
    assert b"no domain or host of that name; did you mean web?" in nearly.stderr and nobody.stderr.endswith(b"of that name\n")


def test_what_is_known_from_other_tools_leads_to_ours():
    for words, meant in (("restart", "daemon renew"), ("reload", "policy reload"), ("version", "--version"), ("ps", "status"),
                         ("stop", "stop xenmsgd'?"), ("policy list", "show"), ("policy allow 3 x", "policy.d"), ("daemon stop", "stop xenmsgd"),
                         ("recv 2:inbox", "write inbox"), ("send 2 inbox hi", "there is no colon")):
        assert meant in refused(*words.split()), words


def test_wrong_usage_is_told_in_one_line():
    for words in ("peers x y", "hosts x", "endpoints a b", "endpoints a:b:c", "endpoints a/b/c", "endpoints a:", "endpoints :a",
                  "endpoints h/*", "peers a:b", "peers a/", "peers A/b", "ping", "ping a b", "ping --count none 2",
                  "watch a b", "status --json --metrics", "status x", "peers --jso -x"):
        refused(*words.split())


def test_an_error_is_one_printable_line_whatever_was_typed(one):
    for command in (["send", "2:in\nbox", "x"], ["recv", "a\x1b[2Jb"], ["ping", "a:\rb"], ["send", "2:x", "--file", "/nix\n"],
                    ["send", "--timeout", "\n", "2:x"], ["no\nsuch"], ["peers", "--socket", "/nix\n/s"]):
        done = one.xenmsg(*command)
        assert done.returncode != 0 and done.stdout == b"", done
        assert done.stderr.endswith(b"\n") and done.stderr[:-1].decode().isprintable(), done


def test_a_ping_to_nobody_says_what_to_do(one):
    for command in (["ping", "77"], ["endpoints", "77"]):
        done = one.xenmsg(*command)
        assert done.returncode == EXIT_UNREACHABLE
        assert b", or no xenmsgd runs in it; 'xenmsg peers'" in done.stderr, done.stderr


def test_a_number_of_seconds_that_cannot_be_says_which_can(alone):
    for command, option, least in (
            ("send", "--timeout", "0.001"), ("call", "--timeout", "0.001"), ("recv", "--timeout", "0"), ("ping", "--interval", "0"),
            ("ping", "--timeout", "0"), ("connect", "--timeout", "0"), ("top", "--delay", "0.1")):
        for text in ("1e9", "1e3", "0x10", ".", "1.2.3", "soon", "-1", "nan", "") + (("0",) if least != "0" else ()):
            done = alone.xenmsg(command, option, text)
            said = f"{option} takes a number of seconds from {least} to 2147483, or 500ms, 5s, 2m or 1h, not '{text}'"
            assert done.returncode == EXIT_USAGE and said in done.stderr.decode(), done


def test_times_may_have_a_unit(one):
    for number, text in enumerate(("0.1", "0.1s", "100ms", "0.002m", ".002min", "0.00003h")):
        done = one.xenmsg("recv", f"inbox{number}", "-t", text)
        assert done.returncode == EXIT_TIMEOUT and b"no message within" in done.stderr, done


def test_json_and_letters_are_taken_where_others_take_them(one):
    assert json.loads(one.xenmsg("--json", "policy", "check", "2", "inbox").stdout)["allow"]
    assert len(one.xenmsg("ping", "-c2", "--interval", "1ms", "self").stdout.splitlines()) == 3
    assert len(one.xenmsg("--json", "ping", "self", "-n", "2", "--interval", "1ms").stdout.splitlines()) == 2
    for wrong in (["--json", "send", "self:x", "x"], ["peers", "-n", "2"], ["send", "-n", "2", "self:x", "x"]):
        assert one.xenmsg(*wrong).returncode == EXIT_USAGE


def test_watch_ends_when_nobody_reads_it_any_more(nodes):
    watch = nodes(1)[1].popen("watch", "self")
    assert watch.stdout.readline().startswith(b"up domain 1")
    watch.stdout.close()
    assert watch.wait(timeout=30 * PATIENCE) == EXIT_ERROR
    assert watch.stderr.read() == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_descriptor_becomes_nothing_else_s(one, closed):
    """What is opened gets the lowest number that is free: the connection would be read from and written to in its stead."""
    stdin, stdout = "<" not in closed, closed[0] != ">" and " >" not in closed

    def run(*words):
        return one.run_command("sh", "-c", f"exec {tool('xenmsg')} {' '.join(words)} {closed}", data=b"hello", timeout=20)
    one.popen("listen", "echo", "--", "cat", binds="echo")
    assert run("status").returncode == (EXIT_OK if stdout else EXIT_ERROR)
    assert run("send", "self:none", "x").returncode == EXIT_NO_ENDPOINT
    done = run("connect", "self:echo")
    assert done.returncode == (EXIT_OK if stdin and stdout else EXIT_ERROR), done
    assert done.stdout == (b"hello" if stdin and stdout else b"")
    if "2>" not in closed:
        assert (b"Bad file descriptor" in done.stderr) == (done.returncode != EXIT_OK)


def test_a_socket_of_no_name_is_wrong_usage(nodes):
    done = nodes(1)[1].xenmsg("peers", "--socket", "")
    assert done.returncode == EXIT_USAGE and done.stderr.startswith(b"xenmsg: --socket takes a path"), done


def test_endpoints_of_other_domains_have_their_kinds_too(one, two):
    def kinds():
        return {entry["name"]: entry["kind"] for entry in one.json("endpoints", "2")}
    inbox = two.receiver("inbox")
    two.popen("serve", "upper", "--", "cat")
    two.popen("listen", "shell", "--", "cat")
    eventually(lambda: kinds() == {"inbox": "message", "upper": "call", "shell": "stream"}, "all are told")
    assert sorted(one.xenmsg("endpoints", "2", "-o", "kind").stdout.decode().split()) == ["KIND", "call", "message", "stream"]
    # Another program takes something else there.
    inbox.stop()
    two.popen("serve", "inbox", "--", "cat")
    eventually(lambda: kinds() == {"inbox": "call", "upper": "call", "shell": "stream"}, "it is told once more")


@pytest.mark.unless(small="limits")
def test_hundreds_of_endpoints_have_their_own_kinds(one, two):
    """As many as one leaf holds: others are left out, which is told, and no kind is another one's."""
    with Connection(two.socket) as program:
        for number in range(250):
            name = f"a-name-that-is-long-{number:03}"
            assert (program.listen(name) if number % 3 else program.bind(name)) == 0

        def told():
            done = one.xenmsg("endpoints", "2", "--json")
            return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]
        eventually(lambda: told()[0] == EXIT_LIMIT and len(told()[1]) > 60, "as many as fit are told, and that there are more")
        listed = told()[1]
        assert len(listed) < 250
        for entry in listed:
            assert (entry["kind"] == "stream") == bool(int(entry["name"][-3:]) % 3), entry
