# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who sees what of the daemon: an administrator everything, everybody else what is his own. And however much it is, it arrives."""

import errno
import grp
import itertools
import json
import os
import resource
import subprocess

import pytest

from frames import REPLY, frame, question_frames
from library import Connection
from messaging import ALLOW_ALL, EXIT_DENIED, FAST, PATIENCE, Holder, deliver, eventually, is_sanitized, of_turns, open_to_others, tool
from protocol import Program
from test_limits import limits
from test_policy import is_told, reload
from test_top import terminals  # noqa: F401, pylint: disable=unused-import
from test_status import validator  # noqa: F401, pylint: disable=unused-import
from users import as_user

ALICE, BOB, NOBODY = 1000, 1001, 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")


class As:
    """Runs a function as another user and returns what it returns, as JSON can tell."""

    def __init__(self, uid, groups=()):
        self.uid, self.groups = uid, groups

    def __call__(self, node, work):
        return as_user(self.uid, node, work, self.groups)

    def ask(self, node, what="status"):
        def work(path):
            with Program(path, timeout=20 * PATIENCE) as program:
                return json.loads(program.query(what))
        return self(node, work)

    def refused(self, node, what):
        return self(node, lambda path: is_told(path, what))


def binds(*names):
    """Work of a User, who binds these names and stays."""
    def work(path, tell, stopped):
        with Program(path) as program:
            for name in names:
                program.bind(name)
            tell(True)
            stopped(None)
    return work


MAY_BIND = "[bind]\nname = *\nuid = 1000, 1001\naction = allow\n"


@pytest.fixture(name="scene")
def two_users(nodes, user):
    """Domain 1, where Alice and Bob have endpoints, Bob one that Alice may not reach."""
    pair = nodes(1, 2)
    reload(pair[1], MAY_BIND + "[rule]\nfrom = self\nuid = 1000\nto = bobs-secret\naction = deny\n" + ALLOW_ALL)
    user(ALICE, pair[1], binds("alices")).next()
    user(BOB, pair[1], binds("bobs", "bobs-secret")).next()
    deliver(pair[2], pair[1])
    return pair


def by_name(entries):
    return {each["name"]: each for each in entries}


@pytest.mark.unless(relayed="direct")
def test_a_user_sees_what_is_his_own_and_what_is_about_nobody(scene, valid):
    whole, part = scene[1].status(), As(ALICE).ask(scene[1])
    valid(whole)
    valid(part)
    assert whole["partial"] is False and part["partial"] is True
    for same in ("version", "instance", "domid", "socket", "limits", "grants", "peers"):
        assert part[same] == whole[same], same
    assert {each["uid"] for each in whole["clients"]} == {0, ALICE, BOB}
    assert {each["uid"] for each in part["clients"]} == {ALICE}
    assert [(each["kind"], each["id"]) for each in part["accounts"]] == [("uid", ALICE)]
    assert len(part["clients"]) == 2 == part["totals"]["clients"]  # the asker, and the binder
    link, = part["links"]
    assert (link["peer"]["domid"], link["state"]) == (2, "up")
    assert not {"channels", "tx", "rx", "unacked", "round_trips", "usage"} & set(link)
    assert "denied" not in part and "time" not in part and "denied" in whole
    assert all(set(pool) == {"size"} for pool in part["pools"].values())
    names = by_name(part["endpoints"])
    assert set(names) == {"alices", "bobs"} and part["totals"]["endpoints"] == 2
    # What others tried is not for her, no more than the refusals are.
    own = by_name(whole["endpoints"])["alices"]
    for_all = {"opened", "refused", "messages", "bytes_to", "bytes_from", "taken", "answered"}
    assert names["alices"] == {key: own[key] for key in own.keys() - for_all} and own["uid"] == ALICE
    assert set(names["bobs"]) == {"name", "kind"}
    assert set(by_name(whole["endpoints"])) == {"alices", "bobs", "bobs-secret"}
    # Nothing of Bob's is anywhere in it.
    pids = {each["pid"] for each in whole["clients"] if each["uid"] == BOB}
    assert pids and not pids & {each["pid"] for each in part["clients"] + part["streams"]}
    assert "bobs-secret" not in json.dumps(part)


