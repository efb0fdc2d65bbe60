# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policy: who may reach and bind what, what is said about it, and what happens when the rules change."""

import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter

import jsonschema
import pytest

from frames import BIND, DATA, OPEN, RESET, bind_payload, frame, message, open_frame
from library import Connection
from messaging import EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_UNREACHABLE, EXIT_USAGE, PATIENCE, Holder, eventually, given_time, tool
from protocol import Program
from renewing import process_until, renew
from users import as_user

NOBODY = 65534


def rule(from_, to, action="allow", uid=None):
    return f"[rule]\nfrom = {from_}\n" + ("" if uid is None else f"uid = {uid}\n") + f"to = {to}\naction = {action}\n"


@pytest.fixture(name="with_policies")
def nodes_with_policies(nodes):
    """Starts domains, each with a policy: {1: text, 2: None}. None: no file at all."""
    def start(policies):
        all_nodes = nodes(*policies, start=False)
        for domid, node in all_nodes.items():
            node.policy = policies[domid]
            node.start(wait=False)
        for node in all_nodes.values():
            node.wait_ready()
        for node in all_nodes.values():
            node.sees(*all_nodes.values())
        return list(all_nodes.values())
    return start


def reload(node, text, says="policy: "):
    """Changes the rules and waits until the daemon has something new to say about them."""
    before = len(node.log.read_text())
    node.write_policy(text)
    os.kill(node.pid, signal.SIGHUP)
    return eventually(lambda: [line for line in node.log.read_text()[before:].splitlines() if says in line],
                      f"the log says {says}")


HOW = pytest.mark.parametrize("how", ["reload", "renew"])


def takes_rules(node, text, how, *name):
    """Other rules, by a reload or by the next daemon, which finds them in its files."""
    if how == "reload":
        node.set_policy(text, *name)
    else:
        node.write_policy(text, *name)
        renew(node)


def asks(path, kind, payload):
    """The daemon's answer as [error, text]."""
    with Program(path) as program:
        error, text = program.request(kind, payload)
        return [error, text.decode()]


def binds(path, endpoint):
    return asks(path, BIND, bind_payload(endpoint))


def is_told(path, what):
    """The daemon's answer to a question as [error, text]."""
    with Program(path) as program:
        error, text = program.ask(what)
        return [error, text.decode()]


# ---- who may reach what ----

def test_without_rules_others_are_denied_and_the_own_is_not(with_policies):
    one, two = with_policies({1: None, 2: None})
    receiver = two.receiver("inbox", "--count", "1")
    for command in ("send", "call", "connect", "subscribe"):
        done = one.xenmsg(command, "2:inbox", data=b"hello")
        words = f"2:inbox: denied by policy. Ask in domain 2: xenmsg policy check {one.domid} inbox"
        assert done.returncode == EXIT_DENIED and words in done.stderr.decode(), done
    two.send("self:inbox", "hello")
    assert receiver.output() == b"hello\n"


@pytest.mark.unless(renewed="uncertain")
def test_rules_about_the_own_domain_hold_for_all_that_goes_there(with_policies):
    one, = with_policies({1: rule("self", "closed*", "deny")})
    with Connection(one.socket) as server, Connection(one.socket) as client:
        assert [server.bind("closed"), server.listen("closed-stream"), server.bind("open"), server.listen("open-stream")] == [0] * 4
        assert client.send("self:closed", b"x") == client.call("self:closed", b"x") == -errno.EACCES
        assert client.connect("self:closed-stream") == -errno.EACCES
        assert client.send("self:open", b"x", 100) == client.call("self:open", b"x", 100) == -errno.ETIMEDOUT
        stream = client.connect("self:open-stream")
        assert stream >= 0
        os.close(stream)


def test_who_may_not_reach_an_endpoint_learns_not_if_it_exists(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "open*")})
    receiver = two.receiver("secret")
    errors = [one.send(f"2:{name}", "x", exit_code=EXIT_DENIED).replace(name, "NAME") for name in ("secret", "nothing")]
    assert errors[0] == errors[1]
    one.send("2:open", "x", exit_code=EXIT_NO_ENDPOINT)
    receiver.stop()


