# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong while a daemon hands over: with its own means, and while nobody reads, between two daemons. Each has a definite outcome,
and harms nobody else."""

import errno
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from frames import DATA, MEMORY, REQUEST, STREAM, WELCOME, frame, hello, message, open_frame
from library import RETAIN, TOPIC, Connection
from messaging import EXIT_LOST, EXIT_OK, EXIT_USAGE, FAST, PATIENCE, SOURCES, eventually, open_to_others, stopped, tool
from protocol import Program
from renewing import Waiting, crashes, ended, post, process_until, renew, took_over
from test_activation import GATE, Activation, xenmsg
from test_cli_interrupt import signals
from test_handover import scribble
from test_handover_streams import Stream, renew_under
from test_policy import rule
from test_resume import at_work, numbered
from test_streams import RawStream

pytestmark = pytest.mark.unless(renewed="counts")  # and it would meet what is prepared for the one hand-over of a test


# ---- the old daemon ----

def test_a_program_that_watches_twice_as_one_spoils_nothing(one):
    """Two calls of one number, which no library of ours makes."""
    waiting = Waiting(one)
    with Program(one.socket) as hostile:
        told = hostile.watch("*")
        assert next(told) == (0, b"")
        hostile.data(61000, message(b"watch *", kind=REQUEST, number=1))
        while next(told) != (0, b""):
            pass
        renew(one)
        waiting.come()
        assert hostile.ask("status")[0] == 0


@pytest.mark.parametrize("script", [
    "rm $0",
    "chmod 0644 $0",
    "echo no program >$0.other && chmod 0755 $0.other && mv $0.other $0",
], ids=["has_gone", "may_not_run", "is_none"])
def test_a_program_that_spoils_at_the_last_moment_loses_nothing(installed, script):
    """It has said that it would take over. So the old one takes over from itself, and hands over to what is there the next time."""
    node, install = installed
    waiting = Waiting(node)
    install(f"{script}; exec {tool('xenmsgd')} \"$@\"")
    install.renews()
    eventually(lambda: took_over(node) == 1, "the old daemon has taken over")
    assert "this program takes over from itself" in node.log.read_text()
    install()
    renew(node)
    assert node.status()["renewed"]["times"] == 2
    waiting.come()


@pytest.mark.parametrize("size", [200000, 10], ids=["for itself", "for the memory of a program"])
def test_an_image_that_there_is_no_room_for_loses_nothing(installed, two, tmp_path, size):
    """The daemon goes on, with links, watches, streams, and what waits; and hands over when it can."""
    node, install = installed
    node.stop()
    activation = Activation(node, tmp_path)
    activation.add("rev", GATE + xenmsg("serve --once rev -- cat"))
    node.start()
    caller, answers, stream = Connection(node.socket), [], Stream(node, "self").accept()
    assert caller.call_post("self:rev", b"x" * 30000, answers.append) == 0
    process_until(lambda: activation.about("rev")["waiting"] == 1, "it waits", caller)
    stream.there.send(100000)
    inbox, waiting = two.receiver("inbox"), Waiting(node)
    publisher = Connection(node.socket)
    assert publisher.bind("large", TOPIC | RETAIN) == 0 and publisher.send("self:large", b"x" * size) == 0
    node.send("2:inbox", "before")
    path = node.directory / "watched"
    with open(path, "wb") as file:
        watch = node.popen("watch", "--json", "self:*", stdout=file)

    def told():
        return [event["event"] for event in map(json.loads, path.read_text().splitlines()) if event.get("name") == "waits"]
    eventually(lambda: told() == ["up"], "it is told")
    usual = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    install.first("--check-takeover", "prlimit --fsize=65536: --pid $PPID")
    install.renews()
    eventually(lambda: "can't hand over: File too large; this daemon goes on" in node.log.read_text(), "it says so")
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, usual)
    assert took_over(node) == 0
    node.send("2:inbox", "after")
    stream.run(stream.there.sent + 100000)
    activation.open_gate("rev")
    process_until(lambda: answers, "it is answered", caller)
    assert answers == [b"x" * 30000] and activation.starts("rev") == 1
    install()
    renew_under(node, [stream])
    stream.finish()
    caller.close()
    assert told() == ["up"]  # neither of them has told it again
    ended(watch)
    with Connection(node.socket) as late:
        assert late.subscribe("self:large") == 0
        while not (data := late.receive().data):  # what it is told first
            pass
        assert data == b"x" * size
    publisher.close()
    waiting.come()
    assert ended(inbox.process).splitlines() == ["before", "after"]


@pytest.mark.parametrize("notice", [(), ("--unaware", int(1500 * PATIENCE), "--clock", 3600000)], ids=["", "noticed later"])
def test_a_restore_before_a_hand_over_that_fails_is_noticed(installed, two, host, notice):
    """While the next program is asked; the daemon that goes on hears of it before it stops its links, or once it has taken them up."""
    node, install = installed
    inbox, publisher = two.receiver("inbox"), Connection(node.socket)
    assert publisher.bind("large", TOPIC | RETAIN) == 0 and publisher.send("self:large", b"x" * 200000) == 0
    node.send("2:inbox", "before")
    usual = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    with install.waiting("--check-takeover") as it_waits:
        command = node.popen("daemon", "renew")
        it_waits()
        node.suspend()
        node.resume(*notice)
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (65536, usual[1]))
    assert command.wait(60 * PATIENCE) != EXIT_OK

    def fails():
        """Or the program that it asked has waited for too long for a XenStore that a restore took away, as a slow one does."""
        return any(words in node.log.read_text() for words in ("can't hand over: File too large; this daemon goes on", "not handing over:"))
    eventually(fails, "it says so")
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, usual)
    node.knows_its_number()
    assert took_over(node) == 0
    node.send("2:inbox", "after")
    install()
    renew(node)
    publisher.close()
    assert ended(inbox.process).splitlines() == ["before", "after"] and host.list()["kernel_log"] == []


def test_too_few_descriptors_are_told_before_anything_ends(installed):
    """Until its programs have moved to other memory the next daemon has more open than this one. The limit of now is the one that counts."""
    node, install = installed
    waiting = Waiting(node)
    usual = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    install.first("--check-takeover", "prlimit --nofile=$(ls /proc/$PPID/fd | wc -l): --pid $PPID")
    done = node.xenmsg("daemon", "renew")
    assert done.returncode == EXIT_USAGE
    assert b"LimitNOFILE=" in done.stderr and b"goes on as it was" in done.stderr, done
    assert took_over(node) == 0
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, usual)
    install()
    renew(node)
    waiting.come()


def test_a_program_that_cannot_be_asked_changes_nothing(one):
    """There is no descriptor for what it would say."""
    waiting = Waiting(one)
    with Program(one.socket) as asker:
        usual = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        assert asker.ask("renew")[0] == errno.EMFILE
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, usual)
    renew(one)
    waiting.come()


# ---- the next daemon ----

def test_a_user_that_it_can_no_more_become_ends_nobody(nodes):
    """It isn't root any more, and stays who the one before it was."""
    one = nodes(1, config=FAST + "[daemon]\nuser = nobody\n", start=False)[1]
    one.directory = pathlib.Path(one.socket).parent  # other users can't read what is in the directory of a test
    open_to_others(one)
    one.start()
    subprocess.run(["chmod", "-R", "a+rwX", one.host.dir], check=True)  # as its group may
    subprocess.run(["chmod", "-R", "go-w", one.config_path, *pathlib.Path(one.host.dir).rglob("policy.d")], check=True)  # what gives rights
    waiting = Waiting(one)
    one.write_config(FAST + "[daemon]\nuser = daemon\n")
    renew(one)
    assert "can't become daemon" in one.log.read_text()
    waiting.come()


