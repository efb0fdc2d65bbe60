# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that are started on demand: what comes for them waits, arrives, or ends with one error."""

import json
import math
import os
import signal
import stat
import subprocess
import time

import jsonschema
import pytest

from messaging import (EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_USAGE, PATIENCE, eventually, is_built_with_systemd, needs_systemd,
                       start_all, tool)
from service_manager import Systemd


GATE = "while [ ! -e $0.go ]; do sleep 0.05; done\n"  # opened by open_gate()


def have_gone(*pids):
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "nothing is left of any")


class Activation:
    """A domain with endpoints that are started on demand; `log` of each has a line for every start."""

    def __init__(self, node, directory):
        self.node = node
        self.directory = directory / f"activation-{node.domid}"
        self.directory.mkdir()
        self.node.config += f"[daemon]\nactivation-dir = {self.directory}\n"

    def script(self, name, text):
        """A program that notes that it was started."""
        path = self.directory / f"{name}.sh"
        path.write_text(f"#!/bin/sh\necho $$ >> {self.directory}/{name}.log\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def add(self, endpoint, text, user="root", timeout="120s"):
        path = self.script(endpoint, text)
        self.write(endpoint, f"user = {user}\nexec = {path}\ntimeout = {timeout}\n")

    def write(self, endpoint, text):
        (self.directory / f"{endpoint}.conf").write_text(f"[activate]\nendpoint = {endpoint}\n{text}")

    def starts(self, name):
        path = self.directory / f"{name}.log"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def pid(self, name):
        """That of its last start. The script runs for a while before it has noted it."""
        eventually(lambda: self.starts(name) > 0, f"{name} has started")
        return int((self.directory / f"{name}.log").read_text().splitlines()[-1])

    def about(self, endpoint):
        return {entry["name"]: entry for entry in self.node.status()["endpoints"]}[endpoint]["activation"]

    def output(self, name):
        return self.directory / f"{name}.sh.out"  # for its script, $0.out

    def open_gate(self, name):
        (self.directory / f"{name}.sh.go").touch()

    def waiting(self, name, count=1):
        eventually(lambda: self.about(name)["waiting"] == count, f"{count} wait: {self.about(name)}")

    def fails(self, endpoint, why, sender=None):
        """What comes for it ends, and why is told while nothing is started: for a second at first, which a slow machine may miss, and
        then for longer."""
        def is_told():
            (sender or self.node).send(f"{self.node.domid}:{endpoint}", "x", exit_code=EXIT_NO_ENDPOINT)
            about = self.about(endpoint)
            return about["state"] == "failed" and about["reason"] == why
        eventually(is_told, f"{endpoint} has failed: {why}")


@pytest.fixture(name="started")
def with_activations(nodes, tmp_path):
    """started(endpoint="what its script does"): (the activation of domain 1, domain 1, domain 2)"""
    def start(timeout="120s", user="root", **scripts):
        one, two = nodes(1, 2, start=False).values()
        activation = Activation(one, tmp_path)
        for endpoint, script in scripts.items():
            activation.add(endpoint, script, user, timeout)
        start_all(one, two)
        one.sees(two)
        two.sees(one)
        return activation, one, two
    return start


def xenmsg(words):
    return f"exec {tool('xenmsg')} {words}"


def test_messages_calls_and_streams_start_programs_both_ways(started):
    activation, one, two = started(inbox=xenmsg("recv --count 2 inbox > $0.out"), rev=xenmsg("serve rev -- rev"),
                                   echo=xenmsg("listen echo -- cat"))
    assert [activation.about(name)["state"] for name in ("inbox", "rev", "echo")] == ["activatable"] * 3
    listed = {entry["name"]: entry for entry in two.json("endpoints", "1")}
    assert {"inbox", "rev", "echo"} <= set(listed)
    assert {entry["name"]: entry.get("started") for entry in one.json("endpoints", "self")}["rev"] == "activatable"
    assert b"activatable" in one.xenmsg("endpoints").stdout
    assert one.xenmsg("doctor").returncode == EXIT_OK
    two.send("1:inbox", "from afar")
    one.send("self:inbox", "from here")
    eventually(lambda: activation.output("inbox").read_bytes().count(b"from") == 2, "both have arrived")
    assert activation.starts("inbox") == 1
    for node in (two, one):
        done = node.xenmsg("call", "1:rev", data=b"abc")
        assert (done.returncode, done.stdout.strip()) == (EXIT_OK, b"cba"), done.stderr
        done = node.xenmsg("connect", "1:echo", data=b"stream")
        assert (done.returncode, done.stdout) == (EXIT_OK, b"stream"), done.stderr
    assert activation.starts("rev") == 1
    eventually(lambda: activation.about("rev")["state"] == "running", "it runs")


def test_what_has_failed_to_start_is_not_proposed(started):
    """Before, the name that was typed was proposed."""
    _, one, two = started(boom="exit 1")
    for node, words in (two, b"that domain lists it, but no program has it now"), (one, b"the next try is in "):
        for address in "1:boom", "1:bom":
            done = node.xenmsg("send", address, "x")
            assert done.returncode == EXIT_NO_ENDPOINT
            assert (b"did you mean 1:boom?" in done.stderr) == (address == "1:bom"), done.stderr
            assert (words in done.stderr) == (address == "1:boom"), done.stderr


def test_the_first_subscriber_starts_a_publisher(started):
    activation, one, two = started(news=xenmsg("publish --stay 1h news hello"))
    for node in (two, one):
        done = node.xenmsg("subscribe", "--count", "1", "1:news")
        assert (done.returncode, done.stdout) == (EXIT_OK, b"hello\n"), done.stderr
    assert activation.starts("news") == 1
    assert activation.about("news")["state"] == "running"


def test_a_publisher_that_has_gone_is_started_again(started):
    """As long as somebody subscribes."""
    activation, one, two = started(news=xenmsg("publish --stay 1h news hello"))
    getting = two.popen("subscribe", "1:news")
    for start in range(2):
        assert getting.stdout.readline() == b"hello\n"
        assert activation.starts("news") == start + 1
        os.kill(activation.pid("news"), signal.SIGTERM)
    assert getting.stdout.readline() == b"hello\n"
    getting.terminate()


def test_a_publisher_that_cannot_be_started_is_waited_for(started):
    activation, one, _ = started(news="[ -e $0.go ] || exit 3\n" + xenmsg("publish --stay 1h news hello"))
    getting = one.popen("subscribe", "--json", "--count", "1", "self:news")
    assert json.loads(getting.stdout.readline())["notice"] == "waiting"
    activation.open_gate("news")
    told = [json.loads(line) for line in getting.communicate(timeout=60 * PATIENCE)[0].splitlines()]
    told = [line.get("notice") or line["text"] for line in told]
    assert told in (["subscribed", "hello"], ["subscribed", "kept", "hello"])  # published behind the subscription, or before


def test_a_large_message_waits_in_its_window_and_comes_whole(started):
    size = 1 << 20
    activation, _, two = started(inbox=GATE + xenmsg("recv --raw --count 1 inbox > $0.out"))
    sender = two.popen("send", "1:inbox", stdin=subprocess.PIPE)
    sender.stdin.write(bytes(range(256)) * (size // 256))
    sender.stdin.close()
    activation.waiting("inbox")
    assert activation.about("inbox")["state"] == "starting"
    activation.open_gate("inbox")
    assert sender.wait(30 * PATIENCE) == EXIT_OK, sender.stderr.read()
    eventually(lambda: activation.output("inbox").read_bytes() == bytes(range(256)) * (size // 256), "it is whole")


def test_a_program_that_never_binds_costs_an_enoent_and_a_pause(started):
    activation, one, two = started(timeout="1500ms", inbox="exec sleep 1000")
    begun = time.monotonic()
    activation.fails("inbox", "the command hasn't bound the endpoint within 1500 ms", two)
    pid = activation.pid("inbox")
    have_gone(pid)
    for _ in range(5):
        one.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)
    assert activation.starts("inbox") <= 2 + (time.monotonic() - begun) / 1.5
    eventually(lambda: activation.about("inbox")["state"] == "activatable", "the pause ends")


def test_a_program_that_leaves_its_process_group_is_stopped_too(started):
    """It joins the daemon's, where a signal to its own doesn't reach it."""
    leave = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.setpgid(0, os.getpgid(os.getppid())); time.sleep(1000)"
    activation, one, two = started(timeout="3s", inbox=f"exec python3 -c '{leave}'")
    activation.fails("inbox", "the command hasn't bound the endpoint within 3000 ms", two)
    pid = activation.pid("inbox")
    have_gone(pid)
    assert one.daemon.poll() is None


def test_a_program_that_dies_is_not_started_in_a_storm(started):
    activation, one, _ = started(inbox="exit 3")
    begun = time.monotonic()
    while time.monotonic() < begun + 2.5:
        one.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)
    # half a second after the first one, and twice as long after each further one
    assert activation.starts("inbox") <= 1 + math.log2(1 + 2 * (time.monotonic() - begun))
    activation.fails("inbox", "the command ended with status 3")

    def doctor_complains():
        one.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)  # starts it once more if its pause is over
        doctor = one.xenmsg("doctor")
        return doctor.returncode != EXIT_OK and b"inbox" in doctor.stdout + doctor.stderr
    eventually(doctor_complains, "while it is paused, doctor says so")


def test_two_senders_at_once_start_it_once(started):
    activation, one, two = started(inbox="sleep 0.3\n" + xenmsg("recv --count 20 inbox > $0.out"))
    senders = [node.popen("send", "1:inbox", f"<{node.domid}.{i}>") for node in (one, two) for i in range(10)]
    assert [sender.wait(30 * PATIENCE) for sender in senders] == [EXIT_OK] * 20
    eventually(lambda: activation.output("inbox").read_text().count("<") == 20, "all have arrived")
    assert activation.starts("inbox") == 1


def test_a_command_that_unbinds_and_lives_on_starts_once(started):
    """It gets what has come meanwhile when it binds again, and when it ends, another is started."""
    activation, one, two = started(inbox=f"{tool('xenmsg')} recv --count 1 inbox >> $0.out\n{GATE}"
                                   + xenmsg("recv --count 1 inbox >> $0.out"))
    one.send("self:inbox", "first")
    eventually(lambda: activation.about("inbox")["state"] == "lingering", "it has unbound, and lives")
    sender = two.popen("send", "1:inbox", "second")
    activation.waiting("inbox")
    activation.open_gate("inbox")
    assert sender.wait(30 * PATIENCE) == EXIT_OK
    assert activation.starts("inbox") == activation.about("inbox")["starts"] == 1
    one.send("self:inbox", "third")
    assert activation.starts("inbox") == 2
    eventually(lambda: activation.output("inbox").read_text().split() == ["first", "second", "third"], "all have come")


def test_a_wait_for_a_command_that_lives_on_ends_in_time(started):
    activation, one, _ = started(inbox=f"{tool('xenmsg')} recv --count 1 inbox\nexec sleep 1000")
    one.send("self:inbox", "first")
    activation.write("inbox", f"user = root\nexec = {activation.directory}/inbox.sh\ntimeout = 2s\n")  # too short to start in on a slow machine
    assert one.xenmsg("policy", "reload").returncode == EXIT_OK
    one.send("self:inbox", "second", exit_code=EXIT_NO_ENDPOINT)
    about = activation.about("inbox")
    assert about["state"] == "lingering" and about["reason"] == "the command hasn't bound the endpoint again within 2000 ms"
    pid = int((activation.directory / "inbox.log").read_text())
    assert os.path.exists(f"/proc/{pid}")  # it may still work on what it has taken
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: activation.about("inbox")["state"] == "activatable", "it has ended")
    one.send("self:inbox", "third")


def pids_of(activation):
    """Of the command and its child, once both have written theirs."""
    paths = [activation.directory / name for name in ("inbox.log", "inbox.sh.child")]
    eventually(lambda: all(path.exists() and path.read_text().endswith("\n") for path in paths), "both have said their numbers")
    return [int(path.read_text()) for path in paths]


@pytest.mark.parametrize("script", ["trap '' TERM; sleep 1000 & echo $! >> $0.child; wait",
                                    "(trap '' TERM; exec sleep 1000) & echo $! >> $0.child; wait"], ids=["both", "child"])
def test_what_is_left_of_a_command_that_was_stopped_is_killed(started, script):
    """Neither the command nor its child listens to SIGTERM, or its child doesn't."""
    activation, one, _ = started(timeout="2s", inbox=script)
    one.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)
    have_gone(*pids_of(activation))