def test_rules_hold_for_users_and_patterns(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "print", "deny", uid=0) + rule("1", "p*", uid="0, 1000")})
    print_, pay = two.receiver("print"), two.receiver("pay")
    one.send("2:print", "x", exit_code=EXIT_DENIED)
    one.send("2:pay", "x")

    def post(path):
        with Connection(path) as conn:
            return [conn.send("2:print", b"x"), conn.send("2:pay", b"x")]
    assert as_user(1000, one, post) == [0, 0]
    assert as_user(1001, one, post) == [-errno.EACCES, -errno.EACCES]
    print_.stop()
    pay.stop()


# ---- while names are unknown ----

DENY_BY_NAME = rule("dom1", "*", "deny") + rule("*", "*")


@pytest.mark.unless(renewed="counts", strict="zero", relayed="zero")
def test_what_a_name_might_deny_waits_for_the_name(with_policies, nodes):
    """That a question waits is seen by how many weren't decided, which each daemon counts anew."""
    one, two, three = with_policies({1: None, 2: DENY_BY_NAME, 3: None})
    receiver = two.receiver("inbox", "--count", "2")
    # Nobody here can tell which of them is dom1.
    for node in (one, three):
        undecided = lambda seconds: (done := node.xenmsg("send", "2:inbox", "x", "--timeout", seconds)).returncode == EXIT_UNREACHABLE and done
        assert b"needs the name of this domain" in given_time(undecided, 2).stderr
    two.send("self:inbox", "own")
    assert [line for line in two.log.read_text().splitlines() if "not decided yet: domain 1" in line and "50-test.conf:1" in line]
    policy = two.status()["policy"]
    assert policy["needs_names"] and not policy["names_known"] and policy["undecided"] >= 2
    assert two.status()["denied"] == []
    done = two.xenmsg("policy", "check", "3", "inbox")
    assert done.returncode == EXIT_UNREACHABLE
    assert done.stdout.decode().startswith("not decided: /etc/xenmsg/policy.d/50-test.conf, line 1: the rule needs the name of domain 3")
    assert "no xenmsgd is seen in domain 0" in done.stdout.decode()
    answer = json.loads(two.xenmsg("policy", "check", "3", "inbox", "--json").stdout)
    assert answer["undecided"] and not answer["allow"]
    done = two.xenmsg("doctor", "1")
    assert done.returncode == EXIT_UNREACHABLE and "rules name domains, and no names are known" in done.stdout.decode()
    assert seen(one, 2) == {}
    # Who waits is served once it is known.
    waits = three.popen("send", "2:inbox", "from three")
    eventually(lambda: two.status()["policy"]["undecided"] > policy["undecided"], "it has been told to wait")
    assert waits.poll() is None
    nodes(0)
    assert waits.wait(timeout=30 * PATIENCE) == 0, waits.stderr.read()
    assert receiver.output() == b"own\nfrom three\n"
    one.send("2:inbox", "x", exit_code=EXIT_DENIED)
    assert two.status()["policy"]["names_known"]
    assert two.xenmsg("policy", "check", "1", "inbox").returncode == EXIT_DENIED
    two.receiver("inbox")
    eventually(lambda: seen(three, 2) == {"inbox": None}, "domain 3 sees it")
    assert seen(one, 2) == {}


@pytest.mark.unless(strict="zero", relayed="zero")
def test_calls_and_streams_wait_for_names_too(with_policies, nodes):
    one, two = with_policies({1: None, 2: rule("evil", "*", "deny") + rule("*", "*")})
    server = two.popen("serve", "up", "--", "cat")
    listener = two.popen("listen", "pipe", "--", "cat")
    eventually(lambda: {"up", "pipe"} <= set(two.endpoints()), "both are bound")

    def says_what_is_missing(*words):
        done = one.xenmsg(*words, "--timeout", "0.5")  # which the first link may take
        return done.returncode == EXIT_UNREACHABLE and b"needs the name of this domain" in done.stderr
    for words in (("call", "2:up", "x"), ("connect", "2:pipe")):
        eventually(lambda words=words: says_what_is_missing(*words), "it says what is missing")
    call = one.popen("call", "2:up", "hello")
    stream = one.popen("connect", "2:pipe", stdin=subprocess.PIPE)
    stream.stdin.write(b"stream\n")
    stream.stdin.close()
    before = two.status()["policy"]["undecided"]
    eventually(lambda: two.status()["policy"]["undecided"] > before + 1, "they try again")
    nodes(0)
    assert call.wait(timeout=30 * PATIENCE) == 0 and stream.wait(timeout=30 * PATIENCE) == 0
    assert call.stdout.read().strip() == b"hello" and stream.stdout.read() == b"stream\n"
    for process in (server, listener):
        process.kill()