def test_the_names_of_endpoints_are_told_to_who_may_reach_them(scene):
    one = scene[1]
    seen = by_name(As(ALICE).ask(one, "endpoints"))
    assert set(seen) == {"alices", "bobs"}
    assert seen["alices"]["visible_to"] == ["*"] and seen["bobs"]["visible_to"] is None
    assert seen["alices"]["uid"] == ALICE and seen["alices"]["pid"] and seen["alices"]["comm"]
    assert seen["bobs"]["kind"] and [seen["bobs"][key] for key in ("uid", "pid", "comm")] == [None, None, None]
    assert set(by_name(As(ALICE).ask(one, "endpoints self"))) == {"alices", "bobs"}
    assert set(by_name(As(BOB).ask(one, "endpoints"))) == {"alices", "bobs", "bobs-secret"}

    def watch(path):
        with Program(path) as program:
            told = program.watch("self:*")
            assert next(told) == (0, b"")
            names = set()
            while "bobs" not in names or "alices" not in names:
                names.add(next(told)[1][8:].split(b"\0")[0].decode())
            program.query("peers")  # nothing comes behind them
            return sorted(names)
    assert As(ALICE)(one, watch) == ["alices", "bobs"]


def test_the_policy_is_told_about_oneself_and_ones_endpoints(scene):
    one = scene[1]
    assert As(ALICE).ask(one, "policy self/1000 bobs-secret")["allow"] is False
    assert As(ALICE).ask(one, "policy 2/5 alices")["allow"] is True
    for what in ("policy self/1001 bobs", "policy 2 bobs", "policy self bobs", "policy 2 nobodys"):
        error, why = As(ALICE).refused(one, what)
        assert error == errno.EPERM and "administrators" in why, what
        with Program(one.socket) as program:
            assert "allow" in json.loads(program.query(what))


def test_the_administrators_group_sees_everything(nodes, user, valid):
    group = grp.getgrall()[-1]
    admin = nodes(1, config=f"[daemon]\nadmin-group = {group.gr_name}\n{FAST}")[1]
    reload(admin, MAY_BIND + ALLOW_ALL)
    user(BOB, admin, binds("bobs")).next()
    for viewer in (As(ALICE, [group.gr_gid]), As(ALICE, [4242, group.gr_gid, 4243])):
        status = viewer.ask(admin)
        valid(status)
        assert status["partial"] is False and BOB in {each["uid"] for each in status["clients"]}
        assert by_name(status["endpoints"])["bobs"]["uid"] == BOB
        assert viewer.ask(admin, "policy 2 bobs")["allow"] is True
    assert As(ALICE, [group.gr_gid + 1]).ask(admin)["partial"] is True


def test_a_group_that_is_not_there_has_no_members(nodes):
    one = nodes(1, config=f"[daemon]\nadmin-group = nobody-of-that-name\n{FAST}")[1]
    assert As(ALICE, [0, 4294967294]).ask(one)["partial"] is True
    assert one.status()["partial"] is False


def test_the_commands_say_when_they_show_only_a_part(scene):
    one = scene[1]
    open_to_others(one)

    def run(*words):
        return subprocess.run([tool("xenmsg"), *words, "--socket", one.socket], user=NOBODY, group=NOBODY, extra_groups=[],
                              capture_output=True, check=False, timeout=60 * PATIENCE)
    text = run("status").stdout.decode()
    assert "only what is yours" in text and "bobs" in text and "bobs-secret" in text
    row, = (line.split() for line in text.splitlines() if line.startswith("bobs "))
    assert row[1:] == ["-", "-", "-"], row
    metrics = run("status", "--metrics").stdout.decode()
    assert metrics.startswith("# Only what is the asker's") and "xenmsg_partial 1" in metrics
    assert "xenmsg_link_sent_bytes_total{" not in metrics
    assert json.loads(run("status", "--json").stdout)["partial"] is True
    assert "only what is yours" not in one.xenmsg("status").stdout.decode()
    assert "xenmsg_partial 0" in one.xenmsg("status", "--metrics").stdout.decode()
    assert run("policy", "check", "2", "bobs").returncode not in (0, EXIT_DENIED)