def test_commands_end_with_the_daemon(started):
    activation, one, _ = started(
        inbox=f"{tool('xenmsg')} recv --count 1 inbox\n(trap '' TERM; exec sleep 1000) & echo $! >> $0.child; wait")
    one.send("self:inbox", "x")
    pids = pids_of(activation)
    one.stop()
    have_gone(*pids)


def test_a_command_inherits_nothing_of_the_daemon(alone, tmp_path):
    alone.environment = dict(alone.environment, INVOCATION_ID="x", STATE_DIRECTORY="/x", WATCHDOG_USEC="1", KEPT="1")
    activation = Activation(alone, tmp_path)
    activation.add("inbox", "env > $0.env; ulimit -Sn > $0.files; ls /proc/self/fd > $0.fd\n"
                   "python3 -c 'import os; os.set_blocking(2, False)'\n" + xenmsg("recv --count 1 inbox"))
    alone.start()
    alone.send("self:inbox", "x")
    read = lambda name: (activation.directory / f"inbox.sh.{name}").read_text()
    environment = dict(line.split("=", 1) for line in read("env").splitlines() if "=" in line)
    assert not {"INVOCATION_ID", "STATE_DIRECTORY", "WATCHDOG_USEC"} & environment.keys()
    assert environment["KEPT"] == "1" and environment["XENMSG_SOCKET"] and environment["USER"] == "root"
    assert int(read("files")) <= 1024
    assert read("fd").split() == ["0", "1", "2", "3"]  # the last is the folder that ls reads
    with open(f"/proc/{alone.pid}/fdinfo/2", encoding="ascii") as info:
        flags = int(dict(line.split(":", 1) for line in info)["flags"], 8)
    assert not flags & os.O_NONBLOCK