# ---- what is said about it ----

def seen(node, domid):
    """The endpoints of a domain that another one sees."""
    return {entry["name"]: entry["visible_to"] for entry in node.json("endpoints", str(domid))}


def test_status_and_endpoints_say_who_may_reach_an_endpoint(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "print") + rule("3", "scan", "deny") + rule("*", "scan")})
    for name in ("print", "scan", "other"):
        two.receiver(name)

    def said():
        return {entry["name"]: entry["visible_to"] for entry in two.status()["endpoints"]}

    assert said() == {"print": ["1"], "scan": ["!3", "*"], "other": []}
    with open(os.path.join(os.path.dirname(__file__), "../../doc/status.schema.json"), encoding="utf-8") as schema:
        jsonschema.validate(two.status(), json.load(schema))
    assert seen(two, "self") == said()
    lines = two.xenmsg("endpoints", "self").stdout.decode().splitlines()[1:]
    for name, readers in (("print", "1"), ("scan", "!3,*"), ("other", "nobody")):
        assert [readers in line.split() for line in lines if name in line.split()] == [True]
    # What it says is what is advertised, and after a reload what the new rules say.
    eventually(lambda: seen(one, 2) == {"print": None, "scan": None}, "domain 1 sees two of them")
    reload(two, rule("1, dom3", "other"))
    assert said() == {"print": [], "scan": [], "other": ["1", "dom3"]}
    eventually(lambda: seen(one, 2) == {"other": None}, "domain 1 sees the other")


# ---- what is counted and logged ----

def test_refusals_are_counted_and_the_log_is_limited(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "no*", "deny")})
    two.receiver("inbox")
    with Connection(one.socket) as sender:
        for _ in range(40):
            assert sender.send("2:inbox", b"x") == -errno.EACCES
        assert sender.send("2:none", b"x") == -errno.EACCES
    denied = {entry["to"]: entry for entry in two.status()["denied"]}
    assert denied["inbox"]["count"] == 40 and denied["none"]["count"] == 1
    assert denied["inbox"]["from"] == "1"
    assert abs(denied["inbox"]["last"] - time.time()) < 600
    lines = [line for line in two.log.read_text().splitlines() if "denied: domain 1" in line]
    assert len(lines) == 10
    assert "to inbox: no rule allows it" in lines[0] and " warning: " in lines[0]
    assert one.status()["denied"] == []


def test_a_refusal_by_a_rule_is_logged_with_its_place(with_policies):
    one, two = with_policies({1: None, 2: "# first\n" + rule("1", "no*", "deny")})
    one.send("2:none", "x", exit_code=EXIT_DENIED)
    line, = [line for line in two.log.read_text().splitlines() if "denied: " in line]
    assert "/policy.d/50-test.conf:2" in line


# ---- who may bind what ----

def test_only_root_and_the_sockets_group_bind_without_a_rule(with_policies):
    one, = with_policies({1: f"[bind]\nname = scan*\nuid = {NOBODY}\naction = allow\n"
                             "[bind]\nname = closed\nuid = *\naction = deny\n"})
    assert binds(one.socket, "print") == [0, ""]
    assert binds(one.socket, "closed")[0] == errno.EACCES
    error, text = as_user(NOBODY, one, lambda path: binds(path, "print"))
    assert error == errno.EACCES and "[bind]" in text
    assert as_user(NOBODY, one, lambda path: binds(path, "scanner")) == [0, ""]
    lines = [line for line in one.log.read_text().splitlines() if "may not bind" in line]
    assert f"uid {NOBODY} may not bind print" in lines[1]
    os.chown(one.socket, -1, NOBODY)
    assert as_user(NOBODY, one, lambda path: binds(path, "print")) == [0, ""]


# ---- what is advertised ----


