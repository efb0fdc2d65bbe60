# SPDX-License-Identifier: LGPL-2.1-or-later
"""A domain that is saved and restored gets another number, and keeps its daemon, its programs and their endpoints."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import children, stat_of
from library import Connection
from messaging import EXIT_UNKNOWN, EXIT_UNREACHABLE, LOST_SOON, PATIENCE, eventually, start_all, traced, works
from renewing import Installer, took_over

KEEPER = os.path.join(os.path.dirname(os.environ.get("XENMSG_BINDIR", "/usr/bin")), "libexec/xenmsg/xenmsg-keeper")


@pytest.mark.parametrize("saved", [1, 2], ids=["mapping", "granting"])
def test_killing_the_daemon_after_a_stop_is_no_kernel_bug(nodes, host, saved):
    pair = nodes(1, 2)
    works(pair[1], pair[2])
    pair[saved].save_and_restore()
    works(pair[1], pair[2])
    restart(host, pair[saved], pair[saved].stop)
    works(pair[1], pair[2])
    pair[saved].save_and_restore()
    restart(host, pair[saved], pair[saved].kill)
    works(pair[1], pair[2])
    assert host.list()["kernel_log"] == []


@pytest.mark.parametrize("saved", [1, 2], ids=["mapping", "granting"])
@pytest.mark.parametrize("clock", [3600000, 0], ids=["", "clock set back"])
def test_stopping_before_the_restore_is_known_is_no_kernel_bug(nodes, host, saved, clock):
    """XenStore has said nothing yet; and the clocks don't either, where the host's was set back meanwhile."""
    pair = nodes(1, 2)
    works(pair[1], pair[2])
    node = pair[saved]
    node.suspend()
    node.resume("--unaware", int(1500 * PATIENCE), "--clock", clock)
    restart(host, node, node.stop)
    assert "was restored or migrated" not in node.log.read_text()
    works(pair[1], pair[2])
    assert host.list()["kernel_log"] == []


@pytest.mark.parametrize("saved", [1, 2], ids=["mapping", "granting"])
def test_killing_before_the_restore_is_known_is_no_kernel_bug(nodes, host, saved):
    """XenStore has said nothing yet, but the clocks have."""
    pair = nodes(1, 2)
    works(pair[1], pair[2])
    node = pair[saved]
    node.suspend()
    node.resume("--unaware", int(1500 * PATIENCE), "--clock", 3600000)
    node.status()  # something happens
    assert "was restored or migrated" not in node.log.read_text()
    restart(host, node, node.kill)
    works(pair[1], pair[2])
    assert host.list()["kernel_log"] == []


def with_keeper(nodes, path, prepare=lambda node: None):
    """Domains 1 and 2, where the first one's daemon, which may be prepared, is told of a keeper there."""
    one, two = nodes(1, 2, start=False).values()
    if path:
        one.environment = dict(one.environment, XENMSG_KEEPER=str(path))
    prepare(one)
    start_all(one, two)
    return one, two


def test_who_stops_closes_its_channels_unless_it_was_restored(nodes, host, keeper):
    one, two = with_keeper(nodes, keeper.path)
    held = keeper.held()
    works(one, two)
    restart(host, one, one.stop)
    works(one, two)
    assert keeper.held() == held
    host.fault("stall-store", 1, "on")
    one.stop()  # which waits for an answer in vain
    assert keeper.held() == held + 1
    host.fault("stall-store", 1, "off")
    assert host.domain(1)["grants"]["entries"] == 0
    one.start()  # its leaves take the place of those that were left
    works(one, two)


def test_who_stops_waits_for_a_slow_xenstore(nodes, host, keeper):
    """What it left to a keeper would stay bound: the next daemon doesn't know of that."""
    one, two = with_keeper(nodes, keeper.path)

    def nothing_is_left():
        if not one.alive():
            one.start()
        works(one, two)
        held = keeper.held()
        host.fault("stall-store", one.domid, "on")
        one.daemon.terminate()
        time.sleep(1.2)  # so long XenStore takes: longer than who hands over waits
        host.fault("stall-store", one.domid, "off")
        one.stop()
        return keeper.held() == held

    eventually(nothing_is_left, "where that takes no longer than 2 s", timeout=120)


