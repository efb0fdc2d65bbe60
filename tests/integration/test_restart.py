# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl restart`: systemd keeps for the next daemon what is to go on (doc/handover.md), and a stop ends all the same."""

import array
import contextlib
import errno
import os
import signal
import socket
import subprocess

import pytest

from library import Connection
from messaging import PATIENCE, eventually, is_built_with_systemd, stopped
from renewing import Installer, all_are_delivered, ended, post, process_until, took_over
from service_manager import Manager, Systemd, listener
from test_handover_streams import Stream

IMAGE, PARCEL = "xenmsg-image", "xenmsg-parcel"


class Store(Manager):
    """Keeps descriptors, as systemd does while it restarts a service: the newest first, and until they are to be forgotten."""

    def __init__(self, path):
        super().__init__(path)
        self.kept = []

    def read(self, timeout):
        self.socket.settimeout(timeout)
        try:
            text, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(64))
        except (socket.timeout, BlockingIOError):
            return False
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        lines = text.decode().splitlines()
        fields = dict(line.split("=", 1) for line in lines)
        if "FDSTORE" in fields:
            assert fields["FDPOLL"] == "0"  # else systemd would drop what is hung up
            self.kept[:0] = [(fields["FDNAME"], fd) for fd in fds]
        if "FDSTOREREMOVE" in fields:
            self.forget(lambda name: name == fields["FDNAME"])
        self.lines += lines
        return True

    def forget(self, which=lambda name: True):
        for name, fd in self.kept:
            if which(name):
                os.close(fd)
        self.kept = [(name, fd) for name, fd in self.kept if not which(name)]


class Service:
    """A daemon as the service of a service manager, which has its socket and its store."""

    def __init__(self, node, tmp_path):
        self.node = node
        self.limits = ""  # in shell
        self.store = Store(tmp_path / "notify")
        self.systemd = Systemd(tmp_path)
        self.systemd.start()
        os.makedirs(os.path.dirname(node.socket), exist_ok=True)
        self.socket = listener(node.socket)
        node.environment = dict(node.environment, NOTIFY_SOCKET=self.store.path, DBUS_SYSTEM_BUS_ADDRESS=self.systemd.address)

    def start(self, wait=True):
        """And waits until it is ready."""
        handed = [("xenmsgd.socket", self.socket.fileno()), *self.store.kept]
        # They are put beyond what they are and what they are to be, so that none is overwritten before it was copied.
        beyond = 20 + max(fd for _, fd in handed)
        moves = " ".join(f"{beyond + i}<&{fd}" for i, (_, fd) in enumerate(handed))
        moves += "".join(f" {3 + i}<&{beyond + i} {beyond + i}<&-" for i in range(len(handed)))
        names = ":".join(name for name, _ in handed)
        self.node.within = ("bash", "-c", f'exec {moves}; {self.limits} LISTEN_FDNAMES={names} LISTEN_FDS={len(handed)} LISTEN_PID=$$ exec "$@"', "bash")
        self.node.handed = [fd for _, fd in handed]
        self.node.start(wait=False)
        self.node.pid = self.node.daemon.pid
        if wait:
            self.store.wait_for("READY=1")
        return self

    def hear(self):
        while self.store.read(0):
            pass

    def end(self, job):
        """What systemd does for a job, when it has read what the daemon has told. Returns the daemon's log."""
        self.hear()
        (self.systemd.folder / "job").write_text(job)
        os.kill(self.node.pid, signal.SIGTERM)
        self.await_end()
        if job != "restart":
            self.store.forget()
        return self.node.log.read_text()

    def await_end(self):
        """It has ended in order, and all that it has told is read."""
        assert self.node.daemon.wait(timeout=60 * PATIENCE) == 0, self.node.log.read_text()
        self.hear()
        self.store.lines.clear()

    def restart(self):
        self.end("restart")
        assert sorted(name for name, _ in self.store.kept) == [IMAGE, PARCEL], self.node.log.read_text()
        self.start()
        assert took_over(self.node) == 1, self.node.log.read_text()
        self.hear()
        assert not self.store.kept

    def __enter__(self):
        return self

    def __exit__(self, *_):
        (self.systemd.folder / "job").unlink(missing_ok=True)
        self.node.stop()
        self.systemd.stop()
        self.store.forget()
        self.store.close()
        self.socket.close()


@pytest.fixture(name="service")
def daemon_as_a_service(nodes, tmp_path):
    if not is_built_with_systemd():
        pytest.skip("built without systemd")
    with Service(nodes(1, start=False)[1], tmp_path) as service:
        yield service.start()