@pytest.mark.unless(renewed="counts", strict="zero", relayed="zero")
def test_who_sees_nothing_does_not_see_that_something_goes_on(with_policies, host):
    """Each hand-over writes into XenStore, whatever goes on."""
    one, two, three = with_policies({1: rule("2", "print*"), 2: None, 3: None})
    three.sees(one)
    spy = host.converse(3, "check-store")
    eventually(lambda: spy.ask("read", "/local/domain/1/data/xenmsg/to/3/endpoints").startswith("ok"), "domain 1 has answered it")
    assert spy.ok("watch", "/local/domain") == 0
    assert spy.ask("event") == "ok /local/domain"

    def seen(mark):
        """The paths in domain 1 that the spy's watch has told since the last time."""
        spy.ok("write", mark, 3, -1, "x")
        paths = list(iter(lambda: spy.ask("event").split()[1], mark))
        return [path for path in paths if path.startswith("/local/domain/1/")]

    seen("/local/domain/3/data/before")
    begun = time.monotonic()
    for i in range(20):
        with Holder(one, f"hidden{i}", "print"):
            eventually(lambda: "print" in str(two.status()["peers"]), "domain 2 sees it come")
        eventually(lambda: "print" not in str(two.status()["peers"]), "domain 2 sees it go")
    # What domain 3 has asked may be answered again, a second later each time; what comes and goes would be told 40 times.
    told = seen("/local/domain/3/data/after")
    assert len(told) < 20 + time.monotonic() - begun and set(told) <= {"/local/domain/1/data/xenmsg/to/3/endpoints"}, told


# ---- new rules ----


def test_a_bad_file_changes_nothing_and_is_named(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "inbox")})
    receiver = two.receiver("inbox")
    before = two.status()["links"]
    line = reload(two, "# a comment\n[rule]\nfrom = 1\nto = inbox\naction = maybe\n", "the old rules stay")[0]
    assert "50-test.conf:5: action 'maybe': must be allow or deny" in line and " error: " in line
    one.send("2:inbox", "still there")
    assert two.status()["links"] or before == []
    receiver.stop()


def test_a_daemon_does_not_start_with_a_bad_policy(alone):
    alone.policy = "[rule]\nform = 1\n"
    alone.start(wait=False)
    # The unit doesn't start it again after this.
    assert alone.daemon.wait(timeout=30 * PATIENCE) == EXIT_USAGE
    assert "50-test.conf:2: [rule] has no key 'form'" in alone.log.read_text()
    alone.daemon = None


@pytest.mark.parametrize("text, line", [
    (rule("1", "inbox", "alow"), "4: action 'alow': must be allow or deny"),
    ("[rule]\nfrom 3\nto = inbox\naction = allow\n", "2: this is neither a [section] nor KEY = VALUE"),
    (None, None)])
def test_check_config_reads_the_policy_too(alone, tmp_path, text, line):
    policies, config = tmp_path / "policy.d", tmp_path / "check.conf"
    policies.mkdir()
    config.write_text(f"[daemon]\npolicy-dir = {policies}\n")
    (policies / "10.conf").write_text(text or rule("1", "inbox"))
    done = alone.run_command(tool("xenmsgd"), "--check-config", "--config", config)
    assert done.returncode == (EXIT_USAGE if text else 0), done
    assert not text or f"{policies}/10.conf:{line}" in done.stderr.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
@pytest.mark.parametrize("what", ["settings", "policy-dir", "activation-dir"])
@pytest.mark.parametrize("whole", [False, True])
def test_what_another_user_may_change_is_not_trusted(alone, tmp_path, what, whole):
    """Neither a file of his, nor a directory of his into which he may put one."""
    config, directory = tmp_path / "check.conf", tmp_path / "d"
    directory.mkdir()
    config.write_text("[daemon]\n" if what == "settings" else f"[daemon]\n{what} = {directory}\n")
    (directory / "10.conf").write_text("")
    theirs = config if what == "settings" else directory if whole else directory / "10.conf"
    os.chown(theirs, 4711, -1)
    done = alone.run_command(tool("xenmsgd"), "--check-config", "--config", config)
    assert done.returncode == EXIT_USAGE and f"{theirs}: isn't trusted, since uid 4711 owns it".encode() in done.stderr, done
    os.chown(theirs, 0, -1)
    assert b"isn't trusted" not in alone.run_command(tool("xenmsgd"), "--check-config", "--config", config).stderr


# ---- a reload that reports ----