def test_a_reload_that_removes_it_ends_what_waits(started):
    activation, one, two = started(inbox="exec sleep 1000")
    senders = [node.popen("send", "1:inbox", "x") for node in (one, two)]
    activation.waiting("inbox", 2)
    pid = activation.pid("inbox")
    (activation.directory / "inbox.conf").unlink()
    os.kill(one.pid, signal.SIGHUP)
    assert [sender.wait(30 * PATIENCE) for sender in senders] == [EXIT_NO_ENDPOINT] * 2
    assert "inbox" not in one.endpoints()
    have_gone(pid)


@needs_systemd
def test_a_bad_file_leaves_the_old_ones_and_rules_in_force(started):
    activation, one, _ = started(rev=xenmsg("serve rev -- rev"))
    activation.write("other", "user = root\nunit = x.service\nexec = /bin/true\n")
    rules = one.status()["policy"]["rules"]
    one.write_policy("[rule]\nfrom = *\nto = *\naction = deny\n" * (rules + 1))
    done = one.xenmsg("policy", "reload")
    assert done.returncode != EXIT_OK and b"other.conf:1: an [activate] has either unit or exec" in done.stderr
    assert one.status()["policy"]["rules"] == rules and one.status()["policy"]["error"] is None
    assert "either unit or exec" in one.status()["activation"]["error"]
    assert one.xenmsg("call", "self:rev", data=b"ab").stdout.strip() == b"ba"
    check = one.run_command(tool("xenmsgd"), "--config", activation.node.directory / "xenmsgd-1.conf", "--check-config")
    assert check.returncode == 2 and b"either unit or exec" in check.stderr
    # The other way round.
    activation.add("other", "")
    one.write_policy("[rule]\nfrom = 1\n")
    assert one.xenmsg("policy", "reload").returncode != EXIT_OK
    assert "other" not in one.endpoints() and one.status()["activation"]["error"] is None
    one.set_policy("[rule]\nfrom = *\nto = *\naction = allow\n")
    assert "other" in one.endpoints()