def test_top_says_when_it_shows_only_a_part(scene, terminal):
    open_to_others(scene[1])
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    part = terminal(scene[1], *drop, tool("xenmsg"), "top")
    screen = part.shows("ONLY YOURS", "bobs")
    assert not any("denied" in line for line in screen[:2]), screen
    part.press("q")
    assert part.code() == 0


@pytest.mark.unless(small="limits")
def test_top_says_what_it_leaves_out(nodes, user, terminal):
    one = nodes(1)[1]
    user(ALICE, one, connects_and_stays(MANY)).next()
    whole = terminal(one, tool("xenmsg"), "top", rows=120)
    screen = whole.shows(f"and {MANY + 1 - 100} more clients")
    assert "ONLY YOURS" not in screen[0] and "denied 0" in screen[1]


# ---- of any size ----

MANY = 130


def connects_and_stays(count):
    def work(path, tell, stopped):
        programs = [Program(path) for _ in range(count)]
        tell(len(programs))
        stopped(None)
    return work


@pytest.mark.unless(small="limits")
def test_lists_end_with_what_matters_and_the_rest_is_counted(nodes, user, valid):
    one, two = nodes(1, 2).values()
    with Connection(one.socket) as busy, Holder(two, "sleeper"):
        assert busy.post("2:sleeper", b"x" * 1000, lambda result: None) == 0
        eventually(lambda: (one.link(2) or {}).get("channels") == 1, "the busy one has a channel")
        user(ALICE, one, connects_and_stays(MANY)).next()
        with Program(one.socket) as program:
            cut, whole = (json.loads(program.query(what)) for what in ("status", "status all"))
        for status in (cut, whole):
            valid(status)
            assert status["totals"]["clients"] == MANY + 2  # the busy one, and the asker
            assert os.getpid() in {each["pid"] for each in status["clients"] if each["channels"]}
        assert len(cut["clients"]) == 100 and len(whole["clients"]) == MANY + 2
        assert len(cut["accounts"]) == cut["totals"]["accounts"]
        metrics = one.xenmsg("status", "--metrics").stdout.decode()
        assert f"xenmsg_clients {MANY + 2}\n" in metrics  # and no labels of any of them
        assert len(json.loads(one.xenmsg("status", "--json", "--all").stdout)["clients"]) == MANY + 2


@pytest.mark.unless(small="limits")
def test_the_endpoints_that_were_left_out_are_counted(nodes, user):
    one = nodes(1)[1]
    reload(one, MAY_BIND + ALLOW_ALL)
    user(ALICE, one, binds(*(f"name{i:03}" for i in range(MANY)))).next()
    text = one.xenmsg("status").stdout.decode()
    assert f"and {MANY - 100} more endpoints, which 'xenmsg status --all' shows" in text
    assert f"{MANY} endpoints" in text
    assert len([line for line in text.splitlines() if line.startswith("name")]) == 100
    whole = one.xenmsg("status", "--all").stdout.decode()
    assert "more endpoints" not in whole
    assert len([line for line in whole.splitlines() if line.startswith("name")]) == MANY
    assert len(one.json("endpoints")) == MANY