def test_a_reload_reports(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "inbox")})
    receiver = two.receiver("inbox")
    two.write_policy(rule("1", "other"))
    done = two.xenmsg("policy", "reload")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "1 rule is in force\n  1 of /etc/xenmsg/policy.d/50-test.conf\n"
    one.send("2:inbox", "b", exit_code=EXIT_DENIED)
    two.write_policy(rule("1", "inbox", "alow"))
    before = two.status()["policy"]
    done = two.xenmsg("policy", "reload")
    assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1, done
    assert b"50-test.conf:4: action 'alow': must be allow or deny; the old rules stay in force" in done.stderr
    one.send("2:inbox", "b", exit_code=EXIT_DENIED)
    receiver.stop()
    # Whoever looks later sees it too.
    policy = two.status()["policy"]
    assert policy["error"].endswith("50-test.conf:4: action 'alow': must be allow or deny")
    assert policy["rules"] == before["rules"] == 1 and policy["since"] == before["since"]
    assert before["error"] is None and before["error_since"] is None and abs(policy["error_since"] - time.time()) < 600
    with open(os.path.join(os.path.dirname(__file__), "../../doc/status.schema.json"), encoding="utf-8") as schema:
        jsonschema.validate(two.status(), json.load(schema))
    assert "policy: older rules are in force: " in two.xenmsg("status").stdout.decode()
    done = two.xenmsg("doctor", "1")
    assert done.returncode != 0
    assert "FAIL  policy       older rules are in force" in done.stdout.decode() and "50-test.conf:4" in done.stdout.decode()
    two.set_policy(rule("1", "inbox"))
    assert two.status()["policy"]["error"] is None
    assert two.xenmsg("policy", "reload", "now").returncode == EXIT_USAGE


def reloads(path):
    return is_told(path, "reload")


def test_only_root_and_the_daemons_own_user_reload(with_policies):
    one, = with_policies({1: None})
    error, text = as_user(NOBODY, one, reloads)
    assert error == errno.EPERM and "only root" in text
    assert reloads(one.socket)[0] == 0


def test_a_daemon_that_serves_as_another_user_is_reloaded_by_it(alone, tmp_path):
    policies = tmp_path / "policy.d"
    policies.mkdir()
    path = tmp_path
    while len(str(path)) > len("/tmp"):
        os.chmod(path, 0o755)
        path = path.parent
    alone.config += f"[daemon]\nuser = nobody\npolicy-dir = {policies}\n"
    alone.start()
    assert as_user(NOBODY, alone, reloads)[0] == 0
    assert as_user(1, alone, reloads)[0] == errno.EPERM
    assert reloads(alone.socket)[0] == 0
    # A file that this user may not read is none that could be passed over.
    (policies / "10.conf").write_text("")
    os.chmod(policies / "10.conf", 0)
    assert reloads(alone.socket)[0] == errno.EINVAL
    assert "10.conf: can't be read: Permission denied" in alone.status()["policy"]["error"]


@HOW
def test_new_rules_under_traffic_end_what_is_forbidden_alone(with_policies, how):
    one, two, three = with_policies({1: None, 2: rule("1, 3", "inbox"), 3: None})
    with Connection(one.socket) as bad, Connection(three.socket) as good, Connection(two.socket, binds="inbox") as sleeper:
        ended, others = [], []
        for _ in range(3):  # more than a window, and no more than a queue takes beside it, however soon the channel is open
            assert bad.post("2:inbox", bytes(40000), ended.append) == 0
            assert good.post("2:inbox", bytes(40000), others.append) == 0
        eventually(lambda: bad.wait(10) >= 0 and good.wait(10) >= 0 and
                   all((peer := two.account("peer", domid)) and peer["channels"]["used"] for domid in (1, 3)), "both are under way")
        takes_rules(two, rule("3", "inbox"), how)
        eventually(lambda: bad.wait(10) >= 0 and len(ended) == 3, "what is forbidden has ended")
        assert set(ended) <= {-errno.EACCES, -errno.ECONNRESET} and -errno.EACCES in ended, ended
        assert others == []
        got = []

        def take():
            message = sleeper.receive(10)
            if hasattr(message, "data"):
                got.append((message.domid, len(message.data)))
            return good.wait(10) >= 0 and len(others) == 3
        eventually(take, "the others are delivered")
        # What lay in the receiver's ring may be taken before it hears that its channel has ended, which its sender hears at
        # the same time; that it can't be known is what ECONNRESET says.
        assert [message for message in got if message[0] == 3] == [(3, 40000)] * 3
        assert set(got) <= {(1, 40000), (3, 40000)} and got.count((1, 40000)) <= ended.count(-errno.ECONNRESET), (got, ended)
        assert others == [0, 0, 0]
        assert bad.send("2:inbox", b"x") == -errno.EACCES