LACKS = "waits until there is what this daemon lacks"


def outcome(node, before, until=""):
    """Of a hand-over. "died": the unit starts it again. None: its log has the words `until`, and nobody knows yet."""
    def how():
        if node.daemon.poll() is not None:
            return "died"
        log = node.log.read_text()[len(before):]
        return "took over" if "took over from" in log else "began afresh" if "begins afresh" in log else None
    eventually(lambda: how() or until and until in node.log.read_text()[len(before):], "the next daemon has come, or not")
    assert node.daemon.poll() not in (2, 3), node.log.read_text()  # after which no unit starts it again
    return how()


def test_no_lack_of_descriptors_leaves_programs_waiting(installed):
    """The next one can't take what it is given, and must close what it doesn't know; or it ends."""
    node, install = installed
    seen = set()
    for files in range(16, 48, 10):
        outcomes, before = [], node.log.read_text()
        with Connection(node.socket) as sender, Connection(node.socket, binds="inbox") as receiver:
            post("self:inbox", b"x", outcomes, sender)
            install.first("--take-over", f'image=0:${{2#*:}}; shift 2; ulimit -n {files}; set -- --take-over $image "$@"')
            install.renews()
            seen.add(outcome(node, before))
            process_until(lambda: outcomes, f"it has ended, with {files} descriptors", sender)
            assert outcomes == [-errno.ECONNRESET]
        install()
        if node.daemon.poll() is None:
            node.kill()
        node.start()
    assert seen == {"died", "began afresh"}, seen