def test_a_restart_loses_nothing(service, memory):
    node = service.node
    outcomes, answers = [], []
    receiver = node.receiver("inbox")
    with Connection(node.socket) as sender, Connection(node.socket, binds="upper") as server:
        for times in range(3):
            with stopped(receiver.process.pid):
                for number in range(20):
                    post("self:inbox", b"%d.%d" % (times, number), outcomes, sender)
                assert sender.call_post("self:upper", b"q%d" % times, answers.append) == 0
                request = server.take()
                service.restart()
            assert request.reply(request.data.upper()) == 0
            request.free()
            process_until(lambda: len(outcomes) == 20 * times + 20 and len(answers) == times + 1, "all have ended", sender, server)
    assert outcomes == [0] * 60 and answers == [b"Q0", b"Q1", b"Q2"]
    assert ended(receiver.process).splitlines() == [f"{times}.{number}" for times in range(3) for number in range(20)]
    assert node.status()["renewed"]["times"] == 3


def test_links_are_resumed_after_a_restart(service, nodes):
    one, two = service.node, nodes(2)[2]
    inbox, outcomes = two.receiver("inbox"), []
    one.sees(two)
    with Connection(one.socket) as sender:
        for times in range(2):
            for number in range(20):
                post("2:inbox", b"%d.%d" % (times, number), outcomes, sender)
            service.restart()
            all_are_delivered(outcomes, 20 * times + 20, sender)
    assert ended(inbox.process).splitlines() == [f"{times}.{number}" for times in range(2) for number in range(20)]


def test_streams_go_on_after_a_restart(service):
    streams = [Stream(service.node, "self", seed) for seed in range(2)]
    streams[0].accept()
    for _ in range(3):
        streams[0].there.send(1 << 62)
        streams[0].back.send(1 << 62)
        service.restart()
        streams[0].run()
    for stream in (streams[0], streams[1].accept()):
        stream.run(stream.there.sent + 1000)
        stream.finish()


def test_more_descriptors_than_the_soft_limit_are_taken_over(service):
    """A daemon raises its limit, and the next one before it takes what came by the higher one."""
    service.limits = "ulimit -S -n 100;"
    service.restart()
    with contextlib.ExitStack() as stack:
        programs = [stack.enter_context(Connection(service.node.socket, binds=f"e{number}")) for number in range(40)]
        sender = stack.enter_context(Connection(service.node.socket))
        service.restart()
        outcomes = []
        for number in range(40):
            post(f"self:e{number}", b"after", outcomes, sender)
        assert [program.receive().data for program in programs] == [b"after"] * 40
        all_are_delivered(outcomes, 40, sender)


@pytest.mark.parametrize("job", ["stop", "", "try-restart"])
def test_a_stop_ends_all_with_what_is_certain(service, job):
    outcomes = []
    with Connection(service.node.socket) as sender, Connection(service.node.socket, binds="inbox") as receiver:
        assert sender.post("self:inbox", b"not taken", outcomes.append) == 0
        sender.wait(0)
        assert "the service is stopped" in service.end(job)
        assert not service.store.kept
        process_until(lambda: outcomes, "it has ended", sender)
        assert outcomes[0] < 0
    service.start()
    assert took_over(service.node) == 0 and "begins afresh" not in service.node.log.read_text()


def test_a_restart_with_a_bad_configuration_is_a_stop(service):
    node = service.node
    with Connection(node.socket, binds="inbox") as receiver:
        node.write_config("[links]\nheartbeat = never\n")
        assert "heartbeat" in service.end("restart")
        assert not service.store.kept
        assert receiver.receive() == -errno.ENOTCONN
    service.start()


@pytest.fixture(name="replaceable")
def service_of_a_folder_of_its_own(nodes, tmp_path):
    """(service, what installs something else as its xenmsgd)"""
    if not is_built_with_systemd():
        pytest.skip("built without systemd")
    node = nodes(1, start=False)[1]
    install = Installer(node, tmp_path)
    with Service(node, tmp_path) as service:
        yield service.start(), install


def send_over(service, cause):
    """What waits for a program that stands still arrives, though the service is restarted in between."""
    node, outcomes = service.node, []
    receiver = node.receiver("inbox")
    with Connection(node.socket) as sender:
        with stopped(receiver.process.pid):
            post("self:inbox", b"before", outcomes, sender)
            cause()
            service.start()
            assert took_over(node) == 1, node.log.read_text()
        process_until(lambda: outcomes, "it has ended", sender)
        assert outcomes == [0]
    assert ended(receiver.process) == "before\n"


def test_a_restart_while_a_renewal_is_checked_loses_nothing(replaceable):
    """Who has asked for the renewal is told that it is none."""
    service, install = replaceable
    asked = install.folder / "asked"
    install.first("--check-takeover", f'[ "$2" = --restarted ] || {{ : >{asked}; exec sleep 1000; }}')

    def restart():
        renewal = service.node.popen("daemon", "renew", stderr=subprocess.PIPE)
        eventually(asked.exists, "the next program is asked")
        service.end("restart")
        assert renewal.wait(timeout=60 * PATIENCE) != 0
        assert b"the service is being stopped or restarted" in renewal.stderr.read()
    send_over(service, restart)