def stays(host, node, install, during=lambda: None):
    """Its daemon doesn't hand over while XenStore doesn't answer, and says so."""
    renewed = took_over(node)
    with install.waiting("--check-takeover", then=True) as has_asked:  # whether there is a XenStore
        command = node.popen("daemon", "renew")
        has_asked()
        host.fault("stall-store", node.domid, "on")
    during()
    assert b"XenStore doesn't answer" in command.communicate(timeout=20 * PATIENCE)[1] and command.returncode
    node.status()  # it serves meanwhile
    host.fault("stall-store", node.domid, "off")
    assert took_over(node) == renewed


def test_who_has_no_links_stays_too_where_xenstore_is_silent(nodes, host, tmp_path):
    one = nodes(1, start=False)[1]
    install = Installer(one, tmp_path)
    one.start()
    stays(host, one, install)


@pytest.mark.parametrize("service", [True, False], ids=["service's", "own"])
def test_a_keeper_gives_back_what_no_restore_has_ended(nodes, host, keeper, tmp_path, service):
    """After a checkpoint; what a restore has ended stays with it."""
    install = []
    one, two = with_keeper(nodes, keeper.path if service else "", lambda node: install.append(Installer(node, tmp_path)))
    used = lambda: host.domain(one.domid)["event_channels"]["used"]
    works(one, two)
    before, held = used(), keeper.held()
    for _ in range(2):
        stays(host, one, *install)
    works(one, two)
    assert used() == before and keeper.held() == held
    install[0]()
    assert one.xenmsg("daemon", "renew").returncode == 0
    works(one, two)
    said = len(one.log.read_text())
    host.sim("checkpoint", one.domid, "--stall", 100)
    eventually(lambda: "a keeper has given back" in one.log.read_text()[said:], "the checkpoint was none")
    one.kill()
    eventually(lambda: used() == 0 and keeper.held() == held, "nothing is left")
    install[0]()
    restart(host, one, lambda: None)
    works(one, two)
    stays(host, one, *install, lambda: one.suspend() or one.resume())
    works(one, two)
    assert "was restored or migrated" in one.log.read_text() and host.list()["kernel_log"] == []
    assert (keeper.held() > held) == service


@pytest.mark.parametrize("service", [True, False], ids=["service's", "own"])
def test_a_keeper_gives_the_next_daemon_what_a_dead_one_left(nodes, host, keeper, service):
    """It died between the checkpoint, by which a keeper has got its channels, and the answer that it was none."""
    one, two = with_keeper(nodes, keeper.path if service else "")
    used = lambda: host.domain(one.domid)["event_channels"]["used"]
    works(one, two)
    before, held = used(), keeper.held()
    for _ in range(2):
        assert one.xenmsg("daemon", "renew").returncode == 0
        works(one, two)
        host.fault("stall-store", one.domid, "on")
        host.sim("checkpoint", one.domid, "--stall", 100)
        one.status()  # something happens
        one.kill()
        assert used() > 0  # a keeper has them
        host.fault("stall-store", one.domid, "off")
        restart(host, one, lambda: None)
        works(one, two)
    eventually(lambda: used() <= before and keeper.held() == held, "they are closed")
    assert host.list()["kernel_log"] == [] and "somebody has" not in one.log.read_text()