def test_a_reload_is_answered_once_all_that_it_forbids_has_ended(with_policies):
    """However many turns the daemon takes for it: nothing that is sent after the answer goes by the rules before."""
    others = "".join(rule("3", f"name{i}") for i in range(300))
    one, two = with_policies({1: None, 2: others + rule("1", "inbox")})
    channels = range(0, 1000, 2)
    with Program(one.socket) as opener, Program(two.socket) as server, Program(two.socket) as asker:
        server.bind("inbox")
        opener.send_bytes(b"".join(open_frame(number, "2:inbox") for number in channels))
        for _ in channels:
            server.expect(OPEN)
        two.write_policy(others + rule("1", "other"))
        assert asker.ask("reload")[0] == 0
        opener.send_bytes(b"".join(frame(DATA, message(b"late"), channel=number, messages=1) for number in channels))
        assert Counter(server.receive().kind for _ in channels) == {RESET: len(channels)}
        assert Counter(opener.expect(RESET).channel for _ in channels) == {number: 1 for number in channels}


@HOW
def test_a_stream_that_new_rules_forbid_breaks_at_both_ends(with_policies, how):
    one, two = with_policies({1: None, 2: rule("1", "*")})
    listener = two.popen("listen", "pipe", stdin=subprocess.PIPE, binds="pipe")
    caller = one.popen("connect", "2:pipe", stdin=subprocess.PIPE)
    caller.stdin.write(b"hello\n")
    caller.stdin.flush()
    assert listener.stdout.readline() == b"hello\n"
    takes_rules(two, rule("1", "other"), how)
    for process in (caller, listener):
        assert process.wait(timeout=30 * PATIENCE) == 8, process.stderr.read()


@HOW
def test_new_rules_end_what_programs_here_have_begun(with_policies, how):
    one, = with_policies({1: None})
    with Connection(one.socket, binds="inbox") as server, Connection(one.socket) as client:
        ended = []
        assert server.listen("stream") == 0
        with socket.socket(fileno=client.connect("self:stream")) as near, socket.socket(fileno=server.accept()) as far:
            near.settimeout(20 * PATIENCE)
            assert client.call_post("self:inbox", b"x", ended.append) == 0
            server.take()
            takes_rules(one, rule("self", "*", "deny"), how)
            process_until(lambda: ended, "it has ended", client, server)
            with pytest.raises(ConnectionResetError):
                near.recv(1)
            with pytest.raises(ConnectionResetError):
                far.recv(1)


# ---- policy check ----

def test_policy_check_tells_which_rule_decides(with_policies):
    one, = with_policies({1: rule("3", "print", "deny", uid=1000) + rule("3", "print")})

    def check(*words, code):
        done = one.xenmsg("policy", "check", *words)
        assert done.returncode == code, done
        return (done.stderr or done.stdout).decode()
    path = "/etc/xenmsg/policy.d/50-test.conf"
    assert check("3", "print", code=0) == f"allow: the rule in {path}, line 6, decides\n" + rule("3", "print")
    assert check("3/1000", "print", code=EXIT_DENIED) == (
        f"deny: the rule in {path}, line 1, decides\n" + rule("3", "print", "deny", uid=1000)
        + "\nTo allow it, put this before it, and then: xenmsg policy reload\n" + rule("3", "print", uid=1000))
    assert "between domains that means deny" in check("3", "scan", code=EXIT_DENIED)
    assert "within the domain that means allow" in check("self", "scan", code=0)
    answer = json.loads(check("3/1000", "print", "--json", code=EXIT_DENIED))
    decides = {"file": path, "line": 1, "section": "rule", "from": ["3"], "uid": ["1000"], "to": ["print"], "action": "deny"}
    assert answer == {"allow": False, "undecided": False, "domid": 3, "uid": 1000, "endpoint": "print", "file": path, "line": 1,
                      "reason": "a rule decides", "policy": "own", "rule": decides, "cure": dict(decides, action="allow")}
    answer = json.loads(check("3", "scan", "--json", code=EXIT_DENIED))
    assert answer["file"] is None and answer["line"] is None and answer["rule"] is None
    assert answer["cure"] == {"file": path, "line": None, "section": "rule", "from": ["3"], "to": ["scan"], "action": "allow"}
    assert "no domain of that name" in check("nowhere", "print", code=EXIT_UNREACHABLE)
    assert check("3", "a.b", code=EXIT_USAGE).count("\n") == 1
    assert check("3/x", "print", code=EXIT_USAGE).count("\n") == 1
    assert "policy check takes FROM and TO" in check("3", code=EXIT_USAGE)
    # To ask is not to be refused.
    assert one.status()["denied"] == []