def test_a_restart_while_the_next_daemon_starts_loses_nothing(replaceable):
    """The signal waits until it has taken all."""
    service, install = replaceable
    install.first("--take-over", "kill -TERM $$")

    def restart():
        (service.systemd.folder / "job").write_text("restart")
        renewal = service.node.xenmsg("daemon", "renew")
        assert renewal.returncode == 0, renewal.stderr
        service.await_end()
        assert took_over(service.node) == 1, service.node.log.read_text()
    send_over(service, restart)


def test_a_restart_while_the_next_service_starts_loses_nothing(service, host):
    """The signal waits, as long as XenStore doesn't answer."""
    def restart():
        service.end("restart")
        host.fault("stall-store", 1, "on")
        service.start(wait=False)
        service.store.wait_for("FDSTOREREMOVE=1")
        (service.systemd.folder / "job").write_text("restart")
        os.kill(service.node.pid, signal.SIGTERM)
        service.store.wait_for("WATCHDOG=1")
        assert service.node.daemon.poll() is None
        host.fault("stall-store", 1, "off")
        service.await_end()
        assert took_over(service.node) == 1, service.node.log.read_text()
    send_over(service, restart)


def test_a_manager_that_is_not_heard_of_lets_all_end(service):
    """It can't be told what to keep, so nothing is left to it."""
    node = service.node
    with Connection(node.socket, binds="inbox") as receiver:
        path = service.store.path
        os.rename(path, path + ".away")
        assert "so they end" in service.end("restart")
        assert receiver.receive() == -errno.ENOTCONN
        os.rename(path + ".away", path)
    service.start()


def test_a_second_signal_does_not_wait_for_an_answer(service):
    node = service.node
    with stopped(service.systemd.manager.pid):
        os.kill(node.pid, signal.SIGTERM)
        eventually(lambda: "stopping" in node.log.read_text(), "it has heard it")
        os.kill(node.pid, signal.SIGTERM)
        assert node.daemon.wait(timeout=20 * PATIENCE) == 0
    while service.store.read(0):
        pass
    assert not service.store.kept
    service.start()


def memfd(data):
    fd = os.memfd_create("forged", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    return fd


def with_one_that_is_open(service):
    """A parcel that brings another file than the image tells of."""
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [0])
    ours.close()
    return [(IMAGE, dict(service.store.kept)[IMAGE]), (PARCEL, theirs.detach())]


FORGED = {
    "no_parcel": lambda service: [each for each in service.store.kept if each[0] == IMAGE],
    "no_image": lambda service: [each for each in service.store.kept if each[0] == PARCEL],
    "used_before": lambda service: [(IMAGE, dict(service.store.kept)[IMAGE]), (PARCEL, empty(dict(service.store.kept)[PARCEL]))],
    "swapped": lambda service: [(PARCEL if name == IMAGE else IMAGE, fd) for name, fd in service.store.kept],
    "another_file": with_one_that_is_open,
    "not_sealed": lambda service: [(IMAGE, memfd(os.pread(dict(service.store.kept)[IMAGE], 1 << 20, 0))),
                                   (PARCEL, dict(service.store.kept)[PARCEL])],
    "nonsense": lambda service: [(IMAGE, memfd(b"nonsense")), (PARCEL, memfd(b"more"))],
    "nobody_writes": lambda service: [(IMAGE, dict(service.store.kept)[IMAGE]), (PARCEL, listener(service.node.directory / "x").detach())],
}


def empty(parcel):
    with socket.socket(fileno=os.dup(parcel)) as taken:
        while (got := socket.recv_fds(taken, 1, 253))[0]:
            for fd in got[1]:
                os.close(fd)
    return parcel


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_or_stale_store_lets_the_next_begin_afresh(service, forge):
    """Nobody is let in by it: all connections end, and one line says why."""
    receiver = Connection(service.node.socket, binds="inbox")
    service.end("restart")
    kept = service.store.kept
    service.store.kept = [(name, os.dup(fd)) for name, fd in forge(service)]
    for _, fd in kept:
        os.close(fd)
    service.start()
    assert receiver.receive() == -errno.ENOTCONN
    receiver.close()
    log = service.node.log.read_text()
    assert log.count("begins afresh") == 1 and took_over(service.node) == 0, log
    while service.store.read(0):
        pass
    assert not service.store.kept
    with Connection(service.node.socket) as again:
        assert again.bind("inbox") == 0


def test_more_descriptors_than_go_with_one_message(service):
    """Nothing is lost with many programs, none of which shares memory with another."""
    node = service.node
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(node.socket)) for _ in range(70)]
        for number, connection in enumerate(connections):
            assert connection.bind(f"e{number}") == 0
        service.restart()
        with Connection(node.socket) as sender:
            for number, connection in enumerate(connections):
                outcomes = []
                assert sender.post(f"self:e{number}", b"x", outcomes.append) == 0
                process_until(lambda to=connection: getattr(to.receive(50), "data", None) == b"x", "it comes", sender)
                all_are_delivered(outcomes, 1, sender, connection)