def checked(activation, daemon=""):
    """What xenmsgd --check-config says of it."""
    config = activation.directory / "xenmsgd.config"
    config.write_text(f"[daemon]\n{daemon}activation-dir = {activation.directory}\n")
    done = activation.node.run_command(tool("xenmsgd"), "--config", config, "--check-config")
    assert done.returncode == EXIT_USAGE
    return done.stderr.decode()


@needs_systemd
@pytest.mark.parametrize("unit", ["print", ".service", ".print.service", "..service", "print.", "print.servic", "a/b.service",
                                  "a b.service", "print@.service", "@x.service", "x.device"])
def test_what_is_no_unit_to_start_is_refused_with_file_and_line(alone, tmp_path, unit):
    activation = Activation(alone, tmp_path)
    activation.write("inbox", f"user = root\nunit = {unit}\n")
    assert f"inbox.conf:4: unit = {unit}: must be the name of a systemd unit" in checked(activation)


@pytest.mark.skipif(is_built_with_systemd(), reason="built with systemd")
def test_a_unit_is_refused_where_there_is_no_systemd(alone, tmp_path):
    activation = Activation(alone, tmp_path)
    activation.write("inbox", "user = root\nunit = inbox.service\n")
    assert "inbox.conf:4: unit = inbox.service: this xenmsgd was built without systemd; exec = starts a command" in checked(activation)