def cure_in(done):
    """What `policy check` has printed to be pasted."""
    return done.stdout.decode().partition("To allow it, ")[2].partition("\n")[2]


@pytest.mark.parametrize("policy", ["", rule("2", "inbox", "deny") + rule("*", "*", "deny"), rule("*", "print", uid=7)])
def test_the_rule_that_policy_check_prints_allows_it(with_policies, policy):
    one, _ = with_policies({1: policy, 2: None})
    for who, to in (("2", "inbox"), ("2/1000", "scan"), ("hostb/work", "inbox"), ("hostb/7/12", "a-b")):
        done = one.xenmsg("policy", "check", who, to)
        assert done.returncode == EXIT_DENIED and cure_in(done), done
        one.set_policy(cure_in(done) + policy)
        done = one.xenmsg("policy", "check", who, to)
        assert done.returncode == 0 and not cure_in(done), done
        # It allows no more than was asked about.
        assert one.xenmsg("policy", "check", "3", to).returncode == EXIT_DENIED
        one.set_policy(policy)


def test_policy_check_names_a_file_where_there_is_none(with_policies):
    one, = with_policies({1: None})
    done = one.xenmsg("policy", "check", "2", "inbox")
    assert "add this to /etc/xenmsg/policy.d/50-local.conf, and" in done.stdout.decode()
    done = one.xenmsg("policy", "reload")
    assert done.stdout == b"no rules are in force: there are no files *.conf in /etc/xenmsg/policy.d\n"
    done = one.xenmsg("policy", "show")
    assert (done.returncode, done.stdout) == (0, b"") and b"there are no rules" in done.stderr


def test_policy_check_in_domain_0_asks_the_outs(with_policies):
    zero, = with_policies({0: None})
    done = zero.xenmsg("policy", "check", "2", "hostb/work:inbox")
    assert done.returncode == EXIT_DENIED and cure_in(done) == "[out]\nfrom = 2\nto = hostb\naction = allow\n", done
    zero.set_policy(cure_in(done))
    done = zero.xenmsg("policy", "check", "2", "hostb/work:inbox")
    assert done.returncode == 0 and "[out]" in done.stdout.decode()
    answer = json.loads(zero.xenmsg("policy", "check", "--json", "2", "hostc/work:inbox").stdout)
    assert (answer["allow"], answer["to_host"], answer["endpoint"]) == (False, "hostc", "inbox")


# ---- policy show, policy denied ----