def test_a_restore_before_a_starting_daemon_watches_is_seen(nodes):
    """It knows its number, is stopped where it reads its rules, and watches its number later."""
    one, two = nodes(1, 2, start=False).values()
    two.start()
    one.write_policy("")
    rules = os.path.join(one.environment["XENSIM_DIR"], "dom-1", "root/etc/xenmsg/policy.d")
    one.within = traced("-P", rules, "-e", "trace=openat", "-e", "inject=openat:signal=SIGSTOP:when=1")
    one.start(wait=False)
    def stopped():
        """Strace begins by tracing children of its own."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return [pid for pid in children(one.daemon.pid)
                    if os.readlink(f"/proc/{pid}/exe").endswith("/xenmsgd") and stat_of(pid)[0] == "t"]
    pid, = eventually(stopped, "it stops before its rules")
    one.suspend()
    one.resume()
    # What was seen may be its tracer's look at an earlier call: the stop comes then.
    eventually(lambda: os.kill(pid, signal.SIGCONT) or os.path.exists(one.socket), "it continues")
    one.wait_ready()
    one.knows_its_number()
    works(one, two)


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("saved", [1, 2], ids=["mapping", "granting"])
def test_a_link_that_dies_before_a_restore_is_no_kernel_bug(nodes, host, saved):
    """After the restore, the link's time is up (LOST_SOON: a second) before XenStore has said anything."""
    pair = nodes(1, 2, config=LOST_SOON)
    works(pair[1], pair[2])
    node, other = pair[saved], pair[3 - saved]
    host.sim("suspend", node.domid)
    suspended = time.monotonic()
    eventually(lambda: other.link_state(node.domid) != "up", "the peer sees it go")
    eventually(lambda: time.monotonic() > suspended + 1.5, "a link's time without heartbeats is over")
    node.resume()
    node.knows_its_number()
    works(pair[1], pair[2])
    assert host.list()["kernel_log"] == []


@pytest.mark.unless(relayed="direct")
@pytest.mark.parametrize("saved", [1, 2], ids=["mapping", "granting"])
def test_a_link_that_is_being_made_is_made_after_the_restore(nodes, host, saved):
    """The granting side waits for pages, the mapping one for its offer, when one of them is saved."""
    pair = nodes(1, 2, config="[links]\nsetup-timeout = 60s\n")
    host.fault("grant-limit", 2, 0)
    sender = pair[saved].popen("send", f"{3 - saved}:inbox", "x")
    other = pair[3 - saved].popen("send", f"{saved}:inbox", "x")
    eventually(lambda: "the link with domain 1 waits" in pair[2].log.read_text(), "it waits for pages")
    with Connection(pair[3 - saved].socket) as receiver:
        assert receiver.bind("inbox") == 0
        pair[saved].save_and_restore()
        host.fault("grant-limit", pair[2].domid, 1024)
        assert receiver.receive().data == b"x"
    assert sender.wait(20 * PATIENCE) == 0  # who was saved goes on where it was
    assert other.wait(20 * PATIENCE) in (EXIT_UNREACHABLE, EXIT_UNKNOWN)  # and who wasn't has seen it go
    works(pair[1], pair[2])
    works(pair[2], pair[1])
    assert host.list()["kernel_log"] == []


@pytest.mark.parametrize("presence", ["public", pytest.param("private\npeers = 2", marks=pytest.mark.unless(relayed="direct"))])
def test_a_migration_to_the_same_number_is_noticed(nodes, host, presence):
    """The number of the domain says nothing then, but its nodes have gone."""
    one, two = nodes(1, 2, start=False).values()
    one.config += f"presence = {presence}\n"
    start_all(one, two)
    works(one, two)
    zero = nodes(0, start=False)[0]
    with zero.store() as store:
        store.remove("/local/domain/1/data/xenmsg")
        store.write("/local/domain/1/domid", "1")
    eventually(lambda: "this domain was restored or migrated" in one.log.read_text(), "it notices")
    works(one, two)
    one.stop()
    host.sim("destroy", 1)  # with the old event channels, which are still bound here: nothing but XenStore has changed


def restart(host, node, end):
    end()
    node.socket = host.socket(node.domid)
    node.start()