def test_what_policy_denies_starts_nothing(nodes, tmp_path):
    all_nodes = nodes(1, 2, start=False)
    activation = Activation(all_nodes[1], tmp_path)
    activation.add("inbox", "exit 0")
    all_nodes[1].policy = "[rule]\nfrom = 2\nto = inbox\naction = deny\n[rule]\nfrom = *\nto = *\naction = allow\n"
    for node in all_nodes.values():
        node.start()
    all_nodes[2].sees(all_nodes[1])
    all_nodes[2].send("1:inbox", "x", exit_code=EXIT_DENIED)
    assert activation.starts("inbox") == 0
    assert activation.about("inbox")["starts"] == 0


def test_only_the_named_user_may_bind_it(started):
    _, one, _ = started(user="nobody", theirs="exit 0")
    done = one.xenmsg("recv", "--count", "1", "theirs")
    assert done.returncode == EXIT_DENIED and b"only the user" in done.stderr


def test_a_sender_that_goes_or_gives_up_while_it_waits(started):
    activation, one, two = started(rev=GATE + xenmsg("serve rev -- rev"))
    for node in (one, two):
        assert node.xenmsg("send", "--timeout", "0.3", "1:rev", "x").returncode != EXIT_OK
        caller = node.popen("call", "1:rev", stdin=subprocess.PIPE)
        caller.stdin.close()
        eventually(lambda: activation.about("rev")["waiting"] > 0, "it waits")
        caller.kill()
        caller.wait()
    activation.open_gate("rev")
    assert one.xenmsg("call", "self:rev", data=b"ab").stdout.strip() == b"ba"
    activation.waiting("rev", 0)
    assert activation.starts("rev") == 1


def test_a_program_that_lacks_the_kind_ends_what_waits_for_it(started):
    _, one, _ = started(rev=xenmsg("serve rev -- rev"))
    one_way = one.xenmsg("send", "self:rev", "x")
    assert one_way.returncode != EXIT_OK and b"that endpoint takes calls: xenmsg call self:rev" in one_way.stderr