def test_policy_show_prints_files_that_mean_the_same(with_policies):
    one, = with_policies({1: None})
    first = "# nothing\n"
    second = rule("2, hostb/*", "print, scan-?", uid="0,1000") + "[bind]\nname = a*\nuid = root, @root, *\naction = deny\n"
    third = "[see]\nfrom = *\ndomain = self\naction = allow\n[relay]\nfrom = 2\nto = 3\naction = deny\n[out]\nfrom = 1\nto = *\naction = allow\n"
    for name, text in (("10-a.conf", first), ("20-b.conf", second), ("30-c.conf", third)):
        one.write_policy(text, name)
    done = one.xenmsg("policy", "reload")
    place = "/etc/xenmsg/policy.d"
    assert done.stdout.decode() == f"5 rules are in force\n  0 of {place}/10-a.conf\n  2 of {place}/20-b.conf\n  3 of {place}/30-c.conf\n"
    files = json.loads(one.xenmsg("policy", "reload", "--json").stdout)
    assert files == {"directory": place, "rules": 5, "for_host": None,
                     "files": [{"file": f"{place}/{name}", "rules": rules} for name, rules in (("10-a.conf", 0), ("20-b.conf", 2), ("30-c.conf", 3))]}
    shown = one.xenmsg("policy", "show").stdout.decode()
    assert shown.startswith(f"# {place}/20-b.conf, line 1\n[rule]\nfrom = 2, hostb/*\nuid = 0, 1000\nto = print, scan-?\naction = allow\n\n"
                            f"# {place}/20-b.conf, line 6\n[bind]\n")
    rows = [json.loads(line) for line in one.xenmsg("policy", "show", "--json").stdout.splitlines()]
    assert [(os.path.basename(row["file"]), row["line"], row["section"]) for row in rows] == [
        ("20-b.conf", 1, "rule"), ("20-b.conf", 6, "bind"), ("30-c.conf", 1, "see"), ("30-c.conf", 5, "relay"), ("30-c.conf", 9, "out")]
    assert rows[1]["name"] == ["a*"] and rows[1]["uid"] == ["root", "@root", "*"] and rows[2]["domain"] == ["self"]
    # What is printed is itself a policy, and the same.
    one.write_policy(shown, "20-b.conf")
    one.set_policy("", "30-c.conf")

    def meant(row):
        return {key: value for key, value in row.items() if key not in ("file", "line")}
    again = [json.loads(line) for line in one.xenmsg("policy", "show", "--json").stdout.splitlines()]
    assert [meant(row) for row in again] == [meant(row) for row in rows]


def test_policy_show_has_five_thousand_rules(with_policies):
    one, = with_policies({1: "".join(rule("2", f"name{i}") for i in range(5000))})
    rows = [json.loads(line) for line in one.xenmsg("policy", "show", "--json").stdout.splitlines()]
    assert [row["to"] for row in rows] == [[f"name{i}"] for i in range(5000)]
    assert "policy: 5000 rules are in force" in one.xenmsg("status").stdout.decode()


@pytest.mark.unless(strict="zero", relayed="zero")
def test_policy_denied_tells_who_what_how_often_and_by_what_rule(with_policies):
    one, two = with_policies({1: None, 2: rule("1", "closed", "deny")})
    done = two.xenmsg("policy", "denied")
    assert (done.returncode, done.stdout) == (0, b"") and b"nobody was refused" in done.stderr
    for _ in range(3):
        one.send("2:closed", "x", exit_code=EXIT_DENIED)
    one.send("2:other", "x", exit_code=EXIT_DENIED)
    path = "/etc/xenmsg/policy.d/50-test.conf"
    other, closed = [json.loads(line) for line in two.xenmsg("policy", "denied", "--json").stdout.splitlines()]
    assert abs(closed.pop("last") - time.time()) < 600 and abs(other.pop("last") - time.time()) < 600
    assert closed == {"from": "1", "domain": None, "uid": 0, "to": "closed", "count": 3, "section": "rule", "file": path, "line": 1}
    assert other == {"from": "1", "domain": None, "uid": 0, "to": "other", "count": 1, "section": "rule", "file": None, "line": None}
    # It is kept which rule it was, whatever has become of that.
    two.set_policy("")
    head, first, second = two.xenmsg("policy", "denied").stdout.decode().splitlines()
    assert head.split() == ["FROM", "DOMAIN", "UID", "TO", "COUNT", "LAST", "RULE"]
    assert first.split()[:5] == ["1", "-", "0", "other", "1"] and first.endswith("no [rule]")
    assert second.split()[:5] == ["1", "-", "0", "closed", "3"] and second.endswith(f"{path}:1")
    assert "policy: refused last domain 1, uid 0, to other, 1 time," in two.xenmsg("status").stdout.decode()
    said = two.xenmsg("doctor", "1").stdout.decode()
    assert "0 rules are in force, so no other domain may reach anything here" in said
    assert "last domain 1, uid 0, to other (1 time); 'xenmsg policy check 1/0 other' says why" in said


def test_only_administrators_see_rules_and_refusals(with_policies):
    one, = with_policies({1: rule("2", "secret")})
    for question in (b"rules", b"denied"):
        error, text = as_user(NOBODY, one, lambda path, question=question: is_told(path, question))
        assert error == errno.EPERM and "administrators" in text and "secret" not in text
        assert is_told(one.socket, question)[0] == 0
    for command in ("show", "denied", "reload"):
        done = one.xenmsg("policy", command, "x")
        assert done.returncode == EXIT_USAGE and b"takes no arguments" in done.stderr