class Keeper:
    """xenmsg-keeper as its service: systemd gives it the socket as descriptor 3. The simulator sees what a domain's processes hold."""

    def __init__(self, host, domid, path):
        self.path = str(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path)
            listener.listen()
            code = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], ['@xenmsg-keeper', '--listen'])"
            self.process = host.spawn(domid, sys.executable, "-c", code, listener.fileno(), KEEPER, pass_fds=[listener.fileno()],
                                      stdin=subprocess.DEVNULL)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:  # while it starts, it has other files open
            first.connect(self.path)
            first.settimeout(60)
            first.sendall(b"x")
            assert first.recv(2) == b""
        assert self.name() == "xenmsg-keeper"

    def name(self):
        with open(f"/proc/{self.process.pid}/comm", encoding="ascii") as file:
            return file.read().strip()

    def held(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture(name="keeper")
def keeper_of_the_service(host, tmp_path):
    return Keeper(host, 1, tmp_path / "keeper.sock")


def test_the_managers_keeper_holds_the_channels_of_all_restores(nodes, host, keeper):
    one, two = with_keeper(nodes, keeper.path)
    held = keeper.held()
    for count in (1, 2):
        works(one, two)
        one.save_and_restore()
        eventually(lambda count=count: keeper.held() == held + count, "it has one more")
        assert not children(one.pid)
    works(one, two)
    restart(host, one, one.kill)
    works(one, two)
    assert host.list()["kernel_log"] == []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(keeper.process.pid, number)
    one.stop()
    assert keeper.process.poll() is None
    keeper.process.kill()  # so it was this one that held them
    eventually(lambda: host.list()["kernel_log"], "the complaint")
    two.stop()


def is_event_channel(file):
    """Of the simulator; not what is closed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(file) == "anon_inode:[eventfd]"


@pytest.mark.parametrize("service", [True, False], ids=["no answer", "no service"])
def test_without_a_keeper_a_daemon_makes_one_for_all_restores(nodes, host, tmp_path, service):
    one, two = with_keeper(nodes, tmp_path / "nobody.sock" if service else "")
    works(one, two)
    one.save_and_restore()
    keeper, = children(one.pid)
    if service:
        assert "nobody.sock doesn't take the event channels" in one.log.read_text()

    def held():
        return sum(1 for file in pathlib.Path(f"/proc/{keeper}/fd").iterdir() if is_event_channel(file))
    eventually(lambda: held() == 1, "it has what the first had")
    works(one, two)
    one.save_and_restore()
    assert children(one.pid) == [keeper]
    restart(host, one, one.stop)
    works(one, two)
    one.save_and_restore()
    assert not children(one.pid)
    eventually(lambda: held() == 3, "it has what each of the three had")
    works(one, two)
    restart(host, one, one.kill)
    works(one, two)
    assert host.list()["kernel_log"] == []


def test_the_keeper_outlasts_who_brings_it_nothing(keeper):
    """Neither who says nothing nor who brings no descriptor is answered, and none of them is in the way of the next for long."""
    held = keeper.held()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as empty:
        silent.connect(keeper.path)
        empty.connect(keeper.path)
        empty.sendall(b"x")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bringer, open("/dev/null", "rb") as null:
            bringer.connect(keeper.path)
            socket.send_fds(bringer, [b"x"], [null.fileno(), null.fileno()])
            bringer.settimeout(60)
            assert bringer.recv(2) == b"\0"
        assert empty.recv(2) == silent.recv(2) == b""
    eventually(lambda: keeper.held() == held + 1, "it has the first descriptor, and none of the connections")


def test_what_was_under_way_is_delivered_and_endpoints_stay(one, two):
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        results = []
        assert sender.post("2:inbox", bytes(3000), results.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"] >= 3000, "it is under way")
        two.save_and_restore()
        assert "inbox" in two.endpoints()
        assert receiver.receive().data == bytes(3000)
        eventually(lambda: receiver.wait(10) >= 0 and receiver.domid() == two.domid, "it knows its new number")
        eventually(lambda: sender.wait(50) >= 0 and results, "it has its outcome")
        assert results == [0]
        assert sender.post(f"{two.domid}:inbox", b"by the new number", results.append) == 0
        assert receiver.receive().data == b"by the new number"
        eventually(lambda: b"inbox" in one.xenmsg("endpoints", str(two.domid)).stdout, "the endpoint is advertised anew")


def test_nothing_of_the_old_links_is_left(one, two, host):
    works(one, two)
    pages = host.domain(two.domid)["grants"]["used_pages"]
    two.save_and_restore()
    eventually(lambda: host.list()["zombies"] == 0, "the peer has unmapped the old pages")
    works(one, two)
    eventually(lambda: host.domain(two.domid)["grants"]["used_pages"] == pages, "the pages have been given back")