# ---- nobody reads ----

class Between:
    """Two domains, of which the first one's daemon hands over, and the next one doesn't come before it may."""

    def __init__(self, installed, nodes):
        self.node, self.install = installed
        self.other = nodes(2)[2]
        self.outcomes = []
        self.sender, self.local, self.remote = (Connection(node.socket) for node in (self.node, self.node, self.other))
        assert self.local.bind("local") == 0 and self.remote.bind("remote") == 0
        for number in range(3):
            self.post(b"%d" % number)
        process_until(lambda: not any(self.outcomes) and self.receive(0, 3), "all is up", self.sender)

    def post(self, data):
        """To a program of this domain, and one of the other."""
        for address in ("self:local", "2:remote"):
            post(address, data, self.outcomes, self.sender)

    def receive(self, first, end):
        for connection in (self.local, self.remote):
            assert [connection.receive().data for _ in range(first, end)] == [b"%d" % number for number in range(first, end)]
        return True

    def goes_on(self, other=True):
        """All that was posted has come, and what is posted now does, too."""
        eventually(lambda: took_over(self.node) == 1, "the next daemon has taken over")
        self.post(b"3")
        if other:
            self.receive(3, 4)
        else:
            assert self.local.receive().data == b"3"
        process_until(lambda: len(self.outcomes) == 8, "all have ended", self.sender)
        if other:
            assert self.outcomes == [0] * 8
        self.install()
        renew(self.node)

    def close(self):
        for connection in (self.sender, self.local, self.remote):
            connection.close()


@pytest.fixture(name="between")
def nobody_reads(installed, nodes):
    scene = Between(installed, nodes)
    yield scene
    scene.close()


def test_frames_that_come_between_two_daemons_are_taken(between):
    """Of a program without shared memory, and of one that nobody has accepted yet."""
    node = between.node
    with Program(node.socket) as program:
        program.open("self:local")
        with between.install.nobody_reads():
            program.data(0, message(b"by the socket"))
            late = Program(node.socket, greet=False)
            late.send_bytes(hello())
        assert between.local.receive().data == b"by the socket"
        assert late.expect(WELCOME)
        late.close()
    between.goes_on()


@pytest.mark.parametrize("bad", [b"\xff" * 64, frame(MEMORY, b"x" * 16), frame(DATA, b"x", channel=7)], ids=["nonsense", "impossible", "of_no_channel"])
def test_bad_frames_between_two_daemons_end_their_sender_alone(between, bad):
    with Program(between.node.socket) as program:
        with between.install.nobody_reads():
            program.send_bytes(bad)
        assert program.goodbye()[0] == errno.EPROTO
    between.goes_on()