@needs_systemd
def test_a_unit_without_systemd_fails_with_the_reason(alone, tmp_path):
    alone.environment = dict(alone.environment, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={tmp_path}/nobody")
    activation = Activation(alone, tmp_path)
    activation.write("inbox", "user = root\nunit = inbox.service\n")
    alone.start()

    def is_told():  # as long as nothing is started
        alone.send("self:inbox", "x", exit_code=EXIT_NO_ENDPOINT)
        about, doctor = activation.about("inbox"), alone.xenmsg("doctor").stdout
        return about["state"] == "failed" and "systemctl start dbus.socket" in about["reason"] and b"systemctl start dbus.socket" in doctor
    eventually(is_told, "status and doctor tell why")


@pytest.fixture(name="systemd")
def with_systemd(tmp_path):
    """A D-Bus and what plays systemd on it; `folder` has the units' programs."""
    if not is_built_with_systemd():
        pytest.skip("built without systemd")
    systemd = Systemd(tmp_path)
    systemd.start()
    yield systemd
    systemd.stop()


@pytest.fixture(name="with_unit")
def node_with_a_unit(nodes, tmp_path, systemd):
    one = nodes(1, start=False)[1]
    one.environment = dict(one.environment, DBUS_SYSTEM_BUS_ADDRESS=systemd.address)
    activation = Activation(one, tmp_path)
    for name in ("inbox", "none", "denied", "escaped", "broken", "bad", "good", "forged", "reborn"):
        activation.write(name, f"user = root\nunit = {name}.service\ntimeout = 600s\n")
    environment = "".join(f"export {key}={one.environment[key]}\n" for key in ("XENSIM_DIR", "LD_LIBRARY_PATH") if key in one.environment)
    for name in ("inbox", "forged"):
        command = " ".join(one.command(tool("xenmsg"), "recv", "--count", "1", name))
        unit = systemd.folder / f"{name}.service"
        unit.write_text(f"#!/bin/sh\n{environment}exec {command} >> {activation.output(name)}\n")
        unit.chmod(0o755)
    for name, status in (("bad", 3), ("good", 0)):
        unit = systemd.folder / f"{name}.service"
        unit.write_text(f"#!/bin/sh\nexit {status}\n")
        unit.chmod(0o755)
    one.start()
    return activation, one


def test_a_unit_that_fails_is_an_enoent_with_systemds_words(with_unit):
    activation, one = with_unit
    for name, words in (("none", "systemd: Unit none.service not found."),
                        ("denied", "systemd: Interactive authentication required. (polkit decides: is it installed? see xenmsg-activation(5))"),
                        ("escaped", "systemd: ?[2Jodd?words??"),
                        ("broken", "the job of broken.service ended with: failed"),
                        ("reborn", "the job of reborn.service ended with: failed")):
        activation.fails(name, words)

    def is_shown():
        one.send("self:denied", "x", exit_code=EXIT_NO_ENDPOINT)
        return b"polkit decides: is it installed?" in one.xenmsg("doctor").stdout  # until it may be tried again
    eventually(is_shown, "doctor shows it")


def test_a_unit_that_ends_without_having_bound_is_not_waited_for(with_unit):
    activation, _ = with_unit
    for name, words in (("bad", "the unit has failed"), ("good", "the unit has ended, or one of its conditions isn't met")):
        activation.fails(name, words)


def test_only_systemd_ends_a_start_or_passes_descriptors(systemd, with_unit):
    activation, one = with_unit
    one.send("self:forged", "by the unit")
    assert systemd.manager.stdout.readline() == "forged.service replace\n"
    assert systemd.manager.stdout.readline() == "descriptors are refused\n"
    eventually(lambda: activation.output("forged").read_text() == "by the unit\n", "it has arrived")


def test_status_shows_what_nobody_bound_and_a_failed_start(with_unit):
    _, one = with_unit
    with open(os.path.join(os.path.dirname(__file__), "../../doc/status.schema.json"), encoding="utf-8") as schema:
        valid = jsonschema.Draft202012Validator(json.load(schema)).validate
    valid(one.status())
    done = one.xenmsg("send", "self:none", "x")
    assert done.returncode == EXIT_NO_ENDPOINT
    assert b"that endpoint is started on demand, which failed: systemd: Unit none.service not found." in done.stderr
    valid(one.status())


def test_a_bus_that_was_restarted_is_found_again(systemd, with_unit, tmp_path):
    activation, one = with_unit
    one.send("self:inbox", "first")
    eventually(lambda: activation.about("inbox")["state"] == "activatable", "it has ended")
    systemd.stop()
    systemd.__init__(tmp_path)
    systemd.start()
    one.send("self:inbox", "second")
    eventually(lambda: activation.output("inbox").read_text() == "first\nsecond\n", "both have arrived")


@needs_systemd
def test_the_units_that_may_be_started_are_those_of_the_files(alone, tmp_path):
    activation = Activation(alone, tmp_path)
    activation.write("aaa", "user = root\nunit = mistake.service\nnonsense = 1\n")
    activation.write("inbox", "user = root\nunit = print.service ; of the printer\n")
    activation.write("instance", "user = root\nunit = xenmsg-serve@up.service\n")
    activation.write("none", "user = root\n# unit = comment.service\nexec = /bin/true print2.service\n")
    config = tmp_path / "may-start.conf"
    config.write_text(f"[daemon]\nactivation-dir = {activation.directory}\n")

    def may_start(unit, config=config):
        return alone.run_command(tool("xenmsgd"), "--config", config, f"--may-start={unit}").returncode
    assert may_start("print.service") == may_start("xenmsg-serve@up.service") == 0
    for unit in ("", "print", "rint.service", "PRINT.service", "mistake.service", "comment.service", "/bin/true", "print2.service",
                 "xenmsg-serve@.service", "xenmsg-serve@other.service", "--help"):
        assert may_start(unit) == 1, unit
    config.write_text("nonsense\n")
    assert may_start("print.service") == 2
    config.write_text(f"[daemon]\nactivation-dir = {tmp_path}/nowhere\n")
    assert may_start("print.service") == 1


def test_a_command_of_another_user_needs_a_daemon_of_root(alone, tmp_path):
    activation = Activation(alone, tmp_path)
    activation.add("inbox", "exit 0")
    assert "can't become another user: name a unit" in checked(activation, "user = nobody\n")