def memory(node):
    """In MiB."""
    with open(f"/proc/{node.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20


@pytest.mark.slow
def test_an_answer_of_many_megabytes_arrives_and_takes_no_room(nodes, valid):
    """More than may wait for a program, and more than a program's user may let wait."""
    names = 4000
    one = nodes(1, config=limits(max_endpoints=60000, max_queued_bytes="256K"))[1]
    reload(one, "".join(f"[rule]\nfrom = {', '.join(map(str, range(begin, begin + 25)))}\nto = *\naction = allow\n"
                        for begin in range(1000, 1250, 25)))
    with Program(one.socket, timeout=20 * PATIENCE) as owner:
        for begin in range(0, names, 1000):
            owner.send_bytes(b"".join(frame(32, b"\1\0\0\0" + f"{i:05}-{'x' * 57}".encode(), channel=1 + i % 1000)
                                      for i in range(begin, begin + 1000)))
            for _ in range(1000):
                owner.expect(REPLY)
        before = memory(one)
        with Program(one.socket, timeout=20 * PATIENCE) as asker, Program(one.socket, timeout=20 * PATIENCE) as slow:
            # One doesn't read, and has asked for all of it several times.
            slow.send_bytes(question_frames(2, *["status all"] * 29))
            text = asker.query("status all")
            assert len(text) > 6 << 20
            status = json.loads(text)
            valid(status)
            assert len(status["endpoints"]) == names == status["totals"]["endpoints"]
            assert [each["name"][:5] for each in status["endpoints"]] == [f"{i:05}" for i in range(names)]
            assert status["time"]["longest_pass_units"] < 200000
            assert status["pools"]["queued_bytes"]["used"] < 1 << 20  # what their channels may let wait
            # And who doesn't read was given a piece or two.
            if not is_sanitized():
                assert memory(one) - before < 4, (before, memory(one))
            # It gets all of it when it begins to read.
            error, body = slow.told(2)
            assert error == 0 and len(json.loads(body)["endpoints"]) == names


@pytest.mark.unless(renewed="counts", small="limits")
def test_a_list_stays_true_while_programs_come_and_go(nodes, user, valid):
    """Whoever lets a daemon hand over comes and goes, too, as the user whose program is counted."""
    one = nodes(1)[1]

    def comes_and_goes(path, tell, stopped):
        stay = [Program(path) for _ in range(50)]
        tell(True)
        while not stopped():
            passing = [Program(path) for _ in range(40)]
            for program in passing:
                program.close()
        for program in stay:
            program.close()
    user(ALICE, one, comes_and_goes).next()
    with Program(one.socket, timeout=20 * PATIENCE) as program:
        for _ in range(100):
            status = json.loads(program.query("status all"))
            valid(status)
            # Those that stay are there, once each; the others may be, and those before them, whose ends wait for their turn.
            assert 51 <= len(status["clients"]) <= 51 + 2 * 40 * PATIENCE
            assert sum(each["uid"] == 0 for each in status["clients"]) == 1
            assert len(status["clients"]) == status["totals"]["clients"]


def test_asking_is_paid_for_in_time(nodes):
    one = nodes(1)[1]
    before = one.status()["time"]

    def asks(path):
        with Program(path) as program:
            for _ in range(20):
                program.query("status")
            return [each["time"]["units"] for each in json.loads(program.query("status"))["accounts"]]
    spent, = As(ALICE)(one, asks)
    assert spent > 20 * 1000, spent
    after = one.status()["time"]
    assert after["units"] > before["units"] + spent and after["passes"] > before["passes"]


@pytest.mark.unless(small="limits")
def test_who_asks_for_much_keeps_nobody_waiting(nodes, user):
    """60 programs of Alice ask for everything without end; Bob asks for little, and has his turns in between."""
    one = nodes(1)[1]
    reload(one, MAY_BIND + ALLOW_ALL)

    def asks_for_everything(path, tell, stopped):
        programs, channels = [Program(path, timeout=20 * PATIENCE) for _ in range(60)], itertools.cycle(range(0, 60000, 2))
        for number in range(500):
            programs[0].bind(f"name{number:03}")
        told = False
        while not stopped():
            asked = [next(channels) for _ in programs]
            for program, channel in zip(programs, asked):
                program.send_bytes(question_frames(channel, *["status all"] * 3))
            if not told:
                tell(True)
                told = True
            for program, channel in zip(programs, asked):
                program.told(channel)
    user(ALICE, one, asks_for_everything).next()

    def asks_for_little(path, tell, stopped):
        with Program(path, timeout=20 * PATIENCE) as program:
            for _ in range(30):
                program.query(f"policy self/{BOB} name000")
            tell(True)
            stopped(None)
    user(BOB, one, asks_for_little).next()
    bob, longest = one.account("uid", BOB)["time"], one.status()["time"]["longest_pass_units"]
    # What Alice's line and the daemon's own may have before his (base/turns.h). And what took long in the kernel for him is measured, and
    # he pays for it before his next turn: on a slow machine accepting him is a debt of hundreds of thousands.
    bound = 2 * (of_turns("TURNS_QUANTUM") + 2 * of_turns("TURNS_PIECE")) + bob["units"]
    print("Bob waited", bob["longest_wait_units"], "of", bound, "units, passes took up to", longest)
    assert bob["longest_wait_units"] <= bound and longest < 100000
    eventually(lambda: one.account("uid", ALICE)["time"]["units"] > 1000000, "what she asks for is much more")