def test_a_program_that_dies_between_two_daemons_ends_alone(between):
    node = between.node
    victim = node.receiver("victim")
    os.kill(victim.process.pid, signal.SIGSTOP)
    doubts = []
    post("self:victim", b"in doubt", doubts, between.sender)
    with between.install.nobody_reads():
        victim.process.kill()
        victim.process.communicate()
    process_until(lambda: doubts, "what was sent to it has ended", between.sender)
    assert doubts == [-errno.ECONNRESET]
    assert between.sender.send("self:victim", b"nobody") == -errno.ENOENT
    between.goes_on()


def test_who_scribbles_between_two_daemons_harms_itself(between):
    victim = between.node.receiver("victim")
    with stopped(victim.process.pid):
        with between.install.nobody_reads():
            assert scribble(victim.process.pid) > 0
    between.goes_on()
    victim.process.kill()
    victim.process.communicate()


def test_both_daemons_may_hand_over_at_once(between):
    with between.install.nobody_reads():
        renew(between.other)
    between.goes_on()


@pytest.mark.parametrize("how", ["kill", "stop", "destroy"])
def test_a_peer_that_leaves_between_two_daemons_is_missed(between, how):
    """What went there has an outcome, and nothing else has another one."""
    node = between.node
    node.write_config(node.config + "resume-for = 1s\n")
    with between.install.nobody_reads():
        if how == "destroy":
            between.node.host.sim("destroy", 2)
            between.other.daemon.wait(20 * PATIENCE)
            between.other.daemon = between.other.pid = None
        else:
            getattr(between.other, how)()
    between.goes_on(other=False)
    assert between.outcomes.count(0) == 7 and not {*between.outcomes} - {0, -errno.ECONNRESET, -errno.EHOSTDOWN, -errno.EHOSTUNREACH}


SPOILT = {"rules": lambda node, good: node.write_policy(node.policy if good else rule("2", "inbox", "alow")),
          "settings": lambda node, good: node.write_config(node.config if good else "[links]\nheartbeat = never\n")}
SAID = {"rules": "action 'alow': must be allow or deny", "settings": "heartbeat = never: must be"}


def spoilt_between(between, what):
    """Spoils a file between two daemons. Returns the node, whose next daemon has said so."""
    with between.install.nobody_reads():
        SPOILT[what](between.node, False)
    eventually(lambda: SAID[what] in between.node.log.read_text(), "it says what is wrong")
    return between.node


@pytest.mark.parametrize("what", SPOILT)
def test_bad_files_between_two_daemons_are_waited_for(between, what):
    """All that was handed over would be lost; and who may do what isn't decided without them."""
    node = spoilt_between(between, what)
    eventually(lambda: "waits until this is mended" in node.log.read_text(), "and what it does")
    SPOILT[what](node, True)
    between.goes_on()
    assert node.log.read_text().count(SAID[what]) == 1


@pytest.mark.parametrize("what", SPOILT)
def test_who_waits_for_good_files_can_be_stopped(between, what):
    node = spoilt_between(between, what)
    node.daemon.terminate()
    assert node.daemon.wait(20 * PATIENCE) == 0
    SPOILT[what](node, True)
    node.start()


def test_a_guest_that_names_a_host_meanwhile_goes_on(between):
    """The name is for domain 0 alone."""
    with between.install.nobody_reads():
        between.node.write_config(f"{between.node.config}[hosts]\nname = hosta\n")
    between.goes_on()
    assert "[hosts] name isn't used here" in between.node.log.read_text()


def test_a_domain_restored_between_two_daemons_goes_on(between):
    node = between.node
    with between.install.nobody_reads():
        node.suspend()
        node.resume()
    between.goes_on()
    assert node.status()["domid"] == node.domid


