# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over to the program that is installed now (doc/handover.md): its programs go on as if it had not had the CPU."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import pytest

from library import Connection
from messaging import EXIT_NO_DAEMON, EXIT_OK, EXIT_USAGE, FAST, PATIENCE, SOURCES, eventually, start_all, stopped, tool
from protocol import Program
from renewing import Installer, Waiting, all_are_delivered, crashes, ended, post, process_until, renew, took_over
from test_policy import rule


def test_a_full_disk_is_told_by_the_command(one):
    with open("/dev/full", "wb") as full:
        done = one.popen("daemon", "renew", stdout=full)
        said = done.communicate(timeout=60 * PATIENCE)[1]
    assert done.returncode != EXIT_OK and said.count(b"\n") == 1 and b"No space left on device" in said
    eventually(lambda: took_over(one) == 1, "the daemon is renewed all the same")


@contextlib.contextmanager
def no_more_files():
    """This process can open none."""
    usual, fill = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(name) for name in os.listdir("/proc/self/fd")) + 1, usual[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fill.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        for descriptor in fill:
            os.close(descriptor)


def test_a_program_with_as_many_files_as_it_may_goes_on(one):
    """The other memory comes with a descriptor."""
    outcomes, got = [], []
    with Connection(one.socket) as sender, Connection(one.socket) as receiver, Program(one.socket) as asker:
        assert receiver.handle("inbox", got.append) == 0
        for times in range(3):
            with no_more_files():
                assert asker.query("renew")
                post("self:inbox", b"%d" % times, outcomes, sender, receiver)
                all_are_delivered(outcomes, times + 1, sender, receiver)
    assert got == [b"0", b"1", b"2"]


def test_what_is_posted_meanwhile_comes_once_and_in_order(one, memory):
    outcomes, got = [], []
    with Connection(one.socket) as sender, Connection(one.socket) as receiver:
        assert receiver.handle("inbox", lambda data: got.append(int(data.split()[0]))) == 0
        for times in range(5):
            for number in range(100 * times, 100 * times + 100):
                post("self:inbox", b"%d " % number + b"x" * (number * 997 % 20000), outcomes, sender, receiver)
            renew(one)
        all_are_delivered(outcomes, 500, sender, receiver)
    assert got == list(range(500))


@pytest.mark.parametrize("renewals", [1, 3])
def test_messages_that_wait_for_a_stopped_program_stay(one, memory, renewals):
    """They fill its ring and the queue behind it, and it can't go on in other memory before it runs again."""
    waiting = Waiting(one)
    for _ in range(renewals):
        renew(one)
        waiting.sender.wait(0)
    waiting.come()


def test_who_leaves_before_it_has_moved_has_sent_all(one, memory):
    """It never learns of the next daemon, which finds in the old memory what was posted there, before it came and after."""
    with Connection(one.socket, binds="inbox") as receiver:
        sender = Connection(one.socket)
        sender.post("self:inbox", b"first", lambda error: None)
        sender.post("self:inbox", b"before", lambda error: None)
        renew(one)
        sender.post("self:inbox", b"after", lambda error: None)
        sender.close()
        assert [receiver.receive().data for _ in range(3)] == [b"first", b"before", b"after"]


def test_a_time_out_after_it_takes_a_message_back(one, memory):
    outcomes = []
    receiver = one.receiver("inbox")
    with Connection(one.socket) as sender:
        with stopped(receiver.process.pid):
            assert sender.post_timed("self:inbox", b"late", 1000, outcomes.append) == 0
            sender.wait(0)
            renew(one)
            process_until(lambda: outcomes, "it has ended", sender)
        assert sender.send("self:inbox", b"then") == 0
        fate = sender.last
    lines = ended(receiver.process).splitlines()
    assert (outcomes, lines) in (([-errno.ETIMEDOUT], ["then"]), ([-errno.ECONNRESET], ["late", "then"]),
                                 ([-errno.ECONNRESET], ["then"])), (outcomes, lines, fate)


def scribble(pid):
    """Over all that the program shares with others. Returns how much."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        shared = [line.split()[0].split("-") for line in maps if " rw-s " in line and "memfd:" in line]
    places = [(int(start, 16), int(end, 16)) for start, end in shared]
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for start, end in places:
            memory.seek(start)
            memory.write(os.urandom(end - start))
    return sum(end - start for start, end in places)


@pytest.mark.parametrize("dies", [False, True], ids=["goes_on", "dies"])
def test_who_changes_its_memory_meanwhile_harms_itself_alone(one, dies):
    """It goes on in other memory with nonsense in it, or leaves nonsense behind."""
    with Connection(one.socket) as sender, Connection(one.socket, binds="other") as other:
        victim = one.receiver("victim")
        one.send("self:victim", "x")
        outcomes, others = [], []
        with stopped(victim.process.pid):
            for _ in range(3):
                post("self:victim", b"in doubt", outcomes, sender)
            renew(one)
            assert scribble(victim.process.pid) > 0
        if dies:
            victim.process.kill()
        post("self:other", b"goes on", others, sender)
        process_until(lambda: getattr(other.receive(50), "data", None) == b"goes on", "it comes", sender)
        process_until(lambda: others, "it has ended", sender, other)
        assert others == [0]
        victim.process.kill()
        victim.process.communicate()
        process_until(lambda: len(outcomes) == 3, "what was sent to it has ended", sender)
        renew(one)
        assert one.alive()


class Watch:
    """What `xenmsg watch` prints."""

    def __init__(self, node, pattern, path):
        self.path = path
        with open(path, "wb") as file:
            self.process = node.popen("watch", "--json", pattern, stdout=file)

    def told(self, kind="endpoint"):
        lines = map(json.loads, self.path.read_text().splitlines())
        return [(event["event"], event["name"]) for event in lines if event["kind"] == kind]

    def tells(self, *events):
        eventually(lambda: self.told() == list(events), f"{events} are told: {self.path.read_text()}")


def test_watches_go_on_and_tell_only_what_has_changed(nodes, tmp_path, memory):
    """What comes later, what goes, what has gone and come again, and nothing else. Of its domain nothing is told, either."""
    node = nodes(1)[1]
    watches = Watch(node, "self:*", tmp_path / "endpoints"), Watch(node, "self", tmp_path / "all")

    def tell(*events):
        for watch in watches:
            watch.tells(*events)
    one = node.receiver("one")
    events = [("up", "one")]
    tell(*events)
    domains = watches[1].told("domain")
    for _ in range(2):  # the second one before the first has settled
        renew(node)
    two = node.receiver("two")
    events.append(("up", "two"))
    tell(*events)
    ended(one.process)
    again = node.receiver("one")
    events += [("down", "one"), ("up", "one")]
    tell(*events)
    renew(node)
    ended(two.process)
    events.append(("down", "two"))
    tell(*events)
    ended(again.process)
    events.append(("down", "one"))
    tell(*events)
    assert watches[1].told("domain") == domains
    for watch in watches:
        assert ended(watch.process) is None


@pytest.mark.unless(away="counts", renewed="counts")
def test_watches_of_others_tell_only_what_has_changed(one, two, three, tmp_path):
    """Of who stays nothing is told, over a link or not; of what goes later it is."""
    for other in (two, three):
        one.sees(other)
    stays, goes = two.receiver("stays"), three.receiver("goes")
    watch = Watch(one, "*", tmp_path / "watched")
    eventually(lambda: {("up", "stays"), ("up", "goes")} <= set(watch.told()), f"both are told: {watch.path.read_text()}")
    one.send("2:stays", "over a link")
    endpoints, domains = watch.told(), watch.told("domain")
    renew(one)
    ended(goes.process)
    watch.tells(*endpoints, ("down", "goes"))
    ended(stays.process)
    watch.tells(*endpoints, ("down", "goes"), ("down", "stays"))
    assert watch.told("domain") == domains, watch.path.read_text()
    assert ended(watch.process) is None


@pytest.mark.unless(relayed="direct")
def test_a_watch_by_a_private_daemon_tells_only_what_has_changed(nodes, tmp_path):
    """It asks nobody who is there, so it seems to know all at once, before it has read of anybody."""
    one, two = nodes(1, 2, start=False).values()
    one.config += "[links]\npresence = private\npeers = 2\n"
    start_all(one, two)
    stays, goes = two.receiver("stays"), two.receiver("goes")
    watch = Watch(one, "2", tmp_path / "watched")
    eventually(lambda: set(watch.told()) == {("up", "stays"), ("up", "goes")}, f"both are told: {watch.path.read_text()}")
    endpoints, domains = watch.told(), watch.told("domain")
    renew(one)
    ended(goes.process)
    watch.tells(*endpoints, ("down", "goes"))
    assert watch.told("domain") == domains, watch.path.read_text()
    ended(stays.process)
    ended(watch.process)


@pytest.mark.parametrize("linked, whom, config", [
    (True, "*", ""), (True, "2", ""), (False, "*", ""), (False, "2", ""),
    pytest.param(True, "2", "[links]\npresence = private\npeers = 2\n", marks=pytest.mark.unless(relayed="direct"))])
def test_watchers_in_other_domains_lose_nothing_by_a_hand_over(nodes, tmp_path, linked, whom, config):
    """What stays is there for them all the time, but for its link, which is away for a moment."""
    one, two = nodes(1, 2, start=False).values()
    one.policy = rule(whom, "stays") + rule(whom, "comes")
    one.config += config
    start_all(one, two)
    stays = one.receiver("stays")
    if not config:
        two.sees(one)
    watch = Watch(two, "1", tmp_path / "watched")
    watch.tells(("up", "stays"))
    instance = one.instance()
    for _ in range(3):
        if linked:
            two.send("1:stays", "over a link")
        renew(one)
        if linked:
            eventually(lambda: two.link(1)["state"] in ("up", "relayed"), "the link is resumed")
    comes = one.receiver("comes")
    watch.tells(("up", "stays"), ("up", "comes"))
    eventually(lambda: watch.told("domain")[-1][0] == "up", "its link is there again, too")
    assert ("down", "1") not in watch.told("domain"), watch.path.read_text()
    assert one.instance() == instance and "its daemon is gone" not in two.log.read_text()
    assert ended(stays.process) == ("over a link\n" * 3 if linked else b"")
    ended(comes.process)
    ended(watch.process)


@pytest.mark.unless(renewed="counts")
def test_watches_of_others_wait_for_a_late_domain_0(nodes, tmp_path):
    """It tells of all, and is busy or stands still: that nobody was heard of yet doesn't mean that he has gone."""
    every = nodes(0, 1, 2, config=FAST.replace("setup-timeout = 20s", "setup-timeout = 120s"))
    node = every[1]
    every[2].receiver("stays")
    watch = Watch(node, "*", tmp_path / "watched")
    watch.tells(("up", "stays"))
    domains = watch.told("domain")
    with stopped(every[0].pid):
        renew(node)
        eventually(lambda: node.status()["uptime_s"] >= 5, "what is compared with was read long ago")
    late = every[2].receiver("late")
    watch.tells(("up", "stays"), ("up", "late"))
    stood_still = [("away", "Domain-0"), ("up", "Domain-0")]
    eventually(lambda: watch.told("domain") in (domains, domains + stood_still), "nobody is told as gone")
    ended(late.process)
    watch.tells(("up", "stays"), ("up", "late"), ("down", "late"))
    assert ended(watch.process) is None


def test_what_programs_have_beyond_lower_limits_stays(one, memory):
    """The next daemon reads other limits. Nobody gets more before he has given back enough."""
    lower = "[limits]\nmax-endpoints = 4\nmax-channels = 2\nmax-queued-bytes = 256K\n"
    outcomes, got = [], []
    with Connection(one.socket) as server, Connection(one.socket) as sender:
        assert [server.handle(f"e{number}", got.append) for number in range(6)] == [0] * 6
        for number in range(6):
            assert sender.post(f"self:e{number}", bytes(40000), outcomes.append) == 0
        sender.wait(0)
        one.write_config(one.config + lower)
        for _ in range(2):
            renew(one)
        assert len(one.status()["endpoints"]) == 6
        process_until(lambda: len(outcomes) == 6, "all have ended", sender, server)
        assert outcomes == [0] * 6 and got == [bytes(40000)] * 6
        assert server.bind("more") == -errno.ENOBUFS
        assert [server.unbind(f"e{number}") for number in range(6)] == [0] * 6
        assert server.bind("more") == 0


@pytest.mark.unless(renewed="counts")
def test_a_bad_configuration_is_refused_before_anything_ends(one):
    receiver = one.receiver("inbox")
    one.write_config("[links]\nheartbeat = never\n")
    done = one.xenmsg("daemon", "renew")
    assert done.returncode == EXIT_USAGE
    assert b"heartbeat" in done.stderr and b"goes on as it was" in done.stderr
    one.write_config(one.config)
    one.send("self:inbox", "still here")
    assert took_over(one) == 0
    assert ended(receiver.process) == "still here\n"


def test_watches_are_told_of_what_has_gone_in_between(installed, two, tmp_path):
    """Here, and in another domain; and what has come."""
    node, install = installed
    node.sees(two)
    here, there = node.receiver("here"), two.receiver("there")
    watch = Watch(node, "*", tmp_path / "watched")
    eventually(lambda: set(watch.told()) == {("up", "here"), ("up", "there")}, "both are told")
    with install.nobody_reads():
        here.process.kill()
        ended(there.process)
        new = two.receiver("new")
    eventually(lambda: len(watch.told()) == 5, f"all is told: {watch.path.read_text()}")
    assert sorted(watch.told()[2:]) == [("down", "here"), ("down", "there"), ("up", "new")]
    ended(new.process)
    ended(watch.process)


@pytest.mark.parametrize("domids", [(1, 2), (0, 1, 2)], ids=["guests", "with_domain_0"])
def test_who_asks_meanwhile_who_is_there_is_answered(nodes, tmp_path, domids):
    """The next one hears of that though nobody says it again."""
    every = nodes(*domids, start=False)
    install = Installer(every[1], tmp_path)
    every[1].policy = rule("2", "inbox")
    start_all(*every.values())
    every[1].receiver("inbox")
    every[2].stop()
    with install.nobody_reads():
        every[2].start()
        assert b"inbox" not in every[2].xenmsg("endpoints").stdout
    eventually(lambda: b"inbox" in every[2].xenmsg("endpoints").stdout, "it is listed")


@pytest.mark.parametrize("script, why", [
    ("exit 1", b"doesn't start"),
    ("kill -KILL $$", b"doesn't start"),
    ("echo \"xenmsgd: unrecognized option '$1'\" >&2; exit 2", b"unrecognized option '--check-takeover'"),
    ("echo 'error while loading shared libraries' >&2; exit 127", b"loading shared libraries"),
    ("exec sleep 1000", b"doesn't answer"),
    ("exec >&- 2>&- sleep 1000", b"doesn't answer"),
    ("while :; do echo much; done", b"much"),
    ("echo xenmsgd later; echo takes over images of format 4000000", b"xenmsgd later doesn't take over images of format"),
    ("echo xenmsgd terse", b"xenmsgd terse doesn't take over images of format"),
], ids=["fails", "is_killed", "is_older", "lacks_a_library", "hangs", "hangs_silently", "talks", "has_another_format", "tells_no_format"])
@pytest.mark.unless(renewed="counts")
def test_a_bad_program_is_refused_before_anything_ends(installed, script, why):
    node, install = installed
    with Connection(node.socket, binds="inbox") as receiver, Connection(node.socket) as sender:
        install(script)
        done = node.xenmsg("daemon", "renew")
        assert done.returncode == EXIT_USAGE
        assert why in done.stderr and b"goes on as it was" in done.stderr, done
        assert sender.post("self:inbox", b"still here", lambda error: None) == 0
        process_until(lambda: sender.wait(0) >= 0, "it is sent", sender)
        assert receiver.receive().data == b"still here"
        install()
        renew(node)
        assert node.status()["renewed"] == {"times": 1, "from": node.status()["version"]}


def test_a_program_that_isnt_there_is_refused_likewise(installed):
    node, install = installed
    (install.folder / "xenmsgd").unlink()
    done = node.xenmsg("daemon", "renew")
    assert done.returncode == EXIT_USAGE
    assert b"xenmsgd can't be run: No such file or directory; the daemon goes on as it was" in done.stderr, done
    install()
    renew(node)


@pytest.mark.parametrize("dies, status", [(True, 1), (False, 0)], ids=["dies", "is told to stop"])
def test_a_next_daemon_that_ends_is_as_after_a_crash(installed, dies, status):
    """The signal to stop comes while nobody has said yet what it means, and is obeyed in order."""
    node, install = installed
    receiver = Connection(node.socket, binds="inbox")
    install.first("--take-over", "exit 1" if dies else "kill -TERM $$")
    install.renews()
    crashes(receiver)
    assert node.daemon.wait(timeout=20 * PATIENCE) == status
    install()
    node.start()
    with Connection(node.socket) as again:
        assert again.bind("inbox") == 0


def test_a_stop_as_the_answer_ends_is_obeyed_in_order(installed):
    """The signal comes while the daemon awaits the end of the program that has answered."""
    node, install = installed
    install(f"""case $1 in --check-takeover) {tool("xenmsgd")} "$@"; exec >&- 2>&-
        kill -TERM $PPID; exit 0 ;;
    esac; exec {tool("xenmsgd")} "$@" """)
    node.xenmsg("daemon", "renew")  # it may be answered or not
    assert node.daemon.wait(timeout=20 * PATIENCE) == 0
    install()
    node.start()


@pytest.mark.unless(small="limits")
def test_a_hand_over_waits_for_none_of_many_that_wait_for_room(one):
    """To try all of them again and again seemed to be work that isn't done, so there was no end of it."""
    names = [f"e{number}" for number in range(200)]
    with contextlib.ExitStack() as stack:
        receiver, *senders = [stack.enter_context(Connection(one.socket)) for _ in range(5)]
        for name in names:
            assert receiver.bind(name) == 0, receiver.reason()
        for sender in senders:
            for name in names:
                assert sender.post(f"self:{name}", bytes(8192), lambda result: None) == 0

        def are_opened():
            assert all(sender.wait(0) >= 0 for sender in senders)
            return one.status()["pools"]["channels"]["used"] == len(names) * len(senders)
        eventually(are_opened, "all are opened")
        renew(one)


@pytest.mark.unless(renewed="counts")
def test_everybody_is_served_until_a_program_that_is_silent_ends(installed):
    node, install = installed
    receiver, closed, go = node.receiver("inbox"), install.folder / "closed", install.folder / "go"
    install.first("--check-takeover", f"""{tool("xenmsgd")} "$@"; exec >&- 2>&-; : >{closed}
        until [ -e {go} ]; do sleep 0.05; done; exit 0""")
    renewal = node.popen("daemon", "renew")
    eventually(closed.exists, "its output is closed")
    node.send("self:inbox", "meanwhile")
    go.touch()
    assert renewal.wait(timeout=60 * PATIENCE) == EXIT_OK
    assert ended(receiver.process) == "meanwhile\n"


@pytest.mark.unless(renewed="counts")
def test_a_second_hand_over_at_once_is_refused(installed):
    """The first one goes on."""
    node, install = installed
    receiver = node.receiver("inbox")
    with install.waiting("--check-takeover") as it_waits:
        first = node.popen("daemon", "renew")
        it_waits()
        second = node.xenmsg("daemon", "renew")
        assert second.returncode != EXIT_OK and b"xenmsgd is being renewed already" in second.stderr, second
        node.send("self:inbox", "before")
    assert first.wait(timeout=60 * PATIENCE) == EXIT_OK
    eventually(lambda: took_over(node) == 1, "the next daemon has taken over")
    node.send("self:inbox", "after")
    assert ended(receiver.process).splitlines() == ["before", "after"]


def test_an_image_that_isnt_one_lets_the_next_begin_afresh(installed):
    """As one of another version would be. Whoever connects then is served."""
    node, install = installed
    receiver = Connection(node.socket, binds="inbox")
    install.first("--take-over", 'rest=${2#*:}; shift 2; set -- --take-over "0:$rest" "$@"')
    install.renews()
    crashes(receiver)
    eventually(lambda: "this one begins afresh" in node.log.read_text(), "it says so")
    with Connection(node.socket) as again:
        assert again.bind("inbox") == 0
    assert node.status()["renewed"] is None


@pytest.mark.parametrize("more", [1, -1], ids=["newer", "older"])
def test_an_image_of_another_format_lets_the_next_begin_afresh(installed, nodes, more):
    """As where an upgrade, or going back, leads to another one. No socket of a program stays open; what this daemon has opened does,
    so it can grant rings."""
    node, install = installed
    receivers = [Connection(node.socket) for _ in range(3)]
    assert [each.bind(f"inbox{number}") for number, each in enumerate(receivers)] == [0] * 3
    other = install.folder / "other"
    other.write_text(f"""import fcntl, os, sys
if sys.argv[1] == "--take-over":
    image, rest = sys.argv[2].split(":", 1)
    data = bytearray(os.pread(int(image), 1 << 26, 0))
    data[8] += {more}
    image = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.write(image, data)
    fcntl.fcntl(image, {fcntl.F_ADD_SEALS}, {fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE})
    os.set_inheritable(image, True)
    sys.argv[2] = f"{{image}}:{{rest}}"
os.execv("{tool("xenmsgd")}", sys.argv)
""")
    install(f'exec {sys.executable} {other} "$@"')
    renewal = install.renews()
    for receiver in receivers:
        crashes(receiver)
    assert renewal.wait(timeout=60 * PATIENCE) == EXIT_NO_DAEMON
    eventually(lambda: "can't be taken: Protocol not supported; this one begins afresh" in node.log.read_text(), "it says so")
    zero, outcomes = nodes(0)[0], []
    zero.sees(node)
    with Connection(node.socket, binds="inbox0") as again, Connection(zero.socket) as sender:
        post("1:inbox0", b"after", outcomes, sender)
        assert again.receive().data == b"after"
        all_are_delivered(outcomes, 1, sender)


@pytest.mark.unless(renewed="counts")
def test_status_and_doctor_tell_who_handed_over(one):
    assert one.status()["renewed"] is None
    assert b"took over" not in one.xenmsg("status").stdout + one.xenmsg("doctor").stdout
    for times in (1, 2):
        renew(one)
        version = one.status()["version"]
        assert one.status()["renewed"] == {"times": times, "from": version}
        assert b"took over from xenmsgd %s then, hand-overs so far: %d\n" % (version.encode(), times) in one.xenmsg("status").stdout
        assert b"this one took over from xenmsgd %s " % version.encode() in one.xenmsg("doctor").stdout


def image_format_of(sources):
    names = sorted(str(path.relative_to(sources)) for part in ("wire", "base", "daemon")
                   for path in pathlib.Path(sources, part).rglob("*.[ch]") if path.name != "image_format.c")
    return int(subprocess.check_output([os.path.join(SOURCES, "base/image-format"), *names], cwd=sources))


def test_another_layout_is_another_format(one, tmp_path):
    """Else a daemon would hand over to one that takes a field for another one, once nothing can be undone."""
    said = image_format_of(SOURCES)
    asked = one.run_command(tool("xenmsgd"), "--config", one.config_path, "--check-takeover")
    assert f"takes over images of format {said}\n" in asked.stdout.decode()
    for part in ("wire", "base", "daemon"):
        shutil.copytree(pathlib.Path(SOURCES, part), tmp_path / part, ignore=shutil.ignore_patterns("image_format.c"))
    for path, before, after, is_other in (
            ("base/image.h", "IMAGE_STANDING,", "IMAGE_GUARD,\n\tIMAGE_STANDING,", True),
            ("daemon/local/stream_image.c", "image_u64(image, &stream->token)", "image_u32(image, &stream->token)", True),
            ("daemon/local/stream_image.c", "image_bool(image, &stream->fin_came);", "", True),
            ("daemon/local/stream_internal.h", "\tWAITING,", "\tTHINKING,\n\tWAITING,", True),
            ("base/self.h", "#define SELF_FORMER_MAX\t    16", "#define SELF_FORMER_MAX 17", True),
            ("daemon/topic/topic_image.c", "DL_FOREACH(topic->feeds, feed) {", "if (topic->feeds) {", True),
            ("daemon/local/stream_image.c", "stream->sent <= stream->limit && ", "/* image_u32(image, &x); */ ", False),
            ("daemon/local/stream.c", "\n}", "\n\n}", False)):
        text = (tmp_path / path).read_text()
        assert before in text, path
        (tmp_path / path).write_text(text.replace(before, after, 1))
        assert (image_format_of(tmp_path) != said) == is_other, (path, after)
        (tmp_path / path).write_text(text)
    assert image_format_of(tmp_path) == said