@pytest.mark.unless(relayed="zero", strict="zero")
def test_a_migration_between_two_daemons_is_noticed(between, nodes):
    """The number may be the same on the other host, but its nodes have gone."""
    zero = nodes(0, start=False)[0]
    with between.install.nobody_reads(), zero.store() as store:
        store.remove("/local/domain/1/data/xenmsg")
    between.goes_on()
    assert "this domain was restored or migrated" in between.node.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("fault, end", [(("stall-store", 1, "on"), ("stall-store", 1, "off")),
                                        (("refuse", 1, "READ", "on", "ECONNRESET"), ("refuse", 1, "READ", "off"))])
def test_what_is_handed_over_waits_as_long_as_xenstore(installed, host, fault, end):
    """Also if the connection to it breaks. A daemon that starts gives up, in silence after 30 s. One that takes over would end all
    that was handed over. Both try again each second, however often they are asked for something."""
    node, install = installed
    waiting, began = Waiting(node), time.monotonic()
    with install.nobody_reads():
        host.fault(*fault)
    eventually(lambda: "what the daemon before this hands over waits" in node.log.read_text(), "it waits", 40)
    host.fault(*end)
    waiting.come()
    assert took_over(node) == 1
    assert node.log.read_text().count("the connection to XenStore is lost") <= 2 * (time.monotonic() - began) + 5


def test_a_daemon_goes_on_while_xenstore_stands_still(one, host):
    """The next one would wait for its domid, and serve nobody until then."""
    waiting = Waiting(one)
    host.fault("stall-store", 1, "on")
    done = one.xenmsg("daemon", "renew")
    assert done.returncode != EXIT_OK and b"XenStore doesn't answer within" in done.stderr
    waiting.come()
    host.fault("stall-store", 1, "off")
    renew(one)


def test_a_reload_asked_for_between_two_daemons_is_made(installed, host):
    """By the next one, whose files may be others by then than it has read."""
    node, install = installed
    waiting = Waiting(node)

    def takes_it():
        return signal.SIGHUP in signals(node, "SigCgt") | signals(node, "SigBlk")

    with install.nobody_reads():
        host.fault("stall-store", 1, "on")
    eventually(lambda: os.readlink(f"/proc/{node.pid}/exe").endswith("xenmsgd") and takes_it(), "the next daemon begins")
    os.kill(node.pid, signal.SIGHUP)
    host.fault("stall-store", 1, "off")
    eventually(lambda: node.log.read_text().count(" rules from /etc") == 3, "it reads its rules, and once more")
    waiting.come()


# ---- what the next daemon can't take ----

ENUM = re.search(r"enum image_section_type \{(.*?)\}", pathlib.Path(SOURCES, "base/image.h").read_text(encoding="utf-8"), re.S)[1]
SECTIONS = dict(enumerate(re.findall(r"^\tIMAGE_(\w+)", ENUM, re.M), 1))
OF_NOBODY = ("HOSTS", "REGISTRY", "POLICY")

SPOILS = """import fcntl, os, sys
own, names = {own}, {names}
def spoilt(data, kind, start):
    count, at, sections = int.from_bytes(data[12:16], "little"), int.from_bytes(data[24:32], "little"), []
    at += 20 * count
    while at < len(data):
        sections.append((names[int.from_bytes(data[at:at + 4], "little")], at + 12, int.from_bytes(data[at + 4:at + 12], "little")))
        at += 12 + sections[-1][2]
    def has(section, type):
        return section[0] == type and b"bad-one" in data[section[1]:sum(section[1:])]
    number = next(data[at:at + 4] for type, at, size in sections if has((type, at, size), "ENDPOINT"))
    if kind in {of_nobody}:
        some = next(section for section in sections if section[0] == kind)
    elif kind == "SESSION":
        some = [section for section in sections if section[0] == kind][int.from_bytes(number, "little")]
    else:
        some = next(section for section in sections if has(section, kind) or section[0] == kind == "TOPIC"
                    or section[0] == kind in ("LEDGER", "ENDPOINT") and data[section[1]:][:4] == number)
    _, at, size = some
    data[at + start:at + size] = bytes([255]) * (size - start)
if sys.argv[1] == "--take-over":
    image, rest = sys.argv[2].split(":", 1)
    data = bytearray(os.pread(int(image), 1 << 26, 0))
    for kind, start in {spoils}:
        spoilt(data, kind, start)
    image = os.memfd_create("other", os.MFD_ALLOW_SEALING)
    os.write(image, data)
    fcntl.fcntl(image, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    os.set_inheritable(image, True)
    sys.argv[2] = f"{{image}}:{{rest}}"
os.execv(own, sys.argv)
"""


def install_spoiler(install, *spoils):
    """The right one, which gets an image in which each of these sections is spoilt from there on."""
    other = install.folder / "other"
    other.write_text(SPOILS.format(own=repr(tool("xenmsgd")), names=SECTIONS, of_nobody=OF_NOBODY, spoils=spoils))
    install(f'exec {sys.executable} {other} "$@"')


@pytest.mark.parametrize("kind, start, ends", [
    ("SESSION", 0, True), ("SESSION", 8, True), ("TOPIC", 30, True), ("CHANNEL", 12, True), ("CHANNEL", 240, False), ("LEDGER", 8, True),
    ("ENDPOINT", 8, True), ("HOSTS", 0, False), ("REGISTRY", 0, False), ("POLICY", 0, False)])
def test_a_section_that_cannot_be_taken_ends_its_owner(installed, kind, start, ends):
    """Others go on, with all that they have; those with a channel to it are told for certain."""
    node, install = installed
    outcomes, answers = [], []
    with (at_work(*numbered(node, node, "own")) as goes_on, Connection(node.socket) as caller, Connection(node.socket, binds="upper") as server,
          Connection(node.socket, binds="bad-one") as bad, Connection(node.socket) as sender):
        if kind == "TOPIC":
            assert bad.bind("bad-one-topic", TOPIC) == 0
        assert caller.call_post("self:upper", b"question", answers.append) == 0
        request = server.take()
        if kind == "CHANNEL":
            assert sender.post("self:bad-one", b"in doubt", outcomes.append) == 0
            sender.wait(0)
        install_spoiler(install, (kind, start))
        renewal = install.renews()
        eventually(lambda: took_over(node) == 1, "the next daemon has taken over")
        assert renewal.wait(timeout=60 * PATIENCE) == EXIT_LOST
        goes_on()
        assert request.reply(b"answer") == 0
        request.free()
        process_until(lambda: answers, "it is answered", caller, server)
        assert answers == [b"answer"]
        assert "can't be taken" in node.log.read_text()
        if ends and kind != "CHANNEL":
            crashes(bad)
        if kind in OF_NOBODY:
            bad.close()
        if kind == "CHANNEL":
            process_until(lambda: outcomes, "its message has ended", sender)
            assert outcomes == [-errno.ECONNRESET]
        assert (sender.bind("sender") == 0) == (kind != "CHANNEL" or not ends), "who hasn't the section goes on"


def test_a_stream_is_lost_with_the_program_that_was_to_fetch_it(installed):
    """Both couldn't be taken: the one isn't looked for behind the end of the other."""
    node, install = installed
    waiting = Waiting(node)
    with Connection(node.socket) as bad:
        assert bad.listen("bad-one") == 0
        caller = RawStream(node.socket, open_frame(0, "self:bad-one", STREAM)).socket
        eventually(lambda: node.status()["streams"], "it waits")
        install_spoiler(install, ("CHANNEL", 12), ("LEDGER", 8))
        renewal = install.renews()
        assert renewal.wait(timeout=60 * PATIENCE) == EXIT_LOST
        assert took_over(node) == 1
        waiting.come()
        crashes(bad)
        caller.close()
